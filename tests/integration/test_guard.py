"""``guard``: TaskFlow's conductors and guards in processes of their own on one ZooKeeper board."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from taskflow import states

from conductor_console import jobboards
from conductor_console.clock import utcnow
from conductor_console.jobboards import breaker
from conductor_console.jobboards.attempts import AttemptRecord, Policy, make_cause
from conductor_console.jobboards.base import BoardEvent, LedgerBoard
from conductor_console.jobboards.policies import Policies
from conductor_console.observatory.watcher import Watcher
from tests import flows
from tests.integration.conducting import ROOT, board_at, sql_store, taskflows_board
from tests.integration.guarding import Watch
from tests.integration.helpers import found, in_bin, job, opened, take
from tests.integration.watching import end, taskflow_process
from tests.servers import Zookeeper, expire_session
from tests.support import eventually

SICK, WELL = 5, 15
CAUSE = make_cause("Broken", "no room on disk 7", "shop/save.py:41 in save")


@dataclass(frozen=True)
class Guards:
    """Starts guards as a service does; ``lines`` is all that they did, one JSON object an act."""

    board: str
    store: str
    folder: Path

    @contextlib.contextmanager
    def process(self, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Ready on entry: it says so once it guards. Killed on leaving."""
        out, told = self.folder / f"{name}.out", self.folder / f"{name}.err"
        with out.open("wb") as stdout, told.open("wb") as stderr:
            child = subprocess.Popen(
                [
                    *(sys.executable, "-W", "ignore", "-m", "conductor_console.cli.main", "guard", self.board),
                    *("--store", self.store, "--max-failures", "3", "--json", *options),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "XDG_STATE_HOME": str(self.folder)},
            )
        try:
            eventually(lambda: "guards" in told.read_text(), what="the guard to watch", timeout=60)
            yield child
        finally:
            child.kill()
            child.wait()

    @property
    def audit(self) -> list[dict[str, Any]]:
        path = self.folder / "conductor-console" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def acts(self, name: str, what: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in (self.folder / f"{name}.out").read_text().splitlines()]
        return [act for act in told if act["act"] == what]


@pytest.mark.parametrize("how", ["one", "restarted", "two"])
def test_exactly_the_jobs_that_cycle_are_binned_among_taskflows_conductors(
    how: str, zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    url, hosts, log, effects = f"sqlite:///{tmp_path / 'flows.db'}", zookeeper.hosts, tmp_path / "log", tmp_path / "e"
    conf = {"board": "zookeeper", "hosts": hosts, "path": zk_path}
    guards = Guards(f"zk://{hosts}{zk_path}", url, tmp_path)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(sql_store(tmp_path / "flows.db"))
        board = stack.enter_context(board_at(conf, store))
        with taskflows_board(zookeeper, zk_path, store) as theirs:
            sick = {flows.post(theirs, store, "execution_failure", str(effects))[0].uuid for _ in range(SICK)}
            well = [flows.post(theirs, store, "fine", str(effects))[1].uuid for _ in range(WELL)]
        first = stack.enter_context(guards.process("g1"))
        names = ["g1"]
        if how == "two":
            stack.enter_context(guards.process("g2"))
            names.append("g2")
        conductors = [
            stack.enter_context(taskflow_process(hosts, zk_path, url, name, tmp_path, log)) for name in ("c1", "c2")
        ]
        if how == "restarted":
            eventually(lambda: board.listing().binned, what="the first of them to be binned", timeout=60)
            first.kill()
            stack.enter_context(guards.process("g3"))
            names.append("g3")
        eventually(lambda: set(board.listing().binned) == sick, what="the five in the bin", timeout=60)
        eventually(lambda: not board.listing().jobs, what="the others to be done", timeout=60)
        assert [child.poll() for child in conductors] == [None, None]
        # They go on: what comes later is done as well.
        with taskflows_board(zookeeper, zk_path, store) as theirs:
            well.append(flows.post(theirs, store, "fine", str(effects))[1].uuid)
        eventually(lambda: store.flow_state(well[-1]) == states.SUCCESS, what="one more to be done", timeout=60)
        assert [end(child) for child in conductors] == [0, 0]
        assert {store.flow_state(flow) for flow in well} == {states.SUCCESS}

        def told() -> bool:
            records = [entry.record for entry in board.listing().binned.values()]
            return all(record is not None and _closed(record) for record in records)

        eventually(told, what="the last ends to be told")
        failures: list[int] = []
        for binned in board.listing().binned.values():
            assert binned.who is not None
            assert binned.who.startswith("guard of ")
            assert (binned.why or "").startswith("failed ")
            assert "ExecutionFailure" in (binned.why or "")
            record = binned.record
            assert record is not None
            assert 3 <= record.failures <= 8
            failures.append(record.failures)
            assert record.cause is not None
            assert record.cause.type == "ExecutionFailure"
        # On a machine that has more to do than it can, one or the other gets away once more.
        assert sum(number <= 5 for number in failures) > SICK // 2, failures
        acts = [act for name in names for act in guards.acts(name, "binned")]
    assert {act["uuid"] for act in acts} <= sick
    if how != "restarted":
        # One that was killed may have died between the act and its line.
        assert sorted(act["uuid"] for act in acts) == sorted(sick)
        intents = {line["seq"]: line["job_uuid"] for line in guards.audit if line.get("action") == "bin"}
        done = [intents[line["seq"]] for line in guards.audit if line.get("outcome") == "done"]
        assert sorted(done) == sorted(sick)


def _closed(record: AttemptRecord) -> bool:
    # A claim that ended while nobody watched, or between two looks, ended nobody knows how; it is no failure then.
    return record.open_attempt is None and all(one.outcome in ("abandoned", "unknown") for one in record.history)


def test_a_job_that_is_binned_as_it_is_let_go_keeps_its_cause(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}
    with board_at(conf, None) as board, taskflows_board(zookeeper, zk_path, None) as theirs:
        posted = theirs.post("one")
        theirs.claim(posted, "c1")
        held = job(board, posted.uuid, lambda entry: entry.claim)
        watcher = Watcher(board)
        watcher._take(BoardEvent("claimed", held.key, held))
        theirs.abandon(posted, "c1")
        free = job(board, posted.uuid, lambda entry: entry.claim is None and entry.record)
        board.bin(free, "guard of t", "failed too often")
        # By now the watcher comes to it.
        watcher._take(BoardEvent("released", free.key, free))
        watcher._take(BoardEvent("bin", free.key))

        def told() -> AttemptRecord | None:
            binned = board.find_binned(posted.uuid)
            return binned.record if binned is not None else None

        record = found(told, "the record in the bin")
        assert [(one.who, one.outcome, one.error) for one in record.history] == [("c1", "unknown", None)]


def failed(board: LedgerBoard, uuid: str, times: int) -> None:
    """The job fails so often, as conductors of ours count it."""
    for _ in range(times):
        taken = take(board, uuid)
        board.abandon(taken, "c9", error=CAUSE)
        # After the last of them a guard may have taken it off already.
        eventually(
            lambda: (entry := board.listing().jobs.get(uuid)) is None or entry.claim is None,
            what="the job to be let go",
        )


def outcomes(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [line["outcome"] for line in lines if "outcome" in line]


def test_each_action_and_rule_by_the_jobs_name(board: LedgerBoard, other: LedgerBoard, tmp_path: Path) -> None:
    binned, deleted, told, spared, foreign = (
        board.post(name).uuid for name in ("a-1", "tmp-1", "report-1", "lb-1", "x-1")
    )
    rules = (
        ("tmp-*", Policy(max_attempts=2, action="delete")),
        ("report-*", Policy(max_attempts=2, action="report")),
        ("lb-*", Policy(max_attempts=9)),
    )
    names = ["a-*", "tmp-*", "report-*", "lb-*"]
    with Watch(board, tmp_path, Policies(Policy(max_attempts=3), rules), names=names) as watch:
        for uuid in (binned, deleted, told, spared, foreign):
            failed(other, uuid, 2)
        watch.told("deleted", deleted)
        watch.told("reported", told)
        failed(other, told, 1)
        failed(other, foreign, 2)
        failed(other, binned, 1)
        act = watch.told("binned", binned)
        assert (act.name, act.failures, act.cause) == ("a-1", 3, CAUSE)
    entry = in_bin(other, binned)
    assert (entry.who, entry.why) == ("guard of t", "failed 3 times in a row: Broken: no room on disk 7")
    eventually(lambda: deleted not in other.listing().jobs, what="the deleted one to be gone")
    assert set(other.listing().binned) == {binned}
    assert set(other.listing().jobs) == {told, spared, foreign}
    assert sorted(act.what for act in watch.acts) == ["binned", "deleted", "reported"]
    assert outcomes(tmp_path) == ["done", "done"]
    assert watch.guard.acted == 3


def test_what_runs_is_never_taken_and_what_succeeds_is_told(
    board: LedgerBoard, other: LedgerBoard, tmp_path: Path
) -> None:
    uuid = board.post("one").uuid
    failed(other, uuid, 3)
    running = take(other, uuid)
    job(board, uuid, lambda entry: entry.claim and entry.record and entry.record.failures == 3)
    with Watch(board, tmp_path, Policy(max_attempts=3)) as watch:
        eventually((tmp_path / "audit.jsonl").exists, what="the intent")
        late = board.post("late").uuid
        failed(other, late, 3)
        watch.told("binned", late)
        assert other.holds(running)
        other.consume(running, "c9")
        act = watch.told("gone", uuid)
        assert act.line == "it left the board first"
    assert sorted(line.partition(":")[0] for line in outcomes(tmp_path)) == ["done", "gone"]


def test_a_guard_that_ends_leaves_what_is_held(board: LedgerBoard, other: LedgerBoard, tmp_path: Path) -> None:
    uuid = board.post("one").uuid
    failed(other, uuid, 3)
    running = take(other, uuid)
    job(board, uuid, lambda entry: entry.claim and entry.record and entry.record.failures == 3)
    watch = Watch(board, tmp_path, Policy(max_attempts=3))
    watch.guard.run(patience=0.2)
    assert [(act.what, act.line) for act in watch.acts] == [("left", "c9 holds it: left alone")]
    assert other.holds(running)
    assert outcomes(tmp_path) == ["changed: c9 holds it: left alone"]
    assert (watch.guard.acted, watch.guard.refused) == (0, 0)


def test_a_dry_run_tells_and_does_nothing(url: str, board: LedgerBoard, other: LedgerBoard, tmp_path: Path) -> None:
    uuid = board.post("one").uuid
    failed(other, uuid, 3)
    board.close()
    reading = jobboards.fetch(url, name="reading", read_only=True)
    reading.connect()
    try:
        watch = Watch(reading, tmp_path, Policy(max_attempts=3), dry_run=True)
        watch.guard.run(patience=0.1)
        assert [(act.what, act.line) for act in watch.acts] == [("would", "bin")]
    finally:
        reading.close()
    assert not (tmp_path / "audit.jsonl").exists()
    assert uuid in other.listing().jobs


def test_what_is_restored_begins_anew(board: LedgerBoard, other: LedgerBoard, tmp_path: Path) -> None:
    uuid = board.post("one").uuid
    with Watch(board, tmp_path, Policy(max_attempts=2)) as watch:
        failed(other, uuid, 2)
        watch.told("binned", uuid)
        other.restore(in_bin(other, uuid))
        failed(other, uuid, 1)
        assert job(board, uuid, lambda entry: entry.record and entry.record.failures == 1)
        failed(other, uuid, 1)
        in_bin(other, uuid)
        eventually(lambda: len(watch.acts) == 2, what="the second act")
    assert [act.what for act in watch.acts] == ["binned", "binned"]


def test_what_cannot_be_written_down_is_not_done(board: LedgerBoard, other: LedgerBoard, tmp_path: Path) -> None:
    uuid = board.post("one").uuid
    (tmp_path / "audit.jsonl").mkdir()
    with Watch(board, tmp_path, Policy(max_attempts=1)) as watch:
        failed(other, uuid, 1)
        act = watch.told("refused", uuid)
        assert "audit" in act.line
        failed(other, uuid, 2)
    assert [act.what for act in watch.acts] == ["refused"]
    assert watch.guard.refused == 1
    assert uuid in board.listing().jobs


def test_a_conductor_of_ours_that_died_is_counted_where_no_other_is_there(
    tmp_path: Path, url: str, board: LedgerBoard
) -> None:
    uuid = board.post("one").uuid
    with Watch(board, tmp_path, Policy(max_attempts=1)) as watch:
        with opened(url) as dying:
            take(dying, uuid)
            job(board, uuid, lambda entry: entry.claim)
        act = watch.told("binned", uuid)
    assert act.cause is not None
    assert act.cause.type == "ConductorGone"


def test_it_goes_on_through_a_lost_connection(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}
    with board_at(conf, None) as board, board_at(conf, None) as other:
        uuid = board.post("one").uuid
        with Watch(board, tmp_path, Policy(max_attempts=2)) as watch:
            failed(other, uuid, 1)
            expire_session(board._client, zookeeper.hosts)
            failed(other, uuid, 1)
            watch.told("binned", uuid)
            eventually(lambda: watch.remarks[-1:] == ["the board is back"], what="the connection to be told of")
        assert len(watch.remarks) == 2
        assert watch.remarks[0].startswith("the board is away: no connection to")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line in this process; returns its exit code."""
    from conductor_console.cli.main import call

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CONDUCTOR_CONSOLE_PROFILES", str(tmp_path / "profiles.toml"))
    return lambda *args: call(list(args))


def test_once_from_cron(tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"
    with opened(url) as board:
        sick, well = board.post("lb-1\x1b[2J").uuid, board.post("report-1").uuid
        assert command("guard", url, "--max-failures", "3", "--once") == 0
        failed(board, sick, 3)
        failed(board, well, 3)
        state = breaker.opened(board.breaker, "cause", "12 jobs fail", utcnow(), "c1@h:1", cause=CAUSE)
        assert board.set_breaker(state, board.breaker)
        assert command("guard", url, "--max-failures", "3", "--once") == 0
        assert "the circuit breaker is open: 12 jobs fail; nothing is binned" in capsys.readouterr().err
        assert board.set_breaker(breaker.closed(state, utcnow(), "anna"), state)
        assert command("guard", url, "--max-failures", "3", "--once", "--dry-run", "--name", "lb-*", "--json") == 4
        told = json.loads(capsys.readouterr().out)
        assert (told["act"], told["uuid"], told["failures"]) == ("would bin", sick, 3)
        assert told["cause"]["type"] == "Broken"
        rule = "report-*: max-failures=9, action=report"
        assert command("guard", url, "--max-failures", "3", "--once", "--rule", rule) == 4
        (line,) = capsys.readouterr().out.splitlines()
        assert line.partition(" ")[2] == (
            f"binned lb-1\\x1b[2J {sick} after 3 failures: Broken: no room on disk 7 shop/save.py:41 in save"
        )
        assert in_bin(board, sick).why == "failed 3 times in a row: Broken: no room on disk 7"
        assert well in board.listing().jobs
        assert command("guard", url, "--max-failures", "3", "--once", "--rule", rule) == 0


def test_a_profile_says_what_to_guard_and_how(tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"
    (tmp_path / "profiles.toml").write_text(
        f"""[ops]
board = "{url}"
[ops.policy]
max-failures = 2
[[ops.policy.rules]]
name = "tmp-*"
action = "delete"
"""
    )
    with opened(url) as board:
        binned, deleted = board.post("a").uuid, board.post("tmp-1").uuid
        for uuid in (binned, deleted):
            failed(board, uuid, 2)
        assert command("guard", "ops", "--once") == 4
        in_bin(board, binned)
        eventually(lambda: deleted not in board.listing().jobs, what="the other to be deleted")
        assert command("jobs", "list", "ops", "--json") == 0
    assert command("guard", "other", "--once") == 2
    assert "there is no profile 'other'" in capsys.readouterr().err
    assert command("guard", url, "--once") == 2
    assert "--max-failures 5" in capsys.readouterr().err
    assert command("guard", url, "--max-failures", "3", "--action", "hold") == 2


def test_a_guard_in_its_own_process_ends_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"
    guards = Guards(url, f"sqlite:///{tmp_path / 'flows.db'}", tmp_path)
    with sql_store(tmp_path / "flows.db"), opened(url) as board, guards.process("g") as child:
        uuid = board.post("one").uuid
        failed(board, uuid, 3)
        in_bin(board, uuid)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    assert (tmp_path / "g.err").read_text().splitlines()[-1].endswith("ended")
