"""The first complete picture of a ZooKeeper board, owners and attempts included.

Ours against the raw pipelined read of the same nodes (kazoo, hundreds of requests under way, nothing decoded: the
floor of one request a node) and, with ``--peer``, TaskFlow's own board. One job in five is claimed, one in ten was
tried before. With ``--memory`` a process of its own attaches to the board and tells what it takes.

    python -m benchmarks.listing [--jobs 1000 10000] [--rounds 5] [--peer] [--memory] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks.common import Report, Turn, against, alternate, timed
from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, closed, make_cause, opened, to_json
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.servers import Zookeeper, kazoo, missing_zookeeper, running_zookeeper
from tests.support import eventually

IN_FLIGHT: Final = 256
PRIORITIES: Final = ("NORMAL", "HIGH", "LOW", "VERY_HIGH", "VERY_LOW")
CAUSE: Final = make_cause("PlugVIPException", "no port answers within 2 s", "octavia/network/base.py:214 in plug_vip")


def posting(number: int) -> dict[str, Any]:
    """What TaskFlow's ``post`` writes for a job with a flow and a small store."""
    name = f"octavia-create-lb-{number}"
    return {
        "uuid": str(uuid.UUID(int=number + 1, version=4)),
        "name": name,
        "priority": PRIORITIES[number % len(PRIORITIES)],
        "details": {"flow_uuid": str(uuid.UUID(int=number + 1 << 64, version=4)), "store": {"loadbalancer": name}},
        "book": {"name": name, "uuid": str(uuid.UUID(int=number + 1 << 32, version=4))},
    }


def record(job: str) -> bytes:
    """A job that was tried twice, and abandoned each time."""
    known = AttemptRecord(job)
    for claim in ("0x11", "0x12"):
        known = closed(opened(known, "worker-1@host-1:4711", utcnow(), None, claim), "abandoned", utcnow(), error=CAUSE)
    return to_json(known)


def pipelined(requests: Iterable[Callable[[], Any]], window: int = IN_FLIGHT) -> None:
    """Sends requests without waiting for each one's answer; each callable gives kazoo's promise of it."""
    under_way: deque[Any] = deque()
    for request in requests:
        under_way.append(request())
        if len(under_way) >= window:
            # Answers come in order: one waking for half the window.
            under_way[window // 2].wait()
            while under_way and under_way[0].ready():
                under_way.popleft().get()
    while under_way:
        under_way.popleft().get()


def fill(client: KazooClient, paths: BoardPaths, jobs: int) -> None:
    """Posts ``jobs`` jobs, claims every fifth as TaskFlow does, and gives every tenth a record."""
    for folder in (paths.board, paths.trash, paths.conductors, paths.attempts):
        client.ensure_path(folder)

    def requests() -> Iterable[Callable[[], Any]]:
        for number in range(jobs):
            made = posting(number)
            node = f"job{number:010d}"
            raw = json.dumps(made).encode()
            yield partial(client.create_async, paths.job(node), raw)
            if number % 5 == 0:
                owner = json.dumps({"owner": f"worker-{number % 7}"}).encode()
                yield partial(client.create_async, paths.lock(node), owner, ephemeral=True)
            if number % 10 == 1:
                yield partial(client.create_async, paths.record(made["uuid"]), record(made["uuid"]))

    pipelined(requests())


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


def measure(server: Zookeeper, jobs: int, options: argparse.Namespace, report: Report) -> None:
    paths = BoardPaths(f"/bench-{jobs}/jobs")
    with server.kazoo(timeout=60.0) as filler:
        fill(filler, paths, jobs)
        contenders = {"floor": floor_turn(server.hosts, paths), "ours": our_turn(server.hosts, paths, jobs)}
        if options.peer:
            contenders["taskflow"] = peer_turn(server.hosts, paths, jobs)
        measured = alternate(contenders, options.rounds)
        result: dict[str, object] = {"bench": "listing", "jobs": jobs, "rounds": options.rounds}
        result.update({f"{name}_seconds": round(one.median, 4) for name, one in measured.items()})
        ours, ratio = measured["ours"].median, against(measured, "ours", "floor")
        result["ours_to_floor"] = round(ratio, 3)
        line = f"{jobs:>7,} jobs: ours {ours:.3f} s, floor {measured['floor'].median:.3f} s: {ratio:.2f}x the floor"
        if options.peer:
            peer = against(measured, "taskflow", "ours")
            result["taskflow_to_ours"] = round(peer, 1)
            line += f"; TaskFlow {measured['taskflow'].median:.2f} s: {peer:.0f}x ours"
        if options.memory:
            command = [sys.executable, "-m", "benchmarks.attached", server.hosts, paths.board]
            took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            result["megabytes"] = took
            line += "; memory {before:.0f} MB, attached {attached:.0f} MB, with snapshots {shown:.0f} MB".format(**took)
        report.add(result, line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--peer", action="store_true", help="TaskFlow's board as well (slow: seconds a turn at 10,000)")
    parser.add_argument("--memory", action="store_true", help="what an attached process takes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (missing := missing_zookeeper()) is not None:
        parser.error(missing)
    report = Report(options.json)
    with running_zookeeper() as server:
        for jobs in options.jobs:
            measure(server, jobs, options, report)
    report.end()


if __name__ == "__main__":
    main()
