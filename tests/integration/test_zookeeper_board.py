"""The ZooKeeper board on a real server: what lies there after each act, and what others may do meanwhile."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, Permissions
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard as TaskFlowBoard
from taskflow.types import entity

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable, UsageError
from conductor_console.jobboards import attempts, zk_claims
from conductor_console.jobboards.attempts import Policy, make_cause
from conductor_console.jobboards.base import BoardEvent, BoardJob, Changed, Gone, Refused
from conductor_console.jobboards.zk_client import as_hex
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests import zookeeper_boards
from tests.servers import Zookeeper, end_client, expire_session, make_client, running_zookeeper
from tests.support import eventually
from tests.zookeeper_boards import (
    OpenBoard,
    claimed,
    entry_of,
    free,
    only,
    record_path,
    seen,
    their_job,
    tree,
)

CAUSE = make_cause("StorageFailure", "the database is away", "shop/flows.py:41 in save")
READ_ONLY_ACL = [ACL(Permissions.READ, ANYONE_ID_UNSAFE)]


#: Fixtures.
raw, open_board, theirs = zookeeper_boards.raw, zookeeper_boards.open_board, zookeeper_boards.theirs


class TestConnecting:
    def test_it_writes_nothing(self, open_board: OpenBoard, raw: KazooClient, zk_path: str) -> None:
        raw.ensure_path(zk_path)
        root = zk_path.rpartition("/")[0]
        before = tree(raw, root)
        board = open_board(ensure=False)
        assert board.connected
        assert board.listing().complete
        assert tree(raw, root) == before

    def test_a_path_that_is_not_there(self, zk_hosts: str, zk_path: str) -> None:
        board = ZookeeperJobBoard("ours", {"hosts": zk_hosts, "path": zk_path})
        with pytest.raises(BoardUnreachable) as told:
            board.connect()
        assert zk_path in str(told.value)
        assert "conductor-console init" in str(told.value)
        assert "\n" not in str(told.value)
        assert not board.connected
        assert board.listing().connection.state == "closed"

    def test_a_server_that_is_not_there(self) -> None:
        board = ZookeeperJobBoard("ours", {"hosts": "127.0.0.1:1", "path": "/jobs"})
        with pytest.raises(BoardUnreachable, match=r"127\.0\.0\.1:1"):
            board.connect(timeout=1)
        with pytest.raises(excp.JobFailure):
            board.post("a")
        board.close()

    @pytest.mark.parametrize("path", ["", "jobs", "/", "/a//b", "/a/../b"])
    def test_paths_that_cannot_be_meant(self, path: str) -> None:
        with pytest.raises(UsageError):
            ZookeeperJobBoard("ours", {"hosts": "127.0.0.1:1", "path": path})

    def test_closing_and_connecting_again(self, open_board: OpenBoard) -> None:
        board = open_board()
        key = board.post("a").uuid
        board.close()
        assert board.listing().connection.state == "closed"
        assert list(board.candidates(utcnow())[0]) == []
        board.connect()
        assert entry_of(board, key).name == "a"
        assert only(board).uuid == key

    def test_no_threads_are_left(self, open_board: OpenBoard) -> None:
        before = {thread.name for thread in threading.enumerate()}
        board = open_board(name="leaky")
        board.close()
        assert {thread.name for thread in threading.enumerate()} <= before

    def test_four_letter_words_are_not_needed(self, open_board: OpenBoard) -> None:
        # The server of these tests answers none but srvr.
        assert open_board().connected

    def test_read_only_acts_are_refused(self, open_board: OpenBoard) -> None:
        writer = open_board()
        writer.post("a")
        reader = open_board(ensure=False, read_only=True)
        job = only(reader)
        acts: tuple[Callable[[], object], ...] = (
            lambda: reader.post("b"),
            lambda: reader.claim(job, "c"),
            lambda: reader.bin(job.entry, "op", "why"),
            lambda: reader.delete(job.entry),
            lambda: reader.retry(job.entry),
            reader.ensure,
        )
        for act in acts:
            with pytest.raises(Refused, match="read only"):
                act()


class TestOneConductor:
    def test_claim(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a", details={"flow_uuid": "f1"})
        assert job.state == states.UNCLAIMED
        board.claim(job, "c1")
        lock = board.path + "/" + job.entry.node + ".lock"
        data, stat = raw.get(lock)
        assert json.loads(data) == {"owner": "c1"}
        assert stat.version == 1
        assert stat.ephemeralOwner != 0
        entry = entry_of(board, job.uuid)
        assert entry.claim is not None
        assert (entry.claim.id, entry.claim.owner, entry.claim.version) == (as_hex(stat.czxid), "c1", 1)
        data, record_stat = raw.get(record_path(board, entry.key))
        assert record_stat.mzxid == stat.czxid
        record = attempts.from_json(data, entry.key)
        assert (record.attempts, record.failures) == (1, 0)
        assert record.history[0].claim is None
        assert record.history[0].who.startswith("c1@")
        assert record.history[0].flow == "f1"
        assert entry.record == record
        assert board.holds(job)
        assert job.state == states.CLAIMED
        assert board.find_owner(job) == "c1"
        assert not board.candidates(utcnow())[0]

    def test_consume(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        board.consume(job, "c1")
        assert not board.listing().jobs
        assert raw.get_children(board.path) == []
        assert raw.exists(record_path(board, job.uuid)) is None
        assert not board.holds(job)
        assert job.state == states.COMPLETE
        with pytest.raises(excp.NotFound):
            board.consume(job, "c1")
        with pytest.raises(excp.NotFound):
            board.attempts(job)

    def test_abandon_with_a_hold(self, open_board: OpenBoard) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE, hold=60.0)
        record = board.attempts(job)
        assert (record.attempts, record.failures) == (1, 1)
        assert record.history[0].outcome == "abandoned"
        assert record.history[0].error == CAUSE
        assert record.history[0].claim is not None
        jobs, end = board.candidates(utcnow())
        assert not jobs
        assert end is not None
        assert timedelta(seconds=55) < end - utcnow() <= timedelta(seconds=60.5)
        assert len(board.candidates(utcnow() + timedelta(seconds=61))[0]) == 1

    def test_the_count_goes_on(self, open_board: OpenBoard) -> None:
        first, second = open_board("b1"), open_board("b2")
        key = first.post("a").uuid
        seen(second, key)
        for turn in range(1, 6):
            for board in (first, second):
                job = free(board)
                board.claim(job, "c")
                board.abandon(job, "c", error=CAUSE)
            assert first.attempts(only(second)).failures == 2 * turn

    def test_only_the_owner_ends_a_claim(self, open_board: OpenBoard) -> None:
        board, other = open_board(), open_board("other")
        job = board.post("a")
        for act in (board.consume, board.abandon, board.trash):
            with pytest.raises(excp.NotFound):
                act(job, "c1")
        board.claim(job, "c1")
        for act in (board.consume, board.abandon, board.trash):
            with pytest.raises(excp.JobFailure):
                act(job, "c2")
        seen(other, job.uuid)
        for act in (other.consume, other.abandon, other.trash):
            with pytest.raises(excp.JobFailure):
                act(job, "c2")
        with pytest.raises(excp.UnclaimableJob):
            other.claim(job, "c2")
        with pytest.raises(excp.UnclaimableJob):
            board.claim(job, "c2")
        assert board.holds(job)

    def test_trash(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        posting, _ = raw.get(board.path + "/" + job.entry.node)
        board.claim(job, "c1")
        board.trash(job, "c1", why="5 failures in a row", error=CAUSE)
        assert raw.get_children(board.path) == []
        assert raw.get(board.trash_path + "/" + job.entry.node)[0] == posting
        binned = eventually(lambda: board.listing().binned.get(job.entry.key))
        assert binned.why == "5 failures in a row"
        assert binned.record is not None
        assert binned.record.failures == 1
        assert binned.posting == posting
        assert board.attempts(job).history[0].error == CAUSE

    def test_best_first(self, open_board: OpenBoard) -> None:
        board = open_board()
        for number, priority in enumerate(["LOW", "NORMAL", "VERY_HIGH", "VERY_LOW", "HIGH", "VERY_HIGH"]):
            board.post(str(number), priority=priority)
        assert [job.name for job in board.candidates(utcnow())[0]] == ["2", "5", "4", "1", "0", "3"]
        assert [job.name for job in board.iterjobs()] == ["2", "5", "4", "1", "0", "3"]

    def test_events(self, open_board: OpenBoard) -> None:
        board, watcher = open_board(), open_board("watcher")
        told: list[BoardEvent] = []
        end = watcher.subscribe(told.append)
        job = board.post("a")
        seen(watcher, job.uuid)
        board.claim(job, "c1")
        claimed(watcher, job.uuid)
        board.abandon(job, "c1", hold=30)
        eventually(lambda: entry_of(watcher, job.uuid).claim is None)
        watcher.delete(entry_of(watcher, job.uuid))
        eventually(lambda: told and told[-1].kind == "removed")
        kinds = [event.kind for event in told if event.kind != "changed"]
        assert kinds == ["posted", "claimed", "released", "removed"]
        assert {event.key for event in told} == {job.uuid}
        end()

    def test_taskflows_own_notifications(self, open_board: OpenBoard) -> None:
        board = open_board()
        told: list[tuple[str, str]] = []
        board.notifier.register("POSTED", lambda kind, details: told.append((kind, details["job"].name)))
        board.notifier.register("REMOVAL", lambda kind, details: told.append((kind, details["job"].name)))
        job = board.post("a")
        board.claim(job, "c")
        board.consume(job, "c")
        eventually(lambda: told == [("POSTED", "a"), ("REMOVAL", "a")])

    def test_a_posting_that_is_too_big(self, open_board: OpenBoard) -> None:
        board = open_board()
        with pytest.raises(Refused, match="1,100,107 bytes"):
            board.post("big", details={"x": "x" * 1_100_000})
        assert board.post("small").uuid in board.listing().jobs


class TestTwoAtOnce:
    def test_one_of_many_claims_wins(self, open_board: OpenBoard) -> None:
        boards = [open_board(f"b{number}") for number in range(4)]
        key = boards[0].post("a").uuid
        jobs = [only(board) for board in boards if seen(board, key)]
        start = threading.Barrier(len(boards))
        won: list[str] = []

        def run(board: ZookeeperJobBoard, job: BoardJob) -> None:
            start.wait(30)
            try:
                board.claim(job, board.name)
                won.append(board.name)
            except excp.UnclaimableJob:
                pass

        threads = [
            threading.Thread(target=run, args=pair, name=f"claimer-{number}")
            for number, pair in enumerate(zip(boards, jobs, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(won) == 1
        assert boards[0].find_owner(jobs[0]) == won[0]
        assert boards[0].attempts(jobs[0]).attempts == 1

    @pytest.mark.parametrize("successor", ["ours", "theirs"])
    def test_a_successors_claim_is_left_alone(
        self, open_board: OpenBoard, theirs: TaskFlowBoard, raw: KazooClient, successor: str
    ) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        held = board._claims.held(job)
        assert held is not None
        lock = board.path + "/" + job.entry.node + ".lock"
        raw.delete(lock)
        if successor == "ours":
            other = open_board("other")
            other.claim(only(other), "c1")
        else:
            theirs.claim(their_job(theirs, job.uuid), "c1")
        stat = raw.exists(lock)
        # As a conductor does that has not heard of it yet.
        for act in (
            lambda: board._acts.consume(held),
            lambda: board._acts.abandon(held, "abandoned", None, 0.0),
            lambda: board._acts.trash(held, "", "abandoned", None),
        ):
            with pytest.raises(excp.NotFound):
                act()
        assert raw.exists(lock) == stat
        assert raw.exists(board.path + "/" + job.entry.node) is not None
        eventually(lambda: not board.holds(job))
        with pytest.raises(excp.JobFailure):
            board.consume(job, "c2")
        with pytest.raises(excp.NotFound):
            board.consume(job, "c1")

    def test_a_record_written_meanwhile_does_not_stop_us(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        path = record_path(board, job.uuid)
        raw.set(path, raw.get(path)[0])
        board.abandon(job, "c1", error=CAUSE)
        assert board.attempts(job).failures == 1
        raw.set(path, b"not a record")
        eventually(lambda: entry_of(board, job.uuid).record_version == raw.exists(path).version)
        board.claim(job, "c1")
        assert board.attempts(job).attempts == 1
        raw.delete(path)
        board.consume(job, "c1")
        assert tree(raw, board.path) == {board.path: b""}

    def test_an_operators_touch_does_not_stop_us(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        lock = board.path + "/" + job.entry.node + ".lock"
        raw.set(lock, raw.get(lock)[0])
        raw.set(lock, raw.get(lock)[0])
        board.consume(job, "c1")
        assert raw.get_children(board.path) == []

    def test_a_crash_is_counted(self, open_board: OpenBoard) -> None:
        dying, other = open_board("dying"), open_board("other")
        job = dying.post("a")
        dying.claim(job, "c1")
        claimed(other, job.uuid)
        with pytest.raises(excp.UnclaimableJob):
            other.settle(job, Policy())
        claim = entry_of(dying, job.uuid).claim
        dying.close()
        eventually(lambda: entry_of(other, job.uuid).claim is None)
        record = other.settle(only(other), Policy())
        assert (record.attempts, record.failures) == (1, 1)
        assert record.history[0].outcome == "crashed"
        assert claim is not None
        assert record.history[0].claim == claim.id
        assert other.settle(only(other), Policy()) == record
        mine = only(other)
        other.claim(mine, "c2")
        other.abandon(mine, "c2", error=CAUSE)
        assert other.attempts(mine).failures == 2

    def test_a_crash_that_nobody_settled_is_counted_by_the_next_claim(self, open_board: OpenBoard) -> None:
        dying, other = open_board("dying"), open_board("other")
        job = dying.post("a")
        dying.claim(job, "c1")
        seen(other, job.uuid)
        dying.close()
        mine = free(other)
        other.claim(mine, "c2")
        record = other.attempts(mine)
        assert [attempt.outcome for attempt in record.history] == [None, "crashed"]
        assert (record.attempts, record.failures) == (2, 1)


class TestWithTaskFlow:
    def test_both_see_each_others_jobs_and_claims(self, open_board: OpenBoard, theirs: TaskFlowBoard) -> None:
        board = open_board()
        ours_posted = board.post("from ours", details={"store": {"x": 1}}, priority="HIGH")
        theirs_posted = theirs.post("from theirs", details={"store": {"y": 2}})
        foreign = their_job(theirs, ours_posted.uuid)
        assert foreign.name == "from ours"
        assert foreign.details == {"store": {"x": 1}}
        assert foreign.priority == ours_posted.priority
        entry = seen(board, theirs_posted.uuid)
        assert entry.details == {"store": {"y": 2}}
        assert board.make_job(entry).created_on == theirs_posted.created_on.replace(
            microsecond=entry.created_at.microsecond
        )

        theirs.claim(foreign, "their conductor")
        _, claim = claimed(board, ours_posted.uuid)
        assert (claim.owner, claim.version, claim.problem) == ("their conductor", 0, None)
        with pytest.raises(excp.UnclaimableJob):
            board.claim(ours_posted, "c1")
        board.claim(board.make_job(entry), "c1")
        with pytest.raises(excp.UnclaimableJob):
            theirs.claim(their_job(theirs, theirs_posted.uuid), "their conductor")

        theirs.abandon(foreign, "their conductor")
        eventually(lambda: entry_of(board, ours_posted.uuid).claim is None)
        theirs.claim(foreign, "their conductor")
        theirs.consume(foreign, "their conductor")
        eventually(lambda: ours_posted.uuid not in board.listing().jobs)

    @pytest.mark.parametrize("pause", [0.0, 2.0], ids=["at once", "in the quiet after a storm"])
    def test_the_record_of_a_job_that_taskflow_consumed_goes(
        self, open_board: OpenBoard, theirs: TaskFlowBoard, raw: KazooClient, pause: float
    ) -> None:
        """Sweeping lists the whole board, so it is not done at each event; no event is needed for it either."""
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE)
        assert raw.exists(record_path(board, job.uuid)) is not None
        foreign = their_job(theirs, job.uuid)
        theirs.claim(foreign, "them")
        board._sweep_after = time.monotonic() + pause
        theirs.consume(foreign, "them")
        eventually(lambda: raw.exists(record_path(board, job.uuid)) is None, what="the orphan to go")

    def test_what_taskflow_trashed_is_restored(self, open_board: OpenBoard, theirs: TaskFlowBoard) -> None:
        board = open_board()
        key = theirs.post("a").uuid
        foreign = their_job(theirs, key)
        theirs.claim(foreign, "them")
        theirs.trash(foreign, "them")
        binned = eventually(lambda: board.listing().binned.get(key))
        assert (binned.who, binned.why, binned.binned_at) == (None, None, None)
        assert board.restore(binned) == key
        assert entry_of(board, key).node == binned.node
        assert their_job(theirs, key).name == "a"

    def test_an_operator_ends_taskflows_claim(
        self, open_board: OpenBoard, theirs: TaskFlowBoard, raw: KazooClient
    ) -> None:
        board = open_board()
        key = theirs.post("a").uuid
        foreign = their_job(theirs, key)
        theirs.claim(foreign, "them")
        entry, _ = claimed(board, key)
        board.bin(entry, "op@host", "it cycles")
        assert board.listing().binned[key].why == "it cycles"
        assert raw.get_children(board.path) == []
        with pytest.raises(excp.NotFound):
            theirs.consume(foreign, "them")

    def test_the_path_quirk_is_theirs(self, zk_hosts: str) -> None:
        path = f"/jobs{uuid.uuid4().hex}/jobs"
        client = make_client(zk_hosts)
        theirs = TaskFlowBoard("theirs", {"path": path}, client=client)
        ours = ZookeeperJobBoard("ours", {"path": path}, client=client)
        assert (ours.trash_path, ours.entity_path) == (theirs.trash_path, theirs.entity_path)
        end_client(client)


class TestOperator:
    def test_bin_and_restore(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        node, key = job.entry.node, job.entry.key
        posting, _ = raw.get(board.path + "/" + node)
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE, hold=60)
        board.bin(entry_of(board, key), "op@host", "enough")
        assert not board.listing().jobs
        binned = board.listing().binned[key]
        assert (binned.who, binned.why, binned.node) == ("op@host", "enough", node)
        with pytest.raises(Gone):
            board.bin(job.entry, "op@host", "again")
        assert board.restore(binned) == key
        assert raw.get(board.path + "/" + node)[0] == posting
        assert raw.get_children(board.trash_path) == []
        entry = entry_of(board, key)
        assert entry.record is not None
        assert (entry.record.failures, entry.record.attempts, entry.record.hold_until) == (0, 1, None)
        assert only(board).uuid == key
        with pytest.raises((Changed, Gone)):
            board.restore(binned)

    def test_restore_above_the_counter(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        board.post("first")
        raw.create(board.trash_path + "/job0000009999", b'{"uuid": "u1", "name": "from afar"}')
        binned = eventually(lambda: board.listing().binned.get("u1"))
        assert board.restore(binned) == "u1"
        assert entry_of(board, "u1").node != "job0000009999"
        board.post("later")
        assert len(board.listing().jobs) == 3

    def test_two_boards_share_a_bin(self, open_board: OpenBoard, zk_path: str) -> None:
        sibling = zk_path.replace("/jobs", "/others")
        first, second = open_board(), open_board("second", path=sibling)
        assert first.trash_path == second.trash_path
        one, two = first.post("one"), second.post("two")
        assert one.entry.node == two.entry.node
        first.bin(one.entry, "op", "why")
        second.bin(two.entry, "op", "why")
        assert {entry.name for entry in second.listing().binned.values()} == {"one", "two"}
        assert second.restore(second.listing().binned[two.entry.key]) == two.entry.key
        assert entry_of(second, two.uuid).node == two.entry.node

    def test_delete(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE)
        board.delete(entry_of(board, job.uuid))
        assert raw.get_children(board.path) == []
        assert raw.exists(record_path(board, job.uuid)) is None
        with pytest.raises(Gone):
            board.delete(job.entry)

    def test_purge(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.bin(job.entry, "op", "why")
        binned = board.listing().binned[job.entry.key]
        board.delete(binned)
        assert not board.listing().binned
        assert raw.get_children(board.trash_path) == []
        assert raw.exists(record_path(board, job.uuid)) is None
        with pytest.raises(Gone):
            board.delete(binned)

    def test_what_is_claimed_now_was_not_seen_so(self, open_board: OpenBoard) -> None:
        board, other = open_board(), open_board("other")
        job = board.post("a")
        before = job.entry
        seen(other, job.uuid)
        other.claim(only(other), "c1")
        for act in (
            lambda: board.bin(before, "op", "why"),
            lambda: board.delete(before),
            lambda: board.retry(before),
        ):
            with pytest.raises(Changed, match="claimed"):
                act()
        before_last, _ = claimed(board, job.uuid)
        mine = other.make_job(entry_of(other, job.uuid))
        other.abandon(mine, "c1")
        other.claim(mine, "c1")
        for act in (lambda: board.bin(before_last, "op", "why"), lambda: board.delete(before_last)):
            with pytest.raises(Changed):
                act()
        other.abandon(mine, "c1")
        with pytest.raises(Changed):
            board.delete(before_last)
        assert eventually(lambda: len(board.candidates(utcnow())[0]) == 1)

    @pytest.mark.parametrize("act", ["bin", "delete"])
    def test_a_claim_of_ours_is_revoked(self, open_board: OpenBoard, act: str) -> None:
        worker, board = open_board("worker"), open_board()
        job = worker.post("a")
        worker.claim(job, "c1")
        entry, claim = claimed(board, job.uuid)
        if act == "bin":
            board.bin(entry, "op", "cycles")
            record = board.listing().binned[job.entry.key].record
            assert record is not None
            assert [attempt.outcome for attempt in record.history] == ["revoked"]
            assert record.history[0].claim == claim.id
            assert record.failures == 0
        else:
            board.delete(entry)
        eventually(lambda: not worker.holds(job), what="the worker to hear of it")
        for end in (worker.consume, worker.abandon):
            with pytest.raises(excp.NotFound):
                end(job, "c1")

    def test_retry(self, open_board: OpenBoard) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        with pytest.raises(Changed):
            board.retry(entry_of(board, job.uuid))
        board.abandon(job, "c1", error=CAUSE, hold=600)
        assert not board.candidates(utcnow())[0]
        board.retry(entry_of(board, job.uuid))
        assert only(board).uuid == job.uuid
        assert board.attempts(job).failures == 1

    def test_a_job_with_children_is_refused(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        raw.create(board.path + "/" + job.entry.node + "/child")
        with pytest.raises(Refused, match="children"):
            board.delete(job.entry)
        assert entry_of(board, job.uuid)


class TestForeignData:
    MALFORMED = (
        (b"", "empty"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"{", "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"{}", "no uuid"),
        (b'{"uuid": "u-a"}', "no name"),
        (b'{"uuid": 7, "name": "n"}', "uuid is not a string"),
        (b'{"uuid": "u-b", "name": "n", "priority": "URGENT"}', "priority URGENT"),
        (b'{"uuid": "u-c", "name": "n", "details": []}', "details"),
        (b'{"uuid": "u-d", "name": "n", "book": 1}', "book"),
    )

    @pytest.mark.parametrize(("posting", "problem"), MALFORMED)
    def test_malformed_postings_are_shown(
        self, open_board: OpenBoard, raw: KazooClient, posting: bytes, problem: str
    ) -> None:
        board = open_board()
        path = raw.create(board.path + "/job", posting, sequence=True)
        node = path.rpartition("/")[2]
        entry = eventually(lambda: next(iter(board.listing().jobs.values()), None))
        assert entry.node == node
        assert entry.problem is not None
        assert problem in entry.problem
        assert entry.size == len(posting)
        assert not board.candidates(utcnow())[0]
        board.bin(entry, "op", "malformed")
        binned = board.listing().binned[entry.key]
        assert binned.posting == posting
        key = board.restore(binned)
        board.delete(entry_of(board, key))
        assert raw.get_children(board.path) == []

    @pytest.mark.parametrize("bad", ["a/b", ".", "..", "job0000000003", "x" * 300, "tab\tbed", "\u202e", "é"])
    def test_uuids_that_are_no_path(self, open_board: OpenBoard, raw: KazooClient, bad: str) -> None:
        board = open_board()
        raw.create(board.path + "/job", json.dumps({"uuid": bad, "name": "n"}).encode(), sequence=True)
        job = free(board)
        assert job.uuid == bad
        assert job.entry.key == job.entry.node
        board.claim(job, "c1")
        assert raw.exists(record_path(board, job.entry.node)) is not None
        board.abandon(job, "c1", error=CAUSE)
        assert board.attempts(job).failures == 1
        board.bin(entry_of(board, job.entry.key), "op", "why")
        key = board.restore(board.listing().binned[job.entry.key])
        assert entry_of(board, key).uuid == bad

    def test_two_postings_with_one_uuid(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        for name in "ab":
            raw.create(board.path + "/job", json.dumps({"uuid": "u", "name": name}).encode(), sequence=True)
        eventually(lambda: len(board.listing().jobs) == 2)
        first, second = sorted(board.listing().jobs.values(), key=lambda entry: entry.node)
        assert (first.key, first.problem) == ("u", None)
        assert second.key == second.node
        assert second.problem is not None

    @pytest.mark.parametrize(
        ("lock", "ephemeral", "problem"),
        [
            (b"", True, "empty"),
            (b"nonsense", True, "not JSON"),
            (b"{}", True, "no owner"),
            (b'{"owner": "x"}', False, "persistent"),
        ],
    )
    def test_odd_locks_are_claims(
        self, open_board: OpenBoard, raw: KazooClient, lock: bytes, ephemeral: bool, problem: str
    ) -> None:
        board = open_board()
        job = board.post("a")
        raw.create(board.path + "/" + job.entry.node + ".lock", lock, ephemeral=ephemeral)
        _, claim = claimed(board, job.uuid)
        assert problem in (claim.problem or "")
        with pytest.raises(excp.UnclaimableJob):
            board.claim(job, "c1")
        board.delete(entry_of(board, job.uuid))
        assert raw.get_children(board.path) == []

    def test_other_children_are_ignored(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        raw.create(board.path + "/something", b"")
        raw.create(board.path + "/job0000000007.lock", b"")
        board.post("a")
        board.refresh()
        assert len(board.listing().jobs) == 1


class TestRights:
    def test_a_ledger_that_may_not_be_written(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        raw.set_acls(record_path(board, "x").rpartition("/")[0], READ_ONLY_ACL)
        job = board.post("a")
        board.claim(job, "c1")
        assert board.holds(job)
        assert "no rights" in (board.listing().uncounted or "")
        assert entry_of(board, job.uuid).record is None
        board.abandon(job, "c1", error=CAUSE)
        assert board.attempts(job).attempts == 0
        board.claim(job, "c1")
        board.consume(job, "c1")
        assert raw.get_children(board.path) == []

    def test_a_ledger_that_may_not_be_made(self, open_board: OpenBoard, raw: KazooClient, zk_path: str) -> None:
        raw.ensure_path(zk_path)
        root = zk_path.rpartition("/")[0]
        raw.ensure_path(root + "/.trash")
        raw.set_acls(root, READ_ONLY_ACL)
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        assert "no rights" in (board.listing().uncounted or "")
        board.bin(entry_of(board, job.uuid), "op", "why")
        assert job.uuid in board.listing().binned

    def test_a_posting_that_may_not_be_read(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        acl = [ACL(Permissions.DELETE, ANYONE_ID_UNSAFE)]
        node = raw.create(board.path + "/job", b"{}", acl=acl, sequence=True).rpartition("/")[2]
        entry = eventually(lambda: board.listing().jobs.get(node))
        assert not entry.access
        assert not entry.workable
        assert entry.size == 2
        with pytest.raises(Refused, match="no rights"):
            board.bin(entry, "op", "why")
        board.delete(entry)
        assert raw.get_children(board.path) == []

    def test_a_board_that_may_not_be_written(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        raw.set_acls(board.path, [ACL(Permissions.READ | Permissions.ADMIN, ANYONE_ID_UNSAFE)])
        with pytest.raises(Refused, match="no rights"):
            board.post("b")
        with pytest.raises(Refused, match="no rights"):
            board.claim(job, "c1")
        with pytest.raises(Refused, match="no rights"):
            board.delete(job.entry)
        raw.set_acls(board.path, OPEN_ACL_UNSAFE)
        board.claim(job, "c1")

    def test_the_bin_keeps_a_jobs_rights(self, open_board: OpenBoard, zookeeper: Zookeeper) -> None:
        board = open_board(conf={"auth_data": [("digest", "me:secret")]})
        with zookeeper.kazoo(auth_data=[("digest", "me:secret")]) as mine:
            mine.create(
                board.path + "/job",
                b'{"uuid": "u", "name": "private"}',
                acl=[ACL(Permissions.ALL, make_digest("me:secret"))],
                sequence=True,
            )
        board.bin(seen(board, "u"), "op", "why")
        stranger = open_board("stranger", ensure=False)
        assert all(entry.posting == b"" for entry in stranger.listing().binned.values())
        assert "secret" not in repr(board)


def make_digest(credential: str) -> Any:
    from kazoo.security import make_digest_acl

    user, _, password = credential.partition(":")
    return make_digest_acl(user, password, all=True).id


class TestEntities:
    def test_registered_while_the_session_lives(self, open_board: OpenBoard) -> None:
        board, watcher = open_board(), open_board("watcher")
        board.register_entity(entity.Entity("conductor", "c1@host:12", {"hostname": "host", "pid": 12}))
        shown = eventually(lambda: watcher.listing().entities.get("c1@host:12"))
        assert (shown.owner, shown.host, shown.pid) == ("c1", "host", 12)
        board.close()
        eventually(lambda: not watcher.listing().entities)

    def test_strange_entities(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        raw.ensure_path(board.entity_path + "/conductor")
        raw.create(board.entity_path + "/conductor/strange", b"[]")
        shown = eventually(lambda: board.listing().entities.get("strange"))
        assert (shown.owner, shown.pid, shown.session) == ("strange", None, None)


class TestBrokenConnections:
    def test_an_expired_session(self, open_board: OpenBoard, zk_hosts: str, raw: KazooClient) -> None:
        board, other = open_board(), open_board("other")
        board.register_entity(entity.Entity("conductor", "c1@host:12", {}))
        job = board.post("a")
        board.claim(job, "c1")
        states_seen: list[str] = []
        board.subscribe(lambda event: states_seen.append(event.kind))
        expire_session(board._client, zk_hosts)
        eventually(lambda: not board.holds(job), what="the claim to be known as lost")
        eventually(lambda: board.listing().connection.state == "live")
        with pytest.raises(excp.NotFound):
            board.consume(job, "c1")
        assert "connection" in states_seen
        assert job.uuid in board.listing().jobs
        eventually(lambda: other.listing().entities.get("c1@host:12"), what="the conductor to be registered again")
        again = free(board)
        record = board.settle(again, Policy())
        assert [attempt.outcome for attempt in record.history] == ["crashed"]
        board.claim(again, "c1")
        assert board.holds(again)
        assert not board.holds(job)
        with pytest.raises(excp.NotFound):
            board.consume(job, "c1")
        board.consume(again, "c1")
        assert raw.get_children(board.path) == []

    def test_a_board_that_is_deleted_and_made_again(self, open_board: OpenBoard, raw: KazooClient) -> None:
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        raw.delete(board.path, recursive=True)
        eventually(lambda: "gone" in board.listing().connection.detail)
        assert board.listing().connection.state == "live"
        assert not board.listing().jobs
        assert not board.holds(job)
        with pytest.raises(BoardUnreachable, match="no board"):
            board.post("b")
        raw.create(board.path)
        raw.create(board.path + "/job", b'{"uuid": "u", "name": "again"}', sequence=True)
        assert seen(board, "u").name == "again"
        assert board.listing().connection.detail == ""

    def test_a_server_that_restarts(self, open_board: OpenBoard) -> None:
        with running_zookeeper() as server:
            board = open_board(hosts=server.hosts, conf={"timeout": 40.0})
            job = board.post("a")
            held = board.post("b")
            board.claim(held, "c1")
            server.stop()
            eventually(lambda: board.listing().connection.state == "lost")
            listing = board.listing()
            assert set(listing.jobs) == {job.uuid, held.uuid}
            assert listing.taken_at == board.listing().taken_at
            assert not board.candidates(utcnow())[0]
            assert "\n" not in listing.connection.detail
            for act in (
                lambda: board.post("c"),
                lambda: board.claim(job, "c1"),
                lambda: board.delete(job.entry),
                lambda: board.abandon(held, "c1"),
                lambda: board.find_owner(held),
                lambda: board.attempts(job),
                board.refresh,
            ):
                with pytest.raises(BoardUnreachable):
                    act()
            with pytest.raises(excp.JobFailure):
                _ = job.state
            server.start()
            # A server that accepts while it starts may leave the client waiting for a whole session's time.
            eventually(lambda: board.listing().connection.state == "live", timeout=90)
            # The session outlived the server's absence, and so did the claim.
            assert board.holds(held)
            board.consume(held, "c1")
            assert only(board).uuid == job.uuid
            board.post("c")
            board.close()

    def test_a_claim_is_given_up_when_the_server_is_silent_for_a_sessions_time(self, open_board: OpenBoard) -> None:
        with running_zookeeper() as server:
            board = open_board(hosts=server.hosts, conf={"timeout": 2.0})
            job = board.post("a")
            board.claim(job, "c1")
            told: list[str] = []
            board.subscribe(lambda event: told.append(event.kind))
            server.stop()
            eventually(lambda: "released" in told)
            assert not board.holds(job)
            server.start()
            eventually(lambda: board.listing().connection.state == "live")
            again = free(board)
            board.claim(again, "c2")
            assert board.attempts(again).attempts == 2
            board.close()

    def test_a_claim_that_a_worker_was_told_is_lost_is_let_go(
        self, open_board: OpenBoard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker stopped for good, so the claim must not be found standing when the session lives on."""
        board = open_board()
        job = board.post("a")
        board.claim(job, "c1")
        ahead = 0.0
        monkeypatch.setattr(zk_claims, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))

        def told_lost() -> bool:
            # The worker asks when the silence has lasted for a session's time, before the board's thread looks again.
            nonlocal ahead
            ahead = 0.0
            board._claims.silence()
            ahead = 60.0
            return not board.holds(job)

        eventually(told_lost, what="the worker to be told")
        board.refresh()
        eventually(lambda: board.find_owner(job) is None, what="the claim to be let go")
        ahead = 0.0
        assert not board.holds(job)
        again = seen(board, job.uuid)
        eventually(lambda: entry_of(board, job.uuid).claim is None)
        board.claim(board.make_job(again), "c1")
        assert [attempt.outcome for attempt in board.attempts(job).history] == [None, "crashed"]

    def test_an_answer_that_is_lost(self, open_board: OpenBoard) -> None:
        with running_zookeeper() as server:
            board = open_board(hosts=server.hosts, conf={"timeout": 6.0})
            first, second = board.post("a"), board.post("b")
            board.claim(first, "c1")
            outcome: list[BaseException | None] = []

            def run(act: Callable[[], None]) -> None:
                try:
                    act()
                    outcome.append(None)
                except BaseException as error:
                    outcome.append(error)

            server.pause()
            threads = [
                threading.Thread(target=run, args=(lambda: board.consume(first, "c1"),)),
                threading.Thread(target=run, args=(lambda: board.claim(second, "c1"),)),
            ]
            for thread in threads:
                thread.start()
            eventually(lambda: board.listing().connection.state == "lost")
            server.resume()
            for thread in threads:
                thread.join(60)
            eventually(lambda: board.listing().connection.state == "live")
            # Whatever became of each request, nothing is left between: done and known, or not done and free.
            eventually(lambda: not board.candidates(utcnow())[0] or only(board).state == states.UNCLAIMED)
            assert len(outcome) == 2
            assert all(error is None or isinstance(error, excp.JobFailure | excp.NotFound) for error in outcome)
            if first.uuid not in board.listing().jobs:
                assert first.state == states.COMPLETE
            else:
                eventually(lambda: board.holds(first) or first.state == states.UNCLAIMED)
            eventually(lambda: board.holds(second) or second.state == states.UNCLAIMED, what="the doubtful claim to go")
            board.close()
