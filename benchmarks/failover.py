"""How soon the job of a conductor that was killed is claimed by another.

Two processes with a conductor each: one runs the job, and is ended by ``kill -9``; the time runs until the other has
claimed it. On ZooKeeper, ours and TaskFlow's, the floor is the session's timeout: before it is over nobody can know. On
SQLite, ours alone: a claim lives as long as its process does.

    python -m benchmarks.failover [--session 2.0] [--rounds 3] [--json FILE]

The rounds of the three take turns. The server looks after sessions in steps of its tick (0.5 s here): some of that is
in what is told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from benchmarks import boards, flows, stores
from benchmarks.common import Bench, Report, Servers, Turn, alternate
from benchmarks.crew import Crew, Plan, Side, crew
from conductor_console import jobboards
from conductor_console.jobboards.zk_paths import BoardPaths
from tests.support import eventually

PATIENCE: Final = 60.0


def turn_of(servers: Servers, plan: Plan, post: Callable[[bytes], object], owner: Callable[[], str | None]) -> float:
    """One death: seconds from the kill to the claim of the one who lives."""
    gate = servers.folder() / "gate"
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(stores.made(servers, "sqlite"))
        book = flows.book(0, flows.GATED, (str(gate),))
        flows.save(store.engine, [book])

        def start(name: str) -> Crew:
            return stack.enter_context(crew(Plan(plan.side, plan.board, store.url, name=name)))

        def claimed_by(name: str) -> bool:
            return (owner() or "").startswith(name)

        first = start("first")
        post(flows.posting_for(book))
        eventually(lambda: claimed_by("first"), PATIENCE, "the first claim")
        start("second")
        first.kill()
        began = time.perf_counter()
        while not claimed_by("second"):
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"nobody claimed the dead one's job within {PATIENCE:g} s")
            time.sleep(0.001)
        taken = time.perf_counter() - began
        gate.touch()
        eventually(lambda: store.states() == {"SUCCESS": 1}, PATIENCE, "the flow to end")
        eventually(lambda: owner() is None, PATIENCE, "the job to leave")
        return taken


def on_zookeeper(servers: Servers, client: KazooClient, side: Side, session: float) -> Turn:
    def turn() -> float:
        paths = BoardPaths(servers.board())
        boards.make(client, paths)
        conf = {"board": "zookeeper", "hosts": servers.zookeeper.hosts, "path": paths.board, "timeout": session}

        def owner() -> str | None:
            locks = [name for name in client.get_children(paths.board) if name.endswith(".lock")]
            return None if not locks else client.get(f"{paths.board}/{locks[0]}")[0].decode().partition('": "')[2]

        return turn_of(
            servers,
            Plan(side, conf, ""),
            lambda raw: client.create(paths.posting, raw, sequence=True),
            # It may go between the two requests.
            lambda: _unless_gone(owner),
        )

    return turn


def _unless_gone(ask: Callable[[], str | None]) -> str | None:
    try:
        return ask()
    except NoNodeError:
        return None


def on_sqlite(servers: Servers) -> Turn:
    def turn() -> float:
        path = servers.folder() / "board.db"
        with _sqlite_board(path) as board:

            def post(raw: bytes) -> None:
                made = json.loads(raw)
                board.post(made["name"], book=_Book(made["book"]), details=made["details"])

            def owner() -> str | None:
                claims = [entry.claim for entry in board.listing().jobs.values()]
                return next((claim.owner for claim in claims if claim is not None), None)

            return turn_of(servers, Plan("ours", {"board": "sqlite", "path": str(path)}, ""), post, owner)

    return turn


class _Book:
    """A logbook's name and uuid, which is all that a board wants of it."""

    def __init__(self, made: dict[str, str]) -> None:
        self.name = made["name"]
        self.uuid = made["uuid"]


@contextlib.contextmanager
def _sqlite_board(path: Path) -> Iterator[Any]:
    board = jobboards.fetch({"board": "sqlite", "path": str(path)}, name="bench")
    try:
        board.ensure()
        board.connect()
        yield board
    finally:
        board.close()


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    with servers.zookeeper.kazoo(timeout=60.0) as client:
        every = {
            "zookeeper": ("ours on ZooKeeper", on_zookeeper(servers, client, "ours", options.session)),
            "sqlite": ("ours on SQLite", on_sqlite(servers)),
            "taskflow": ("TaskFlow on ZooKeeper", on_zookeeper(servers, client, "taskflow", options.session)),
        }
        contenders = dict(every[name] for name in options.contenders)
        for name, measured in alternate(contenders, options.rounds, warm=False).items():
            line = f"{name}: {measured.median:.2f} s ({', '.join(f'{one:.2f}' for one in measured.turns)})"
            figures: dict[str, object] = {"seconds": [round(one, 3) for one in measured.turns]}
            if "ZooKeeper" in name:
                line += f"; the floor, a session's timeout: {options.session:.2f} s"
                figures["floor"] = options.session
            report.add("failover", name, line, median=round(measured.median, 3), **figures)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", type=float, default=2.0, metavar="S", help="the session's timeout")
    contenders = ("zookeeper", "sqlite", "taskflow")
    parser.add_argument("--contenders", nargs="+", choices=contenders, default=list(contenders))


BENCH = Bench("failover", __doc__ or "", add_options, measure, quick={"contenders": ["sqlite"]})

if __name__ == "__main__":
    BENCH.main()
