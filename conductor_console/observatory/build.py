"""From a board's listing to the snapshot the screen reads, at the cost of what changed.

No threads and no I/O: :class:`Builder` is fed a listing, the fleet's workers and the time, and keeps what it made of
the ones before. :func:`build_snapshot` is the same from nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from conductor_console.jobboards.base import BinEntry, JobEntry, Listing
from conductor_console.jobboards.chunks import ChunkedMap, changes
from conductor_console.observatory.causes import Causes
from conductor_console.observatory.liveness import Claims, Liveness
from conductor_console.observatory.ordering import reordered
from conductor_console.observatory.rates import Closings
from conductor_console.observatory.snapshot import EventView, JobView, Rates, Snapshot, Standing
from conductor_console.observatory.views import Limits, job_view, orphaned

if TYPE_CHECKING:
    from conductor_console.conductors.fleet import Worker

#: Seconds before an attempt that is open while nobody holds the job is told as crashed: a record and a claim can
#: reach us one after the other.
PATIENCE: Final = 1.0


class Builder:
    """Keeps the views of one board's jobs, in order and counted, and makes snapshots of them."""

    def __init__(self, *, title: str, limits: Limits, read_only: bool = False) -> None:
        self.causes = Causes()
        self.closings = Closings(self.causes)
        self._title = title
        self._limits = limits
        self._read_only = read_only
        self._liveness = Liveness()
        self._claims = Claims()
        self._verdicts: dict[str, bool | None] = {}
        self._jobs: Mapping[str, JobEntry] = {}
        self._bin: Mapping[str, BinEntry] = {}
        self._views: ChunkedMap[JobView] = ChunkedMap()
        self._sorted: list[JobView] = []
        self._counts: Counter[Standing] = Counter()
        self._orphans: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []
        self._waiting: list[tuple[float, str]] = []
        self._was_complete = False
        self._offset = 0.0
        self._last: Snapshot | None = None
        self._jobs_shown: Sequence[JobView] = ()
        self._by_key: Mapping[str, JobView] = MappingProxyType({})
        self._binned_shown: Sequence[BinEntry] = ()

    # -- what changed ----------------------------------------------------------------------------------------------
    def update(
        self,
        listing: Listing,
        *,
        now: datetime,
        workers: Sequence[Worker] = (),
        events: Sequence[EventView] = (),
        counting: bool = False,
    ) -> Snapshot:
        """The snapshot at ``now`` (local clock); the very same object as before where nothing visible changed.

        :param counting: there are conductors that do not count for themselves.
        """
        self._offset = listing.clock_offset
        board_now = now + timedelta(seconds=listing.clock_offset)
        self._liveness.update(listing.entities, workers, now)
        dirty, gone = changes(self._jobs, listing.jobs)
        self._index(listing.jobs, dirty, gone, board_now, now)
        dirty.update(self._owners_changed())
        dirty.update(self._come_due(board_now))
        self._jobs = listing.jobs
        self._replace(dirty, gone, board_now)
        self._take_bin(listing.binned, now)
        self._liveness.forget(self._claims)
        self.closings.expire(now)
        self._was_complete = self._was_complete or listing.complete
        return self._published(listing, now, board_now, events, counting)

    @property
    def binned(self) -> Mapping[str, BinEntry]:
        """The bin as the last :meth:`update` saw it."""
        return self._bin

    def next_due(self) -> float | None:
        """When (s since the epoch, local clock) time alone will change a job: a hold ends, a doubt is settled."""
        return self._due[0][0] - self._offset if self._due else None

    def _index(
        self, jobs: Mapping[str, JobEntry], dirty: Iterable[str], gone: set[str], board_now: datetime, now: datetime
    ) -> None:
        for key in (*dirty, *gone):
            old, new = self._jobs.get(key), jobs.get(key)
            if old is not None and old.claim is not None:
                self._claims.drop(key, old.claim.owner)
            if new is None:
                self._orphans.pop(key, None)
                continue
            if new.claim is not None:
                self._claims.add(key, new.claim)
            if new.record is not None and (old is None or old.record is not new.record):
                self.closings.from_record(key, new.record.history, now, self._offset)
            if not orphaned(new):
                self._orphans.pop(key, None)
            elif key not in self._orphans:
                # What was so when we came is no half news.
                until = board_now.timestamp() + (PATIENCE if self._was_complete else 0.0)
                self._orphans[key] = until
                heapq.heappush(self._due, (until, key))

    def _owners_changed(self) -> set[str]:
        """The jobs of owners of whom we now think otherwise."""
        verdicts = {owner: self._liveness.alive(owner) for owner in self._claims.owners}
        changed = {key for owner, alive in verdicts.items() if self._verdicts.get(owner) is not alive
                   for key in self._claims.of(owner)}  # fmt: skip
        self._verdicts = verdicts
        return changed

    def _come_due(self, board_now: datetime) -> set[str]:
        moment = board_now.timestamp()
        due = set()
        while self._due and self._due[0][0] <= moment:
            key = heapq.heappop(self._due)[1]
            if key in self._views:
                due.add(key)
        return due

    def _replace(self, dirty: set[str], gone: set[str], board_now: datetime) -> None:
        dirty -= gone
        if not dirty and not gone:
            return
        moment = board_now.timestamp()
        old: list[JobView] = []
        new: list[JobView] = []
        for key in (*gone, *dirty):
            before = self._views.pop(key)
            if before is not None:
                self._counts[before.standing] -= 1
                old.append(before)
            if key in self._jobs:
                new.append(self._add(self._view(self._jobs[key], board_now, moment), moment))
        self._sorted = reordered(self._sorted, old, new)
        self._compact(moment)
        self._jobs_shown = tuple(self._sorted)
        self._by_key = self._views.picture()

    def _view(self, entry: JobEntry, board_now: datetime, moment: float) -> JobView:
        alive = self._liveness.alive(entry.claim.owner) if entry.claim else None
        settle = self._orphans.get(entry.key, 0.0) <= moment
        return job_view(entry, now=board_now, limits=self._limits, owner_alive=alive, settle=settle)

    def _add(self, view: JobView, moment: float) -> JobView:
        self._views[view.key] = view
        self._counts[view.standing] += 1
        if view.hold_until is not None and view.hold_until.timestamp() > moment:
            heapq.heappush(self._due, (view.hold_until.timestamp(), view.key))
        if view.state == "waiting":
            heapq.heappush(self._waiting, (view.entry.created_at.timestamp(), view.key))
        return view

    def _compact(self, moment: float) -> None:
        """Drops what the heaps keep of views that were replaced since, once that is most of them."""
        limit = 2 * len(self._views) + 1000
        if len(self._waiting) > limit:
            waiting = (view for view in self._views.values() if view.state == "waiting")
            self._waiting = [(view.entry.created_at.timestamp(), view.key) for view in waiting]
            heapq.heapify(self._waiting)
        if len(self._due) > limit:
            held = (view for view in self._views.values() if view.hold_until is not None)
            due = {(view.hold_until.timestamp(), view.key) for view in held if view.hold_until}
            self._due = [*due, *((until, key) for key, until in self._orphans.items() if until > moment)]
            heapq.heapify(self._due)

    def _take_bin(self, binned: Mapping[str, BinEntry], now: datetime) -> None:
        if binned is self._bin:
            return
        for key, entry in binned.items():
            old = self._bin.get(key)
            if old is not entry and entry.record is not None:
                self.closings.from_record(key, entry.record.history, now, self._offset)
        self._bin = binned
        self._binned_shown = tuple(sorted(binned.values(), key=_bin_order))

    # -- what is shown ---------------------------------------------------------------------------------------------
    def _published(
        self, listing: Listing, now: datetime, board_now: datetime, events: Sequence[EventView], counting: bool
    ) -> Snapshot:
        last = self._last
        counts = {standing: number for standing, number in self._counts.items() if number}
        if self._binned_shown:
            counts["binned"] = len(self._binned_shown)
        done, failed = self.closings.per_minute(now)
        snapshot = Snapshot(
            version=last.version + 1 if last else 1,
            taken_at=now if listing.connection.state == "live" else listing.taken_at,
            board=self._title,
            connection=listing.connection,
            jobs=self._jobs_shown,
            by_key=self._by_key,
            counts=MappingProxyType(counts),
            conductors=self._liveness.views(self._claims),
            causes=self.causes.views(),
            binned=self._binned_shown,
            rates=Rates(done, failed, self._oldest_wait(board_now)),
            events=events,
            complete=listing.complete,
            read_only=self._read_only,
            uncounted=listing.uncounted,
            unseen=listing.unseen if counting else 0,
            unseen_since=listing.unseen_since if counting and listing.unseen else None,
            counted_here=counting and (self._read_only or listing.uncounted is not None),
            breaker=listing.breaker if listing.breaker.open(board_now) else None,
        )
        if last is not None and _same(last, snapshot):
            return last
        self._last = snapshot
        return snapshot

    def _oldest_wait(self, board_now: datetime) -> float | None:
        """Seconds, whole minutes from a minute on: finer is not shown, and would be news each second."""
        while self._waiting:
            created, key = self._waiting[0]
            view = self._views.get(key)
            if view is not None and view.state == "waiting" and view.entry.created_at.timestamp() == created:
                wait = max(0, int(board_now.timestamp() - created))
                return float(wait if wait < 60 else wait - wait % 60)
            heapq.heappop(self._waiting)
        return None


def build_snapshot(
    listing: Listing,
    *,
    now: datetime,
    title: str = "",
    limits: Limits | None = None,
    workers: Sequence[Worker] = (),
    events: Sequence[EventView] = (),
    read_only: bool = False,
) -> Snapshot:
    """The snapshot of one listing by itself; a pure function."""
    builder = Builder(title=title, limits=limits or Limits(), read_only=read_only)
    return builder.update(listing, now=now, workers=workers, events=events)


def _bin_order(entry: BinEntry) -> tuple[float, str]:
    """Newest first; what nobody dated (TaskFlow's) comes last."""
    return (-entry.binned_at.timestamp() if entry.binned_at else float("inf"), entry.key)


def _same(old: Snapshot, new: Snapshot) -> bool:
    """Whether a screen would paint both alike. What is big is compared by identity: it is made anew when it changes."""
    return (
        old.jobs is new.jobs
        and old.binned is new.binned
        and old.causes is new.causes
        and old.events is new.events
        and old.connection == new.connection
        and old.conductors == new.conductors
        and old.rates == new.rates
        and (old.complete, old.uncounted, old.unseen, old.counted_here, old.breaker)
        == (new.complete, new.uncounted, new.unseen, new.counted_here, new.breaker)
    )
