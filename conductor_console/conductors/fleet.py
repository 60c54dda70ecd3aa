"""The conductors of this process: worker threads that are started, scaled, paused, restarted and ended by name."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from conductor_console import conductors
from conductor_console.clock import utcnow
from conductor_console.conductors.causes import cause_of
from conductor_console.conductors.closing import Backoff
from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import Cause, make_cause
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: How many jobs are remembered as told of being passed over; then the telling begins anew.
_TOLD_LIMIT: Final = 10_000

WorkerState = Literal["running", "paused", "draining", "stopped", "crashed"]
FleetEventKind = Literal["started", "stopped", "crashed", "paused", "resumed", "attempt_closed", "not_allowed"]


@dataclass(frozen=True, slots=True)
class Worker:
    """One conductor at one moment. ``since`` is when it came into its state; ``note`` is one clean line."""

    name: str
    state: WorkerState
    jobs: tuple[str, ...]
    since: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something a conductor of ours did, or passed over; ``seconds`` is how long an attempt took."""

    kind: FleetEventKind
    conductor: str
    job_uuid: str | None = None
    job_name: str | None = None
    outcome: str | None = None
    cause: Cause | None = None
    seconds: float | None = None
    at: datetime = field(default_factory=utcnow)


class _Member:
    """A worker thread, and the conductor that it runs at the moment: one that crashed is followed by another."""

    def __init__(self, name: str, make: Callable[[str], Any], tell: Callable[[FleetEvent], None]) -> None:
        self.name = name
        self._make = make
        self._tell = tell
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._again = False
        self._paused = False
        self._conductor: Any = None
        self._state: WorkerState = "running"
        self._since = utcnow()
        self._note = ""
        self._thread = threading.Thread(target=self._tend, name=f"conductor-{name}", daemon=True)

    # -- asked by the fleet ------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._thread.start()

    def shown(self) -> Worker:
        with self._lock:
            jobs = self._conductor.jobs if self._conductor is not None else ()
            return Worker(self.name, self._state, jobs, self._since, self._note)

    @property
    def not_allowed(self) -> Mapping[str, str]:
        with self._lock:
            return self._conductor.not_allowed if self._conductor is not None else {}

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def pause(self) -> None:
        with self._lock:
            if self._paused or self._stop.is_set():
                return
            self._paused = True
            if self._conductor is not None:
                self._conductor.pause()
            if self._state == "running":
                self._become("paused")
        self._tell(self._event("paused"))

    def resume(self) -> None:
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            if self._conductor is not None:
                self._conductor.resume()
            if self._state == "paused":
                self._become("running")
        self._tell(self._event("resumed"))

    def stop(self) -> None:
        """Asks it to end; its jobs are suspended. Returns at once."""
        with self._lock:
            self._stop.set()
            self._nudge.set()
            self._drain()

    def restart(self) -> None:
        """Asks its conductor to end, to be followed by another."""
        with self._lock:
            self._again = True
            self._nudge.set()
            self._drain()

    def _drain(self) -> None:
        if self._conductor is not None:
            self._conductor.stop()
            if self._state in ("running", "paused"):
                self._become("draining")

    def join(self, timeout: float) -> bool:
        """Whether the thread ended within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- its thread --------------------------------------------------------------------------------------------------
    def _tend(self) -> None:
        backoff = Backoff(first=0.5, most=30.0)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._run()
            except BaseException as error:  # whatever it is, it is shown, and the work goes on
                LOG.warning("conductor %s crashed", visible(self.name), exc_info=True)
                cause = cause_of(error)
                with self._lock:
                    self._conductor = None
                    self._become("crashed", visible(f"{cause.type}: {cause.message}", 200))
                self._tell(self._event("crashed", cause))
                if time.monotonic() - began > 60.0:
                    backoff.reset()
                self._nudge.wait(backoff.next())
                continue
            with self._lock:
                self._conductor = None
            if not self._again:
                break
        with self._lock:
            self._become("stopped")
        self._tell(self._event("stopped"))

    def _run(self) -> None:
        conductor = self._make(self.name)
        with self._lock:
            self._conductor = conductor
            self._again = False
            if not self._stop.is_set():
                self._nudge.clear()
            if self._paused:
                conductor.pause()
            if self._stop.is_set():
                conductor.stop()
            self._become("paused" if self._paused else "running")
        self._tell(self._event("started"))
        conductor.run()

    def _become(self, state: WorkerState, note: str = "") -> None:
        if (state, note) != (self._state, self._note):
            self._since = utcnow()
        self._state, self._note = state, note

    def _event(self, kind: FleetEventKind, cause: Cause | None = None) -> FleetEvent:
        return FleetEvent(kind, self.name, cause=cause)


class Fleet:
    """Conductors on one board and one store, which both stay open when the fleet ends. Thread safe.

    :param kind: as :func:`conductor_console.conductors.fetch` takes it; ours only.
    :param count: how many to begin with; they are named ``prefix1``, ``prefix2`` …
    :param on_event: the first subscriber.
    :param conductor_kw: what each conductor takes (``max_attempts``, ``allow_factories``, ``engine`` …).
    """

    def __init__(
        self,
        board: Any,
        store: Any,
        *,
        kind: str = "blocking",
        count: int = 1,
        prefix: str = "w",
        on_event: Callable[[FleetEvent], None] | None = None,
        **conductor_kw: Any,
    ) -> None:
        self._board = board
        self._store = store
        self._kind = kind
        self._prefix = prefix
        self._conductor_kw = conductor_kw
        self._lock = threading.RLock()
        self._wanted = max(0, count)
        self._members: dict[str, _Member] = {}
        self._leaving: list[_Member] = []
        self._subscribers: tuple[tuple[Callable[[FleetEvent], None]], ...] = ((on_event,),) if on_event else ()
        self._told: set[str] = set()
        self._started = False
        # What cannot be made is said now, to whoever asks, not later in a thread.
        self._make(f"{prefix}1")

    @property
    def size(self) -> int:
        """How many conductors there are to be."""
        return self._wanted

    @property
    def not_allowed(self) -> Mapping[str, str]:
        """The jobs that are passed over here, because of their factory: job uuid to factory."""
        with self._lock:
            members = list(self._members.values())
        return {uuid: factory for member in members for uuid, factory in member.not_allowed.items()}

    def workers(self) -> tuple[Worker, ...]:
        """All conductors by number, those that are still ending included."""
        with self._lock:
            self._leaving = [member for member in self._leaving if member.alive]
            return tuple(member.shown() for member in [*self._members.values(), *self._leaving])

    def subscribe(self, callback: Callable[[FleetEvent], None]) -> Callable[[], None]:
        """Calls ``callback`` for each event, on a conductor's thread; it must return at once.

        :returns: the function that ends the subscription.
        """
        subscription = (callback,)
        with self._lock:
            self._subscribers = (*self._subscribers, subscription)

        def end() -> None:
            with self._lock:
                self._subscribers = tuple(known for known in self._subscribers if known is not subscription)

        return end

    def start(self) -> None:
        """Starts the conductors, after :meth:`stop` as well; one that works goes on."""
        with self._lock:
            self._started = True
            for member in list(self._members.values()):
                if member.shown().state == "stopped":
                    del self._members[member.name]
        self.scale(self._wanted)

    def scale(self, count: int) -> None:
        """Starts conductors, or ends the last ones: what they run is suspended and let go. Returns at once."""
        if count < 0:
            raise UsageError(f"there cannot be {count} conductors")
        with self._lock:
            self._wanted = count
            if not self._started:
                return
            surplus = list(self._members.values())[count:]
            for member in surplus:
                del self._members[member.name]
                self._leaving.append(member)
            fresh = []
            while len(self._members) < count:
                name = self._free_name()
                self._members[name] = member = _Member(name, self._make, self._publish)
                fresh.append(member)
        for member in surplus:
            member.stop()
        for member in fresh:
            member.start()

    def _free_name(self) -> str:
        # One of the name that still ends keeps it: two would claim as one.
        taken = {*self._members, *(member.name for member in self._leaving if member.alive)}
        numbers = itertools.count(1)
        return next(name for name in (f"{self._prefix}{number}" for number in numbers) if name not in taken)

    def pause(self, name: str | None = None) -> None:
        """One conductor (or all) claims nothing more; what it runs goes on. :raises UsageError: no such one."""
        for member in self._chosen(name):
            member.pause()

    def resume(self, name: str | None = None) -> None:
        """The opposite of :meth:`pause`."""
        for member in self._chosen(name):
            member.resume()

    def restart(self, name: str) -> None:
        """Ends a conductor, suspending its jobs, and has another of its name follow. Returns at once."""
        for member in self._chosen(name):
            if member.alive:
                member.restart()
            else:
                with self._lock:
                    self._members[name] = fresh = _Member(name, self._make, self._publish)
                fresh.start()

    def stop(self, timeout: float) -> list[str]:
        """Ends all conductors, at most ``timeout`` seconds long. Returns the names of those that would not end."""
        with self._lock:
            self._started = False
            members = [*self._members.values(), *self._leaving]
        for member in members:
            member.stop()
        deadline = time.monotonic() + timeout
        return [member.name for member in members if not member.join(max(0.0, deadline - time.monotonic()))]

    def _chosen(self, name: str | None) -> list[_Member]:
        with self._lock:
            if name is None:
                return list(self._members.values())
            if name not in self._members:
                raise UsageError(f"there is no conductor {visible(name)} here")
            return [self._members[name]]

    def _make(self, name: str) -> Any:
        conductor = conductors.fetch(self._kind, name, self._board, persistence=self._store, **self._conductor_kw)
        conductor.notifier.register("attempt_closed", self._closed)
        conductor.notifier.register("job_passed_over", self._passed_over)
        return conductor

    # -- news --------------------------------------------------------------------------------------------------------
    def _closed(self, _event: str, details: Mapping[str, Any]) -> None:
        job = details["job"]
        self._publish(
            FleetEvent(
                "attempt_closed",
                details["conductor"].name,
                job.uuid,
                job.name,
                details["outcome"],
                details["error"],
                details["seconds"],
            )
        )

    def _passed_over(self, _event: str, details: Mapping[str, Any]) -> None:
        job = details["job"]
        with self._lock:
            # Each conductor passes it over; the fleet says so once.
            if job.uuid in self._told:
                return
            if len(self._told) >= _TOLD_LIMIT:
                self._told.clear()
            self._told.add(job.uuid)
        cause = make_cause("NotAllowed", f"the factory {details['factory']} is not allowed here")
        self._publish(FleetEvent("not_allowed", details["conductor"].name, job.uuid, job.name, cause=cause))

    def _publish(self, event: FleetEvent) -> None:
        for (callback,) in self._subscribers:
            try:
                callback(event)
            except Exception:  # one listener's fault is neither the conductor's nor the other listeners'
                LOG.exception("a listener of the fleet's events failed")
