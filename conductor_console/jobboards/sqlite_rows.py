"""A SQLite board's rows made into entries."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from conductor_console.clock import from_iso
from conductor_console.jobboards import attempts, postings
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import BinEntry, Claim, EntityEntry, JobEntry
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.sqlite_liveness import Sessions
from conductor_console.jobboards.sqlite_schema import ATTEMPTS, BIN, CHANGES, ENTITIES, JOBS
from conductor_console.text import visible

LOG: Final = logging.getLogger(__name__)

#: Keys asked for in one statement; SQLite takes some ten thousand.
_CHUNK: Final = 500

#: Stands for a time that cannot be read.
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

_RECORD: Final = (ATTEMPTS.c.record, ATTEMPTS.c.version.label("record_version"))
_JOBS: Final = sa.select(JOBS, *_RECORD).join_from(JOBS, ATTEMPTS, ATTEMPTS.c.job == JOBS.c.uuid, isouter=True)
_BIN: Final = sa.select(BIN, *_RECORD).join_from(BIN, ATTEMPTS, ATTEMPTS.c.job == BIN.c.uuid, isouter=True)
_JOBS_BY_KEY: Final = _JOBS.where(JOBS.c.uuid.in_(sa.bindparam("keys", expanding=True)))
_BIN_BY_KEY: Final = _BIN.where(BIN.c.uuid.in_(sa.bindparam("keys", expanding=True)))
_RECORD_OF: Final = sa.select(ATTEMPTS.c.record, ATTEMPTS.c.version).where(ATTEMPTS.c.job == sa.bindparam("key"))
_CHANGES_FROM: Final = (
    sa.select(CHANGES.c.seq, CHANGES.c.key).where(CHANGES.c.seq >= sa.bindparam("first")).order_by(CHANGES.c.seq)
)


def node_of(seq: int) -> str:
    """What a listing shows as the job's node, named as on a ZooKeeper board."""
    return f"job{seq:010d}"


def parse_record(raw: Any, key: str) -> AttemptRecord:
    """The record in a row; what is no record of this job is started afresh, and told in the log."""
    try:
        return attempts.from_json(_octets(raw), key)
    except attempts.NotARecord as error:
        LOG.warning("the ledger of %s is started afresh: %s", visible(key), visible(error, 200))
        return AttemptRecord(job=key)


def read_record(connection: sa.Connection, key: str) -> tuple[AttemptRecord, int | None]:
    """A job's record and its version; an empty one and None where nothing was counted yet."""
    row = connection.execute(_RECORD_OF, {"key": key}).first()
    return (AttemptRecord(job=key), None) if row is None else (parse_record(row.record, key), row.version)


class Reader:
    """Reads rows into entries; what a picture knows already is not parsed again."""

    def __init__(self, picture: Picture, sessions: Sessions) -> None:
        self._picture = picture
        self._sessions = sessions

    def jobs(self, connection: sa.Connection, keys: Sequence[str] | None = None) -> Iterator[JobEntry]:
        """The jobs with these keys that are there; all of them for None."""
        alive = cache(self._sessions.alive)  # asked once for all that one session holds
        for row in _rows(connection, _JOBS, _JOBS_BY_KEY, keys):
            yield self._job(row, alive)

    def binned(self, connection: sa.Connection, keys: Sequence[str] | None = None) -> Iterator[BinEntry]:
        """The binned jobs with these keys that are there; all of them for None."""
        for row in _rows(connection, _BIN, _BIN_BY_KEY, keys):
            yield self._binned(row)

    def entities(self, connection: sa.Connection) -> Iterator[EntityEntry]:
        """The registered conductors whose process lives."""
        for row in connection.execute(sa.select(ENTITIES)).all():
            if self._sessions.alive(row.session):
                yield _entity(row)

    def newest_change(self, connection: sa.Connection) -> int:
        """The number of the newest change; 0 when nothing ever changed."""
        return int(connection.execute(sa.select(sa.func.max(CHANGES.c.seq))).scalar() or 0)

    def changes(self, connection: sa.Connection, after: int) -> list[tuple[int, str]] | None:
        """All changes after ``after``, as (number, key); None when some of them are no longer kept."""
        rows = connection.execute(_CHANGES_FROM, {"first": after}).all()
        # The one that was seen last must still be there: what came after it then is, too, and numbers began anew
        # (another file) are noticed.
        if after and (not rows or rows[0].seq != after):
            return None
        return [(row.seq, row.key) for row in rows if row.seq > after]

    def _job(self, row: Any, alive: Callable[[str | None], bool]) -> JobEntry:
        key, node = _text(row.uuid), node_of(row.seq)
        claim = _claim(row) if row.claim is not None and alive(row.session) else None
        known = self._picture.get(key)
        record = _record(known, row)
        if known is not None and known.node == node:
            return replace(known, claim=claim, record=record, record_version=row.record_version)
        raw = _octets(row.posting)
        posting = postings.parse(raw, node)
        created_at, problem = _time(row.created_at), posting.problem
        if created_at is None:
            problem = "the time of its posting is none"
        elif posting.uuid not in (None, row.uuid):
            problem = "its uuid is not the one it is filed under"
        return JobEntry(
            key=key,
            node=node,
            uuid=posting.uuid,
            name=posting.name,
            priority=posting.priority,
            created_at=created_at or _EPOCH,
            details=posting.details,
            book_uuid=posting.book_uuid,
            book_name=posting.book_name,
            size=len(raw),
            problem=problem,
            claim=claim,
            record=record,
            record_version=row.record_version,
        )

    def _binned(self, row: Any) -> BinEntry:
        key = _text(row.uuid)
        known = self._picture.get_binned(key)
        record = _record(known, row)
        if known is not None and known.version == row.version:
            return replace(known, record=record, record_version=row.record_version)
        raw = _octets(row.posting)
        posting = postings.parse(raw, node_of(row.seq))
        return BinEntry(
            key=key,
            node=node_of(row.seq),
            uuid=posting.uuid,
            name=posting.name,
            priority=posting.priority,
            posting=raw,
            binned_at=_time(row.binned_at),
            who=_text(row.who) or None,
            why=_text(row.why) or None,
            version=row.version,
            record=record,
            record_version=row.record_version,
            problem=posting.problem,
        )


def _record(known: JobEntry | BinEntry | None, row: Any) -> AttemptRecord | None:
    if row.record is None:
        return None
    if known is not None and known.record_version == row.record_version:
        return known.record
    return parse_record(row.record, _text(row.uuid))


def _claim(row: Any) -> Claim:
    claimed_at = _time(row.claimed_at)
    problem = None if claimed_at is not None else "the time of its claim is none"
    return Claim(_text(row.owner or "?"), str(row.claim), claimed_at or _EPOCH, session=row.session, problem=problem)


# Any program may write any value into any column: what comes out is made to be what it should be, and told.


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _time(value: Any) -> datetime | None:
    try:
        return from_iso(_text(value))
    except (ValueError, OverflowError):
        return None


def _rows(
    connection: sa.Connection, everything: sa.Select[Any], by_key: sa.Select[Any], keys: Sequence[str] | None
) -> Iterator[Any]:
    if keys is None:
        yield from connection.execute(everything)
        return
    for start in range(0, len(keys), _CHUNK):
        yield from connection.execute(by_key, {"keys": keys[start : start + _CHUNK]})


def _entity(row: Any) -> EntityEntry:
    name, metadata = _text(row.name), None
    try:
        data = json.loads(row.entity)
        metadata = data.get("metadata") if isinstance(data, dict) else None
    except (ValueError, TypeError, RecursionError):
        LOG.warning("the entity %s is not JSON", visible(name))
    if not isinstance(metadata, dict):
        metadata = {}
    pid = metadata.get("pid")
    host = metadata.get("hostname") or name.partition("@")[2].partition(":")[0]
    return EntityEntry(name, str(host), pid if isinstance(pid, int) else None, row.session)
