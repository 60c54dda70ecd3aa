"""What our conductors share: the loop that claims jobs, and TaskFlow's ``Conductor`` interface around it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from datetime import datetime
from typing import Any, Final

from taskflow import exceptions as excp
from taskflow.conductors import base as taskflow_base
from taskflow.jobs.base import Job
from taskflow.listeners import logging as logging_listener
from taskflow.types import timing

from conductor_console.clock import utcnow
from conductor_console.conductors import making
from conductor_console.conductors.backoff import Backoff
from conductor_console.conductors.boards import BoardPort, Ending, LedgerPort, PlainPort
from conductor_console.conductors.causes import cause_of
from conductor_console.conductors.closing import close_attempt, journal_untold
from conductor_console.conductors.dispatch import JobRun, OnFailure
from conductor_console.conductors.engines import Engines
from conductor_console.conductors.factories import FactoryRule, Gate
from conductor_console.conductors.flights import IN_FLIGHT
from conductor_console.conductors.stores import StorePort
from conductor_console.jobboards.attempts import AttemptRecord, Policy
from conductor_console.jobboards.base import Changed, LedgerBoard, Refused
from conductor_console.jobboards.breaker import RULE, Rule
from conductor_console.jobboards.common import identity
from conductor_console.jobboards.policies import AnyPolicy, with_limit
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Seconds after which a conductor looks again although no event told it to: a net for events that got lost.
SAFETY_NET: Final = 30.0
#: Seconds between two looks whether writes to the store wait for it; what it costs is nothing.
STORE_CHECK: Final = 1.0


class ExecutorConductor(taskflow_base.Conductor):
    """Claims jobs and runs each in an executor. Events on ``notifier`` are TaskFlow's, in its order, and

    * ``job_trashed`` and ``job_deleted`` (job, conductor, persistence);
    * ``job_passed_over`` (job, conductor, factory): its factory is not allowed here;
    * ``attempt_closed`` (job, conductor, outcome, error, seconds, flow_uuid): last of a job's.

    :param wait_timeout: seconds between looks at a board that is not ours (default 0.5); ours wake us by themselves.
    :param log: a logger that is told each job's progress, results included, at DEBUG.
    :param max_simultaneous_jobs: none or fewer means as many as the executor takes.
    :param policy: what repeated failure leads to, for all jobs or by their names (default: the board's own);
        ``max_attempts`` changes only that of it.
    :param allow_factories: patterns of factories that may be run, see
        :class:`~conductor_console.conductors.factories.FactoryRule`.
    :param on_failure: what becomes of a job whose flow failed.
    :param factory_timeout: seconds that importing and calling a flow's factory may take; a job whose factory takes
        longer goes to the bin.
    :param breaker: when the circuit breaker opens, and how this conductor slows down then.
    :raises ValueError: for a parameter that makes no sense. :raises UsageError: for an empty pattern, an engine that is
        not there, options that it does not take.
    """

    WAIT_TIMEOUT = 0.5
    MAX_SIMULTANEOUS_JOBS = -1
    EVENTS_EMITTED = (
        "compilation_start",
        "compilation_end",
        "preparation_start",
        "preparation_end",
        "validation_start",
        "validation_end",
        "running_start",
        "running_end",
        "job_consumed",
        "job_abandoned",
        "job_trashed",
        "job_deleted",
        "job_passed_over",
        "attempt_closed",
    )
    #: Failures of these kinds are the surroundings' fault, not the flow's: such a job is not consumed.
    NO_CONSUME_EXCEPTIONS = (excp.ExecutionFailure, excp.StorageFailure)

    def __init__(
        self,
        name: str,
        jobboard: Any,
        persistence: Any = None,
        engine: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
        wait_timeout: float | str | None = None,
        log: logging.Logger | None = None,
        max_simultaneous_jobs: int | None = None,
        policy: AnyPolicy | None = None,
        max_attempts: int | None = None,
        allow_factories: Sequence[str] | None = None,
        on_failure: OnFailure = "consume",
        factory_timeout: float = making.FACTORY_SECONDS,
        breaker: Rule = RULE,
    ) -> None:
        super().__init__(name, jobboard, persistence=persistence, engine=engine, engine_options=engine_options)
        pause = timing.convert_to_timeout(value=wait_timeout, default_value=self.WAIT_TIMEOUT).value
        if on_failure not in ("consume", "abandon", "bin"):
            raise ValueError(f"on_failure is consume, abandon or bin, not {on_failure!r}")
        policy = policy or getattr(jobboard, "policy", None) or Policy()
        policy = policy if max_attempts is None else with_limit(policy, max_attempts)
        if not factory_timeout > 0:
            raise ValueError(f"factory_timeout is a number of seconds, not {factory_timeout}")
        self._factory_seconds = factory_timeout
        self._engines = Engines(engine, engine_options)
        if self._engines.unknown:
            LOG.warning("the engine passes over what it does not know: %s", ", ".join(sorted(self._engines.unknown)))
        limit = self.MAX_SIMULTANEOUS_JOBS if max_simultaneous_jobs is None else int(max_simultaneous_jobs)
        self._limit = limit if limit > 0 else None
        self._log = log
        self.store = StorePort(persistence)
        self.board: BoardPort = (
            LedgerPort(jobboard, name, lambda: identity(name), policy, self._binned, breaker, persistence)
            if isinstance(jobboard, LedgerBoard)
            else PlainPort(jobboard, name, pause)
        )
        self.gate = Gate(FactoryRule(allow_factories), persistence)
        self.on_failure: OnFailure = on_failure
        self._backoff = Backoff()
        self._wake = threading.Event()
        self._stop = threading.Event()
        # The same for whoever waits for something else as well.
        self._stopped: futures.Future[None] = futures.Future()
        self._drain = False
        self._dead = threading.Event()
        self._paused = False
        self._registered = False
        self._running: dict[str, Job] = {}
        self._error: BaseException | None = None
        self._store_suspect = False

    # -- for whoever runs it -----------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return str(self._name)

    @property
    def dispatching(self) -> bool:
        """Whether :meth:`run` has not ended (as TaskFlow has it, also before it began)."""
        return not self._dead.is_set()

    @property
    def jobs(self) -> tuple[str, ...]:
        """The uuids of the jobs that run now."""
        return tuple(self._running)

    @property
    def not_allowed(self) -> Mapping[str, str]:
        """The jobs that were passed over because their factory is not allowed here: job uuid to factory."""
        return self.gate.refused

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def pause(self) -> None:
        """No more jobs are claimed; what runs goes on."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._wake.set()

    def stop(self) -> None:
        """Asks :meth:`run` to end: flows are suspended at the next step, their jobs let go. Returns at once."""
        self._stop.set()
        with contextlib.suppress(futures.InvalidStateError):
            self._stopped.set_result(None)
        self._wake.set()

    def drain(self) -> None:
        """Asks :meth:`run` to end as soon as what runs is finished; nothing more is claimed. Returns at once."""
        self._drain = True
        self._wake.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until :meth:`run` has ended; False when it still has not after ``timeout`` seconds."""
        return self._dead.wait(timeout)

    def run(self, max_dispatches: int | None = None) -> None:
        """Claims and runs jobs until stopped, or until ``max_dispatches`` were dispatched (none or negative: no end).

        A board or a store that does not answer is waited for. The board stays open.
        """
        self._dead.clear()
        self._error = None
        self._registered = False
        unsubscribe = self.board.subscribe(self._rouse, self.gate.forget)
        try:
            with self._engines.threads(), self._executor_factory() as executor:
                try:
                    self._loop(executor, -1 if max_dispatches is None else max_dispatches)
                except BaseException:
                    # What runs must not run on unattended: leaving the executor waits for it.
                    self.stop()
                    raise
            if self._error is not None:
                raise self._error
        finally:
            unsubscribe()
            self._dead.set()

    # -- the loop ----------------------------------------------------------------------------------------------------
    def _executor_factory(self) -> Any:
        raise NotImplementedError

    def _loop(self, executor: Any, left: int) -> None:
        while left != 0 and not (self.stopping or self._drain) and self._error is None:
            # Cleared first: whatever happens from here on is seen either by this look or by the next.
            self._wake.clear()
            try:
                dispatched, again = self._round(executor, left)
            except (excp.JobFailure, excp.StorageFailure) as error:
                wait = self._backoff.next()
                LOG.warning("%s waits %.1f s: %s", visible(self.name), wait, visible(str(error), 500))
                # Events do not shorten this: they may be what the trouble is about.
                self._stop.wait(wait)
                continue
            left -= min(left, dispatched) if left > 0 else 0
            if not dispatched and left != 0:
                self._idle(again)

    def _idle(self, again: datetime | None) -> None:
        wait = SAFETY_NET
        if again is not None:
            # A moment more: a hold that ends now must have ended when it is looked at.
            wait = min(wait, max(0.0, (again - utcnow()).total_seconds()) + 0.005)
        until = time.monotonic() + wait
        # What runs may wait in a write for long, and nobody be told of that.
        while not self._wake.wait(min(wait, STORE_CHECK)) and (wait := until - time.monotonic()) > 0:
            if self.store.troubled:
                return

    def _rouse(self) -> None:
        # Told of each event on the board, and mostly at work: asking costs less than telling once more.
        if not self._wake.is_set():
            self._wake.set()

    def _round(self, executor: Any, left: int) -> tuple[int, datetime | None]:
        """One look at the board. Returns how many jobs were dispatched, and when to look again by itself.

        :raises JobFailure: (or StorageFailure) when the board (or the store) does not answer.
        """
        if not self._registered:
            self._register()
        if self._store_suspect or self.store.troubled or self.board.store_down:
            self._probe()
        if self._full() or self._paused:
            return 0, None
        dispatched = 0
        jobs, again = self.board.look()
        for job in jobs:
            if self._full() or self._paused or self.stopping or self._drain or dispatched == left:
                break
            if not self._take(executor, job):
                continue
            dispatched += 1
            if not self._running:
                # It ran here and is done: by now the rest of this look is old, and better jobs may have come.
                break
        self._backoff.reset()
        return dispatched, again

    def _probe(self) -> None:
        """Asks the store whether it answers. :raises StorageFailure: it does not."""
        self._store_suspect = not self.board.probe(self.store)
        if self._store_suspect:
            raise excp.StorageFailure("the store does not answer")

    def _register(self) -> None:
        try:
            self._jobboard.register_entity(self.conductor)
        except Refused as error:
            LOG.warning("%s works unregistered: %s", visible(self.name), error)
        self._registered = True

    def _full(self) -> bool:
        return self._limit is not None and len(self._running) >= self._limit

    def _take(self, executor: Any, job: Job) -> bool:
        """Claims and dispatches the job, if it is to be had."""
        if not self._admitted(job):
            self.pass_over(job, self.gate.factory(job) or "")
            return False
        if not IN_FLIGHT.enter(job.uuid, self._wake.set):
            return False
        try:
            if not self.board.fit(job):
                IN_FLIGHT.leave(job.uuid)
                return False
            record = self.board.claim(job)
        except (excp.UnclaimableJob, excp.NotFound, Changed, Refused) as error:
            # Somebody was quicker, or this one job is not to be had.
            LOG.debug("job %s is not claimed: %s", visible(job.uuid), visible(str(error), 500))
            IN_FLIGHT.leave(job.uuid)
            return False
        except BaseException:
            IN_FLIGHT.leave(job.uuid)
            raise
        self._running[job.uuid] = job
        try:
            future = executor.submit(self._attempt, job, record)
        except RuntimeError:
            # The executor was shut down behind our back, or there are no more threads to be had.
            self._running.pop(job.uuid, None)
            IN_FLIGHT.leave(job.uuid)
            self.board.close(job, Ending("released", "abandon"))
            raise
        future.add_done_callback(self._look_at)
        return True

    def _admitted(self, job: Job) -> bool:
        """Whether its factory is allowed here, as far as that can be told before it is claimed.

        :raises StorageFailure: when the store does not answer.
        """
        try:
            return self.gate.admits(job)
        except excp.StorageFailure:
            if not self.board.probe(self.store):
                self._store_suspect = True
                raise
            # The store is well, so it is this job that cannot be read. It must not keep the others waiting: claimed,
            # it fails and is counted, and no code of it is run, since the flow is looked at again before that.
            return True

    # -- one job -----------------------------------------------------------------------------------------------------
    def _attempt(self, job: Job, record: AttemptRecord | None) -> None:
        """Runs a claimed job and lets it go; in one of the executor's threads."""
        began = time.monotonic()
        number = self.board.attempt(job, record)
        run = JobRun(self, job, number)
        try:
            try:
                if record is not None:
                    journal_untold(self.store, job, record)
                ending = run.run()
            finally:
                # Before the job is let go: a conductor beside this one hears of that, and may take it at once.
                IN_FLIGHT.leave(job.uuid)
            self._store_suspect = self._store_suspect or run.store_down
            close_attempt(self, job, run, ending, number, began)
        except BaseException as error:
            # A fault of ours must not keep the job claimed with nobody at work on it.
            with contextlib.suppress(Exception):
                self.board.close(job, Ending("abandoned", "abandon", cause_of(error)))
            raise
        finally:
            self._running.pop(job.uuid, None)
            self._wake.set()
        if run.interrupt is not None:
            raise run.interrupt

    def _dispatch_job(self, job: Job) -> None:
        """TaskFlow's name for it."""
        self._attempt(job, None)

    def _binned(self, job: Job, record: AttemptRecord) -> None:
        journal_untold(self.store, job, record)

    def _look_at(self, future: futures.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._error = error
            self._wake.set()

    def tell(self, event: str, details: dict[str, Any]) -> None:
        self._notifier.notify(event, details)

    def pass_over(self, job: Job, factory: str) -> None:
        if self.gate.refuse(job, factory):
            self.tell("job_passed_over", {"job": job, "conductor": self, "factory": factory})

    def _flow_detail_from_job(self, job: Job) -> Any:
        return making.flow_detail_of(job)

    def _engine_from_job(self, job: Job) -> Any:
        detail = self._flow_detail_from_job(job)
        values = making.values_of(detail, job)
        flow = making.flow_of(detail, self._factory_seconds, self._stopped)
        return self._engines.load(flow, detail, values, self._persistence)

    def _listeners_from_job(self, job: Job, engine: Any) -> list[Any]:
        listeners: list[Any] = super()._listeners_from_job(job, engine)
        if self._log is not None:
            listeners.append(logging_listener.LoggingListener(engine, log=self._log))
        return listeners
