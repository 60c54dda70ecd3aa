"""The engines that conductors run flows in: serial, parallel with shared threads, and workers elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow import states

from conductor_console import conductors
from conductor_console.cli import run
from conductor_console.conductors import engines, pool
from conductor_console.conductors.fleet import Fleet
from conductor_console.errors import UsageError
from tests import mail
from tests.integration.conducting import QUICK, Rig, board_at, rig
from tests.servers import Zookeeper, expire_session
from tests.support import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rig]:
    with rig({"board": "sqlite", "path": str(tmp_path / "board.db")}, tmp_path) as made:
        yield made


def helpers() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("conductor-helper-")}


def began(here: Rig) -> int:
    return sum(line.endswith("-began") for line in here.done())


# -- parallel ----------------------------------------------------------------------------------------------------------
def test_each_flow_has_so_many_tasks_at_once_in_threads_that_all_share(here: Rig) -> None:
    gate = here.folder / "gate"
    fleet = Fleet(here.board, here.store, count=2, policy=QUICK, engine="parallel", engine_options={"max_workers": "2"})
    jobs = [here.post("wide", here.effects, str(gate), 5) for _ in range(2)]
    try:
        fleet.start()
        eventually(lambda: began(here) == 4, what="two tasks of each flow to be at work")
        assert not threading.Event().wait(0.2)
        assert began(here) == 4
        assert len(helpers()) >= 4
        gate.touch()
        for job, detail in jobs:
            here.gone(job)
            assert here.store.flow_state(detail.uuid) == states.SUCCESS
        # The factories of both flows ran there as well.
        assert len(helpers()) <= 4 + 2
        again, _ = here.post("wide", here.effects, str(gate), 5)
        known = helpers()
        here.gone(again)
        assert helpers() == known, "threads are used again"
    finally:
        assert fleet.stop(30) == []
    eventually(lambda: not helpers(), what="the threads to end with the last conductor")
    assert began(here) == 15


@pytest.mark.parametrize("options", [{}, {"executor": "threads"}, {"executor": "Threaded", "max_workers": 1}])
def test_threads_asked_for_by_name_are_shared_as_well(here: Rig, options: dict[str, Any]) -> None:
    gate = here.folder / "gate"
    gate.touch()
    job, detail = here.post("wide", here.effects, str(gate), 3)
    here.start(engine="parallel", engine_options=options)
    here.gone(job)
    assert here.store.flow_state(detail.uuid) == states.SUCCESS
    assert helpers()


def test_an_executor_that_is_given_is_used_and_left_open(here: Rig) -> None:
    gate = here.folder / "gate"
    gate.touch()
    with futures.ThreadPoolExecutor(2, "given") as given:
        names: list[str] = []
        real = given.submit

        def submit(*args: Any, **kwargs: Any) -> Any:
            names.append("given")
            return real(*args, **kwargs)

        given.submit = submit  # type: ignore[method-assign]
        job, _ = here.post("wide", here.effects, str(gate), 3)
        running = here.start(engine="parallel", engine_options={"executor": given})
        here.gone(job)
        running.stop()
        assert len(names) == 3
        assert given.submit(lambda: 7).result(30) == 7


def test_an_engine_may_be_a_uri(here: Rig) -> None:
    gate = here.folder / "gate"
    job, _ = here.post("wide", here.effects, str(gate), 3)
    here.start(engine="parallel://?max_workers=1")
    eventually(lambda: began(here) == 1, what="one task to be at work")
    assert not threading.Event().wait(0.2)
    assert began(here) == 1
    gate.touch()
    here.gone(job)


def test_a_task_that_exits_ends_its_attempt_alone(here: Rig) -> None:
    job, _ = here.post("wide_exits", here.effects)
    running = here.start(engine="parallel", max_attempts=2)
    record = here.in_bin(job).record
    assert record is not None
    assert [(attempt.outcome, attempt.error and attempt.error.type) for attempt in record.history] == [
        ("abandoned", "SystemExit")
    ] * 2
    fine, _ = here.post("fine", here.effects)
    here.gone(fine)
    assert running.error is None


def test_no_thread_to_be_had_is_no_fault_of_the_job(here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a factory nor for a task: the attempt is abandoned, and another goes well."""
    refused: list[str] = []
    real = pool.DaemonPool.submit

    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if fn.__name__ not in refused:
            refused.append(fn.__name__)
            raise RuntimeError("can't start new thread")
        return real(self, fn, *args, **kwargs)

    monkeypatch.setattr(pool.DaemonPool, "submit", submit)
    job, detail = here.post("fine", here.effects)
    here.start(engine="parallel")
    here.gone(job)
    assert refused == ["flow_from_detail", "_execute_task"]
    assert [row.detail["outcome"] for row in here.attempt_rows(job)] == ["abandoned", "abandoned", "consumed"]
    assert here.store.flow_state(detail.uuid) == states.SUCCESS


def test_a_lost_claim_waits_for_the_tasks_that_are_under_way(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    """They cannot be stopped; until they are through the same process does not take the job up again."""
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path, "timeout": 2.0}
    gates = [tmp_path / "gate0", tmp_path / "gate"]
    with rig(conf, tmp_path) as ours, zookeeper.kazoo(2.0) as client:
        made: KazooClient = client
        with board_at(conf, ours.store, client=made) as board:
            loser = Rig(board, ours.store, tmp_path)
            try:
                job, detail = ours.post("uneven", ours.effects, str(gates[0]), str(gates[1]))
                first = loser.start("loser", engine="parallel", engine_options={"max_workers": 2})
                eventually(lambda: began(ours) == 2, what="both to be at work")
                expire_session(made, zookeeper.hosts)
                eventually(
                    lambda: (found := ours.board.find(job.uuid)) is not None and found.claim is None,
                    what="the claim to be lost",
                )
                first.conductor.pause()
                ours.start("heir", engine="parallel", engine_options={"max_workers": 2})
                gates[0].touch()
                eventually(lambda: "t0" in ours.done(), what="one of both to be through")
                assert not threading.Event().wait(0.3)
                assert began(ours) == 2
                assert not first.closed()
                gates[1].touch()
                ours.gone(job)
                eventually(first.closed, what="the loser to be told")
            finally:
                loser.stop()
        assert ours.store.flow_state(detail.uuid) == states.SUCCESS
        assert began(ours) == 4
        (closed,) = first.closed()
        assert (closed["outcome"], closed["error"].type) == ("crashed", "ClaimLost")


# -- what cannot be meant ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("engine", "options", "why"),
    [
        ("steam", {}, "there is no engine steam; there are default, parallel, serial, worker-based, workers"),
        ("parallel", {"executor": "process"}, "the parallel engine does not take these options: Unknown executor"),
        ("parallel", {"executor": 7}, "the parallel engine does not take these options: Unknown executor '7'"),
        ("parallel", {"max_workers": "many"}, "max_workers is a whole number, at least 1, not 'many'"),
        ("parallel", {"max_workers": 0}, "max_workers is a whole number, at least 1, not 0"),
        ("worker-based", {"executor": "threads"}, "the worker-based engine does not take these options: Expected an"),
        ("worker-based", {"retry_options": {"max_retries": "x"}}, "the worker-based engine does not take these"),
    ],
)
def test_a_bad_engine_is_told_before_any_job_is_touched(
    here: Rig, engine: str, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError) as told:
        conductors.fetch("blocking", "c1", here.board, persistence=here.store, engine=engine, engine_options=options)
    assert str(told.value).startswith(why)
    assert "\n" not in str(told.value)
    with pytest.raises(UsageError):
        Fleet(here.board, here.store, engine=engine, engine_options=options)


def test_an_option_that_the_engine_does_not_know_is_told(here: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """TaskFlow passes it over; a program that relies on that goes on working, a command line is told."""
    conductors.fetch("blocking", "c1", here.board, engine="parallel", engine_options={"max_worker": 4})
    assert "the engine passes over what it does not know: max_worker" in caplog.text
    with pytest.raises(UsageError, match="the parallel engine has no option max_worker"):
        engines.check("parallel", {"max_worker": 4})
    engines.check("parallel", {"max_workers": 4, "defer_reverts": True})
    engines.check("serial", {"never_resolve": True})


def test_options_on_the_command_line() -> None:
    assert run._engine_options("parallel", ["max_workers=4", "executor=threads"]) == {
        "max_workers": 4,
        "executor": "threads",
    }
    assert run._engine_options("worker-based", ['topics=["a", "b"]', "url=memory://=x"]) == {
        "topics": ["a", "b"],
        "url": "memory://=x",
    }
    for engine, given, why in (
        ("parallel", "max_workers", "--engine-option reads KEY=VALUE"),
        ("parallel", "=4", "--engine-option reads KEY=VALUE"),
        ("serial", "max_workers=4", "--engine: the serial engine has no option max_workers"),
        ("parallel", "max_workers=none", "--engine: max_workers is a whole number"),
    ):
        with pytest.raises(UsageError, match=why):
            run._engine_options(engine, [given])


# -- workers -----------------------------------------------------------------------------------------------------------
WORKER = """
import sys, json
from taskflow.engines.worker_based.worker import Worker
Worker(tasks=["tests.flows:Far"], **json.loads(sys.argv[1])).run()
"""


def test_tasks_run_in_workers_of_their_own_processes(here: Rig) -> None:
    """Through files in a folder, as kombu carries messages where there is no broker."""
    wire = mail.options(here.folder)
    worker = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER, json.dumps({**wire, "topic": "far", "threads_count": 1})],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: mail.listening(here.folder) or worker.poll() is not None, what="the worker to listen")
        job, detail = here.post("far", job_store={"path": here.effects})
        running = here.start(engine="worker-based", engine_options={**wire, "topics": ["far"]})
        here.gone(job)
        assert here.store.flow_state(detail.uuid) == states.SUCCESS
        assert here.done() == [f"one {worker.pid}", f"two {worker.pid}"]
        (row,) = here.attempt_rows(job)
        assert row.detail["outcome"] == "consumed"
        running.stop()
    finally:
        worker.kill()
        worker.wait()


def test_a_broker_that_is_not_there_is_told_and_hangs_nobody(here: Rig) -> None:
    job, _ = here.post("far", job_store={"path": here.effects})
    wire = mail.options(here.folder)
    wire["transport_options"]["control_folder"] = str(here.folder / "flows.db" / "control")
    running = here.start(max_attempts=2, engine="worker-based", engine_options={**wire, "topics": ["far"]})
    binned = here.in_bin(job)
    assert binned.record is not None
    cause = binned.record.cause
    assert cause is not None
    assert cause.type == "ExecutionFailure"
    assert cause.message.startswith("the workers' broker cannot be reached: ")
    running.stop()
