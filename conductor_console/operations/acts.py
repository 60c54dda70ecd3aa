"""What an operator may do to a board: one place for the screen and the command line alike.

Every act is conditional on what the operator saw, is written to the audit trail before it is done, and tells for each
job what came of it; a job that could not be acted on never stops the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from taskflow import exceptions as excp

from conductor_console.clock import iso
from conductor_console.errors import ConsoleError, Unreachable, UsageError
from conductor_console.jobboards.base import BinEntry, Changed, JobEntry, LedgerBoard
from conductor_console.masking import masked
from conductor_console.operations.audit import Audit, FileAudit, StoreAudit
from conductor_console.operations.moment import between_claims
from conductor_console.operations.posting import PostRequest, checked, saved_book
from conductor_console.text import plural, visible

Verdict = Literal["done", "changed", "gone", "refused"]
Action = Literal["bin", "delete", "purge", "restore", "retry"]
Entry = TypeVar("Entry", JobEntry, BinEntry, JobEntry | BinEntry)

READ_ONLY: Final = "this console is read-only"
#: How many steps can be undone.
UNDO_LIMIT: Final = 100
WHY_LENGTH: Final = 1000
#: Why a job is in the bin where an operator gave no reason.
BY_HAND: Final = "by an operator"
#: No job is called otherwise than before.
NOT_MOVED: Final[Mapping[str, str]] = MappingProxyType({})
#: Seconds that one call waits, in all, for jobs that are claimed again and again.
PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one act on one job. ``why`` is one clean line, empty where it was simply done."""

    key: str
    uuid: str | None
    name: str
    result: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Step:
    """What can be undone: the keys of the jobs that went to the bin, or came back from it."""

    action: Literal["bin", "restore"]
    keys: tuple[str, ...]

    @property
    def label(self) -> str:
        jobs = plural(len(self.keys), "job")
        return f"move of {jobs} to the bin" if self.action == "bin" else f"restore of {jobs}"


class Operations:
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
        self._audit = audit
        self._read_only = read_only
        self._title = title or str(board.name)
        self._lock = threading.Lock()
        self._steps: list[_Step] = []

    # -- acts on jobs ----------------------------------------------------------------------------------------------
    def bin(self, targets: Sequence[JobEntry], why: str = BY_HAND) -> list[Result]:
        """Moves jobs to the bin, claimed ones too where the claim is the one that was seen. Can be undone.

        A job that goes from claim to claim is taken between two of them, see :func:`~.moment.between_claims`.
        """
        why = visible(why, WHY_LENGTH)
        deadline = time.monotonic() + PATIENCE
        keys: dict[str, str] = {}

        def move(seen: JobEntry) -> None:
            keys[seen.key] = self._board.bin(seen, self._operator, why)

        results = self._each("bin", targets, lambda entry: between_claims(self._board, entry, move, deadline), why)
        self._remember("bin", results, keys)
        return results

    def delete(self, targets: Sequence[JobEntry | BinEntry]) -> list[Result]:
        """Deletes jobs, or purges binned ones, for good; a job that goes from claim to claim, between two of them."""
        deadline = time.monotonic() + PATIENCE

        def act(entry: JobEntry | BinEntry) -> None:
            if isinstance(entry, BinEntry):
                self._board.delete(entry)
            else:
                between_claims(self._board, entry, self._board.delete, deadline)

        return self._each("delete", targets, act)

    def restore(self, targets: Sequence[BinEntry]) -> list[Result]:
        """Puts binned jobs back on the board, failures forgiven. Can be undone."""
        results = self._restored(targets)
        self._remember("restore", results)
        return results

    def _restored(self, targets: Sequence[BinEntry]) -> list[Result]:
        keys: dict[str, str] = {}

        def act(entry: BinEntry) -> None:
            keys[entry.key] = self._board.restore(entry)

        results = self._each("restore", targets, act)
        return [Result(keys.get(r.key, r.key), r.uuid, r.name, r.result, r.why) for r in results]

    def retry(self, targets: Sequence[JobEntry]) -> list[Result]:
        """Ends the jobs' holds, so that the next free conductor of ours takes them."""
        return self._each("retry", targets, self._board.retry)

    # -- undo ------------------------------------------------------------------------------------------------------
    @property
    def can_undo(self) -> str:
        """What :meth:`undo` would take back (``move of 3 jobs to the bin``), or empty."""
        with self._lock:
            return self._steps[-1].label if self._steps else ""

    def undo(self) -> list[Result]:
        """Takes the newest move to the bin, or restore, back. What could not be reached can be tried again.

        A job that a conductor has claimed since is left alone.
        """
        with self._lock:
            if not self._steps:
                return []
            step = self._steps.pop()
        results = self._undone(step)
        again = tuple(result.key for result in results if result.result == "refused")
        if again:
            with self._lock:
                self._steps.append(_Step(step.action, again))
        return results

    def _undone(self, step: _Step) -> list[Result]:
        try:
            if step.action == "bin":
                return _merged(step.keys, *self._found(step.keys, lambda: self._board.listing().binned), self._restored)
            found, missing = self._found(step.keys, lambda: self._board.listing().jobs)
        except ConsoleError as error:
            return [Result(key, key, key, "refused", _line(error)) for key in step.keys]
        claimed = [
            Result(entry.key, entry.uuid, entry.name, "changed", f"claimed by {visible(entry.claim.owner)} since")
            for entry in found
            if entry.claim is not None
        ]
        free = [entry for entry in found if entry.claim is None]
        why = "restore undone"
        return _merged(
            step.keys,
            free,
            [*missing, *claimed],
            lambda entries: self._each("bin", entries, lambda entry: self._board.bin(entry, self._operator, why), why),
        )

    def _found(self, keys: Sequence[str], listed: Callable[[], Any]) -> tuple[list[Any], list[Result]]:
        """Entries by key as they are now; the listing may trail an act of ours, so it is read anew where one lacks."""
        entries = listed()
        if any(key not in entries for key in keys):
            self._board.refresh()
            entries = listed()
        gone = [Result(key, key, key, "gone", "no longer there") for key in keys if key not in entries]
        return [entries[key] for key in keys if key in entries], gone

    def _remember(
        self, action: Literal["bin", "restore"], results: Sequence[Result], moved: Mapping[str, str] = NOT_MOVED
    ) -> None:
        """Notes what can be undone; ``moved`` tells the keys of those that are called otherwise since."""
        keys = tuple(moved.get(result.key, result.key) for result in results if result.result == "done")
        if keys:
            with self._lock:
                self._steps = [*self._steps, _Step(action, keys)][-UNDO_LIMIT:]

    # -- posting ---------------------------------------------------------------------------------------------------
    def post(self, request: PostRequest) -> list[str]:
        """Saves a logbook for each job, then posts the job. Returns the jobs' uuids.

        :raises UsageError: when the request cannot be meant. :raises ConsoleError: when the board, the store or the
            audit trail does not take it; the line says how many were posted before.
        """
        factory, priority = checked(request)
        if self._read_only:
            raise ConsoleError(f"Nothing posted: {READ_ONLY}")
        if self._store is None:
            raise UsageError("Posting needs a store for the jobs' flows (example: --store sqlite:////srv/flows.db)")
        # Values may be secrets: the audit tells their names only.
        before = {
            "factory": factory,
            "count": request.count,
            "priority": priority.value,
            "args": len(request.args),
            "kwargs": sorted(request.kwargs),
            "inject": sorted(request.inject),
        }
        number = self._intent("post", "", request.name, before)
        uuids: list[str] = []
        try:
            for name in request.names():
                book, flow_uuid = saved_book(self._store, name, factory, request)
                job = self._board.post(name, book=book, details={"flow_uuid": flow_uuid}, priority=priority)
                uuids.append(str(job.uuid))
        except Exception as error:
            posted = f"{len(uuids)} of {plural(request.count, 'job')} posted, then: {_line(error)}"
            self._outcome(number, f"refused: {posted}")
            kind = Unreachable if isinstance(error, Unreachable) else ConsoleError
            raise kind(posted if uuids else f"Nothing posted: {_line(error)}") from error
        self._outcome(number, f"done: {', '.join(uuids[:5])}{' and more' if len(uuids) > 5 else ''}")
        return uuids

    # -- one act on each -------------------------------------------------------------------------------------------
    def _each(
        self, action: Action, targets: Sequence[Entry], act: Callable[[Entry], object], why: str = ""
    ) -> list[Result]:
        return [self._one(action, entry, act, why) for entry in targets]

    def _one(self, action: Action, entry: Entry, act: Callable[[Entry], object], why: str) -> Result:
        name = visible(entry.name)
        if self._read_only:
            return Result(entry.key, entry.uuid, name, "refused", READ_ONLY)
        if action == "delete" and isinstance(entry, BinEntry):
            action = "purge"
        try:
            number = self._intent(action, entry.uuid or entry.key, name, _seen(entry, why))
        except ConsoleError as error:
            return Result(entry.key, entry.uuid, name, "refused", _line(error))
        verdict: Verdict = "done"
        line = ""
        try:
            act(entry)
        except Exception as error:
            verdict, line = _verdict(error), _line(error)
        untold = self._outcome(number, f"{verdict}: {line}" if line else verdict)
        return Result(entry.key, entry.uuid, name, verdict, line or untold)

    def _intent(self, action: str, uuid: str, name: str, before: dict[str, Any]) -> int:
        try:
            if self._audit is None:
                self._audit = StoreAudit(self._store) if getattr(self._store, "has_audit", False) else FileAudit()
            return self._audit.begin(self._operator, self._title, action, uuid, name, before)
        except Exception as error:
            raise ConsoleError(f"Nothing done, the audit trail cannot be written: {_line(error)}") from error

    def _outcome(self, number: int, outcome: str) -> str:
        """Empty, or what to tell where the outcome could not be written (the act itself stands)."""
        try:
            assert self._audit is not None
            self._audit.end(number, outcome)
        except Exception as error:
            return f"done, but its outcome is not in the audit trail: {_line(error)}"
        return ""


def _merged(
    keys: Sequence[str], entries: list[Any], others: list[Result], act: Callable[[list[Any]], list[Result]]
) -> list[Result]:
    """The results of acting on ``entries``, and those that need no act, in the order of ``keys``."""
    acted = {entry.key: result for entry, result in zip(entries, act(entries), strict=True)}
    told = acted | {result.key: result for result in others}
    return [told[key] for key in keys]


def _verdict(error: Exception) -> Verdict:
    if isinstance(error, excp.NotFound):
        return "gone"
    return "changed" if isinstance(error, Changed | excp.UnclaimableJob) else "refused"


def _line(error: BaseException) -> str:
    """One clean line of an error, for a person."""
    text = visible(str(error).strip().partition("\n")[0], 300)
    if isinstance(error, ConsoleError | excp.TaskFlowException) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _seen(entry: JobEntry | BinEntry, why: str) -> dict[str, Any]:
    """The job as the operator saw it, for the audit; secrets masked."""
    record = entry.record
    seen: dict[str, Any] = {
        "key": entry.key,
        "node": entry.node,
        "version": entry.version,
        "priority": entry.priority.value,
        "attempts": record.attempts if record else 0,
        "failures": record.failures if record else 0,
    }
    if isinstance(entry, JobEntry):
        claim = entry.claim
        seen |= {"created_at": iso(entry.created_at), "book": entry.book_uuid, "details": masked(entry.details)}
        if claim is not None:
            seen["claim"] = {"owner": claim.owner, "id": claim.id, "claimed_at": iso(claim.claimed_at)}
    else:
        binned_at = iso(entry.binned_at) if entry.binned_at else None
        seen["binned"] = {"at": binned_at, "who": entry.who, "why": entry.why}
    return seen | ({"why": why} if why else {})
