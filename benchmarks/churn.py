"""What it takes to follow a big board that changes all the time, and how far behind the picture is.

One process follows the board as the screen does (board object and observatory, no screen), another posts, claims,
lets go and consumes jobs by raw requests at a given pace. Told are the processor time of the first, and its lag: from
the request that posts a job to the first snapshot that shows it. There is no peer: TaskFlow's board has no such
picture.

    python -m benchmarks.churn [--jobs 10000] [--rates 100 1000] [--seconds 4] [--json FILE]
"""

from __future__ import annotations

import argparse
import time

from benchmarks import boards
from benchmarks.children import Child, child
from benchmarks.common import Bench, Report, Servers, spread, told
from conductor_console.jobboards.zk_paths import BoardPaths


def one_rate(
    hosts: str, path: str, watching: Child, rate: float, seconds: float, first: int, settle: float
) -> dict[str, float]:
    """Changes for so many seconds, and what came of them."""
    with child("benchmarks.changes", hosts, path, rate, seconds, first) as changes:
        watching.say(first)
        changes.say()
        done = changes.answer()
        # The last ones are to be shown as well, before the time is taken.
        time.sleep(settle)
        watching.say()
        seen = watching.answer()
    shown = dict(seen["shown"])
    lags = [shown[number] - at for number, at in done["posted"] if number in shown]
    if not lags:
        raise RuntimeError("no change was shown")
    return {
        "wanted_per_second": rate,
        "changes_per_second": round(done["made"] / done["seconds"], 1),
        # The pause at the end costs almost nothing; what is due is due to the changes.
        "cpu_percent": round(100 * seen["cpu"] / done["seconds"], 1),
        "cpu_ms_per_change": round(1000 * seen["cpu"] / done["made"], 3),
        "unseen": len(done["posted"]) - len(lags),
        **spread(lags),
    }


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    hosts, path = servers.zookeeper.hosts, servers.board()
    with servers.zookeeper.kazoo(timeout=60.0) as client:
        boards.fill(client, BoardPaths(path), options.jobs)
        with child("benchmarks.watching", hosts, path) as watching:
            first = options.jobs
            for rate in options.rates:
                found = one_rate(hosts, path, watching, rate, options.seconds, first, min(1.0, options.seconds))
                first += int(rate * options.seconds) + 1
                line = f"{options.jobs:,} jobs, {found['changes_per_second']:.0f} changes/s: "
                line += f"{found['cpu_percent']:.0f} % of a core, lag {told(found)}"
                line += f", {found['unseen']} gone before they were shown" if found["unseen"] else ""
                report.add("churn", f"{options.jobs:,} jobs, {rate:g} changes/s", line, jobs=options.jobs, **found)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=10000, metavar="N", help="the board's size (50000: a minute more)")
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 1000.0], metavar="N", help="a second")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="for each pace")


BENCH = Bench("churn", __doc__ or "", add_options, measure, quick={"jobs": 50, "rates": [100.0], "seconds": 0.5})

if __name__ == "__main__":
    BENCH.main()
