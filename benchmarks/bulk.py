"""Moving many jobs at once to the bin, and back, by the operator's hand.

Ours is the whole act: every job conditional on what was seen, told in the audit trail (the store's table) before and
after, and shown by the listing at the end. The floor is the very same transactions, made beforehand of what is known
by then, sent by a bare kazoo client, hundreds under way. Every job was tried before, as those that are binned are.

    python -m benchmarks.bulk [--jobs 3000] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from kazoo.client import KazooClient

from benchmarks import boards, stores
from benchmarks.common import Bench, Report, Servers, Turn, against, alternate, pipelined, timed
from conductor_console import persistence
from conductor_console.cli import collector
from conductor_console.clock import utcnow
from conductor_console.jobboards import attempts
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.operations import Operations

WHY = "benchmark"


class Floor:
    """The transactions alone, on a board of its own."""

    def __init__(self, client: KazooClient, paths: BoardPaths, jobs: int) -> None:
        self._client = client
        self._paths = paths
        self._numbers = range(jobs)
        self._version = 0
        self._raws = [json.dumps(boards.posting(number)).encode() for number in self._numbers]
        tried = [boards.tried(boards.job_uuid(number)) for number in self._numbers]
        self._back = [attempts.to_json(record) for record in tried]
        self._binned = [attempts.to_json(attempts.put_in_bin(record, "bench", utcnow(), WHY)) for record in tried]

    def bin(self) -> float:
        return self._timed(self._to_bin)

    def restore(self) -> float:
        return self._timed(self._to_board)

    def _timed(self, move: Callable[[int], Any]) -> float:
        seconds = timed(lambda: pipelined(partial(move, number) for number in self._numbers))
        self._version += 1
        return seconds

    def _to_bin(self, number: int) -> Any:
        node, lock = boards.node(number), self._paths.lock(boards.node(number))
        transaction = self._client.transaction()
        transaction.create(lock, b"{}", ephemeral=True)
        transaction.delete(lock, 0)
        transaction.create(self._paths.binned(node), self._raws[number])
        transaction.delete(self._paths.job(node), 0)
        return self._recorded(transaction, number, self._binned)

    def _to_board(self, number: int) -> Any:
        node = boards.node(number)
        transaction = self._client.transaction()
        transaction.delete(self._paths.binned(node), 0)
        transaction.create(self._paths.job(node), self._raws[number])
        return self._recorded(transaction, number, self._back)

    def _recorded(self, transaction: Any, number: int, values: list[bytes]) -> Any:
        transaction.set_data(self._paths.record(boards.job_uuid(number)), values[number], self._version)
        return transaction.commit_async()


class Ours:
    """The acts, on a board that is attached."""

    def __init__(self, board: ZookeeperJobBoard, operations: Operations, jobs: int) -> None:
        self._board = board
        self._operations = operations
        self._jobs = jobs

    def bin(self) -> float:
        targets = list(self._board.listing().jobs.values())
        return self._timed(lambda: self._operations.bin(targets, WHY), "binned")

    def restore(self) -> float:
        targets = list(self._board.listing().binned.values())
        return self._timed(lambda: self._operations.restore(targets), "jobs")

    def _timed(self, act: Callable[[], Any], there: str) -> float:
        def whole() -> None:
            wrong = [result for result in act() if result.result != "done"]
            if wrong or len(getattr(self._board.listing(), there)) != self._jobs:
                raise RuntimeError(f"{len(wrong)} moves were not done: {wrong[:1]}")

        return timed(whole)


def filled(servers: Servers, client: KazooClient, jobs: int) -> BoardPaths:
    paths = BoardPaths(servers.board())
    boards.fill(
        client, paths, jobs, claimed=lambda _: False, recorded=lambda number: boards.record(boards.job_uuid(number))
    )
    return paths


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    # As our command does for itself; the bare transactions get it too.
    collector.tune()
    jobs: int = options.jobs
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(servers.zookeeper.kazoo(timeout=60.0))
        floor = Floor(client, filled(servers, client, jobs), jobs)
        store = stack.enter_context(stores.made(servers, "sqlite"))
        backend = persistence.fetch(store.url)
        stack.callback(backend.close)
        conf = {"hosts": servers.zookeeper.hosts, "path": filled(servers, client, jobs).board, "timeout": 60.0}
        board = ZookeeperJobBoard("bench", conf, persistence=backend)
        stack.callback(board.close)
        board.connect(60.0)
        ours = Ours(board, Operations(board, operator="bench", store=backend), jobs)
        turns: dict[str, Turn] = {
            "bin ours": ours.bin, "bin floor": floor.bin, "restore ours": ours.restore, "restore floor": floor.restore,
        }  # fmt: skip
        measured = alternate(turns, options.rounds, warm=False)
    for act in ("bin", "restore"):
        rates = {side: jobs / measured[f"{act} {side}"].median for side in ("ours", "floor")}
        ratio = against(measured, f"{act} floor", f"{act} ours")
        line = f"{act} of {jobs:,} jobs: {rates['ours']:,.0f}/s, audited; bare transactions {rates['floor']:,.0f}/s"
        report.add(
            "bulk", act, f"{line}: {ratio:.2f} of their speed", jobs=jobs, ours_to_floor=round(ratio, 3),
            per_second={side: round(one, 1) for side, one in rates.items()},
        )  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=3000, metavar="N")


BENCH = Bench("bulk", __doc__ or "", add_options, measure, quick={"jobs": 40})

if __name__ == "__main__":
    BENCH.main()
