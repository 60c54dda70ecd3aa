"""How the screen says things: short forms of who and where, why a job left, what came of an act."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Final

from conductor_console.jobboards.attempts import FAILURES, Cause
from conductor_console.jobboards.base import BinEntry
from conductor_console.masking import masked
from conductor_console.observatory.snapshot import EventView, JobView, Snapshot
from conductor_console.operations import Result
from conductor_console.operations.acts import BY_HAND
from conductor_console.operations.course import NOT_REACHED
from conductor_console.text import duration, plural, visible

_PID = re.compile(r":\d+$")
PRIORITIES: Final = {"VERY_HIGH": "v.hi", "HIGH": "high", "NORMAL": "norm", "LOW": "low", "VERY_LOW": "v.lo"}
URGENT: Final = frozenset({"VERY_HIGH", "HIGH"})


def who(name: str) -> str:
    """A conductor's name without its process: ``c1@host:4121`` is ``c1@host``."""
    return _PID.sub("", name)


def place(cause: Cause, parts: int = 2) -> str:
    """Where it broke, short: ``neutron/base.py:214``; with ``parts=1`` ``base.py:214``."""
    return "/".join(cause.where.partition(" in ")[0].split("/")[-parts:])


def held_for(seconds: float) -> str:
    """A running time in at most six cells: ``38:10``, ``2h03m``, ``4d 02h``."""
    if 3600 <= seconds < 86400:
        return f"{int(seconds) // 3600}h{int(seconds) % 3600 // 60:02d}m"
    return duration(seconds)


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Seconds from one to the other, never negative: two clocks never quite agree."""
    return max(0.0, (later - earlier).total_seconds())


def next_try(job: JobView, now: datetime) -> str:
    """When a held job may be tried again: ``next 4:10``; empty for one that is not held."""
    if job.owner is not None or job.hold_until is None:
        return ""
    return f"next {held_for(seconds_between(now, job.hold_until))}"


def failed_of(job: JobView, *, short: bool = False) -> str:
    """``6 of 7 attempts failed, bin at 8``."""
    if not job.tries:
        return "no attempt counted yet"
    failed = max(job.failures, sum(1 for attempt in job.attempts if attempt.outcome in FAILURES))
    attempts = "" if short else " attempt" if job.tries == 1 else " attempts"
    limit = f", bin at {job.limit}" if job.limit is not None else ""
    return f"{failed} of {job.tries}{attempts} failed{limit}"


def bin_reason(entry: BinEntry) -> str:
    """Why a job is in the bin, as far as anyone wrote it down: boards that share a bin know of their own jobs alone."""
    if entry.why:
        return visible(entry.why, 200)
    by = "TaskFlow" if entry.record is not None else "TaskFlow, or from another board of this bin"
    return f"reason unknown, moved by {by}"


class Departures:
    """Why jobs left, as far as a picture tells; looked up only when one did."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @cached_property
    def _binned(self) -> dict[str, BinEntry]:
        binned = {entry.uuid: entry for entry in self._snapshot.binned if entry.uuid is not None}
        return binned | {entry.key: entry for entry in self._snapshot.binned}

    @cached_property
    def _news(self) -> dict[str, EventView]:
        """The event that tells most of how each job left: that somebody was done with it more than that it left."""
        leaving = [event for event in self._snapshot.events if event.kind in _LEAVING]
        return {event.key: event for event in sorted(leaving, key=_tells)}

    def why(self, key: str) -> str:
        """Why the job of that key is no longer on the board, without its name: ``done by w1 after 0:02``."""
        entry = self._binned.get(key)
        if entry is not None:
            by = f" by {who(visible(entry.who, 80))}" if entry.who else ""
            why = bin_reason(entry)
            return f"in the bin{by}" + ("" if entry.who and why == BY_HAND else f": {why}")
        news = self._news.get(key)
        return news.what if news is not None else "left the board"

    def ending(self, key: str) -> EventView | None:
        """The event that tells how a conductor of ours ended the job."""
        news = self._news.get(key)
        return news if news is not None and news.kind in _ENDINGS else None


_ENDINGS: Final = frozenset({"done", "failed"})
_LEAVING: Final = _ENDINGS | {"removed"}


def _tells(event: EventView) -> tuple[bool, datetime]:
    return event.kind in _ENDINGS, event.at


_DONE: Final = {
    "bin": "moved to the bin",
    "delete": "deleted for good",
    "purge": "purged",
    "restore": "restored",
    "retry": "to be retried now",
    "hold": "held for an hour",
    "release": "released, open to the next conductor",
    "undo": "undone",
    "again": "posted again, as new jobs",
}
GERUNDS: Final = {
    "bin": "Moving to the bin",
    "delete": "Deleting",
    "purge": "Purging",
    "restore": "Restoring",
    "retry": "Ending holds",
    "hold": "Holding",
    "release": "Releasing claims",
    "undo": "Undoing",
    "again": "Posting again",
}
_TROUBLE: Final = {"changed": "changed under you", "gone": "gone already", "refused": "refused"}
_UNDONE_BY: Final = {
    "bin": ", u undoes it",
    "restore": ", u undoes it",
    "retry": ", u undoes it",
    "hold": ", u undoes it; it binds our conductors alone",
    "delete": ", u posts anew",
}


def told(verb: str, results: Sequence[Result], label: str = "") -> tuple[str, str]:
    """One line of what came of an act, and its role: ``2 moved to the bin, u undoes it; 1 changed under you: …``.

    :param label: what it was that was undone: ``move of 3 jobs to the bin``.
    """
    done = [result for result in results if result.result == "done"]
    parts = []
    if done:
        parts.append(f"{len(done):,} {_DONE[verb]}{_UNDONE_BY.get(verb, '')}" + (f": {label}" if label else ""))
    left = [result for result in results if result.why == NOT_REACHED]
    if left:
        parts.append(f"stopped, {len(left):,} left as they were")
    trouble = {
        phrase: [result for result in results if result.result == verdict and result.why != NOT_REACHED]
        for verdict, phrase in _TROUBLE.items()
    }
    kinds = sum(1 for those in trouble.values() if those) + bool(left)
    for phrase, those in trouble.items():
        if those:
            # Where there are several kinds, no line holds the reasons of all.
            why = next((_reason(result) for result in those if result.why and kinds == 1), "")
            parts.append(f"{len(those):,} {phrase}" + (f": {why}" if why else ""))
    if len(results) - len(done) > 1:
        parts.append("o tells each")
    refused = any(result.result == "refused" for result in results if result.why != NOT_REACHED)
    return "; ".join(parts) or "Nothing to do", "red" if refused else "text" if done else "amber"


def _reason(result: Result) -> str:
    """Why it was not done, without what stands before it anyway: that the job changed."""
    return (
        result.why.partition(f" {_TROUBLE[result.result]}: ")[2] if result.result == "changed" else ""
    ) or result.why


_TROUBLE_FIRST: Final = ("refused", "changed", "gone", "done")


def _trouble(result: Result) -> tuple[int, bool]:
    untouched = result.why == NOT_REACHED
    return _TROUBLE_FIRST.index("gone" if untouched else result.result), untouched


def result_lines(results: Sequence[Result]) -> Iterator[str]:
    """What came of each job, one a line: what was not done comes first."""
    for result in sorted(results, key=_trouble):
        why = f"  {_reason(result)}" if result.why else ""
        yield f"{result.result:<8} {result.name}  {result.uuid or result.key}{why}"


def traceback_lines(tracebacks: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The lines of some atoms' tracebacks; one that holds what looks like a secret is masked."""
    for place_, (atom, text) in enumerate(tracebacks):
        if place_:
            yield ""
        yield f"{atom}:"
        for line in text.splitlines():
            shown = str(masked({"line": line.strip()})["line"])
            yield "  " + (line if shown == line.strip() else shown)


def jobs(count: int) -> str:
    """``1 job``, ``3 jobs``."""
    return plural(count, "job")
