"""Runs the benchmarks: all of them in ten minutes or little more, or those that are named.

python -m benchmarks [NAME ...] [--rounds 3] [--quick] [--json FILE]

Each takes options of its own where it is run alone, as ``python -m benchmarks.NAME --help`` tells.
"""

from __future__ import annotations

import argparse
import time
from typing import Final

from benchmarks import bulk, churn, claims, drain, failover, key, listing, wake
from benchmarks.common import Bench, add_common, session

BENCHES: Final[tuple[Bench, ...]] = tuple(
    module.BENCH for module in (drain, listing, claims, bulk, wake, failover, churn, key)
)


def main() -> None:
    names = [bench.name for bench in BENCHES]
    parser = argparse.ArgumentParser(
        description=__doc__, prog="benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    add_common(parser)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(names)}")
    began = time.monotonic()
    with session(parser, options) as (servers, report):
        for bench in BENCHES:
            if not options.names or bench.name in options.names:
                bench.run(servers, bench.options(quick=options.quick, rounds=options.rounds), report)
        report.say(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
