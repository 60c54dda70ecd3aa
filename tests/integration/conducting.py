"""What tests of conductors share: a board and a store, conductors in threads, and what became of a job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskflow.conductors import backends as taskflow_conductors
from taskflow.jobs.backends import impl_zookeeper
from taskflow.persistence.backends import impl_memory

from conductor_console import conductors, jobboards, persistence
from conductor_console.jobboards.attempts import Policy
from conductor_console.jobboards.base import BinEntry, LedgerBoard
from conductor_console.persistence.journal import JournalRow
from tests import flows
from tests.servers import Zookeeper
from tests.support import eventually

ROOT = Path(__file__).parents[2]
#: Tried again almost at once.
QUICK = Policy(base=0.05, cap=0.4, jitter=0.0)


def memory_store() -> Any:
    """TaskFlow's own backend in memory: no journal, nothing to flush."""
    backend = impl_memory.MemoryBackend()
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    return backend


@contextlib.contextmanager
def sql_store(path: Path) -> Iterator[Any]:
    """Our store in a SQLite file."""
    backend = persistence.fetch(f"sqlite:///{path}")
    try:
        backend.ensure()
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def board_at(conf: dict[str, Any], store: Any, **options: Any) -> Iterator[LedgerBoard]:
    """A board of ours, made where it is missing, connected."""
    board: LedgerBoard = jobboards.fetch(conf, name="test", persistence=store, **options)
    try:
        board.ensure()
        board.connect()
        yield board
    finally:
        board.close()


class Running:
    """A conductor in a thread of its own, with all it told, in order."""

    def __init__(self, conductor: Any) -> None:
        self.conductor = conductor
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.error: BaseException | None = None
        conductor.notifier.register("*", lambda event, details: self.told.append((event, details)))
        self._thread = threading.Thread(target=self._run, name=f"test-{conductor._name}", daemon=True)

    def _run(self) -> None:
        try:
            self.conductor.run()
        except BaseException as error:  # a test looks at it
            self.error = error

    def start(self) -> Running:
        self._thread.start()
        return self

    def closed(self) -> list[dict[str, Any]]:
        """The attempts it closed so far."""
        return [details for event, details in list(self.told) if event == "attempt_closed"]

    def events(self) -> list[str]:
        return [event for event, _ in list(self.told)]

    def stop(self, timeout: float = 30.0) -> None:
        self.conductor.stop()
        if self._thread.ident is None:
            return
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the conductor would not stop"


@dataclass
class Rig:
    """One board object and one store, and whatever conductors a test runs on them."""

    board: Any
    store: Any
    folder: Path
    running: list[Running] = field(default_factory=list)

    @property
    def effects(self) -> str:
        """The file that flows tell what they did."""
        return str(self.folder / "effects")

    def done(self) -> list[str]:
        return flows.lines(self.effects)

    def post(self, factory: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        return flows.post(self.board, self.store, factory, *args, **options)

    def conductor(self, name: str = "c1", kind: str = "blocking", **options: Any) -> Running:
        """A conductor of ours, not started."""
        options.setdefault("policy", QUICK)
        made = conductors.fetch(kind, name, self.board, persistence=self.store, **options)
        self.running.append(Running(made))
        return self.running[-1]

    def start(self, name: str = "c1", kind: str = "blocking", **options: Any) -> Running:
        return self.conductor(name, kind, **options).start()

    def gone(self, job: Any) -> None:
        """Waits until the job is neither on the board nor in the bin."""
        eventually(lambda: job.uuid not in self.board.listing().jobs, what="the job to leave the board")
        assert job.uuid not in self.board.listing().binned

    def in_bin(self, job: Any) -> BinEntry:
        """Waits until it is in the bin."""
        return eventually(lambda: self.board.listing().binned.get(job.uuid), what="the job to be in the bin")

    def released(self, job: Any, attempts: int = 1) -> Any:
        """Waits until nobody holds it, after so many closed attempts. Returns its record."""

        def record() -> Any:
            entry = self.board.listing().jobs.get(job.uuid)
            if entry is None or entry.claim is not None or entry.record is None:
                return None
            return entry.record if entry.record.attempts >= attempts and entry.record.open_attempt is None else None

        return eventually(record, what=f"{attempts} attempts and nobody at it")

    def attempt_rows(self, job: Any) -> list[JournalRow]:
        return [row for row in self.store.journal(job_uuid=job.uuid) if row.kind == "attempt"]

    def stop(self) -> None:
        for running in self.running:
            running.stop()


@contextlib.contextmanager
def taskflows_board(server: Zookeeper, path: str, store: Any) -> Iterator[Any]:
    """TaskFlow's own board, on a client of its own."""
    with server.kazoo() as client:
        conf = {"path": path, "check_compatible": False}
        board = impl_zookeeper.ZookeeperJobBoard("tf", conf, client=client, persistence=store)
        board.connect()
        try:
            yield board
        finally:
            board.close()


def taskflows_conductor(name: str, board: Any, store: Any) -> Running:
    return Running(taskflow_conductors.fetch("blocking", name, board, persistence=store, wait_timeout=0.05))


@contextlib.contextmanager
def rig(conf: dict[str, Any], folder: Path) -> Iterator[Rig]:
    """A rig on a board of ours and a SQLite store of ours."""
    with sql_store(folder / "flows.db") as store, board_at(conf, store) as board:
        made = Rig(board, store, folder)
        try:
            yield made
        finally:
            made.stop()


@contextlib.contextmanager
def process(
    conf: dict[str, Any], store_url: str, name: str, folder: Path, kind: str = "blocking", **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A conductor in a process of its own, killed on leaving; what it prints goes to a file of its name.

    :param kind: ``blocking`` or ``nonblocking``.
    """
    config = json.dumps({"conf": conf, "store": store_url, "name": name, "kind": kind, "options": options})
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.conducting", config],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


class Nursery:
    """Conductors in processes of their own, many and at once: a process that has all loaded forks each."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "nursery.log").open("ab")
        self._parent = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.conducting"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def start(self, config: Mapping[str, Any]) -> int:
        """A child that does what :func:`main` is told; returns its process id."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{json.dumps(config)}\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        """Kills all that are left."""
        self._parent.communicate(timeout=30)
        self._log.close()


def nurse() -> None:
    """What :class:`Nursery` runs: a line of configuration each, until there are no more."""
    # Nobody waits for the children, and they must not stay as zombies: a process that is one looks alive.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    children = []
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                main(line)
            except BaseException:  # this is the end of it, whatever it is
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
        print(child, flush=True)  # noqa: T201 - the answer
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def main(config: str) -> None:
    """What :func:`process` runs."""
    wanted = json.loads(config)
    store = persistence.fetch(wanted["store"])
    conf, name, options = wanted["conf"], wanted["name"], dict(wanted["options"])
    board = jobboards.fetch(conf, name="child", persistence=store)
    board.connect()
    options["policy"] = Policy(**options["policy"]) if "policy" in options else QUICK
    made = conductors.fetch(wanted["kind"], name, board, persistence=store, **options)
    if "claims" in wanted:

        def taken(_event: str, details: Any) -> None:
            flows.append(wanted["claims"], f"{details['job'].uuid} {os.getpid()}")

        made.notifier.register("compilation_start", taken)
    made.run()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        nurse()
