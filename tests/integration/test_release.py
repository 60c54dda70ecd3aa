"""Releasing a claim: the very one that was seen, of whatever conductor, and what becomes of who held it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import make_acl
from taskflow import states

from conductor_console.operations import FileAudit, Operations
from tests import flows
from tests.integration.conducting import Rig, board_at, rig, taskflows_board, taskflows_conductor
from tests.integration.helpers import claimed, job, take
from tests.servers import Zookeeper
from tests.support import eventually


@pytest.fixture(params=["sqlite", "zookeeper"])
def conf(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"board": "sqlite", "path": str(tmp_path / "board.db")}
    return zookeeper_conf(request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path"))


def zookeeper_conf(hosts: str, path: str) -> dict[str, Any]:
    return {"board": "zookeeper", "hosts": hosts, "path": path}


@pytest.fixture
def ours(conf: dict[str, Any], tmp_path: Path) -> Iterator[Rig]:
    with rig(conf, tmp_path) as made:
        yield made


def hand(board: Any, folder: Path) -> Operations:
    return Operations(board, operator="anna@ops-1", audit=FileAudit(folder / "audit.jsonl"))


@pytest.mark.parametrize("kind", ["blocking", "nonblocking"])
def test_a_conductor_of_ours_stops_at_the_next_step_and_writes_nothing_more(
    ours: Rig, conf: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    gate = tmp_path / "gate"
    posted, detail = ours.post("gated", ours.effects, str(gate))
    first = ours.start("loser", kind)
    eventually(lambda: "two-began" in ours.done(), what="the first to be at work")
    with board_at(conf, ours.store) as board:
        ops = hand(board, tmp_path)
        (result,) = ops.release([claimed(board, posted.uuid)])
        assert (result.result, result.why) == ("done", "")
        first.conductor.pause()
        free = job(board, posted.uuid, lambda entry: not entry.claim and entry.record)
        assert free.record is not None
        assert [(one.outcome, one.open) for one in free.record.history] == [("revoked", False)]
        assert (free.record.failures, free.record.hold_until) == (0, None)
        eventually(lambda: not ours.board.holds(posted), what="its own board to know")
        before = ours.store.journal(flow_uuid=detail.uuid)
        gate.touch()
        (closed,) = eventually(first.closed, what="the conductor to give up")
        assert (closed["outcome"], closed["error"]) == ("revoked", None)
        assert ours.done() == ["one", "two-began", "two"]
        assert ours.store.flow_state(detail.uuid) == states.RUNNING
        assert len(ours.store.journal(flow_uuid=detail.uuid)) == len(before)
        assert job(board, posted.uuid).claim is None
        assert ops.can_undo == "release of 1 job"
        assert [(one.result, one.why) for one in ops.undo()] == [
            ("refused", "a claim that was released is not given back")
        ]
    first.stop()
    ours.start("heir", kind)
    ours.gone(posted)
    assert ours.done() == ["one", "two-began", "two", "two-began", "two", "three"]
    assert ours.store.flow_state(detail.uuid) == states.SUCCESS
    told = [(row.conductor, row.detail["outcome"]) for row in ours.attempt_rows(posted)]
    assert told == [("loser", "revoked"), ("heir", "consumed")]


def test_what_is_not_held_as_it_was_seen_is_left_alone(ours: Rig, conf: dict[str, Any], tmp_path: Path) -> None:
    posted, _ = ours.post("fine", ours.effects)
    with board_at(conf, None) as board:
        ops = hand(board, tmp_path)
        unheld = job(board, posted.uuid)
        mine = take(ours.board, posted.uuid, "c1")
        seen = claimed(board, posted.uuid)
        assert [one.result for one in ops.release([unheld])] == ["changed"]
        ours.board.abandon(mine, "c1")
        ours.board.claim(mine, "c1")
        again = job(board, posted.uuid, lambda now: now.claim and seen.claim and now.claim.id != seen.claim.id)
        (changed,) = ops.release([seen])
        assert changed.result == "changed"
        assert ours.board.holds(mine)
        assert ops.can_undo == ""
        ours.board.consume(mine, "c1")
        assert [one.result for one in ops.release([again])] == ["gone"]


def test_taskflows_own_conductor_does_not_notice_and_the_job_is_run_twice(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    """What the warning before a release speaks of."""
    gate = tmp_path / "gate"
    with (
        rig(zookeeper_conf(zookeeper.hosts, zk_path), tmp_path) as ours,
        taskflows_board(zookeeper, zk_path, ours.store) as board,
    ):
        posted, detail = ours.post("gated", ours.effects, str(gate))
        theirs = taskflows_conductor("theirs", board, ours.store).start()
        try:
            eventually(lambda: "two-began" in ours.done(), what="TaskFlow's conductor to be at work")
            seen = claimed(ours.board, posted.uuid)
            assert seen.claim is not None
            assert [one.result for one in hand(ours.board, tmp_path).release([seen])] == ["done"]
            record = job(ours.board, posted.uuid, lambda entry: not entry.claim and entry.record).record
            assert record is not None
            (attempt,) = record.history
            assert (attempt.outcome, attempt.claim, record.failures) == ("revoked", seen.claim.id, 0)
            assert attempt.who.startswith("theirs@")
            theirs.conductor.stop()
            ours.start("heir")
            eventually(lambda: ours.done().count("two-began") == 2, what="both to be at work on it")
            gate.touch()
            ours.gone(posted)
        finally:
            theirs.stop()
        assert ours.done().count("two") == 2
        # The one that lost it does not know, and may write down last that it suspended the flow.
        assert ours.store.flow_state(detail.uuid) in (states.SUCCESS, states.SUSPENDED)
        # It could not end the job for the other.
        assert [row.detail["outcome"] for row in ours.attempt_rows(posted)][-1] == "consumed"


def test_where_the_record_may_not_be_written_the_claim_goes_uncounted(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    parent, _, name = zk_path.rpartition("/")
    with zookeeper.kazoo() as client:
        client.create(f"{parent}/.attempts/{name}", makepath=True)
        client.set_acls(f"{parent}/.attempts/{name}", [make_acl("world", "anyone", read=True)])
        with rig(zookeeper_conf(zookeeper.hosts, zk_path), tmp_path) as ours:
            posted, _ = flows.post(ours.board, ours.store, "fine", ours.effects)
            client.create(f"{zk_path}/{posted.entry.node}.lock", b'{"owner": "theirs"}', ephemeral=True)
            seen = claimed(ours.board, posted.uuid)
            assert [one.result for one in hand(ours.board, tmp_path).release([seen])] == ["done"]
            assert job(ours.board, posted.uuid, lambda entry: not entry.claim)
            assert ours.board.uncounted
