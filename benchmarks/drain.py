"""How fast conductors empty a board: three trivial tasks a job, everything durable.

Ours, both kinds, serial and parallel engine, with one worker and with many, in one process and in several, on
ZooKeeper and SQLite (and PostgreSQL, where it is installed), against TaskFlow's own conductors at their best settings
on the same ZooKeeper: on its SQL backend, in the same databases, and on its in-memory store, which keeps nothing. The
floor does with raw requests what the same guarantees need.

    python -m benchmarks.drain [--jobs 200] [--workers 16] [--curve 1 32] [--rounds 3] [--no-peer] [--json FILE]

Each turn is a fresh process on a fresh board: it registers its conductors, then all jobs are posted in a burst, and
the time runs until the board is empty. CPU is that process's and its children's, the servers' not among it. Commits
and requests are counted in a turn of their own. After each turn all flows have to be SUCCESS, the board and the bin
empty. TaskFlow is given fewer jobs, since it is slower; jobs a second are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from kazoo.client import KazooClient
from taskflow import engines

from benchmarks import command, floors, flows, stores
from benchmarks.common import Bench, Report, Servers, checked
from benchmarks.crew import Crew, Plan, crew
from conductor_console.cli import collector
from conductor_console.jobboards.zk_paths import BoardPaths

#: Postings in one transaction.
BURST: Final = 100
#: Seconds between TaskFlow's looks at a board where it found nothing: shorter than its default, which helps it.
POLL: Final = 0.05
#: TaskFlow's settings that are tried, by engine: one conductor that blocks; one that runs so many jobs at once (more
#: than four only stand in each other's way, but where each flow waits for a second for its threads to end).
PEERS: Final = {
    "serial": (("blocking", 1), ("nonblocking", 4)),
    "parallel": (("blocking", 1), ("nonblocking", 16)),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to drain a board, on a kind of store (sqlite, postgresql, memory).

    :ivar processes: how many of the command line's; None: the library's conductors in one process.
    """

    name: str
    plan: Plan | None
    database: str
    jobs: int
    processes: int | None = None


@dataclass(frozen=True, slots=True)
class Drained:
    """One turn. ``cpu`` in seconds; ``counts`` where they were counted."""

    jobs: int
    seconds: float
    cpu: float
    counts: Mapping[str, int]

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


class Places:
    """Boards and stores for turns."""

    def __init__(self, servers: Servers, client: KazooClient) -> None:
        self.servers = servers
        self.client = client

    def board(self) -> BoardPaths:
        paths = BoardPaths(self.servers.board())
        for folder in (paths.board, paths.trash, paths.conductors, paths.attempts):
            self.client.ensure_path(folder)
        return paths

    def post(self, paths: BoardPaths, postings: list[bytes]) -> None:
        """All of them, in as few transactions as they fit in."""
        for first in range(0, len(postings), BURST):
            burst = self.client.transaction()
            for raw in postings[first : first + BURST]:
                burst.create(paths.posting, raw, sequence=True)
            checked(burst.commit())

    def until_empty(self, paths: BoardPaths, patience: float) -> None:
        deadline = time.monotonic() + patience
        while (left := self.client.exists(paths.board).numChildren) > 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the board is not empty after {patience:g} s: {left} nodes are left")
            time.sleep(0.002)

    def check(self, paths: BoardPaths, states: Mapping[str, int], jobs: int) -> None:
        """:raises RuntimeError: when not every job ended well."""
        binned = self.client.get_children(paths.trash)
        if dict(states) != {"SUCCESS": jobs} or binned:
            raise RuntimeError(f"of {jobs} jobs not all ended well: {dict(states)}, {len(binned)} in the bin")


def drained(places: Places, contender: Contender, *, count: bool = False) -> Drained:
    """One turn."""
    paths, jobs = places.board(), contender.jobs
    # What is done once a process (imports, statements compiled) is done before the time runs.
    first = 0 if contender.plan is None else contender.plan.workers
    with contextlib.ExitStack() as stack:
        plan = contender.plan
        memory = contender.database == "memory"
        store = None if memory else stack.enter_context(stores.made(places.servers, contender.database))
        postings: list[bytes] = []
        if store is not None:
            books = [flows.book(number) for number in range(first + jobs)]
            flows.save(store.engine, books)
            postings = [flows.posting_for(book) for book in books]
        if plan is None:
            return floor_turn(places, paths, store, postings)
        url = "memory" if store is None else store.url
        board = {"board": "zookeeper", "hosts": places.servers.zookeeper.hosts, "path": paths.board}
        plan = replace(plan, board=board, store=url, save=first + jobs if memory else 0, count=count)
        at_work: Crew | command.Command
        if contender.processes is None:
            at_work = stack.enter_context(crew(plan))
            postings = postings or at_work.postings
        else:
            at_work = stack.enter_context(command.command(plan, contender.processes, paths, places.client))
        for some in (postings[:first], postings[first:]):
            at_work.count_anew()
            cpu, began = at_work.cpu, time.perf_counter()
            places.post(paths, some)
            places.until_empty(paths, patience=60.0 + 5.0 * jobs)
            seconds, cpu = time.perf_counter() - began, at_work.cpu - cpu
        answer = at_work.end()
        places.check(paths, store.states() if store is not None else answer["flows"], first + jobs)
        return Drained(jobs, seconds, cpu, answer["counts"] if count else {})


def floor_turn(places: Places, paths: BoardPaths, store: stores.Store | None, postings: list[bytes]) -> Drained:
    """The raw requests and commits for the jobs, so many side by side as we have workers."""
    assert store is not None
    places.post(paths, postings)
    with places.servers.zookeeper.kazoo() as client, contextlib.closing(store.raw()) as raw:
        work = floors.Drain(client, paths, raw)
        cpu, began = time.process_time(), time.perf_counter()
        work.run()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    places.check(paths, store.states(), len(postings))
    return Drained(len(postings), seconds, cpu, {"commits": work.commits, "requests": work.requests})


def ours(kind: str = "blocking", workers: int = 16, engine: str = "serial") -> Plan:
    return Plan("ours", {}, "", kind=kind, workers=workers, engine=engine)


def peers(database: str, jobs: int, engine: str = "serial", *, kinds: int) -> list[Contender]:
    """TaskFlow's conductors, so many of those in :data:`PEERS`."""
    if jobs == 0:
        return []
    return [
        Contender(
            f"TaskFlow {kind} ×{workers}, {engine}, {database}",
            Plan("taskflow", {}, "", kind=kind, workers=workers, engine=engine, poll=POLL),
            database,
            jobs * workers if engine == "parallel" else jobs,
        )
        for kind, workers in PEERS[engine][:kinds]
    ]


def turns(
    places: Places, contenders: list[Contender], rounds: int, beside: Callable[[], object]
) -> dict[str, list[Drained]]:
    """Each contender's turns, A B A B, with ``beside`` done before each round."""
    done: dict[str, list[Drained]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        beside()
        for contender in contenders:
            done[contender.name].append(drained(places, contender))
    return done


def rate(done: list[Drained]) -> float:
    return statistics.median(turn.rate for turn in done)


def compare(places: Places, options: argparse.Namespace, report: Report, title: str, mine: Contender,
            others: list[Contender]) -> None:  # fmt: skip
    """Our way against others, the floor and TaskFlow's engine alone among them."""
    floor = Contender(f"the floor, {mine.database}", None, mine.database, options.jobs)
    alone: list[float] = []
    done = turns(places, [mine, *others, floor], options.rounds, lambda: alone.append(engine_alone(options.jobs)))
    counted = drained(places, replace(mine, jobs=options.counted_jobs), count=True) if mine.processes is None else None
    result: dict[str, Any] = {
        "jobs": mine.jobs,
        "rounds": options.rounds,
        "jobs_per_second": {name: round(rate(of), 2) for name, of in done.items()},
        "cpu_ms_per_job": {
            name: round(statistics.median(1000 * turn.cpu / turn.jobs for turn in of), 3) for name, of in done.items()
        },
        "ours_to_floor": round(rate(done[mine.name]) / rate(done[floor.name]), 3),
        "engine_alone_cpu_ms_per_job": round(1000 * statistics.median(alone), 3),
    }
    line = f"{title}: {rate(done[mine.name]):.0f} jobs/s, {result['cpu_ms_per_job'][mine.name]:.2f} ms of CPU a job"
    line += f" (TaskFlow's serial engine alone: {result['engine_alone_cpu_ms_per_job']:.2f})"
    if counted is not None:
        per_job = {name: round(number / counted.jobs, 2) for name, number in counted.counts.items()}
        result["per_job"] = per_job
        line += f", {per_job['commits']:.2f} commits, {per_job['requests']:.2f} ZooKeeper requests a job"
    line += f"; {result['ours_to_floor']:.2f} of the floor's {rate(done[floor.name]):.0f} jobs/s"
    for database in dict.fromkeys(other.database for other in others):
        best = max((other.name for other in others if other.database == database), key=lambda name: rate(done[name]))
        ratio = rate(done[mine.name]) / rate(done[best])
        result.setdefault("ours_to_best", {})[database] = {"best": best, "ratio": round(ratio, 2)}
        line += f"; {ratio:.1f}x {best} ({rate(done[best]):.1f} jobs/s)"
    report.add("drain", title, line, **result)


def engine_alone(count: int) -> float:
    """Seconds of processor time that TaskFlow's serial engine takes for one such flow, nothing stored anywhere."""
    # As everybody's in their processes.
    collector.tune()
    began = 0.0
    # The first ones, for which code is loaded, are left out.
    for number in range(-count // 10, count):
        if number == 0:
            began = time.process_time()
        engines.load(flows.trivial(), engine="serial").run()
    return (time.process_time() - began) / count


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    jobs, workers = options.jobs, options.workers
    peer = partial(peers, kinds=options.peer_kinds)
    with servers.zookeeper.kazoo() as client:
        places = Places(servers, client)

        def against(title: str, mine: Contender, others: list[Contender]) -> None:
            compare(places, options, report, title, mine, others)

        against(
            f"SQLite, serial, {workers} workers",
            Contender("ours", ours(workers=workers), "sqlite", jobs),
            [*peer("sqlite", options.peer_jobs), *peer("memory", options.memory_jobs)],
        )
        if "kinds" in options.parts:
            plan = ours("nonblocking", workers)
            against(f"SQLite, serial, nonblocking ×{workers}", Contender("ours", plan, "sqlite", jobs), [])
        if "parallel" in options.parts:
            plan = ours(workers=workers, engine="parallel")
            mine = Contender("ours", plan, "sqlite", jobs)
            against(
                f"SQLite, parallel engine, {workers} workers", mine, peer("sqlite", options.parallel_jobs, "parallel")
            )
        if "processes" in options.parts:
            if command.knows_processes():
                mine = Contender("ours", ours(workers=workers), "sqlite", jobs, processes=2)
                against(f"SQLite, serial, `run --processes 2`, {workers} workers each", mine, [])
            else:
                report.say("  `run` has no --processes here: left out")
        if "postgresql" in options.parts:
            if servers.no_postgresql is None:
                mine = Contender("ours", ours(workers=workers), "postgresql", jobs)
                against(f"PostgreSQL, serial, {workers} workers", mine, peer("postgresql", options.peer_jobs))
            else:
                report.say(f"  {servers.no_postgresql}: left out")
        for count in options.curve:
            fewer = max(options.counted_jobs, min(jobs, jobs * count // 4))
            done = drained(places, Contender("ours", ours(workers=count), "sqlite", fewer))
            cost = 1000 * done.cpu / done.jobs
            report.add(
                "drain",
                f"curve, {count} workers",
                f"{count:>2} workers: {done.rate:.0f} jobs/s, {cost:.2f} ms of CPU a job (1 turn)",
                workers=count,
                jobs_per_second=round(done.rate, 2),
                cpu_ms_per_job=round(cost, 3),
            )


def add_options(parser: argparse.ArgumentParser) -> None:
    parts = ("kinds", "parallel", "processes", "postgresql")
    parser.add_argument("--jobs", type=int, default=200, metavar="N", help="jobs a turn of ours")
    parser.add_argument("--workers", type=int, default=16, metavar="N")
    parser.add_argument("--curve", type=int, nargs="*", default=[1, 32], metavar="N", help="workers to try")
    parser.add_argument("--counted-jobs", type=int, default=100, metavar="N", help="jobs of the turn that counts")
    parser.add_argument("--peer-jobs", type=int, default=16, metavar="N", help="jobs of TaskFlow's on SQL")
    parser.add_argument("--memory-jobs", type=int, default=100, metavar="N", help="jobs of TaskFlow's in memory")
    parser.add_argument(
        "--parallel-jobs", type=int, default=2, metavar="N", help="jobs of TaskFlow's parallel engine, for each at once"
    )
    parser.add_argument("--parts", nargs="*", choices=parts, default=list(parts[1:]), help="what beside the main line")
    parser.add_argument(
        "--no-peer", dest="peer_kinds", action="store_const", const=0, default=2, help="without TaskFlow's"
    )


BENCH = Bench(
    "drain",
    __doc__ or "",
    add_options,
    measure,
    quick={
        "jobs": 6,
        "workers": 4,
        "curve": [],
        "counted_jobs": 4,
        "peer_jobs": 0,
        "memory_jobs": 4,
        "parts": [],
        "peer_kinds": 1,
    },
)

if __name__ == "__main__":
    BENCH.main()
