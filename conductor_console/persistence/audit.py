"""The audit trail in the store: who did what to which job; the intent is written before the act, its outcome after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.clock import for_column, naive_utc, utcnow
from conductor_console.persistence import schema
from conductor_console.persistence.journal import capped
from conductor_console.persistence.schema import encode

_INTENT: Final = sa.insert(schema.audit)
_INTENTS: Final = _INTENT.returning(schema.audit.c.seq, sort_by_parameter_order=True)
_LAST: Final = sa.select(sa.func.max(schema.audit.c.seq))
_OUTCOME: Final = (
    sa.update(schema.audit).where(schema.audit.c.seq == sa.bindparam("number")).values(outcome=sa.bindparam("told"))
)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One act. ``outcome`` is None while it is under way, and stays so when its process died in it."""

    seq: int
    at: datetime
    operator: str | None
    board: str | None
    action: str | None
    job_uuid: str | None
    job_name: str | None
    before: Mapping[str, Any]
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody means to do to a job, which was as ``before`` tells."""

    action: str
    job_uuid: str | None
    job_name: str | None
    before: Mapping[str, Any]


def begin(connection: sa.Connection, *, operator: str, board: str, intents: Sequence[Intent]) -> list[int]:
    """Writes intents; returns their numbers, in the same order."""
    rows = [_row(operator, board, intent) for intent in intents]
    if len(rows) > 1 and connection.dialect.name == "sqlite":
        # Told of one by one there, by a statement each; whoever writes writes alone, and each number is the next.
        connection.execute(_INTENT, rows)
        last = connection.execute(_LAST).scalar_one()
        return list(range(last - len(rows) + 1, last + 1))
    if len(rows) > 1 and connection.dialect.insert_executemany_returning_sort_by_parameter_order:
        return [int(number) for number in connection.execute(_INTENTS, rows).scalars()]
    return [_inserted(connection, row) for row in rows]


def _row(operator: str, board: str, intent: Intent) -> dict[str, Any]:
    detail = encode(dict(intent.before), "what the audit keeps of the job")
    return {
        "at": for_column(utcnow()),
        "operator": operator[:255],
        "board": board[:255],
        "action": intent.action[:64],
        "job_uuid": None if intent.job_uuid is None else intent.job_uuid[:64],
        "job_name": None if intent.job_name is None else intent.job_name[:255],
        "before": None if detail is None else capped(detail),
    }


def _inserted(connection: sa.Connection, row: Mapping[str, Any]) -> int:
    key = connection.execute(_INTENT, row).inserted_primary_key
    if not key:
        raise excp.StorageFailure("the audit row was given no number")
    return int(key[0])


def end(connection: sa.Connection, outcomes: Sequence[tuple[int, str]]) -> None:
    """Writes how acts went, each by its number.

    :raises NotFound: when the intent of one is gone; what is to be written with it stays unwritten.
    """
    rows = [{"number": seq, "told": outcome[:255]} for seq, outcome in outcomes]
    done = connection.execute(_OUTCOME, rows).rowcount if rows else 0
    if 0 <= done < len(rows):
        which = f"row {outcomes[0][0]}" if len(outcomes) == 1 else f"rows for {len(rows) - done} of {len(rows)} acts"
        raise excp.NotFound(f"no audit {which}")


def read(connection: sa.Connection, limit: int, job: str | None = None) -> list[AuditRow]:
    """The newest ``limit`` acts, newest first.

    :param job: only those on jobs whose uuid begins so.
    """
    query = sa.select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(limit)
    if job is not None:
        query = query.where(schema.audit.c.job_uuid.startswith(job, autoescape=True))
    found = []
    for row in connection.execute(query):
        columns = schema.plain(row)
        before = columns.pop("before")
        at = naive_utc(columns.pop("at"))
        found.append(AuditRow(at=at or utcnow(), before=before if isinstance(before, dict) else {}, **columns))
    return found
