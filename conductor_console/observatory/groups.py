"""The jobs that fail for one reason, on the board and in the bin, with what the last hour tells of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from conductor_console.jobboards.attempts import FAILURES, Attempt, Cause
from conductor_console.jobboards.base import BinEntry
from conductor_console.observatory.causes import conductor
from conductor_console.observatory.snapshot import CauseView, JobView, Snapshot
from conductor_console.observatory.views import clean_cause


@dataclass(frozen=True, slots=True)
class CauseGroup:
    """One fingerprint.

    :ivar jobs: those on the board whose unbroken failures are of this cause, worst first: what an act on the group
        acts upon. ``binned``: those in the bin, newest first. ``left``: how many failed so within the hour and are
        neither on the board nor in the bin.
    :ivar count: failures within the last hour, 0 where it is quiet; ``bars`` as in :class:`CauseView`.
    :ivar conductors: how many failures each conductor had (in the last hour; in the jobs' histories where it is
        quiet), most first.
    """

    fingerprint: str
    example: Cause
    jobs: tuple[JobView, ...]
    binned: tuple[BinEntry, ...]
    left: int
    count: int
    first: datetime
    last: datetime
    conductors: tuple[tuple[str, int], ...]
    bars: tuple[tuple[int, int], ...]

    @property
    def affected(self) -> int:
        """How many jobs it concerns in all."""
        return len(self.jobs) + len(self.binned) + self.left


class _Heard:
    """What the jobs' own histories tell of one fingerprint."""

    def __init__(self) -> None:
        self.jobs: list[JobView] = []
        self.binned: list[BinEntry] = []
        self.attempts: list[Attempt] = []

    def add(self, history: Sequence[Attempt], fingerprint: str) -> None:
        self.attempts += [one for one in history if one.error is not None and one.error.fingerprint == fingerprint]


def cause_groups(snapshot: Snapshot) -> tuple[CauseGroup, ...]:
    """Most failures in the last hour first, then most jobs, then the newest."""
    heard: dict[str, _Heard] = {}
    for job in snapshot.jobs:
        if job.failures and job.cause is not None:
            group = heard.setdefault(job.cause.fingerprint, _Heard())
            group.jobs.append(job)
            group.add(job.attempts, job.cause.fingerprint)
    for entry in snapshot.binned:
        record = entry.record
        cause = record.cause if record is not None and record.failures else None
        if record is not None and cause is not None:
            group = heard.setdefault(clean_cause(cause).fingerprint, _Heard())
            group.binned.append(entry)
            group.add(record.history, cause.fingerprint)
    recent = {view.fingerprint: view for view in snapshot.causes}
    in_bin = {key for entry in snapshot.binned for key in (entry.key, entry.uuid)}

    def left(view: CauseView | None) -> int:
        return sum(1 for key in view.jobs if key not in snapshot.by_key and key not in in_bin) if view else 0

    made = [
        _group(fingerprint, heard.get(fingerprint), view := recent.get(fingerprint), left(view))
        for fingerprint in {**recent, **heard}
    ]
    return tuple(sorted(made, key=_order))


def _order(group: CauseGroup) -> tuple[int, int, float, str]:
    return (-group.count, -group.affected, -group.last.timestamp(), group.fingerprint)


def _group(fingerprint: str, heard: _Heard | None, recent: CauseView | None, left: int) -> CauseGroup:
    heard = heard or _Heard()
    attempts = sorted(heard.attempts, key=lambda one: one.ended or one.began)
    times = [one.ended or one.began for one in attempts]
    if recent is not None:
        times += [recent.first, recent.last]
        example, conductors = recent.example, recent.conductors
    else:
        error = attempts[-1].error
        assert error is not None
        told = Counter(conductor(one.who) for one in attempts if one.outcome in FAILURES)
        example, conductors = clean_cause(error), tuple(told.most_common())
    return CauseGroup(
        fingerprint=fingerprint,
        example=example,
        jobs=tuple(heard.jobs),
        binned=tuple(heard.binned),
        left=left,
        count=recent.count if recent is not None else 0,
        first=min(times),
        last=max(times),
        conductors=conductors,
        bars=recent.bars if recent is not None else (),
    )
