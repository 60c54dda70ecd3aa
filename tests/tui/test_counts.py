"""What the line of counts says of the numbers of attempts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from conductor_console.console.widgets.counts import counting_note
from conductor_console.jobboards.base import Connection
from conductor_console.observatory.snapshot import Snapshot

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
WHOLE = Snapshot(version=1, taken_at=NOW, board="b", connection=Connection("live", NOW))


def test_nothing_is_said_where_all_is_counted_and_shared() -> None:
    assert counting_note(WHOLE) == ""


def test_what_came_and_went_unseen_is_told_with_its_number_and_since_when() -> None:
    note = counting_note(replace(WHOLE, unseen=3, unseen_since=NOW))
    assert note.startswith("up to 3 claims unseen since 12:00:00")


def test_counts_that_nobody_else_has_are_told_as_such() -> None:
    assert counting_note(replace(WHOLE, counted_here=True)) == "read only: attempts are counted here alone"
    note = counting_note(replace(WHOLE, counted_here=True, uncounted="no rights to write the ledger"))
    assert note == "! attempts are counted here alone: no rights to write the ledger"
