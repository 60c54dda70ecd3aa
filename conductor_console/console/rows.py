"""The rows of a list: what is shown where, which row has the cursor, which are marked. No screen code.

Cursor, marks and scroll position are held by the rows' keys. When the picture changes, the cursor's row stays on its
line of the screen; a row that vanished stays for :data:`GHOST` seconds and says why, then the list closes up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: How long a vanished row says why.
GHOST: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Ghost(Generic[T]):
    """A row that is no longer there: what it was, and why it went."""

    item: T
    why: str
    until: datetime


class Rows(Generic[T]):
    """A list with a cursor.

    Until the operator moves the cursor (and again after ``home``) the list keeps to its top, so that the worst is in
    sight; from then on it keeps still under the cursor.
    """

    def __init__(self, key: Callable[[T], str]) -> None:
        self._key = key
        self._items: Sequence[T] = ()
        self._present: Mapping[str, T] = {}
        self.shown: Sequence[T | Ghost[T]] = ()
        self.index = 0
        self.top = 0
        self.height = 1
        self.marks: dict[str, None] = {}
        self._steered = False
        self._taken: datetime | None = None

    # -- reading ---------------------------------------------------------------------------------------------------
    def key_of(self, row: T | Ghost[T]) -> str:
        return self._key(row.item if isinstance(row, Ghost) else row)

    @property
    def cursor(self) -> str | None:
        """The key under the cursor; None in an empty list."""
        return self.key_of(self.shown[self.index]) if self.shown else None

    @property
    def current(self) -> T | None:
        """The row under the cursor; None in an empty list, and where it has vanished."""
        row = self.shown[self.index] if self.shown else None
        return None if isinstance(row, Ghost) else row

    @property
    def listed(self) -> int:
        """How many rows there are in the list, vanished ones aside."""
        return len(self._items)

    @property
    def hidden_marks(self) -> int:
        """How many marked rows are not in the list now (a filter hides them)."""
        if not self.marks:
            return 0
        listed = {self._key(item) for item in self._items}
        return sum(1 for key in self.marks if key not in listed)

    def targets(self) -> list[T]:
        """What an act is for: the marked rows, in the order they were marked, else the one under the cursor."""
        if self.marks:
            return [self._present[key] for key in self.marks]
        return [] if self.current is None else [self.current]

    @property
    def viewport(self) -> Sequence[T | Ghost[T]]:
        """The rows in sight."""
        return self.shown[self.top : self.top + self.height]

    @property
    def below(self) -> int:
        """How many rows are below the last one in sight."""
        return max(0, len(self.shown) - self.top - self.height)

    # -- a new picture ---------------------------------------------------------------------------------------------
    def take(
        self, items: Sequence[T], present: Mapping[str, T], now: datetime, why: Callable[[str], str] | None = None
    ) -> None:
        """
        :param items: the rows to list, in order. ``present``: every row there is by key, listed or filtered out.
        :param why: what to say of a key that is no longer present.
        """
        before, index = self.shown, self.index
        # What went while the list was not looked at is no news to whoever comes back to it.
        looked = self._taken is not None and now - self._taken <= GHOST
        self._taken = now
        ghosts = self._ghosts(present, now, why, looked) if before else {}
        held = self._steered
        self._items, self._present = items, present
        if self.marks:
            self.marks = {key: None for key in self.marks if key in present}
        anchor, line, cursor = self._anchor(before, index, ghosts)
        if anchor is None:
            self.top = min(self.top, max(0, len(items) + len(ghosts) - self.height)) if held else 0
        else:
            above = sum(1 for ghost_line in ghosts if ghost_line < line)
            self.top = self._bounded(anchor + above - line, len(items) + len(ghosts)) if held else 0
        self.shown = self._with_ghosts(ghosts)
        found = self._find(self.shown, cursor, index) if cursor is not None else None
        self.index = min(found if found is not None else self.top, max(0, len(self.shown) - 1))
        if not held and self.index >= self.height:
            self.index = 0

    def _ghosts(
        self, present: Mapping[str, T], now: datetime, why: Callable[[str], str] | None, looked: bool
    ) -> dict[int, Ghost[T]]:
        """What vanished, by its line on the screen."""
        ghosts = {}
        for line, row in enumerate(self.viewport):
            key = self.key_of(row)
            if key in present:
                continue
            if isinstance(row, Ghost):
                if row.until > now:
                    # The news of why may come a moment after the row went.
                    ghosts[line] = row if why is None else replace(row, why=why(key))
            elif why is not None and looked:
                ghosts[line] = Ghost(row, why(key), now + GHOST)
        return ghosts

    def _anchor(
        self, before: Sequence[T | Ghost[T]], index: int, ghosts: Mapping[int, Ghost[T]]
    ) -> tuple[int | None, int, str | None]:
        """Where the row that keeps its line is in the new list, its line, and the key the cursor is on from now on."""
        if not before:
            return None, 0, None
        line = index - self.top
        cursor = self.key_of(before[index])
        at = self._find(self._items, cursor, index) if cursor in self._present else None
        if at is not None:
            return at, line, cursor
        haunted = line in ghosts
        reach = range(index + 1, min(len(before), index + 1 + 4 * self.height))
        back = range(index - 1, max(-1, index - 1 - 4 * self.height), -1)
        for other in (*reach, *back):
            key = self.key_of(before[other])
            at = self._find(self._items, key, other) if key in self._present else None
            if at is not None:
                # The vanished row's line is its ghost's; once that has gone, its neighbour moves up to it.
                return at, (other - self.top) if haunted else line, cursor if haunted else key
        return None, line, cursor if haunted else None

    def _with_ghosts(self, ghosts: Mapping[int, Ghost[T]]) -> Sequence[T | Ghost[T]]:
        if not ghosts:
            return self._items
        shown: list[T | Ghost[T]] = list(self._items)
        for line in sorted(ghosts):
            shown.insert(min(self.top + line, len(shown)), ghosts[line])
        return shown

    def _find(self, rows: Sequence[T] | Sequence[T | Ghost[T]], key: str, near: int) -> int | None:
        """Where ``key`` is; looked for outward from ``near``, since most rows move little."""
        count = len(rows)
        near = max(0, min(near, count - 1))
        for away in range(count):
            for place in (near + away, near - away) if away else (near,):
                if 0 <= place < count and self.key_of(rows[place]) == key:
                    return place
        return None

    def _bounded(self, top: int, count: int) -> int:
        return max(0, min(top, count - self.height))

    # -- the operator moves ----------------------------------------------------------------------------------------
    def resize(self, height: int) -> None:
        """As many rows as there are lines now; the cursor stays in sight."""
        if height != self.height:
            self.height = max(1, height)
            self._into_sight()

    def go(self, index: int) -> None:
        """Puts the cursor on a row, by its place in the list; out of range is the nearest end."""
        self.index = max(0, min(index, len(self.shown) - 1))
        self._steered = self.index > 0
        self._into_sight()

    def toggle_mark(self) -> None:
        """Marks the row under the cursor, or takes its mark off."""
        row = self.current
        if row is not None:
            key = self._key(row)
            if key in self.marks:
                del self.marks[key]
            else:
                self.marks[key] = None

    def toggle_all(self) -> None:
        """Marks every row of the list; where all of them are marked, takes these marks off."""
        listed = dict.fromkeys(map(self._key, self._items))
        if listed.keys() <= self.marks.keys():
            self.marks = {key: None for key in self.marks if key not in listed}
        else:
            self.marks |= listed

    def _into_sight(self) -> None:
        self.top = max(min(self.top, self.index), self.index - self.height + 1, 0)
        self.top = self._bounded(self.top, len(self.shown))
