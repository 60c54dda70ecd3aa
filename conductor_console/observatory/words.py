"""What happened, in plain words: one clean line an event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from conductor_console.jobboards.base import BinEntry, BoardEvent, JobEntry, Listing
from conductor_console.observatory.snapshot import EventView
from conductor_console.observatory.views import clean_cause
from conductor_console.text import duration, visible

if TYPE_CHECKING:
    from conductor_console.conductors.fleet import FleetEvent

NAME_LENGTH: Final = 120

_OUTCOMES: Final = {
    "consumed": "finished {job}",
    "failed": "failed on {job}, which is consumed",
    "abandoned": "failed on {job} and let it go",
    "suspended": "suspended {job} and let it go",
    "crashed": "lost its claim on {job}",
    "revoked": "had {job} taken from it by an operator",
    "released": "let {job} go",
}


def board_event(
    event: BoardEvent, at: datetime, listing: Listing, was_binned: Mapping[str, BinEntry]
) -> EventView | None:
    """The line for an event of the board; None for what is no news by itself (a record written).

    :param listing: the board as it is since; ``was_binned`` the bin as it was shown last.
    """
    name = _name(event.entry, event.key)
    text = ""
    match event.kind:
        case "posted":
            text = f"{name} posted"
        case "removed":
            text = f"{name} left the board"
        case "claimed":
            claim = event.entry.claim if event.entry else None
            text = f"{name} claimed by {visible(claim.owner, NAME_LENGTH)}" if claim else f"{name} claimed"
        case "released":
            text = f"{name} let go"
        case "connection":
            detail = visible(listing.connection.detail, 200)
            text = f"connection {listing.connection.state}{f': {detail}' if detail else ''}"
        case "bin" if event.key:
            binned = listing.binned.get(event.key)
            name = _name(event.entry or binned or was_binned.get(event.key), event.key)
            text = f"{name} moved to the bin" if binned else f"{name} left the bin"
    return EventView(at, event.kind, text, event.key) if text else None


def fleet_event(event: FleetEvent, at: datetime) -> EventView:
    """The line for an event of a conductor of ours that reached us at ``at``."""
    who = visible(event.conductor, NAME_LENGTH)
    job = visible(event.job_name or event.job_uuid or "a job", NAME_LENGTH)
    cause = clean_cause(event.cause) if event.cause else None
    why = f": {cause.type}{f' at {cause.where}' if cause.where else ''}" if cause else ""
    if event.kind == "attempt_closed":
        took = f" after {duration(event.seconds)}" if event.seconds is not None else ""
        what = _OUTCOMES.get(event.outcome or "", "let {job} go, nobody knows why").format(job=job)
        text = f"{who} {what}{took}{why}"
    elif event.kind == "not_allowed":
        text = f"{who} passes {job} over: {cause.message if cause else 'its factory is not allowed here'}"
    else:
        text = f"{who} {event.kind}{why}"
    return EventView(at, event.kind, text, event.job_uuid or "")


def _name(entry: JobEntry | BinEntry | None, key: str) -> str:
    return visible(entry.name if entry else key, NAME_LENGTH)
