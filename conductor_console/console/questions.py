"""What is asked before jobs are deleted, or taken away from a conductor that works on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from conductor_console.console.glyphs import STANDINGS
from conductor_console.console.screens.confirm import Choice, Listed, Question
from conductor_console.console.words import held_for, jobs, next_try, seconds_between, who
from conductor_console.jobboards.base import BinEntry
from conductor_console.observatory.snapshot import JobView
from conductor_console.operations import Past
from conductor_console.operations.course import purge_word
from conductor_console.text import age, visible

CANCEL = Choice("cancel", "Cancel", "cancel")


def deletion(targets: Sequence[JobView], now: datetime, hidden: int = 0) -> Question:
    """Before jobs are deleted for good."""
    count = len(targets)
    those = _those(count)
    warning, warned = _claimed(targets, "Deleting")
    return Question(
        title=f"Delete {those} for good?",
        corner=("u can only post anew", "red"),
        listed=[listed(job, now) for job in targets],
        warning=warning,
        warned=warned,
        advice=(
            *_hidden(hidden),
            _CHANGES,
            f"To keep a way back, move {'it' if count == 1 else 'them'} to the bin instead.",
        ),
        choices=(
            CANCEL,
            Choice("bin", f"Move {count:,} to the bin", "mild"),
            Choice("delete", f"Delete {jobs(count)}", "danger"),
        ),
    )


def binning(targets: Sequence[JobView], now: datetime, hidden: int = 0) -> Question:
    """Before jobs of which some are claimed, or not in sight, go to the bin."""
    count = len(targets)
    warning, warned = _claimed(targets, "Moving")
    return Question(
        title=f"Move {_those(count)} to the bin?",
        corner=("u undoes it", "soft"),
        listed=[listed(job, now) for job in targets],
        warning=warning,
        warned=warned,
        advice=(*_hidden(hidden), _CHANGES),
        choices=(CANCEL, Choice("bin", f"Move {count:,} to the bin", "mild")),
    )


def retrying(targets: Sequence[JobView], now: datetime) -> Question:
    """Before the holds of many jobs are ended."""
    count = len(targets)
    return Question(
        title=f"Retry {_those(count)} now?",
        listed=[listed(job, now) for job in targets],
        advice=("Their holds end; their failures stay counted.", _CHANGES),
        choices=(CANCEL, Choice("retry", f"Retry {jobs(count)}", "mild")),
    )


def holding(targets: Sequence[JobView], now: datetime) -> Question:
    """Before jobs that are not all in sight are held back."""
    count = len(targets)
    return Question(
        title=f"Hold {_those(count)} for an hour?",
        corner=("u undoes it", "soft"),
        listed=[listed(job, now) for job in targets],
        advice=("It binds conductors of this project alone: TaskFlow's know no holds.", _CHANGES),
        choices=(CANCEL, Choice("hold", f"Hold {jobs(count)}", "mild")),
    )


def releasing(targets: Sequence[JobView], now: datetime, hidden: int = 0) -> Question:
    """Before claims are ended without their owners' doing."""
    count = len(targets)
    one = count == 1
    return Question(
        title=f"Release the claim on {_those(count)}?" if one else f"Release the claims on {_those(count)}?",
        corner=("cannot be undone", "red"),
        listed=[listed(job, now) for job in targets],
        warning="Whoever holds it may still be at work." if one else "Whoever holds them may still be at work.",
        warned=(
            f"The {'job' if one else 'jobs'} may then be run twice at once: a conductor of TaskFlow's does not notice.",
            f"Release only when you know that {'its owner is' if one else 'their owners are'} dead.",
        ),
        advice=(*_hidden(hidden), _CHANGES),
        choices=(CANCEL, Choice("release", f"Release {count:,} {'claim' if one else 'claims'}", "danger")),
    )


def restoring(targets: Sequence[BinEntry], now: datetime, hidden: int) -> Question:
    """Before jobs that are not in sight come back from the bin."""
    count = len(targets)
    return Question(
        title=f"Restore {_those(count)}?",
        corner=("u undoes it", "soft"),
        listed=[listed_binned(entry, now) for entry in targets],
        advice=(*_hidden(hidden), _CHANGES),
        choices=(CANCEL, Choice("restore", f"Restore {count:,}", "mild")),
    )


def purging(targets: Sequence[BinEntry], now: datetime, hidden: int = 0) -> Question:
    """Before jobs in the bin are deleted for good: asks for a typed word."""
    count = len(targets)
    return Question(
        title=f"Purge {_those(count)} from the bin for good?",
        corner=("cannot be undone", "red"),
        listed=[listed_binned(entry, now) for entry in targets],
        warning="Nothing brings a purged job back.",
        warned=("Its posting and the record of its attempts go; its logbook and flows stay in the store.",),
        advice=_hidden(hidden),
        choices=(CANCEL, Choice("purge", f"Purge {jobs(count)}", "danger")),
        typed=purge_word([visible(entry.name) for entry in targets]),
    )


def posting_again(targets: Sequence[Past], now: datetime, left: int = 0) -> Question:
    """Before jobs are posted again that were deleted before this console was opened.

    :param left: so many more were deleted with them, and something speaks against posting those again.
    """
    count = len(targets)
    more = (
        (f"{left:,} more deleted with {'it' if count == 1 else 'them'} left out: see jobs post --again.",)
        if left
        else ()
    )
    return Question(
        title=f"Post {_those(count)} again?",
        corner=("deleted before this console opened", "soft"),
        listed=[
            Listed(
                STANDINGS["waiting"],
                visible(past.entry.name),
                "nobody",
                f"deleted {age(seconds_between(past.entry.created_at, now))} ago",
            )
            for past in targets
        ],
        advice=(*more, "As new jobs, with the name, priority, details and logbook that they had."),
        choices=(CANCEL, Choice("again", f"Post {jobs(count)} again", "mild")),
    )


def _those(count: int) -> str:
    return "this job" if count == 1 else f"these {count:,} jobs"


def _hidden(count: int) -> tuple[str, ...]:
    return (f"{count:,} of them are hidden by the filter.",) if count else ()


def listed_binned(entry: BinEntry, now: datetime) -> Listed:
    """One job in the bin: since when, by whom."""
    since = f"binned {age(seconds_between(entry.binned_at, now))} ago" if entry.binned_at else "binned, not known when"
    return Listed(STANDINGS["binned"], visible(entry.name), who(visible(entry.who or "-")), since)


_CHANGES = "A job that changes before you answer is left alone, and you are told."


def listed(job: JobView, now: datetime) -> Listed:
    """One job of the list: what there is to say of it before it goes."""
    note, role = _note(job, now)
    return Listed(STANDINGS[job.standing], job.name, who(job.owner) if job.owner else "nobody", note, role)


def _note(job: JobView, now: datetime) -> tuple[str, str]:
    if job.claimed_at is not None:
        held = held_for(seconds_between(job.claimed_at, now))
        if job.owner_alive is False:
            return f"conductor gone, {held}", "soft"
        return f"running now, for {held}", "accent"
    if job.failures:
        return f"failed {job.failures}" + (f" of {job.limit}" if job.limit is not None else " times"), "soft"
    if job.problem:
        return job.problem, "soft"
    held_until = next_try(job, now)
    return held_until or f"posted {age(seconds_between(job.entry.created_at, now))} ago", "soft"


def _claimed(targets: Sequence[JobView], verb: str) -> tuple[str, tuple[str, ...]]:
    """The red line, and what it means; both empty where nobody works on any of them."""
    live = [job for job in targets if job.claimed_at is not None and job.owner_alive is not False]
    if not live:
        return "", ()
    if len(live) > 1:
        warning = f"{len(live):,} are claimed by live conductors."
        runs = f"{verb} takes the jobs, not the work: they may run the flows to their ends."
    else:
        warning = f"{'It' if len(targets) == 1 else 'One'} is claimed by a live conductor."
        runs = f"{verb} takes the job, not the work: {who(live[0].owner or '')} may run the flow to its end."
    return warning, (runs, "What the flow has built so far stays as it is: nothing is reverted.")
