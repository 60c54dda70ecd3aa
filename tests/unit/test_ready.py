"""The jobs that may be tried: in order, and held ones aside, whatever the order of changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from taskflow.jobs.base import JobPriority

from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import PRIORITY_ORDER, Claim, JobEntry
from conductor_console.jobboards.ready import ReadyJobs

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS = tuple("abcdef")


def make(key: str, priority: JobPriority, hold: int | None, claimed: bool) -> JobEntry:
    record = None if hold is None else AttemptRecord(key, hold_until=NOON + timedelta(seconds=hold))
    claim = Claim("c", "0x1", NOON) if claimed else None
    return JobEntry(key, f"job{ord(key):010d}", key, key, priority, NOON, claim=claim, record=record)


ENTRY = st.builds(
    make, st.sampled_from(KEYS), st.sampled_from(JobPriority), st.none() | st.integers(0, 9), st.booleans()
)


@given(st.lists(ENTRY | st.sampled_from(KEYS) | st.integers(0, 9), max_size=40))
def test_against_a_simple_model(steps: list[JobEntry | str | int]) -> None:
    ready = ReadyJobs()
    board: dict[str, JobEntry] = {}
    for step in [*steps, 4, 9]:
        if isinstance(step, JobEntry):
            ready.put(step)
            board[step.key] = step
        elif isinstance(step, str):
            ready.drop(step)
            board.pop(step, None)
        else:
            now = NOON + timedelta(seconds=step)
            free = [entry for entry in board.values() if entry.claim is None]
            expected = [entry for entry in free if entry.record is None or not entry.record.held(now)]
            expected.sort(key=lambda entry: (PRIORITY_ORDER[entry.priority], entry.node))
            jobs, end = ready.take(now)
            # Time goes on: what was let through once is not held again.
            late = [entry for entry in jobs if entry not in expected]
            assert all(entry.record is not None for entry in late)
            assert [entry for entry in jobs if entry in expected] == expected
            holds = [e.record.hold_until for e in free if e.record is not None and e not in jobs]
            assert end == min((hold for hold in holds if hold is not None), default=None)


def test_a_malformed_job_is_never_ready() -> None:
    ready = ReadyJobs()
    ready.put(replace(make("a", JobPriority.NORMAL, None, False), problem="not JSON"))
    assert ready.take(NOON) == ((), None)


def test_holds_that_were_changed_are_not_kept() -> None:
    ready = ReadyJobs()
    for moment in range(1000):
        ready.put(make("a", JobPriority.NORMAL, 10 + moment, False))
    assert len(ready._ends) < 200
    assert ready.take(NOON) == ((), NOON + timedelta(seconds=1009))
