"""The lines of what happened: each thing once, in plain words, however many ways the news of it comes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow.jobs.base import JobPriority

from conductor_console.conductors.fleet import FleetEvent
from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import BoardEvent, Claim, Connection, EntityEntry, JobEntry, Listing
from conductor_console.observatory import Observatory
from conductor_console.observatory.liveness import Claims, Liveness
from conductor_console.observatory.observatory import EVENTS
from conductor_console.observatory.snapshot import EventView
from conductor_console.observatory.words import board_event, fleet_event

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOOM = make_cause("ValueError", "no such port", "shop/flows.py:41 in save")
LIVE = Listing(1, NOW, Connection("live", NOW))


def entry(claim: Claim | None = None) -> JobEntry:
    return JobEntry("1", "job1", "1", "order-1", JobPriority.NORMAL, NOW, claim=claim)


def closed(outcome: str, cause: Any = None) -> EventView:
    return fleet_event(FleetEvent("attempt_closed", "w1", "1", "order-1", outcome, cause, 2.0, NOW), NOW)


def seen(kind: Any, claim: Claim | None = None) -> EventView:
    line = board_event(BoardEvent(kind, "1", entry(claim)), NOW, LIVE, {})
    assert line is not None
    return line


def told(lines: Sequence[EventView]) -> list[str]:
    sight = Observatory(SimpleNamespace(listing=lambda: LIVE), title="shop")  # type: ignore[arg-type]
    for line in lines:
        sight._tell(line)
    return [line.text for line in reversed(sight._events)]


@pytest.mark.parametrize(
    ("outcome", "cause", "text"),
    [
        ("consumed", None, "order-1 done by w1 after 0:02"),
        ("failed", BOOM, "order-1 failed and reverted on w1 after 0:02: ValueError at shop/flows.py:41 in save"),
        ("abandoned", BOOM, "order-1 failed on w1 after 0:02: ValueError at shop/flows.py:41 in save"),
        ("nonsense", None, "order-1 let go by w1, nobody knows why after 0:02"),
    ],
)
def test_an_attempt_of_ours(outcome: str, cause: Any, text: str) -> None:
    line = closed(outcome, cause)
    assert (line.text, line.subject) == (text, "order-1")
    assert f"order-1 {line.what}" == text


def test_who_had_a_job_that_left_is_told() -> None:
    line = seen("removed", Claim("c9", "7", NOW))
    assert line.what == "left the board, held by c9"


def test_in_whatever_order_the_news_comes_the_end_of_a_job_is_told_once() -> None:
    claimed = seen("claimed", Claim("w1", "7", NOW))
    for outcome in ("consumed", "failed"):
        end = closed(outcome)
        for order in permutations((seen("released"), seen("removed"), end)):
            assert told([claimed, *order]) == ["order-1 claimed by w1", end.text]


def test_what_nobody_else_tells_stays() -> None:
    assert told([seen("released"), seen("removed")]) == ["order-1 let go", "order-1 left the board"]
    tried = closed("abandoned", BOOM)
    assert told([tried, seen("released"), seen("removed")]) == [tried.text, "order-1 left the board"]
    claimed = seen("claimed", Claim("w2", "8", NOW))
    assert told([tried, claimed, seen("released")]) == [tried.text, claimed.text, "order-1 let go"]
    later = board_event(BoardEvent("removed", "1", entry()), NOW + timedelta(minutes=1), LIVE, {})
    assert later is not None
    assert told([closed("failed"), later]) == [closed("failed").text, later.text]


def test_the_newest_events_stay_and_nothing_is_kept_of_the_others() -> None:
    sight = Observatory(SimpleNamespace(listing=lambda: LIVE), title="shop")  # type: ignore[arg-type]
    for number in range(2 * EVENTS):
        sight._tell(EventView(NOW, "posted", f"job {number}", str(number)))
    assert len(sight._events) == EVENTS
    assert len(sight._told) == EVENTS
    sight._tell(seen("released"))
    for number in range(EVENTS + 10):
        sight._tell(EventView(NOW, "posted", f"late job {number}", f"late {number}"))
        if number == EVENTS - 10:
            sight._tell(seen("removed"))
    sight._tell(closed("consumed"))
    assert len(sight._events) == EVENTS


def test_a_lock_that_tells_no_owner_is_no_conductor() -> None:
    known, claims = Liveness(), Claims()
    known.update({"e": EntityEntry("c1@h:9", "h", 9)}, (), NOW)
    claims.add("1", Claim("?", "7", NOW))
    claims.add("2", Claim("ghost", "8", NOW))
    assert [view.name for view in known.views(claims)] == ["c1", "ghost"]
