"""What happened, in plain words: one clean line an event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from conductor_console.jobboards.base import BinEntry, BoardEvent, JobEntry, Listing
from conductor_console.observatory.snapshot import EventView
from conductor_console.observatory.views import clean_cause
from conductor_console.operations.acts import BY_HAND
from conductor_console.text import duration, visible

if TYPE_CHECKING:
    from conductor_console.conductors.fleet import FleetEvent

NAME_LENGTH: Final = 120

#: How an attempt of ours ended: the kind of the event, and its words.
_OUTCOMES: Final = {
    "consumed": ("done", "done by {who}"),
    "failed": ("failed", "failed and reverted on {who}"),
    "abandoned": ("tried", "failed on {who}"),
    "suspended": ("tried", "suspended by {who}"),
    "crashed": ("tried", "lost by {who}"),
    "revoked": ("tried", "taken from {who} by an operator"),
    "released": ("tried", "let go by {who}"),
}

#: News of one event by two ways are this far apart at most.
SLACK: Final = timedelta(seconds=10)
#: What the board shows of an event is no news beside the line of whoever did it, of these kinds.
_TOLD_BY: Final[Mapping[str, frozenset[str]]] = {
    "released": frozenset({"done", "failed", "tried"}),
    "removed": frozenset({"done", "failed", "bin"}),
}


def board_event(
    event: BoardEvent, at: datetime, listing: Listing, was_binned: Mapping[str, BinEntry]
) -> EventView | None:
    """The line for an event of the board; None for what is no news by itself (a record written).

    :param listing: the board as it is since; ``was_binned`` the bin as it was shown last.
    """
    subject, what = _name(event.entry, event.key), ""
    match event.kind:
        case "posted":
            what = "posted"
        case "removed":
            what = f"left the board{_holder(event.entry)}"
        case "claimed":
            claim = event.entry.claim if event.entry else None
            what = f"claimed by {visible(claim.owner, NAME_LENGTH)}" if claim else "claimed"
        case "released":
            what = "let go"
        case "connection":
            detail = visible(listing.connection.detail, 200)
            subject, what = "connection", f"{listing.connection.state}{f': {detail}' if detail else ''}"
        case "bin" if event.key:
            binned = listing.binned.get(event.key)
            subject = _name(event.entry or binned or was_binned.get(event.key), event.key)
            what = _binned(binned) if binned else "left the bin"
    return EventView(at, event.kind, f"{subject} {what}", event.key, subject) if what else None


def fleet_event(event: FleetEvent, at: datetime) -> EventView:
    """The line for an event of a conductor of ours that reached us at ``at``."""
    who = visible(event.conductor, NAME_LENGTH)
    cause = clean_cause(event.cause) if event.cause else None
    why = f": {cause.type}{f' at {cause.where}' if cause.where else ''}" if cause else ""
    kind, subject = str(event.kind), visible(event.job_name or event.job_uuid or "a job", NAME_LENGTH)
    if event.kind == "attempt_closed":
        kind, how = _OUTCOMES.get(event.outcome or "", ("tried", "let go by {who}, nobody knows why"))
        took = f" after {duration(event.seconds)}" if event.seconds is not None else ""
        what = f"{how.format(who=who)}{took}{why}"
    elif event.kind == "not_allowed":
        what = f"passed over by {who}: {cause.message if cause else 'its factory is not allowed here'}"
    elif event.kind == "claimed":
        what = f"claimed by {who}"
    elif event.kind == "died":
        kind, subject, what = "crashed", who, f"died: {cause.message if cause else 'nobody knows why'}"
    else:
        subject, what = who, f"{event.kind}{why}"
    return EventView(at, kind, f"{subject} {what}", event.job_uuid or "", subject)


def begins(line: EventView) -> bool:
    """Whether what comes after the line is of another claim than what came before it."""
    return line.kind in ("posted", "claimed")


def repeats(line: EventView, other: EventView) -> bool:
    """Whether ``line`` tells nothing that ``other``, of the same job and claim, does not tell better."""
    if abs(line.at - other.at) > SLACK:
        return False
    # What lies in the bin can be seen there before its reason is read.
    return other.kind in _TOLD_BY.get(line.kind, ()) or (line.kind == other.kind and other.text.startswith(line.text))


def _holder(entry: JobEntry | None) -> str:
    """Who had the job when it left the board, where that is known."""
    claim = entry.claim if entry is not None else None
    return f", held by {visible(claim.owner, NAME_LENGTH)}" if claim is not None else ""


def _binned(entry: BinEntry) -> str:
    by = f" by {visible(entry.who, NAME_LENGTH)}" if entry.who else ""
    why = f": {visible(entry.why, 200)}" if entry.why and entry.why != BY_HAND else ""
    return f"moved to the bin{by}{why}"


def _name(entry: JobEntry | BinEntry | None, key: str) -> str:
    return visible(entry.name if entry else key, NAME_LENGTH)
