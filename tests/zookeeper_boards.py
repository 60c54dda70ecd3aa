"""A ZooKeeper board of ours, TaskFlow's own, and a plain client on one path: what tests of the real thing share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard as TaskFlowBoard

from conductor_console.clock import utcnow
from conductor_console.jobboards.base import BinEntry, BoardJob, Claim, JobEntry
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.servers import Zookeeper, end_client, make_client
from tests.support import eventually

OpenBoard = Callable[..., ZookeeperJobBoard]


@pytest.fixture
def raw(zookeeper: Zookeeper) -> Iterator[KazooClient]:
    """A plain client, to look at nodes and to spoil them."""
    with zookeeper.kazoo() as client:
        yield client


@pytest.fixture
def open_board(zk_hosts: str, zk_path: str) -> Iterator[OpenBoard]:
    """Opens boards of ours on this test's path."""
    boards: list[ZookeeperJobBoard] = []

    def build(name: str = "ours", ensure: bool = True, hosts: str = zk_hosts, **options: Any) -> ZookeeperJobBoard:
        conf = {"hosts": hosts, "path": options.pop("path", zk_path), **options.pop("conf", {})}
        board = ZookeeperJobBoard(name, conf, **options)
        boards.append(board)
        if ensure:
            board.ensure()
        board.connect()
        return board

    yield build
    for board in boards:
        board.close()


@pytest.fixture
def theirs(zk_hosts: str, zk_path: str) -> Iterator[TaskFlowBoard]:
    """TaskFlow's own board on the same path."""
    client = make_client(zk_hosts)
    board = TaskFlowBoard("theirs", {"check_compatible": False, "path": zk_path}, client=client)
    board.connect()
    yield board
    board.close()
    end_client(client)


def tree(client: KazooClient, path: str) -> dict[str, bytes]:
    """All nodes under ``path`` with their data."""
    if client.exists(path) is None:
        return {}
    data, _ = client.get(path)
    found = {path: data}
    for child in client.get_children(path):
        found.update(tree(client, f"{path}/{child}"))
    return found


def only(board: ZookeeperJobBoard) -> BoardJob:
    """The board's one job that may be tried now."""
    jobs, _ = board.candidates(utcnow())
    assert len(jobs) == 1
    return jobs[0]


def entry_of(board: ZookeeperJobBoard, key: str | None) -> JobEntry:
    assert key is not None
    return board.listing().jobs[key]


def seen(board: ZookeeperJobBoard, key: str | None) -> JobEntry:
    """The job, as soon as the board shows it."""
    assert key is not None
    return eventually(lambda: board.listing().jobs.get(key), what=f"job {key} to be listed")


def claimed(board: ZookeeperJobBoard, key: str | None) -> tuple[JobEntry, Claim]:
    """The job and its claim, as soon as the board shows one."""
    entry = eventually(lambda: next((e for e in (seen(board, key),) if e.claim), None), what="the claim")
    assert entry.claim is not None
    return entry, entry.claim


def free(board: ZookeeperJobBoard) -> BoardJob:
    """The first job that may be tried, as soon as there is one."""
    return eventually(lambda: next(iter(board.candidates(utcnow())[0]), None), what="a job that may be tried")


def record_path(board: ZookeeperJobBoard, key: str) -> str:
    parent, _, base = board.path.rpartition("/")
    return f"{parent}/.attempts/{base}/{key}"


def their_job(theirs: TaskFlowBoard, key: str | None) -> Any:
    def find() -> Any:
        return next((job for job in theirs.iterjobs(ensure_fresh=True) if job.uuid == key), None)

    return eventually(find, what="TaskFlow to see the job")


def in_bin(board: ZookeeperJobBoard, key: str | None) -> BinEntry:
    """What is binned under that key, as soon as the board shows it."""
    assert key is not None
    return eventually(lambda: board.listing().binned.get(key), what=f"{key} in the bin")
