"""A jobboard in one SQLite file, for the processes of one host.

A claim lives exactly as long as the process that made it (``sqlite_liveness``): no leases, no heartbeats. Each act
is one transaction (``sqlite_acts``); what happens is seen within milliseconds (``sqlite_mirror``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from oslo_serialization import jsonutils
from oslo_utils import uuidutils
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable, ConsoleError, UsageError
from conductor_console.jobboards import attempts, postings
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.base import (
    BinEntry,
    BoardJob,
    Changed,
    Claim,
    JobEntry,
    Refused,
    Unless,
    forbidden,
    unclaimed,
)
from conductor_console.jobboards.breaker import Breaker
from conductor_console.jobboards.common import PicturedBoard, identity
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.jobboards.sqlite_acts import Act, known_record
from conductor_console.jobboards.sqlite_database import DEFAULT_TIMEOUT, Database
from conductor_console.jobboards.sqlite_liveness import Sessions, locks_of
from conductor_console.jobboards.sqlite_mirror import Mirror
from conductor_console.text import visible

LOG: Final = logging.getLogger(__name__)

#: TaskFlow's word for what registers on a board.
_CONDUCTOR = "conductor"


class SQLiteJobBoard(PicturedBoard):
    """A board in a SQLite file, which a store of ours may share.

    :param conf: ``path`` of the file; ``timeout``: seconds a write waits for another process's (default 5).
    :param persistence: the backend that jobs load their logbooks from.
    :param policy: not used by the board itself; kept for whoever asks (``board.policy``).
    :param read_only: refuse every act that writes.
    :raises UsageError: when no file is named.
    """

    def __init__(
        self,
        name: str,
        conf: Mapping[str, Any],
        persistence: Any = None,
        emit_notifications: bool = True,
        policy: AnyPolicy | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(name, conf, persistence, emit_notifications)
        path = str(conf.get("path") or "")
        if not path or path == ":memory:" or "\0" in path:
            raise UsageError("a SQLite board needs a file, such as sqlite:////srv/board.db")
        self.policy = policy or Policy()
        self.read_only = read_only
        # The file itself, whatever links lead to it: the lock files lie beside it, and all processes must find them.
        self._path = Path(os.path.realpath(path))
        self._database = Database(self._path, float(conf.get("timeout", DEFAULT_TIMEOUT)), read_only)
        self._begin()

    def _begin(self) -> None:
        """What belongs to this process alone: made anew in a child."""
        self._pid = os.getpid()
        self._connected = False
        self._sessions = Sessions(locks_of(str(self._path)))
        #: What keeps alive the claims of this board object, and tells which are its own; new after it was lost.
        self._session: str | None = None
        #: The claims' ids, by the job objects that they were made with.
        self._claimed: WeakKeyDictionary[taskflow_base.Job, str | None] = WeakKeyDictionary()
        #: The conductors that registered here, by name, as JSON.
        self._entities: dict[str, str] = {}
        self._untended: str | None = None
        self._mirror = Mirror(
            self._name, self._database, self._sessions, self.picture, read_only=self.read_only, tend=self._tend
        )

    # -- life ----------------------------------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        return self._connected and self._pid == os.getpid()

    def ensure(self) -> None:
        self._need_writable()
        self._database.ensure()

    def connect(self) -> None:
        """Reads the board and begins to watch it; writes nothing.

        :raises BoardUnreachable: when there is no board in the file.
        """
        if self._pid != os.getpid():
            self._database.forget()
            self._renew()
            self._begin()
        if self._connected:
            return
        self._dispatcher.start()
        try:
            self._mirror.start()
        except BaseException:
            self._dispatcher.stop()
            self._database.close()
            raise
        self._connected = True

    def close(self) -> None:
        """Stops watching and lets go of every claim of this board object, as the end of its process would."""
        if not self.connected:
            return
        with self._mirror.lock:
            # An act that waits for the lock finds the board closed.
            self._connected = False
            self._entities.clear()
        self._mirror.stop()
        self._end_session()
        self._database.close()
        self._dispatcher.stop()

    def _end_session(self) -> None:
        """Lets go of every claim, without writing."""
        with self._mirror.lock:
            session, self._session = self._session, None
        if session is not None:
            self._sessions.end(session)

    def refresh(self) -> None:
        self._need_connection()
        self._mirror.load()

    def freshen(self) -> None:
        self._need_connection()
        self._mirror.catch_up()

    def _need_connection(self) -> None:
        if self._pid != os.getpid():
            raise BoardUnreachable("the board was opened before a fork: connect again in this process")
        if not self._connected:
            raise BoardUnreachable("the board is not connected")

    def _need_writable(self) -> None:
        if self.read_only:
            raise Refused("the board is open for reading only: nothing was done")

    @contextmanager
    def _act(self, *, durable: bool, session: bool = False) -> Iterator[Act]:
        """One transaction; what it did is in the picture when this ends.

        Durable acts outlive a power cut. Claiming and consuming need not: nobody who claimed outlives it either, and
        a job that comes back finds its flow finished in the store.

        :param session: whether something is made that lives as long as this board object.
        """
        self._need_writable()
        self._need_connection()
        with self._mirror.lock:
            self._need_connection()
            own = self._own_session() if session else None
            with self._database.writing(durable) as connection:
                act = Act(connection, self._mirror.reader, self._sessions, own)
                yield act
                news = self._mirror.read(connection, act.keys)
            self._mirror.done(news, act.changes)

    def _own_session(self) -> str:
        if self._session is None or not self._sessions.alive(self._session):
            self._session = self._sessions.begin()
        return self._session

    def _tend(self) -> None:
        """Registers our conductors again where nothing shows them: their session ended, or the file is another."""
        if not self._entities or not self.connected or self._mirror.shows(self._session):
            return
        try:
            with self._act(durable=False, session=True) as act:
                act.register(self._entities)
            self._untended = None
        except ConsoleError as error:
            if self.connected and str(error) != self._untended:
                self._untended = str(error)
                LOG.warning("the conductors here are not shown on the board: %s", error)

    # -- TaskFlow's board ----------------------------------------------------------------------------------------------
    def post(
        self,
        name: str,
        book: Any = None,
        details: Mapping[str, Any] | None = None,
        priority: JobPriority = JobPriority.NORMAL,
    ) -> BoardJob:
        uuid = uuidutils.generate_uuid()
        posting = postings.format_posting(uuid, name, book, details, JobPriority.convert(priority))
        with self._act(durable=True) as act:
            act.post(uuid, posting, utcnow())
            entry = act.job(uuid)
        return self.make_job(entry, book=book)

    @taskflow_base.check_who
    def claim(
        self, job: taskflow_base.Job, who: str, *, unless: Callable[[AttemptRecord], bool] | None = None
    ) -> AttemptRecord | None:
        with self._act(durable=False, session=True) as act:
            entry = act.job(job.uuid)
            if entry.claim is not None:
                raise excp.UnclaimableJob(f"job {visible(job.uuid)} is claimed by {visible(entry.claim.owner)} already")
            if unless is not None and unless(attempts.deserted(known_record(entry), utcnow())):
                raise excp.UnclaimableJob(f"job {visible(job.uuid)} is not to be tried now")
            record = act.take(entry, who, identity(who), utcnow())
        self._claimed[job] = record.history[0].claim
        return record

    @taskflow_base.check_who
    def consume(self, job: taskflow_base.Job, who: str) -> None:
        """Deletes a job of ours and its record.

        :raises NotFound: when nobody holds it or it is gone. :raises JobFailure: when another holds it.
        """
        with self._act(durable=False) as act:
            act.remove(self._held(act, job, who, "consume"))

    @taskflow_base.check_who
    def abandon(
        self,
        job: taskflow_base.Job,
        who: str,
        *,
        outcome: Outcome = "abandoned",
        error: Cause | None = None,
        hold: float = 0.0,
    ) -> None:
        with self._act(durable=True) as act:
            entry = self._held(act, job, who, "abandon")
            act.release(entry, attempts.closed(known_record(entry), outcome, utcnow(), error=error, hold=hold))

    @taskflow_base.check_who
    def trash(
        self,
        job: taskflow_base.Job,
        who: str,
        *,
        why: str = "",
        outcome: Outcome = "abandoned",
        error: Cause | None = None,
    ) -> None:
        with self._act(durable=True) as act:
            entry = self._held(act, job, who, "trash")
            now = utcnow()
            act.move_to_bin(
                entry, attempts.closed(known_record(entry), outcome, now, error=error), identity(who), why, now
            )

    def _held(self, act: Act, job: taskflow_base.Job, who: str, verb: str) -> JobEntry:
        """The job, which this board object must have claimed for ``who``."""
        entry = act.job(job.uuid)
        if entry.claim is None:
            raise excp.NotFound(f"cannot {verb} job {visible(job.uuid)}: nobody holds it")
        if entry.claim.session != self._session or entry.claim.owner != who:
            raise excp.JobFailure(f"cannot {verb} job {visible(job.uuid)}: {visible(entry.claim.owner)} holds it")
        if not self._same(job, entry.claim):
            raise excp.NotFound(f"cannot {verb} job {visible(job.uuid)}: it was claimed anew since")
        return entry

    def find_owner(self, job: taskflow_base.Job) -> str | None:
        """Who holds the job now; None when nobody does or it is gone."""
        entry = self._read(job.uuid)
        return entry.claim.owner if entry is not None and entry.claim is not None else None

    def job_state(self, job: taskflow_base.Job) -> str:
        entry = self._read(job.uuid)
        if entry is None:
            return states.COMPLETE
        return states.UNCLAIMED if entry.claim is None else states.CLAIMED

    def _read(self, key: str) -> JobEntry | None:
        self._need_connection()
        with self._database.reading() as connection:
            return next(self._mirror.reader.jobs(connection, [key]), None)

    def register_entity(self, entity: Any) -> None:
        """Shows a conductor as alive until this board object is closed or its process ends."""
        if entity.kind != _CONDUCTOR:
            raise excp.NotImplementedError(f"only conductors register on a board, not {visible(entity.kind)}")
        # All of this board object's are written anew: another that comes at this moment must know of this one.
        with self._mirror.lock:
            entities = self._entities | {str(entity.name): jsonutils.dumps(entity.to_dict())}
            with self._act(durable=False, session=True) as act:
                act.register(entities)
            self._entities = entities

    # -- the ledger ----------------------------------------------------------------------------------------------------
    def attempts(self, job: taskflow_base.Job) -> AttemptRecord:
        self._need_connection()
        reader = self._mirror.reader
        with self._database.reading() as connection:
            for entry in reader.jobs(connection, [job.uuid]):
                return known_record(entry)
            for binned in reader.binned(connection, [job.uuid]):
                return known_record(binned)
        raise excp.NotFound(f"job {visible(job.uuid)} is neither on the board nor in the bin")

    def settle(self, job: taskflow_base.Job, policy: Policy, *, excused: bool = False) -> AttemptRecord:
        entry = self._read(job.uuid)
        if entry is not None and entry.claim is None and known_record(entry).open_attempt is None:
            return known_record(entry)
        with self._act(durable=True) as act:
            entry = act.job(job.uuid)
            if entry.claim is not None:
                raise excp.UnclaimableJob(f"job {visible(job.uuid)} is claimed by {visible(entry.claim.owner)}")
            record = attempts.deserted(known_record(entry), utcnow(), policy=policy, excused=excused)
            act.release(entry, record)
        return record

    # -- the circuit breaker -------------------------------------------------------------------------------------------
    def set_breaker(self, state: Breaker, expected: Breaker) -> bool:
        if self.read_only:
            self.picture.set_breaker(state)
            return True
        try:
            with self._act(durable=False) as act:
                written = act.set_breaker(state, expected)
        except Refused:
            # Neither do the attempts count then, for nothing can be written.
            self.picture.set_breaker(state)
            return True
        return written

    def holds(self, job: taskflow_base.Job) -> bool:
        if not self.connected:
            return False
        entry = self.picture.get(job.uuid)
        if entry is None or entry.claim is None:
            return False
        if self._mirror.file_gone:
            # Whoever is told so stops its work for good: should the file come back, nobody would let the job go.
            self._end_session()
            return False
        return entry.claim.session == self._session and self._same(job, entry.claim)

    def _same(self, job: taskflow_base.Job, claim: Claim) -> bool:
        """Whether a claim is the very one that was made with this job object, where one was made with it."""
        return self._claimed.get(job, claim.id) == claim.id

    # -- an operator's acts --------------------------------------------------------------------------------------------
    def bin(self, entry: JobEntry, who: str, why: str, *, unless: Unless = None) -> str:
        with self._act(durable=True) as act:
            now = utcnow()
            entry = act.as_seen(entry)
            record = _settled(entry, now)
            forbidden(entry, record, unless)
            act.move_to_bin(entry, record, who, why, now)
        return entry.key

    def delete(self, entry: JobEntry | BinEntry, *, unless: Unless = None) -> None:
        with self._act(durable=True) as act:
            if isinstance(entry, BinEntry):
                act.purge(act.binned_as_seen(entry))
            else:
                entry = act.as_seen(entry)
                forbidden(entry, _settled(entry, utcnow()), unless)
                act.remove(entry)

    def restore(self, entry: BinEntry, *, unless: Unless = None) -> str:
        with self._act(durable=True) as act:
            entry = act.binned_as_seen(entry)
            forbidden(entry, known_record(entry), unless)
            act.put_back(entry)
        return entry.key

    def hold(self, entry: JobEntry, until: datetime | None, *, unless: Unless = None) -> None:
        with self._act(durable=True) as act:
            entry = act.as_seen(entry)
            if entry.claim is not None:
                raise Changed(f"job {visible(entry.name)} is claimed by {visible(entry.claim.owner)}")
            record = _settled(entry, utcnow())
            forbidden(entry, record, unless)
            if entry.record is not None or until is not None:
                act.release(entry, attempts.held(record, until))

    def release(self, entry: JobEntry) -> None:
        with self._act(durable=True) as act:
            entry = act.as_seen(entry)
            if entry.claim is None:
                raise unclaimed(entry)
            act.release(entry, attempts.closed(known_record(entry), "revoked", utcnow()))


def _settled(entry: JobEntry, now: datetime) -> AttemptRecord:
    """The entry's record; an attempt that a dead process left open is closed."""
    record = known_record(entry)
    return attempts.deserted(record, now) if entry.claim is None else record
