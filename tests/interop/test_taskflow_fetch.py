"""TaskFlow's own ``fetch`` functions with our package installed: its own kinds load as before, and ours beside them."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import pytest
from taskflow.conductors import backends as conductors
from taskflow.conductors.base import Conductor
from taskflow.jobs import backends as jobboards
from taskflow.jobs.base import JobBoard
from taskflow.persistence import backends as persistence
from taskflow.persistence.base import Backend

from tests.servers import end_client, make_client

#: By kind: the class that TaskFlow's documents name, and what it needs to be made.
BOARDS = {
    "zookeeper": ("taskflow.jobs.backends.impl_zookeeper", "ZookeeperJobBoard"),
    "redis": ("taskflow.jobs.backends.impl_redis", "RedisJobBoard"),
    "etcd": ("taskflow.jobs.backends.impl_etcd", "EtcdJobBoard"),
    "cc-zookeeper": ("conductor_console.jobboards.zookeeper", "ZookeeperJobBoard"),
    "cc-sqlite": ("conductor_console.jobboards.sqlite", "SQLiteJobBoard"),
}
CONDUCTORS = {
    "blocking": ("taskflow.conductors.backends.impl_blocking", "BlockingConductor"),
    "nonblocking": ("taskflow.conductors.backends.impl_nonblocking", "NonBlockingConductor"),
    "cc-blocking": ("conductor_console.conductors.blocking", "BlockingConductor"),
    "cc-nonblocking": ("conductor_console.conductors.nonblocking", "NonBlockingConductor"),
}
STORES = {
    "memory": ("taskflow.persistence.backends.impl_memory", "MemoryBackend", "memory"),
    "dir": ("taskflow.persistence.backends.impl_dir", "DirBackend", "dir"),
    "file": ("taskflow.persistence.backends.impl_dir", "DirBackend", "file"),
    "sqlite": ("taskflow.persistence.backends.impl_sqlalchemy", "SQLAlchemyBackend", "sqlite://"),
    "mysql": (
        "taskflow.persistence.backends.impl_sqlalchemy",
        "SQLAlchemyBackend",
        "mysql+pymysql://u:p@127.0.0.1:1/taskflow",
    ),
    "zookeeper": ("taskflow.persistence.backends.impl_zookeeper", "ZkBackend", "zookeeper"),
    "cc-sqlite": ("conductor_console.persistence.backend", "SQLBackend", "cc-sqlite://"),
}


def class_of(module: str, name: str) -> type[Any]:
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize("kind", BOARDS)
def test_boards(kind: str, tmp_path: Path) -> None:
    """Made, not connected: no server is asked."""
    conf: dict[str, Any] = {"board": kind}
    options: dict[str, Any] = {}
    client = make_client("127.0.0.1:1")
    if kind.endswith("zookeeper"):
        options["client"] = client
    if kind == "cc-sqlite":
        conf["path"] = str(tmp_path / "board.db")
    try:
        board = jobboards.fetch("ops", conf, **options)
        assert type(board) is class_of(*BOARDS[kind])
        assert isinstance(board, JobBoard)
        assert board.name == "ops"
        assert not board.connected
    finally:
        end_client(client)


@pytest.mark.parametrize("kind", CONDUCTORS)
def test_conductors(kind: str, tmp_path: Path) -> None:
    board = jobboards.fetch("ops", {"board": "cc-sqlite", "path": str(tmp_path / "board.db")})
    store = persistence.fetch({"connection": "memory"})
    conductor = conductors.fetch(kind, "c1", board, persistence=store, engine="serial")
    assert type(conductor) is class_of(*CONDUCTORS[kind])
    assert isinstance(conductor, Conductor)
    assert conductor.conductor.name.startswith("c1@")


@pytest.mark.parametrize("kind", STORES)
def test_stores(kind: str, tmp_path: Path) -> None:
    module, name, connection = STORES[kind]
    conf = {"connection": connection, "path": str(tmp_path)}
    if connection.endswith("://"):
        conf["connection"] = f"{connection}/{tmp_path / 'flows.db'}"
    with contextlib.closing(persistence.fetch(conf)) as store:
        assert type(store) is class_of(module, name)
        assert isinstance(store, Backend)


def test_each_name_means_one_class() -> None:
    """Two of one name would break TaskFlow's look-up for good."""
    from importlib.metadata import entry_points

    for group in ("taskflow.jobboards", "taskflow.conductors", "taskflow.persistence"):
        names = [found.name for found in entry_points(group=group)]
        assert len(names) == len(set(names)), group
        assert {found.name for found in entry_points(group=group) if found.value.startswith("conductor_console")} == {
            name for name in names if name.startswith("cc-")
        }
