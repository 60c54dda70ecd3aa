"""What the store holds of a flow, read as it is: no engine, no factory, and no table of ours is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.clock import naive_utc
from conductor_console.persistence import schema
from conductor_console.persistence.kinds import without_notes


@dataclass(frozen=True, slots=True)
class AtomRow:
    """One atom as it is stored. Results and failures are decoded JSON; a retry's results are its history, a list of
    ``[result, {atom name: failure}]``. Times are UTC; ``updated_at`` is None where nothing was ever changed.
    """

    uuid: str
    name: str
    kind: Literal["task", "retry"]
    state: str | None
    intention: str | None
    version: str | None
    meta: Mapping[str, Any]
    created_at: datetime | None
    updated_at: datetime | None
    failure: Mapping[str, Any] | None
    revert_failure: Mapping[str, Any] | None
    results: Any
    revert_results: Any


@dataclass(frozen=True, slots=True)
class FlowRows:
    """One flow and its atoms, in the order of their making, as they are stored."""

    uuid: str
    name: str
    state: str | None
    meta: Mapping[str, Any]
    book_uuid: str | None
    book_name: str | None
    created_at: datetime | None
    updated_at: datetime | None
    atoms: tuple[AtomRow, ...]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _failure(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) and value else None


def _atom(row: Mapping[str, Any]) -> AtomRow:
    return AtomRow(
        uuid=row["uuid"],
        name=row["name"] or "",
        kind="retry" if row["atom_type"] == "RETRY_DETAIL" else "task",
        state=row["state"],
        intention=row["intention"],
        version=row["version"],
        meta=_mapping(without_notes(row["meta"])),
        created_at=naive_utc(row["created_at"]),
        updated_at=naive_utc(row["updated_at"]),
        failure=_failure(row["failure"]),
        revert_failure=_failure(row["revert_failure"]),
        results=row["results"],
        revert_results=row["revert_results"],
    )


def _made_in_order(connection: sa.Connection, flow_uuid: str, query: sa.Select[Any], *, journal: bool) -> list[Any]:
    """The rows of ``query``, which has an atom's uuid, name and created_at, in the order of the atoms' making.

    :param journal: whether to ask ours. MySQL keeps whole seconds, in which a flow's atoms are all made.
    """
    atoms, log = schema.atomdetails, schema.journal
    found = list(connection.execute(query.order_by(atoms.c.created_at, atoms.c.name)))
    if not journal:
        return found
    told = (
        sa.select(log.c.atom_uuid, sa.func.min(log.c.seq))
        .where(log.c.flow_uuid == flow_uuid, log.c.atom_uuid.is_not(None))
        .group_by(log.c.atom_uuid)
    )
    first: dict[str, int] = {str(row[0]): row[1] for row in connection.execute(told)}
    never = max(first.values(), default=0) + 1
    # Sorting keeps the order of what compares as equal.
    return sorted(found, key=lambda row: (row.created_at is not None, row.created_at, first.get(row.uuid, never)))


def flow_rows(connection: sa.Connection, flow_uuid: str, *, journal: bool = False) -> FlowRows:
    """:raises NotFound: when there is no such flow."""
    flows, books, atoms = schema.flowdetails, schema.logbooks, schema.atomdetails
    query = (
        sa.select(flows, books.c.name.label("book_name"))
        .outerjoin(books, books.c.uuid == flows.c.parent_uuid)
        .where(flows.c.uuid == flow_uuid)
    )
    row = connection.execute(query).first()
    if row is None or row.uuid != flow_uuid:
        raise excp.NotFound(f"No flow details found with uuid '{flow_uuid}'")
    found = _made_in_order(
        connection, flow_uuid, sa.select(atoms).where(atoms.c.parent_uuid == flow_uuid), journal=journal
    )
    return FlowRows(
        uuid=row.uuid,
        name=row.name or "",
        state=row.state,
        meta=_mapping(without_notes(row.meta)),
        book_uuid=row.parent_uuid,
        book_name=row.book_name,
        created_at=naive_utc(row.created_at),
        updated_at=naive_utc(row.updated_at),
        atoms=tuple(_atom(schema.plain(atom)) for atom in found),
    )


def flow_state(connection: sa.Connection, flow_uuid: str) -> str | None:
    """The flow's state; None where it has none yet, or where there is no such flow."""
    state = connection.scalar(sa.select(schema.flowdetails.c.state).where(schema.flowdetails.c.uuid == flow_uuid))
    return None if state is None else str(state)


#: TaskFlow keeps the values a flow was given in an atom of this name (its ``Storage.injector_name``, written out here:
#: importing that costs a quarter of a second); it is no step of the flow.
_INJECTOR: Final = "_TaskFlow_INJECTOR"


def flow_steps(
    connection: sa.Connection, flow_uuid: str, *, journal: bool = False
) -> tuple[tuple[str, str | None], ...]:
    """The flow's atoms by name and state, in the order of their making; none where there is no such flow."""
    atoms = schema.atomdetails
    query = sa.select(atoms.c.uuid, atoms.c.name, atoms.c.state, atoms.c.created_at).where(
        atoms.c.parent_uuid == flow_uuid, atoms.c.name != _INJECTOR
    )
    found = _made_in_order(connection, flow_uuid, query, journal=journal)
    return tuple((str(row.name), row.state) for row in found)


def resolve(connection: sa.Connection, uuid: str, *, journal: bool) -> list[str]:
    """The flows that ``uuid`` means: itself, those of the logbook, or those the journal knows of the job.

    :param journal: whether the store has one.
    """
    flows = schema.flowdetails
    query = (
        sa.select(flows.c.uuid)
        .where(sa.or_(flows.c.uuid == uuid, flows.c.parent_uuid == uuid))
        .order_by(flows.c.created_at, flows.c.uuid)
    )
    found = [str(flow) for flow in connection.scalars(query)]
    if found or not journal:
        return found
    log = schema.journal
    first = (
        sa.select(log.c.flow_uuid)
        .where(log.c.job_uuid == uuid, log.c.flow_uuid.is_not(None))
        .group_by(log.c.flow_uuid)
        .order_by(sa.func.min(log.c.seq))
    )
    return [str(flow) for flow in connection.scalars(first)]
