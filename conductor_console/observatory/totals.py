"""Attempts and failures counted for as long as the process lives, from one snapshot to the next.

The numbers of a snapshot are of now, or of the last hour. What a monitoring system wants only grows: here it is made of
what changed in the records that two snapshots show, and, for jobs that left the board with theirs, of the rates.
No threads and no I/O; whoever has the snapshots calls :meth:`Totals.take` for each.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from conductor_console.jobboards.attempts import FAILURES, OUTCOMES, Attempt, AttemptRecord
from conductor_console.jobboards.base import BinEntry
from conductor_console.jobboards.chunks import changes
from conductor_console.observatory.causes import WINDOW
from conductor_console.observatory.snapshot import JobView, Snapshot
from conductor_console.text import visible

#: A cause's type and fingerprint, clean and short.
CauseLabel = tuple[str, str]

OTHER: Final[CauseLabel] = ("other", "other")
#: A failure of which no cause was told.
UNTOLD: Final[CauseLabel] = ("unknown", "unknown")
TYPE_LENGTH: Final = 80
FINGERPRINT_LENGTH: Final = 16

#: So many causes have numbers of their own at a time.
CAUSES: Final = 20
#: Numbers of so many are remembered, shown or not.
REMEMBERED: Final = 1000
#: Jobs that are neither on the board nor in the bin: they may be on their way from one to the other, or back.
AWAY: Final = 10_000
#: How long an outcome of ``unknown`` may give way to what another watcher tells.
DOUBT: Final = timedelta(seconds=10)
#: Records are foreign: one must not say that a job was tried more often than a number can tell.
MOST: Final = 10**9


def label(text: str, limit: int) -> str:
    """Foreign text as a label's value: one clean line of ``limit`` characters at most."""
    return visible(text[:limit])[:limit]


def cause_label(kind: str, fingerprint: str) -> CauseLabel:
    """What tells one cause from another."""
    return label(kind, TYPE_LENGTH), label(fingerprint, FINGERPRINT_LENGTH)


class CauseTotals:
    """Failures by cause. A cause that came first keeps its place; one that was quiet for an hour gives it up.

    What has no place counts as :data:`OTHER`. A cause that gets its place back goes on from its old number: no number
    here ever falls.
    """

    def __init__(self, places: int = CAUSES) -> None:
        self._places = places
        self._totals: OrderedDict[CauseLabel, int] = OrderedDict()
        self._last: dict[CauseLabel, datetime] = {}
        self._other = 0

    def add(self, cause: CauseLabel, at: datetime) -> None:
        """One failure more, at ``at``."""
        if cause == OTHER or (cause not in self._last and not self._room(at)):
            self._other += 1
            return
        self._last[cause] = at
        self._totals[cause] = self._totals.pop(cause, 0) + 1
        if len(self._totals) > REMEMBERED:
            self._totals.popitem(last=False)

    def _room(self, at: datetime) -> bool:
        if len(self._last) < self._places:
            return True
        stalest = min(self._last, key=lambda cause: self._last[cause])
        if at - self._last[stalest] < WINDOW:
            return False
        del self._last[stalest]
        return True

    def shown(self) -> Mapping[CauseLabel, int]:
        """The number of each that has a place, then that of all others."""
        return {cause: self._totals[cause] for cause in self._last} | {OTHER: self._other}


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far a job's attempts are counted: all up to ``attempts``, but the one that was open."""

    attempts: int
    open: int | None

    @classmethod
    def of(cls, record: AttemptRecord) -> _Mark:
        attempt = record.open_attempt
        return cls(record.attempts, attempt.n if attempt is not None else None)

    def moved_to(self, record: AttemptRecord) -> _Mark:
        """An older picture of the record (a server that trails) moves nothing back."""
        now = self.of(record)
        if now.attempts < self.attempts or (now.attempts == self.attempts and self.open is None):
            return self
        return now


class Totals:
    """Not thread safe. Counts from the first complete snapshot on: what that one shows is history already."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter(dict.fromkeys(sorted(OUTCOMES), 0))
        self.causes = CauseTotals()
        #: Since when it counts, and when the board was last seen to change (local clock).
        self.since: datetime | None = None
        self.changed_at: datetime | None = None
        self._jobs: Mapping[str, JobView] = {}
        self._binned: Sequence[BinEntry] = ()
        self._bin: Mapping[str, AttemptRecord | None] = {}
        self._records: dict[str, AttemptRecord] = {}
        self._marks: dict[str, _Mark] = {}
        self._away: OrderedDict[str, None] = OrderedDict()
        self._doubts: OrderedDict[tuple[str, int], datetime] = OrderedDict()
        self._done: dict[int, int] = {}
        self._failed: dict[int, int] = {}
        self._told = 0
        self._seen: Snapshot | None = None

    def take(self, snapshot: Snapshot, now: datetime) -> None:
        """Counts what happened since the snapshot before, which must not be newer; ``now`` is the local clock's."""
        if snapshot is not self._seen and snapshot.complete:
            self._seen = snapshot
            self._count(snapshot, now)
            self.since = self.since or now
        while self._doubts and next(iter(self._doubts.values())) <= now:
            self._doubts.popitem(last=False)
            self.attempts["unknown"] += 1

    def _count(self, snapshot: Snapshot, now: datetime) -> None:
        if snapshot.by_key is not self._jobs or snapshot.binned is not self._binned:
            self.changed_at = snapshot.taken_at
        for key, record in self._changed(snapshot):
            self._told += self._take_record(key, record, now)
        if snapshot.connection.state != "live" or not snapshot.rates.done:
            return
        # Only a live picture tells of which minute its rates are.
        minute = int(snapshot.taken_at.timestamp()) // 60
        done = _more(self._done, snapshot.rates.done, minute)
        failed = _more(self._failed, snapshot.rates.failed, minute)
        told, self._told = self._told, 0
        if self.since is None:
            return
        self.attempts["consumed"] += done
        # A job that is consumed with a failed flow takes its record with it; only the rates tell of it.
        for _ in range(failed - told):
            self._failure("failed", UNTOLD, now)

    def _changed(self, snapshot: Snapshot) -> Iterator[tuple[str, AttemptRecord]]:
        """The records that are new or changed; and what left is noted as away."""
        changed, gone = changes(self._jobs, snapshot.by_key)
        here = {key: snapshot.by_key[key].entry.record for key in changed}
        self._jobs = snapshot.by_key
        if snapshot.binned is not self._binned:
            self._binned = snapshot.binned
            before, self._bin = self._bin, {entry.key: entry.record for entry in snapshot.binned}
            gone |= before.keys() - self._bin.keys()
            here = {**self._bin, **here}
        for key in gone:
            if key not in self._jobs and key not in self._bin:
                self._forget(key)
        for key, record in here.items():
            if record is not None and self._records.get(key) is not record:
                self._records[key] = record
                yield key, record

    def _forget(self, key: str) -> None:
        self._records.pop(key, None)
        if key in self._marks:
            self._away[key] = None
            if len(self._away) > AWAY:
                self._marks.pop(self._away.popitem(last=False)[0], None)

    def _take_record(self, key: str, record: AttemptRecord, now: datetime) -> int:
        """Returns how many failures it told of."""
        self._away.pop(key, None)
        mark = self._marks.get(key)
        self._marks[key] = mark.moved_to(record) if mark is not None else _Mark.of(record)
        if self.since is None:
            return 0
        told = 0
        for attempt in record.history:
            doubted = (key, attempt.n) in self._doubts
            if attempt.outcome is None or not (doubted or mark is None or _newer(attempt, mark)):
                continue
            if attempt.outcome == "unknown":
                self._doubts.setdefault((key, attempt.n), now + DOUBT)
                continue
            if doubted:
                del self._doubts[key, attempt.n]
            if attempt.outcome in FAILURES:
                error = attempt.error
                self._failure(attempt.outcome, cause_label(error.type, error.fingerprint) if error else UNTOLD, now)
                told += 1
            elif attempt.outcome != "consumed":
                self.attempts[attempt.outcome] += 1
        if mark is not None:
            self.attempts["unknown"] += _missing(record, mark)
        return told

    def _failure(self, outcome: str, cause: CauseLabel, now: datetime) -> None:
        self.attempts[outcome] += 1
        self.causes.add(cause, now)


def _newer(attempt: Attempt, mark: _Mark) -> bool:
    return attempt.n > mark.attempts or attempt.n == mark.open


def _missing(record: AttemptRecord, mark: _Mark) -> int:
    """How many attempts since ``mark`` are in the history no more: it keeps the newest, and we were away."""
    since = record.attempts - mark.attempts + (mark.open is not None and record.attempts > mark.attempts)
    return max(0, min(MOST, since) - sum(1 for attempt in record.history if _newer(attempt, mark)))


def _more(seen: dict[int, int], counts: Sequence[int], last: int) -> int:
    """What was added to the counts of the minutes up to ``last``, which ``seen`` keeps."""
    minutes = range(last - len(counts) + 1, last + 1)
    more = sum(max(0, count - seen.get(minute, 0)) for minute, count in zip(minutes, counts, strict=True))
    kept = {minute: max(count, seen.get(minute, 0)) for minute, count in zip(minutes, counts, strict=True)}
    seen.clear()
    seen.update(kept)
    return more
