"""The circuit breaker: jobs are not to be punished for a service that is down. Pure rules, the time passed in.

It opens when the store (or the board) does not answer, or when many jobs fail of one cause at a time. While it is open
no attempt counts as a failure, and no policy takes a job off the board. Its state lies on the board, as JSON.
"""

from __future__ import annotations

import abc
import heapq
import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from conductor_console.clock import from_iso, iso
from conductor_console.jobboards.attempts import FAILURES, Attempt, Cause, Outcome
from conductor_console.text import plural, visible

Kind = Literal["store", "board", "cause"]
_KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
#: So many attempts are kept in mind at most, the newest ones.
LIMIT: Final = 20_000
#: A factory that is not allowed somewhere is a rule of that conductor's, and no trouble.
NOT_ALLOWED: Final = "NotAllowed"
_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Rule:
    """When it opens for a cause, when it closes, and how conductors slow down meanwhile. Seconds.

    :ivar jobs: so many distinct jobs at least, and ``share`` of the attempts closed in the last ``window`` seconds.
    :ivar window: it also closes when so long nobody said that the reason holds.
    :ivar pace: between two claims of one conductor while it is open for a cause.
    :ivar hold: for which a job is left alone whose attempt failed while it was open for the store or the board.
    """

    jobs: int = 10
    share: float = 0.5
    window: float = 60.0
    pace: float = 1.0
    hold: float = 5.0

    @property
    def cause_hold(self) -> float:
        """The same while it is open for a cause: so long that slow claims come round to other jobs. Were it always the
        same few, the condition would be gone though nothing is mended.
        """
        return self.window / 2


RULE: Final = Rule()


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker's state; times are the board's clock, in UTC.

    :ivar kind: what it is open for; None: it is closed.
    :ivar until: it closes then by itself, unless whoever sees the reason goes on saying so.
    :ivar why: one clean line. ``cause``: what the jobs fail with. ``by``: who said so last.
    :ivar cleared: when it was closed last: what began before is not counted, and opens nothing.
    """

    kind: Kind | None = None
    since: datetime | None = None
    until: datetime | None = None
    why: str = ""
    cause: Cause | None = None
    by: str = ""
    cleared: datetime | None = None

    def open(self, now: datetime) -> bool:
        """Whether it is open."""
        return self.kind is not None and self.until is not None and now < self.until

    def cleared_by(self, now: datetime) -> datetime | None:
        """Until when attempts are excused, as far as it is closed now."""
        return self.until if self.kind is not None and not self.open(now) else self.cleared

    def excuses(self, began: datetime | None, now: datetime) -> bool:
        """Whether an attempt that fails now counts as no failure: it is open, or was while the attempt ran."""
        cleared = self.cleared_by(now)
        return self.open(now) or (began is not None and cleared is not None and began < cleared)


CLOSED: Final = Breaker()


def opened(
    state: Breaker, kind: Kind, why: str, now: datetime, by: str, rule: Rule = RULE, cause: Cause | None = None
) -> Breaker:
    """The state with a reason to be open: opened, or for longer; the very same where that is not worth writing.

    A store that does not answer comes before a cause.
    """
    until = now + timedelta(seconds=rule.window)
    if not state.open(now):
        return Breaker(kind, now, until, visible(why, _TEXT), cause, visible(by, _TEXT), state.cleared_by(now))
    if state.kind != kind:
        if kind == "cause":
            return state
        return replace(state, kind=kind, until=until, why=visible(why, _TEXT), cause=cause, by=visible(by, _TEXT))
    assert state.until is not None
    if state.until - now > timedelta(seconds=rule.window * 3 / 4):
        return state
    return replace(state, until=until, why=visible(why, _TEXT), cause=cause, by=visible(by, _TEXT))


def closed(state: Breaker, now: datetime, by: str) -> Breaker:
    """The state without a reason to be open; the very same where it is known to be closed already."""
    if state.kind is None:
        return state
    ended = now if state.open(now) or state.until is None else state.until
    return Breaker(None, ended, None, "", None, visible(by, _TEXT), ended)


@dataclass(frozen=True, slots=True)
class Verdict:
    """That a cause fulfils the rule: how many distinct jobs it has, of how many closed attempts."""

    cause: Cause
    jobs: int
    attempts: int

    @property
    def why(self) -> str:
        """In words: ``14 jobs fail with StorageFailure``."""
        return f"{plural(self.jobs, 'job')} fail with {visible(self.cause.type, 80)}"


@dataclass(slots=True)
class _Closed:
    began: datetime
    at: datetime
    cause: Cause | None


class Trend:
    """The attempts that were closed lately, each once however often it is told of. Not thread safe."""

    def __init__(self, rule: Rule = RULE) -> None:
        self._rule = rule
        self._known: dict[tuple[str, int], _Closed] = {}
        self._order: list[tuple[datetime, str, int]] = []
        self._jobs: dict[str, Counter[str]] = {}
        self._cleared: datetime | None = None

    def add(self, job: str, n: int, at: datetime, cause: Cause | None = None, *, began: datetime | None = None) -> bool:
        """A closed attempt, with the cause where it failed. False where all of that was known, or is of no account.

        :param began: None where that is not known: it counts as one of no length.
        """
        known = self._known.get((job, n))
        began = at if began is None else began
        if known is None:
            if self._cleared is not None and began <= self._cleared:
                return False
            self._known[job, n] = _Closed(began, at, cause)
            heapq.heappush(self._order, (at, job, n))
            if len(self._order) > LIMIT:
                self._drop()
        elif known.cause is None and cause is not None:
            known.cause = cause
        else:
            return False
        if cause is not None and (job, n) in self._known:
            self._jobs.setdefault(cause.fingerprint, Counter())[job] += 1
        return True

    def add_history(self, job: str, history: tuple[Attempt, ...], now: datetime) -> bool:
        """The closed attempts of a record, newest first. False where all of them were known, or long ago."""
        news = False
        for attempt in history:
            if attempt.ended is None or attempt.outcome is None:
                continue
            cause = blame(attempt.outcome, attempt.error)
            if attempt.ended <= self._edge(now):
                break
            if not self.add(job, attempt.n, attempt.ended, cause, began=attempt.began):
                break
            news = True
        return news

    def verdict(self, now: datetime, cleared: datetime | None = None) -> Verdict | None:
        """The cause that fulfils the rule now, the one with most jobs where there are two; None where none does.

        :param cleared: what began until then is passed over, now and later.
        """
        if cleared is not None and (self._cleared is None or cleared > self._cleared):
            self._clear(cleared)
        while self._order and self._order[0][0] <= self._edge(now):
            self._drop()
        enough = [(len(jobs), print_) for print_, jobs in self._jobs.items() if self._fulfils(jobs)]
        if not enough:
            return None
        number, worst = max(enough)
        causes = (known.cause for known in self._known.values())
        example = next(cause for cause in causes if cause is not None and cause.fingerprint == worst)
        return Verdict(example, number, len(self._known))

    def _clear(self, cleared: datetime) -> None:
        self._cleared = cleared
        known = self._known
        self._known, self._order, self._jobs = {}, [], {}
        for (job, n), one in known.items():
            self.add(job, n, one.at, one.cause, began=one.began)

    def _fulfils(self, jobs: Counter[str]) -> bool:
        return len(jobs) >= self._rule.jobs and jobs.total() >= len(self._known) * self._rule.share

    def _edge(self, now: datetime) -> datetime:
        return now - timedelta(seconds=self._rule.window)

    def _drop(self) -> None:
        _, job, n = heapq.heappop(self._order)
        cause = self._known.pop((job, n)).cause
        if cause is not None:
            jobs = self._jobs[cause.fingerprint]
            jobs[job] -= 1
            if not jobs[job]:
                del jobs[job]
            if not jobs:
                del self._jobs[cause.fingerprint]


def blame(outcome: Outcome, error: Cause | None) -> Cause | None:
    """What an attempt failed with, whether it was counted as a failure or let go while the breaker was open."""
    failed = outcome in FAILURES or (outcome == "released" and error is not None and error.type != NOT_ALLOWED)
    return error if failed else None


def stepped(state: Breaker, trend: Trend, now: datetime, by: str, rule: Rule = RULE) -> Breaker:
    """What the attempts that were closed lately make of the state; the very same where that is nothing."""
    verdict = trend.verdict(now, state.cleared_by(now))
    if verdict is not None:
        return opened(state, "cause", verdict.why, now, by, rule, verdict.cause)
    return state if state.open(now) else closed(state, now, by)


class BreakerKept(abc.ABC):
    """What keeps the circuit breaker's state: a board."""

    @property
    @abc.abstractmethod
    def breaker(self) -> Breaker:
        """The circuit breaker's newest known state; returns at once."""

    @abc.abstractmethod
    def set_breaker(self, state: Breaker, expected: Breaker) -> bool:
        """Writes the circuit breaker's state if it still is as expected; where that may not be written here, it is kept
        in memory.

        :returns: False where somebody wrote another one first, which :attr:`breaker` shows then.
        :raises BoardUnreachable: when the board does not answer.
        """


# -- as it lies on the board ---------------------------------------------------------------------------------------
def to_json(state: Breaker) -> bytes:
    """The state as UTF-8 JSON."""
    cause = state.cause
    told: dict[str, Any] = {
        "v": 1,
        "kind": state.kind,
        "why": state.why,
        "by": state.by,
        "cause": None
        if cause is None
        else {"type": cause.type, "message": cause.message, "where": cause.where, "fingerprint": cause.fingerprint},
    }
    for name in ("since", "until", "cleared"):
        at = getattr(state, name)
        told[name] = None if at is None else iso(at)
    return json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode()


def from_json(raw: bytes | str) -> Breaker:
    """The state in ``raw``; a closed one where it is not JSON of this shape: whoever has a reason writes over it."""
    try:
        data = json.loads(raw)
        if data["v"] != 1 or data["kind"] not in (None, *_KINDS):
            return CLOSED
        cause = data["cause"]
        times = {name: None if data[name] is None else from_iso(data[name]) for name in ("since", "until", "cleared")}
        return Breaker(
            kind=data["kind"],
            why=visible(str(data["why"]), _TEXT),
            by=visible(str(data["by"]), _TEXT),
            cause=None
            if cause is None
            else Cause(*(str(cause[name]) for name in ("type", "message", "where", "fingerprint"))),
            **times,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return CLOSED
