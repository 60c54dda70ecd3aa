"""The conductors of this process: worker threads started, scaled, paused, drained, restarted and ended by name."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from conductor_console import conductors
from conductor_console.conductors.member import FleetEvent, Member, Worker
from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.text import visible

__all__ = ["Fleet", "FleetEvent", "Worker"]

LOG = logging.getLogger(__name__)

#: How many jobs are remembered as told of being passed over; then the telling begins anew.
_TOLD_LIMIT: Final = 10_000


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
        self._members: dict[str, Member] = {}
        self._leaving: list[Member] = []
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
        """Starts the conductors, after :meth:`stop` or :meth:`drain` as well; one that works goes on.

        One that has not ended yet is followed by another, of another name.
        """
        with self._lock:
            self._started = True
            for member in list(self._members.values()):
                if member.leaving:
                    del self._members[member.name]
                    self._leaving.append(member)
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
                self._members[name] = member = Member(name, self._make, self._publish)
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

    def drain(self, name: str | None = None) -> None:
        """One conductor (or all) finishes what it runs, claims nothing more, and ends. Returns at once.

        :raises UsageError: no such one.
        """
        for member in self._chosen(name):
            member.drain()

    def restart(self, name: str) -> None:
        """Ends a conductor, suspending its jobs, and has another of its name follow. Returns at once.

        :raises UsageError: no such one, one that is still ending, or the fleet was stopped.
        """
        with self._lock:
            (member,) = self._chosen(name)
            if not self._started:
                raise UsageError(f"the conductors here are stopped: start them, and {visible(name)} with them")
            if member.restart():
                return
            if member.alive:
                raise UsageError(f"the conductor {visible(name)} is still ending: wait until it has")
            self._members[name] = fresh = Member(name, self._make, self._publish)
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

    def _chosen(self, name: str | None) -> list[Member]:
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
