"""The flow log: one row for each transition, written in the same transaction as the state it tells of."""

from __future__ import annotations

import hashlib
import json
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from taskflow import states

from conductor_console.clock import for_column, naive_utc
from conductor_console.persistence import schema
from conductor_console.persistence.schema import Encoded, Stored, Values, encode

Kind = Literal["flow", "task", "retry", "attempt", "operator"]

#: Octets of JSON a row's detail may take; MySQL's TEXT holds 64 KiB, and a journal is read by the thousand.
DETAIL_LIMIT = 16 * 1024
_TEXT_LIMIT = 2000
_FRAME = re.compile(r'^\s*File "(?P<path>[^"\n]+)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE)
_STDLIB = sysconfig.get_path("stdlib")


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One transition. ``seq`` is 0 until the store gave it one; the order of ``seq`` is not the order of commit.

    :ivar at: when it happened, UTC, microseconds.
    :ivar detail: JSON: a result's digest, a failure's ``type``/``message``/``where``, progress; capped in size, the
        cut told. For kind ``attempt``: ``outcome``, ``error``, ``name`` (the job's), ``seconds``.
    """

    kind: Kind
    at: datetime
    flow_uuid: str | None = None
    job_uuid: str | None = None
    atom_uuid: str | None = None
    atom_name: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    intention: str | None = None
    conductor: str | None = None
    attempt: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0


def encode_row(row: JournalRow) -> dict[str, Stored]:
    """The columns of a row that is to be appended (``seq`` is the database's to give).

    :raises StorageFailure: when the detail is not JSON.
    """
    detail = encode(dict(row.detail), f"the detail of a journal row ({row.kind})") if row.detail else None
    return {
        "at": for_column(row.at),
        "job_uuid": _cut(row.job_uuid, 64),
        "flow_uuid": row.flow_uuid,
        "atom_uuid": row.atom_uuid,
        "atom_name": _cut(row.atom_name, 255),
        "kind": row.kind,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "intention": row.intention,
        "conductor": _cut(row.conductor, 255),
        "attempt": row.attempt,
        "detail": None if detail is None else capped(detail),
    }


def decode_row(values: Mapping[str, Any]) -> JournalRow:
    """The inverse of :func:`encode_row`, for a row as it was fetched."""
    columns = dict(values)
    columns["at"] = naive_utc(columns["at"])
    detail = columns["detail"]
    columns["detail"] = detail if isinstance(detail, dict) else {}
    return JournalRow(**columns)


def read(
    connection: sa.Connection,
    *,
    flow_uuid: str | None = None,
    job_uuid: str | None = None,
    after: int = 0,
    limit: int | None = None,
) -> list[JournalRow]:
    """Rows in the order of ``seq``, at most ``limit``, with ``seq`` greater than ``after``."""
    query = sa.select(schema.journal).where(schema.journal.c.seq > after).order_by(schema.journal.c.seq)
    if flow_uuid is not None:
        query = query.where(schema.journal.c.flow_uuid == flow_uuid)
    if job_uuid is not None:
        query = query.where(schema.journal.c.job_uuid == job_uuid)
    if limit is not None:
        query = query.limit(limit)
    return [decode_row(schema.plain(row)) for row in connection.execute(query)]


def _cut(text: str | None, limit: int) -> str | None:
    if text is None or len(text) <= limit:
        return text
    note = f" ({len(text) - limit} more)"
    return text[: limit - len(note)] + note


def capped(detail: Encoded) -> Encoded:
    """The detail within :data:`DETAIL_LIMIT`: long texts are cut, then what is too big is left out, and both told."""
    size = len(detail.text)
    if size <= DETAIL_LIMIT:
        return detail
    shorter = json.dumps(_shortened(json.loads(detail.text), _TEXT_LIMIT) | {"cut_from": size})
    if len(shorter) <= DETAIL_LIMIT:
        return Encoded(shorter)
    kept: dict[str, object] = {"cut_from": size}
    for key, value in json.loads(detail.text).items():
        if len(json.dumps({**kept, key: value})) < DETAIL_LIMIT // 2:
            kept[key] = value
        elif len(json.dumps([*kept, key])) < DETAIL_LIMIT // 4:
            kept[key] = f"(left out, {len(json.dumps(value))} octets)"
    return Encoded(json.dumps(kept))


def _shortened(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return _cut(value, limit)
    if isinstance(value, dict):
        return {key: _shortened(item, limit) for key, item in value.items()}
    return [_shortened(item, limit) for item in value] if isinstance(value, list) else value


_JSON_TYPES = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean"}


def digest(result: Encoded) -> dict[str, object]:
    """What of a result may go into a log: its JSON type, its size in octets and a hash; never its text."""
    text = result.text
    return {
        "type": _JSON_TYPES.get(text[0], "number"),
        "size": len(text),
        "sha256": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def place_of(traceback_text: str) -> str | None:
    """Where it broke, e.g. ``app/flows.py:41 in save``: the innermost frame that is neither TaskFlow's nor Python's.

    :param traceback_text: as :func:`traceback.format_tb` makes it, and a failure keeps it.
    :returns: None where there is no frame at all.
    """
    frames = [match.groupdict() for match in _FRAME.finditer(traceback_text)]
    if not frames:
        return None
    own = [frame for frame in frames if not _library(frame["path"])]
    frame = (own or frames)[-1]
    file = "/".join(frame["path"].replace("\\", "/").split("/")[-2:])
    return f"{file}:{frame['line']} in {frame['name']}"


def _library(path: str) -> bool:
    if path.startswith("<frozen") or "site-packages/taskflow/" in path or "dist-packages/taskflow/" in path:
        return True
    return path.startswith(_STDLIB + "/") and "-packages/" not in path


def failure_digest(failure: Mapping[str, Any]) -> dict[str, object]:
    """A stored failure's type, message and place, without its traceback."""
    names = failure.get("exc_type_names") or ["unknown"]
    return {
        "type": str(names[0]).rpartition(".")[2],
        "message": _cut(str(failure.get("exception_str", "")), _TEXT_LIMIT),
        "where": place_of(str(failure.get("traceback_str") or "")),
    }


#: Which column tells more of a state just reached.
_RESULT_OF = {states.SUCCESS: "results", states.REVERTED: "revert_results"}
_FAILURE_OF = {states.FAILURE: "failure", states.REVERT_FAILURE: "revert_failure"}


def atom_detail(values: Values) -> dict[str, Any]:
    """The detail of an atom's transition, from its encoded row: what it made, or how it failed and how far it got."""
    detail: dict[str, Any] = {}
    state = str(values["state"])
    result = values.get(_RESULT_OF.get(state, ""))
    if isinstance(result, Encoded):
        detail["result"] = digest(result)
    failure = values.get(_FAILURE_OF.get(state, ""))
    if isinstance(failure, Encoded):
        detail["failure"] = failure_digest(json.loads(failure.text))
        # Only here: TaskFlow writes a success first and its progress of 1.0 after it.
        meta = values.get("meta")
        decoded = json.loads(meta.text) if isinstance(meta, Encoded) else {}
        progress = decoded.get("progress") if isinstance(decoded, dict) else None
        if isinstance(progress, (int, float)):
            detail["progress"] = progress
    return detail
