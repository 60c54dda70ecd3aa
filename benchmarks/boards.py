"""Big boards for benchmarks, filled by raw requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks.common import pipelined
from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, closed, make_cause, opened, to_json
from conductor_console.jobboards.zk_paths import BoardPaths

PRIORITIES: Final = ("NORMAL", "HIGH", "LOW", "VERY_HIGH", "VERY_LOW")
CAUSE: Final = make_cause("PlugVIPException", "no port answers within 2 s", "octavia/network/base.py:214 in plug_vip")
#: No conductor of ours tries a job that is held until then.
NEVER: Final = datetime(2999, 1, 1, tzinfo=UTC)


def job_uuid(number: int) -> str:
    return str(uuid.UUID(int=number + 1, version=4))


def node(number: int) -> str:
    return f"job{number:010d}"


def posting(number: int) -> dict[str, Any]:
    """What TaskFlow's ``post`` writes for a job with a flow and a small store."""
    name = f"octavia-create-lb-{number}"
    return {
        "uuid": job_uuid(number),
        "name": name,
        "priority": PRIORITIES[number % len(PRIORITIES)],
        "details": {"flow_uuid": str(uuid.UUID(int=number + 1 << 64, version=4)), "store": {"loadbalancer": name}},
        "book": {"name": name, "uuid": str(uuid.UUID(int=number + 1 << 32, version=4))},
    }


def tried(job: str) -> AttemptRecord:
    """A job that was tried twice, and abandoned each time."""
    known = AttemptRecord(job)
    for claim in ("0x11", "0x12"):
        known = closed(opened(known, "worker-1@host-1:4711", utcnow(), None, claim), "abandoned", utcnow(), error=CAUSE)
    return known


def record(job: str) -> bytes:
    """The record of one that was tried."""
    return to_json(tried(job))


def held(job: str) -> bytes:
    """A job that was never tried and is held for good."""
    return to_json(AttemptRecord(job, hold_until=NEVER))


def make(client: KazooClient, paths: BoardPaths) -> None:
    for folder in (paths.board, paths.trash, paths.conductors, paths.attempts):
        client.ensure_path(folder)


def fill(
    client: KazooClient,
    paths: BoardPaths,
    jobs: int,
    *,
    claimed: Callable[[int], bool] = lambda number: number % 5 == 0,
    recorded: Callable[[int], bytes | None] = lambda number: record(job_uuid(number)) if number % 10 == 1 else None,
) -> None:
    """Posts ``jobs`` jobs; which are claimed as TaskFlow does, and which have what record, is told by their numbers.

    The nodes are named as the board's own counter would, so that those who post later get the numbers after them.
    """
    make(client, paths)

    def requests() -> Iterator[Callable[[], Any]]:
        for number in range(jobs):
            raw = json.dumps(posting(number)).encode()
            yield partial(client.create_async, paths.posting, raw, sequence=True)
            value = recorded(number)
            if value is not None:
                yield partial(client.create_async, paths.record(job_uuid(number)), value)

    def locks() -> Iterator[Callable[[], Any]]:
        names = sorted(name for name in client.get_children(paths.board))
        for number in filter(claimed, range(jobs)):
            owner = json.dumps({"owner": f"worker-{number % 7}"}).encode()
            yield partial(client.create_async, paths.lock(names[number]), owner, ephemeral=True)

    pipelined(requests())
    pipelined(locks())
