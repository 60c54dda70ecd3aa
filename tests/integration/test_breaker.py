"""The circuit breaker: a service that is down is no job's fault, a sick job among healthy ones is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from conductor_console import persistence
from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, Policy, make_cause
from conductor_console.jobboards.base import BoardEvent, LedgerBoard
from conductor_console.jobboards.breaker import CLOSED, Rule, closed, opened
from conductor_console.jobboards.switch import Switch
from conductor_console.operations import FileAudit, Operations
from tests.boards import Place, nowhere, place  # noqa: F401 - fixtures
from tests.databases import Database
from tests.integration.conducting import Rig, board_at, rig, sql_store, taskflows_board, taskflows_conductor
from tests.integration.guarding import Watch
from tests.servers import Zookeeper
from tests.support import eventually

#: The rule, faster: a test has no minute to wait.
SOON = Rule(window=3.0, pace=0.05, hold=0.2)
#: One failure is one too many.
ONCE = Policy(max_attempts=1)
ONE = make_cause("StorageFailure", "no room", "shop/save.py:41 in save")


@pytest.fixture
def both(place: Place, tmp_path: Path) -> Iterator[Rig]:  # noqa: F811
    with rig(place.conf, tmp_path) as made:
        yield made


def records(board: LedgerBoard) -> list[AttemptRecord]:
    listing = board.listing()
    found = [entry.record for entry in listing.jobs.values()] + [entry.record for entry in listing.binned.values()]
    return [record for record in found if record is not None]


def kinds(board: LedgerBoard) -> list[str | None]:
    """What the breaker is open for, one after the other, from now on."""
    seen: list[str | None] = []

    def hear(event: BoardEvent) -> None:
        if event.kind == "breaker" and seen[-1:] != [board.breaker.kind]:
            seen.append(board.breaker.kind)

    board.subscribe(hear)
    return seen


def test_many_jobs_of_one_cause_open_it_and_none_is_binned(both: Rig) -> None:
    cause = both.folder / "cause"
    cause.touch()
    sick = [both.post("fails_while", both.effects, str(cause), name=f"sick-{n}")[0] for n in range(12)]
    well = [both.post("fine", both.effects, name=f"well-{n}")[0] for n in range(3)]
    # The first failure is held for as long as the others need for theirs.
    running = both.start(
        kind="nonblocking", max_simultaneous_jobs=4, policy=Policy(max_attempts=2, base=1.0, jitter=0), breaker=SOON
    )
    state = eventually(lambda: both.board.breaker if both.board.breaker.kind else None, what="it to open")
    assert (state.kind, state.cause.type) == ("cause", "StorageFailure")
    assert state.why.endswith(" jobs fail with StorageFailure")
    assert both.board.listing().breaker.kind == "cause"
    for job in sick:
        # More failures than the policy allows, had they been counted.
        record = both.released(job, attempts=3)
        assert record.failures <= 1
    assert not both.board.listing().binned
    assert "released" in {attempt.outcome for record in records(both.board) for attempt in record.history}
    cause.unlink()
    for job in (*sick, *well):
        both.gone(job)
    eventually(lambda: both.board.breaker.kind is None, what="it to close")
    assert {closing["outcome"] for closing in running.closed()} == {"abandoned", "released", "consumed"}
    later, _ = both.post("storage_failure", both.effects, name="sick-alone")
    both.in_bin(later)


def test_a_lone_sick_job_among_fifty_healthy_ones_never_opens_it(both: Rig) -> None:
    seen = kinds(both.board)
    sick, _ = both.post("storage_failure", both.effects, name="sick", priority="HIGH")
    well = [both.post("fine", both.effects, name=f"well-{n}")[0] for n in range(50)]
    both.start(kind="nonblocking", max_simultaneous_jobs=4)
    record = both.in_bin(sick).record
    assert record is not None
    assert record.failures == 5
    for job in well:
        both.gone(job)
    assert both.board.breaker is CLOSED
    assert not seen


@pytest.fixture
def postgresql(database: Callable[[str], Database]) -> Database:
    return database("postgresql")


@pytest.mark.parametrize(("jobs", "patience"), [(50, 60.0), (12, 0.1)], ids=["waiting", "failing"])
def test_a_database_that_is_stopped_under_running_jobs_is_no_jobs_fault(
    place: Place,  # noqa: F811
    tmp_path: Path,
    postgresql: Database,
    jobs: int,
    patience: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the store's writes wait for it, or fail."""
    # TaskFlow tries each of them again for twenty seconds.
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _seconds: None))
    name = postgresql.database()
    store: Any = persistence.fetch({"connection": postgresql.url(name), "retry_for": patience})
    gate = tmp_path / "gate"
    try:
        store.ensure()
        with board_at(place.conf, store) as board:
            both = Rig(board, store, tmp_path)
            seen = kinds(board)
            posted = [both.post("gated", both.effects, str(gate), name=f"job-{n}")[0] for n in range(jobs)]
            running = both.start(kind="nonblocking", max_simultaneous_jobs=50, policy=ONCE, breaker=SOON)
            try:
                eventually(lambda: both.done().count("two-began") == jobs, what="all of them to run")
                postgresql.stop()
                gate.touch()
                state = eventually(lambda: board.breaker if board.breaker.kind else None, what="it to open")
                assert (state.kind, state.why) == ("store", "the store does not answer")
                assert state.by.partition("@")[0] == "c1"
                if patience < 1:
                    eventually(lambda: len(running.closed()) >= 10, what="attempts to end")
                assert not board.listing().binned
                assert {record.failures for record in records(board)} == {0}
                postgresql.start()
                for job in posted:
                    both.gone(job)
                eventually(lambda: board.breaker.kind is None, what="it to close")
            finally:
                running.stop()
            assert {closing["outcome"] for closing in running.closed()} <= {"released", "consumed"}
            assert both.done().count("three") >= jobs
            assert seen == ["store", None]
    finally:
        store.close()


def test_a_guard_beside_taskflows_conductors_respects_it(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}
    with (
        sql_store(tmp_path / "flows.db") as store,
        board_at(conf, store) as board,
        taskflows_board(zookeeper, zk_path, store) as theirs,
    ):
        both = Rig(board, store, tmp_path)
        sick = [both.post("fails_while", both.effects, str(cause), name=f"sick-{n}")[0] for n in range(8)]
        with Watch(board, tmp_path, Policy(max_attempts=3), store=store, rule=replace(SOON, jobs=5)) as watch:
            conductor = taskflows_conductor("tf", theirs, store).start()
            try:
                eventually(lambda: board.breaker.kind == "cause", what="it to open")
                for job in sick:
                    record = both.released(job, attempts=4)
                    assert record.failures < 3
                assert not board.listing().binned
                assert not watch.acts
                cause.unlink()
                for job in sick:
                    both.gone(job)
                eventually(lambda: board.breaker.kind is None, what="it to close")
                later, _ = both.post("storage_failure", both.effects, name="sick-alone")
                assert both.in_bin(later).who == "guard of t"
            finally:
                conductor.stop()
        told = [remark for remark in watch.remarks if "breaker" in remark]
        assert told[0].endswith(" jobs fail with StorageFailure; nothing is binned")
        assert told[-1] == "the circuit breaker is closed"


def test_its_state_is_shared_and_written_by_whoever_is_first(place: Place) -> None:  # noqa: F811
    ours, theirs = place.connected(), place.connected()
    now = utcnow()
    state = opened(CLOSED, "cause", "12 jobs fail", now, "c1@h:1", cause=ONE)
    assert ours.set_breaker(state, CLOSED)
    assert ours.breaker == state
    eventually(lambda: theirs.breaker == state, what="the other to see it")
    assert not theirs.set_breaker(opened(CLOSED, "store", "it is away", now, "c2@h:1"), CLOSED)
    assert theirs.breaker == state
    shut = closed(state, now + timedelta(seconds=1), "c2@h:1")
    assert theirs.set_breaker(shut, state)
    eventually(lambda: ours.breaker == shut, what="the first to see it closed")
    assert place.connected().breaker == shut


def test_what_may_not_be_written_is_known_here_alone(place: Place) -> None:  # noqa: F811
    ours, reader = place.connected(), place.connected(read_only=True)
    state = opened(CLOSED, "cause", "12 jobs fail", utcnow(), "c1@h:1", cause=ONE)
    assert reader.set_breaker(state, CLOSED)
    assert reader.listing().breaker == state
    assert ours.breaker is CLOSED
    ours.refresh()
    assert ours.breaker == CLOSED


def test_whoever_cannot_reach_the_store_says_so_once(place: Place) -> None:  # noqa: F811
    """It is well for another, so that it is no trouble of all: nobody goes on opening and closing it."""
    ours, theirs = place.connected(), place.connected()
    here, there = Switch(ours, lambda: "c1@here:1"), Switch(theirs, lambda: "c2@there:1")
    assert not here.probe(lambda: False)
    assert here.kind == "store"
    eventually(lambda: there.kind == "store", what="the other to see it")
    assert there.probe(lambda: True)
    eventually(lambda: here.kind is None, what="the first to see it closed")
    assert not here.probe(lambda: False)
    assert here.kind is None
    assert here.probe(lambda: True)
    assert not here.probe(lambda: False)
    assert here.kind == "store"


def test_a_policy_sees_no_dead_process_while_it_is_open(place: Place) -> None:  # noqa: F811
    """An attempt that its process left open is let go, and counts as no failure."""
    ours, theirs = place.connected(), place.connected()
    job = ours.post("one")
    taken = eventually(lambda: next(iter(theirs.iterjobs()), None), what="the job")
    theirs.claim(taken, "c2")
    theirs.close()
    eventually(lambda: ours.find_owner(job) is None, what="the claim to go")
    record = ours.settle(job, Policy(), excused=True)
    assert (record.failures, record.history[0].outcome, record.hold_until) == (0, "released", None)


def test_an_operator_closes_it_and_the_audit_tells(place: Place, tmp_path: Path) -> None:  # noqa: F811
    board = place.connected()
    audit = tmp_path / "audit.jsonl"
    hand = Operations(board, operator="anna@ops-1", audit=FileAudit(audit))
    assert hand.close_breaker() == (True, "The circuit breaker is closed")
    assert not audit.exists()
    assert board.set_breaker(opened(CLOSED, "cause", "12 jobs fail", utcnow(), "c1", cause=ONE), CLOSED)
    assert Operations(board, operator="anna@ops-1", read_only=True).close_breaker()[0] is False
    assert hand.close_breaker() == (True, "The circuit breaker is closed")
    assert (board.breaker.kind, board.breaker.by) == (None, "anna@ops-1")
    told = [json.loads(line) for line in audit.read_text().splitlines()]
    assert (told[0]["action"], told[0]["before"]["why"], told[1]["outcome"]) == (
        "close breaker",
        "12 jobs fail",
        "done",
    )


def test_one_that_is_open_for_the_store_asks_the_store_first(place: Place, tmp_path: Path) -> None:  # noqa: F811
    board = place.connected()
    with sql_store(tmp_path / "flows.db") as store:
        hand = Operations(board, operator="anna@ops-1", store=store, audit=FileAudit(tmp_path / "audit.jsonl"))
        assert board.set_breaker(opened(CLOSED, "store", "it is away", utcnow(), "c1"), CLOSED)
        store.close()
        assert hand.close_breaker() == (False, "Not closed: the store still does not answer")
        assert board.breaker.kind == "store"
