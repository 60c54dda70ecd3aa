"""What the board itself costs: claiming and consuming with flows left out.

Claim and consume of our board, from one thread and from several, on a small board and on a big one (which is filled up
between the batches that are timed, so that its size stays); TaskFlow's board does the same on the small one, since
each of its looks at a big one takes seconds.

    python -m benchmarks.claims [--small 100] [--big 10000] [--claims 400] [--threads 8] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks import boards
from benchmarks.common import Bench, Report, Servers, pipelined, timed
from conductor_console.clock import utcnow
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.support import eventually

#: The part of a board that a batch takes.
PART: Final = 0.5
WHO: Final = "bench"


class Board:
    """A board of a given size, and how to fill it up again."""

    def __init__(self, servers: Servers, client: KazooClient, jobs: int) -> None:
        self.paths = BoardPaths(servers.board())
        self.jobs = jobs
        self.hosts = servers.zookeeper.hosts
        self._client = client
        self._made = jobs
        boards.fill(client, self.paths, jobs, claimed=lambda _: False, recorded=lambda _: None)

    def refill(self, taken: int) -> None:
        numbers = range(self._made, self._made + taken)
        self._made += taken
        raws = [json.dumps(boards.posting(number)).encode() for number in numbers]
        pipelined(partial(self._client.create_async, self.paths.posting, raw, sequence=True) for raw in raws)


def ours(board: ZookeeperJobBoard, jobs: int, threads: int) -> float:
    """Seconds to claim and consume so many jobs, each from a look of its own, as a conductor does."""
    lock = threading.Lock()
    left, taken = [jobs], set[str]()
    errors: list[BaseException] = []

    def pick() -> Any:
        with lock:
            if left[0] == 0:
                return None
            candidates, _ = board.candidates(utcnow())
            job = next(job for job in candidates if job.uuid not in taken)
            taken.add(job.uuid)
            left[0] -= 1
            return job

    def work() -> None:
        try:
            while (job := pick()) is not None:
                board.claim(job, WHO)
                board.consume(job, WHO)
        except BaseException as error:  # raised by whoever waits
            errors.append(error)

    def all_of_it() -> None:
        at_work = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for thread in at_work:
            thread.start()
        for thread in at_work:
            thread.join()

    seconds = timed(all_of_it)
    if errors:
        raise errors[0]
    return seconds


def theirs(board: Any, jobs: int) -> float:
    """The same with TaskFlow's, which hands out its jobs in one look."""

    def work() -> None:
        for job in islice(board.iterjobs(only_unclaimed=True), jobs):
            board.claim(job, WHO)
            board.consume(job, WHO)

    return timed(work)


def rate(board: Board, claims: int, batch: Callable[[int], float], shown: Callable[[], int]) -> float:
    """Claims a second: batches until there were so many, the board filled up after each."""
    done, seconds = 0, 0.0
    while done < claims:
        eventually(lambda: shown() == board.jobs, 60.0, "the board to be filled up")
        some = min(claims - done, max(1, int(board.jobs * PART)))
        seconds += batch(some)
        done += some
        board.refill(some)
    return done / seconds


@contextlib.contextmanager
def our_board(board: Board, **options: Any) -> Iterator[ZookeeperJobBoard]:
    made = ZookeeperJobBoard("bench", {"hosts": board.hosts, "path": board.paths.board, "timeout": 60.0}, **options)
    try:
        made.connect(60.0)
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def their_board(client: KazooClient, board: Board) -> Iterator[Any]:
    from taskflow.jobs import backends

    conf = {"board": "zookeeper", "path": board.paths.board, "check_compatible": False}
    with backends.backend("bench", conf, client=client) as made:
        yield made


def measure_claims(servers: Servers, client: KazooClient, options: argparse.Namespace, report: Report) -> None:
    sized = {size: Board(servers, client, size) for size in (options.small, options.big)}
    for threads in dict.fromkeys((1, options.threads)):
        rates: dict[int, list[float]] = {size: [] for size in sized}
        with contextlib.ExitStack() as stack:
            opened = {size: stack.enter_context(our_board(board)) for size, board in sized.items()}
            for _ in range(options.rounds):
                for size, board in sized.items():
                    mine = opened[size]
                    # Bound here: each batch is done before the loop goes on.
                    batch = partial(ours, mine, threads=threads)
                    rates[size].append(rate(board, options.claims, batch, lambda mine=mine: len(mine.listing().jobs)))  # type: ignore[misc]
        medians = {size: statistics.median(of) for size, of in rates.items()}
        loss = 100 * (1 - medians[options.big] / medians[options.small])
        line = f"ours, {threads} threads: " + ", ".join(
            f"{one:.0f}/s of {size:,} jobs" for size, one in medians.items()
        )
        line += f": {loss:.0f} % less on the big one" if loss > 0 else ": no less on the big one"
        report.add(
            "claims",
            f"ours, {threads} threads",
            line,
            per_second={str(size): round(one, 1) for size, one in medians.items()},
            loss_percent=round(loss, 1),
        )
    if options.peer:
        with their_board(client, sized[options.small]) as peer:
            found = rate(sized[options.small], options.peer_claims, partial(theirs, peer), lambda: peer.job_count)
        report.add(
            "claims",
            "TaskFlow, 1 thread",
            f"TaskFlow, 1 thread: {found:.1f}/s of {options.small:,} jobs",
            per_second={str(options.small): round(found, 1)},
        )


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    with servers.zookeeper.kazoo(timeout=60.0) as client:
        measure_claims(servers, client, options, report)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small", type=int, default=100, metavar="N", help="jobs of the small board")
    parser.add_argument("--big", type=int, default=10000, metavar="N", help="jobs of the big one")
    parser.add_argument("--claims", type=int, default=400, metavar="N", help="claims a turn")
    parser.add_argument("--threads", type=int, default=8, metavar="N")
    parser.add_argument("--peer-claims", type=int, default=30, metavar="N", help="TaskFlow's")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without TaskFlow's")


BENCH = Bench(
    "claims",
    __doc__ or "",
    add_options,
    measure,
    quick={"small": 10, "big": 20, "claims": 5, "threads": 2, "peer_claims": 2},
)

if __name__ == "__main__":
    BENCH.main()
