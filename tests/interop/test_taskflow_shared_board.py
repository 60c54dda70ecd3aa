"""Our conductors and TaskFlow's at work on one board and one database, a process each."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from taskflow import states

from tests.integration.conducting import ROOT, process, rig
from tests.servers import Zookeeper
from tests.support import eventually

NUMBER = 300
#: Seconds; longer than a busy machine lets anybody wait: who loses a session runs a job that another runs as well.
SESSION = 30.0


@contextlib.contextmanager
def theirs(hosts: str, path: str, connection: str, log: Path) -> Iterator[None]:
    """TaskFlow's conductor, board and store, with nothing of ours in its process."""
    arguments = [hosts, path, str(SESSION), connection]
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.interop.taskflow_process", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield
    finally:
        child.kill()
        child.wait()


def test_one_board_is_drained_together(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    """Each job is done once, whoever does it, and all that is left is in the store."""
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path, "timeout": SESSION}
    url = f"sqlite:///{tmp_path / 'flows.db'}"
    with rig(conf, tmp_path) as here:
        with (
            theirs(zookeeper.hosts, zk_path, url, tmp_path / "theirs.log"),
            process(conf, url, "c1", tmp_path),
            process(conf, url, "c2", tmp_path, kind="nonblocking", max_simultaneous_jobs=2),
        ):
            # Posted while they start: a process takes longer to begin than to do a hundred jobs.
            details = [here.post("line", here.effects, f"effect-{each}")[1] for each in range(NUMBER)]
            eventually(lambda: not here.board.listing().jobs, what="the board to be empty", timeout=120)
            assert here.board.listing().binned == {}
            with zookeeper.kazoo() as client:
                assert client.get_children(zk_path) == []
            assert sorted(here.done()) == sorted(f"effect-{each}" for each in range(NUMBER))
            assert {here.store.flow_state(detail.uuid) for detail in details} == {states.SUCCESS}
        closed = [row for row in here.store.journal() if row.kind == "attempt"]
        assert {(row.conductor, row.to_state) for row in closed} == {("c1", "consumed"), ("c2", "consumed")}
        ours = {row.flow_uuid for row in closed}
        assert len(ours) == len(closed)
        assert 0 < len(ours) < NUMBER, "TaskFlow's conductor, which keeps no journal, had its part"
        assert {row.flow_uuid for row in here.store.journal()} == ours
