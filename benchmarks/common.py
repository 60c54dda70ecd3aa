"""What benchmarks share: turns taken A B A B, medians and ratios, the servers, and how it is all told."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import platform
import shutil
import statistics
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.durable import running_database, running_zookeeper
from tests import databases
from tests.servers import Zookeeper, missing_zookeeper

#: One turn of a contender: does its work and returns how long the measured part took, in seconds.
Turn = Callable[[], float]
IN_FLIGHT: Final = 256


@dataclass(frozen=True, slots=True)
class Measured:
    """How one contender did in its turns, in seconds."""

    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.turns)


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, the garbage of whoever came before it cleared away first."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(contenders: Mapping[str, Turn], rounds: int, *, warm: bool = True) -> dict[str, Measured]:
    """Lets each contender take its turn, ``rounds`` times over.

    All see the same server and machine at nearly the same moments, so that their ratio outlasts both.

    :param warm: one turn each first that is not counted; of no use where each turn is a fresh process.
    """
    if warm:
        for turn in contenders.values():
            turn()
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, turn in contenders.items():
            turns[name].append(turn())
    return {name: Measured(tuple(seconds)) for name, seconds in turns.items()}


def against(measured: Mapping[str, Measured], name: str, other: str) -> float:
    """How many times as long ``name`` takes as ``other``."""
    return measured[name].median / measured[other].median


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and worst, in milliseconds, and of how many."""
    told = {"p50_ms": percentile(seconds, 50), "p99_ms": percentile(seconds, 99), "worst_ms": max(seconds)}
    return {"samples": len(seconds)} | {name: round(value * 1000, 2) for name, value in told.items()}


def told(of: Mapping[str, float]) -> str:
    """What :func:`spread` found, for people."""
    return f"p50 {of['p50_ms']:,.1f} ms, p99 {of['p99_ms']:,.1f} ms"


def pipelined(requests: Iterable[Callable[[], Any]], window: int = IN_FLIGHT) -> None:
    """Sends requests without waiting for each one's answer; each callable gives kazoo's promise of it."""
    under_way: deque[Any] = deque()
    for request in requests:
        under_way.append(request())
        if len(under_way) >= window:
            # Answers come in order: one waking for half the window.
            under_way[window // 2].wait()
            while under_way and under_way[0].ready():
                checked(under_way.popleft().get())
    while under_way:
        checked(under_way.popleft().get())


def checked(answer: Any) -> Any:
    """An answer as it is. kazoo does not raise what a transaction's steps were refused for: this does."""
    if isinstance(answer, list):
        for result in answer:
            if isinstance(result, Exception):
                raise result
    return answer


@dataclass
class Report:
    """Lines for people as they come, and one JSON document at the end, to a file or (``-``) instead of the lines."""

    json_to: str | None = None
    results: list[dict[str, object]] = field(default_factory=list)

    def say(self, line: str) -> None:
        if self.json_to != "-":
            print(line, flush=True)

    def add(self, bench: str, what: str, line: str, **figures: object) -> None:
        """One result: which bench's, of what, told in ``line``, with its figures."""
        self.results.append({"bench": bench, "of": what, **figures})
        self.say(f"  {line}")

    def end(self) -> None:
        document = json.dumps({"machine": machine(), "results": self.results}, indent=2)
        if self.json_to == "-":
            print(document)
        elif self.json_to is not None:
            Path(self.json_to).write_text(document + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What figures depend on beside the code; how busy it was tells what they are worth."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


class Servers:
    """The servers of one run, each started when it is first asked for; they sync to disk as in production.

    :param zookeeper: one that runs already; it stays the caller's.
    """

    def __init__(self, stack: contextlib.ExitStack, zookeeper: Zookeeper | None = None) -> None:
        self._stack = stack
        self._zookeeper = zookeeper
        self._postgresql: databases.Database | None = None

    @property
    def zookeeper(self) -> Zookeeper:
        if self._zookeeper is None:
            self._zookeeper = self._stack.enter_context(running_zookeeper())
        return self._zookeeper

    @property
    def no_postgresql(self) -> str | None:
        """Why there is none; None where there is one."""
        return databases.missing("postgresql")

    @property
    def postgresql(self) -> databases.Database:
        if self._postgresql is None:
            self._postgresql = self._stack.enter_context(running_database())
        return self._postgresql

    def board(self) -> str:
        """The path of a board that nobody used before."""
        return f"/bench-{uuid.uuid4().hex}/jobs"

    def folder(self) -> Path:
        """An empty folder, gone at the end."""
        path = Path(tempfile.mkdtemp(prefix="bench-"))
        self._stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path


@dataclass(frozen=True)
class Bench:
    """One benchmark.

    :ivar add_options: what it may be told; the defaults are those of a whole run.
    :ivar measure: does it, and reports.
    :ivar quick: options of a run that only shows that it works.
    """

    name: str
    about: str
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[Servers, argparse.Namespace, Report], None]
    quick: Mapping[str, object]

    def options(self, *, quick: bool = False, rounds: int = 3) -> argparse.Namespace:
        """The options of a whole run, or of a quick one."""
        parser = argparse.ArgumentParser()
        self.add_options(parser)
        chosen = vars(parser.parse_args([])) | {"rounds": 1 if quick else rounds} | (dict(self.quick) if quick else {})
        return argparse.Namespace(**chosen)

    def run(self, servers: Servers, options: argparse.Namespace, report: Report) -> None:
        report.say(f"{self.name}: {self.about.splitlines()[0]}")
        self.measure(servers, options, report)

    def main(self) -> None:
        """This one alone, from the command line."""
        parser = argparse.ArgumentParser(
            description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter, prog=f"benchmarks.{self.name}"
        )
        self.add_options(parser)
        add_common(parser)
        options = parser.parse_args()
        if options.quick:
            options = argparse.Namespace(**vars(options) | vars(self.options(quick=True)))
        with session(parser, options) as (servers, report):
            self.run(servers, options, report)


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every benchmark may be told."""
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that each side takes (3)")
    parser.add_argument("--quick", action="store_true", help="so small that its figures mean nothing")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="the figures as JSON, to FILE or instead of the lines"
    )


@contextlib.contextmanager
def session(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Iterator[tuple[Servers, Report]]:
    """Servers, ended on leaving, and a report, told on leaving."""
    if (missing := missing_zookeeper()) is not None:
        parser.error(missing)
    report = Report(options.json)
    with contextlib.ExitStack() as stack:
        yield Servers(stack), report
    report.end()
