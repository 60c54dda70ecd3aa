"""The bin of a real ZooKeeper's board: TaskFlow's trash, what was binned by us, and what two boards share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard as TaskFlowBoard

from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import BinEntry, Changed, Gone, Refused
from conductor_console.jobboards.zk_requests import Requests
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.operations.acts import Operations
from conductor_console.operations.audit import FileAudit
from tests import zookeeper_boards
from tests.servers import expire_session
from tests.support import eventually
from tests.zookeeper_boards import OpenBoard, entry_of, free, in_bin, record_path, seen, their_job, tree

#: Fixtures.
raw, open_board, theirs = zookeeper_boards.raw, zookeeper_boards.open_board, zookeeper_boards.theirs

CAUSE = make_cause("StorageFailure", "the database is away", "shop/flows.py:41 in save")


@pytest.fixture
def two(open_board: OpenBoard, zk_path: str) -> tuple[ZookeeperJobBoard, ZookeeperJobBoard]:
    """Two boards whose bin is the same folder."""
    one, other = open_board("one"), open_board("other", path=zk_path.replace("/jobs", "/others"))
    assert one.trash_path == other.trash_path
    return one, other


def posting(name: str, uuid: str | None = None) -> bytes:
    return json.dumps({"name": name} | ({} if uuid is None else {"uuid": uuid})).encode()


def put(client: KazooClient, board: ZookeeperJobBoard, data: bytes) -> str:
    """Posts these very bytes. Returns the node's name, once the board shows it."""
    node: str = client.create(f"{board.path}/job", data, sequence=True).rpartition("/")[2]
    eventually(lambda: any(entry.node == node for entry in board.listing().jobs.values()), what=f"{node} to be listed")
    return node


def binned(board: ZookeeperJobBoard, name: str, where: Callable[[BinEntry], object] = lambda _: True) -> BinEntry:
    """What is called so in the bin, as soon as the board shows it as wanted."""

    def look() -> BinEntry | None:
        return next((e for e in board.listing().binned.values() if e.name == name and where(e)), None)

    return eventually(look, what=f"{name} in the bin")


def fail(board: ZookeeperJobBoard, key: str, times: int = 1) -> None:
    """Claims the job and lets it go, so that it has a record."""
    for _ in range(times):
        job = board.make_job(seen(board, key))
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE)


def operations(board: ZookeeperJobBoard, folder: Path) -> Operations:
    return Operations(board, operator="anna@ops", audit=FileAudit(folder / "audit.jsonl"))


def trash(theirs: TaskFlowBoard, key: str) -> None:
    """TaskFlow's own way to the bin."""
    job = their_job(theirs, key)
    theirs.claim(job, "them")
    theirs.trash(job, "them")


# -- TaskFlow's trash --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("record", [False, True], ids=["without our record", "with our record"])
def test_what_taskflow_moved_is_shown_restored_and_purged(
    open_board: OpenBoard, theirs: TaskFlowBoard, raw: KazooClient, record: bool
) -> None:
    board = open_board()
    job = theirs.post("a", details={"x": 1}, priority="HIGH")
    key = seen(board, job.uuid).key
    node = entry_of(board, key).node
    data = raw.get(f"{board.path}/{node}")[0]
    if record:
        fail(board, key, 3)
    trash(theirs, key)
    entry = in_bin(board, key)
    assert (entry.node, entry.posting, entry.name, entry.problem) == (node, data, "a", None)
    assert (entry.who, entry.why, entry.binned_at) == (None, None, None)
    assert (entry.record.failures if entry.record else None) == (3 if record else None)
    for turn in range(2):
        assert board.restore(in_bin(board, key)) == key
        assert entry_of(board, key).node == node, "its number is long past"
        assert raw.get(f"{board.path}/{node}")[0] == data
        if record:
            assert (board.attempts(job_of(board, key)).failures, board.attempts(job_of(board, key)).attempts) == (0, 3)
        assert raw.get_children(board.trash_path) == []
        if turn == 0:
            trash(theirs, key)
    board.bin(entry_of(board, key), "op", "why")
    board.delete(in_bin(board, key))
    assert raw.get_children(board.trash_path) == raw.get_children(board.path) == []
    assert raw.exists(record_path(board, key)) is None
    with pytest.raises(Gone):
        board.delete(entry)
    with pytest.raises(Gone):
        board.restore(entry)


def job_of(board: ZookeeperJobBoard, key: str) -> Any:
    return board.make_job(seen(board, key))


@pytest.mark.parametrize(
    ("name", "comes_back_as"),
    [
        ("job0000000000", "job0000000000"),
        ("job0000000001", "job0000000001"),
        ("job0000000000-17a", "job0000000000"),
        # Not before the sequence has gone through all that are above zero, and again as far below.
        ("job-2147483648", "job-2147483648"),
        *((name, "job0000000002") for name in ("job0000000002", "job0000000007", "job2147483647", "job-000000001")),
        *((name, "job0000000002") for name in ("job00000000001", "job0", "job", "job0000000000.old")),
    ],
)
def test_a_job_comes_back_at_its_number_only_where_that_is_past(
    open_board: OpenBoard, raw: KazooClient, name: str, comes_back_as: str
) -> None:
    board = open_board()
    board.delete(board.post("first").entry)
    # That job had number 0, and the lock under which it was deleted counts as the second: 2 is next.
    raw.create(f"{board.trash_path}/{name}", posting("a", "u"))
    board.restore(in_bin(board, "u"))
    assert entry_of(board, "u").node == comes_back_as
    assert [board.post(str(number)).name for number in range(8)] == [str(number) for number in range(8)]


def test_a_number_that_is_taken_again_is_not_fought_for(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    board.bin(job.entry, "op", "why")
    raw.create(f"{board.path}/{job.entry.node}", posting("squatter", "u-2"))
    key = board.restore(in_bin(board, job.uuid))
    assert (key, entry_of(board, key).name) == (job.uuid, "a")
    assert entry_of(board, key).node != job.entry.node
    assert seen(board, "u-2").node == job.entry.node


def test_other_peoples_nodes_in_the_bin_are_left_alone(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    fail(board, job.uuid)
    raw.create(f"{board.trash_path}/README", posting("not a job", job.uuid))
    raw.create(f"{board.trash_path}/job0000000009", b"\xff")
    board.bin(entry_of(board, job.uuid), "op", "why")
    assert {entry.name for entry in board.listing().binned.values()} == {"a", "job0000000009"}
    assert "not JSON" in (binned(board, "job0000000009").problem or "")
    other = board.post("b")
    fail(board, other.uuid)
    raw.delete(f"{board.path}/{other.entry.node}")
    # Such a node does not keep the orphan from being found.
    eventually(lambda: raw.exists(record_path(board, other.uuid)) is None)
    assert raw.exists(f"{board.trash_path}/README") is not None


# -- one bin for two boards --------------------------------------------------------------------------------------------
def test_the_same_name_in_one_bin(two: tuple[ZookeeperJobBoard, ZookeeperJobBoard], raw: KazooClient) -> None:
    """Each board shows both jobs, tells of its own what it knows, and acts on the right one."""
    one, other = two
    mine, yours = one.post("mine"), other.post("yours")
    assert mine.entry.node == yours.entry.node
    fail(one, mine.uuid)
    fail(other, yours.uuid, 2)
    one.bin(entry_of(one, mine.uuid), "op", "mine is bad")
    other.bin(entry_of(other, yours.uuid), "op", "yours is worse")
    assert binned(other, "mine").node == mine.entry.node
    assert binned(other, "yours").node.startswith(f"{mine.entry.node}-")
    for board, own, foreign in ((one, "mine", "yours"), (other, "yours", "mine")):
        ours = binned(board, own, lambda entry: entry.why)
        assert (ours.who, (ours.why or "").split()[0]) == ("op", own)
        assert ours.record is not None
        assert (binned(board, foreign).why, binned(board, foreign).record) == (None, None)
    with pytest.raises(Refused, match=f"was binned from the board at {one.path}: restore it there"):
        other.restore(binned(other, "mine"))
    assert other.restore(binned(other, "yours")) == yours.uuid
    assert (entry_of(other, yours.uuid).node, entry_of(other, yours.uuid).name) == (yours.entry.node, "yours")
    record = entry_of(other, yours.uuid).record
    assert record is not None
    assert (record.attempts, record.failures) == (2, 0)
    # Purged from the other board, the record goes as well, by the hand of the board that it belongs to.
    other.delete(binned(other, "mine"))
    eventually(lambda: raw.exists(record_path(one, mine.uuid)) is None, what="the orphan to go")
    assert raw.exists(record_path(other, yours.uuid)) is not None
    assert not one.listing().jobs
    assert set(other.listing().jobs) == {yours.uuid}


def test_malformed_jobs_of_two_boards_keep_their_own_records(
    two: tuple[ZookeeperJobBoard, ZookeeperJobBoard], raw: KazooClient, tmp_path: Path
) -> None:
    """Nothing but the node's name tells them apart, and that is the same."""
    one, other = two
    node = put(raw, one, posting("mine"))
    assert put(raw, other, posting("yours")) == node
    hands = operations(one, tmp_path), operations(other, tmp_path)
    assert [result.result for result in hands[0].bin([entry_of(one, node)], "mine is bad")] == ["done"]
    # The other's is on its board yet, under the name that is in the bin now.
    shown = binned(other, "mine")
    assert (shown.key, shown.why, shown.record) == (node, None, None)
    assert [result.result for result in hands[1].bin([entry_of(other, node)], "yours is worse")] == ["done"]
    mine, yours = binned(one, "mine"), binned(other, "yours")
    assert (mine.node, mine.key, mine.why) == (node, node, "mine is bad")
    assert yours.node.startswith(f"{node}-")
    assert (yours.key, yours.why) == (yours.node, "yours is worse")
    assert (binned(one, "yours").why, binned(other, "mine").why) == (None, None)
    for board, foreign in ((one, yours), (other, mine)):
        with pytest.raises(Refused, match="restore it there"):
            board.restore(board.listing().binned[foreign.key])
    # Undone, each comes back where it was.
    for hand, board, name in ((hands[1], other, "yours"), (hands[0], one, "mine")):
        assert hand.can_undo == "move of 1 job to the bin"
        results = hand.undo()
        assert [(result.key, result.result) for result in results] == [(node, "done")]
        assert (entry_of(board, node).name, entry_of(board, node).node) == (name, node)
    assert raw.get_children(one.trash_path) == []
    assert len(raw.get_children(one.path)) == len(raw.get_children(other.path)) == 1


def test_a_board_does_not_purge_its_own_record_with_anothers_job(
    two: tuple[ZookeeperJobBoard, ZookeeperJobBoard], raw: KazooClient
) -> None:
    one, other = two
    bad = json.dumps({"uuid": "not/a/key", "name": "mine"}).encode()
    node = put(raw, one, bad)
    assert put(raw, other, bad.replace(b"mine", b"yours")) == node
    for board in two:
        fail(board, node)
    one.bin(entry_of(one, node), "op", "why")
    other.delete(binned(other, "mine"))
    assert entry_of(other, node).record is not None
    assert raw.exists(record_path(other, node)) is not None
    assert other.attempts(job_of(other, node)).attempts == 1
    eventually(lambda: raw.exists(record_path(one, node)) is None, what="the orphan to go")


def test_what_is_on_the_board_under_the_same_name_does_not_keep_another_from_coming_back(
    open_board: OpenBoard, raw: KazooClient
) -> None:
    board = open_board()
    node = put(raw, board, posting("first", "not/a/key"))
    fail(board, node)
    raw.create(f"{board.trash_path}/{node}", posting("second"))
    shown = binned(board, "second")
    assert (shown.key, shown.record) == (node, None)
    board.restore(shown)
    assert {entry.name for entry in board.listing().jobs.values()} == {"first", "second"}
    record = entry_of(board, node).record
    assert record is not None, "it is the first one's"
    assert raw.exists(record_path(board, node)) is not None


def test_a_name_that_is_taken_in_the_last_moment(
    two: tuple[ZookeeperJobBoard, ZookeeperJobBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look, find the name free, and move: the second takes another name."""
    one, other = two
    jobs = [one.post("mine"), other.post("yours")]
    look = Requests.bin_name
    both = threading.Barrier(2)

    def slow(self: Requests, entry: Any) -> str:
        name = look(self, entry)
        if name == entry.node:
            both.wait(30)
        return name

    monkeypatch.setattr(Requests, "bin_name", slow)
    errors: list[BaseException] = []

    def move(board: ZookeeperJobBoard, entry: Any) -> None:
        try:
            board.bin(entry, "op", "why")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=move, args=(board, job.entry)) for board, job in zip(two, jobs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert {entry.name for entry in one.listing().binned.values()} == {"mine", "yours"}


def test_a_name_in_the_bin_that_is_another_job_by_now(open_board: OpenBoard, raw: KazooClient, zk_hosts: str) -> None:
    """What was seen there is gone, and something else lies under its name: that is neither restored nor purged."""
    board, late = open_board(), open_board("late")
    path = f"{board.trash_path}/job0000000000"
    raw.create(path, posting("seen", "u-1"))
    entries = [in_bin(who, "u-1") for who in (board, late)]
    swap = raw.transaction()
    swap.delete(path)
    swap.create(path, posting("new", "u-2"))
    assert len(swap.commit()) == 2
    for act in (board.restore, board.delete):
        with pytest.raises((Changed, Gone)):
            act(entries[0])
    assert in_bin(board, "u-2").name == "new"
    assert "u-1" not in board.listing().binned
    # A session that ended may have missed anything.
    expire_session(late._client, zk_hosts)
    assert in_bin(late, "u-2").posting == posting("new", "u-2")
    late.restore(in_bin(late, "u-2"))
    assert entry_of(late, "u-2").name == "new"


# -- one uuid, two jobs ------------------------------------------------------------------------------------------------
def test_of_two_with_one_uuid_each_keeps_its_own_record_in_the_bin(
    open_board: OpenBoard, raw: KazooClient, tmp_path: Path
) -> None:
    board, watcher = open_board(), open_board("watcher")
    first, second = put(raw, board, posting("a", "u")), put(raw, board, posting("b", "u"))
    fail(board, "u", 2)
    hand = operations(board, tmp_path)
    assert hand.bin([entry_of(board, second)], "the second")[0].result == "done"
    for who in (board, watcher):
        shown = binned(who, "b", lambda entry: entry.why)
        assert (shown.key, shown.node, shown.why) == (second, second, "the second")
        assert shown.record is not None
        assert shown.record.attempts == 0
    assert entry_of(board, "u").node == first
    assert hand.bin([entry_of(board, "u")], "the first")[0].result == "done"
    for who in (board, watcher):
        shown = binned(who, "a", lambda entry: entry.why)
        assert (shown.key, shown.why) == ("u", "the first")
        assert shown.record is not None
        assert shown.record.attempts == 2
    assert [result.result for result in (*hand.undo(), *hand.undo())] == ["done", "done"]
    assert entry_of(board, "u").name == "a"
    assert entry_of(board, second).problem == f"{first} has the same uuid"
    assert raw.get_children(board.trash_path) == []
    job = free(board)
    board.claim(job, "c1")
    board.consume(job, "c1")
    again = free(board)
    assert (again.uuid, again.name, again.entry.key) == ("u", "b", "u")


def test_undo_finds_what_changed_its_name(open_board: OpenBoard, raw: KazooClient, tmp_path: Path) -> None:
    """Of three that are moved at once, the malformed one's name is taken in the bin."""
    board = open_board()
    bad = put(raw, board, b"not JSON")
    raw.create(f"{board.trash_path}/{bad}", posting("there before"))
    keys = [bad, *(board.post(name).uuid for name in "ab")]
    hand = operations(board, tmp_path)
    before = tree(raw, board.path)
    assert {result.result for result in hand.bin([entry_of(board, key) for key in keys])} == {"done"}
    assert len(board.listing().binned) == 4
    assert not board.listing().jobs
    results = hand.undo()
    assert [result.result for result in results] == ["done"] * 3
    assert tree(raw, board.path) == before
    assert [entry.name for entry in board.listing().binned.values()] == ["there before"]
