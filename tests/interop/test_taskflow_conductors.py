"""TaskFlow's own conductor tests (shipped in its package) on our conductors: on a board of ours, and on TaskFlow's."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow import test as taskflow_test
from taskflow.conductors import backends
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


class _OnZookeeper(_Suite):
    @pytest.fixture(autouse=True)
    def _with_server(self, zookeeper: Zookeeper) -> None:
        self.server = zookeeper


class _OnOurZookeeper(_OnZookeeper):
    def board(self, store: Any) -> Any:
        conf = {"board": "zookeeper", "hosts": self.server.hosts, "path": f"/t{uuid.uuid4().hex}/jobs"}
        board = jobboards.fetch(conf, persistence=store)
        self.addCleanup(board.close)
        board.ensure()
        return board


class _OnTaskflows(_OnZookeeper):
    """Without a ledger, as TaskFlow's own conductor works."""

    def board(self, store: Any) -> Any:
        client: KazooClient = make_client(self.server.hosts)
        self.addCleanup(end_client, client)
        conf = {"path": f"/t{uuid.uuid4().hex}/jobs", "check_compatible": False}
        return impl_zookeeper.ZookeeperJobBoard("testing", conf, client=client, persistence=store)

    # It breaks TaskFlow's board from within; what is the same for ours is in the fleet's tests.
    test_run_survives_transient_jobboard_failure = _Theirs.test_run_survives_transient_jobboard_failure


class TestBlockingOnOurs(_OnOurs):
    """One job at a time."""


class TestNonBlockingOnOurs(_OnOurs):
    """Several at a time."""

    kind = "nonblocking"


class TestOneThreadOnOurs(_OnOurs):
    """In an executor that the caller made."""

    kind = "nonblocking"
    options = {"executor_factory": _one_thread}  # noqa: RUF012


class TestBlockingOnOurZookeeper(_OnOurZookeeper):
    pass


class TestNonBlockingOnOurZookeeper(_OnOurZookeeper):
    kind = "nonblocking"


class TestOneThreadOnOurZookeeper(_OnOurZookeeper):
    kind = "nonblocking"
    options = {"executor_factory": _one_thread}  # noqa: RUF012


class TestBlockingOnTaskflows(_OnTaskflows):
    pass


class TestNonBlockingOnTaskflows(_OnTaskflows):
    kind = "nonblocking"


class TestOneThreadOnTaskflows(_OnTaskflows):
    kind = "nonblocking"
    options = {"executor_factory": _one_thread}  # noqa: RUF012


@pytest.mark.parametrize("bad", [{"wait_timeout": "testing"}, {"executor_factory": "testing"}])
def test_what_makes_no_sense_is_refused_as_taskflow_does(bad: dict[str, Any], tmp_path: Path) -> None:
    """TaskFlow's ``NonBlockingExecutorTest``, by its own ``fetch``."""
    board = jobboards.fetch({"board": "sqlite", "path": str(tmp_path / "board.db")})
    with pytest.raises(ValueError, match=r"must be|testing"):
        backends.fetch("cc-nonblocking", "testing", board, **bad)


# Not to be collected by themselves.
del _Suite, _OnOurs, _OnZookeeper, _OnOurZookeeper, _OnTaskflows, _Theirs
