"""The player: where on a tape one stands, and how play moves it. Pure: it knows no clock, the caller tells the time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Final

from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.lanes import AtomAt, Boundary, Lane, atom_at, boundaries, lanes_of
from conductor_console.replay.tape import Tape, atom_key
from conductor_console.replay.words import broken

SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
#: With waits skipped, no gap between two events takes more than this many seconds to watch.
LONGEST_WAIT: Final = 1.0


def advance(offsets: Sequence[float], position: float, seconds: float, speed: float, skip_waits: bool) -> float:
    """Where play is ``seconds`` of watching after it was at ``position``; all in seconds.

    Watching is additive: a then b seconds lead to where a + b lead.

    :param offsets: the tape's rows, never decreasing. Play ends at the last of them.
    """
    if not offsets:
        return 0.0
    if not skip_waits:
        return min(offsets[-1], position + seconds * speed)
    index = bisect_right(offsets, position)
    while seconds > 0 and index < len(offsets):
        # One gap may take LONGEST_WAIT at most, so it is crossed at its own pace.
        gap = offsets[index] - (offsets[index - 1] if index else 0.0)
        pace = max(speed, gap / LONGEST_WAIT)
        needed = (offsets[index] - position) / pace
        if needed > seconds:
            return position + seconds * pace
        seconds -= needed
        position = offsets[index]
        index = bisect_right(offsets, position)
    return position


class Player:
    """Stands on a tape: on one of its rows (``index``), or between that one and the next (``position``).

    :ivar index: of the newest row that happened; -1 on a tape without rows.
    :ivar position: seconds from the tape's start.
    """

    def __init__(self, tape: Tape, *, speed: float = 1.0, skip_waits: bool = True) -> None:
        self.tape = tape
        self.speed = speed
        self.skip_waits = skip_waits
        self.index = -1
        self.position = 0.0
        self.home()

    @cached_property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Where the attempts after the first begin."""
        return boundaries(self.tape)

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        """The atoms' lanes, in the order they are drawn."""
        return lanes_of(self.tape, self.boundaries)

    @cached_property
    def failures(self) -> tuple[int, ...]:
        """Indexes of the rows that tell of a failure, each failure once.

        A flow's or an attempt's own is counted only where no atom of that attempt told it already.
        """
        starts = {start.index: start.flow_uuid for start in self.boundaries}
        told: set[str | None] = set()
        found: list[int] = []
        for index, row in enumerate(self.tape.rows):
            if index in starts:
                told.discard(starts[index])
            if broken(row) and (row.kind in ("task", "retry") or row.flow_uuid not in told):
                found.append(index)
                told.add(row.flow_uuid)
        return tuple(found)

    @property
    def row(self) -> JournalRow | None:
        """The row one stands on."""
        return self.tape.rows[self.index] if self.index >= 0 else None

    @property
    def at_end(self) -> bool:
        return self.index >= len(self.tape.rows) - 1

    @property
    def when(self) -> datetime:
        """The time of day as it was then, by the clock that stamped the newest row."""
        if self.index < 0:
            return self.tape.began
        return self.tape.rows[self.index].at + timedelta(seconds=self.position - self.tape.offsets[self.index])

    @cached_property
    def _attempts(self) -> tuple[int | None, ...]:
        numbers = (row.attempt for row in self.tape.rows)
        return tuple(accumulate(numbers, lambda known, new: known if new is None else new))

    @property
    def attempt(self) -> int | None:
        """The number of the attempt under way, where the tape tells."""
        return self._attempts[self.index] if self.index >= 0 else None

    def _stand(self, index: int) -> None:
        self.index = max(min(index, len(self.tape.rows) - 1), min(0, len(self.tape.rows) - 1))
        self.position = self.tape.offsets[self.index] if self.index >= 0 else 0.0

    def next(self) -> None:
        """To the next row; stays on the last."""
        self._stand(self.index + 1)

    def previous(self) -> None:
        """To the row before; from between two rows, to the earlier of them."""
        between = self.index >= 0 and self.position > self.tape.offsets[self.index]
        self._stand(self.index if between else self.index - 1)

    def home(self) -> None:
        """To the first row."""
        self._stand(0)

    def end(self) -> None:
        """To the last row."""
        self._stand(len(self.tape.rows) - 1)

    def go(self, index: int) -> None:
        """To the row of that index (clamped)."""
        self._stand(index)

    def next_failure(self) -> bool:
        """To the next failure. False, and nothing moved, when there is none."""
        place = bisect_right(self.failures, self.index)
        if place == len(self.failures):
            return False
        self._stand(self.failures[place])
        return True

    def previous_failure(self) -> bool:
        """To the failure before. False, and nothing moved, when there is none."""
        place = bisect_left(self.failures, self.index)
        if place == 0:
            return False
        self._stand(self.failures[place - 1])
        return True

    def at(self, seconds: float) -> None:
        """To that many seconds from the tape's start (clamped): on the newest row that had happened by then."""
        self.position = min(max(0.0, seconds), self.tape.length)
        self.index = bisect_right(self.tape.offsets, self.position) - 1

    def advance(self, seconds: float) -> None:
        """Plays on for so many seconds of watching, at the speed set."""
        moved = advance(self.tape.offsets, self.position, seconds, self.speed, self.skip_waits)
        if moved >= self.tape.length:
            self.end()
        elif moved > self.position:
            self.at(moved)

    def faster(self) -> None:
        self.speed = SPEEDS[min(bisect_right(SPEEDS, self.speed), len(SPEEDS) - 1)]

    def slower(self) -> None:
        self.speed = SPEEDS[max(bisect_left(SPEEDS, self.speed) - 1, 0)]

    def atom(self, lane: Lane) -> AtomAt:
        """The lane's atom as it was then."""
        return atom_at(self.tape, lane, self.index)

    def atoms(self) -> tuple[AtomAt, ...]:
        """Every atom as it was then, in the order of the lanes."""
        return tuple(self.atom(lane) for lane in self.lanes)

    @cached_property
    def _number_of(self) -> dict[tuple[str | None, str], int]:
        return {(lane.flow_uuid, lane.atom.uuid): number for number, lane in enumerate(self.lanes)}

    @property
    def lane(self) -> int | None:
        """The number of the lane of the row one stands on, if it is an atom's."""
        row = self.row
        if row is None or row.kind not in ("task", "retry"):
            return None
        return self._number_of.get((row.flow_uuid, atom_key(row)))
