"""One worker thread of a fleet, and the conductor in it; what is shown and told of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from conductor_console.clock import utcnow
from conductor_console.conductors.backoff import Backoff
from conductor_console.conductors.causes import cause_of
from conductor_console.jobboards.attempts import Cause
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

WorkerState = Literal["running", "paused", "draining", "stopped", "crashed"]
#: ``died``: a process of conductors, whose name is told in the place of theirs; another follows.
FleetEventKind = Literal[
    "started", "stopped", "crashed", "paused", "resumed", "claimed", "attempt_closed", "not_allowed", "died"
]
#: What is noted of one that drains.
FINISHING: Final = "finishing what runs"


@dataclass(frozen=True, slots=True)
class Worker:
    """One conductor at one moment. ``since`` is when it came into its state; ``note`` is one clean line.

    :ivar crashes: how often an error escaped a conductor of this name (or its process died), which another followed.
    :ivar pid: of the process that it is in, where that is not this one.
    """

    name: str
    state: WorkerState
    jobs: tuple[str, ...]
    since: datetime
    note: str = ""
    crashes: int = 0
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something a conductor of ours did, or passed over (``factory``); ``seconds`` is how long an attempt took."""

    kind: FleetEventKind
    conductor: str
    job_uuid: str | None = None
    job_name: str | None = None
    outcome: str | None = None
    cause: Cause | None = None
    seconds: float | None = None
    at: datetime = field(default_factory=utcnow)
    factory: str | None = None


class Member:
    """A worker thread, and the conductor that it runs at the moment: one that crashed is followed by another."""

    def __init__(self, name: str, make: Callable[[str], Any], tell: Callable[[FleetEvent], None]) -> None:
        self.name = name
        self._make = make
        self._tell = tell
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._again = False
        self._last = False
        self._over = False
        self._paused = False
        self._conductor: Any = None
        self._state: WorkerState = "running"
        self._since = utcnow()
        self._note = ""
        self.crashes = 0
        self._thread = threading.Thread(target=self._tend, name=f"conductor-{name}", daemon=True)

    # -- asked by the fleet ------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._thread.start()

    def shown(self) -> Worker:
        with self._lock:
            jobs = self._conductor.jobs if self._conductor is not None else ()
            return Worker(self.name, self._state, jobs, self._since, self._note, self.crashes)

    @property
    def not_allowed(self) -> Mapping[str, str]:
        with self._lock:
            return self._conductor.not_allowed if self._conductor is not None else {}

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def leaving(self) -> bool:
        """Whether it has ended, or is about to, with no other conductor to follow."""
        with self._lock:
            return self._over or self._last or self._stop.is_set()

    def pause(self) -> None:
        with self._lock:
            if self._paused or self._last or self._stop.is_set():
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
            self._end(suspend=True)

    def drain(self) -> None:
        """Asks it to end as soon as what runs is finished; nothing more is claimed. Returns at once."""
        with self._lock:
            self._last = True
            self._end(suspend=False)

    def restart(self) -> bool:
        """Asks its conductor to end, to be followed by another; False when it is leaving, or has left."""
        with self._lock:
            if self._over or self._last or self._stop.is_set():
                return False
            self._again = True
            self._end(suspend=True)
            return True

    def _end(self, *, suspend: bool) -> None:
        self._nudge.set()
        if self._conductor is None:
            return
        if suspend:
            self._conductor.stop()
        else:
            self._conductor.drain()
        if self._state in ("running", "paused", "draining"):
            self._become("draining", "suspending what runs" if suspend else FINISHING)

    def join(self, timeout: float) -> bool:
        """Whether the thread ended within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- its thread --------------------------------------------------------------------------------------------------
    def _tend(self) -> None:
        backoff = Backoff(first=0.5, most=30.0)
        while self._goes_on():
            began = time.monotonic()
            try:
                self._run()
            except BaseException as error:  # whatever it is, it is shown, and the work goes on
                LOG.warning("conductor %s crashed", visible(self.name), exc_info=True)
                cause = cause_of(error)
                with self._lock:
                    self._conductor = None
                    self.crashes += 1
                    self._become("crashed", visible(f"{cause.type}: {cause.message}", 200))
                self._tell(self._event("crashed", cause))
                if time.monotonic() - began > 60.0:
                    backoff.reset()
                self._nudge.wait(backoff.next())
                continue
            with self._lock:
                self._conductor = None
                # Decided under the lock: whoever asks for a restart from here on is told that it is too late.
                self._over = not self._again
        with self._lock:
            self._over = True
            self._become("stopped")
        self._tell(self._event("stopped"))

    def _goes_on(self) -> bool:
        with self._lock:
            return not (self._over or self._last or self._stop.is_set())

    def _run(self) -> None:
        conductor = self._make(self.name)
        with self._lock:
            self._conductor = conductor
            self._again = False
            if self._over or self._last or self._stop.is_set():
                return
            self._nudge.clear()
            if self._paused:
                conductor.pause()
            self._become("paused" if self._paused else "running")
        self._tell(self._event("started"))
        conductor.run()

    def _become(self, state: WorkerState, note: str = "") -> None:
        if (state, note) != (self._state, self._note):
            self._since = utcnow()
        self._state, self._note = state, note

    def _event(self, kind: FleetEventKind, cause: Cause | None = None) -> FleetEvent:
        return FleetEvent(kind, self.name, cause=cause)
