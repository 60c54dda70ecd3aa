"""Failures of the last hour, grouped by what caused them."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from conductor_console.jobboards.attempts import Cause
from conductor_console.observatory.snapshot import CauseView
from conductor_console.observatory.views import clean_cause

WINDOW: Final = timedelta(hours=1)


@dataclass(slots=True)
class _Group:
    """One fingerprint's failures: their times in order, and how often each job is among them (newest job last)."""

    example: Cause
    newest: float
    times: list[float] = field(default_factory=list)
    jobs: dict[str, int] = field(default_factory=dict)
    view: CauseView | None = None


class Causes:
    """Adding a failure, and letting one go that grew too old, cost what that one costs; not what all do."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._ages: list[tuple[float, str, str]] = []
        self._views: tuple[CauseView, ...] | None = ()

    def add(self, job: str, cause: Cause, at: datetime) -> None:
        """A failure of ``job`` at ``at`` (local clock)."""
        cause = clean_cause(cause)
        moment = at.timestamp()
        group = self._groups.setdefault(cause.fingerprint, _Group(cause, moment))
        if moment >= group.newest:
            group.example, group.newest = cause, moment
        bisect.insort(group.times, moment)
        group.jobs[job] = group.jobs.pop(job, 0) + 1
        group.view = self._views = None
        heapq.heappush(self._ages, (moment, cause.fingerprint, job))

    def expire(self, now: datetime) -> None:
        """Lets go what happened more than an hour before ``now``."""
        oldest = (now - WINDOW).timestamp()
        while self._ages and self._ages[0][0] < oldest:
            _, fingerprint, job = heapq.heappop(self._ages)
            group = self._groups[fingerprint]
            del group.times[0]
            group.jobs[job] -= 1
            if not group.jobs[job]:
                del group.jobs[job]
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


def _view(fingerprint: str, group: _Group) -> CauseView:
    if group.view is None:
        group.view = CauseView(
            fingerprint=fingerprint,
            example=group.example,
            count=len(group.times),
            jobs=tuple(reversed(group.jobs)),
            first=datetime.fromtimestamp(group.times[0], UTC),
            last=datetime.fromtimestamp(group.times[-1], UTC),
        )
    return group.view
