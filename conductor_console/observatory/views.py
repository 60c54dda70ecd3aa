"""One job of a listing as the screen shows it: its state, its health, and the worse of the two.

Pure functions. Everything of foreign origin that a view carries is made visible here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from conductor_console.jobboards import postings
from conductor_console.jobboards.attempts import REMOVING, Attempt, AttemptRecord, Cause, deserted
from conductor_console.jobboards.base import BinEntry, JobEntry
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.observatory.snapshot import STANDINGS, Health, JobView, Standing, State
from conductor_console.text import visible

RANK: Final[Mapping[Standing, int]] = MappingProxyType({standing: rank for rank, standing in enumerate(STANDINGS)})

SortKey = tuple[int, int, float, str]
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """From how many unbroken failures a job is suspect, cycling, and (None: no policy known) binned.

    :ivar policy: tells the last by the job's name, where that is known.
    """

    suspect_after: int = 2
    cycling_after: int = 3
    max_attempts: int | None = None
    policy: AnyPolicy | None = None

    def bin_after(self, name: str) -> int | None:
        """After how many unbroken failures a job of that name leaves the board; None: never, or nothing tells."""
        if self.policy is None:
            return self.max_attempts
        policy = self.policy.of(name)
        return policy.max_attempts if policy.action in REMOVING else None


def job_view(
    entry: JobEntry, *, now: datetime, limits: Limits, owner_alive: bool | None = None, settle: bool = True
) -> JobView:
    """The view of ``entry`` at ``now`` (the board's clock).

    :param owner_alive: whether the claim's owner is known to live; None where nothing tells.
    :param settle: whether an attempt that is open although nobody holds the job is told as crashed.
    """
    claim = entry.claim
    record = _told(entry.record, orphaned=claim is None and settle, now=now)
    state = _state(entry, record, now)
    failures = record.failures if record else 0
    health = _health(failures, limits, dead_owner=claim is not None and owner_alive is False)
    return JobView(
        key=entry.key,
        name=visible(entry.name),
        state=state,
        health=health,
        standing=standing_of(state, health),
        entry=entry,
        failures=failures,
        tries=record.attempts if record else 0,
        limit=limits.bin_after(entry.name),
        priority=entry.priority.value,
        owner=visible(claim.owner) if claim else None,
        owner_alive=owner_alive if claim else None,
        claimed_at=claim.claimed_at if claim else None,
        hold_until=record.hold_until if record and state == "held" else None,
        created_at=entry.created_at,
        cause=record.cause if record else None,
        attempts=record.history if record else (),
        problem=_problem(entry),
    )


def binned_view(entry: BinEntry) -> JobView:
    """A job in the bin as one of the board's is shown; the bin keeps no time of posting."""
    posting = postings.parse(entry.posting, entry.name)
    as_job = JobEntry(
        key=entry.key,
        node=entry.node,
        uuid=entry.uuid,
        name=entry.name,
        priority=entry.priority,
        created_at=entry.binned_at or _LONG_AGO,
        details=posting.details,
        book_uuid=posting.book_uuid,
        book_name=posting.book_name,
        size=len(entry.posting),
        problem=entry.problem,
        record=entry.record,
    )
    dated = entry.binned_at is not None
    view = job_view(as_job, now=as_job.created_at, limits=Limits(), settle=dated)
    return replace(view, state="binned", standing="binned", created_at=None, hold_until=None, binned_at=entry.binned_at)


def sort_key(view: JobView) -> SortKey:
    """Worst first, then failures, then the oldest, then the key."""
    return (RANK[view.standing], -view.failures, view.entry.created_at.timestamp(), view.key)


def standing_of(state: State, health: Health) -> Standing:
    """The worse of the two."""
    if health == "ok":
        return state
    return health if RANK[health] < RANK[state] else state


def orphaned(entry: JobEntry) -> bool:
    """Whether an attempt is open although nobody holds the job: its process died, or the news is half in."""
    return entry.claim is None and entry.record is not None and entry.record.open_attempt is not None


def _state(entry: JobEntry, record: AttemptRecord | None, now: datetime) -> State:
    if not entry.access:
        return "no-access"
    if entry.problem is not None:
        return "malformed"
    if entry.claim is not None:
        return "claimed"
    return "held" if record is not None and record.held(now) else "waiting"


def _health(failures: int, limits: Limits, *, dead_owner: bool) -> Health:
    if failures >= limits.cycling_after:
        return "cycling"
    return "suspect" if failures >= limits.suspect_after or dead_owner else "ok"


def _problem(entry: JobEntry) -> str | None:
    problem = entry.problem or (entry.claim.problem if entry.claim else None)
    return visible(problem) if problem else None


def _told(record: AttemptRecord | None, *, orphaned: bool, now: datetime) -> AttemptRecord | None:
    if record is None:
        return None
    if orphaned:
        record = deserted(record, now)
    history = tuple(clean_attempt(attempt) for attempt in record.history)
    same = all(new is old for new, old in zip(history, record.history, strict=True))
    return record if same else replace(record, history=history)


def clean_attempt(attempt: Attempt) -> Attempt:
    """The attempt with its foreign text made visible; the same object where there was nothing to do."""
    error = clean_cause(attempt.error) if attempt.error else None
    who = visible(attempt.who)
    if error is attempt.error and who is attempt.who:
        return attempt
    return replace(attempt, error=error, who=who)


def clean_cause(cause: Cause) -> Cause:
    """The cause with its foreign text made visible; the same object where there was nothing to do."""
    texts = visible(cause.type), visible(cause.message), visible(cause.where)
    if texts == (cause.type, cause.message, cause.where):
        return cause
    return Cause(*texts, visible(cause.fingerprint))
