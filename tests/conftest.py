"""Fixtures of every test: the one ZooKeeper of this (worker) process, and a namespace of it for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.servers import Zookeeper, running_zookeeper


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
