"""What is to be written of a flow: compared with what is known of it, and told in rows, before any of it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow import states

from conductor_console.persistence import bulk, schema
from conductor_console.persistence.bound import Binding, FlowImage
from conductor_console.persistence.details import ATOM_COLUMNS, FLOW_COLUMNS, AtomChange, FlowChange, differing
from conductor_console.persistence.journal import JournalRow, Kind, atom_detail, encode_row
from conductor_console.persistence.limits import Excess, Limits
from conductor_console.persistence.schema import Stored, Values

#: An atom that is about to act; a flow that is done, or left alone.
_URGENT: Final = {
    schema.atomdetails.name: frozenset({states.RUNNING, states.REVERTING}),
    schema.flowdetails.name: frozenset({states.SUCCESS, states.FAILURE, states.REVERTED, states.SUSPENDED}),
    schema.logbooks.name: frozenset[str](),
}
#: Characters that each of TaskFlow's columns takes.
_SHORT: Final = 64
_KINDS: Final[dict[str, Kind]] = {"TASK_DETAIL": "task", "RETRY_DETAIL": "retry"}


@dataclass(frozen=True, slots=True)
class Change:
    """The columns of one row that are to be other than they are."""

    table: sa.Table
    uuid: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """What one act writes: whole new atoms, changes to rows that are there, and the journal's rows of both.

    :ivar binding: the claim in whose name it is done; it is refused once that is over.
    """

    binding: Binding | None = None
    atoms: tuple[Values, ...] = ()
    changes: tuple[Change, ...] = ()
    rows: tuple[dict[str, Stored], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.atoms or self.changes or self.rows)

    @property
    def urgent(self) -> bool:
        """Whether the next step must not be taken before it is durable."""
        return any(change.values.get("state") in _URGENT[change.table.name] for change in self.changes)

    @property
    def doubtful(self) -> bool:
        """Whether it holds a text that some databases refuse, of which nobody can tell before it is tried."""
        texts = (value for values in self._columns for value in values.values() if isinstance(value, str))
        return any(len(text) > _SHORT or not text.isascii() or "\0" in text for text in texts)

    @property
    def _columns(self) -> Iterable[Values | dict[str, Any]]:
        return (*self.atoms, *(change.values for change in self.changes))

    def excess(self, limits: Limits) -> Excess | None:
        """What of it is too much for the database; None where nothing is."""
        found = (limits.over(change.table, change.values) for change in self.changes)
        new = (limits.over(schema.atomdetails, atom) for atom in self.atoms)
        return next((excess for excess in (*found, *new) if excess is not None), None)


# -- what differs ------------------------------------------------------------------------------------------------------
def of_atom(known: Values, change: AtomChange, flow_uuid: str, binding: Binding | None) -> tuple[Edit, Values]:
    """What is to be written of an atom that is there, and its row as it will be.

    :raises NotImplementedError: (TaskFlow's) when it is an atom of another type.
    """
    changes, values, rows = _atom(known, change, flow_uuid, binding)
    return Edit(binding, (), tuple(changes), tuple(map(encode_row, rows))), values


def of_flow(image: FlowImage, change: FlowChange, binding: Binding | None) -> tuple[Edit, FlowImage, frozenset[str]]:
    """What is to be written of a flow and of the atoms it carries.

    :returns: the edit, all that will be stored of the flow, and the uuids of the atoms that are new.
    """
    changed = differing(image.values, change.values, FLOW_COLUMNS)
    changes = [Change(schema.flowdetails, change.uuid, changed)] if changed else []
    rows = _flow_rows(image.values["state"], change, binding)
    atoms = dict(image.atoms)
    new = [atom for atom in change.atoms if atom.uuid not in atoms]
    for atom in change.atoms:
        if atom.uuid in atoms:
            more, atoms[atom.uuid], told = _atom(atoms[atom.uuid], atom, change.uuid, binding)
            changes += more
            rows += told
    fresh = [{**atom.values, "parent_uuid": change.uuid} for atom in new]
    rows += _new_atoms(change.uuid, new, binding)
    atoms |= {atom.uuid: values for atom, values in zip(new, fresh, strict=True)}
    edit = Edit(binding, tuple(fresh), tuple(changes), tuple(map(encode_row, rows)))
    return edit, FlowImage(image.uuid, {**image.values, **changed}, atoms), frozenset(atom.uuid for atom in new)


def of_new_flow(change: FlowChange, binding: Binding | None) -> Edit:
    """The atoms of a flow that is new, and what the journal tells of both; the flow's own row is not among them."""
    fresh = tuple({**atom.values, "parent_uuid": change.uuid} for atom in change.atoms)
    rows = [*_flow_rows(None, change, binding), *_new_atoms(change.uuid, change.atoms, binding)]
    return Edit(binding, fresh, (), tuple(map(encode_row, rows)))


def of_row(row: JournalRow) -> Edit:
    """A row of the journal by itself."""
    return Edit(rows=(encode_row(row),))


def _atom(
    known: Values, change: AtomChange, flow_uuid: str, binding: Binding | None
) -> tuple[list[Change], Values, list[JournalRow]]:
    if known["atom_type"] != change.values["atom_type"]:
        kind = _KINDS.get(str(known["atom_type"]), "unknown")
        raise excp.NotImplementedError(f"Can only merge with other {kind} details")
    changed = differing(known, change.values, ATOM_COLUMNS)
    if not changed:
        return [], known, []
    values = {**known, **changed}
    tells = "state" in changed or "intention" in changed
    rows = [_atom_row(flow_uuid, known["state"], values, change.at, binding)] if tells else []
    return [Change(schema.atomdetails, change.uuid, changed)], values, rows


def _new_atoms(flow_uuid: str, atoms: Iterable[AtomChange], binding: Binding | None) -> list[JournalRow]:
    told = (atom for atom in atoms if atom.values["state"] is not None)
    return [_atom_row(flow_uuid, None, atom.values, atom.at, binding) for atom in told]


def _atom_row(flow_uuid: str, before: object, values: Values, at: datetime, binding: Binding | None) -> JournalRow:
    kind = _KINDS.get(str(values["atom_type"]), "task")
    return _row(
        kind,
        flow_uuid,
        before,
        values["state"],
        at,
        binding,
        atom_uuid=str(values["uuid"]),
        atom_name=str(values["name"]),
        intention=_text(values["intention"]),
        detail=atom_detail(values) if before != values["state"] else {},
    )


def _flow_rows(before: object, change: FlowChange, binding: Binding | None) -> list[JournalRow]:
    after = change.values["state"]
    return [] if before == after else [_row("flow", change.uuid, before, after, change.at, binding)]


def _row(
    kind: Kind, flow_uuid: str, before: object, after: object, at: datetime, binding: Binding | None, **more: Any
) -> JournalRow:
    return JournalRow(
        kind=kind,
        at=at,
        flow_uuid=flow_uuid,
        from_state=_text(before),
        to_state=_text(after),
        job_uuid=binding.job_uuid if binding else None,
        conductor=binding.conductor if binding else None,
        attempt=binding.attempt if binding else None,
        **more,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


# -- writing it --------------------------------------------------------------------------------------------------------
def apply(connection: sa.Connection, edits: Sequence[Edit], *, journal: bool) -> None:
    """Writes them all in as few statements as it takes; later ones go before earlier ones where they are of one row.

    :param journal: whether the store has one.
    :raises NotFound: when a row to be changed is not there.
    """
    atoms: dict[str, Values] = {}
    changes: dict[tuple[str, str], Change] = {}
    rows: list[dict[str, Stored]] = []
    for edit in edits:
        atoms.update((str(atom["uuid"]), atom) for atom in edit.atoms)
        for change in edit.changes:
            if change.uuid in atoms:
                atoms[change.uuid] = {**atoms[change.uuid], **change.values}
                continue
            place = (change.table.name, change.uuid)
            known = changes.get(place)
            changes[place] = change if known is None else replace(known, values={**known.values, **change.values})
        rows += edit.rows
    if atoms:
        bulk.insert(connection, schema.atomdetails, list(atoms.values()))
    alike: dict[tuple[str, tuple[str, ...]], dict[str, dict[str, Any]]] = {}
    for change in changes.values():
        alike.setdefault((change.table.name, tuple(sorted(change.values))), {})[change.uuid] = change.values
    for (table, _columns), same in alike.items():
        done = bulk.update(connection, table, same)
        if done != len(same):
            told = f"No row with uuid '{next(iter(same))}'" if len(same) == 1 else f"{len(same) - done} rows not"
            raise excp.NotFound(f"{told} found in {table}: deleted meanwhile")
    if rows and journal:
        bulk.insert(connection, schema.journal, rows)
