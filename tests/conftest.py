"""Fixtures of every test: the one server of each kind of this (worker) process, and a namespace of it for each test."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.databases import Database, running
from tests.servers import Zookeeper, running_zookeeper


def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: half as many again as there are cores, since much of a test is waiting for a server."""
    return 3 * (os.cpu_count() or 1) // 2


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[Zookeeper]:
    """A running ZooKeeper shared by all tests of this process: never stop or pause this one."""
    with running_zookeeper() as server:
        yield server


@pytest.fixture
def zk_hosts(zookeeper: Zookeeper) -> str:
    """Where to connect, e.g. ``127.0.0.1:40123``."""
    return zookeeper.hosts


@pytest.fixture
def zk_path() -> str:
    """A board path of this test's own; nothing is there yet."""
    return f"/t{uuid.uuid4().hex}/jobs"


@pytest.fixture(scope="session")
def _databases() -> Iterator[Callable[[str], Database]]:
    """The database server of each kind, started when it is first asked for."""
    started: dict[str, Database] = {}
    with contextlib.ExitStack() as stack:

        def of(kind: str) -> Database:
            if kind not in started:
                started[kind] = stack.enter_context(running(kind))
            return started[kind]

        yield of


@pytest.fixture
def database(_databases: Callable[[str], Database]) -> Iterator[Callable[[str], Database]]:
    """Gives the database server of a kind, ``postgresql`` or ``mysql``, shared by all tests of this process.

    A test may stop, kill and pause it: it is up and well again for the next one.
    """
    used: list[Database] = []

    def of(kind: str) -> Database:
        used.append(_databases(kind))
        return used[-1]

    yield of
    for server in used:
        server.resume()
        if not server.running:
            server.start()
