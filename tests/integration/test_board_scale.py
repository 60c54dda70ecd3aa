"""Big ZooKeeper boards, long days and quiet ones: what is read, what is kept, and what is asked for."""

from __future__ import annotations

import contextlib
import gc
import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.security import make_digest_acl
from taskflow import states

from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, closed, opened, put_in_bin, to_json
from conductor_console.jobboards.base import BoardEvent
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zk_reads import Reads
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.observatory.observatory import Observatory
from tests.integration.conducting import Rig, memory_store
from tests.servers import Zookeeper
from tests.support import eventually
from tests.wire import MULTI_READ, PING, Wire, wire

#: ZooKeeper's number of a plain read.
GET = 4
#: Another's rounds: so many are under way or waiting to be ended at any time; the board is waited for so often.
ALIVE = 50
SYNC = 500
#: Some of what must have been found by :func:`sizes`.
LOOKED_AT = ("_model._ledgers", "_model._gone_locks", "icture._ready._ends", "_mirror._watched_locks", "_claims._held")


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def node(number: int) -> str:
    return f"job{number:010d}"


def posting(number: int, **details: object) -> bytes:
    return json.dumps({"uuid": uuid(number), "name": f"job-{number}", "details": details}).encode()


class Other:
    """Another's hand on the board: plain transactions, not waited for one by one."""

    def __init__(self, client: KazooClient, path: str) -> None:
        self.paths = BoardPaths(path)
        self._client = client
        self._under_way: deque[Any] = deque()
        for folder in (self.paths.board, self.paths.trash, self.paths.attempts, self.paths.conductors):
            client.ensure_path(folder)

    def do(self, *steps: Callable[[Any], None]) -> None:
        transaction = self._client.transaction()
        for step in steps:
            step(transaction)
        self._under_way.append(transaction.commit_async())
        if len(self._under_way) > ALIVE:
            self._check(self._under_way.popleft())

    def done(self) -> None:
        """All of it is done."""
        while self._under_way:
            self._check(self._under_way.popleft())

    def _check(self, request: Any) -> None:
        results = request.get(timeout=60)
        assert not [result for result in results if isinstance(result, Exception)], results

    def create(self, path: str, value: bytes | None, ephemeral: bool = False) -> Callable[[Any], None]:
        def step(transaction: Any) -> None:
            transaction.create(path, value or b"", ephemeral=ephemeral)
            if value is None:
                # kazoo's transactions know no null of their own.
                transaction.operations[-1] = transaction.operations[-1]._replace(data=None)

        return step

    def write(self, path: str, value: bytes) -> Callable[[Any], None]:
        return lambda transaction: transaction.set_data(path, value)

    def delete(self, *paths: str) -> Callable[[Any], None]:
        def step(transaction: Any) -> None:
            for path in paths:
                transaction.delete(path)

        return step

    def post(self, number: int, **details: object) -> Callable[[Any], None]:
        return self.create(self.paths.job(node(number)), posting(number, **details))

    def lock(self, number: int) -> Callable[[Any], None]:
        return self.create(self.paths.lock(node(number)), b'{"owner": "them"}', ephemeral=True)

    def begin(self, number: int) -> None:
        """Posts a job, and does with it what comes before the last step."""
        job, lock, record = (
            self.paths.job(node(number)),
            self.paths.lock(node(number)),
            self.paths.record(uuid(number)),
        )
        first = opened(AttemptRecord(uuid(number)), "them@host:1", utcnow(), None)
        last = closed(first, "abandoned", utcnow(), hold=60)
        if number % 5 == 0:
            # One that counts, and is at it.
            self.do(self.post(number), self.lock(number), self.create(record, to_json(first)))
        elif number % 5 == 1:
            self.do(self.post(number), self.lock(number), self.create(record, to_json(first)))
            self.do(self.write(record, to_json(last)), self.delete(lock))
        elif number % 5 == 2:
            binned = to_json(put_in_bin(first, "op", utcnow(), "why"))
            to_bin = self.create(self.paths.binned(node(number)), posting(number))
            self.do(self.post(number))
            self.do(to_bin, self.delete(job), self.create(record, binned))
        elif number % 5 == 3:
            # TaskFlow's: uncounted.
            self.do(self.post(number), self.lock(number))
        else:
            self.do(self.post(number), self.lock(number), self.create(record, to_json(first)))
            self.do(self.delete(lock))

    def end(self, number: int) -> None:
        """Consumes, deletes or purges it."""
        job, lock, record = (
            self.paths.job(node(number)),
            self.paths.lock(node(number)),
            self.paths.record(uuid(number)),
        )
        if number % 5 == 0:
            self.do(self.delete(lock, job, record))
        elif number % 5 == 1:
            self.do(self.delete(job, record))
        elif number % 5 == 2:
            self.do(self.delete(self.paths.binned(node(number)), record))
        elif number % 5 == 3:
            self.do(self.delete(lock, job))
        else:
            # The record stays behind for a moment, without its job.
            self.do(self.delete(job))
            self.do(self.delete(record))


def sizes(root: object) -> dict[str, int]:
    """How much lies in each container that is reached from ``root`` through objects of ours, by the way to it."""
    found: dict[str, int] = {}
    known: set[int] = set()
    left: list[tuple[str, object]] = [(type(root).__name__, root)]
    while left:
        way, one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one, Collection) and not isinstance(one, str | bytes):
            found[way] = found.get(way, 0) + len(one)
            items = one.values() if isinstance(one, dict) else one
            if isinstance(one, dict | list | tuple | set | frozenset | deque):
                left += [(f"{way}[]", item) for item in list(items)]
        if type(one).__module__.startswith("conductor_console."):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names = [*getattr(one, "__dict__", ()), *slots]
            left += [(f"{way}.{name}", getattr(one, name)) for name in names if hasattr(one, name)]
    return found


def watches(client: KazooClient) -> int:
    return len(client._data_watchers) + len(client._child_watchers)


@pytest.fixture
def other(zookeeper: Zookeeper, zk_path: str) -> Iterator[Other]:
    with zookeeper.kazoo(timeout=30.0) as client:
        yield Other(client, zk_path)


@contextlib.contextmanager
def attached(hosts: str, path: str, **conf: Any) -> Iterator[ZookeeperJobBoard]:
    board = ZookeeperJobBoard("ours", {"hosts": hosts, "path": path, **conf})
    try:
        board.connect(30.0)
        yield board
    finally:
        board.close()


def test_nothing_grows_with_what_came_and_went(zk_hosts: str, zk_path: str, other: Other) -> None:
    seen: dict[str, int] = {}

    def hear(event: BoardEvent) -> None:
        seen[event.kind] = seen.get(event.kind, 0) + 1

    with attached(zk_hosts, zk_path) as board:
        board.subscribe(hear)

        def agrees(first: int, last: int) -> bool:
            listing = board.listing()
            on_board = {uuid(number) for number in range(first, last) if number % 5 != 2}
            in_bin = {uuid(number) for number in range(first, last) if number % 5 == 2}
            return listing.jobs.keys() == on_board and listing.binned.keys() == in_bin

        def rounds(first: int, last: int) -> tuple[dict[str, int], int, int]:
            """What is kept after so many rounds, all of whose jobs are gone."""
            for number in range(first, last):
                other.begin(number)
                if number - ALIVE >= first:
                    other.end(number - ALIVE)
                if number % SYNC == SYNC - 1:
                    other.done()
                    eventually(lambda: agrees(number - ALIVE + 1, number + 1), what="the board to see them")  # noqa: B023
            for number in range(last - ALIVE, last):
                other.end(number)
            other.done()
            eventually(lambda: agrees(0, 0), what="an empty board")
            # The records may be told of after the jobs.
            eventually(lambda: not board._model._ledgers, what="an empty ledger")
            board.refresh()
            gc.collect()
            return sizes(board), watches(board._client), len(gc.get_objects())

        before, watches_before, objects_before = rounds(0, 2_000)
        after, watches_after, objects_after = rounds(2_000, 10_000)

    # It was not asleep, and was looked through.
    assert all(any(way.endswith(end) for way in after) for end in LOOKED_AT), sorted(after)
    assert seen["posted"] >= 800
    assert seen["claimed"] >= 400
    assert seen["bin"] >= 200
    assert {way: (before.get(way, 0), size) for way, size in after.items() if size > before.get(way, 0) + 500} == {}
    assert watches_after == watches_before
    assert objects_after < objects_before + 1_500


@pytest.fixture
def listened(zk_hosts: str) -> Iterator[Wire]:
    with wire(zk_hosts) as made:
        yield made


def fill(other: Other, jobs: int) -> None:
    """So many jobs, every fifth claimed by others, every tenth tried before."""
    for number in range(jobs):
        steps = [other.post(number, text="x" * 100)]
        if number % 5 == 0:
            steps.append(other.lock(number))
        if number % 10 == 1:
            record = closed(opened(AttemptRecord(uuid(number)), "c", utcnow(), None), "abandoned", utcnow())
            steps.append(other.create(other.paths.record(uuid(number)), to_json(record)))
        other.do(*steps)
    other.done()


def shows_all(board: ZookeeperJobBoard, jobs: int) -> None:
    listing = board.listing()
    assert listing.complete
    assert listing.jobs.keys() == {uuid(number) for number in range(jobs)}
    claimed = {key for key, entry in listing.jobs.items() if entry.claim is not None and entry.claim.owner == "them"}
    assert claimed == {uuid(number) for number in range(0, jobs, 5)}
    tried = {key for key, entry in listing.jobs.items() if entry.record is not None and entry.record.failures == 1}
    assert tried == {uuid(number) for number in range(1, jobs, 10)}
    assert all(entry.details == {"text": "x" * 100} for entry in listing.jobs.values())


def test_a_first_picture_takes_far_fewer_requests_than_nodes(listened: Wire, zk_path: str, other: Other) -> None:
    fill(other, 1_000)
    with attached(listened.hosts, zk_path) as board:
        shows_all(board, 1_000)
        # What has to be watched is read by itself: 200 locks and 100 records.
        assert len(listened.others()) < 300 + 60
        # A server that is known to read many does so for a few as well.
        single = listened.requests.count(GET)
        other.do(*[other.post(number) for number in range(1_000, 1_005)])
        other.done()
        eventually(lambda: board.job_count == 1_005, what="the jobs that came")
        assert listened.requests.count(GET) == single


@pytest.mark.parametrize(("silent", "asked"), [(False, 1), (True, 2)])
def test_a_server_that_reads_one_node_a_request(
    zk_hosts: str, zk_path: str, other: Other, silent: bool, asked: int
) -> None:
    """Before 3.6; it hangs up over what it does not know. Its words may be lost; not each lost connection is a no."""
    fill(other, 200)
    with wire(zk_hosts, {MULTI_READ}, silent) as old, attached(old.hosts, zk_path) as board:
        session = board._client.client_id
        shows_all(board, 200)
        other.do(*[other.post(number, text="x" * 100) for number in range(200, 300)])
        other.done()
        eventually(lambda: board.job_count == 300, what="the jobs that came")
        assert old.requests.count(MULTI_READ) == asked
        assert board._client.client_id == session
        assert board.listing().connection.state == "live"


def test_each_node_of_a_transaction_of_reads_is_told_of(zookeeper: Zookeeper, zk_path: str) -> None:
    names = [str(number) for number in range(100)]
    with zookeeper.kazoo() as client:
        client.ensure_path(zk_path)
        for name in names:
            if name == "7":
                client.create(f"{zk_path}/{name}", b"secret", acl=[make_digest_acl("op", "op", all=True)])
            elif name == "50":
                client.create(f"{zk_path}/{name}", None)
            elif name != "5":
                # Some so big that few go into one answer.
                client.create(f"{zk_path}/{name}", name.encode() * (100_000 if name > "9" else 1))
        reads = Reads(client)
        found = list(reads.plain(names, lambda name: f"{zk_path}/{name}"))
        assert reads._answered
        single = list(reads.singly(names, lambda name: f"{zk_path}/{name}"))
    assert [name for name, _ in found] == names
    for (name, one), (_, other) in zip(found, single, strict=True):
        if name in ("5", "7"):
            assert type(one) is type(other) is (NoNodeError if name == "5" else NoAuthError)
        else:
            assert one == other
            assert one[0] == (b"" if name == "50" else name.encode() * (100_000 if name > "9" else 1))


def test_nodes_without_data(zk_hosts: str, zk_path: str, other: Other) -> None:
    """As ZooKeeper's own shell makes them. They may well be read: there is nothing in them."""
    other.do(other.post(1), other.create(other.paths.lock(node(1)), None), other.create(other.paths.job(node(2)), None))
    other.done()
    with attached(zk_hosts, zk_path) as board:
        first, second = board.listing().jobs[uuid(1)], board.listing().jobs[node(2)]
        assert first.claim is not None
        assert first.claim.problem is not None
        assert "empty" in first.claim.problem
        assert (second.access, second.problem) == (True, "empty")
        assert board.job_state(board.make_job(first)) == states.UNCLAIMED


def test_behind_a_part_of_the_tree(zookeeper: Zookeeper, zk_path: str, other: Other) -> None:
    fill(other, 100)
    part, _, rest = zk_path[1:].partition("/")
    with attached(f"{zookeeper.hosts}/{part}", f"/{rest}") as board:
        shows_all(board, 100)


def test_an_idle_conductor_and_an_open_console_ask_for_nothing(
    listened: Wire, zk_path: str, other: Other, tmp_path: Path
) -> None:
    for number in range(200):
        other.do(other.post(number), other.lock(number))
    other.done()
    with attached(listened.hosts, zk_path, timeout=2) as board:
        rig = Rig(board, memory_store(), tmp_path)
        observatory = Observatory(board, title="quiet")
        try:
            rig.start()
            observatory.start()
            # What others hold is counted: the last that is written.
            eventually(lambda: sum(one.tries for one in observatory.snapshot().jobs) == 200, what="200 counted claims")
            eventually(lambda: listened.requests[-3:] == [PING] * 3, what="the board to be quiet")
            quiet = len(listened.requests)
            # What is done every second or so would be seen.
            eventually(lambda: len(listened.requests) >= quiet + 6, what="six more pings")
            assert set(listened.requests[quiet:]) == {PING}
        finally:
            observatory.stop()
            rig.stop()
