"""A claim of ours is not read back; and yet another's in its place is seen at once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from conductor_console.jobboards.zk_paths import BoardPaths
from tests import zookeeper_boards
from tests.boards import seen
from tests.support import eventually
from tests.wire import Wire, wire
from tests.zookeeper_boards import OpenBoard

GET = 4
#: Fixtures.
raw, open_board = zookeeper_boards.raw, zookeeper_boards.open_board


@pytest.fixture
def listened(zk_hosts: str) -> Iterator[Wire]:
    with wire(zk_hosts) as made:
        yield made


def test_our_own_lock_is_not_read_back(listened: Wire, open_board: OpenBoard) -> None:
    other = open_board("other")
    board = open_board(hosts=listened.hosts)
    jobs = [board.post(f"job-{number}") for number in range(30)]
    board.refresh()
    before = listened.requests.count(GET)
    for job in jobs:
        board.claim(job, "c1")
    board.refresh()
    assert all(board.holds(job) for job in jobs)
    # Each has a record now, which operators and guards may write. A lock that is listed before its claim's answer was
    # looked at is read as well.
    assert listened.requests.count(GET) - before < 2 * len(jobs)
    # Another's is read.
    last = board.post("last")
    seen(other, last)
    other.claim(last, "c2")
    entry = seen(board, last, lambda now: now.claim)
    assert entry.claim is not None
    assert entry.claim.owner == "c2"
    board.refresh()
    assert all(board.holds(job) for job in jobs)


def test_anothers_lock_in_the_place_of_ours_is_seen(open_board: OpenBoard, raw: KazooClient, zk_path: str) -> None:
    """No listing shows the difference, when both are done in one transaction."""
    board = open_board()
    job = board.post("order")
    board.claim(job, "c1")
    lock = BoardPaths(zk_path).lock(job.entry.node)
    transaction = raw.transaction()
    transaction.delete(lock)
    transaction.create(lock, json.dumps({"owner": "them"}).encode(), ephemeral=True)
    assert not [result for result in transaction.commit() if isinstance(result, Exception)]
    eventually(lambda: not board.holds(job), what="the claim's loss to be noticed")
    entry = seen(board, job, lambda now: now.claim and now.claim.owner == "them")
    assert entry.claim is not None
