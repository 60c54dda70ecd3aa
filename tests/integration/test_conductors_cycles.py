"""Endless cycling and its end, crashes and lost claims, and boards shared with TaskFlow; on SQLite and ZooKeeper."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import make_acl
from taskflow import states

from conductor_console.jobboards.attempts import Policy
from conductor_console.jobboards.base import JobEntry
from tests import flows
from tests.integration.conducting import (
    Rig,
    board_at,
    process,
    rig,
    sql_store,
    taskflows_board,
    taskflows_conductor,
)
from tests.servers import Zookeeper, expire_session, running_zookeeper
from tests.support import eventually

#: Short sessions: a conductor that was killed holds its claims that long.
SESSION = 2.0


def zookeeper_conf(hosts: str, path: str) -> dict[str, Any]:
    return {"board": "zookeeper", "hosts": hosts, "path": path, "timeout": SESSION}


@pytest.fixture(params=["sqlite", "zookeeper"])
def conf(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"board": "sqlite", "path": str(tmp_path / "board.db")}
    return zookeeper_conf(request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path"))


@pytest.fixture
def both(conf: dict[str, Any], tmp_path: Path) -> Iterator[Rig]:
    with rig(conf, tmp_path) as made:
        yield made


def entry(rig: Rig, job: Any) -> JobEntry | None:
    return rig.board.listing().jobs.get(job.uuid)


def test_a_cycling_job_is_counted_held_back_and_binned(both: Rig) -> None:
    job, _ = both.post("storage_failure", both.effects)
    healthy, _ = both.post("fine", str(both.folder / "healthy"))
    both.start(policy=Policy(max_attempts=5, base=0.05, cap=60.0, jitter=0.0))
    binned = both.in_bin(job)
    both.gone(healthy)
    record = binned.record
    assert record is not None
    assert (record.attempts, record.failures) == (5, 5)
    assert binned.why == "failed 5 times in a row"
    assert binned.who is not None
    assert binned.who.startswith("c1@")
    assert [attempt.outcome for attempt in record.history] == ["abandoned"] * 5
    assert record.cause is not None
    assert (record.cause.type, record.cause.message) == ("StorageFailure", "no room on 10.0.0.7")
    assert len({attempt.error.fingerprint for attempt in record.history if attempt.error}) == 1
    began = [attempt.began for attempt in reversed(record.history)]
    ended = [attempt.ended for attempt in reversed(record.history)]
    waits = [(after - before).total_seconds() for before, after in zip(ended, began[1:], strict=False) if before]
    for wait, least in zip(waits, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert wait >= least - 0.002, f"claims are spaced out: {waits}"
    assert both.done() == ["fail"] * 5
    told = [(row.attempt, row.detail["outcome"]) for row in both.attempt_rows(job)]
    assert told == [(number, "abandoned") for number in range(1, 6)]


def test_a_job_that_crashed_too_often_is_binned_without_waiting_out_its_hold(both: Rig, conf: dict[str, Any]) -> None:
    job, _ = both.post("fine", both.effects)
    with board_at(conf, both.store) as doomed:
        (seen,) = doomed.iterjobs()
        doomed.claim(seen, "victim")
        doomed.abandon(seen, "victim")
        (seen,) = doomed.iterjobs()
        doomed.claim(seen, "victim")
    both.start(policy=Policy(max_attempts=2, base=3600.0, cap=3600.0, jitter=0.0))
    binned = both.in_bin(job)
    assert binned.record is not None
    assert [attempt.outcome for attempt in binned.record.history] == ["crashed", "abandoned"]
    assert binned.why is not None
    assert binned.why.startswith("failed 2 times in a row")
    assert both.done() == []


def test_a_crash_that_its_finder_could_not_write_down_is_written_by_the_next(both: Rig, conf: dict[str, Any]) -> None:
    """It died between the board, which counts, and the journal; and each crash is written once, whoever finds it."""
    job, _ = both.post("fine", both.effects)
    with board_at(conf, both.store) as doomed:
        (seen,) = doomed.iterjobs()
        doomed.claim(seen, "victim")
    eventually(lambda: (found := entry(both, job)) is not None and found.claim is None, what="the claim to be gone")
    both.board.settle(job, Policy())
    both.start("c1")
    both.start("c2")
    both.gone(job)
    told = [(row.conductor, row.attempt, row.detail["outcome"]) for row in both.attempt_rows(job)]
    assert [(attempt, outcome) for _, attempt, outcome in told] == [(1, "crashed"), (2, "consumed")]
    assert told[0][0] == "victim"


def test_an_attempt_is_told_by_the_number_that_the_board_gave_it(
    both: Rig, conf: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the listing told may be old by the time of the claim."""
    job, _ = both.post("fine", both.effects)
    eventually(lambda: entry(both, job), what="the job to be seen")
    (old,) = both.board.iterjobs()
    with board_at(conf, both.store) as other:
        for _ in range(2):
            (seen,) = other.iterjobs()
            other.claim(seen, "other")
            other.abandon(seen, "other")
    monkeypatch.setattr(both.board, "candidates", lambda _now: ([old], None))
    both.start("c1")
    both.gone(job)
    assert [(row.attempt, row.detail["outcome"]) for row in both.attempt_rows(job)] == [(3, "consumed")]


def test_conductors_of_two_boards_count_together(both: Rig, conf: dict[str, Any]) -> None:
    with board_at(conf, both.store) as board:
        other = Rig(board, both.store, both.folder)
        try:
            job, _ = both.post("execution_failure", both.effects)
            both.start("c1", max_attempts=6)
            other.start("c2", max_attempts=6)
            binned = both.in_bin(job)
        finally:
            other.stop()
    assert binned.record is not None
    assert (binned.record.attempts, binned.record.failures) == (6, 6)
    assert both.done() == ["fail"] * 6


def test_the_same_flow_cycles_for_ever_on_taskflows_own(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    """TaskFlow's board and conductor never stop, the same job ends in the bin on ours."""
    with sql_store(tmp_path / "flows.db") as store:
        with taskflows_board(zookeeper, zk_path, store) as board:
            flows.post(board, store, "storage_failure", str(tmp_path / "theirs"))
            theirs = taskflows_conductor("tf", board, store).start()
            eventually(lambda: theirs.events().count("job_abandoned") >= 8, what="eight times round")
            theirs.stop()
            assert "job_trashed" not in theirs.events()
            assert "job_consumed" not in theirs.events()
            assert len(list(board.iterjobs())) == 1
        conf = zookeeper_conf(zookeeper.hosts, zk_path)
        with board_at(conf, store) as board:
            ours = Rig(board, store, tmp_path)
            try:
                (job,) = board.iterjobs()
                ours.start(max_attempts=3)
                assert ours.in_bin(job).why == "failed 3 times in a row"
            finally:
                ours.stop()


def test_a_killed_conductors_job_is_resumed_elsewhere(both: Rig, conf: dict[str, Any]) -> None:
    gate = str(both.folder / "gate")
    job, detail = both.post("gated", both.effects, gate)
    with process(conf, f"sqlite:///{both.folder / 'flows.db'}", "victim", both.folder) as child:
        eventually(lambda: "two-began" in both.done(), what="the victim to be at work")
        assert entry(both, job)
        child.kill()
        child.wait()
    both.start("heir")
    eventually(lambda: both.done().count("two-began") == 2, what="the heir to take over")

    def taken_over() -> Any:
        seen = entry(both, job)
        record = seen.record if seen is not None else None
        return record if record is not None and record.attempts == 2 else None

    record = eventually(taken_over, what="both attempts to be seen")
    assert [attempt.outcome for attempt in record.history] == [None, "crashed"]
    assert record.history[1].who.startswith("victim@")
    assert record.failures == 1
    Path(gate).touch()
    both.gone(job)
    assert both.store.flow_state(detail.uuid) == states.SUCCESS
    assert both.done() == ["one", "two-began", "two-began", "two", "three"], "what was done is not done again"
    told = [(row.conductor, row.attempt, row.detail["outcome"]) for row in both.attempt_rows(job)]
    assert told == [("victim", 1, "crashed"), ("heir", 2, "consumed")]


def test_a_job_that_kills_its_process_is_run_again(both: Rig, conf: dict[str, Any]) -> None:
    job, _ = both.post("dies", both.effects)
    with process(conf, f"sqlite:///{both.folder / 'flows.db'}", "victim", both.folder) as child:
        child.wait(60)
    both.start("heir")
    both.gone(job)
    assert both.done() == ["one", "die", "die", "three"]


def test_a_conductor_that_is_stopped_as_it_takes_over_a_killed_ones_flow_loses_nothing(
    both: Rig, conf: dict[str, Any]
) -> None:
    job, detail = both.post("dies", both.effects)
    with process(conf, f"sqlite:///{both.folder / 'flows.db'}", "victim", both.folder) as child:
        child.wait(60)
    hasty = both.conductor("hasty")

    def stop(_event: str, details: Any) -> None:
        details["conductor"].stop()

    hasty.conductor.notifier.register("running_start", stop)
    hasty.start()
    (closed,) = eventually(hasty.closed, what="the hasty one to let go")
    hasty.stop()
    assert closed["outcome"] == "suspended"
    assert flows.flow_state(both.store, detail.uuid) == states.SUSPENDED
    both.start("heir")
    both.gone(job)
    assert both.done() == ["one", "die", "die", "three"]
    assert flows.flow_state(both.store, detail.uuid) == states.SUCCESS


def test_a_lost_claim_writes_nothing_more(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    """A session that expires in mid-flow: its conductor gives up, another runs the job, not before the first is out."""
    conf = zookeeper_conf(zookeeper.hosts, zk_path)
    gate = str(tmp_path / "gate")
    with rig(conf, tmp_path) as ours, zookeeper.kazoo(SESSION) as client:
        with board_at(conf, ours.store, client=client) as board:
            loser = Rig(board, ours.store, tmp_path)
            try:
                job, detail = ours.post("gated", ours.effects, gate)
                first = loser.start("loser")
                eventually(lambda: "two-began" in ours.done(), what="the first to be at work")
                expire_session(client, zookeeper.hosts)
                eventually(lambda: entry(ours, job) and not entry(ours, job).claim, what="the claim to be lost")  # type: ignore[union-attr]
                first.conductor.pause()
                ours.start("heir")
                assert not threading.Event().wait(0.3)
                assert ours.done().count("two-began") == 1, "the same process does not run it twice at a time"
                Path(gate).touch()
                ours.gone(job)
                eventually(first.closed, what="the loser to be told")
            finally:
                loser.stop()
        assert ours.store.flow_state(detail.uuid) == states.SUCCESS
        assert ours.done() == ["one", "two-began", "two", "two-began", "two", "three"]
        (closed,) = first.closed()
        assert (closed["outcome"], closed["error"].type) == ("crashed", "ClaimLost")
        told = [(row.conductor, row.detail["outcome"]) for row in ours.attempt_rows(job)]
        assert told == [("loser", "crashed"), ("heir", "consumed")]
        states_of_two = [
            (row.conductor, row.to_state)
            for row in ours.store.journal(flow_uuid=detail.uuid)
            if row.atom_name == "two" and row.to_state != row.from_state
        ]
        assert ("loser", "SUCCESS") not in states_of_two


def test_our_conductor_on_taskflows_board(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    """Without a ledger it does as TaskFlow does."""
    with sql_store(tmp_path / "flows.db") as store, taskflows_board(zookeeper, zk_path, store) as board:
        there = Rig(board, store, tmp_path)
        try:
            _, fine = there.post("fine", there.effects)
            there.post("factory_raises")
            running = there.start(wait_timeout=0.05)
            eventually(lambda: len(running.closed()) == 2, what="both jobs to be closed")
            assert running.events()[-2:] == ["job_trashed", "attempt_closed"]
            assert list(board.iterjobs(ensure_fresh=True)) == []
            assert store.flow_state(fine.uuid) == states.SUCCESS
            assert there.done() == ["one", "two"]
            there.post("storage_failure", str(tmp_path / "sick"))
            eventually(lambda: running.events().count("job_abandoned") >= 3, what="it to go round")
            assert running.closed()[-1]["outcome"] == "abandoned"
        finally:
            there.stop()


def test_without_the_right_to_count_a_sick_job_still_waits_and_ends(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    """The ledger may be read only: what failed is counted and held back in memory, by the conductor that saw it."""
    parent, _, name = zk_path.rpartition("/")
    with zookeeper.kazoo() as client:
        client.create(f"{parent}/.attempts/{name}", makepath=True)
        client.set_acls(f"{parent}/.attempts/{name}", [make_acl("world", "anyone", read=True)])
    with rig(zookeeper_conf(zookeeper.hosts, zk_path), tmp_path) as ours:
        job, _ = ours.post("storage_failure", ours.effects)
        began = time.monotonic()
        ours.start(policy=Policy(max_attempts=4, base=0.1, cap=60.0, jitter=0.0))
        ours.in_bin(job)
        assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
        assert ours.done() == ["fail"] * 4
        assert ours.board.listing().uncounted


def test_a_server_that_comes_back_is_no_end(tmp_path: Path) -> None:
    """Shorter than a session: the claim stands and the job goes on; then the next one is found by itself."""
    with running_zookeeper() as server:
        conf = {"board": "zookeeper", "hosts": server.hosts, "path": "/cc/jobs", "timeout": 30.0}
        with rig(conf, tmp_path) as ours:
            gate = str(tmp_path / "gate")
            job, _ = ours.post("gated", ours.effects, gate)
            running = ours.start()
            eventually(lambda: "two-began" in ours.done(), what="the job to be at work")
            server.restart()
            Path(gate).touch()
            eventually(running.closed, what="the job to end", timeout=60)
            assert [closed["outcome"] for closed in running.closed()] == ["consumed"]
            eventually(lambda: ours.board.listing().connection.state == "live", what="the board to be back")
            ours.gone(job)
            second, _ = ours.post("line", ours.effects, "second")
            ours.gone(second)
            assert ours.done() == ["one", "two-began", "two", "three", "second"]
            assert running.error is None
