"""The first complete picture of a ZooKeeper board, owners and attempts included.

Ours against the raw pipelined read of the same nodes (kazoo, hundreds of requests under way, nothing decoded: the
floor of one request a node) and, up to a size, TaskFlow's own board, which takes seconds a turn. One job in five is
claimed, one in ten was tried before. A process of its own attaches to the board and tells what memory that takes.

    python -m benchmarks.listing [--jobs 1000 10000] [--rounds 3] [--peer-up-to 1000] [--no-memory] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.boards import fill
from benchmarks.common import Bench, Report, Servers, Turn, against, alternate, pipelined, timed
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.servers import Zookeeper, kazoo
from tests.support import eventually


def floor_turn(hosts: str, paths: BoardPaths) -> Turn:
    """Lists the board and the ledger, and reads every node once."""

    def turn() -> float:
        with kazoo(hosts) as client:

            def read() -> None:
                nodes = [f"{folder}/{name}" for folder in (paths.board, paths.attempts)
                         for name in client.get_children(folder)]  # fmt: skip
                pipelined(partial(client.get_async, path) for path in nodes)

            return timed(read)

    return turn


def our_turn(hosts: str, paths: BoardPaths, jobs: int) -> Turn:
    """From a client that is connected to a listing that is complete."""

    def turn() -> float:
        with kazoo(hosts) as client:
            board = ZookeeperJobBoard("bench", {"path": paths.board}, client=client)
            try:
                seconds = timed(lambda: board.connect(60.0))
                listing = board.listing()
                owned = sum(entry.claim is not None for entry in listing.jobs.values())
                tried = sum(entry.record is not None for entry in listing.jobs.values())
                assert listing.complete, "not complete"
                assert (len(listing.jobs), owned, tried) == (jobs, (jobs + 4) // 5, (jobs + 8) // 10), "jobs missing"
                return seconds
            finally:
                board.close()

    return turn


def peer_turn(hosts: str, paths: BoardPaths, jobs: int) -> Turn:
    """TaskFlow's board: its jobs, each with its state and owner."""
    from taskflow.jobs import backends

    def turn() -> float:
        with kazoo(hosts) as client:
            conf = {"board": "zookeeper", "path": paths.board, "check_compatible": False}
            with backends.backend("bench", conf, client=client) as board:
                found: list[Any] = []

                def read() -> None:
                    # It reads the postings in the background, and hands out those it has.
                    eventually(lambda: board.job_count == jobs, timeout=300.0, what="all jobs")
                    found.extend((job.uuid, job.state, board.find_owner(job)) for job in board.iterjobs())

                seconds = timed(read)
                assert len(found) == jobs, "jobs missing"
                return seconds

    return turn


def picture(server: Zookeeper, path: str, jobs: int, options: argparse.Namespace, report: Report) -> None:
    """One size of board."""
    paths = BoardPaths(path)
    with server.kazoo(timeout=60.0) as filler:
        fill(filler, paths, jobs)
        contenders = {"floor": floor_turn(server.hosts, paths), "ours": our_turn(server.hosts, paths, jobs)}
        if jobs <= options.peer_up_to:
            contenders["taskflow"] = peer_turn(server.hosts, paths, jobs)
        measured = alternate(contenders, options.rounds, warm=options.rounds > 1)
        result: dict[str, object] = {"jobs": jobs, "rounds": options.rounds}
        result["seconds"] = {name: round(one.median, 4) for name, one in measured.items()}
        ours, ratio = measured["ours"].median, against(measured, "ours", "floor")
        result["ours_to_floor"] = round(ratio, 3)
        line = f"{jobs:>7,} jobs: ours {ours:.3f} s, floor {measured['floor'].median:.3f} s: {ratio:.2f}x the floor"
        if "taskflow" in measured:
            peer = against(measured, "taskflow", "ours")
            result["taskflow_to_ours"] = round(peer, 1)
            line += f"; TaskFlow {measured['taskflow'].median:.2f} s: {peer:.0f}x ours"
        if options.memory:
            command = [sys.executable, "-m", "benchmarks.attached", server.hosts, paths.board]
            took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            result["megabytes"] = took
            line += "; memory {before:.0f} MB, attached {attached:.0f} MB, with snapshots {shown:.0f} MB".format(**took)
        report.add("listing", f"{jobs:,} jobs", line, **result)


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    for jobs in options.jobs:
        picture(servers.zookeeper, servers.board(), jobs, options, report)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10000], metavar="N")
    parser.add_argument(
        "--peer-up-to", type=int, default=1000, metavar="N", help="TaskFlow's board as well, on boards of so many jobs"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="not what an attached process takes")


BENCH = Bench("listing", __doc__ or "", add_options, measure, quick={"jobs": [60], "peer_up_to": 60, "memory": False})

if __name__ == "__main__":
    BENCH.main()
