"""TaskFlow's conductors, and watchers of ours, in processes of their own; what the conductors claimed is written down.

Run as a module by :func:`taskflow_process` and :func:`watcher_process`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskflow.conductors import backends as taskflow_conductors
from taskflow.jobs.backends import impl_zookeeper

from conductor_console import jobboards, persistence
from conductor_console.jobboards.base import BoardEvent, Claim, LedgerBoard
from conductor_console.observatory.watcher import Watcher
from tests.flows import append, lines
from tests.servers import kazoo

Process = subprocess.Popen[bytes]


def truth(path: str | Path) -> set[tuple[str, str]]:
    """All claims that TaskFlow's conductors made: (job uuid, claim id)."""
    return {(uuid, claim) for uuid, claim in (line.split() for line in lines(path))}


class Seen:
    """Every claim of conductors of others that a board's listing showed."""

    def __init__(self, board: LedgerBoard) -> None:
        self.claims: set[tuple[str, str]] = set()
        self._board = board
        self.end = board.subscribe(self._hear)

    def _hear(self, event: BoardEvent) -> None:
        if event.kind in ("claimed", "posted") and event.entry is not None and event.entry.claim is not None:
            claim: Claim = event.entry.claim
            if self._board.foreign(claim):
                self.claims.add((event.key, claim.id))


@contextlib.contextmanager
def _process(folder: Path, config: dict[str, Any]) -> Iterator[Process]:
    log = folder / f"{config['name']}.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.watching", json.dumps(config)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()


def taskflow_process(
    hosts: str, path: str, store_url: str, name: str, folder: Path, log: Path, timeout: float = 10.0
) -> contextlib.AbstractContextManager[Process]:
    """A blocking conductor of TaskFlow's; ``log`` gets a line for each claim. :func:`end` stops it in order.

    :param timeout: the session's, in seconds.
    """
    return _process(
        folder,
        {"kind": "taskflow", "hosts": hosts, "path": path, "store": store_url, "name": name, "log": str(log),
         "timeout": timeout},
    )  # fmt: skip


def watcher_process(
    hosts: str, path: str, store_url: str, name: str, folder: Path
) -> contextlib.AbstractContextManager[Process]:
    """A watcher of ours; ``NAME.ready`` comes into being once it watches. :func:`end` stops it in order."""
    return _process(
        folder,
        {"kind": "watcher", "hosts": hosts, "path": path, "store": store_url, "name": name,
         "ready": str(folder / f"{name}.ready")},
    )  # fmt: skip


def end(child: Process) -> int:
    """Tells a process of ours to end in order, and returns its exit code."""
    child.send_signal(signal.SIGTERM)
    return child.wait(60)


class _TellingBoard(impl_zookeeper.ZookeeperJobBoard):
    """TaskFlow's board; each claim is written down with its lock's transaction."""

    log = ""

    def claim(self, job: Any, who: str) -> None:
        super().claim(job, who)
        stat = self._client.exists(job.lock_path)
        append(self.log, f"{job.uuid} {hex(stat.czxid)}")


def main(text: str) -> None:
    """Runs what the configuration wants until SIGTERM comes."""
    config = json.loads(text)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    store = persistence.fetch(config["store"])
    if config["kind"] == "watcher":
        board = jobboards.fetch(f"zk://{config['hosts']}{config['path']}", name=config["name"])
        board.connect()
        watcher = Watcher(board, store)
        watcher.start()
        Path(config["ready"]).touch()
        over.wait()
        watcher.stop()
        board.close()
        return
    with kazoo(config["hosts"], config["timeout"]) as client:
        conf = {"path": config["path"], "check_compatible": False}
        board = _TellingBoard("tf", conf, client=client, persistence=store)
        board.log = config["log"]
        board.connect()
        conductor = taskflow_conductors.fetch(
            "blocking", config["name"], board, persistence=store, wait_timeout=0.05, engine="serial"
        )
        thread = threading.Thread(target=conductor.run)
        thread.start()
        over.wait()
        conductor.stop()
        thread.join()
        board.close()


if __name__ == "__main__":
    main(sys.argv[1])
