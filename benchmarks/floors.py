"""The least that ZooKeeper and a database can be asked for with the same guarantees: raw requests, raw commits.

No flow, no engine, no thread: so many jobs side by side take each step together, and one commit serves them all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from kazoo.client import KazooClient

from benchmarks.common import checked
from conductor_console.jobboards.zk_paths import BoardPaths

#: Jobs side by side.
LANES: Final = 16
#: What must be durable one after the other: each of three tasks before it runs, the flow's end, the attempt's.
COMMITS: Final = 5


def claim(client: KazooClient, paths: BoardPaths, node: str, uuid: str) -> Any:
    """The transaction that claims a job: its lock, written as TaskFlow's clients want it, and its attempt's record."""
    transaction, lock = client.transaction(), paths.lock(node)
    transaction.check(paths.job(node), 0)
    transaction.create(lock, b'{"owner": "floor"}', ephemeral=True)
    transaction.set_data(lock, b'{"owner": "floor"}', 0)
    transaction.create(paths.record(uuid), b"{}")
    return transaction


def consume(client: KazooClient, paths: BoardPaths, node: str, uuid: str) -> Any:
    """The transaction that takes a claimed job from the board."""
    transaction = client.transaction()
    transaction.delete(paths.lock(node), 1)
    transaction.delete(paths.job(node), 0)
    transaction.delete(paths.record(uuid), 0)
    return transaction


class Drain:
    """Claims and consumes every job of a board, and moves its flow to SUCCESS with a journal row at each step."""

    def __init__(self, client: KazooClient, paths: BoardPaths, raw: Any) -> None:
        self._client = client
        self._paths = paths
        self._raw = raw
        self._mark = "?" if isinstance(raw, sqlite3.Connection) else "%s"
        self.commits = 0
        self.requests = 0

    def run(self) -> None:
        nodes = sorted(self._client.get_children(self._paths.board))
        for first in range(0, len(nodes), LANES):
            self._lanes(nodes[first : first + LANES])

    def _lanes(self, nodes: list[str]) -> None:
        read = [self._client.get_async(self._paths.job(node)) for node in nodes]
        jobs = [json.loads(answer.get()[0]) for answer in read]
        uuids = [job["uuid"] for job in jobs]
        self._together(claim, nodes, uuids)
        for step in range(COMMITS):
            state = "SUCCESS" if step == COMMITS - 1 else "RUNNING"
            self._commit([job["details"]["flow_uuid"] for job in jobs], state)
        self._together(consume, nodes, uuids)
        self.requests += len(nodes)

    def _together(self, act: Callable[..., Any], nodes: list[str], uuids: list[str]) -> None:
        self.requests += len(nodes)
        transactions = [act(self._client, self._paths, *job) for job in zip(nodes, uuids, strict=True)]
        for answer in [transaction.commit_async() for transaction in transactions]:
            checked(answer.get())

    def _commit(self, flows: list[str], state: str) -> None:
        mark, now = self._mark, datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        cursor = self._raw.cursor()
        change = f"UPDATE flowdetails SET state = {mark} WHERE uuid = {mark}"
        cursor.executemany(change, [(state, one) for one in flows])
        cursor.executemany(
            f"INSERT INTO cc_journal (at, flow_uuid, kind, to_state) VALUES ({mark}, {mark}, {mark}, {mark})",
            [(now, one, "flow", state) for one in flows],
        )
        self._raw.commit()
        cursor.close()
        self.commits += 1
