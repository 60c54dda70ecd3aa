"""What an operator may do to a board: one place for the screen and the command line alike.

Every act is conditional on what the operator saw, is written to the audit trail before it is done, and tells for each
job what came of it; a job that could not be acted on never stops the rest.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from conductor_console.clock import iso, utcnow
from conductor_console.errors import BoardUnreachable, ConsoleError, Unreachable, UsageError
from conductor_console.jobboards.attempts import NAME_LENGTH, AttemptRecord
from conductor_console.jobboards.base import BinEntry, Changed, Gone, JobEntry, LedgerBoard, Unless
from conductor_console.operations.audit import Audit
from conductor_console.operations.audited import (
    READ_ONLY,
    Action,
    Audited,
    Entry,
    Result,
    Together,
    Verdict,
    line,
    seen,
    verdict,
)
from conductor_console.operations.breaking import BreakerActs
from conductor_console.operations.course import MANY, Course
from conductor_console.operations.moment import between_claims
from conductor_console.operations.past import PastActs
from conductor_console.operations.posting import PostRequest, checked, saved_book
from conductor_console.operations.undo import FINAL, Step, Steps, lost, post_again
from conductor_console.text import plural, visible

WHY_LENGTH: Final = 1000
#: Why a job is in the bin where an operator gave no reason.
BY_HAND: Final = "by an operator"
#: Seconds that one call waits, in all, for jobs that are claimed again and again.
PATIENCE: Final = 10.0


class Intent:
    """An act on one job that is in the audit trail, and is done as soon as nobody holds the job.

    For whoever has to be quick: all that takes time was done when the act was decided on.
    """

    def __init__(
        self, action: Action, entry: JobEntry, act: Callable[[JobEntry], object], tell: Callable[[str], str]
    ) -> None:
        self.action = action
        self._seen = entry
        self._act = act
        self._tell = tell

    def act(self, entry: JobEntry) -> Result:
        """Does it to the job as it is now, in one transaction that fails while anybody holds the job.

        It may be called again, and by several threads at once; its outcome is to be written by :meth:`drop`.

        :returns: ``changed`` where somebody holds it. :raises BoardUnreachable: it is not known whether it was done.
        """
        result: Verdict = "done"
        why = ""
        try:
            if (entry.key, entry.node, entry.version) != (self._seen.key, self._seen.node, self._seen.version):
                raise Gone(f"job {visible(self._seen.name)} was posted anew")
            self._act(replace(entry, claim=None))
        except BoardUnreachable:
            raise
        except Exception as error:
            result, why = verdict(error), line(error)
        return Result(entry.key, entry.uuid, visible(entry.name), result, why)

    def drop(self, outcome: str) -> str:
        """Writes the outcome (``done``, ``gone: consumed``), which is to be done once.

        :returns: what to tell where that could not be done, else nothing.
        """
        return self._tell(outcome)


class Operations(BreakerActs, PastActs):
    """An operator's hand on one board. Every call blocks until it is done, and is safe from any thread."""

    def __init__(
        self,
        board: LedgerBoard,
        *,
        operator: str,
        store: Any = None,
        audit: Audit | None = None,
        read_only: bool = False,
        title: str = "",
    ) -> None:
        """
        :param operator: who acts, as the audit and the bin tell it (``anna@ops-1``).
        :param store: a TaskFlow backend; where it has our audit table, acts are told there, else in a local file.
        :param audit: where acts are told instead.
        :param title: how the audit names the board; its own name by default.
        """
        self._board = board
        self._operator = operator
        self._store = store
        self._read_only = read_only
        self._title = title or str(board.name)
        self._audited = Audited(operator, self._title, store, audit, read_only=read_only)
        self._steps = Steps()

    @property
    def operator(self) -> str:
        """Who acts, as the audit and the bin tell it."""
        return self._operator

    # -- acts on jobs ----------------------------------------------------------------------------------------------
    def bin(self, targets: Sequence[JobEntry], why: str = BY_HAND, course: Course | None = None) -> list[Result]:
        """Moves jobs to the bin, claimed ones too where the claim is the one that was seen. Can be undone.

        A job that goes from claim to claim is taken between two of them, see :func:`~.moment.between_claims`.

        :param course: tells, here as below, how far the act is; it is stopped by it.
        """
        why = visible(why, WHY_LENGTH)
        deadline = time.monotonic() + PATIENCE
        results, keys = self._binned(
            targets, why, course, lambda entry, move: between_claims(self._board, entry, move, deadline)
        )
        self._steps.add("bin", [keys.get(key, key) for key in _done(results)])
        return results

    def _binned(
        self,
        targets: Sequence[JobEntry],
        why: str,
        course: Course | None,
        when: Callable[[JobEntry, Callable[[JobEntry], None]], None],
    ) -> tuple[list[Result], dict[str, str]]:
        """What came of it, and the keys that the jobs have in the bin.

        :param when: moves a job, at the right moment.
        """
        keys: dict[str, str] = {}

        def move(entry: JobEntry) -> None:
            keys[entry.key] = self._board.bin(entry, self._operator, why)

        def together(entries: Sequence[JobEntry]) -> Sequence[str | Exception | None]:
            return _keyed(keys, entries, self._board.bin_many(entries, self._operator, why))

        return self._many("bin", targets, lambda entry: when(entry, move), together, why, course), keys

    def delete(self, targets: Sequence[JobEntry | BinEntry], course: Course | None = None) -> list[Result]:
        """Deletes jobs, or purges binned ones, for good; a job that goes from claim to claim, between two of them.

        Undoing it posts the deleted again, as new jobs; what was purged stays gone.
        """
        deadline = time.monotonic() + PATIENCE
        taken: dict[str, JobEntry] = {}

        def take(entry: JobEntry) -> None:
            self._board.delete(entry)
            # As it was then: one that was seen claimed may have been let go since.
            taken[entry.key] = entry

        def act(entry: JobEntry | BinEntry) -> None:
            if isinstance(entry, BinEntry):
                self._board.delete(entry)
            else:
                between_claims(self._board, entry, take, deadline)

        results = self._audited.each("delete", targets, act, course=course)
        pairs = list(zip(targets, results, strict=True))
        deleted = [taken[one.key] for one, result in pairs if isinstance(one, JobEntry) and result.result == "done"]
        purged = [one.key for one, result in pairs if isinstance(one, BinEntry) and result.result == "done"]
        self._steps.add("purge", purged)
        self._steps.add("delete", [entry.key for entry in deleted], deleted)
        return results

    def intend(self, action: Literal["bin", "delete"], entry: JobEntry, why: str, *, unless: Unless = None) -> Intent:
        """Writes into the audit trail that a job is to leave the board once nobody holds it; nothing is done yet.

        :param unless: forbids it when the record says so at that moment.
        :raises Gone: the job is not there any more.
        :raises ConsoleError: the audit trail cannot be written, or nothing may be done here.
        """
        if self._read_only:
            raise ConsoleError(READ_ONLY)
        why = visible(why, WHY_LENGTH)
        act: Callable[[JobEntry], object] = functools.partial(self._board.delete, unless=unless)
        if action == "bin":
            act = self._board.binning(entry, self._operator, why, unless=unless)
        number = self._audited.intent(action, entry.uuid or entry.key, visible(entry.name), seen(entry, why))
        return Intent(action, entry, act, lambda outcome: self._audited.outcome(number, outcome))

    def restore(self, targets: Sequence[BinEntry], course: Course | None = None) -> list[Result]:
        """Puts binned jobs back on the board, failures forgiven. Can be undone."""
        results = self._restored(targets, course)
        self._steps.add("restore", _done(results))
        return results

    def _restored(self, targets: Sequence[BinEntry], course: Course | None, unless: Unless = None) -> list[Result]:
        keys: dict[str, str] = {}

        def act(entry: BinEntry) -> None:
            keys[entry.key] = self._board.restore(entry, unless=unless)

        def together(entries: Sequence[BinEntry]) -> Sequence[str | Exception | None]:
            return _keyed(keys, entries, self._board.restore_many(entries, unless=unless))

        results = self._many("restore", targets, act, together, "", course)
        return [Result(keys.get(r.key, r.key), r.uuid, r.name, r.result, r.why) for r in results]

    def _many(
        self,
        action: Action,
        targets: Sequence[Entry],
        act: Callable[[Entry], object],
        together: Together[Entry],
        why: str,
        course: Course | None,
    ) -> list[Result]:
        results = self._audited.each(action, targets, act, why, course, together)
        if len(targets) >= MANY:
            with contextlib.suppress(ConsoleError):
                # What is done together is not shown before it is read.
                self._board.refresh()
        return results

    def retry(self, targets: Sequence[JobEntry], course: Course | None = None) -> list[Result]:
        """Ends the jobs' holds, so that the next free conductor of ours takes them. Can be undone."""
        return self._holding("retry", targets, None, course)

    def hold(self, targets: Sequence[JobEntry], seconds: float, course: Course | None = None) -> list[Result]:
        """Has conductors of ours leave jobs alone for so long; TaskFlow's know no holds. Can be undone."""
        until = utcnow() + timedelta(seconds=self._board.clock_offset + seconds)
        return self._holding("hold", targets, until, course)

    def _holding(
        self,
        action: Literal["retry", "hold"],
        targets: Sequence[JobEntry],
        until: datetime | None,
        course: Course | None,
    ) -> list[Result]:
        why = "" if until is None else f"held until {iso(until)}"
        results = self._audited.each(action, targets, lambda entry: self._board.hold(entry, until), why, course)
        done = [entry for entry, result in zip(targets, results, strict=True) if result.result == "done"]
        self._steps.add(action, [entry.key for entry in done], done)
        return results

    def release(self, targets: Sequence[JobEntry], course: Course | None = None) -> list[Result]:
        """Ends the very claims that were seen. Cannot be undone.

        Whoever holds one may be at work still: the job may then be run twice at once.
        """
        results = self._audited.each("release", targets, self._board.release, course=course)
        self._steps.add("release", _done(results))
        return results

    # -- undo ------------------------------------------------------------------------------------------------------
    @property
    def can_undo(self) -> str:
        """What :meth:`undo` would take back (``move of 3 jobs to the bin``), or empty."""
        return self._steps.label

    def undo(self, course: Course | None = None) -> list[Result]:
        """Takes the newest act back: what was binned is restored, what was restored is binned, holds are as they were,
        what was deleted is posted again. What could not be reached can be tried again.

        A job that a conductor has claimed since is left alone; so is one that was held when it was deleted.
        """
        step = self._steps.pop()
        if step is None:
            return []
        if step.action in FINAL:
            return [Result(key, key, key, "refused", FINAL[step.action]) for key in step.keys]
        results = self._posted_again(step, course) if step.action == "delete" else self._undone(step, course)
        lost_for_good = {entry.key for entry in step.seen if lost(entry)} if step.action == "delete" else set()
        again = [r.key for r in results if r.result == "refused" and r.key not in lost_for_good]
        self._steps.add(step.action, again, [entry for entry in step.seen if entry.key in again])
        return results

    def _undone(self, step: Step, course: Course | None) -> list[Result]:
        try:
            if step.action == "bin":
                found, missing = self._found(step.keys, lambda: self._board.listing().binned)
                return _merged(step.keys, found, missing, lambda own: self._restored(own, course, self._binned_since))
            found, missing = self._found(step.keys, lambda: self._board.listing().jobs)
        except ConsoleError as error:
            return [Result(key, key, key, "refused", line(error)) for key in step.keys]
        claimed = [
            Result(entry.key, entry.uuid, entry.name, "changed", f"claimed by {visible(entry.claim.owner)} since")
            for entry in found
            if entry.claim is not None
        ]
        free = [entry for entry in found if entry.claim is None]

        def again(entries: list[JobEntry]) -> list[Result]:
            if step.action == "restore":
                return self._binned(entries, "restore undone", course, lambda entry, move: move(entry))[0]
            action: Action = "retry" if step.action == "hold" else "hold"
            return self._audited.each(action, entries, self._as_held(step), f"{step.action} undone", course)

        return _merged(step.keys, free, [*missing, *claimed], again)

    def _binned_since(self, record: AttemptRecord) -> bool:
        """One that came back and failed again lies in the bin for another's reason.

        :raises Changed: it was not binned by this operator.
        """
        if record.binned is not None and record.binned.who != self._operator[:NAME_LENGTH]:
            raise Changed(f"binned by {visible(record.binned.who, 80)} since")
        return False

    def _as_held(self, step: Step) -> Callable[[JobEntry], None]:
        """Gives a job the hold that it had before the step, if it was not tried since."""
        before = {entry.key: entry.record for entry in step.seen}

        def act(entry: JobEntry) -> None:
            record = before[entry.key]
            tried = 0 if record is None else record.attempts
            until = None if record is None else record.hold_until

            def tried_since(now: AttemptRecord) -> bool:
                return now.attempts != tried

            if entry.record is not None and tried_since(entry.record):
                raise Changed("it was tried since")
            self._board.hold(entry, until, unless=tried_since)

        return act

    def _posted_again(self, step: Step, course: Course | None) -> list[Result]:
        left = [
            Result(entry.key, entry.uuid, visible(entry.name), "refused", why)
            for entry in step.seen
            if (why := lost(entry))
        ]
        free = [entry for entry in step.seen if not lost(entry)]
        act = functools.partial(post_again, self._board)
        return _merged(
            step.keys, free, left, lambda entries: self._audited.each("post again", entries, act, course=course)
        )

    def _found(self, keys: Sequence[str], listed: Callable[[], Any]) -> tuple[list[Any], list[Result]]:
        """Entries by key as they are now: nobody saw them, so what a listing may trail is read anew."""
        self._board.refresh()
        entries = listed()
        gone = [Result(key, key, key, "gone", "no longer there") for key in keys if key not in entries]
        return [entries[key] for key in keys if key in entries], gone

    # -- posting ---------------------------------------------------------------------------------------------------
    def post(self, request: PostRequest, *, dry_run: bool = False) -> list[str]:
        """Saves a logbook for each job, then posts the job. Returns the jobs' uuids; with ``dry_run`` none are made.

        :raises UsageError: when the request cannot be meant. :raises ConsoleError: when the board, the store or the
            audit trail does not take it; the line says how many were posted before.
        """
        factory, priority = checked(request)
        if self._read_only:
            raise ConsoleError(f"Nothing posted: {READ_ONLY}")
        if self._store is None:
            raise UsageError("Posting needs a store for the jobs' flows (example: --store sqlite:////srv/flows.db)")
        if dry_run:
            return []
        # Values may be secrets: the audit tells their names only.
        before = {
            "factory": factory,
            "count": request.count,
            "priority": priority.value,
            "args": len(request.args),
            "kwargs": sorted(request.kwargs),
            "inject": sorted(request.inject),
        }
        number = self._audited.intent("post", "", request.name, before)
        uuids: list[str] = []
        try:
            for name in request.names():
                book, flow_uuid = saved_book(self._store, name, factory, request)
                job = self._board.post(name, book=book, details={"flow_uuid": flow_uuid}, priority=priority)
                uuids.append(str(job.uuid))
        except Exception as error:
            posted = f"{len(uuids)} of {plural(request.count, 'job')} posted, then: {line(error)}"
            self._audited.outcome(number, f"refused: {posted}")
            kind = Unreachable if isinstance(error, Unreachable) else ConsoleError
            raise kind(posted if uuids else f"Nothing posted: {line(error)}") from error
        self._audited.outcome(number, f"done: {', '.join(uuids[:5])}{' and more' if len(uuids) > 5 else ''}")
        return uuids


def _keyed(
    keys: dict[str, str], entries: Sequence[Entry], came: Sequence[str | Exception | None]
) -> Sequence[str | Exception | None]:
    """What came of acting on many at once; the keys that the jobs have now are noted."""
    keys.update((entry.key, one) for entry, one in zip(entries, came, strict=True) if isinstance(one, str))
    return came


def _done(results: Sequence[Result]) -> list[str]:
    return [result.key for result in results if result.result == "done"]


def _merged(
    keys: Sequence[str], entries: list[Any], others: list[Result], act: Callable[[list[Any]], list[Result]]
) -> list[Result]:
    """The results of acting on ``entries``, and those that need no act, in the order of ``keys``."""
    acted = {entry.key: result for entry, result in zip(entries, act(entries), strict=True)}
    told = acted | {result.key: result for result in others}
    return [told[key] for key in keys]
