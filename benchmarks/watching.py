"""An observatory in a process of its own, and when it showed what.

python -m benchmarks.watching HOSTS PATH

Each line of standard input is the number of the first job that is to be looked for: it then notes when each of the
numbers that follow is first shown, until the next line, when it tells: ``cpu`` and ``wall`` (seconds), and ``shown``.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import Final

from benchmarks import boards
from conductor_console.cli import collector
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.observatory.observatory import Observatory

#: Seconds between two looks, and how far around the newest job that was shown others are looked for.
LOOK: Final = 0.002
AROUND: Final = 1000


def main(hosts: str, path: str) -> None:
    collector.tune()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("")

    board = ZookeeperJobBoard("bench", {"hosts": hosts, "path": path, "timeout": 60.0})
    try:
        board.connect(120.0)
        observatory = Observatory(board, title="bench")
        observatory.start()
        # A big board's first picture takes its time, which is measured elsewhere.
        while not observatory.snapshot().complete:
            time.sleep(LOOK)
        threading.Thread(target=read, daemon=True).start()
        print("ready", flush=True)
        while line := lines.get():
            print(json.dumps(follow(observatory, int(line), lines)), flush=True)
        observatory.stop()
    finally:
        board.close()


def follow(observatory: Observatory, first: int, lines: queue.SimpleQueue[str]) -> dict[str, object]:
    """Until another line is there."""
    shown: dict[int, float] = {}
    version, newest = -1, first - 1
    cpu, began = time.process_time(), time.monotonic()
    while lines.empty():
        snapshot = observatory.snapshot()
        if snapshot.version != version:
            version = snapshot.version
            now = time.monotonic()
            for number in range(max(first, newest - AROUND), newest + AROUND):
                if number not in shown and boards.job_uuid(number) in snapshot.by_key:
                    shown[number] = now
                    newest = max(newest, number)
        time.sleep(LOOK)
    lines.get()
    return {"cpu": time.process_time() - cpu, "wall": time.monotonic() - began, "shown": list(shown.items())}


if __name__ == "__main__":
    main(*sys.argv[1:3])
