"""TaskFlow's own conductor tests (shipped in its package) on our conductors: on boards of ours, and on TaskFlow's."""

from __future__ import annotations

import unittest
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
import testtools
from taskflow.conductors import backends
from taskflow.jobs.backends import impl_zookeeper
from taskflow.tests import utils as taskflow_utils

from conductor_console import conductors, jobboards
from tests.integration.conducting import memory_store
from tests.servers import end_client, make_client

# Its module looks for a server of its own while it is imported, and waits for one.
_available = taskflow_utils.zookeeper_available
taskflow_utils.zookeeper_available = lambda *_args, **_kwargs: False
try:
    from taskflow.tests.unit import test_conductors as taskflow_tests
finally:
    taskflow_utils.zookeeper_available = _available

#: By name: the kind of conductor and what it is made with, as TaskFlow has them.
SCENARIOS: dict[str, dict[str, Any]] = dict(taskflow_tests.ManyConductorTest.scenarios)
CASES = {
    name: getattr(taskflow_tests.ManyConductorTest, name)
    for name in dir(taskflow_tests.ManyConductorTest)
    if name.startswith("test_")
}
Boards = Callable[["Case", Any], Any]


class Case(taskflow_utils.EngineTestBase, testtools.TestCase):
    """One of TaskFlow's cases. Without its base class, whose fixtures change the whole process: several run at once."""

    board: ClassVar[Any]
    kind: str
    conductor_kwargs: dict[str, Any]

    def make_components(self) -> Any:
        store = memory_store()
        board = self.board(store)
        made = conductors.fetch(self.kind, "testing", board, persistence=store, **self.conductor_kwargs)
        return taskflow_tests.ComponentBundle(board, store, made)


def _ours(conf: dict[str, Any], case: Case, store: Any) -> Any:
    board = jobboards.fetch(conf, persistence=store)
    case.addCleanup(board.close)
    board.ensure()
    # One of the cases lets the board fail once, by what TaskFlow's boards look with.
    board._fetch_jobs = board.candidates
    board.candidates = lambda now: board._fetch_jobs(now)
    return board


@pytest.fixture(params=["sqlite", "zookeeper", "taskflow's zookeeper"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Boards:
    """Makes a board of a case's own."""
    if request.param == "sqlite":
        return lambda case, store: _ours({"board": "sqlite", "path": f"{tmp_path}/{uuid.uuid4()}.db"}, case, store)
    hosts = request.getfixturevalue("zk_hosts")

    def ours(case: Case, store: Any) -> Any:
        return _ours({"board": "zookeeper", "hosts": hosts, "path": f"/t{uuid.uuid4().hex}/jobs"}, case, store)

    def taskflows(case: Case, store: Any) -> Any:
        client = make_client(hosts)
        case.addCleanup(end_client, client)
        conf = {"path": f"/t{uuid.uuid4().hex}/jobs", "check_compatible": False}
        return impl_zookeeper.ZookeeperJobBoard("testing", conf, client=client, persistence=store)

    return ours if request.param == "zookeeper" else taskflows


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_all_of_taskflows_cases(scenario: str, board: Boards) -> None:
    """At once: each waits most of its time, for something not to happen."""
    assert len(CASES) > 10
    made = type("ManyConductorTest", (Case,), {**CASES, **SCENARIOS[scenario], "board": board})

    def run(name: str) -> unittest.TestResult:
        result = unittest.TestResult()
        made(name).run(result)
        return result

    with ThreadPoolExecutor(len(CASES)) as pool:
        results = list(pool.map(run, CASES))
    wrong = [what for result in results for _, what in (*result.errors, *result.failures, *result.skipped)]
    assert not wrong, "\n".join(wrong)
    assert [result.testsRun for result in results] == [1] * len(CASES)


@pytest.mark.parametrize("bad", [{"wait_timeout": "testing"}, {"executor_factory": "testing"}])
def test_what_makes_no_sense_is_refused_as_taskflow_does(bad: dict[str, Any], tmp_path: Path) -> None:
    """TaskFlow's ``NonBlockingExecutorTest``, by its own ``fetch``."""
    board = jobboards.fetch({"board": "sqlite", "path": str(tmp_path / "board.db")})
    with pytest.raises(ValueError, match=r"must be|testing"):
        backends.fetch("cc-nonblocking", "testing", board, **bad)
