"""One write transaction on a SQLite board: the statements that acts are made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.clock import iso
from conductor_console.jobboards import attempts
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import BinEntry, Changed, Claim, Gone, JobEntry
from conductor_console.jobboards.breaker import Breaker
from conductor_console.jobboards.sqlite_liveness import Sessions
from conductor_console.jobboards.sqlite_mirror import BREAKER_KEY, ENTITIES_KEY
from conductor_console.jobboards.sqlite_rows import Reader
from conductor_console.jobboards.sqlite_schema import (
    ATTEMPTS,
    BIN,
    CHANGES,
    CHANGES_KEPT,
    ENTITIES,
    JOBS,
    PRUNE_EVERY,
    breaker_of,
    note_breaker,
)
from conductor_console.text import visible

_FREE: Final = {"owner": None, "claim": None, "session": None, "claimed_at": None}

_CHANGE: Final = sa.insert(CHANGES)
_PRUNE: Final = sa.delete(CHANGES).where(CHANGES.c.seq <= sa.bindparam("last"))
_JOB: Final = JOBS.c.uuid == sa.bindparam("key")
_TAKE: Final = sa.update(JOBS).where(_JOB)
_RELEASE: Final = sa.update(JOBS).where(_JOB).values(_FREE)
_REMOVE: Final = sa.delete(JOBS).where(_JOB)
_NEW_RECORD: Final = sa.insert(ATTEMPTS)
_NEXT_RECORD: Final = (
    sa.update(ATTEMPTS).where(ATTEMPTS.c.job == sa.bindparam("key")).values(version=ATTEMPTS.c.version + 1)
)
_NO_RECORD: Final = sa.delete(ATTEMPTS).where(ATTEMPTS.c.job == sa.bindparam("key"))
_NO_ORPHANS: Final = sa.delete(ATTEMPTS).where(
    ATTEMPTS.c.job.not_in(sa.union_all(sa.select(JOBS.c.uuid), sa.select(BIN.c.uuid)))
)
_NOT_BINNED: Final = sa.delete(BIN).where(BIN.c.uuid == sa.bindparam("key"))


class Act:
    """What one transaction does. Nobody else writes between its begin and its end.

    :param session: what keeps alive the claims and entities that are made.
    :ivar changes: the numbers of the changes made; ``keys`` what they concern.
    """

    def __init__(
        self, connection: sa.Connection, reader: Reader, sessions: Sessions, session: str | None = None
    ) -> None:
        self.changes: list[int] = []
        self.keys: list[str] = []
        self._connection = connection
        self._reader = reader
        self._sessions = sessions
        self._session = session

    def changed(self, key: str) -> int:
        """Tells the other processes that ``key`` moves. Returns the change's number, unique and growing."""
        number: int = self._connection.execute(_CHANGE, {"key": key}).lastrowid
        self.changes.append(number)
        self.keys.append(key)
        if number % PRUNE_EVERY == 0:
            self._connection.execute(_PRUNE, {"last": number - CHANGES_KEPT})
        return number

    # -- what is there -------------------------------------------------------------------------------------------------
    def job(self, key: str) -> JobEntry:
        """The job as it is now; a claim whose process died is none.

        :raises NotFound: when it is not on the board.
        """
        for entry in self._reader.jobs(self._connection, [key]):
            return entry
        raise excp.NotFound(f"job {visible(key)} is not on the board")

    def as_seen(self, seen: JobEntry) -> JobEntry:
        """The job as it is now, if it is as an operator saw it, its claim included.

        :raises Gone: it is not on the board. :raises Changed: its claim is another, or it was posted anew.
        """
        try:
            entry = self.job(seen.key)
        except excp.NotFound as error:
            raise Gone(f"job {visible(seen.name)} is gone") from error
        changed = f"job {visible(seen.name)} changed under you: "
        if entry.node != seen.node:
            raise Changed(changed + "it was posted anew")
        if _claim_id(entry.claim) != _claim_id(seen.claim):
            now = "nobody holds it" if entry.claim is None else f"it is claimed by {visible(entry.claim.owner)}"
            raise Changed(f"{changed}{now} now")
        return entry

    def binned_as_seen(self, seen: BinEntry) -> BinEntry:
        """The binned job as it is now, if it is as an operator saw it.

        :raises Gone: it is not in the bin. :raises Changed: it was restored and binned again.
        """
        for entry in self._reader.binned(self._connection, [seen.key]):
            if entry.version != seen.version:
                raise Changed(f"job {visible(seen.name)} changed under you: it was restored and binned again")
            return entry
        raise Gone(f"job {visible(seen.name)} is no longer in the bin")

    # -- what is done --------------------------------------------------------------------------------------------------
    def post(self, key: str, posting: bytes, now: datetime) -> None:
        self.changed(key)
        self._connection.execute(
            sa.insert(JOBS), {"uuid": key, "posting": posting.decode(), "created_at": iso(now), **_FREE}
        )

    def take(self, entry: JobEntry, who: str, identity: str, now: datetime) -> AttemptRecord:
        """Claims a job that nobody holds and opens its attempt; returns the record."""
        number = self.changed(entry.key)
        record = attempts.opened(known_record(entry), identity, now, entry.flow_uuid, claim=str(number))
        self._write(entry, record)
        values = {"owner": who, "claim": number, "session": self._session, "claimed_at": iso(now)}
        self._connection.execute(_TAKE, {"key": entry.key, **values})
        return record

    def release(self, entry: JobEntry, record: AttemptRecord | None = None) -> None:
        """Ends the claim, whosever it is, and writes the record, if there is something to write."""
        self.changed(entry.key)
        if record is not None:
            self._write(entry, record)
        self._connection.execute(_RELEASE, {"key": entry.key})

    def remove(self, entry: JobEntry) -> None:
        """Takes the job off the board for good, with its record."""
        self.changed(entry.key)
        self._connection.execute(_REMOVE, {"key": entry.key})
        self._connection.execute(_NO_RECORD, {"key": entry.key})

    def move_to_bin(self, entry: JobEntry, record: AttemptRecord, who: str, why: str, now: datetime) -> None:
        """Moves the job to the bin, and tells so in its record."""
        told = {"binned_at": iso(now), "who": who, "why": why, "version": self.changed(entry.key)}
        columns = [JOBS.c.seq, JOBS.c.uuid, JOBS.c.posting, JOBS.c.created_at]
        row = sa.select(*columns, *(sa.literal(value).label(name) for name, value in told.items()))
        names = [column.name for column in columns] + list(told)
        self._connection.execute(sa.insert(BIN).from_select(names, row.where(_JOB)), {"key": entry.key})
        self._connection.execute(_REMOVE, {"key": entry.key})
        self._write(entry, attempts.put_in_bin(record, who, now, why))

    def put_back(self, entry: BinEntry) -> None:
        """Moves a binned job back to its old place on the board.

        :raises Changed: when a job with its uuid is on the board.
        """
        if any(True for _ in self._reader.jobs(self._connection, [entry.key])):
            raise Changed(f"job {visible(entry.name)} is on the board already")
        self.changed(entry.key)
        columns = [BIN.c.seq, BIN.c.uuid, BIN.c.posting, BIN.c.created_at]
        row = sa.select(*columns).where(BIN.c.uuid == sa.bindparam("key"))
        self._connection.execute(
            sa.insert(JOBS).from_select([column.name for column in columns], row), {"key": entry.key}
        )
        self._connection.execute(_NOT_BINNED, {"key": entry.key})
        if entry.record is not None:
            self._write(entry, attempts.restored(entry.record))

    def purge(self, entry: BinEntry) -> None:
        """Deletes a binned job for good, with its record."""
        self.changed(entry.key)
        self._connection.execute(_NOT_BINNED, {"key": entry.key})
        self._connection.execute(_NO_RECORD, {"key": entry.key})

    def register(self, entities: Mapping[str, str]) -> None:
        """Notes live entities, by name, and forgets what nobody else would: dead ones, records without a job."""
        self.changed(ENTITIES_KEY)
        for row in self._connection.execute(sa.select(ENTITIES.c.session).distinct()).all():
            if row.session == self._session or not self._sessions.alive(row.session):
                self._connection.execute(sa.delete(ENTITIES).where(ENTITIES.c.session == row.session))
        self._connection.execute(_NO_ORPHANS)
        rows = [{"session": self._session, "name": name, "entity": entity} for name, entity in entities.items()]
        self._connection.execute(sa.insert(ENTITIES), rows)

    def set_breaker(self, state: Breaker, expected: Breaker) -> bool:
        """Writes the circuit breaker's state if it is as expected; what it is then is shown either way."""
        same = breaker_of(self._connection) == expected
        if same:
            note_breaker(self._connection, state)
            self.changed(BREAKER_KEY)
        else:
            self.keys.append(BREAKER_KEY)
        return same

    def _write(self, entry: JobEntry | BinEntry, record: AttemptRecord) -> None:
        text = attempts.to_json(record).decode()
        if entry.record_version is None:
            self._connection.execute(_NEW_RECORD, {"job": entry.key, "version": 1, "record": text})
        else:
            self._connection.execute(_NEXT_RECORD, {"key": entry.key, "record": text})


def known_record(entry: JobEntry | BinEntry) -> AttemptRecord:
    """The entry's record; an empty one where nothing was counted yet."""
    return entry.record or AttemptRecord(job=entry.key)


def _claim_id(claim: Claim | None) -> str | None:
    return None if claim is None else claim.id
