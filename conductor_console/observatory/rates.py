"""How attempts ended within the last hour: each counted once, however many ways the news of it came.

Three sources tell of a closed attempt: the ledger's record (exact, but it goes when the job is consumed), the fleet of
this process (its own conductors only), and a claimed job's removal from the board (anybody's). Two of them that tell
of the same job, conductor and moment are one attempt.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from conductor_console.jobboards.attempts import FAILURES, Attempt, Cause
from conductor_console.jobboards.common import identity
from conductor_console.observatory.causes import WINDOW, Causes

Source = Literal["record", "fleet", "removal"]

MINUTES: Final = 60
#: Two sources tell of one attempt within this many seconds; clocks and news may differ that much.
SLACK: Final = 10.0
#: Above this the oldest closings are forgotten early; they stay counted.
LIMIT: Final = 200_000


@dataclass(slots=True)
class _Closing:
    job: str
    who: str
    at: datetime
    outcome: str
    told_by: set[Source]
    n: int | None = None
    caused: bool = False


class Closings:
    """The closed attempts of the last hour, and what is counted of them. Times are the local clock's."""

    def __init__(self, causes: Causes) -> None:
        self._causes = causes
        self._by_job: dict[str, list[_Closing]] = {}
        self._order: deque[_Closing] = deque()
        self._done: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()

    # -- sources ---------------------------------------------------------------------------------------------------
    def from_record(self, job: str, history: Sequence[Attempt], now: datetime, offset: float) -> None:
        """The closed attempts of a record (newest first); ``offset`` is the board's clock less the local one, s."""
        for attempt in history:
            if attempt.ended is None or attempt.outcome is None:
                continue
            try:
                at = attempt.ended - timedelta(seconds=offset)
            except OverflowError:
                # A foreign record may claim any year.
                continue
            if now - at > WINDOW:
                break
            self._add("record", job, attempt.who, at, attempt.outcome, attempt.error, now, attempt.n)

    def from_fleet(self, job: str, who: str, at: datetime, outcome: str, cause: Cause | None, now: datetime) -> None:
        """An attempt that a conductor of this process, or of its worker processes, closed."""
        self._add("fleet", job, identity(who), at, outcome, cause, now)

    def from_removal(self, job: str, at: datetime, outcome: str, now: datetime) -> None:
        """A job that somebody consumed."""
        self._add("removal", job, "", at, outcome, None, now)

    def _add(
        self,
        source: Source,
        job: str,
        who: str,
        at: datetime,
        outcome: str,
        cause: Cause | None,
        now: datetime,
        n: int | None = None,
    ) -> None:
        at = min(at, now)
        known = self._by_job.setdefault(job, [])
        if n is not None and any(closing.n == n for closing in known):
            return
        closing = next((old for old in known if _same(old, source, who, at, outcome)), None)
        if closing is None:
            closing = _Closing(job, who, at, outcome, set())
            known.append(closing)
            self._order.append(closing)
            self._count(closing)
            if len(self._order) > LIMIT:
                self._forget(self._order.popleft())
        closing.told_by.add(source)
        closing.n = n if closing.n is None else closing.n
        if cause is not None and not closing.caused and outcome in FAILURES:
            closing.caused = True
            self._causes.add(job, cause, closing.at, closing.who or who)

    def _count(self, closing: _Closing) -> None:
        if closing.outcome == "consumed":
            self._done[_minute(closing.at)] += 1
        elif closing.outcome in FAILURES:
            self._failed[_minute(closing.at)] += 1

    # -- reading ---------------------------------------------------------------------------------------------------
    def ended(self, job: str, at: datetime) -> bool:
        """Whether it is known already how the job that left the board at ``at`` ended."""
        return any(
            closing.outcome in ("consumed", "failed") and abs((closing.at - at).total_seconds()) <= SLACK
            for closing in self._by_job.get(job, ())
        )

    def per_minute(self, now: datetime) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Done and failed for each of the last 60 minutes, oldest first; the last one is under way."""
        last = _minute(now)
        minutes = range(last - MINUTES + 1, last + 1)
        return tuple(self._done[m] for m in minutes), tuple(self._failed[m] for m in minutes)

    def expire(self, now: datetime) -> None:
        """Lets go what happened more than an hour before ``now``."""
        self._causes.expire(now)
        while self._order and now - self._order[0].at > WINDOW:
            self._forget(self._order.popleft())
        oldest = _minute(now) - MINUTES
        for counter in (self._done, self._failed):
            for minute in [minute for minute in counter if minute < oldest]:
                del counter[minute]

    def _forget(self, closing: _Closing) -> None:
        known = self._by_job[closing.job]
        known.remove(closing)
        if not known:
            del self._by_job[closing.job]


def _same(old: _Closing, source: Source, who: str, at: datetime, outcome: str) -> bool:
    if source in old.told_by or abs((old.at - at).total_seconds()) > SLACK:
        return False
    if "removal" in (source, *old.told_by):
        return outcome in ("consumed", "failed") and old.outcome in ("consumed", "failed")
    return old.outcome == outcome and old.who.partition("@")[0] == who.partition("@")[0]


def _minute(when: datetime) -> int:
    return int(when.timestamp()) // 60
