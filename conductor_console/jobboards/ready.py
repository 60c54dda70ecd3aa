"""Which jobs may be tried now, best first, kept in order as the board moves."""

from __future__ import annotations

import bisect
import heapq
from datetime import datetime

from conductor_console.jobboards.base import PRIORITY_ORDER, JobEntry

_Place = tuple[int, str, str]


class ReadyJobs:
    """The unclaimed, well-formed jobs, VERY_HIGH first, then as posted; held ones wait aside. Not thread safe.

    Kept sorted at every change, so that asking costs no sort of the whole board.
    """

    def __init__(self) -> None:
        #: Two lists side by side, so that the second can be handed out as it is.
        self._places: list[_Place] = []
        self._entries: list[JobEntry] = []
        self._placed: dict[str, _Place] = {}
        self._held: dict[str, tuple[datetime, _Place, JobEntry]] = {}
        self._ends: list[tuple[datetime, str]] = []

    def put(self, entry: JobEntry) -> None:
        """Takes note of a job as it is now."""
        if not entry.workable or entry.claim is not None:
            self.drop(entry.key)
            return
        place = (PRIORITY_ORDER[entry.priority], entry.node, entry.key)
        hold = entry.record.hold_until if entry.record is not None else None
        if hold is None and self._placed.get(entry.key) == place:
            self._entries[bisect.bisect_left(self._places, place)] = entry
            return
        self.drop(entry.key)
        if hold is None:
            self._place(place, entry)
        else:
            self._held[entry.key] = (hold, place, entry)
            heapq.heappush(self._ends, (hold, entry.key))

    def drop(self, key: str) -> None:
        """Forgets a job (gone, or claimed)."""
        self._held.pop(key, None)
        place = self._placed.pop(key, None)
        if place is not None:
            index = bisect.bisect_left(self._places, place)
            del self._places[index]
            del self._entries[index]

    def _place(self, place: _Place, entry: JobEntry) -> None:
        index = bisect.bisect_left(self._places, place)
        self._places.insert(index, place)
        self._entries.insert(index, entry)
        self._placed[entry.key] = place

    def take(self, now: datetime) -> tuple[tuple[JobEntry, ...], datetime | None]:
        """The jobs that may be tried at ``now``, and when the next hold ends (None: none is held)."""
        while self._ends:
            end, key = self._ends[0]
            held = self._held.get(key)
            if held is not None and held[0] == end:
                if end > now:
                    return tuple(self._entries), end
                del self._held[key]
                self._place(held[1], held[2])
            heapq.heappop(self._ends)
        return tuple(self._entries), None
