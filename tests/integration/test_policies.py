"""The policy of our own conductors: by the job's name, with each action, in one process and in four."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from taskflow import states

from conductor_console.conductors.boards import LedgerPort
from conductor_console.jobboards.attempts import HELD_FOR_GOOD, Policy
from conductor_console.jobboards.base import Changed
from conductor_console.jobboards.policies import Policies
from tests import flows
from tests.integration.conducting import Nursery, Rig, board_at, rig, sql_store
from tests.support import eventually

QUICK = Policy(max_attempts=3, base=0.02, cap=0.1, jitter=0.0)


@pytest.fixture(params=["sqlite", "zookeeper"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    conf: dict[str, Any] = {"board": "sqlite", "path": str(tmp_path / "board.db")}
    if request.param == "zookeeper":
        hosts, path = request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path")
        conf = {"board": "zookeeper", "hosts": hosts, "path": path}
    with rig(conf, tmp_path) as made:
        yield made


def test_each_action_by_the_jobs_name(both: Rig) -> None:
    rules = tuple((f"{action}-*", Policy(2, 0.02, 0.1, 0.0, action)) for action in ("delete", "hold", "report"))
    posted = {
        action: both.post("storage_failure", str(both.folder / action), name=f"{action}-1")[0]
        for action in ("bin", "delete", "hold", "report")
    }
    running = both.start(policy=Policies(QUICK, rules))
    binned = both.in_bin(posted["bin"])
    assert binned.record is not None
    assert binned.record.failures == 3
    both.gone(posted["delete"])
    assert "job_deleted" in running.events()
    assert flows.lines(both.folder / "delete") == ["fail"] * 2
    rows = both.attempt_rows(posted["delete"])
    assert [row.detail["outcome"] for row in rows] == ["abandoned"] * 2
    eventually(lambda: len(flows.lines(both.folder / "report")) > 4, what="the reported one to be tried on")
    held = both.released(posted["hold"], 2)
    assert held.failures == 2
    assert held.hold_until is not None
    assert (held.hold_until - held.history[0].ended).total_seconds() > HELD_FOR_GOOD - 60
    # An operator's word ends the hold: it is tried once more.
    both.board.retry(both.board.find(posted["hold"].uuid))
    assert both.released(posted["hold"], 3).failures == 3
    assert flows.lines(both.folder / "hold") == ["fail"] * 3
    assert set(both.board.listing().binned) == {posted["bin"].uuid}


@pytest.mark.parametrize("action", ["bin", "delete"])
def test_what_others_counted_is_removed_before_it_is_claimed(both: Rig, action: Any) -> None:
    job, _ = both.post("storage_failure", both.effects)
    for _ in range(2):
        taken = next(one for one in both.board.iterjobs(ensure_fresh=True) if one.uuid == job.uuid)
        both.board.claim(taken, "c9")
        both.board.abandon(taken, "c9")
    both.start(policy=Policy(2, 0.02, 0.1, 0.0, action))
    if action == "bin":
        assert both.in_bin(job).why == "failed 2 times in a row"
    else:
        both.gone(job)
    assert both.done() == []


def test_four_processes_bin_exactly_the_jobs_that_cycle(tmp_path: Path) -> None:
    conf = {"board": "sqlite", "path": str(tmp_path / "board.db")}
    url, effects = f"sqlite:///{tmp_path / 'flows.db'}", str(tmp_path / "effects")
    with contextlib.ExitStack() as stack:
        nursery = Nursery(tmp_path)
        stack.callback(nursery.close)
        store = stack.enter_context(sql_store(tmp_path / "flows.db"))
        board = stack.enter_context(board_at(conf, store))
        sick = {flows.post(board, store, "storage_failure", effects)[0].uuid for _ in range(5)}
        well = [flows.post(board, store, "fine", str(tmp_path / "well"))[1].uuid for _ in range(15)]
        config = {"conf": conf, "store": url, "kind": "blocking", "options": {"policy": asdict(QUICK)}}
        children = [nursery.start({**config, "name": f"c{number}"}) for number in range(1, 5)]
        eventually(lambda: not board.listing().jobs, what="the board to be empty", timeout=60)
        for child in children:
            os.kill(child, 0)  # it lives
        binned = board.listing().binned
        assert set(binned) == sick
        for entry in binned.values():
            assert entry.record is not None
            assert (entry.record.attempts, entry.record.failures) == (3, 3)
            assert entry.record.cause is not None
            assert entry.record.cause.type == "StorageFailure"
        assert {store.flow_state(flow) for flow in well} == {states.SUCCESS}
    assert flows.lines(effects) == ["fail"] * 15
    assert sorted(flows.lines(tmp_path / "well")) == ["one"] * 15 + ["two"] * 15


def test_a_conductor_takes_nothing_from_another_nor_what_was_forgiven(both: Rig) -> None:
    job, _ = both.post("fine", both.effects)
    policy = Policy(2, 0.02, 0.1, 0.0)
    port = LedgerPort(both.board, "c1", lambda: "c1@h:1", policy, lambda *_: None)
    for _ in range(2):
        taken = next(one for one in both.board.iterjobs(ensure_fresh=True) if one.uuid == job.uuid)
        both.board.claim(taken, "c9")
        both.board.abandon(taken, "c9")
    seen = both.board.find(job.uuid)
    assert seen is not None
    # Claimed since it was looked at.
    taken = both.board.make_job(seen)
    both.board.claim(taken, "c9")
    assert not port.fit(both.board.make_job(seen))
    assert both.board.holds(taken)
    both.board.abandon(taken, "c9", outcome="released")
    # Binned and restored since: the listing that shows it again may still show what it failed before.
    binned = both.board.find(job.uuid)
    assert binned is not None
    both.board.bin(binned, "anna", "by hand")
    both.board.restore(both.in_bin(job))
    back = eventually(lambda: both.board.find(job.uuid), what="the job to be back")
    assert back is not None
    old = replace(back, record=seen.record, record_version=seen.record_version)
    assert not port.fit(both.board.make_job(old))
    assert job.uuid in both.board.listing().jobs
    for act in (lambda **kw: both.board.bin(back, "anna", "x", **kw), lambda **kw: both.board.delete(back, **kw)):
        with pytest.raises(Changed):
            act(unless=lambda record: record.failures == 0)
    assert both.board.attempts(job).failures == 0
