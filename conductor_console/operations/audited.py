"""One act on each of many jobs, told in the audit trail before it is done, and after; none of them stops the rest.

Many jobs are acted upon in chunks: the intents of a chunk are durable before its first act, its outcomes are written
together when all of it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

from taskflow import exceptions as excp

from conductor_console.clock import iso
from conductor_console.errors import ConsoleError
from conductor_console.jobboards.base import BinEntry, Changed, JobEntry
from conductor_console.jobboards.postings import parse
from conductor_console.operations.again import kept
from conductor_console.operations.audit import Audit, FileAudit, StoreAudit
from conductor_console.operations.course import AT_A_TIME, CHUNKS_AT_A_TIME, MANY, NOT_REACHED, Course, chunks
from conductor_console.persistence.audit import Intent
from conductor_console.text import visible

Verdict = Literal["done", "changed", "gone", "refused"]
Action = Literal["bin", "delete", "purge", "restore", "retry", "hold", "release", "post again"]
Entry = TypeVar("Entry", JobEntry, BinEntry, JobEntry | BinEntry)
#: What becomes of several jobs at once: for each something where it was done, an error, or None, see :meth:`each`.
Together = Callable[[Sequence[Entry]], Sequence[object | None]]

READ_ONLY: Final = "this console is read-only"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one act on one job. ``why`` is one clean line, empty where it was simply done."""

    key: str
    uuid: str | None
    name: str
    result: Verdict
    why: str = ""
    posted: str | None = None
    """The uuid of the job that was posted by it, if any."""


class Posted(str):
    """What an act gives back that posted a job: its uuid."""

    __slots__ = ()


class Audited:
    """Thread safe.

    :param audit: where acts are told; None: in the store, where it has our audit table, else in a local file.
    """

    def __init__(self, operator: str, title: str, store: Any, audit: Audit | None, *, read_only: bool) -> None:
        self._operator = operator
        self._title = title
        self._store = store
        self._audit = audit
        self._read_only = read_only

    @property
    def trail(self) -> Audit:
        """Where acts are told. :raises StoreUnreachable: when that has to be asked of a store that does not answer."""
        if self._audit is None:
            self._audit = StoreAudit(self._store) if getattr(self._store, "has_audit", False) else FileAudit()
        return self._audit

    def each(
        self,
        action: Action,
        targets: Sequence[Entry],
        act: Callable[[Entry], object],
        why: str = "",
        course: Course | None = None,
        together: Together[Entry] | None = None,
    ) -> list[Result]:
        """Does ``act`` to each, and tells what came of each, in their order.

        :param together: acts on many where that is quicker; ``act`` is called where it gives None.
        """
        course = course or Course()
        course.begin(len(targets))

        def some(chunk: Sequence[Entry], workers: ThreadPoolExecutor | None = None) -> list[Result]:
            return self._chunk(action, chunk, act, why, course, together if workers else None, workers)

        if len(targets) < MANY:
            return some(targets)
        with (
            ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="operation") as workers,
            ThreadPoolExecutor(CHUNKS_AT_A_TIME, thread_name_prefix="operations") as pool,
        ):
            return [result for part in pool.map(lambda one: some(one, workers), chunks(targets)) for result in part]

    def _chunk(
        self,
        action: Action,
        targets: Sequence[Entry],
        act: Callable[[Entry], object],
        why: str,
        course: Course,
        together: Together[Entry] | None,
        workers: ThreadPoolExecutor | None,
    ) -> list[Result]:
        if course.stopped:
            return [_result(entry, "refused", NOT_REACHED) for entry in targets]
        intents = self._intents(action, targets, why)
        meant = [entry for entry, intent in zip(targets, intents, strict=True) if isinstance(intent, int)]

        def one(entry: Entry) -> Result:
            if course.stopped:
                return _result(entry, "refused", NOT_REACHED)
            try:
                came = act(entry)
                result = _posted(entry, came) if isinstance(came, Posted) else _result(entry, "done")
            except Exception as error:
                result = _result(entry, verdict(error), line(error))
            course.step()
            return result

        def at_once() -> list[Result | None]:
            if together is None:
                return [None] * len(meant)
            try:
                return [self._told(entry, came, course) for entry, came in zip(meant, together(meant), strict=True)]
            except ConsoleError:
                # Nothing was done: each is told why.
                return [None] * len(meant)

        acted = at_once()
        left = [place for place, result in enumerate(acted) if result is None]
        singly = (workers.map if workers else map)(one, [meant[place] for place in left])
        for place, result in zip(left, singly, strict=True):
            acted[place] = result
        return self._outcomes(targets, intents, [result for result in acted if result is not None])

    @staticmethod
    def _told(entry: Entry, came: object | None, course: Course) -> Result | None:
        if came is None:
            return None
        course.step()
        return _result(entry, verdict(came), line(came)) if isinstance(came, Exception) else _result(entry, "done")

    def _intents(self, action: Action, targets: Sequence[Entry], why: str) -> Sequence[int | str]:
        """The numbers of the acts in the audit trail, or why one is not done."""
        if self._read_only:
            return [READ_ONLY] * len(targets)
        try:
            return self._begin([_intent(action, entry, why) for entry in targets])
        except ConsoleError as error:
            if len(targets) <= 1:
                return [line(error)] * len(targets)
        # What one of them cannot be told for need not be in the way of the rest.
        return [told for entry in targets for told in self._intents(action, [entry], why)]

    def _outcomes(
        self, targets: Sequence[Entry], intents: Sequence[int | str], acted: Sequence[Result]
    ) -> list[Result]:
        """Writes down what came of those that were meant, and tells it of all.

        :param acted: of those alone that have a number.
        """
        results = []
        told: list[tuple[int, str]] = []
        came = iter(acted)
        for entry, intent in zip(targets, intents, strict=True):
            if isinstance(intent, str):
                results.append(_result(entry, "refused", intent))
                continue
            result = next(came)
            results.append(result)
            told.append((intent, f"{result.result}: {result.why}" if result.why else result.result))
        untold = self._end(told) if told else ""
        return [_untold(result, untold) for result in results]

    def intent(self, action: str, uuid: str, name: str, before: dict[str, Any]) -> int:
        """Writes one intent. Returns the number that :meth:`outcome` wants.

        :raises ConsoleError: nothing may be done.
        """
        return self._begin([Intent(action, uuid, name, before)])[0]

    def outcome(self, number: int, outcome: str) -> str:
        """Empty, or what to tell where the outcome could not be written (the act itself stands)."""
        return self._end([(number, outcome)])

    def _begin(self, intents: Sequence[Intent]) -> list[int]:
        try:
            return self.trail.begin(self._operator, self._title, intents)
        except Exception as error:
            raise ConsoleError(f"Nothing done, the audit trail cannot be written: {line(error)}") from error

    def _end(self, outcomes: Sequence[tuple[int, str]]) -> str:
        try:
            self.trail.end(outcomes)
        except Exception as error:
            return f"done, but its outcome is not in the audit trail: {line(error)}"
        return ""


def _result(entry: JobEntry | BinEntry, result: Verdict, why: str = "") -> Result:
    return Result(entry.key, entry.uuid, visible(entry.name), result, why)


def _untold(result: Result, why: str) -> Result:
    """The result, and that its outcome was not written where that is to be told."""
    if not why or (result.why and result.result != "done"):
        return result
    return replace(result, why=f"{result.why}; {why}" if result.why else why)


def _posted(entry: JobEntry | BinEntry, uuid: Posted) -> Result:
    return replace(_result(entry, "done", f"posted again as {uuid}"), posted=str(uuid))


def _intent(action: Action, entry: JobEntry | BinEntry, why: str) -> Intent:
    before = seen(entry, why)
    if action == "delete" and isinstance(entry, BinEntry):
        action = "purge"
        posting = parse(entry.posting, entry.name)
        before |= kept(posting, workable=entry.problem is None and entry.uuid is not None)
    return Intent(action, entry.uuid or entry.key, visible(entry.name), before)


def verdict(error: Exception) -> Verdict:
    """What an error says of the act that met it."""
    if isinstance(error, excp.NotFound):
        return "gone"
    return "changed" if isinstance(error, Changed | excp.UnclaimableJob) else "refused"


def line(error: BaseException) -> str:
    """One clean line of an error, for a person."""
    text = visible(str(error).strip().partition("\n")[0], 300)
    if isinstance(error, ConsoleError | excp.TaskFlowException) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def seen(entry: JobEntry | BinEntry, why: str) -> dict[str, Any]:
    """The job as the operator saw it, for the audit; secrets masked."""
    record = entry.record
    told: dict[str, Any] = {
        "key": entry.key,
        "node": entry.node,
        "version": entry.version,
        "priority": entry.priority.value,
        "attempts": record.attempts if record else 0,
        "failures": record.failures if record else 0,
    }
    if isinstance(entry, JobEntry):
        claim = entry.claim
        told |= {"created_at": iso(entry.created_at), **kept(entry, workable=entry.workable)}
        if record is not None and record.hold_until is not None:
            told["hold_until"] = iso(record.hold_until)
        if claim is not None:
            told["claim"] = {"owner": claim.owner, "id": claim.id, "claimed_at": iso(claim.claimed_at)}
    else:
        binned_at = iso(entry.binned_at) if entry.binned_at else None
        told["binned"] = {"at": binned_at, "who": entry.who, "why": entry.why}
    return told | ({"why": why} if why else {})
