"""What every fleet of conductors offers, whether they run in threads of this process or in processes of their own."""

from __future__ import annotations

import abc
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from conductor_console.conductors.member import FleetEvent, Worker

LOG = logging.getLogger(__name__)

#: How many jobs are remembered as told of being passed over; then the telling begins anew.
TOLD_LIMIT: Final = 10_000


class AnyFleet(abc.ABC):
    """Conductors on one board and one store, which both stay open when the fleet ends. Thread safe.

    :ivar tells_claims: whether each claim is an event; where it is not, the board tells of them in time.
    """

    tells_claims = False

    def __init__(self, on_event: Callable[[FleetEvent], None] | None = None) -> None:
        """:param on_event: the first subscriber."""
        self._subscribers: tuple[tuple[Callable[[FleetEvent], None]], ...] = ((on_event,),) if on_event else ()
        self._subscribing = threading.Lock()
        self._told: set[str] = set()

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many conductors there are to be."""

    @property
    @abc.abstractmethod
    def not_allowed(self) -> Mapping[str, str]:
        """The jobs that are passed over here, because of their factory: job uuid to factory."""

    @abc.abstractmethod
    def workers(self) -> tuple[Worker, ...]:
        """All conductors by number, those that are still ending included; at once."""

    @abc.abstractmethod
    def start(self) -> None:
        """Starts the conductors, after :meth:`stop` or :meth:`drain` as well; one that works goes on."""

    @abc.abstractmethod
    def scale(self, count: int) -> None:
        """Starts conductors, or ends the last ones: what they run is suspended and let go.

        :raises UsageError: there cannot be so many.
        """

    @abc.abstractmethod
    def pause(self, name: str | None = None) -> None:
        """One conductor (or all) claims nothing more; what it runs goes on. :raises UsageError: no such one."""

    @abc.abstractmethod
    def resume(self, name: str | None = None) -> None:
        """The opposite of :meth:`pause`."""

    @abc.abstractmethod
    def drain(self, name: str | None = None) -> None:
        """One conductor (or all) finishes what it runs, claims nothing more, and ends; this does not wait for it.

        :raises UsageError: no such one.
        """

    @abc.abstractmethod
    def restart(self, name: str) -> None:
        """Ends a conductor, suspending its jobs, and has another of its name follow; this does not wait for it.

        :raises UsageError: no such one, one that is still ending, or the fleet was stopped.
        """

    @abc.abstractmethod
    def stop(self, timeout: float) -> list[str]:
        """Ends all conductors, at most ``timeout`` seconds long. Returns the names of those that would not end."""

    # -- news --------------------------------------------------------------------------------------------------------
    def subscribe(self, callback: Callable[[FleetEvent], None]) -> Callable[[], None]:
        """Calls ``callback`` for each event, on a thread of the fleet's; it must return at once.

        :returns: the function that ends the subscription.
        """
        subscription = (callback,)
        with self._subscribing:
            self._subscribers = (*self._subscribers, subscription)

        def end() -> None:
            with self._subscribing:
                self._subscribers = tuple(known for known in self._subscribers if known is not subscription)

        return end

    def _publish(self, event: FleetEvent) -> None:
        if event.kind == "not_allowed" and event.job_uuid is not None and not self._first_told(event.job_uuid):
            return
        for (callback,) in self._subscribers:
            try:
                callback(event)
            except Exception:  # one listener's fault is neither the conductor's nor the other listeners'
                LOG.exception("a listener of the fleet's events failed")

    def _first_told(self, uuid: str) -> bool:
        """Each conductor passes a job over; the fleet says so once."""
        with self._subscribing:
            if uuid in self._told:
                return False
            if len(self._told) >= TOLD_LIMIT:
                self._told.clear()
            self._told.add(uuid)
            return True
