"""TaskFlow's details (logbook, flow, atom) to encoded rows, and rows back to details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from oslo_serialization import jsonutils
from taskflow import exceptions as excp
from taskflow.persistence import models

from conductor_console.clock import utcnow
from conductor_console.persistence.bound import FlowImage
from conductor_console.persistence.schema import Encoded, Values, encode
from conductor_console.text import visible

#: The columns an update may change; name, uuid, type and parent are for life (TaskFlow's ``merge`` leaves them too).
BOOK_COLUMNS = ("meta", "created_at", "updated_at")
FLOW_COLUMNS = ("meta", "state")
ATOM_COLUMNS = (
    "meta",
    "version",
    "state",
    "intention",
    "results",
    "failure",
    "revert_results",
    "revert_failure",
)
_ATOM_JSON = ("meta", "results", "failure", "revert_results", "revert_failure")


@dataclass(frozen=True, slots=True)
class AtomChange:
    """An atom as a caller wants it stored, encoded at the moment of the call."""

    uuid: str
    name: str
    values: Values
    at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class FlowChange:
    """A flow as a caller wants it stored, with the atoms it carries."""

    uuid: str
    values: Values
    atoms: tuple[AtomChange, ...]
    at: datetime = field(default_factory=utcnow)


@dataclass(frozen=True, slots=True)
class BookChange:
    """A logbook as a caller wants it stored, with the flows it carries."""

    uuid: str
    values: Values
    flows: tuple[FlowChange, ...]


def atom_change(atom: Any) -> AtomChange:
    """:raises StorageFailure: when a result, a failure or the meta is not JSON.

    :raises TypeError: when it is neither a task's nor a retry's detail.
    """
    row = atom.to_dict() | {"atom_type": models.atom_detail_type(atom)}
    for column in _ATOM_JSON:
        row[column] = encode(row[column], f"the {column.replace('_', ' ')} of atom {visible(atom.name, 80)!r}")
    return AtomChange(atom.uuid, atom.name, row)


def flow_change(flow: Any) -> FlowChange:
    """:raises StorageFailure: when something in it is not JSON."""
    row = flow.to_dict()
    row["meta"] = encode(row["meta"], f"the meta of flow {visible(flow.name, 80)!r}")
    return FlowChange(flow.uuid, row, tuple(atom_change(atom) for atom in flow))


def book_change(book: Any) -> BookChange:
    """:raises StorageFailure: when something in it is not JSON."""
    row = book.to_dict()
    row["meta"] = encode(row["meta"], f"the meta of logbook {visible(book.name, 80)!r}")
    return BookChange(book.uuid, row, tuple(flow_change(flow) for flow in book))


def differing(known: Values, wanted: Values, columns: tuple[str, ...]) -> dict[str, Any]:
    """The columns whose values differ, with the wanted values."""
    return {column: wanted[column] for column in columns if known.get(column) != wanted[column]}


def encoded(row: Mapping[str, Any], json_columns: tuple[str, ...] = _ATOM_JSON) -> Values:
    """A fetched row with its JSON columns encoded the way changes are."""
    return {
        column: Encoded(jsonutils.dumps(value)) if column in json_columns and value is not None else value
        for column, value in row.items()
    }


def decoded(values: Values) -> dict[str, Any]:
    """An encoded row with its JSON columns decoded."""
    return {
        column: jsonutils.loads(value.text) if isinstance(value, Encoded) else value for column, value in values.items()
    }


def book_of(row: Mapping[str, Any]) -> Any:
    """A TaskFlow ``LogBook`` (without flows) of a fetched row."""
    return models.LogBook.from_dict(row)


def flow_of(row: Mapping[str, Any]) -> Any:
    """A TaskFlow ``FlowDetail`` (without atoms) of a fetched row."""
    return models.FlowDetail.from_dict(row)


def atom_of(row: Mapping[str, Any]) -> Any:
    """A TaskFlow ``TaskDetail`` or ``RetryDetail`` of a fetched row.

    :raises StorageFailure: when its columns are not such an atom's.
    """
    try:
        detail = models.atom_detail_class(row["atom_type"]).from_dict(row)
        if row["atom_type"] == "RETRY_DETAIL" and row["results"]:
            # TaskFlow 6.5 reads a try's failure in place of what the try provided (one name for both in
            # ``from_dict``): a resumed ForEach would then try the same value again.
            pairs = zip(row["results"], detail.results, strict=True)
            detail.results = [(provided, failures) for (provided, _), (_, failures) in pairs]
        return detail
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        told = f"atom {visible(row.get('uuid'), 80)} of the store cannot be read: {visible(error, 200)}"
        raise excp.StorageFailure(told) from error


def merged_atom(values: Values, atom: Any) -> Any:
    """What an update of ``atom`` returns: a detail of its own, with the stored identity and the given contents."""
    if values["name"] != atom.name:
        return atom_of(decoded(values)).merge(atom)
    clone = atom.copy()
    # TaskFlow's copy shares an empty meta with its original.
    clone.meta = dict(atom.meta)
    return clone


def merged_flow(image: FlowImage, flow: Any, new: frozenset[str]) -> Any:
    """What an update of ``flow`` returns: a detail of its own, with all atoms the store has of it.

    :param new: atoms the store did not have before. These are the given objects themselves, as TaskFlow's storage
        relies on: it goes on changing the one it added.
    """
    merged = flow_of({"name": image.values["name"], "uuid": image.uuid, "state": flow.state, "meta": dict(flow.meta)})
    for uuid, values in image.atoms.items():
        given = flow.find(uuid)
        if given is None:
            merged.add(atom_of(decoded(values)))
        else:
            merged.add(given if uuid in new else merged_atom(values, given))
    return merged
