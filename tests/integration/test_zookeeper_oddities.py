"""Whatever may lie on a real ZooKeeper's board: each shown as what it is, and none stops a conductor or the screen."""

from __future__ import annotations

import json
import shutil
import struct
import uuid
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, Permissions, make_digest_acl
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard as TaskFlowBoard
from taskflow.types import entity

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import Policy, make_cause
from conductor_console.jobboards.base import JobEntry, Refused
from conductor_console.jobboards.zk_client import LARGEST_POSTING
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.observatory.build import build_snapshot
from conductor_console.observatory.snapshot import JobView, Snapshot
from tests import zookeeper_boards
from tests.integration.conducting import rig, taskflows_board
from tests.servers import Zookeeper, end_client, make_client, running_zookeeper
from tests.support import eventually
from tests.zookeeper_boards import OpenBoard, claimed, entry_of, free, in_bin, record_path, seen, their_job, tree

#: Fixtures.
raw, open_board, theirs = zookeeper_boards.raw, zookeeper_boards.open_board, zookeeper_boards.theirs

CAUSE = make_cause("StorageFailure", "the database is away", "shop/flows.py:41 in save")
#: Tried again almost at once, and binned soon.
QUICK = Policy(max_attempts=3, base=0.01, cap=0.05, jitter=0.0)
#: For one who knows the secret, and for nobody else.
PRIVATE = [make_digest_acl("me", "secret", all=True)]
SECRET = ("digest", "me:secret")
NOBODY_READS = [ACL(Permissions.ALL & ~Permissions.READ, ANYONE_ID_UNSAFE)]


def posting(**fields: Any) -> bytes:
    return json.dumps({"uuid": "u-1", "name": "n"} | fields).encode()


def put(client: KazooClient, board: ZookeeperJobBoard, data: bytes, **options: Any) -> str:
    """Posts these very bytes. Returns the node's name."""
    path: str = client.create(board.path + "/job", data, sequence=True, **options)
    return path.rpartition("/")[2]


def shown(board: ZookeeperJobBoard, node: str) -> JobEntry:
    """What the board shows at this node, as soon as it does."""

    def look() -> JobEntry | None:
        return next((entry for entry in board.listing().jobs.values() if entry.node == node), None)

    return eventually(look, what=f"{node} to be listed")


def screen(board: ZookeeperJobBoard) -> Snapshot:
    return build_snapshot(board.listing(), now=utcnow())


def view(board: ZookeeperJobBoard, key: str) -> JobView:
    return screen(board).by_key[key]


# -- postings ----------------------------------------------------------------------------------------------------------
#: What was posted, and what is wrong with it.
MALFORMED = {
    "empty": (b"", "empty"),
    "no JSON": (b"{", "not JSON"),
    "two values": (b"{} {}", "not JSON"),
    "no UTF-8": (b'{"uuid": "u", "name": "\xff"}', "not JSON"),
    "UTF-16": (posting().decode().encode("utf-16"), "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf" + posting(), "not JSON"),
    "nested beyond the parser": (b"[" * 100_000, "not JSON"),
    "nested beyond reason": (posting(details={"a": json.loads("[" * 400 + "]" * 400)}), "nested more than 100 deep"),
    "a number beyond the parser": (b'{"uuid": "u", "name": "n", "details": {"x": ' + b"9" * 5000 + b"}}", "not JSON"),
    "null": (b"null", "not a JSON object but NoneType"),
    "a list": (b"[1]", "not a JSON object but list"),
    "a number": (b"NaN", "not a JSON object but float"),
    "nothing in it": (b"{}", "no uuid; no name"),
    "no uuid": (b'{"name": "n"}', "no uuid"),
    "no name": (b'{"uuid": "u"}', "no name"),
    "an empty uuid": (posting(uuid=""), "no uuid"),
    "an empty name": (posting(name=""), "no name"),
    "a uuid of another kind": (posting(uuid=["u"]), "uuid is not a string"),
    "a name of another kind": (posting(name={"n": 1}), "name is not a string"),
    "an unknown priority": (posting(priority="URGENT"), "unknown priority URGENT"),
    "no priority in it": (posting(priority=None), "unknown priority None"),
    "a priority of another kind": (posting(priority=[{}]), "unknown priority"),
    "details of another kind": (posting(details="x"), "details is not an object but str"),
    "a book of another kind": (posting(book=["x"]), "book is not an object but list"),
}
#: What can be made sense of, odd as it is.
ODD = {
    "any case": posting(priority="vErY_HiGh"),
    "no details": posting(details=None, book=None),
    "twice the same key": b'{"uuid": "u-0", "uuid": "u-1", "name": "n"}',
    "no number": posting(details={"x": float("nan"), "y": float("-inf")}),
    "a huge number": posting(details={"x": 10**4000}),
    "other keys": posting(more=[1]),
    "escapes": posting(name="\x1b[2J\n\u202e\ud800[/b]", details={"\x00": "\x9b"}),
    "a long name": posting(name="n" * 100_000),
    "a book without anything": posting(book={}),
    "a book of odd parts": posting(book={"uuid": 1, "name": []}),
    "a flow of another kind": posting(details={"flow_uuid": ["x"], "store": 7}),
    "a flow that is no uuid": posting(details={"flow_uuid": "\ud800\x00'; --"}, book={"uuid": "\ud800", "name": "b"}),
}
UUIDS = [
    "a/b",
    ".",
    "..",
    "job0000000003",
    "jobs",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "\u202e",
    "é",
    "x" * 300,
    "x" * 50_000,
    " ",
]


@pytest.mark.parametrize(("data", "problem"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_shown_moved_and_deleted(
    open_board: OpenBoard, raw: KazooClient, data: bytes, problem: str
) -> None:
    board = open_board()
    node = put(raw, board, data)
    entry = shown(board, node)
    assert problem in (entry.problem or "")
    assert entry.problem is not None
    assert entry.problem.isprintable()
    assert (entry.size, entry.claim) == (len(data), None)
    assert not board.candidates(utcnow())[0]
    assert not list(board.iterjobs(ensure_fresh=True))
    assert view(board, entry.key).state == "malformed"
    assert board.bin(entry, "op", "malformed") == entry.key
    binned = board.listing().binned[entry.key]
    assert (binned.posting, binned.why) == (data, "malformed")
    assert screen(board).binned == (binned,)
    board.restore(binned)
    board.delete(shown(board, node))
    assert raw.get_children(board.path) == raw.get_children(board.trash_path) == []


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_odd_is_handed_out(open_board: OpenBoard, raw: KazooClient, data: bytes) -> None:
    board = open_board()
    put(raw, board, data)
    job = free(board)
    assert (job.uuid, job.entry.problem) == ("u-1", None)
    assert view(board, "u-1").name.isprintable()
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    assert view(board, "u-1").failures == 1
    board.bin(entry_of(board, "u-1"), "op", "odd")
    assert screen(board).binned[0].posting == data
    board.restore(in_bin(board, "u-1"))
    again = free(board)
    board.claim(again, "c1")
    board.consume(again, "c1")
    assert not board.listing().jobs


@pytest.mark.parametrize("uuid_", UUIDS, ids=range(len(UUIDS)))
def test_a_uuid_that_names_no_record_is_worked_by_its_nodes_name(
    open_board: OpenBoard, raw: KazooClient, uuid_: str
) -> None:
    board = open_board()
    node = put(raw, board, posting(uuid=uuid_))
    job = free(board)
    assert (job.uuid, job.entry.key) == (uuid_, node)
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    assert raw.exists(record_path(board, node)) is not None
    board.claim(job, "c1")
    with pytest.raises(excp.JobFailure) as told:
        board.abandon(job, "c2")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 300
    board.trash(job, "c1", error=CAUSE)
    assert in_bin(board, node).record is not None
    assert screen(board).binned


@pytest.mark.parametrize("kind", ["blocking", "nonblocking"])
def test_nothing_of_it_stops_a_conductor(zookeeper: Zookeeper, zk_path: str, tmp_path: Path, kind: str) -> None:
    """Each between jobs that are well: those are all done, and what can be claimed is counted and binned."""
    with (
        rig({"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}, tmp_path) as made,
        zookeeper.kazoo() as client,
    ):
        well = [made.post("fine", made.effects)[0]]
        malformed = [put(client, made.board, data) for data, _ in MALFORMED.values()]
        odd = [
            put(client, made.board, json.dumps(json.loads(data) | {"uuid": f"odd-{n}"}).encode())
            for n, data in enumerate(ODD.values())
        ]
        odd += [put(client, made.board, posting(uuid=text)) for text in UUIDS]
        well.append(made.post("fine", made.effects)[0])
        running = made.start(kind=kind, policy=QUICK)

        def done() -> bool:
            listing = made.board.listing()
            left = {entry.node for entry in listing.jobs.values()}
            return left == set(malformed) and {entry.node for entry in listing.binned.values()} == set(odd)

        eventually(done, timeout=120, what="all to be done, and what no engine can be made of to be in the bin")
        assert all(job.state == states.COMPLETE for job in well)
        assert all(entry.why for entry in made.board.listing().binned.values())
        last = made.post("fine", made.effects)[0]
        made.gone(last)
        assert running.error is None
        assert sorted(made.done()) == sorted(["one", "two"] * 3)
        assert len(screen(made.board).jobs) == len(malformed)


def test_of_two_with_one_uuid_the_second_waits_for_the_first_to_go(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    first, second, third = (put(raw, board, posting(name=name)) for name in ("a", "b", "c"))
    eventually(lambda: len(board.listing().jobs) == 3)
    assert shown(board, first).problem is None
    assert shown(board, second).problem == f"{first} has the same uuid"
    assert [entry.key for entry in (shown(board, node) for node in (first, second, third))] == ["u-1", second, third]
    job = free(board)
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    board.claim(job, "c1")
    board.consume(job, "c1")
    again = free(board)
    assert (again.name, again.entry.key, again.entry.record) == ("b", "u-1", None)
    assert shown(board, third).problem == f"{second} has the same uuid"
    raw.delete(f"{board.path}/{second}")
    assert eventually(lambda: shown(board, third).problem is None)


# -- locks -------------------------------------------------------------------------------------------------------------
LOCKS = {
    "empty": (b"", "empty"),
    "no JSON": (b"\xff", "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "null": (b"null", "no owner"),
    "a list": (b'["owner"]', "no owner"),
    "no owner": (b"{}", "no owner"),
    "an empty owner": (b'{"owner": ""}', "no owner"),
    "an owner of another kind": (b'{"owner": {"x": 1}}', "no owner"),
    "more keys": (b'{"owner": "them", "since": [1]}', ""),
    "escapes": (b'{"owner": "\\u001b[2J\\ud800\\n"}', ""),
    "a long owner": (json.dumps({"owner": "o" * 100_000}).encode(), ""),
}


@pytest.mark.parametrize("ephemeral", [True, False], ids=["ephemeral", "persistent"])
@pytest.mark.parametrize(("lock", "problem"), LOCKS.values(), ids=LOCKS)
def test_any_lock_is_a_claim(
    open_board: OpenBoard, raw: KazooClient, lock: bytes, problem: str, ephemeral: bool
) -> None:
    board = open_board()
    job, other = board.post("a"), board.post("b")
    path = f"{board.path}/{job.entry.node}.lock"
    raw.create(path, lock, ephemeral=ephemeral)
    entry, claim = claimed(board, job.uuid)
    assert problem in (claim.problem or "")
    assert (claim.session is None, "persistent" in (claim.problem or "")) == (not ephemeral,) * 2
    row = view(board, job.uuid)
    assert (row.state, (row.owner or "").isprintable()) == ("claimed", True)
    assert [free.name for free in board.candidates(utcnow())[0]] == ["b"]
    assert job.state == (states.UNCLAIMED if "owner" in problem or problem in ("empty", "not JSON") else states.CLAIMED)
    board.find_owner(job)
    for act in (lambda: board.claim(job, "c1"), lambda: board.settle(job, QUICK)):
        with pytest.raises(excp.UnclaimableJob):
            act()
    with pytest.raises((excp.JobFailure, excp.NotFound)) as told:
        board.consume(job, "c1")
    assert "\n" not in str(told.value)
    board.bin(entry, "op", "nobody's")
    assert raw.exists(path) is None
    board.claim(other, "c1")
    board.consume(other, "c1")
    assert raw.get_children(board.path) == []


def test_locks_without_a_job_and_other_peoples_nodes_are_left_alone(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    others = {
        "something": b"{}",
        "lock": b"",
        "Job0000000009": posting(),
        "job0000000040.lock": b"{",
        "joblot": posting(uuid="u-2", name="by hand"),
        "job .lock.lock": b"",
    }
    for name, data in others.items():
        raw.create(f"{board.path}/{name}", data)
    entry = seen(board, "u-2")
    assert (entry.node, entry.problem) == ("joblot", None)
    board.refresh()
    assert set(board.listing().jobs) == {job.uuid, "u-2"}
    board.claim(job, "c1")
    board.consume(job, "c1")
    by_hand = board.make_job(entry)
    board.claim(by_hand, "c1")
    board.consume(by_hand, "c1")
    assert set(raw.get_children(board.path)) == set(others) - {"joblot"}

    # A job that is posted where a lock lies already is claimed by it.
    def under_the_lock() -> JobEntry | None:
        if all(entry.node != "job0000000040" for entry in board.listing().jobs.values()):
            raw.create(f"{board.path}/job", posting(uuid=str(uuid.uuid4())), sequence=True)
        return next((entry for entry in board.listing().jobs.values() if entry.claim is not None), None)

    entry = eventually(under_the_lock)
    assert entry.claim is not None
    assert "persistent" in (entry.claim.problem or "")


# -- rights ------------------------------------------------------------------------------------------------------------
def test_a_posting_that_may_not_be_read(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    node = put(raw, board, posting(), acl=PRIVATE)
    others = [board.post(str(number)).uuid for number in range(40)]
    entry = shown(board, node)
    assert (entry.key, entry.access, entry.workable, entry.size) == (node, False, False, len(posting()))
    assert view(board, node).state == "no-access"
    late = open_board("late", ensure=False)
    assert set(late.listing().jobs) == {node, *others}
    assert not late.listing().jobs[node].access
    with pytest.raises(Refused, match="no rights"):
        board.bin(entry, "op", "why")
    assert raw.get_children(board.path)
    board.delete(entry)
    assert node not in raw.get_children(board.path)


def test_a_lock_that_may_not_be_read(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    raw.create(f"{board.path}/{job.entry.node}.lock", b'{"owner": "them"}', acl=PRIVATE, ephemeral=True)
    entry, claim = claimed(board, job.uuid)
    assert claim.problem == "the lock may not be read"
    assert view(board, job.uuid).problem == "the lock may not be read"
    assert (job.state, board.find_owner(job)) == (states.CLAIMED, None)
    assert not job.wait(timeout=0.1)
    with pytest.raises(excp.UnclaimableJob):
        board.claim(job, "c1")
    for act in (lambda: board.bin(entry, "op", "why"), lambda: board.delete(entry)):
        with pytest.raises(Refused, match="no rights to touch the claim"):
            act()
    assert set(raw.get_children(board.path)) == {job.entry.node, f"{job.entry.node}.lock"}


@pytest.mark.parametrize("rights", [PRIVATE, [ACL(Permissions.READ, ANYONE_ID_UNSAFE)]], ids=["none", "to read"])
def test_a_record_that_may_not_be_touched_spoils_no_others(
    open_board: OpenBoard, raw: KazooClient, rights: Any
) -> None:
    board = open_board()
    job, other = board.post("a"), board.post("b")
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    raw.set_acls(record_path(board, job.uuid), rights)
    for who in (board, open_board("late", ensure=False)):
        mine = who.make_job(seen(who, job.uuid))
        who.claim(mine, "c1")
        assert who.holds(mine)
        assert who.listing().uncounted == "no rights to the attempts of 1 job"
        who.abandon(mine, "c1", error=CAUSE)
    assert screen(board).uncounted
    board.claim(other, "c1")
    board.abandon(other, "c1", error=CAUSE)
    assert board.attempts(other).attempts == 1
    board.claim(job, "c1")
    board.consume(job, "c1")
    assert job.uuid not in board.listing().jobs


def test_a_conductor_does_not_go_round_with_a_job_that_it_cannot_count(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    with (
        rig({"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}, tmp_path) as made,
        zookeeper.kazoo() as client,
    ):
        job, _ = made.post("execution_failure", made.effects)
        client.create(record_path(made.board, job.uuid), b"{}", acl=PRIVATE)
        eventually(lambda: made.board.listing().uncounted)
        running = made.start(policy=QUICK)
        made.in_bin(job)
        assert len(running.closed()) == QUICK.max_attempts
        well, _ = made.post("fine", made.effects)
        made.gone(well)


def test_what_lies_in_the_bin_and_may_not_be_read(
    open_board: OpenBoard, raw: KazooClient, zookeeper: Zookeeper
) -> None:
    board = open_board()
    board.bin(board.post("a").entry, "op", "why")
    path = f"{board.trash_path}/job0000000007"
    raw.create(path, posting(), acl=PRIVATE)
    entry = in_bin(board, "job0000000007")
    assert (entry.posting, entry.problem) == (b"", "the posting may not be read")
    assert len(screen(board).binned) == 2
    with pytest.raises(Refused, match="no rights to read"):
        board.restore(entry)
    assert raw.exists(path) is not None
    assert raw.get_children(board.path) == []
    board.delete(entry)
    assert raw.exists(path) is None
    # Whoever may read it restores it whole, with its rights.
    raw.create(path, posting(), acl=PRIVATE)
    owner = open_board("owner", conf={"auth_data": [SECRET]})
    owner.restore(in_bin(owner, "u-1"))
    eventually(lambda: any(not entry.access for entry in board.listing().jobs.values()))
    assert entry_of(owner, "u-1").access


def test_a_conductors_entry_that_may_not_be_read_is_alive_all_the_same(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    board.register_entity(entity.Entity("conductor", "c0@host:1", {}))
    path = f"{board.entity_path}/conductor/c1@there:12"
    raw.create(path, b"{}", acl=PRIVATE, ephemeral=True)
    told = eventually(lambda: board.listing().entities.get("c1@there:12"))
    assert (told.owner, told.host, told.pid) == ("c1", "there", 12)
    assert told.session is not None
    assert {conductor.name for conductor in screen(board).conductors} == {"c0", "c1"}


@pytest.mark.parametrize("folder", ["board", "bin", "conductors"])
def test_a_folder_that_may_not_be_listed_is_told_and_asked_again(
    open_board: OpenBoard, raw: KazooClient, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conductor_console.jobboards.zk_mirror._DENIED_SECONDS", 0.2)
    board = open_board()
    board.register_entity(entity.Entity("conductor", "c0@host:1", {}))
    board.bin(board.post("binned").entry, "op", "why")
    job = board.post("a")
    path = {"board": board.path, "bin": board.trash_path, "conductors": f"{board.entity_path}/conductor"}[folder]
    raw.set_acls(path, NOBODY_READS)
    late = open_board("late", ensure=False)
    listing = late.listing()
    assert (listing.complete, listing.connection.state) == (True, "live")
    assert f"at {path}" in listing.connection.detail
    assert "no rights to list" in listing.connection.detail
    assert screen(late).connection.detail
    assert bool(listing.jobs) == (folder != "board")
    assert bool(listing.binned) == (folder != "bin")
    assert bool(listing.entities) == (folder != "conductors")
    if folder != "board":
        mine = free(late)
        late.claim(mine, "c1")
        late.abandon(mine, "c1")
    raw.set_acls(path, OPEN_ACL_UNSAFE)
    eventually(lambda: not late.listing().connection.detail, what="the folder to be asked for again")
    assert (bool(late.listing().jobs), bool(late.listing().binned), bool(late.listing().entities)) == (True,) * 3
    assert seen(late, job.uuid).name == "a"


def test_a_ledger_that_may_not_be_read(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    raw.set_acls(record_path(board, "x").rpartition("/")[0], PRIVATE)
    late = open_board("late", ensure=False)
    assert "no rights" in (late.listing().uncounted or "")
    mine = free(late)
    late.claim(mine, "c1")
    late.abandon(mine, "c1", error=CAUSE)
    late.claim(mine, "c1")
    late.consume(mine, "c1")
    assert not late.listing().jobs


# -- nodes with children -----------------------------------------------------------------------------------------------
def test_a_job_with_a_child_cannot_go_and_nothing_is_done_by_half(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    job = board.post("a")
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    raw.create(f"{board.path}/{job.entry.node}/child", b"x")
    before = tree(raw, board.path) | tree(raw, board.trash_path) | tree(raw, record_path(board, job.uuid))
    entry = entry_of(board, job.uuid)
    for act in (lambda: board.bin(entry, "op", "why"), lambda: board.delete(entry)):
        with pytest.raises(Refused, match="its node has children") as told:
            act()
        assert "\n" not in str(told.value)
    assert tree(raw, board.path) | tree(raw, board.trash_path) | tree(raw, record_path(board, job.uuid)) == before
    board.claim(job, "c1")
    for end in (lambda: board.consume(job, "c1"), lambda: board.trash(job, "c1", why="why")):
        with pytest.raises(Refused, match="its node has children"):
            end()
        assert board.holds(job)
    board.abandon(job, "c1")
    raw.delete(f"{board.path}/{job.entry.node}/child")
    board.delete(entry_of(board, job.uuid))
    assert raw.get_children(board.path) == []


@pytest.mark.parametrize(
    ("factory", "attempts"),
    # What is due for the bin at once is tried once, and then held.
    [("fine", QUICK.max_attempts), ("execution_failure", QUICK.max_attempts), ("no.such.factory", 1)],
)
def test_a_conductor_does_not_go_round_with_a_job_that_cannot_go(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path, factory: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conductor_console.conductors.closing.PATIENCE", 0.05)
    with (
        rig({"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path}, tmp_path) as made,
        zookeeper.kazoo() as client,
    ):
        job, _ = made.post(factory, *([] if "." in factory else [made.effects]))
        client.create(f"{made.board.path}/{job.entry.node}/child", b"x")
        running = made.start(policy=QUICK)
        record = made.released(job, attempts)
        assert record.hold_until is not None
        assert {attempt.outcome for attempt in record.history} == {"abandoned"}
        assert {told["outcome"] for told in running.closed()} == {"abandoned"}
        assert "job_consumed" not in running.events()
        well, _ = made.post("fine", made.effects, name="well")
        made.gone(well)
        # It is looked at again and again, and left alone.
        made.board.refresh()
        assert made.board.listing().jobs[job.uuid].record.attempts == attempts
        assert running.error is None


# -- sizes -------------------------------------------------------------------------------------------------------------
def test_a_posting_of_the_greatest_size(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    with pytest.raises(Refused, match=f"{LARGEST_POSTING:,} at most"):
        board.post("big", details={"x": "x" * LARGEST_POSTING})
    room = LARGEST_POSTING - len(board_posting(board))
    job = board.post("big", details={"x": "x" * room})
    assert job.entry.size == LARGEST_POSTING
    late = open_board("late", ensure=False)
    assert view(late, job.uuid).state == "waiting"
    mine = late.make_job(late.listing().jobs[job.uuid])
    for _ in range(25):
        late.claim(mine, "c1")
        late.abandon(mine, "c1", error=make_cause("É" * 200, "é" * 1000, "é" * 300))
    assert late.attempts(mine).failures == 25
    late.claim(mine, "c1")
    late.trash(mine, "c1", why="é" * 1000, error=CAUSE)
    binned = in_bin(late, job.uuid)
    assert len(binned.posting) == LARGEST_POSTING
    assert binned.record is not None
    assert screen(late).binned
    late.restore(binned)
    assert entry_of(late, job.uuid).size == LARGEST_POSTING
    late.bin(entry_of(late, job.uuid), "op", "again")
    late.delete(in_bin(late, job.uuid))
    assert raw.get_children(board.path) == raw.get_children(board.trash_path) == []


def board_posting(board: ZookeeperJobBoard) -> bytes:
    """What is posted for a job of that name with nothing in it but an empty text."""
    job = board.post("big", details={"x": ""})
    data: bytes = board._client.get(f"{board.path}/{job.entry.node}")[0]
    board.delete(job.entry)
    return data


def test_a_record_that_does_not_fit_beside_its_posting_is_cut(open_board: OpenBoard, theirs: TaskFlowBoard) -> None:
    """TaskFlow moves a big job with a long history to the bin: it comes back all the same, less of its history."""
    board = open_board()
    job = board.post("big", details={"x": "x" * (LARGEST_POSTING - 10_000)})
    for _ in range(20):
        board.claim(job, "c1")
        board.abandon(job, "c1", error=make_cause("Boom", "m" * 1000, "w" * 300))
    foreign = their_job(theirs, job.uuid)
    theirs.claim(foreign, "them")
    theirs.trash(foreign, "them")
    binned = in_bin(board, job.uuid)
    eventually(lambda: in_bin(board, job.uuid).record)
    board.restore(binned)
    record = board.attempts(job)
    assert (record.attempts, record.failures) == (20, 0)
    assert 0 < len(record.history) < 20


def test_a_posting_that_fits_in_no_move_is_refused_with_its_size_and_deleted(
    open_board: OpenBoard, raw: KazooClient
) -> None:
    board = open_board()
    node = put(raw, board, posting(details={"x": "x" * 1_048_250}))
    entry = shown(board, node)
    with pytest.raises(Refused, match=r"too big for ZooKeeper: 1,04\d,\d{3} bytes"):
        board.bin(entry, "op", "why")
    assert board.listing().connection.state == "live"
    job = free(board)
    board.claim(job, "c1")
    board.abandon(job, "c1", error=CAUSE)
    board.delete(entry_of(board, "u-1"))
    assert raw.get_children(board.path) == []


# -- the sequence ------------------------------------------------------------------------------------------------------
def set_counter(server: Zookeeper, path: str, children: int) -> None:
    """Makes a stopped server believe that so many children were ever made of a node: in its newest snapshot."""
    file = max(server.folder.rglob("snapshot.*"), key=lambda found: int(found.suffix[1:], 16))
    data = bytearray(file.read_bytes())
    # Each checksum is followed by a text of one character.
    seals = [at for at in range(len(data) - 80, len(data) - 8) if long_at(data, at) == zlib.adler32(data[:at])]
    name = struct.pack(">i", len(path)) + path.encode()
    at = data.index(name) + len(name)
    at += 4 + max(0, struct.unpack_from(">i", data, at)[0])  # the node's data
    struct.pack_into(">i", data, at + 8 + 4 * 8 + 4, children)  # behind its rights, four numbers, and its version
    for seal in seals:
        struct.pack_into(">q", data, seal, zlib.adler32(data[:seal]))
    file.write_bytes(data)


def long_at(data: bytearray, at: int) -> int:
    number: int = struct.unpack_from(">q", data, at)[0]
    return number


def test_the_sequence_at_its_ends(open_board: OpenBoard, zk_path: str) -> None:
    """Half of all numbers (told wrapped by the server), the last one, and below zero."""
    with running_zookeeper() as server:

        def counting_from(children: int) -> ZookeeperJobBoard:
            server.restart()  # it writes a snapshot of all there is
            server.stop()
            set_counter(server, zk_path, children)
            server.start()
            return open_board(hosts=server.hosts, ensure=False)

        with closing(open_board(hosts=server.hosts)) as board:
            board.post("first")
        with closing(counting_from(2**30 + 5)) as board:
            job = board.post("half")
            assert job.entry.node == f"job{2**30 + 5}"
            board.bin(job.entry, "op", "why")
            board.restore(in_bin(board, job.uuid))
            assert entry_of(board, job.uuid).node == job.entry.node, "its number is past, so it comes back there"
            # A job that is moved is locked for that, which counts as well.
            assert board.post("next").entry.node == f"job{2**30 + 8}"
            assert board.listing().unseen == 0

        with closing(counting_from(2**31 - 2)) as board:
            assert board.post("last but one").entry.node == f"job{2**31 - 2}"
            last = board.post("last")
            assert last.entry.node == f"job{2**31 - 1}"
            # This server gives the last number for ever; jobs that are there are worked all the same.
            with pytest.raises(Refused, match=r"numbers of the board at .* are used up") as told:
                board.post("one more")
            assert "\n" not in str(told.value)
            names = [job.name for job in board.candidates(utcnow())[0]]
            assert names == ["first", "half", "next", "last but one", "last"]
            board.claim(last, "c1")
            board.consume(last, "c1")
            first = next(job for job in board.candidates(utcnow())[0])
            board.bin(first.entry, "op", "why")
            board.restore(in_bin(board, first.uuid))
            assert entry_of(board, first.uuid).node == "job0000000000"
            assert board.listing().unseen == 0

        with closing(counting_from(-(2**31))) as board:
            below = [board.post(name) for name in ("below", "lower", "still")]
            assert [job.entry.node for job in below] == [f"job-{2**31 - number}" for number in range(3)]
            names = [job.name for job in board.iterjobs(ensure_fresh=True)]
            assert names == ["first", "half", "next", "last but one", "below", "lower", "still"]
            assert [job.name for job in sorted(board.iterjobs())] == names
            board.claim(below[1], "c1")
            board.trash(below[1], "c1")
            board.restore(in_bin(board, below[1].uuid))
            assert entry_of(board, below[1].uuid).node == f"job-{2**31 - 1}"
            # One that is not past yet would stand in the way of those that are posted.
            ahead = f"{board.trash_path}/job-{2**31 - 20}"
            board._client.create(ahead, posting(name="ahead"))
            board.restore(in_bin(board, "u-1"))
            assert entry_of(board, "u-1").node != ahead.rpartition("/")[2]
            for _ in range(20):
                board.post("more")


def test_a_name_that_stands_in_the_way_of_all_posts_is_told(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    board.post("a")
    # Making it counts as well: the next number is 2.
    raw.create(f"{board.path}/job0000000002", posting())
    seen(board, "u-1")
    with pytest.raises(Refused, match="job0000000002 is there: bin it first"):
        board.post("b")
    board.bin(entry_of(board, "u-1"), "op", "in the way")
    assert board.post("b").uuid in board.listing().jobs


# -- a board that is not what it was -----------------------------------------------------------------------------------
def test_a_board_made_again_begins_anew(open_board: OpenBoard, raw: KazooClient) -> None:
    """The node is deleted and made again at once: the same names are other jobs."""
    board = open_board()
    old = [board.post(name) for name in "abc"]
    board.claim(old[0], "c1")
    board.claim(old[1], "c1")
    board.abandon(old[1], "c1", error=CAUSE)
    raw.delete(board.path, recursive=True)
    raw.create(board.path)
    new = [put(raw, board, posting(uuid=f"new-{name}", name=name)) for name in "abc"]
    assert new == [job.entry.node for job in old]
    eventually(lambda: set(board.listing().jobs) == {"new-a", "new-b", "new-c"})
    assert (board.listing().connection.state, board.listing().connection.detail) == ("live", "")
    assert not board.holds(old[0])
    assert {entry.claim for entry in board.listing().jobs.values()} == {None}
    for act in (board.consume, board.abandon, board.trash):
        with pytest.raises(excp.NotFound):
            act(old[0], "c1")
    for entry in (job.entry for job in old):
        with pytest.raises(excp.JobFailure):
            board.bin(entry, "op", "why")
    job = free(board)
    board.claim(job, "c1")
    board.consume(job, "c1")
    eventually(lambda: raw.exists(record_path(board, old[1].uuid)) is None, what="the orphan to go")


@pytest.mark.parametrize("loss", ["wiped", "rolled back"])
def test_a_server_whose_data_are_older_is_followed_again(open_board: OpenBoard, loss: str) -> None:
    """It refuses all who saw more than it has; the numbers of its transactions begin anew."""
    with running_zookeeper() as server:
        board = open_board(hosts=server.hosts, conf={"timeout": 2.0})
        board.post("first")
        board.bin(board.post("binned").entry, "op", "why")
        board.register_entity(entity.Entity("conductor", "c0@host:1", {}))
        data = next(server.folder.rglob("version-2"))
        if loss == "rolled back":
            server.stop()
            shutil.copytree(data, server.folder / "backup")
            server.start()
            eventually(lambda: board.listing().connection.state == "live")
        held, waiting = board.post("held"), board.post("waiting")
        board.claim(held, "c1")
        for _ in range(10):
            board.claim(waiting, "c2")
            board.abandon(waiting, "c2", error=CAUSE)
        server.stop()
        shutil.rmtree(data)
        if loss == "rolled back":
            shutil.move(server.folder / "backup", data)
        server.start()
        with server.kazoo() as client:
            client.ensure_path(board.path)
            client.ensure_path(board.trash_path)
            put(client, board, posting(uuid="new", name="new"))
            names = {"new"} | ({"first"} if loss == "rolled back" else set())

            def followed() -> bool:
                listing = board.listing()
                return listing.connection.state == "live" and {job.name for job in listing.jobs.values()} == names

            eventually(followed, timeout=60, what="the board as it is now")
            assert not board.holds(held)
            assert [entry.name for entry in board.listing().binned.values()] == (
                ["binned"] if loss == "rolled back" else []
            )
            job = next(job for job in board.candidates(utcnow())[0] if job.name == "new")
            board.claim(job, "c1")
            assert board.holds(job)
            board.consume(job, "c1")
            assert board.post("after").uuid in board.listing().jobs
            eventually(lambda: board.listing().entities.get("c0@host:1"), what="the conductor to be registered again")
        board.close()


# -- attaching ---------------------------------------------------------------------------------------------------------
def test_attaching_and_watching_write_nothing(open_board: OpenBoard, raw: KazooClient, zk_hosts: str) -> None:
    """Neither a node nor a transaction: on a client that is connected already, nothing reaches the server's log."""
    made = open_board()
    made.post("a")
    made.bin(made.post("b").entry, "op", "why")
    put(raw, made, b"malformed")
    root = made.path.rpartition("/")[0]
    made.close()
    client = make_client(zk_hosts)
    client.start()
    before = tree(raw, root), versions(raw, root)
    last = transaction(raw, root)
    board = open_board("watcher", ensure=False, client=client, read_only=True)
    assert len(board.listing().jobs) == 2
    board.refresh()
    list(board.iterjobs(ensure_fresh=True))
    job = free(board)
    assert (job.state, board.find_owner(job), board.attempts(job).attempts) == (states.UNCLAIMED, None, 0)
    assert not job.wait(timeout=0.05)
    screen(board)
    board.close()
    assert transaction(raw, root) == last
    assert (tree(raw, root), versions(raw, root)) == before
    assert client.connected, "it is the caller's, who ends it"
    end_client(client)


def transaction(client: KazooClient, path: str) -> int:
    """The last transaction of the server, as its next answer tells."""
    client.exists(path)
    return int(client.last_zxid)


def versions(client: KazooClient, path: str) -> dict[str, Any]:
    found = {path: client.exists(path)}
    for child in client.get_children(path):
        found |= versions(client, f"{path}/{child}")
    return found


def test_a_read_only_board_refuses_each_act_in_one_line(open_board: OpenBoard, raw: KazooClient) -> None:
    writer = open_board()
    job, held = writer.post("a"), writer.post("b")
    writer.bin(writer.post("c").entry, "op", "why")
    writer.claim(held, "c1")
    reader = open_board("reader", ensure=False, read_only=True)
    binned = next(iter(reader.listing().binned.values()))
    before = tree(raw, writer.path.rpartition("/")[0])
    acts: tuple[Callable[[], object], ...] = (
        reader.ensure,
        lambda: reader.post("d"),
        lambda: reader.claim(job, "c1"),
        lambda: reader.settle(job, QUICK),
        lambda: reader.consume(held, "c1"),
        lambda: reader.abandon(held, "c1"),
        lambda: reader.trash(held, "c1"),
        lambda: reader.bin(job.entry, "op", "why"),
        lambda: reader.delete(job.entry),
        lambda: reader.delete(binned),
        lambda: reader.restore(binned),
        lambda: reader.retry(job.entry),
        lambda: reader.register_entity(entity.Entity("conductor", "c0@host:1", {})),
    )
    for act in acts:
        with pytest.raises(Refused, match="read only") as told:
            act()
        assert "\n" not in str(told.value)
    assert tree(raw, writer.path.rpartition("/")[0]) == before
    assert reader.connected


@pytest.mark.parametrize("path", ["/{}jobs/jobs", "/jobs.{}/jobs", "/{}/j", "/a{}a/a"])
def test_a_base_name_that_comes_again_in_the_path(
    open_board: OpenBoard, zookeeper: Zookeeper, zk_hosts: str, path: str
) -> None:
    path = path.format(uuid.uuid4().hex)
    board = open_board(path=path)
    with taskflows_board(zookeeper, path, None) as theirs:
        theirs.register_entity(entity.Entity("conductor", "c0@host:1", {}))
        key = theirs.post("a").uuid
        job = their_job(theirs, key)
        theirs.claim(job, "them")
        claimed(board, key)
        theirs.trash(job, "them")
        binned = in_bin(board, key)
        assert eventually(lambda: board.listing().entities.get("c0@host:1"))
        board.restore(binned)
        job = their_job(theirs, key)
        theirs.claim(job, "them")
        theirs.consume(job, "them")
        eventually(lambda: key not in board.listing().jobs)


def test_hosts_with_a_root_of_their_own(open_board: OpenBoard, raw: KazooClient, zk_hosts: str) -> None:
    """What stands behind a slash in the hosts is before every path, for us as for TaskFlow."""
    root = f"/r{uuid.uuid4().hex}"
    hosts, path = zk_hosts + root, "/jobs"
    nowhere = ZookeeperJobBoard("nowhere", {"hosts": hosts, "path": path})
    with pytest.raises(BoardUnreachable, match=f"no board at {path} on {hosts}"):
        nowhere.connect()
    assert raw.exists(root) is None
    board = open_board(hosts=hosts, path=path)
    client = make_client(hosts)
    theirs = TaskFlowBoard("theirs", {"check_compatible": False, "path": path}, client=client)
    theirs.connect()
    try:
        board.register_entity(entity.Entity("conductor", "c0@host:1", {}))
        job = board.post("a")
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE)
        foreign = their_job(theirs, job.uuid)
        theirs.claim(foreign, "them")
        entry, claim = claimed(board, job.uuid)
        assert claim.owner == "them"
        assert entry.record is not None
        board.bin(entry, "op", "why")
        board.restore(in_bin(board, job.uuid))
        again = free(board)
        board.claim(again, "c1")
        board.consume(again, "c1")
        assert not board.listing().jobs
        assert set(raw.get_children(root)) >= {"jobs", ".trash", ".attempts", ".entities"}
    finally:
        theirs.close()
        end_client(client)


# -- what TaskFlow expects of a board ----------------------------------------------------------------------------------
def test_fresh_means_fresh(open_board: OpenBoard, theirs: TaskFlowBoard) -> None:
    board = open_board()
    for number in range(20):
        key = theirs.post(str(number)).uuid
        assert key in {job.uuid for job in board.iterjobs(ensure_fresh=True)}


def test_before_it_is_connected(zk_hosts: str, zk_path: str) -> None:
    board = ZookeeperJobBoard("ours", {"hosts": zk_hosts, "path": zk_path})
    assert (board.connected, board.job_count, list(board.iterjobs())) == (False, 0, [])
    assert list(board.candidates(utcnow())[0]) == []
    with pytest.raises(excp.NotFound):
        board.wait(timeout=0.01)
    for act in (lambda: board.post("a"), board.refresh, lambda: list(board.iterjobs(ensure_fresh=True))):
        with pytest.raises(BoardUnreachable):
            act()
    board.close()


# -- records, conductors and names of others ---------------------------------------------------------------------------
def record(**fields: Any) -> bytes:
    known = {
        "v": 1,
        "job": "u-1",
        "attempts": 3,
        "failures": 2,
        "hold_until": None,
        "counted_to": None,
        "binned": None,
        "history": [],
    }
    return json.dumps(known | fields).encode()


def attempt(**fields: Any) -> dict[str, Any]:
    known = {"n": 1, "who": "c1@h:1", "claim": "0x1", "began": "2026-01-01T00:00:00.000000Z", "ended": None}
    return known | {"outcome": "abandoned", "flow": None, "error": None} | fields


RECORDS = {
    "empty": b"",
    "no JSON": b"\xff",
    "a list": b"[]",
    "nested": b'{"v": 1, "job": ' + b"[" * 900 + b"]" * 900 + b"}",
    "nested beyond the parser": b"[" * 100_000,
    "another's": record(job="u-2"),
    "of another version": record(v=2),
    "numbers of another kind": record(attempts=[1]),
    "no number": record(attempts=float("nan")),
    "no end": record(failures=float("inf")),
    "below zero": record(attempts=-5, failures=-7),
    "beyond all numbers": record(attempts=10**400, failures=10**400),
    "a claim beyond the parser": record(counted_to="9" * 5000),
    "a claim in the history beyond the parser": record(history=[attempt(claim="9" * 5000)] * 25),
    "a time that is none": record(hold_until="soon"),
    "the end of time": record(hold_until="9999-12-31T23:59:59.999999Z"),
    "before all time": record(
        hold_until="0001-01-01T00:00:00.000000Z", history=[attempt(began="0001-01-01T00:00:00Z")]
    ),
    "a time without a zone": record(hold_until="2026-01-01T00:00:00"),
    "of a job in the bin": record(binned={"who": "op", "when": "2026-01-01T00:00:00Z", "why": "\x1b[2J"}),
    "a long history": record(history=[attempt(n=n, claim=hex(n)) for n in range(5000, 0, -1)]),
    "an unknown outcome": record(history=[attempt(outcome="exploded", n="7")]),
    "open": record(history=[attempt(outcome=None, claim=None)]),
    "escapes": record(
        history=[
            attempt(
                who="\x1b[2J\ud800\n@",
                flow="\x00",
                error=dict.fromkeys(("type", "message", "where", "fingerprint"), "\x1b�"),
            )
        ]
    ),
    "long texts": record(
        history=[
            attempt(
                who="w" * 9999,
                flow="f" * 9999,
                error=dict.fromkeys(("type", "message", "where", "fingerprint"), "é" * 9999),
            )
        ]
    ),
}


def test_a_hold_to_the_end_of_time_on_a_server_whose_clock_is_behind(open_board: OpenBoard, raw: KazooClient) -> None:
    board = open_board()
    put(raw, board, posting())
    raw.create(record_path(board, "u-1"), RECORDS["the end of time"])
    eventually(lambda: seen(board, "u-1").record)
    board._model.learn_clock(int((utcnow().timestamp() - 3600) * 1000), 0.0)
    jobs, end = board.candidates(utcnow())
    assert not jobs
    assert end is not None


@pytest.mark.parametrize("data", RECORDS.values(), ids=RECORDS)
def test_any_record_is_gone_on_with(open_board: OpenBoard, raw: KazooClient, data: bytes) -> None:
    board = open_board()
    put(raw, board, posting())
    seen(board, "u-1")
    raw.create(record_path(board, "u-1"), data)
    board.refresh()
    late = open_board("late", ensure=False)
    for who in (board, late):
        assert view(who, "u-1").entry.name == "n"
        who.candidates(utcnow())
    job = board.make_job(entry_of(board, "u-1"))
    assert board.attempts(job).job == "u-1"
    before = board.settle(job, QUICK)
    for _ in range(2):
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE, hold=60)
    now = board.attempts(job)
    assert now.attempts == before.attempts + 2
    assert len(now.history) <= 20
    assert view(board, "u-1").state == "held"
    board.retry(entry_of(board, "u-1"))
    assert free(board).uuid == "u-1"
    board.bin(entry_of(board, "u-1"), "op", "why")
    board.restore(in_bin(board, "u-1"))
    again = free(board)
    board.claim(again, "c1")
    board.consume(again, "c1")
    assert raw.exists(record_path(board, "u-1")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"metadata": 1}',
        b'{"metadata": {"hostname": ["\\ud800"], "pid": {"x": 1}}}',
        b"[" * 100_000,
    ]
    + [
        json.dumps({"metadata": {"hostname": "\x1b[2J", "pid": pid}}).encode()
        for pid in (-1, 10**50, True, "1e9", "\u0661")
    ],
)
def test_any_conductors_entry_is_shown(open_board: OpenBoard, raw: KazooClient, data: bytes) -> None:
    board = open_board()
    board.register_entity(entity.Entity("conductor", "c0@host:1", {}))
    for name in ("c1@there:12", "odd", "@", "a@b@c:x", "\u202e@:"):
        raw.create(f"{board.entity_path}/conductor/{name}", data)
    eventually(lambda: len(board.listing().entities) == 6)
    conductors = screen(board).conductors
    assert len(conductors) == 6
    assert all((one.name + one.place).isprintable() for one in conductors)


@pytest.mark.parametrize(
    "name", ["job", "jobs and more", "job\u202e", "job[b]", "job.", "job0000000001 ", "job" + "x" * 5000]
)
@pytest.mark.parametrize("data", [b"malformed", posting()], ids=["malformed", "well"])
def test_any_name_of_a_node(open_board: OpenBoard, raw: KazooClient, name: str, data: bytes) -> None:
    board = open_board()
    raw.create(f"{board.path}/{name}", data)
    entry = shown(board, name)
    row = view(board, entry.key)
    assert row.name.isprintable()
    if entry.workable:
        job = free(board)
        board.claim(job, "c1")
        board.abandon(job, "c1", error=CAUSE)
    key = board.bin(entry_of(board, entry.key), "op", "why")
    assert in_bin(board, key).node == name
    board.restore(in_bin(board, key))
    node = next(iter(board.listing().jobs.values())).node
    assert node in raw.get_children(board.path)
    board.post("next")
    board.delete(shown(board, node))
