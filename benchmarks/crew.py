"""A process of conductors, ours or TaskFlow's, that benchmarks start, wait for, look at, and end or kill.

python -m benchmarks.crew CONFIG

It says ``ready`` when its conductors are registered, with the postings where it has saved the flows itself (a store in
memory is nobody else's), and ends with its standard input, saying what it counted and how its flows ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import flows
from benchmarks.counting import Counts
from conductor_console.cli import collector
from tests.support import eventually

ROOT = Path(__file__).parents[1]
END_SECONDS = 60.0
Side = Literal["ours", "taskflow"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What conductors to run, on what.

    :ivar side: whose board, store and conductors.
    :ivar store: a URL, or ``memory`` (TaskFlow's), for which ``save`` flows are made in the process itself.
    :ivar workers: conductors of the blocking kind; jobs at once of the one that does not block.
    :ivar poll: seconds between TaskFlow's looks at the board when it found nothing (its default: 0.5).
    :ivar count: count what is asked of the servers.
    """

    side: Side
    board: dict[str, Any]
    store: str
    kind: str = "blocking"
    workers: int = 1
    engine: str = "serial"
    name: str = "crew"
    save: int = 0
    poll: float | None = None
    count: bool = False


class Crew:
    """The process, as its parent sees it."""

    def __init__(self, plan: Plan) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.crew", json.dumps(asdict(plan))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.postings: list[bytes] = []

    def ready(self) -> None:
        """Returns when all its conductors wait for work."""
        self.postings = [posting.encode() for posting in self._read()["postings"]]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the conductors' process ended:\n{self._told()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _told(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:]

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it and what it started have taken so far."""
        return sum(processor_time(pid) for pid in family(self._process.pid))

    def count_anew(self) -> None:
        """What was asked for so far counts no more."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._read()

    def end(self) -> dict[str, Any]:
        """Ends it in order. Returns ``counts``, and ``flows``: how many of a store in memory are in which state."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        answer = self._read()
        if self._process.wait(END_SECONDS) != 0:
            raise RuntimeError(f"the conductors' process failed:\n{self._told()}")
        return answer

    def kill(self) -> None:
        """As ``kill -9``; nothing happens where it has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def crew(plan: Plan) -> Iterator[Crew]:
    """A process that is ready; gone on leaving."""
    made = Crew(plan)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def family(pid: int) -> list[int]:
    """A process and all it started, as far as they live."""
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{member}/task").iterdir():
                members += [int(child) for child in (thread / "children").read_text().split()]
    return members


def processor_time(pid: int) -> float:
    """Seconds of processor time, the system's for it included."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


# -- in the process itself -----------------------------------------------------------------------------------------
def main(config: str) -> None:
    plan = Plan(**json.loads(config))
    # As our command does for itself; TaskFlow's side gets it too.
    collector.tune()
    counts = Counts()
    if plan.count:
        counts.start()
    answer: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(_store(plan))
        books = [flows.book(number) for number in range(plan.save)]
        for book in books:
            with contextlib.closing(store.get_connection()) as connection:
                connection.save_logbook(book)
        stack.enter_context(_ours(plan, store) if plan.side == "ours" else _taskflows(plan, store))
        counts.reset()
        print(json.dumps({"postings": [flows.posting_for(book).decode() for book in books]}), flush=True)
        for _line in sys.stdin:
            counts.reset()
            print("{}", flush=True)
        answer["counts"] = counts.so_far()
        answer["flows"] = _states(store) if plan.save else {}
    print(json.dumps(answer), flush=True)


@contextlib.contextmanager
def _store(plan: Plan) -> Iterator[Any]:
    if plan.side == "ours":
        from conductor_console import persistence

        store = persistence.fetch(plan.store)
    else:
        from taskflow.persistence import backends

        store = backends.fetch({"connection": plan.store})
        if plan.store == "memory":
            with contextlib.closing(store.get_connection()) as connection:
                connection.upgrade()
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def _ours(plan: Plan, store: Any) -> Iterator[None]:
    from conductor_console import jobboards
    from conductor_console.conductors.fleet import Fleet

    blocking = plan.kind == "blocking"
    options: dict[str, Any] = {} if blocking else {"max_simultaneous_jobs": plan.workers}
    board = jobboards.fetch(plan.board, name="bench", persistence=store)
    try:
        board.connect()
        fleet = Fleet(
            board,
            store,
            kind=plan.kind,
            count=plan.workers if blocking else 1,
            prefix=plan.name,
            engine=plan.engine,
            **options,
        )
        fleet.start()
        try:
            names = {worker.name for worker in fleet.workers()}
            eventually(
                lambda: names <= {entity.owner for entity in board.listing().entities.values()},
                timeout=60.0,
                what="the conductors to register",
            )
            yield
        finally:
            fleet.stop(END_SECONDS)
    finally:
        board.close()


@contextlib.contextmanager
def _taskflows(plan: Plan, store: Any) -> Iterator[None]:
    from kazoo.client import KazooClient
    from taskflow.conductors import backends as conductors
    from taskflow.jobs import backends as boards

    blocking = plan.kind == "blocking"
    options = {} if blocking else {"max_simultaneous_jobs": plan.workers}
    client = KazooClient(plan.board["hosts"], timeout=plan.board.get("timeout", 10.0))
    client.start(60.0)
    conf = {"board": "zookeeper", "path": plan.board["path"], "check_compatible": False}
    board = boards.fetch("bench", conf, client=client, persistence=store)
    board.connect()
    made = [
        conductors.fetch(
            plan.kind,
            f"{plan.name}{number}",
            board,
            persistence=store,
            engine=plan.engine,
            wait_timeout=plan.poll,
            **options,
        )
        for number in range(1, 1 + (plan.workers if blocking else 1))
    ]
    threads = [threading.Thread(target=conductor.run, daemon=True) for conductor in made]
    for thread in threads:
        thread.start()
    folder = f"{board.entity_path}/conductor"
    names = {conductor.conductor.name for conductor in made}
    eventually(
        lambda: client.exists(folder) and names <= set(client.get_children(folder)),
        timeout=60.0,
        what="the conductors to register",
    )
    try:
        yield
    finally:
        for conductor in made:
            conductor.stop()
        for thread in threads:
            thread.join(END_SECONDS)
        board.close()
        client.stop()
        client.close()


def _states(store: Any) -> dict[str, int]:
    with contextlib.closing(store.get_connection()) as connection:
        return Counter(str(flow.state) for book in connection.get_logbooks() for flow in book)


if __name__ == "__main__":
    main(sys.argv[1])
