"""The board as a conductor uses it: ours counts, holds back and bins; any other TaskFlow board just hands out jobs."""

from __future__ import annotations

import abc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from taskflow import exceptions as excp
from taskflow.jobs.base import POSTED, REMOVAL, Job

from conductor_console.clock import utcnow
from conductor_console.conductors.backoff import Backoff
from conductor_console.conductors.stores import StorePort
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import FAILURES, AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.base import BoardEvent, BoardJob, Changed, Gone, LedgerBoard, Refused
from conductor_console.jobboards.breaker import RULE, Rule
from conductor_console.jobboards.common import identity
from conductor_console.jobboards.policies import AnyPolicy, in_a_row, why
from conductor_console.jobboards.switch import shared
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: What may have given a waiting conductor something to do.
_WAKING: Final = frozenset({"posted", "released", "changed", "bin", "connection", "breaker"})
#: The part of a claim's certain time after which the board is asked before the next step; and the part for which a
#: claim may be relied on although the board does not answer.
_CERTAIN, _LIKELY = 1 / 3, 2 / 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, and what becomes of its job. ``hold`` is in seconds; ``why`` is told in the bin."""

    outcome: Outcome
    act: Literal["consume", "abandon", "trash", "delete"]
    error: Cause | None = None
    why: str = ""
    hold: float = 0.0


class BoardPort(abc.ABC):
    """One face for both kinds. Errors are TaskFlow's: UnclaimableJob, NotFound, JobFailure."""

    @abc.abstractmethod
    def subscribe(self, wake: Callable[[], None], gone: Callable[[str], None]) -> Callable[[], None]:
        """Calls ``wake`` when there may be work, ``gone`` with the uuid of a job that left. Returns how to end that."""

    @abc.abstractmethod
    def look(self) -> tuple[Iterable[Job], datetime | None]:
        """The jobs to try, best first, and when to look again though nothing happened (None: not by itself)."""

    @abc.abstractmethod
    def fit(self, job: Job) -> bool:
        """Whether the job is to be claimed now; puts aside what failed too often."""

    @abc.abstractmethod
    def claim(self, job: Job) -> AttemptRecord | None:
        """Takes the job, if it is still to be had and to be tried; returns its record, where it is counted."""

    @abc.abstractmethod
    def attempt(self, job: Job, record: AttemptRecord | None) -> int | None:
        """The number of the attempt that a claim has just begun; None where nobody counts."""

    @abc.abstractmethod
    def holds(self, job: Job) -> bool:
        """Whether our claim still stands, as far as is known here."""

    def still_ours(self, job: Job) -> bool:
        """Whether what comes next may be done in the name of our claim; where that is not certain, the board is asked.

        Waits for a board that does not answer, for as long as the claim may stand.
        """
        return self.holds(job)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be told to the board."""
        return False

    @abc.abstractmethod
    def taken(self, job: Job) -> bool:
        """Whether an operator took a job whose claim was lost: off the board, or out of this conductor's hands."""

    @property
    def store_down(self) -> bool:
        """Whether somebody on this board found that the store does not answer."""
        return False

    def probe(self, store: StorePort) -> bool:
        """Whether the store answers, asked since a call of ours failed; makes that known to all on this board."""
        return store.answers()

    @abc.abstractmethod
    def judged(self, job: Job, ending: Ending) -> Ending:
        """The ending as the policy for repeated failure has it; while the circuit breaker is open, none is one."""

    @abc.abstractmethod
    def close(self, job: Job, ending: Ending) -> None:
        """Does it."""


class LedgerPort(BoardPort):
    """A board of ours.

    :param entity: gives the conductor's full name, for what it does with jobs that it does not hold.
    :param on_binned: told of a job that was binned (or deleted) before it was run, with its record.
    :param rule: when the circuit breaker opens.
    :param store: where the conductor keeps its flows.
    """

    def __init__(
        self,
        board: LedgerBoard,
        who: str,
        entity: Callable[[], str],
        policy: AnyPolicy,
        on_binned: Callable[[Job, AttemptRecord], None],
        rule: Rule = RULE,
        store: Any = None,
    ) -> None:
        self._board = board
        self._who = who
        self._entity = entity
        self._policy = policy
        self._on_binned = on_binned
        self._told: set[str] = set()
        # Where the ledger may not be written: failures and holds of our own, in memory. It is no count for others, but
        # keeps us from going round with a sick job as fast as we can.
        self._aside: dict[str, tuple[int, datetime]] = {}
        # When (monotonic) each claim of ours was last known for certain to stand.
        self._certain: dict[str, float] = {}
        self._pause = threading.Event()
        self._breaker = shared(board, entity, rule, store)
        # Each claim's attempt: its number, and when (by the board's clock) it began.
        self._begun: dict[str, tuple[int, datetime]] = {}
        # Whether claims are to be few, and when (monotonic) the next may be made.
        self._slow = False
        self._next_claim = 0.0

    def subscribe(self, wake: Callable[[], None], gone: Callable[[str], None]) -> Callable[[], None]:
        def hear(event: BoardEvent) -> None:
            if event.kind in _WAKING:
                wake()
            elif event.kind == "removed":
                gone(event.key)
                self._told.discard(event.key)
                for kept in (self._aside, self._certain, self._begun):
                    kept.pop(event.key, None)

        ends = (self._breaker.start(), self._board.subscribe(hear))

        def end() -> None:
            for each in ends:
                each()

        return end

    def look(self) -> tuple[Iterable[Job], datetime | None]:
        self._breaker.decide()
        now = utcnow()
        kind, due = self._breaker.kind, self._breaker.due(now)
        self._slow = kind == "cause"
        left = self._next_claim - time.monotonic()
        if kind in ("store", "board"):
            return (), due
        if self._slow and left > 0:
            return (), now + timedelta(seconds=left)
        jobs: Iterable[Job]
        jobs, again = self._board.candidates(now)
        if self._slow:
            jobs = itertools.takewhile(lambda _: time.monotonic() >= self._next_claim, jobs)
        ends = [end for _, end in self._aside.copy().values() if end > now]
        return jobs, min([*ends, *(when for when in (again, due) if when is not None)], default=None)

    def fit(self, job: BoardJob) -> bool:
        aside = self._aside.get(job.uuid)
        if aside is not None and aside[1] > utcnow():
            return False
        record, policy = job.entry.record, self._policy.of(job.name)
        if record is None:
            return True
        if record.open_attempt is not None:
            try:
                excused = self._breaker.excuses(record.open_attempt.began)
                record = self._board.settle(job, policy, excused=excused)
            except Refused:
                # Without the right to count it is run uncounted.
                return True
        if policy.removes(record):
            if not self._breaker.open:
                self._remove(job, record, policy)
            return False
        return not self._held(record)

    def claim(self, job: BoardJob) -> AttemptRecord | None:
        asked = time.monotonic()
        policy = self._policy.of(job.name)
        record = self._board.claim(job, self._who, unless=lambda record: policy.removes(record) or self._held(record))
        self._certain[job.uuid] = asked
        if record is not None:
            self._begun[job.uuid] = (record.attempts, record.history[0].began)
        if self._slow:
            self._next_claim = time.monotonic() + self._breaker.rule.pace
        return record

    def _held(self, record: AttemptRecord) -> bool:
        """Whether the job is held back, by the board's time."""
        if record.hold_until is None:
            return False
        return record.held(utcnow() + timedelta(seconds=self._board.clock_offset))

    def _remove(self, job: BoardJob, record: AttemptRecord, policy: Policy) -> None:
        """Puts aside what failed too often, in one transaction that fails where somebody holds it."""
        entry = replace(self._board.find(job.entry.key) or job.entry, claim=None)

        def forgiven(record: AttemptRecord) -> bool:
            # Restored meanwhile: a listing may show the job before its record.
            return not policy.removes(record) or self._breaker.open

        try:
            if policy.action == "delete":
                self._board.delete(entry, unless=forgiven)
                LOG.warning("job %s %s, and is deleted", visible(job.uuid), visible(why(record)))
            else:
                self._board.bin(entry, self._entity(), why(record), unless=forgiven)
        except (Changed, Gone):
            LOG.debug("job %s changed before it could be put aside", visible(job.uuid))
        except Refused as error:
            # It stays where it is, and is not run.
            self._tell_once(job, f"{in_a_row(record.failures)} and cannot be put aside: {error}")
        else:
            self._on_binned(job, record)

    def _tell_once(self, job: Job, line: str) -> None:
        if job.uuid not in self._told:
            self._told.add(job.uuid)
            LOG.warning("job %s %s", visible(job.uuid), line)

    def attempt(self, job: Job, record: AttemptRecord | None) -> int | None:
        return self._aside.get(job.uuid, (0, None))[0] + 1 if record is None else record.attempts

    def holds(self, job: Job) -> bool:
        return self._board.holds(job)

    def still_ours(self, job: Job) -> bool:
        lasts = self._board.claim_seconds
        stands = self._board.holds(job) if lasts is None else self._confirmed(job, lasts)
        if not stands:
            self._certain.pop(job.uuid, None)
        return stands

    def _confirmed(self, job: Job, lasts: float) -> bool:
        """Whether a claim stands that surely outlives the last word from the board by so many seconds."""
        if not self._board.holds(job):
            return False
        since = self._certain.get(job.uuid, 0.0)
        backoff = Backoff(first=0.05, most=1.0)
        while (asked := time.monotonic()) - since >= lasts * _CERTAIN:
            # This process may have been stopped for long, and another be at work, without a word of it here yet.
            try:
                stands = self._board.confirm(job)
            except BoardUnreachable:
                if not self._board.holds(job):
                    return False
                if time.monotonic() - since < lasts * _LIKELY:
                    return True
                self._pause.wait(backoff.next())
                continue
            if stands:
                self._certain[job.uuid] = asked
            return stands
        return True

    @property
    def closed(self) -> bool:
        return self._board.listing().connection.state == "closed"

    def taken(self, job: BoardJob) -> bool:
        entry = self._board.find(job.entry.key)
        if entry is None:
            return True
        try:
            # The picture may show that the lock is gone before it shows what became of the record.
            record = self._board.attempts(job)
        except excp.NotFound:
            return True
        except (excp.JobFailure, BoardUnreachable):
            record = entry.record or AttemptRecord(job.entry.key)
        # Nobody else is called so: the newest attempt of ours is the one whose claim was lost.
        mine = next((attempt for attempt in record.history if attempt.who == identity(self._who)), None)
        return mine is not None and mine.outcome == "revoked"

    def judged(self, job: BoardJob, ending: Ending) -> Ending:
        if ending.act == "trash" and ending.outcome == "abandoned":
            # No engine can be made of it: that is no service's fault, and no policy's either.
            return ending
        number, began = self._begun.get(job.uuid, (self._aside.get(job.uuid, (0, None))[0] + 1, None))
        self._breaker.ended(job.entry.key, number, began, ending.outcome, ending.error)
        if ending.act not in ("abandon", "trash") or ending.outcome not in FAILURES:
            return ending
        if self._breaker.excuses(began):
            return self._let_off(job, ending)
        if ending.act != "abandon":
            return ending
        failures, policy = self._failures(job) + 1, self._policy.of(job.name)
        if failures >= policy.max_attempts:
            if policy.action == "delete":
                LOG.warning("job %s %s, and is deleted", visible(job.uuid), in_a_row(failures))
                return replace(ending, act="delete", why=in_a_row(failures))
            if policy.action == "bin":
                return replace(ending, act="trash", why=in_a_row(failures))
            what = "is held until it is retried" if policy.action == "hold" else "is tried again"
            self._tell_once(job, f"{in_a_row(failures)}, and {what}")
        hold = policy.hold(failures, ending.outcome)
        if self._uncounted:
            self._aside[job.uuid] = (failures, utcnow() + timedelta(seconds=hold))
        return replace(ending, hold=hold)

    def _let_off(self, job: BoardJob, ending: Ending) -> Ending:
        """An ending that is no failure, since the breaker is open; the job is left alone for a while."""
        hold = self._breaker.hold
        if self._uncounted:
            failures = self._aside.get(job.uuid, (0, None))[0]
            self._aside[job.uuid] = (failures, utcnow() + timedelta(seconds=hold))
        return Ending("released", "abandon", ending.error, hold=hold)

    @property
    def store_down(self) -> bool:
        return self._breaker.kind == "store"

    def probe(self, store: StorePort) -> bool:
        return self._breaker.probe(store.answers)

    @property
    def _uncounted(self) -> bool:
        return self._board.uncounted is not None

    def _failures(self, job: BoardJob) -> int:
        # What the ledger tells, unless that is less than what is known here: this very job may be uncounted.
        aside = self._aside.get(job.uuid, (0, None))[0] if self._uncounted else 0
        try:
            return max(aside, self._board.attempts(job).failures)
        except (excp.JobFailure, excp.NotFound):
            return max(aside, job.entry.record.failures if job.entry.record is not None else 0)

    def close(self, job: Job, ending: Ending) -> None:
        self._certain.pop(job.uuid, None)
        self._begun.pop(job.uuid, None)
        if ending.act in ("consume", "delete"):
            # The one way to take a job of ours off the board for good, its record with it.
            self._board.consume(job, self._who)
        elif ending.act == "trash":
            self._board.trash(job, self._who, why=ending.why, outcome=ending.outcome, error=ending.error)
        else:
            self._board.abandon(job, self._who, outcome=ending.outcome, error=ending.error, hold=ending.hold)


class PlainPort(BoardPort):
    """Any other TaskFlow board: nothing is counted, and a job that was abandoned is told by no event.

    :param pause: seconds between looks when no event came.
    """

    def __init__(self, board: Any, who: str, pause: float) -> None:
        self._board = board
        self._who = who
        self._pause = pause

    def subscribe(self, wake: Callable[[], None], gone: Callable[[str], None]) -> Callable[[], None]:
        notifier = getattr(self._board, "notifier", None)
        if notifier is None:
            return lambda: None

        def posted(_event: str, _details: Any) -> None:
            wake()

        def removed(_event: str, details: Any) -> None:
            gone(details["job"].uuid)

        notifier.register(POSTED, posted)
        notifier.register(REMOVAL, removed)

        def end() -> None:
            notifier.deregister(POSTED, posted)
            notifier.deregister(REMOVAL, removed)

        return end

    def look(self) -> tuple[Iterable[Job], datetime | None]:
        if not self._board.connected:
            raise BoardUnreachable("the board is not connected")
        return self._board.iterjobs(only_unclaimed=True), utcnow() + timedelta(seconds=self._pause)

    def fit(self, job: Job) -> bool:  # noqa: ARG002
        return True

    def claim(self, job: Job) -> AttemptRecord | None:
        self._board.claim(job, self._who)
        return None

    def attempt(self, job: Job, record: AttemptRecord | None) -> int | None:  # noqa: ARG002
        return None

    def holds(self, job: Job) -> bool:  # noqa: ARG002
        return True

    def taken(self, job: Job) -> bool:  # noqa: ARG002
        return False

    def judged(self, job: Job, ending: Ending) -> Ending:  # noqa: ARG002
        return ending

    def close(self, job: Job, ending: Ending) -> None:
        act = {
            "consume": self._board.consume,
            "delete": self._board.consume,
            "trash": self._board.trash,
            "abandon": self._board.abandon,
        }
        act[ending.act](job, self._who)
