"""TaskFlow's own conductor tests (shipped in its package) on our conductors: on a board of ours, and on TaskFlow's."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow import test as taskflow_test
from taskflow.jobs.backends import impl_zookeeper
from taskflow.tests import utils as taskflow_utils

from conductor_console import conductors, jobboards
from tests.integration.conducting import memory_store
from tests.servers import Zookeeper, end_client, make_client

# Its module looks for a server of its own while it is imported, and waits for one.
_available = taskflow_utils.zookeeper_available
taskflow_utils.zookeeper_available = lambda *_args, **_kwargs: False
try:
    from taskflow.tests.unit import test_conductors as taskflow_tests
finally:
    taskflow_utils.zookeeper_available = _available

_Theirs = taskflow_tests.ManyConductorTest
_bundle = taskflow_tests.ComponentBundle
_one_thread = taskflow_tests.single_factory


class _Suite(taskflow_utils.EngineTestBase, taskflow_test.TestCase):
    """All of TaskFlow's tests of conductors, on whatever :meth:`board` gives."""

    kind = "blocking"
    options: dict[str, Any] = {}  # noqa: RUF012 - as TaskFlow's scenarios have it

    def board(self, store: Any) -> Any:
        raise NotImplementedError

    def make_components(self) -> Any:
        store = memory_store()
        board = self.board(store)
        made = conductors.fetch(self.kind, "testing", board, persistence=store, wait_timeout=0.1, **self.options)
        return _bundle(board, store, made)

    test_connection = _Theirs.test_connection
    test_run_empty = _Theirs.test_run_empty
    test_run = _Theirs.test_run
    test_run_max_dispatches = _Theirs.test_run_max_dispatches
    test_fail_run = _Theirs.test_fail_run
    test_missing_store = _Theirs.test_missing_store
    test_job_store = _Theirs.test_job_store
    test_flowdetails_store = _Theirs.test_flowdetails_store
    test_combined_store = _Theirs.test_combined_store
    test_stop_aborts_engine = _Theirs.test_stop_aborts_engine


class _OnOurs(_Suite):
    @pytest.fixture(autouse=True)
    def _with_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def board(self, store: Any) -> Any:
        board = jobboards.fetch({"board": "sqlite", "path": str(self.folder / "board.db")}, persistence=store)
        self.addCleanup(board.close)
        board.ensure()
        return board


class TestBlockingOnOurs(_OnOurs):
    """One job at a time."""


class TestNonBlockingOnOurs(_OnOurs):
    """Several at a time."""

    kind = "nonblocking"


class TestOneThreadOnOurs(_OnOurs):
    """In an executor that the caller made."""

    kind = "nonblocking"
    options = {"executor_factory": _one_thread}  # noqa: RUF012


class TestBlockingOnTaskflows(_Suite):
    """Without a ledger, as TaskFlow's own conductor works."""

    @pytest.fixture(autouse=True)
    def _with_server(self, zookeeper: Zookeeper) -> None:
        self.server = zookeeper

    def board(self, store: Any) -> Any:
        client: KazooClient = make_client(self.server.hosts)
        self.addCleanup(end_client, client)
        conf = {"path": f"/t{uuid.uuid4().hex}/jobs", "check_compatible": False}
        return impl_zookeeper.ZookeeperJobBoard("testing", conf, client=client, persistence=store)

    test_run_survives_transient_jobboard_failure = _Theirs.test_run_survives_transient_jobboard_failure


# Not to be collected by themselves.
del _Suite, _OnOurs, _Theirs
