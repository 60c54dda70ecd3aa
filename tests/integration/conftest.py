"""A board of each kind with a store beside it, and somebody else's connection to the same board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conductor_console import persistence
from conductor_console.jobboards.base import LedgerBoard
from tests.integration.helpers import opened


@pytest.fixture(params=["sqlite", "zookeeper"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'board.db'}"
    return f"zk://{request.getfixturevalue('zk_hosts')}{request.getfixturevalue('zk_path')}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    backend = persistence.fetch(f"sqlite:///{tmp_path / 'flows.db'}")
    backend.ensure()
    yield backend
    backend.close()


@pytest.fixture
def board(url: str, store: Any) -> Iterator[LedgerBoard]:
    with opened(url, store) as made:
        yield made


@pytest.fixture
def other(url: str, board: LedgerBoard) -> Iterator[LedgerBoard]:
    """Somebody else's connection to the same board."""
    with opened(url, None) as made:
        yield made
