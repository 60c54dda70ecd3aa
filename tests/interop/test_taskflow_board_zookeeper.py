"""TaskFlow's own jobboard tests (shipped in its package) on our ZooKeeper board.

All of its ZooKeeper tests but one: ``test_posting_dates`` patches a function inside TaskFlow's implementation.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import pytest

from tests.servers import Zookeeper, end_client, make_client

# TaskFlow's test modules look for a server while they are imported, unless told (by this name) what there is.
os.environ.setdefault("TAKSFLOW_TEST_URL", "zookeeper://")

from taskflow import test as taskflow_test
from taskflow.tests.unit.jobs import test_zk_job as taskflow_tests

from conductor_console.jobboards.zookeeper import ZookeeperJobBoard

_Theirs = taskflow_tests.ZookeeperJobboardTest


class TestOnOurBoard(taskflow_test.TestCase, taskflow_tests.ZookeeperBoardTestMixin):
    """TaskFlow's suite: each test on a board of its own."""

    _server: Zookeeper

    @pytest.fixture(autouse=True)
    def _with_server(self, zookeeper: Zookeeper) -> None:
        self._server = zookeeper

    def create_board(self, persistence: Any = None) -> tuple[Any, ZookeeperJobBoard]:
        client = make_client(self._server.hosts)
        self.addCleanup(end_client, client)
        self.path = f"/t{uuid.uuid4().hex}/jobs"
        board = ZookeeperJobBoard("test-board", {"path": self.path}, client=client, persistence=persistence)
        self.addCleanup(board.close)
        # Unlike TaskFlow's, our connect() writes nothing.
        board.ensure()
        return client, board

    def setUp(self) -> None:
        super().setUp()
        self.client, self.board = self.create_board()

    def close_client(self, client: Any) -> None:
        end_client(client)

    def test_posting_dates(self) -> None:
        self.skipTest("patches a function inside TaskFlow's own implementation")

    test_posting_owner_lost = _Theirs.test_posting_owner_lost
    test_posting_state_lock_lost = _Theirs.test_posting_state_lock_lost
    test_trashing_claimed_job = _Theirs.test_trashing_claimed_job
    test_posting_received_raw = _Theirs.test_posting_received_raw
    test_register_entity = _Theirs.test_register_entity


def test_all_of_its_cases_are_here() -> None:
    """But for the one that is skipped by name above."""
    theirs = {name for name in dir(taskflow_tests.ZookeeperJobboardTest) if name.startswith("test_")}
    assert len(theirs) > 20
    assert theirs <= set(dir(TestOnOurBoard))


# Not to be collected as a test of this module.
del _Theirs
