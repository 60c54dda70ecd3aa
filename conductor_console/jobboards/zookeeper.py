"""The ZooKeeper jobboard: TaskFlow's layout and manners, followed live, each attempt counted.

It can share a path with TaskFlow's own boards and conductors; neither side notices. The parts: ``zk_paths`` (where
things lie), ``zk_client`` (transactions, reads), ``zk_model`` (what is known), ``zk_mirror`` (following),
``zk_requests``, ``zk_ledger``, ``zk_acts``, ``zk_operator`` (what is done), ``zk_claims`` (what is ours).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
from oslo_serialization import jsonutils
from oslo_utils import uuidutils
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import postings
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.base import BinEntry, BoardEvent, BoardJob, Changed, JobEntry, Listing, Refused
from conductor_console.jobboards.common import PicturedBoard
from conductor_console.jobboards.zk_acts import ConductorActs, Held
from conductor_console.jobboards.zk_claims import Claims
from conductor_console.jobboards.zk_client import (
    DEFAULT_TIMEOUT,
    LARGEST_REQUEST,
    LOG,
    NO_RIGHTS,
    UNKNOWN_OUTCOME,
    OutcomeUnknown,
    describe,
    end_client,
    hosts_of,
    make_client,
    need_connection,
)
from conductor_console.jobboards.zk_mirror import Mirror
from conductor_console.jobboards.zk_model import NO_OWNER, BoardModel, read_job
from conductor_console.jobboards.zk_operator import OperatorActs
from conductor_console.jobboards.zk_paths import DEFAULT_PATH, BoardPaths
from conductor_console.text import size, visible

#: TaskFlow's kind of the only entities it registers (``Conductor.ENTITY_KIND``; importing that loads all engines).
_CONDUCTOR: Final = "conductor"
#: How long an operator's act waits to see itself in the listing; it is done either way.
_SHOW_SECONDS: Final = 5.0


class ZookeeperJobBoard(PicturedBoard):
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
        policy: Policy | None = None,
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
        self._entities: dict[str, Any] = {}
        self._model = BoardModel(self.picture)
        self._acts = ConductorActs(self._client, self._paths, self._model)
        self._operator = OperatorActs(self._client, self._paths, self._model)
        self._mirror = Mirror(
            self._client,
            self._paths,
            self._model,
            name,
            self._hosts,
            on_round=self._in_step,
            on_silence=lambda: self._claims.silence(),
            on_lost=lambda: self._claims.session_over(),
        )
        self._claims = Claims(
            self._acts,
            self._model,
            self._session_seconds,
            self._mirror.wait_connected,
            lambda entry: self._publish(BoardEvent("released", entry.key, replace(entry, claim=None))),
        )

    # -- where it is -------------------------------------------------------------------------------------------------
    @property
    def path(self) -> str:
        """The path that the postings lie under."""
        return self._paths.board

    @property
    def trash_path(self) -> str:
        """The path of the bin."""
        return self._paths.trash

    @property
    def entity_path(self) -> str:
        """The path that entities register under, by kind."""
        return self._paths.entities

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
                self._start_client(timeout)
                self._need_board()
                self._dispatcher.start()
                self._connected = True
                self._mirror.start()
                self._mirror.refresh(timeout)
            except BaseException:
                self.close()
                raise

    def _start_client(self, timeout: float) -> None:
        try:
            self._client.start(timeout=float(timeout))
        except (k_exceptions.KazooException, KazooTimeoutError) as error:
            raise BoardUnreachable(
                f"cannot reach ZooKeeper at {self._hosts} within {timeout:g} s: is it running, is the address right?"
            ) from error

    def _need_board(self) -> None:
        if self._ensured:
            self._make_folders()
        with self._talking("look for the board"):
            if self._acts.ask(self._client.exists_async, self.path) is None:
                raise BoardUnreachable(
                    f"there is no board at {self.path} on {self._hosts}: check the path, or make one with "
                    "`conductor-console init` (`conductor-console run` makes it too)"
                )

    def ensure(self) -> None:
        self._may("make the board")
        with self._life:
            self._ensured = True
            try:
                self._start_client(DEFAULT_TIMEOUT)
                self._make_folders()
            except BaseException:
                if not self._connected:
                    self.close()
                raise

    def _make_folders(self) -> None:
        with self._talking(f"make the board at {self.path} on {self._hosts}"):
            try:
                self._acts.ensure_folder(self._paths.board)
                self._acts.ensure_folder(self._paths.trash)
            except NO_RIGHTS as error:
                raise BoardUnreachable(f"no rights to make the board at {self.path} on {self._hosts}") from error
            with contextlib.suppress(*NO_RIGHTS):
                # Without it all works, uncounted.
                self._acts.ensure_folder(self._paths.attempts)

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
    def listing(self) -> Listing:
        offset, uncounted = self._model.clock_offset.total_seconds(), self._model.uncounted
        return replace(super().listing(), clock_offset=offset, uncounted=uncounted)

    def refresh(self) -> None:
        self._need_open()
        with self._talking("read the board"):
            # A follower may lag behind the leader: let it catch up first.
            self._acts.ask(self._client.sync_async, self.path)
        self._mirror.refresh(self._session_seconds)

    def freshen(self) -> None:
        self._need_open()
        with self._talking("read the board"):
            self._acts.ask(self._client.sync_async, self.path)
        self._mirror.refresh(self._session_seconds, ("jobs",))

    def job_state(self, job: taskflow_base.Job) -> str:
        with self._talking(f"read the state of job {job.uuid}"):
            lock = self._acts.read_lock(job.entry.node)
            try:
                self._acts.need_job(job.entry)
            except excp.NotFound:
                return states.COMPLETE
        # As TaskFlow sees it: a lock that names no owner is nobody's.
        return states.UNCLAIMED if lock is None or lock.claim.owner == NO_OWNER else states.CLAIMED

    def find_owner(self, job: taskflow_base.Job) -> str | None:
        with self._talking(f"find the owner of job {job.uuid}"):
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
        if len(raw) > LARGEST_REQUEST:
            raise Refused(f"the posting is too big for ZooKeeper: {size(len(raw))} of {size(LARGEST_REQUEST)}")
        with self._talking("post", f"job {uuid} may or may not have been posted"):
            need_connection(self._client)
            try:
                path, stat = self._client.create(self._paths.posting, value=raw, sequence=True, include_data=True)
            except k_exceptions.NoNodeError as error:
                raise BoardUnreachable(
                    f"there is no board at {self.path}: make it with `conductor-console init`"
                ) from error
        node = path.rpartition("/")[2]
        self._model.job_read(node, raw, stat)
        return self.make_job(self._model.entry_at(node) or read_job(node, raw, stat), book)

    def candidates(self, now: datetime) -> tuple[Sequence[BoardJob], datetime | None]:
        """See the base. ``now``, and the hold's end, are the local clock's; the board's clock is seen to here."""
        offset = self._model.clock_offset
        jobs, end = super().candidates(now + offset)
        return jobs, None if end is None else end - offset

    def attempts(self, job: taskflow_base.Job) -> AttemptRecord:
        entry = job.entry
        with self._talking(f"read the attempts of job {job.uuid}"):
            ledger = self._acts.read_ledger(entry.key)
            if ledger.version is None and self.picture.get_binned(entry.key) is None:
                self._acts.need_job(entry)
        return ledger.record

    def settle(self, job: taskflow_base.Job, policy: Policy) -> AttemptRecord:
        self._may("settle")
        with self._talking(f"settle job {job.uuid}"):
            return self._acts.settle(self._now(job), policy)

    @taskflow_base.check_who
    def claim(self, job: taskflow_base.Job, who: str, *, unless: Callable[[AttemptRecord], bool] | None = None) -> None:
        self._may("claim")
        with self._talking(f"claim job {job.uuid}"):
            self._claims.take(job, self._now(job), who, unless)

    def holds(self, job: taskflow_base.Job) -> bool:
        return self._claims.holds(job)

    @taskflow_base.check_who
    def consume(self, job: taskflow_base.Job, who: str) -> None:
        held = self._ours(job, who, "consume")
        with self._talking(f"consume job {job.uuid}"):
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
        with self._talking(f"abandon job {job.uuid}"):
            self._claims.finish(held, "abandon", lambda: self._acts.abandon(held, outcome, error, hold))

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
        with self._talking(f"trash job {job.uuid}"):
            self._claims.finish(held, "trash", lambda: self._acts.trash(held, why, outcome, error))

    def _ours(self, job: taskflow_base.Job, who: str, act: str) -> Held:
        """The claim that ``who`` has on the job.

        :raises NotFound: nobody has one, or the job is gone. :raises JobFailure: another has it.
        """
        self._may(act)
        held = self._claims.held(job)
        if held is not None and held.owner == who:
            return held
        with self._talking(f"{act} job {job.uuid}"):
            lock = self._acts.read_lock(job.entry.node)
        if lock is None:
            raise excp.NotFound(f"cannot {act} job {job.uuid}: nobody holds it, or it is gone")
        if lock.claim.owner == who:
            raise excp.NotFound(f"cannot {act} job {job.uuid}: it was claimed anew since")
        raise excp.JobFailure(f"cannot {act} job {job.uuid}: {visible(lock.claim.owner)} holds it, not {visible(who)}")

    # -- an operator's acts --------------------------------------------------------------------------------------------
    def bin(self, entry: JobEntry, who: str, why: str) -> None:
        self._may("bin")
        with self._talking(f"bin job {visible(entry.name)}"):
            self._operator.bin(entry, who, why)
        self._show()

    def delete(self, entry: JobEntry | BinEntry) -> None:
        self._may("delete")
        with self._talking(f"delete job {visible(entry.name)}"):
            if isinstance(entry, BinEntry):
                self._operator.purge(entry, record_too=self.picture.get(entry.key) is None)
            else:
                self._operator.delete(entry)

    def restore(self, entry: BinEntry) -> str:
        self._may("restore")
        if self.picture.get(entry.key) is not None:
            raise Changed(f"job {visible(entry.name)} is on the board already")
        with self._talking(f"restore job {visible(entry.name)}"):
            node = self._operator.restore(entry)
        self._show()
        shown = self._model.entry_at(node)
        return shown.key if shown is not None else postings.key_of(entry.uuid, node)

    def retry(self, entry: JobEntry) -> None:
        self._may("retry")
        with self._talking(f"retry job {visible(entry.name)}"):
            self._operator.retry(entry)

    def _show(self) -> None:
        """What was done is shown before the act returns, if that can be had soon."""
        with contextlib.suppress(BoardUnreachable):
            self._mirror.refresh(_SHOW_SECONDS)

    # -- entities ------------------------------------------------------------------------------------------------------
    def register_entity(self, entity: Any) -> None:
        """Registers a conductor for as long as the session lives, and again in each session that follows.

        :raises NotImplementedError: (TaskFlow's) for other kinds.
        """
        if entity.kind != _CONDUCTOR:
            raise excp.NotImplementedError(f"cannot register entities of kind {entity.kind!r}")
        self._may("register a conductor")
        with self._talking(f"register {visible(entity.name)} under {self._paths.conductors}"):
            self._register(entity)
        with self._life:
            self._entities[entity.name] = entity

    def _register(self, entity: Any) -> None:
        self._acts.ensure_folder(self._paths.conductors)
        value = jsonutils.dumps(entity.to_dict()).encode()
        with contextlib.suppress(k_exceptions.NodeExistsError):
            self._acts.ask(self._client.create_async, self._paths.conductor(entity.name), value, ephemeral=True)

    def _in_step(self) -> None:
        """On the board's thread, whenever all that moved was read."""
        self._claims.in_step()
        try:
            for name, entity in list(self._entities.items()):
                if not self._model.is_registered(name):
                    self._register(entity)
            if self._writes and self._model.orphans():
                self._acts.sweep()
        except NO_RIGHTS:
            self._writes = False
        except (k_exceptions.KazooException, BoardUnreachable) as error:
            LOG.info("the board could not be tidied: %s", describe(error))

    # -- guards --------------------------------------------------------------------------------------------------------
    def _may(self, act: str) -> None:
        if self._read_only:
            raise Refused(f"cannot {act}: this board was opened read only")
        self._writes = True

    def _need_open(self) -> None:
        if not self._connected:
            raise BoardUnreachable("the board is closed: connect() first")

    def _now(self, job: taskflow_base.Job) -> JobEntry:
        """The job as it is known now; as the job object knows it where it is no longer listed."""
        entry: JobEntry = self._model.entry_at(job.entry.node) or job.entry
        return entry

    @contextlib.contextmanager
    def _talking(self, act: str, doubt: str = "look whether it was done") -> Iterator[None]:
        """Whatever ZooKeeper or the connection raise, as the one line that TaskFlow and people expect."""
        try:
            yield
        except (OutcomeUnknown, *UNKNOWN_OUTCOME) as error:
            raise BoardUnreachable(f"cannot {act}: {describe(error)}; {doubt}") from error
        except NO_RIGHTS as error:
            raise Refused(f"cannot {act}: no rights") from error
        except k_exceptions.KazooException as error:
            raise BoardUnreachable(f"cannot {act}: {describe(error)}") from error
