"""What a process takes that is attached to a board: one line of JSON, resident megabytes. Run by other benchmarks.

python -m benchmarks.attached HOSTS PATH
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from conductor_console.cli import collector
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.observatory.observatory import Observatory


def resident() -> float:
    """This process's resident memory, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main(hosts: str, path: str) -> None:
    collector.tune()
    board = ZookeeperJobBoard("bench", {"hosts": hosts, "path": path})
    took = {"before": resident()}
    try:
        board.connect(60.0)
        gc.collect()
        took["attached"] = resident()
        observatory = Observatory(board, title="bench")
        observatory.start()
        gc.collect()
        took["shown"] = resident()
        observatory.stop()
    finally:
        board.close()
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:3])
