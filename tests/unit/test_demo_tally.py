"""The demo's numbers are counted, not assumed: what is missing, doubled or untrue is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskflow.jobs.base import JobPriority

from conductor_console.demo.flows import SAMPLES
from conductor_console.demo.tally import Tally, tally
from conductor_console.jobboards.attempts import Attempt, AttemptRecord
from conductor_console.jobboards.base import BinEntry, Connection, JobEntry, Listing
from conductor_console.observatory.build import build_snapshot
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.persistence.journal import JournalRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Log:
    """A store's journal and flow states."""

    rows: list[JournalRow] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def close(self, job: str, outcome: str, state: str, attempt: int = 1) -> None:
        detail = {"outcome": outcome, "name": f"name of {job}"}
        row = JournalRow("attempt", NOW, flow_uuid=f"flow-{job}", job_uuid=job, attempt=attempt, detail=detail)
        self.rows.append(row)
        self.states[f"flow-{job}"] = state

    def journal(self, *, flow_uuid: str | None = None, job_uuid: str | None = None) -> list[JournalRow]:
        return self.rows

    def flow_state(self, flow_uuid: str) -> str | None:
        return self.states.get(flow_uuid)


def record(job: str, failures: int) -> AttemptRecord:
    history = tuple(Attempt(n, "w1", str(n), NOW, NOW, "abandoned") for n in range(failures, 0, -1))
    return AttemptRecord(job, failures, failures, history=history)


def board(left: dict[str, int] | None = None, binned: dict[str, int] | None = None) -> Snapshot:
    """A picture of a board; the numbers are failures."""
    jobs = {
        key: JobEntry(key, key, key, key, JobPriority.NORMAL, NOW, record=record(key, failures))
        for key, failures in (left or {}).items()
    }
    entries = {
        key: BinEntry(key, key, key, key, JobPriority.NORMAL, b"{}", NOW, "w1", "failed", record=record(key, failures))
        for key, failures in (binned or {}).items()
    }
    return build_snapshot(Listing(1, NOW, Connection("live", NOW), jobs, entries, complete=True), now=NOW)


def count(posted: str, snapshot: Snapshot, log: Log) -> Tally:
    return tally(dict.fromkeys(posted, SAMPLES[0]), snapshot, log, seconds=1.0, deaths=0)


def test_it_adds_up() -> None:
    log = Log()
    log.close("a", "abandoned", "REVERTED", 1)
    log.close("a", "consumed", "SUCCESS", 2)
    log.close("b", "failed", "REVERTED")
    told = count("abcd", board(left={"c": 3}, binned={"d": 5}), log)
    assert told.adds_up
    assert (told.posted, told.done, told.failed, told.binned, told.left, told.cycling) == (4, 1, 1, 1, 1, 1)
    lines = {job.uuid: (job.fate, job.attempts, job.failures) for job in told.jobs}
    assert lines == {"a": ("done", 2, 1), "b": ("failed", 1, 1), "c": ("left", 3, 3), "d": ("binned", 5, 5)}
    assert told.jobs[0].name == "name of a"


def test_a_lost_job_is_told() -> None:
    told = count("ab", board(left={"a": 0}), Log())
    assert not told.adds_up
    assert told.problems == (
        f"{SAMPLES[0].name} (b): neither on the board nor in the bin, its last outcome is no attempt",
    )


def test_a_job_that_is_there_twice_is_told() -> None:
    log = Log()
    log.close("a", "consumed", "SUCCESS")
    assert not count("a", board(left={"a": 0}), log).adds_up


def test_a_job_consumed_twice_is_told() -> None:
    log = Log()
    log.close("a", "consumed", "SUCCESS", 1)
    log.close("a", "consumed", "SUCCESS", 2)
    assert count("a", board(), log).problems == ("done: 2 counted, but 1 of the jobs that were posted",)


def test_a_job_nobody_posted_is_told() -> None:
    assert not count("a", board(left={"a": 0, "x": 0}), Log()).adds_up


def test_a_done_job_whose_flow_is_not_is_told() -> None:
    log = Log()
    log.close("a", "consumed", "RUNNING")
    told = count("a", board(), log)
    assert not told.adds_up
    assert "stands at RUNNING" in told.problems[0]
