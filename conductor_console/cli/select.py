"""Which jobs a command means: by uuid or its beginning, by name, by what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, get_args

from conductor_console.clock import utcnow
from conductor_console.errors import UsageError
from conductor_console.jobboards.base import BinEntry, JobEntry, Listing
from conductor_console.observatory import filters
from conductor_console.observatory.build import build_snapshot
from conductor_console.observatory.snapshot import Health, JobView, State
from conductor_console.observatory.views import binned_view
from conductor_console.text import visible

_STATES: Final = get_args(State)
_HEALTHS: Final = get_args(Health)
#: Shorter than this a beginning of a uuid means nothing.
PREFIX: Final = 4


@dataclass(frozen=True, slots=True)
class Item:
    """A job as it is listed; ``entry`` is what an act is conditional on.

    :ivar created: None where nothing tells (the bin keeps no time of posting).
    """

    view: JobView
    entry: JobEntry | BinEntry

    @property
    def binned(self) -> BinEntry | None:
        return self.entry if isinstance(self.entry, BinEntry) else None


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for. Names and states narrow what the uuids, or the whole board, give.

    :ivar failures_over: more unbroken failures than this. ``chosen``: the console's own filter.
    """

    uuids: Sequence[str] = ()
    name: str | None = None
    failures_over: int | None = None
    state: str | None = None
    health: str | None = None
    chosen: filters.Filter = filters.EVERYTHING

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in (*_STATES, *_HEALTHS):
            raise UsageError(f"no state {visible(self.state, 40)!r}: there are {', '.join(_STATES)}")
        if self.health is not None and self.health not in _HEALTHS:
            raise UsageError(f"no health {visible(self.health, 40)!r}: there are {', '.join(_HEALTHS)}")

    @property
    def empty(self) -> bool:
        """Whether it means everything."""
        narrowed = self.name, self.failures_over, self.state, self.health
        return not self.uuids and not self.chosen and narrowed == (None,) * 4

    def among(self, items: Sequence[Item]) -> tuple[list[Item], list[str]]:
        """The jobs it means, in the order of ``items``, and the uuids that are not among them.

        :raises UsageError: when the beginning of a uuid fits several jobs.
        """
        chosen, missing = self._named(items) if self.uuids else (list(items), [])
        now = utcnow()
        return [item for item in chosen if self._fits(item.view, now)], missing

    def _named(self, items: Sequence[Item]) -> tuple[list[Item], list[str]]:
        keys: set[str] = set()
        missing: list[str] = []
        for text in self.uuids:
            exact = [item for item in items if text in (item.view.key, item.entry.uuid, item.entry.node)]
            found = exact or [item for item in items if len(text) >= PREFIX and item.view.key.startswith(text)]
            if not found and len(text) < PREFIX:
                raise UsageError(f"{visible(text, 40)!r} is too short: give {PREFIX} characters of a uuid at least")
            if len(found) > 1:
                raise UsageError(f"{visible(text, 40)!r} is the beginning of {len(found)} jobs' uuids: give more of it")
            keys.update(item.view.key for item in found)
            missing += [] if found else [text]
        return [item for item in items if item.view.key in keys], missing

    def _fits(self, view: JobView, now: datetime) -> bool:
        return (
            (self.name is None or fnmatchcase(view.entry.name, self.name))
            and (self.failures_over is None or view.failures > self.failures_over)
            # "state:cycling" means the health, as in the console's filter.
            and (self.state is None or self.state in (view.state, view.health))
            and (self.health is None or view.health == self.health)
            and self.chosen.fits(view, now)
        )


def on_board(listing: Listing) -> list[Item]:
    """The jobs on the board, worst first."""
    return [Item(view, view.entry) for view in build_snapshot(listing, now=utcnow()).jobs]


def in_bin(listing: Listing) -> list[Item]:
    """The jobs in the bin, newest first."""
    return [Item(binned_view(entry), entry) for entry in build_snapshot(listing, now=utcnow()).binned]


def short_uuids(items: Iterable[Item]) -> dict[str, str]:
    """The beginning of each key that means no other one, eight characters at least."""
    keys = sorted(item.view.key for item in items)
    shortest = {}
    for before, key, after in zip(["", *keys], keys, [*keys[1:], ""], strict=False):
        length = max(_common(key, before), _common(key, after)) + 1
        shortest[key] = key[: max(8, length)]
    return shortest


def _common(one: str, two: str) -> int:
    return next((index for index, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
