"""Failures of the last hour, grouped by what caused them."""

from __future__ import annotations

import bisect
import heapq
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from conductor_console.jobboards.attempts import Cause
from conductor_console.observatory.snapshot import CauseView
from conductor_console.observatory.views import clean_cause
from conductor_console.text import visible

T = TypeVar("T")

_PID: Final = re.compile(r":\d+$")

WINDOW: Final = timedelta(hours=1)
#: Seconds that one bar of a cause's hour stands for.
BAR: Final = 300


@dataclass(slots=True)
class _Group:
    """One fingerprint's failures: their times in order, and how often each job is among them (newest job last).

    ``first`` is when it was first heard of, be that longer ago than the hour.
    """

    example: Cause
    newest: float
    first: float
    times: list[float] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)
    conductors: Counter[str] = field(default_factory=Counter)
    bars: Counter[int] = field(default_factory=Counter)
    view: CauseView | None = None


class Causes:
    """Adding a failure, and letting one go that grew too old, cost what that one costs; not what all do."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._ages: list[tuple[float, str, str, str]] = []
        self._views: tuple[CauseView, ...] | None = ()

    def add(self, job: str, cause: Cause, at: datetime, who: str = "") -> None:
        """A failure of ``job`` at ``at`` (local clock), on the conductor ``who`` where that is known."""
        cause, who = clean_cause(cause), conductor(who)
        moment = at.timestamp()
        group = self._groups.setdefault(cause.fingerprint, _Group(cause, moment, moment))
        if moment >= group.newest:
            group.example, group.newest = cause, moment
        bisect.insort(group.times, moment)
        group.first = min(group.first, moment)
        group.jobs[job] = group.jobs.pop(job, 0) + 1
        group.conductors[who] += 1
        group.bars[int(moment) // BAR] += 1
        group.view = self._views = None
        heapq.heappush(self._ages, (moment, cause.fingerprint, job, who))

    def expire(self, now: datetime) -> None:
        """Lets go what happened more than an hour before ``now``."""
        oldest = (now - WINDOW).timestamp()
        while self._ages and self._ages[0][0] < oldest:
            moment, fingerprint, job, who = heapq.heappop(self._ages)
            group = self._groups[fingerprint]
            del group.times[0]
            _less(group.jobs, job)
            _less(group.conductors, who)
            _less(group.bars, int(moment) // BAR)
            if not group.times:
                del self._groups[fingerprint]
            group.view = self._views = None

    def views(self) -> Sequence[CauseView]:
        """Worst first; the very same tuple as long as nothing changed."""
        if self._views is None:
            views = [_view(fingerprint, group) for fingerprint, group in self._groups.items()]
            views.sort(key=lambda view: (-view.count, -view.last.timestamp(), view.fingerprint))
            self._views = tuple(views)
        return self._views


def conductor(who: str) -> str:
    """A conductor, whichever process of its host it lives in now: ``c1@host:4121`` is ``c1@host``."""
    return visible(_PID.sub("", who), 120)


def _less(counts: dict[T, int], key: T) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _view(fingerprint: str, group: _Group) -> CauseView:
    if group.view is None:
        group.view = CauseView(
            fingerprint=fingerprint,
            example=group.example,
            count=len(group.times),
            jobs=tuple(reversed(group.jobs)),
            first=datetime.fromtimestamp(group.first, UTC),
            last=datetime.fromtimestamp(group.times[-1], UTC),
            conductors=tuple(group.conductors.most_common()),
            bars=tuple(sorted(group.bars.items())),
        )
    return group.view
