"""How soon a job that is posted on an idle board is claimed, and what an idle conductor asks for.

One conductor each, ours and TaskFlow's (which looks each half second), waits on an empty board; jobs are posted one
at a time, each when the one before it is gone, and the time runs from the request that posts it to the event that its
lock is there. The floor is a client that only watches the board, lists it, reads what is new and claims it, a request
each; beside it stand the round trips of one read and of one write, which the server syncs to its disk. What an idle
conductor of ours sends is listened to on the wire, on a big board of which a part is claimed and the rest is held;
TaskFlow's, which knows no holds, gets the claimed part alone.

    python -m benchmarks.wake [--posts 150] [--peer-posts 12] [--idle-jobs 10000] [--idle-claimed 100]
                              [--idle-seconds 15] [--no-peer] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks import boards, floors, flows, stores
from benchmarks.common import Bench, Report, Servers, checked, spread, told
from benchmarks.crew import Plan, Side, crew
from conductor_console.jobboards.zk_paths import BoardPaths, split_children
from tests.support import eventually
from tests.wire import PING, wire

#: Seconds for which a job is waited for.
PATIENCE: Final = 60.0
SIDES: Final[tuple[tuple[Side, str], ...]] = (("ours", "ours"), ("taskflow", "TaskFlow"))


def round_trips(request: Callable[[], object], count: int) -> list[float]:
    """Seconds that a request takes."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        request()
        taken.append(time.perf_counter() - began)
    return taken


class Bare:
    """A client that claims each posting as soon as it is told of it, and takes it from the board; nothing else."""

    def __init__(self, client: KazooClient, paths: BoardPaths) -> None:
        self._client = client
        self._paths = paths
        self._told = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bare")

    def __enter__(self) -> Bare:
        self._client.get_children(self._paths.board, watch=self._tell)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._told.set()
        self._thread.join()

    def _tell(self, _event: object) -> None:
        self._told.set()

    def _run(self) -> None:
        while self._told.wait() and not self._over.is_set():
            self._told.clear()
            jobs, locked = split_children(self._client.get_children(self._paths.board, watch=self._tell))
            for node in set(jobs) - locked:
                uuid = json.loads(self._client.get(self._paths.job(node))[0])["uuid"]
                checked(floors.claim(self._client, self._paths, node, uuid).commit())
                checked(floors.consume(self._client, self._paths, node, uuid).commit())


class Poster:
    """Posts jobs one by one, and hears when each is claimed.

    The name that a posting will get is known beforehand, since nobody else posts: its lock is watched for before it
    is there, and the time is taken when the event comes in.
    """

    def __init__(self, client: KazooClient, paths: BoardPaths) -> None:
        self._client = client
        self._paths = paths

    def post(self, raw: bytes) -> float:
        """Seconds from the request to the claim; returns when the job is gone."""
        board = self._client.exists(self._paths.board)
        # The board's counter: every child that was ever made, locks as well.
        node = boards.node((board.cversion + board.numChildren) // 2)
        claimed = threading.Event()
        at = [0.0]

        def seen(_event: object) -> None:
            at[0] = time.perf_counter()
            claimed.set()

        self._client.exists(self._paths.lock(node), watch=seen)
        began = time.perf_counter()
        name = self._client.create(self._paths.posting, raw, sequence=True)
        if name != self._paths.job(node):
            raise RuntimeError(f"the posting is called {name}: somebody else posts here")
        if not claimed.wait(PATIENCE):
            raise RuntimeError(f"nobody claimed {name} within {PATIENCE:g} s")
        eventually(
            lambda: self._client.exists(self._paths.board).numChildren == 0, PATIENCE, f"{name} to leave the board"
        )
        return at[0] - began


def posted(client: KazooClient, paths: BoardPaths, books: Sequence[Any], longest: float) -> list[float]:
    """How long each posting waited, posted at any moment up to so many seconds after the one before it was gone; the
    first, which loads code, is left out.
    """
    phase, poster, taken = random.Random(1), Poster(client, paths), []
    for book in books:
        # So that whoever looks in a rhythm is met at any moment of it.
        time.sleep(phase.uniform(0.01, longest))
        taken.append(poster.post(flows.posting_for(book)))
    return taken[1:]


def bare(servers: Servers, client: KazooClient, posts: int) -> list[float]:
    """How long each posting waited for the floor."""
    paths = BoardPaths(servers.board())
    boards.make(client, paths)
    with servers.zookeeper.kazoo(timeout=60.0) as other, Bare(other, paths):
        return posted(client, paths, [flows.book(number) for number in range(posts + 1)], 0.06)


def wakes(servers: Servers, client: KazooClient, plan: Plan, posts: int) -> list[float]:
    """How long each posting waited for a conductor."""
    paths = BoardPaths(servers.board())
    boards.make(client, paths)
    with stores.made(servers, "sqlite") as store:
        books = [flows.book(number) for number in range(posts + 1)]
        flows.save(store.engine, books)
        board = {"board": "zookeeper", "hosts": servers.zookeeper.hosts, "path": paths.board}
        with crew(Plan(plan.side, board, store.url)):
            return posted(client, paths, books, 0.06 if plan.side == "ours" else 0.6)


def idle(servers: Servers, client: KazooClient, plan: Plan, jobs: int, claimed: int, seconds: float) -> Counter[int]:
    """What an idle conductor asks for in so many seconds, by ZooKeeper's numbers."""
    paths = BoardPaths(servers.board())
    boards.fill(
        client,
        paths,
        jobs,
        claimed=lambda number: number < claimed,
        recorded=lambda number: boards.held(boards.job_uuid(number)) if number >= claimed else None,
    )
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(stores.made(servers, "sqlite"))
        listened = stack.enter_context(wire(servers.zookeeper.hosts))
        board = {"board": "zookeeper", "hosts": listened.hosts, "path": paths.board}
        stack.enter_context(crew(Plan(plan.side, board, store.url)))
        # What belongs to the start is over when nothing but pings came for a moment, or never is.
        before, quiet_by = -1, time.monotonic() + 5.0
        while time.monotonic() < quiet_by and before != (before := len(listened.others())):
            time.sleep(min(1.0, seconds))
        start = len(listened.requests)
        time.sleep(seconds)
        return Counter(listened.requests[start:])


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    with servers.zookeeper.kazoo(timeout=60.0) as client:
        marked = f"{servers.board()}-written"
        client.ensure_path(marked)
        requests: tuple[tuple[str, Callable[[], object], int], ...] = (
            ("read", lambda: client.exists(marked), 20),
            ("write", lambda: client.set(marked, b"x"), 2),
        )
        trips = {}
        for name, request, often in requests:
            trips[name] = spread(round_trips(request, often * options.posts))
            report.add("wake", f"one {name}", f"one round trip of a {name}: {told(trips[name])}", **trips[name])
        floor = spread(bare(servers, client, options.posts))
        report.add("wake", "bare client", f"floor, a bare client, post to claim: {told(floor)}", **floor)
        sides = SIDES if options.peer else SIDES[:1]
        for side, name in sides:
            posts = options.posts if side == "ours" else options.peer_posts
            taken = spread(wakes(servers, client, Plan(side, {}, ""), posts))
            ratio, writes = (round(taken["p50_ms"] / peer["p50_ms"], 2) for peer in (floor, trips["write"]))
            line = f"{name}, post to claim: {told(taken)} ({posts} posts;"
            line += f" p50 is {ratio} of the floor, {writes} round trips of a write)"
            report.add("wake", f"{name}, post to claim", line, **taken, to_floor=ratio, writes=writes)
        for side, name in sides:
            seconds = options.idle_seconds if side == "ours" else min(5.0, options.idle_seconds)
            jobs = options.idle_jobs if side == "ours" else options.idle_claimed
            asked = idle(servers, client, Plan(side, {}, ""), jobs, options.idle_claimed, seconds)
            others = sum(asked.values()) - asked[PING]
            line = f"{name}, idle on {jobs:,} jobs, {options.idle_claimed} of them claimed: {others} requests"
            line += f" and {asked[PING]} pings in {seconds:g} s"
            figures = {"jobs": jobs, "seconds": seconds, "requests": others, "pings": asked[PING]}
            report.add("wake", f"{name}, idle", line, **figures)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--posts", type=int, default=150, metavar="N")
    parser.add_argument("--peer-posts", type=int, default=12, metavar="N", help="of TaskFlow's")
    parser.add_argument("--idle-jobs", type=int, default=10000, metavar="N")
    parser.add_argument("--idle-claimed", type=int, default=100, metavar="N")
    parser.add_argument("--idle-seconds", type=float, default=15.0, metavar="S")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without TaskFlow's")


BENCH = Bench(
    "wake",
    __doc__ or "",
    add_options,
    measure,
    quick={"posts": 2, "idle_jobs": 20, "idle_claimed": 5, "idle_seconds": 0.2, "peer": False},
)

if __name__ == "__main__":
    BENCH.main()
