"""The board as it is last known, in memory: what a board learnt goes in, listings and events come out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from conductor_console.clock import utcnow
from conductor_console.jobboards.base import (
    BinEntry,
    BoardEvent,
    Connection,
    ConnectionState,
    EntityEntry,
    JobEntry,
    Listing,
)
from conductor_console.jobboards.breaker import CLOSED, Breaker
from conductor_console.jobboards.chunks import ChunkedMap
from conductor_console.jobboards.ready import ReadyJobs


class Picture:
    """The board as it is last known. Thread safe; every method returns at once, but for the two that wait.

    :param publish: called for each event, in order, under the picture's lock: it must only queue.
    """

    def __init__(self, publish: Callable[[BoardEvent], None]) -> None:
        self._publish = publish
        self._changed = threading.Condition()
        self._jobs: ChunkedMap[JobEntry] = ChunkedMap()
        self._binned: ChunkedMap[BinEntry] = ChunkedMap()
        self._entities: dict[str, EntityEntry] = {}
        self._breaker = CLOSED
        self._workable = 0
        self._ready = ReadyJobs()
        self._version = 0
        self._true_at = utcnow()
        self._connection = Connection("closed", self._true_at)
        self._complete = False
        #: Made when it is asked for: many changes may come between two questions.
        self._listing: Listing | None = None

    # -- what a board learnt -------------------------------------------------------------------------------------------
    def put(self, entry: JobEntry) -> None:
        """A job as it is now."""
        with self._changed:
            self._put(entry)

    def drop(self, key: str) -> None:
        """A job is gone from the board."""
        with self._changed:
            self._drop(key)

    def put_binned(self, entry: BinEntry) -> None:
        with self._changed:
            if self._binned.get(entry.key) != entry:
                self._binned[entry.key] = entry
                self._moved(BoardEvent("bin", entry.key))

    def drop_binned(self, key: str) -> None:
        with self._changed:
            if self._binned.pop(key) is not None:
                self._moved(BoardEvent("bin", key))

    def set_entities(self, entities: Iterable[EntityEntry]) -> None:
        """All live entities."""
        fresh = {entity.name: entity for entity in entities}
        with self._changed:
            if fresh != self._entities:
                self._entities = fresh
                self._moved(BoardEvent("entities"))

    def set_breaker(self, breaker: Breaker) -> None:
        with self._changed:
            if breaker != self._breaker:
                self._breaker = breaker
                self._moved(BoardEvent("breaker"))

    def replace(self, jobs: Iterable[JobEntry], binned: Iterable[BinEntry], entities: Iterable[EntityEntry]) -> None:
        """A full reading: what it does not hold is gone. The listing is complete from then on."""
        fresh = {entry.key: entry for entry in jobs}
        fresh_binned = {entry.key: entry for entry in binned}
        with self._changed:
            for key in [key for key in self._jobs if key not in fresh]:
                self._drop(key)
            for key in [key for key in self._binned if key not in fresh_binned]:
                self.drop_binned(key)
            for entry in fresh.values():
                self._put(entry)
            for binned_entry in fresh_binned.values():
                self.put_binned(binned_entry)
            self.set_entities(entities)
            self._completed()

    def complete(self) -> None:
        """All that there is has been put; the listing is complete from then on."""
        with self._changed:
            self._completed()

    def set_connection(self, state: ConnectionState, detail: str = "") -> None:
        """``detail`` must be one clean line."""
        with self._changed:
            old = self._connection
            if (old.state, old.detail) == (state, detail):
                return
            if old.state == "live":
                self._true_at = utcnow()
            since = old.since if old.state == state else utcnow()
            self._connection = Connection(state, since, detail)
            self._moved(BoardEvent("connection"))

    # -- what is known -------------------------------------------------------------------------------------------------
    def get(self, key: str) -> JobEntry | None:
        with self._changed:
            return self._jobs.get(key)

    def get_binned(self, key: str) -> BinEntry | None:
        with self._changed:
            return self._binned.get(key)

    def listing(self) -> Listing:
        with self._changed:
            if self._listing is None:
                self._listing = Listing(
                    version=self._version,
                    taken_at=self._true_at,
                    connection=self._connection,
                    jobs=self._jobs.picture(),
                    binned=self._binned.picture(),
                    entities=MappingProxyType(self._entities),
                    complete=self._complete,
                    breaker=self._breaker,
                )
            if self._connection.state == "live":
                # The watch would have told of any change: what is known is true as of now.
                return replace(self._listing, taken_at=utcnow())
            return self._listing

    @property
    def breaker(self) -> Breaker:
        """The circuit breaker's state."""
        with self._changed:
            return self._breaker

    @property
    def job_count(self) -> int:
        with self._changed:
            return len(self._jobs)

    @property
    def version(self) -> int:
        """The version of the listing, without making one."""
        with self._changed:
            return self._version

    def ordered(self) -> tuple[JobEntry, ...]:
        """The workable jobs, best first; none while the connection is not live."""
        with self._changed:
            workable = [entry for entry in self._jobs.values() if entry.workable] if self._live() else []
        return tuple(sorted(workable, key=lambda entry: entry.place))

    def candidates(self, now: datetime) -> tuple[Sequence[JobEntry], datetime | None]:
        """The jobs that nobody holds and no hold keeps back, best first, and when the next hold ends."""
        with self._changed:
            return self._ready.take(now) if self._live() else ((), None)

    def wait_for_jobs(self, timeout: float | None) -> bool:
        """Waits until there is a workable job; False when there was none within ``timeout`` s or the board closed."""
        with self._changed:
            self._changed.wait_for(self._there_or_closed, timeout)
            return self._workable > 0 and self._live()

    def wait_for_change(self, version: int, timeout: float | None) -> None:
        """Waits until the listing is newer than ``version``, at most ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version, timeout)

    # -- under the lock ------------------------------------------------------------------------------------------------
    def _live(self) -> bool:
        return self._complete and self._connection.state == "live"

    def _there_or_closed(self) -> bool:
        return self._connection.state == "closed" or (self._workable > 0 and self._live())

    def _completed(self) -> None:
        self._complete = True
        self._moved(None)

    def _moved(self, event: BoardEvent | None) -> None:
        self._version += 1
        self._listing = None
        if event is not None:
            self._publish(event)
        self._changed.notify_all()

    def _put(self, entry: JobEntry) -> None:
        old = self._jobs.get(entry.key)
        if old is entry or old == entry:
            return
        self._jobs[entry.key] = entry
        self._workable += entry.workable - (old is not None and old.workable)
        self._ready.put(entry)
        if old is None or old.node != entry.node:
            if old is not None:
                self._moved(BoardEvent("removed", entry.key, old))
            self._moved(BoardEvent("posted", entry.key, entry))
            old = None
        had = old.claim.id if old is not None and old.claim is not None else None
        has = entry.claim.id if entry.claim is not None else None
        if had is not None and had != has:
            self._moved(BoardEvent("released", entry.key, entry))
        if has is not None and had != has:
            self._moved(BoardEvent("claimed", entry.key, entry))
        if had == has and old is not None:
            self._moved(BoardEvent("changed", entry.key, entry))

    def _drop(self, key: str) -> None:
        old = self._jobs.pop(key)
        if old is not None:
            self._workable -= old.workable
            self._ready.drop(key)
            self._moved(BoardEvent("removed", key, old))
