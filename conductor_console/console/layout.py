"""What fits: how the first screen folds at a size, and where the columns of the jobs list stand.

Pure functions of width and height in cells; nothing is measured from data, so that nothing jumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MINIMUM: Final = (80, 24)

#: Fixed widths; the name takes what is left.
STATE, FAILS, HELD, OWNER, PRIO, AGE, POSTED = 11, 5, 6, 10, 4, 4, 5
NAME_AT: Final = 16
NAME_LEAST: Final = 36
NAME_MOST: Final = 60
CAUSE_LEAST: Final = 16
CAUSE_MOST: Final = 44


@dataclass(frozen=True, slots=True)
class Fold:
    """How much of the first screen there is room for.

    :ivar tiny: below 80x24: list and header only. ``side``: cells of the side panels' text, 0 when they are folded
        into two lines. ``attempts``: lines of the selected job's attempts.
    """

    width: int
    height: int
    tiny: bool
    product: bool
    tabs: bool
    side: int
    attempts: int


@lru_cache(maxsize=64)
def fold(width: int, height: int) -> Fold:
    """The fold for a terminal of that size."""
    tiny = width < MINIMUM[0] or height < MINIMUM[1]
    roomy = width >= 108 and height >= 30
    side = 0
    if roomy:
        side = 40 if width >= 160 else 28
    return Fold(
        width,
        height,
        tiny=tiny,
        product=width >= 100,
        tabs=width >= 100 and height >= 30,
        side=side,
        attempts=5 if width >= 100 and height >= 32 else 2,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its cells are ``[start, start + width)``; ``right`` tells on which side its text stands."""

    id: str
    title: str
    start: int
    width: int
    right: bool = False

    @property
    def end(self) -> int:
        return self.start + self.width


_SETS: Final = (("prio", "age", "cause", "posted"), ("prio", "age"), ("prio",), ())


@lru_cache(maxsize=64)
def columns(width: int) -> tuple[Column, ...]:
    """The columns of a list ``width`` cells wide, its right margin included.

    The richest set that fits: age goes first, then prio. Before a column goes, the gaps shrink.
    Below 80 cells the name gives way, then the time held.
    """
    for extra in _SETS:
        for gap in (2, 1):
            spare = width - 1 - _needed(extra, gap)
            if spare >= 0:
                return _placed(extra, gap, spare)
    return _narrow(width)


def _needed(extra: tuple[str, ...], gap: int) -> int:
    cells = NAME_AT + NAME_LEAST + 1 + FAILS + gap + HELD + 2 + OWNER
    cells += gap + PRIO if "prio" in extra else 0
    cells += 2 + AGE if "age" in extra else 0
    cells += 2 + CAUSE_LEAST if "cause" in extra else 0
    return cells + (2 + POSTED if "posted" in extra else 0)


def _placed(extra: tuple[str, ...], gap: int, spare: int) -> tuple[Column, ...]:
    cause = 0
    if "cause" in extra:
        # The cause's type first, then the whole name, then the cause's place.
        grown = min(spare, 8)
        name_more = min(spare - grown, NAME_MOST - NAME_LEAST)
        cause = min(CAUSE_LEAST + grown + (spare - grown - name_more), CAUSE_MOST)
    else:
        name_more = min(max(0, spare - 1), NAME_MOST - NAME_LEAST)
    placed = [Column("state", "state", 3, STATE), Column("name", "name", NAME_AT, NAME_LEAST + name_more)]
    for name, title, before, size, right in (
        ("fails", "fails", 1, FAILS, True),
        ("for", "for", gap, HELD, True),
        ("owner", "owner", 2, OWNER, False),
        ("prio", "prio", gap, PRIO, False),
        ("age", "age", 2, AGE, True),
        ("cause", "cause", 2, cause, False),
        ("posted", "posted", 2, POSTED, True),
    ):
        if name in ("fails", "for", "owner") or name in extra:
            placed.append(Column(name, title, placed[-1].end + before, size, right))
    return tuple(placed)


def _narrow(width: int) -> tuple[Column, ...]:
    name = width - 1 - (NAME_AT + 1 + FAILS + 1 + HELD + 2 + OWNER)
    with_held = name >= 12
    if not with_held:
        name = max(6, name + 1 + HELD)
    placed = [Column("state", "state", 3, STATE), Column("name", "name", NAME_AT, name)]
    placed.append(Column("fails", "fails", placed[-1].end + 1, FAILS, True))
    if with_held:
        placed.append(Column("for", "for", placed[-1].end + 1, HELD, True))
    placed.append(Column("owner", "owner", placed[-1].end + 2, OWNER))
    return tuple(placed)
