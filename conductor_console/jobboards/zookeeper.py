"""The ZooKeeper jobboard: TaskFlow's layout and manners, followed live, each attempt counted.

It can share a path with TaskFlow's own boards and conductors; neither side notices. The parts: ``zk_paths`` (where
things lie), ``zk_client`` (transactions, reads), ``zk_model`` (what is known), ``zk_mirror`` (following),
``zk_requests``, ``zk_ledger``, ``zk_acts``, ``zk_operator``, ``zk_bulk`` (what is done), ``zk_claims`` (what is ours).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from oslo_utils import uuidutils
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import postings
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.base import (
    BinEntry,
    BoardEvent,
    BoardJob,
    Claim,
    EntityEntry,
    Fate,
    JobEntry,
    Listing,
    Refused,
)
from conductor_console.jobboards.breaker import Breaker
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.jobboards.zk_acts import ConductorActs, Held
from conductor_console.jobboards.zk_breaker import BreakerNode
from conductor_console.jobboards.zk_bulk import BulkActs
from conductor_console.jobboards.zk_claims import Claims
from conductor_console.jobboards.zk_client import (
    DEFAULT_TIMEOUT,
    LOG,
    NO_RIGHTS,
    describe,
    end_client,
    hosts_of,
    make_client,
    start_client,
)
from conductor_console.jobboards.zk_entities import Entities
from conductor_console.jobboards.zk_mirror import FOLDERS, Folder, Mirror
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import NO_OWNER, read_job
from conductor_console.jobboards.zk_operated import OperatedBoard
from conductor_console.jobboards.zk_operator import OperatorActs
from conductor_console.jobboards.zk_paths import DEFAULT_PATH, BoardPaths, Placed
from conductor_console.jobboards.zk_requests import called, talking
from conductor_console.jobboards.zk_watch import OURS, WatcherActs
from conductor_console.text import visible

#: Sweeping may take so much less of the board's thread's time than all else.
_SWEEP_EVERY: Final = 20


class ZookeeperJobBoard(Placed, OperatedBoard):
    """A jobboard on ZooKeeper. See :class:`~conductor_console.jobboards.base.LedgerBoard` for what each call means.

    :param conf: TaskFlow's: ``hosts``, ``path``, ``timeout`` (the session's, seconds), ``auth_data``, TLS options.
    :param client: a kazoo client to use; it stays the caller's, who ends it. None: one of our own.
    :param persistence: where the jobs' logbooks are.
    :param emit_notifications: whether TaskFlow's POSTED and REMOVAL are emitted on ``notifier``.
    :param read_only: every act is refused.
    """

    def __init__(
        self,
        name: str,
        conf: Mapping[str, Any],
        client: KazooClient | None = None,
        persistence: Any = None,
        emit_notifications: bool = True,
        policy: AnyPolicy | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(name, conf, persistence, emit_notifications)
        self.policy = policy
        self._paths = BoardPaths(str(conf.get("path", DEFAULT_PATH)))
        self._hosts = visible(hosts_of(conf)) if client is None or "hosts" in conf else "the given client's hosts"
        self._owned = client is None
        self._client = make_client(conf) if client is None else client
        self._session_seconds = float(conf.get("timeout", DEFAULT_TIMEOUT))
        self._read_only = read_only
        self._life = threading.RLock()
        self._connected = False
        self._ensured = False
        self._writes = False
        self._sweep_after = 0.0
        self._put_off = False
        self._model = BoardModel(self.picture)
        self._acts = ConductorActs(self._client, self._paths, self._model)
        self._operator = OperatorActs(self._client, self._paths, self._model)
        self._bulk = BulkActs(self._operator, lambda: self._mirror.reads_many)
        self._watcher = WatcherActs(self._client, self._paths, self._model, in_memory=read_only)
        self._entities = Entities(self._acts, self._model)
        self._breaker = BreakerNode(self._acts, self.picture, in_memory=read_only)
        self._mirror = Mirror(
            self._client,
            self._paths,
            self._model,
            self._breaker,
            name,
            self._hosts,
            on_round=self._in_step,
            on_quiet=self._quiet,
            on_lost=lambda expired: self._claims.session_over() if expired else self._claims.connection_lost(),
        )
        self._claims = Claims(
            self._acts,
            self._model,
            self._session_seconds,
            self._mirror.wait_connected,
            self._mirror.look_again,
            lambda entry: self._publish(BoardEvent("released", entry.key, replace(entry, claim=None))),
        )

    # -- life ----------------------------------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        return self._connected and bool(self._client.connected)

    def connect(self, timeout: float = 10.0) -> None:
        """Connects, writing nothing, and returns when the first listing is complete.

        :param timeout: seconds for each of the two.
        :raises BoardUnreachable: no answer, or there is no board at this path.
        """
        with self._life:
            if self._connected:
                return
            self.picture.set_connection("connecting", f"connecting to {self._hosts}")
            try:
                start_client(self._client, self._hosts, timeout)
                if self._ensured:
                    self._acts.make_board(self._hosts)
                self._acts.need_board(self._hosts)
                self._dispatcher.start()
                self._connected = True
                self._mirror.start()
                self._mirror.refresh(timeout)
            except BaseException:
                self.close()
                raise

    def ensure(self) -> None:
        self._may("make the board")
        with self._life:
            self._ensured = True
            try:
                start_client(self._client, self._hosts, DEFAULT_TIMEOUT)
                self._acts.make_board(self._hosts)
            except BaseException:
                if not self._connected:
                    self.close()
                raise

    def close(self) -> None:
        with self._life:
            was_open, self._connected = self._connected, False
            self._mirror.stop()
            if self._owned:
                end_client(self._client)
                self._claims.session_over()
                self._entities.clear()
            self._mirror.join()
            if was_open or self.picture.listing().connection.state != "closed":
                self.picture.set_connection("closed", "closed")
            self._dispatcher.stop()

    # -- watching ------------------------------------------------------------------------------------------------------
    @property
    def uncounted(self) -> str | None:
        return self._model.uncounted

    @property
    def clock_offset(self) -> float:
        return self._model.clock_offset.total_seconds()

    def listing(self) -> Listing:
        creations = self._model.creations
        return replace(
            super().listing(),
            clock_offset=self.clock_offset,
            uncounted=self.uncounted,
            unseen=max(0, creations.unseen),
            unseen_since=creations.since,
        )

    def set_breaker(self, state: Breaker, expected: Breaker) -> bool:
        with talking("write the circuit breaker's state"):
            return self._breaker.write(state, expected)

    def refresh(self) -> None:
        self._read(FOLDERS)
        with talking("read the circuit breaker's state"):
            self._breaker.look()

    def freshen(self) -> None:
        self._read(("jobs",))

    def _read(self, folders: tuple[Folder, ...]) -> None:
        self._need_open()
        with talking("read the board"):
            # A follower may lag behind the leader: let it catch up first.
            self._acts.ask(self._client.sync_async, self.path)
        self._mirror.refresh(self._session_seconds, folders)

    def job_state(self, job: taskflow_base.Job) -> str:
        with talking(f"read the state of job {called(job)}"):
            lock = self._acts.read_lock(job.entry.node)
            try:
                self._acts.need_job(job.entry)
            except excp.NotFound:
                return states.COMPLETE
        # As TaskFlow sees it: a lock that names no owner is nobody's. One that may not be read is somebody's.
        free = lock is None or (lock.readable and lock.claim.owner == NO_OWNER)
        return states.UNCLAIMED if free else states.CLAIMED

    def find_owner(self, job: taskflow_base.Job) -> str | None:
        with talking(f"find the owner of job {called(job)}"):
            self._acts.ask(self._client.sync_async, self._paths.lock(job.entry.node))
            lock = self._acts.read_lock(job.entry.node)
        return None if lock is None or lock.claim.owner == NO_OWNER else lock.claim.owner

    # -- working -------------------------------------------------------------------------------------------------------
    def post(
        self,
        name: str,
        book: Any = None,
        details: Mapping[str, Any] | None = None,
        priority: JobPriority | str = JobPriority.NORMAL,
    ) -> BoardJob:
        self._may("post")
        self._need_open()
        uuid = uuidutils.generate_uuid()
        raw = postings.format_posting(uuid, name, book, details, JobPriority.convert(priority))
        with talking("post", f"job {uuid} may or may not have been posted"):
            node, stat = self._acts.post(raw)
        self._model.job_read(node, raw, stat)
        return self.make_job(self._model.entry_at(node) or read_job(node, raw, stat), book)

    def candidates(self, now: datetime) -> tuple[Sequence[BoardJob], datetime | None]:
        """See the base. ``now``, and the hold's end, are the local clock's; the board's clock is seen to here."""
        offset = self._model.clock_offset
        jobs, end = super().candidates(now + offset)
        if end is not None:
            with contextlib.suppress(OverflowError):  # a hold to the end of time
                end -= offset
        return jobs, end

    def attempts(self, job: taskflow_base.Job) -> AttemptRecord:
        entry = job.entry
        with talking(f"read the attempts of job {called(job)}"):
            ledger = self._acts.read_ledger(entry.key)
            if ledger.version is None and self.picture.get_binned(entry.key) is None:
                self._acts.need_job(entry)
        return ledger.record

    def settle(self, job: taskflow_base.Job, policy: Policy, *, excused: bool = False) -> AttemptRecord:
        self._may("settle")
        with talking(f"settle job {called(job)}"):
            return self._acts.settle(self._model.known(job.entry), policy, excused=excused)

    @taskflow_base.check_who
    def claim(
        self, job: taskflow_base.Job, who: str, *, unless: Callable[[AttemptRecord], bool] | None = None
    ) -> AttemptRecord | None:
        self._may("claim")
        with talking(f"claim job {called(job)}"):
            ledger = self._claims.take(job, self._model.known(job.entry), who, unless).ledger
        return None if ledger is None else ledger.record

    def holds(self, job: taskflow_base.Job) -> bool:
        return self._claims.holds(job)

    @property
    def claim_seconds(self) -> float | None:
        return self._session_seconds

    def confirm(self, job: taskflow_base.Job) -> bool:
        with talking(f"look after the claim on job {called(job)}"):
            return self._claims.confirm(job)

    @taskflow_base.check_who
    def consume(self, job: taskflow_base.Job, who: str) -> None:
        held = self._ours(job, who, "consume")
        with talking(f"consume job {called(job)}"):
            self._claims.finish(held, "consume", lambda: self._acts.consume(held))

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
        held = self._ours(job, who, "abandon")
        with talking(f"abandon job {called(job)}"):
            self._claims.finish(held, "abandon", lambda: self._acts.abandon(held, outcome, error, hold), outcome)

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
        held = self._ours(job, who, "trash")
        with talking(f"trash job {called(job)}"):
            self._claims.finish(held, "trash", lambda: self._acts.trash(held, why, outcome, error), outcome)

    def _ours(self, job: taskflow_base.Job, who: str, act: str) -> Held:
        """The claim that ``who`` has on the job.

        :raises NotFound: nobody has one, or the job is gone. :raises JobFailure: another has it.
        """
        self._may(act)
        held = self._claims.held(job)
        if held is not None and held.owner == who:
            return held
        with talking(f"{act} job {called(job)}"):
            raise self._acts.not_held(job, who, act)

    # -- counting for others -------------------------------------------------------------------------------------------
    def foreign(self, claim: Claim) -> bool:
        # Where the ledger may not be written, nobody but a watcher counts ours either.
        return claim.version != OURS or self._model.uncounted is not None

    def registrant(self, claim: Claim) -> EntityEntry | None:
        return self._model.entity_of(claim.session)

    def count_claim(self, entry: JobEntry, claim: Claim) -> None:
        with self._counting(entry.name):
            self._watcher.count_claim(entry, claim)

    def count_end(self, entry: JobEntry | BinEntry, claim: Claim, outcome: Outcome, error: Cause | None = None) -> None:
        with self._counting(entry.name):
            self._watcher.count_end(entry, claim, outcome, error)

    def fate(self, claim: Claim, entity: EntityEntry | None) -> Fate:
        with talking(f"look after {visible(claim.owner)}"):
            return self._watcher.fate(claim, entity)

    def _counting(self, job: str) -> contextlib.AbstractContextManager[None]:
        self._writes = not self._read_only
        return talking(f"count an attempt of job {visible(job)}")

    # -- entities ------------------------------------------------------------------------------------------------------
    def register_entity(self, entity: Any) -> None:
        """Registers a conductor for as long as the session lives, and again in each session that follows.

        :raises NotImplementedError: (TaskFlow's) for other kinds.
        """
        self._entities.check(entity)
        self._may("register a conductor")
        with talking(f"register {visible(entity.name)} under {self._paths.conductors}"):
            self._entities.register(entity)

    def _in_step(self) -> None:
        """On the board's thread, whenever all that moved was read."""
        self._claims.in_step()
        with self._tidying():
            self._entities.in_step()
            self._sweep()

    @contextlib.contextmanager
    def _tidying(self) -> Iterator[None]:
        try:
            yield
        except NO_RIGHTS:
            self._writes = False
        except (k_exceptions.KazooException, BoardUnreachable) as error:
            LOG.info("the board could not be tidied: %s", describe(error))

    def _sweep(self) -> None:
        began = time.monotonic()
        wanted = self._writes and bool(self._model.orphans())
        self._put_off = wanted and began < self._sweep_after
        if wanted and not self._put_off:
            self._acts.sweep()
            # It lists the whole board: that is to be a small part of what the thread does, however much there is.
            now = time.monotonic()
            self._sweep_after = now + _SWEEP_EVERY * (now - began)

    def _quiet(self, connected: bool) -> None:
        """On the board's thread, about once a second while there is nothing to read."""
        if connected:
            # Only what was put off: what a sweep left is left until something moves, or a quiet board would be listed
            # for ever.
            if self._put_off:
                with self._tidying():
                    self._sweep()
        elif self._claims.silence() and self._owned and self._client.last_zxid:
            # A server whose data are those of a backup refuses whoever saw later ones, for ever. Our session's time is
            # over, so that nothing is lost by beginning anew, whatever we find.
            self._client.last_zxid = 0
            self._mirror.begin_anew()

    # -- guards --------------------------------------------------------------------------------------------------------
    def _may(self, act: str) -> None:
        if self._read_only:
            raise Refused(f"cannot {act}: this board was opened read only")
        self._writes = True

    def _need_open(self) -> None:
        if not self._connected:
            raise BoardUnreachable("the board is closed: connect() first")
