"""Counting for TaskFlow's own conductors: by one watcher or several, with the right to write or without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import make_acl, make_digest_acl

from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.observatory.watcher import Watcher, outcome_of
from tests import flows
from tests.integration.conducting import board_at, sql_store, taskflows_board, taskflows_conductor
from tests.integration.helpers import in_bin, job
from tests.integration.watching import Seen, end, taskflow_process, truth, watcher_process
from tests.servers import Zookeeper, expire_session
from tests.support import eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    with sql_store(tmp_path / "flows.db") as made:
        yield made


@pytest.fixture
def conf(zookeeper: Zookeeper, zk_path: str) -> dict[str, Any]:
    return {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}


@contextlib.contextmanager
def watched(conf: dict[str, Any], store: Any, **options: Any) -> Iterator[LedgerBoard]:
    """A board of ours with a watcher on it."""
    with board_at(conf, store, **options) as board:
        watcher = Watcher(board, store)
        watcher.start()
        try:
            yield board
        finally:
            watcher.stop()


def record_of(board: LedgerBoard, uuid: str) -> AttemptRecord:
    entry = board.find(uuid)
    return entry.record if entry is not None and entry.record is not None else AttemptRecord(uuid)


def closed(board: LedgerBoard, uuid: str, outcome: str, number: int = 1) -> AttemptRecord:
    """The job's record once its attempt of that number ended so."""

    def look() -> AttemptRecord | None:
        record = record_of(board, uuid)
        return record if any(one.n == number and one.outcome == outcome for one in record.history) else None

    found = eventually(look, what=f"attempt {number} of {uuid} to end as {outcome}", timeout=60)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fate", "state", "outcome"),
    [
        ("alive", None, "abandoned"),
        ("alive", "RUNNING", "abandoned"),
        ("alive", "SUSPENDED", "suspended"),
        ("died", "RUNNING", "crashed"),
        ("died", None, "crashed"),
        ("ended", "RUNNING", "crashed"),
        ("ended", "SUSPENDED", "suspended"),
        ("ended", "REVERTED", "abandoned"),
        ("ended", None, "unknown"),
        ("unknown", "FAILURE", "abandoned"),
        ("unknown", "RUNNING", "unknown"),
        ("unknown", None, "unknown"),
    ],
)
def test_how_it_ended_is_judged_by_session_and_flow(fate: Any, state: str | None, outcome: str) -> None:
    assert outcome_of(fate, state) == outcome


def test_a_job_that_taskflow_abandons_is_counted_with_its_cause(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    with watched(conf, store) as board, taskflows_board(zookeeper, zk_path, store) as theirs:
        sick, detail = flows.post(theirs, store, "execution_failure", str(tmp_path / "e"))
        conductor = taskflows_conductor("c1", theirs, store).start()
        try:
            record = closed(board, sick.uuid, "abandoned", 2)
        finally:
            conductor.stop()
        assert record.failures >= 2
        attempt = next(one for one in record.history if one.n == 2)
        assert attempt.who.startswith("c1@")
        assert attempt.flow == detail.uuid
        assert attempt.error is not None
        assert attempt.error.type == "ExecutionFailure"
        assert "tests/flows.py" in attempt.error.where


def test_a_conductor_whose_session_ends_crashed(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    effects, log = tmp_path / "effects", tmp_path / "claims"
    with watched(conf, store) as board:
        with taskflows_board(zookeeper, zk_path, store) as theirs:
            slow, _ = flows.post(theirs, store, "gated", str(effects), str(tmp_path / "gate"))
        url = f"sqlite:///{tmp_path / 'flows.db'}"
        with taskflow_process(zookeeper.hosts, zk_path, url, "c1", tmp_path, log, timeout=2.0) as child:
            job(board, slow.uuid, lambda entry: entry.claim)
            eventually(lambda: "two-began" in flows.lines(effects), what="the flow to run", timeout=60)
            child.kill()
            record = closed(board, slow.uuid, "crashed")
        assert record.failures == 1
        assert record.cause is not None
        assert record.cause.type == "ConductorGone"


def test_a_conductor_that_is_stopped_suspended_what_it_ran(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with watched(conf, store) as board, taskflows_board(zookeeper, zk_path, store) as theirs:
        slow, _ = flows.post(theirs, store, "gated", str(effects), str(gate))
        conductor = taskflows_conductor("c1", theirs, store).start()
        eventually(lambda: "two-began" in flows.lines(effects), what="the flow to run", timeout=60)
        conductor.conductor.stop()
        gate.touch()
        conductor.stop()
        assert closed(board, slow.uuid, "suspended").failures == 0


def test_a_job_that_taskflow_bins_tells_why_and_comes_back_with_its_history(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any
) -> None:
    with watched(conf, store) as board, taskflows_board(zookeeper, zk_path, store) as theirs:
        broken = theirs.post("broken")
        theirs.claim(broken, "c1")
        job(board, broken.uuid, lambda entry: entry.record)
        theirs.trash(broken, "c1")
        in_bin(board, broken.uuid)

        def told() -> bool:
            binned = board.find_binned(broken.uuid)
            return binned is not None and binned.record is not None and binned.record.failures == 1

        eventually(told, what="the attempt in the bin")
        binned = board.find_binned(broken.uuid)
        assert binned is not None
        assert binned.record is not None
        assert binned.record.cause is not None
        assert binned.record.cause.type == "Trashed"
        board.restore(binned)
        back = job(board, broken.uuid).record
        assert back is not None
        assert (back.attempts, back.failures) == (1, 0)


def test_read_only_counts_in_memory_and_writes_nothing(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    with board_at(conf, store):
        pass
    parent = zk_path.rpartition("/")[0]
    with (
        zookeeper.kazoo() as raw,
        taskflows_board(zookeeper, zk_path, store) as theirs,
    ):
        from conductor_console import jobboards

        board = jobboards.fetch(conf, name="looking", read_only=True)
        board.connect()
        watcher = Watcher(board, store)
        watcher.start()
        try:
            sick, _ = flows.post(theirs, store, "execution_failure", str(tmp_path / "e"))
            conductor = taskflows_conductor("c1", theirs, store).start()
            try:
                closed(board, sick.uuid, "abandoned", 3)
            finally:
                conductor.stop()
            assert raw.get_children(f"{parent}/.attempts/jobs") == []
            # Somebody who may write watches too, from now on: what both saw is told once.
            own = record_of(board, sick.uuid)
            with watched(conf, store) as writing:
                claimed = next(one for one in theirs.iterjobs(ensure_fresh=True) if one.uuid == sick.uuid)
                theirs.claim(claimed, "c2")
                job(writing, sick.uuid, lambda entry: entry.record)
                theirs.abandon(claimed, "c2")
                both = eventually(
                    lambda: (found := record_of(board, sick.uuid)).attempts == own.attempts + 1 and found,
                    what="the claim of the two",
                )
                assert both
                assert record_of(writing, sick.uuid).attempts == 1
        finally:
            watcher.stop()
            board.close()


def test_without_the_right_to_write_all_is_counted_in_memory(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    parent = zk_path.rpartition("/")[0]
    with zookeeper.kazoo() as raw:
        raw.ensure_path(zk_path)
        raw.create(
            f"{parent}/.attempts",
            acl=[make_digest_acl("owner", "secret", all=True), make_acl("world", "anyone", read=True)],
        )
        with watched(conf, store) as board, taskflows_board(zookeeper, zk_path, store) as theirs:
            sick, _ = flows.post(theirs, store, "execution_failure", str(tmp_path / "e"))
            conductor = taskflows_conductor("c1", theirs, store).start()
            try:
                closed(board, sick.uuid, "abandoned", 3)
            finally:
                conductor.stop()
            assert "no rights" in (board.listing().uncounted or "")


def test_what_was_not_said_while_the_connection_was_gone_is_said_then(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any
) -> None:
    with watched(conf, store) as board, taskflows_board(zookeeper, zk_path, store) as theirs:
        posted = theirs.post("one")
        theirs.claim(posted, "c1")
        closed_by = job(board, posted.uuid, lambda entry: entry.record and entry.claim)
        assert closed_by.claim is not None
        expire_session(board._client, zookeeper.hosts)
        theirs.abandon(posted, "c1")
        theirs.claim(posted, "c1")
        record = eventually(
            lambda: (found := record_of(board, posted.uuid)).attempts == 2 and found, what="both claims", timeout=60
        )
        assert record


def test_an_attempt_whose_end_nobody_watched_is_told_as_unknown(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any
) -> None:
    with taskflows_board(zookeeper, zk_path, store) as theirs:
        with watched(conf, store) as board:
            posted = theirs.post("one")
            theirs.claim(posted, "c1")
            job(board, posted.uuid, lambda entry: entry.record)
        theirs.abandon(posted, "c1")
        with watched(conf, store) as board:
            assert closed(board, posted.uuid, "unknown").failures == 0


def test_three_watchers_count_each_claim_of_two_conductors_once(
    zookeeper: Zookeeper, zk_path: str, conf: dict[str, Any], store: Any, tmp_path: Path
) -> None:
    """One watches all the time, one comes late and is killed, one comes later still and is stopped in order."""
    log, url, hosts = tmp_path / "claims", f"sqlite:///{tmp_path / 'flows.db'}", zookeeper.hosts
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(watched(conf, store))
        seen = Seen(board)
        stack.callback(seen.end)
        with taskflows_board(zookeeper, zk_path, store) as theirs:
            uuids = {flows.post(theirs, store, "execution_failure", str(tmp_path / "e"))[0].uuid for _ in range(5)}
        children = [
            stack.enter_context(taskflow_process(hosts, zk_path, url, name, tmp_path, log)) for name in ("c1", "c2")
        ]

        def rounds(number: int) -> None:
            eventually(
                lambda: all(record_of(board, uuid).attempts >= number for uuid in uuids),
                what=f"{number} attempts of each",
                timeout=120,
            )

        rounds(1)
        doomed = stack.enter_context(watcher_process(hosts, zk_path, url, "doomed", tmp_path))
        eventually((tmp_path / "doomed.ready").exists, what="the second watcher", timeout=60)
        rounds(4)
        doomed.kill()
        late = stack.enter_context(watcher_process(hosts, zk_path, url, "late", tmp_path))
        eventually((tmp_path / "late.ready").exists, what="the third watcher", timeout=60)
        rounds(8)
        assert end(late) == 0
        rounds(9)
        assert [end(child) for child in children] == [0, 0]
        claims = truth(log)

        def settled() -> bool:
            return all(record_of(board, uuid).open_attempt is None for uuid in uuids)

        eventually(settled, what="the last ends")
        board.refresh()
        records = {uuid: record_of(board, uuid) for uuid in uuids}
        counted = {(uuid, str(one.claim)) for uuid, record in records.items() for one in record.history}
        for record in records.values():
            assert record.attempts <= len(record.history) + (record.counted_to is not None) * record.attempts
            assert [one.n for one in record.history] == list(
                range(record.attempts, record.attempts - len(record.history), -1)
            )
        assert counted <= claims
        beyond = {uuid for uuid, record in records.items() if record.counted_to is not None}
        assert {claim for claim in seen.claims if claim[0] not in beyond} <= counted
        total = sum(record.attempts for record in records.values())
        assert len(seen.claims) <= total <= len(claims)
        assert total + board.listing().unseen >= len(claims)
        with board_at(conf, store) as fresh:
            assert {uuid: record_of(fresh, uuid) for uuid in uuids} == records


def test_what_an_operator_here_did_to_free_jobs_is_no_claim_that_was_missed(conf: dict[str, Any], store: Any) -> None:
    with board_at(conf, store) as board:
        held, other = board.post("a"), board.post("b")
        board.claim(held, "c1")
        board.abandon(held, "c1", hold=60.0)
        board.refresh()
        board.retry(board.listing().jobs[held.uuid])
        board.bin(board.listing().jobs[held.uuid], "op", "why")
        board.delete(board.listing().jobs[other.uuid])
        board.refresh()
        assert board.listing().unseen == 0
