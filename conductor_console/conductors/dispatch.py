"""Running one claimed job: its engine made, run, suspended when it must be, and what that means for the job."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.base import Job

from conductor_console.conductors import engines
from conductor_console.conductors.boards import BoardPort, Ending
from conductor_console.conductors.causes import cause_of, import_cause
from conductor_console.conductors.factories import Gate, factory_of
from conductor_console.conductors.making import NoThread, Stopping
from conductor_console.conductors.stores import StorePort
from conductor_console.jobboards.attempts import Cause, make_cause
from conductor_console.jobboards.breaker import RULE
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

_IN_THE_MIDDLE: Final = frozenset({states.RUNNING, states.REVERTING})
#: What becomes of a job whose flow failed.
OnFailure = Literal["consume", "abandon", "bin"]
#: Seconds before a job is tried again that was let go because the store does not answer; it counts as no failure.
STORE_PAUSE: Final = RULE.hold


class ClaimLost(BaseException):
    """Thrown into an engine whose job is no longer ours; no Exception, so that nothing on the way holds it up."""


class Host(Protocol):
    """The conductor, as a job that runs sees it. What is in TaskFlow's spelling are its hooks for subclasses."""

    NO_CONSUME_EXCEPTIONS: tuple[type[BaseException], ...]
    board: BoardPort
    store: StorePort
    gate: Gate
    on_failure: OnFailure

    @property
    def name(self) -> str: ...

    @property
    def stopping(self) -> bool: ...

    def tell(self, event: str, details: dict[str, Any]) -> None:
        """Notifies those who registered with the conductor."""

    def pass_over(self, job: Job, factory: str) -> None:
        """Remembers, and tells, that the job's factory is not allowed here."""

    def _flow_detail_from_job(self, job: Job) -> Any: ...

    def _engine_from_job(self, job: Job) -> Any: ...

    def _listeners_from_job(self, job: Job, engine: Any) -> list[Any]: ...


class JobRun:
    """One attempt at a job that the conductor has claimed.

    :ivar flow_uuid: known once the flow was found.
    :ivar lost: the claim was lost while it ran; nothing more may be written for it.
    :ivar interrupt: an interruption from the keyboard, to be raised again when the job was let go.
    :ivar store_down: the attempt ended because the store does not answer.
    """

    def __init__(self, host: Host, job: Job, attempt: int | None) -> None:
        self._host = host
        self._job = job
        self._attempt = attempt
        self.flow_uuid: str | None = None
        self.lost = False
        self.interrupt: KeyboardInterrupt | None = None
        self.store_down = False
        self._resumes = False

    def run(self) -> Ending:
        """Runs the job; raises nothing. What is to be consumed is durable when this returns."""
        ending = self._run()
        if self.flow_uuid is None:
            return ending
        try:
            if not self.lost:
                self._host.store.flush(self.flow_uuid)
        except excp.StorageFailure as error:
            if ending.act == "consume":
                ending = self.internal(error)
            LOG.warning("%s", visible(str(error), 500))
        finally:
            # Before the job is let go: whoever claims it next, here as well, binds the same flow.
            self._host.store.unbind(self.flow_uuid)
        return ending

    def _run(self) -> Ending:
        # BaseException: a factory or a task that calls sys.exit() ends its attempt, not the conductor.
        try:
            engine = self._engine()
        except (excp.StorageFailure, NoThread) as error:
            return self.internal(error)
        except Stopping:
            return Ending("suspended", "abandon")
        except BaseException as error:
            return self._interrupted(error) or _unusable(cause_of(error))
        if isinstance(engine, Ending):
            return engine
        try:
            return self._run_engine(engine)
        except excp.WrappedFailure as error:
            failures = list(error)
            if failures and all(failure.check(*self._host.NO_CONSUME_EXCEPTIONS) for failure in failures):
                return self.internal(error)
            return self._failed(error, engine)
        except Exception as error:
            if isinstance(error, self._host.NO_CONSUME_EXCEPTIONS):
                return self.internal(error)
            return self._failed(error, engine)
        except ClaimLost:
            return Ending("crashed", "abandon")
        except BaseException as error:
            return self._interrupted(error) or Ending("abandoned", "abandon", cause_of(error))
        finally:
            # Whoever takes the job next must not meet an atom of ours that is still at work.
            engines.end(engine)

    def _engine(self) -> Any:
        host, job = self._host, self._job
        flow = host._flow_detail_from_job(job)
        self.flow_uuid = flow.uuid
        self._resumes = any(atom.state in _IN_THE_MIDDLE for atom in flow)
        host.store.bind(flow, job_uuid=job.uuid, conductor=host.name, attempt=self._attempt)
        if not host.gate.admits_flow(flow):
            factory = factory_of(flow) or ""
            host.pass_over(job, factory)
            return Ending("released", "abandon", make_cause("NotAllowed", f"the factory {factory} is not allowed here"))
        try:
            return host._engine_from_job(job)
        except ImportError as error:
            cause = cause_of(error)
            # With no frame of the user's it is TaskFlow's, which says only that the factory could not be imported.
            return _unusable(cause if cause.where else import_cause(error, factory_of(flow) or "of the flow"))

    def _run_engine(self, engine: Any) -> Ending:
        host, job = self._host, self._job
        details = {"job": job, "engine": engine, "conductor": host}
        stages: tuple[tuple[str, Callable[[], None]], ...] = (
            ("compilation", engine.compile),
            ("preparation", engine.prepare),
            ("validation", engine.validate),
            ("running", lambda: self._steps(engine)),
        )
        with contextlib.ExitStack() as stack:
            for listener in host._listeners_from_job(job, engine):
                stack.enter_context(listener)
            for name, stage in stages:
                if not host.board.still_ours(job):
                    self._lose()
                    raise ClaimLost
                host.tell(f"{name}_start", details)
                stage()
                host.tell(f"{name}_end", details)
        state = engine.storage.get_flow_state()
        if state == states.SUSPENDED:
            return Ending("suspended", "abandon")
        if state != states.SUCCESS:
            raise RuntimeError(f"the flow ended as {state}, and no failure tells why")
        return Ending("consumed", "consume")

    def _steps(self, engine: Any) -> None:
        """Runs the flow, looking up between its steps: whether to stop, and whether the job is still ours."""
        suspending = False
        # TaskFlow (6.5) takes an atom that a killed process left running for one that is over, until it was scheduled
        # anew: a flow suspended before that would end as reverted, without a failure, and its job be lost.
        suspendable = not self._resumes
        steps = engine.run_iter()
        for state in steps:
            suspendable = suspendable or state == states.WAITING
            if not self._host.board.still_ours(self._job):
                self._lose()
                # Suspending would write, and whoever holds the job now may be at work. This passes through the engine,
                # which ends its executor and writes nothing.
                steps.throw(ClaimLost())
            if suspendable and not suspending and self._host.stopping:
                engine.suspend()
                suspending = True

    def _lose(self) -> None:
        self.lost = True
        if self.flow_uuid is not None:
            self._host.store.drop(self.flow_uuid)

    # -- what it means -----------------------------------------------------------------------------------------------
    def internal(self, error: BaseException) -> Ending:
        """The attempt failed for no fault of the flow; for none of the job either, where the store does not answer."""
        cause = cause_of(error)
        if not self.lost and not self._host.board.probe(self._host.store):
            self.store_down = True
            return Ending("released", "abandon", cause, hold=STORE_PAUSE)
        return Ending("abandoned", "abandon", cause)

    def _failed(self, error: BaseException, engine: Any) -> Ending:
        storage = engine.storage
        # Where undoing failed as well, that is what was raised; what came first is what went wrong.
        first = next(iter(storage.get_execute_failures().values()), error) if storage.get_revert_failures() else error
        cause = cause_of(first)
        if self._host.on_failure == "bin":
            return Ending("failed", "trash", cause, why=_told("its flow failed", cause))
        return Ending("failed", "consume" if self._host.on_failure == "consume" else "abandon", cause)

    def _interrupted(self, error: BaseException) -> Ending | None:
        # Elsewhere than in the main thread nobody pressed a key: a task raised it.
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            self.interrupt = error
            return Ending("suspended", "abandon")
        return None


def _unusable(cause: Cause) -> Ending:
    return Ending("abandoned", "trash", cause, why=_told("no engine can be made", cause))


def _told(what: str, cause: Cause) -> str:
    return f"{what}: {cause.type}: {cause.message}"[:500]
