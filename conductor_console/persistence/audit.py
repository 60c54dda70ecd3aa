"""The audit trail in the store: who did what to which job; the intent is written before the act, its outcome after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.clock import naive_utc, utcnow
from conductor_console.persistence import schema
from conductor_console.persistence.journal import capped
from conductor_console.persistence.schema import encode


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


def begin(
    connection: sa.Connection,
    *,
    operator: str,
    board: str,
    action: str,
    job_uuid: str | None,
    job_name: str | None,
    before: Mapping[str, Any],
) -> int:
    """Writes an intent; returns its number."""
    detail = encode(dict(before), "what the audit keeps of the job")
    result = connection.execute(
        sa.insert(schema.audit).values(
            at=utcnow().astimezone(UTC).replace(tzinfo=None),
            operator=operator[:255],
            board=board[:255],
            action=action[:64],
            job_uuid=None if job_uuid is None else job_uuid[:64],
            job_name=None if job_name is None else job_name[:255],
            before=None if detail is None else capped(detail),
        )
    )
    key = result.inserted_primary_key
    if not key:
        raise excp.StorageFailure("the audit row was given no number")
    return int(key[0])


def end(connection: sa.Connection, seq: int, outcome: str) -> None:
    """Writes how an act went.

    :raises NotFound: when its intent is gone.
    """
    table = schema.audit
    result = connection.execute(sa.update(table).where(table.c.seq == seq).values(outcome=outcome[:255]))
    if result.rowcount == 0:
        raise excp.NotFound(f"no audit row {seq}")


def read(connection: sa.Connection, limit: int) -> list[AuditRow]:
    """The newest ``limit`` acts, newest first."""
    query = sa.select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(limit)
    found = []
    for row in connection.execute(query):
        columns = schema.plain(row)
        before = columns.pop("before")
        at = naive_utc(columns.pop("at"))
        found.append(AuditRow(at=at or utcnow(), before=before if isinstance(before, dict) else {}, **columns))
    return found
