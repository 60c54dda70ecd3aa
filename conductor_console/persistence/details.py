"""TaskFlow's details (logbook, flow, atom) to encoded rows, and rows back to details."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from oslo_serialization import jsonutils
from taskflow import exceptions as excp
from taskflow.persistence import models

from conductor_console.clock import utcnow
from conductor_console.persistence import failures
from conductor_console.persistence.bound import FlowImage
from conductor_console.persistence.kinds import KEY, NotStorable, digest, pack, unpack, without_notes
from conductor_console.persistence.limits import LARGEST, Limits
from conductor_console.persistence.schema import Encoded, Unstorable, Values, atomdetails
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

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
_RETRY = "RETRY_DETAIL"
#: An atom's contents besides its meta, in the order of its shape.
_HELD = ("version", "state", "intention", "results", "failure", "revert_results", "revert_failure")
Shape = tuple[Any, ...]
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


def atom_change(atom: Any, limits: Limits) -> AtomChange:
    """Its failures are always storable, cut where they must be; of its meta what cannot be stored of its progress is
    left out, and told in the log.

    :raises Unstorable: when a result or the rest of the meta cannot be stored.
    :raises TypeError: when it is neither a task's nor a retry's detail.
    """
    what = f"atom {visible(atom.name, 80)!r}"
    meta = _meta(atom, limits)
    values: Values = {}
    for room in failures.ROOMS:
        values = _encoded(_row(atom, room, limits) | {"meta": meta}, _ATOM_JSON, what, limits)
        if limits.over(atomdetails, values) is None:
            break
    return AtomChange(atom.uuid, atom.name, values)


def _row(atom: Any, room: int, limits: Limits) -> dict[str, Any]:
    """TaskFlow's columns of an atom, but for its meta.

    TaskFlow's own ``to_dict`` doubles what it tells of an exception with each one that came before it.
    """

    def told(failure: Any) -> Any:
        return None if failure is None else failures.told(failure, room, nan=limits.nan)

    kind = models.atom_detail_type(atom)
    results = atom.results
    if kind == _RETRY:
        results = [[made, {name: told(failure) for name, failure in tried.items()}] for made, tried in results or ()]
    return {
        "uuid": atom.uuid,
        "name": atom.name,
        "atom_type": kind,
        "version": atom.version,
        "state": atom.state,
        "intention": atom.intention,
        "results": results,
        "failure": told(atom.failure),
        "revert_results": atom.revert_results,
        "revert_failure": told(atom.revert_failure),
    }


def _meta(atom: Any, limits: Limits) -> Any:
    meta = without_notes(atom.meta)
    room = limits.columns.get((atomdetails.name, "meta"), LARGEST) // 2
    for key in ("progress", "progress_details") if isinstance(meta, Mapping) else ():
        if _is_small(meta.get(key)):
            continue
        try:
            if len(pack(meta.get(key), nan=limits.nan)[0]) <= room:
                continue
            why = f"it takes more than {room // 1024} kB"
        except NotStorable as error:
            why = str(error)
        LOG.warning("the %s of atom %s cannot be stored: %s", key.replace("_", " "), visible(atom.name, 80), why)
        meta = {other: value for other, value in meta.items() if other != key}
    return meta


def _is_small(value: object) -> bool:
    """What almost every progress is, and always storable."""
    return value is None or (type(value) is float and math.isfinite(value))


def flow_change(flow: Any, limits: Limits, known: Mapping[str, Shape] = MappingProxyType({})) -> FlowChange:
    """:param known: atoms, by uuid, that are stored already if they still are like that.

    :raises Unstorable: when something in it cannot be stored.
    """
    values = _encoded(flow.to_dict(), ("meta",), f"flow {visible(flow.name, 80)!r}", limits)
    changed = (atom for atom in flow if (shape := known.get(atom.uuid)) is None or not is_like(atom, shape))
    return FlowChange(flow.uuid, values, tuple(atom_change(atom, limits) for atom in changed))


def shape_of(atom: Any) -> Shape:
    """By which an atom is known again as long as nobody gives it other contents."""
    return (*(getattr(atom, name) for name in _HELD), dict(atom.meta) if isinstance(atom.meta, dict) else atom.meta)


def is_like(atom: Any, shape: Shape) -> bool:
    """Whether these still are its contents. What a value holds is not looked into: as it was, it was stored."""
    *held, meta = shape
    if any(getattr(atom, name) is not value for name, value in zip(_HELD, held, strict=True)):
        return False
    try:
        return bool(atom.meta == meta)
    except Exception:  # the comparison of a value of the user's
        return False


def image_of(flow: Any, limits: Limits) -> FlowImage | None:
    """A flow's rows, made of what was read of it; None where something in it could not be stored like that."""
    try:
        change = flow_change(flow, limits)
    except Unstorable:
        return None
    atoms = {atom.uuid: {**atom.values, "parent_uuid": flow.uuid} for atom in change.atoms}
    return FlowImage(flow.uuid, change.values, atoms)


def book_change(book: Any, limits: Limits) -> BookChange:
    """:raises Unstorable: when something in it cannot be stored."""
    values = _encoded(book.to_dict(), ("meta",), f"logbook {visible(book.name, 80)!r}", limits)
    return BookChange(book.uuid, values, tuple(flow_change(flow, limits) for flow in book))


def _encoded(row: Mapping[str, Any], columns: tuple[str, ...], what: str, limits: Limits) -> Values:
    """The row with its JSON columns encoded, and in its meta the notes of what JSON does not tell of them."""
    values: dict[str, Any] = dict(row)
    notes: dict[str, Any] = {}
    for column in columns:
        value = without_notes(row[column]) if column == "meta" else row[column]
        if value is None:
            continue
        try:
            text, note = pack(value, nan=limits.nan)
        except NotStorable as error:
            raise Unstorable(f"the {column.replace('_', ' ')} of {what} cannot be stored as JSON: {error}") from error
        values[column] = Encoded(text)
        if note is not None:
            notes[column] = [digest(text), note]
    if notes:
        meta = json.loads(values["meta"].text) if values["meta"] is not None else {}
        # TaskFlow reads a meta that is no object as an empty one.
        values["meta"] = Encoded(json.dumps({**(meta if isinstance(meta, dict) else {}), KEY: notes}))
    return values


def _restored(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fetched row with its values made what they were, by the notes in its meta.

    :raises StorageFailure: when the notes make no sense.
    """
    meta = row["meta"]
    if not isinstance(meta, dict) or KEY not in meta:
        return row
    values = {**row, "meta": without_notes(meta)}
    try:
        for column, (known, note) in meta[KEY].items():
            value = values.get(column)
            # Another digest: TaskFlow wrote another value, and took the note along.
            if value is not None and digest(json.dumps(value)) == known:
                values[column] = unpack(value, note)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        uuid = visible(row.get("uuid"), 80)
        told = f"what the store notes in the meta of {uuid} makes no sense: {visible(error, 200)}"
        raise excp.StorageFailure(told) from error
    return values


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
    return models.LogBook.from_dict(_restored(row))


def flow_of(row: Mapping[str, Any]) -> Any:
    """A TaskFlow ``FlowDetail`` (without atoms) of a fetched row."""
    return models.FlowDetail.from_dict(_restored(row))


def atom_of(row: Mapping[str, Any]) -> Any:
    """A TaskFlow ``TaskDetail`` or ``RetryDetail`` of a fetched row.

    :raises StorageFailure: when its columns are not such an atom's.
    """
    try:
        row = _restored(row)
        detail = models.atom_detail_class(row["atom_type"]).from_dict(row)
        if row["atom_type"] == _RETRY and row["results"]:
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
