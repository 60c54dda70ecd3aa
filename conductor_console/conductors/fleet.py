"""The conductors of this process: worker threads started, scaled, paused, drained, restarted and ended by name."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from conductor_console import conductors
from conductor_console.conductors.crews import AnyFleet
from conductor_console.conductors.member import FleetEvent, Member, Worker
from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.text import visible

__all__ = ["Fleet", "FleetEvent", "Worker"]


class Fleet(AnyFleet):
    """Worker threads of this process. Nothing but :meth:`stop` waits for anything.

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
        super().__init__(on_event)
        self._board = board
        self._store = store
        self._kind = kind
        self._prefix = prefix
        self._conductor_kw = conductor_kw
        self._lock = threading.RLock()
        self._wanted = max(0, count)
        self._members: dict[str, Member] = {}
        self._leaving: list[Member] = []
        self._started = False
        # What cannot be made is said now, to whoever asks, not later in a thread.
        self._make(f"{prefix}1")

    @property
    def size(self) -> int:
        return self._wanted

    @property
    def not_allowed(self) -> Mapping[str, str]:
        with self._lock:
            members = list(self._members.values())
        return {uuid: factory for member in members for uuid, factory in member.not_allowed.items()}

    def workers(self) -> tuple[Worker, ...]:
        with self._lock:
            self._leaving = [member for member in self._leaving if member.alive]
            return tuple(member.shown() for member in [*self._members.values(), *self._leaving])

    def start(self, paused: Collection[str] = (), drained: Collection[str] = ()) -> None:
        """Starts the conductors; one that has not ended yet is followed by another, of another name.

        :param paused, drained: names of some that are not to claim anything yet.
        """
        with self._lock:
            self._started = True
            for member in list(self._members.values()):
                if member.leaving:
                    del self._members[member.name]
                    self._leaving.append(member)
            self._fill(self._wanted, paused, drained)

    def scale(self, count: int) -> None:
        self._fill(count)

    def _fill(self, count: int, paused: Collection[str] = (), drained: Collection[str] = ()) -> None:
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
            if member.name in paused:
                member.pause()
            if member.name in drained:
                member.drain()
            member.start()

    def _free_name(self) -> str:
        # One of the name that still ends keeps it: two would claim as one.
        taken = {*self._members, *(member.name for member in self._leaving if member.alive)}
        numbers = itertools.count(1)
        return next(name for name in (f"{self._prefix}{number}" for number in numbers) if name not in taken)

    def pause(self, name: str | None = None) -> None:
        for member in self._chosen(name):
            member.pause()

    def resume(self, name: str | None = None) -> None:
        for member in self._chosen(name):
            member.resume()

    def drain(self, name: str | None = None) -> None:
        for member in self._chosen(name):
            member.drain()

    def restart(self, name: str) -> None:
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
        job, factory = details["job"], details["factory"]
        cause = make_cause("NotAllowed", f"the factory {factory} is not allowed here")
        who = details["conductor"].name
        self._publish(FleetEvent("not_allowed", who, job.uuid, job.name, cause=cause, factory=factory))
