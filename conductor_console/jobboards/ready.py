"""Which jobs may be tried now, best first, kept in order as the board moves."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from conductor_console.jobboards.base import JobEntry
from conductor_console.jobboards.chunks import SortedParts

_Place = tuple[int, str, str]
#: So many ends of holds are kept, whether they still count or not, before it is looked which do.
_ENDS: Final = 100


class ReadyJobs:
    """The unclaimed, well-formed jobs, VERY_HIGH first, then as posted; held ones wait aside. Not thread safe.

    Kept sorted at every change, so that asking costs no sort of the whole board, and no copy of it either.
    """

    def __init__(self) -> None:
        self._free: SortedParts[_Place, JobEntry] = SortedParts()
        self._placed: dict[str, _Place] = {}
        self._held: dict[str, tuple[datetime, _Place, JobEntry]] = {}
        self._ends: list[tuple[datetime, str]] = []

    def put(self, entry: JobEntry) -> None:
        """Takes note of a job as it is now."""
        if not entry.workable or entry.claim is not None:
            self.drop(entry.key)
            return
        place = (*entry.place, entry.key)
        hold = entry.record.hold_until if entry.record is not None else None
        if hold is None and self._placed.get(entry.key) == place:
            self._free.put(place, entry)
            return
        self.drop(entry.key)
        if hold is None:
            self._place(place, entry)
        else:
            self._held[entry.key] = (hold, place, entry)
            heapq.heappush(self._ends, (hold, entry.key))
            if len(self._ends) > 2 * len(self._held) + _ENDS:
                self._ends = [(end, key) for key, (end, _, _) in self._held.items()]
                heapq.heapify(self._ends)

    def drop(self, key: str) -> None:
        """Forgets a job (gone, or claimed)."""
        self._held.pop(key, None)
        place = self._placed.pop(key, None)
        if place is not None:
            self._free.drop(place)

    def _place(self, place: _Place, entry: JobEntry) -> None:
        self._free.put(place, entry)
        self._placed[entry.key] = place

    def take(self, now: datetime) -> tuple[Sequence[JobEntry], datetime | None]:
        """The jobs that may be tried at ``now``, and when the next hold ends (None: none is held)."""
        until = self._let_through(now)
        return self._free.picture(), until

    def _let_through(self, now: datetime) -> datetime | None:
        """Places those whose hold is over. Returns when the next one is."""
        while self._ends:
            end, key = self._ends[0]
            held = self._held.get(key)
            if held is not None and held[0] == end:
                if end > now:
                    return end
                del self._held[key]
                self._place(held[1], held[2])
            heapq.heappop(self._ends)
        return None
