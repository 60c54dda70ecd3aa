"""Changes on a ZooKeeper board at a given pace, by raw requests, in a process of its own.

python -m benchmarks.changes HOSTS PATH RATE SECONDS FIRST

In turn a job is posted, claimed as TaskFlow does, let go, and consumed, each some time after the one before. It says
``ready`` when it may begin, begins with a line of standard input, and tells at the end how many changes it made in how
many seconds, and when (``time.monotonic()``, which all processes share) it posted the job of which number, from FIRST
on.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks import boards
from benchmarks.common import IN_FLIGHT
from conductor_console.jobboards.zk_paths import BoardPaths
from tests.servers import kazoo

#: Seconds between a job's posting, its claim, its release and its end: so long that a picture shows each of them.
APART: Final = 0.7

#: A job's node, as kazoo promises it, and when it came so far.
Job = tuple[Any, float]


class Changes:
    """Jobs on their way: posted, claimed, let go."""

    def __init__(self, client: KazooClient, path: str, first: int) -> None:
        self._client = client
        self._posting = BoardPaths(path).posting
        self._next = first
        self._stages: tuple[deque[Job], ...] = (deque(), deque(), deque())
        self.posted: list[tuple[int, float]] = []

    def change(self, stage: int) -> Any:
        """Moves on the oldest job of a stage; posts one where there is none, or it is too young yet."""
        now = time.monotonic()
        jobs = self._stages[stage - 1] if stage > 0 else ()
        if not jobs or jobs[0][1] > now - APART:
            return self._post()
        node = jobs.popleft()[0]
        if stage < len(self._stages):
            self._stages[stage].append((node, now))
        path = node.get()
        if stage == 1:
            return self._client.create_async(f"{path}.lock", b'{"owner": "busy"}', ephemeral=True)
        return self._client.delete_async(f"{path}.lock" if stage == 2 else path)

    def _post(self) -> Any:
        raw = json.dumps(boards.posting(self._next)).encode()
        at = time.monotonic()
        node = self._client.create_async(self._posting, raw, sequence=True)
        self.posted.append((self._next, at))
        self._stages[0].append((node, at))
        self._next += 1
        return node


def main(hosts: str, path: str, rate: float, seconds: float, first: int) -> None:
    with kazoo(hosts, timeout=60.0) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        changes = Changes(client, path, first)
        under_way: deque[Any] = deque()
        began = time.monotonic()
        made = 0
        while (now := time.monotonic()) < began + seconds:
            while made < int((now - began) * rate):
                under_way.append(changes.change(made % 4))
                made += 1
                while len(under_way) > IN_FLIGHT or (under_way and under_way[0].ready()):
                    under_way.popleft().get()
            time.sleep(0.001)
        while under_way:
            under_way.popleft().get()
        took = time.monotonic() - began
        print(json.dumps({"made": made, "seconds": took, "posted": changes.posted}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
