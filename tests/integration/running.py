"""The command ``run --headless`` as a process of its own, on a board and a store that tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conductor_console import jobboards, persistence
from conductor_console.cli.wiring import open_workplace
from conductor_console.jobboards.base import JobEntry, LedgerBoard
from conductor_console.operations import Operations, PostRequest

SLOW = "conductor_console.demo.poison.slow"


@dataclass(frozen=True)
class Place:
    """Where a test works: the URLs, and the board as somebody watches it."""

    board_url: str
    store_url: str
    board: LedgerBoard
    folder: Path

    def post(self, **arguments: Any) -> str:
        """Posts a slow job; returns its uuid."""
        store = persistence.fetch(self.store_url)
        try:
            operations = Operations(self.board, operator="tester", store=store)
            return operations.post(PostRequest(SLOW, "scrub", kwargs=arguments))[0]
        finally:
            store.close()

    def entry(self, uuid: str) -> JobEntry | None:
        return self.board.listing().jobs.get(uuid)

    def claimed(self, uuid: str) -> bool:
        entry = self.entry(uuid)
        return entry is not None and entry.claim is not None

    def done_steps(self, uuid: str) -> int:
        """How many of the job's tasks are done by now."""
        store = persistence.fetch(self.store_url, read_only=True)
        try:
            rows = store.journal(job_uuid=uuid)
        finally:
            store.close()
        return sum(1 for row in rows if row.kind == "task" and row.to_state == "SUCCESS")

    @contextmanager
    def running(self, *args: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """A conductor process; killed at the end if it still runs."""
        command = [sys.executable, "-m", "conductor_console.cli.main", "run", self.board_url, "--store", self.store_url]
        process = subprocess.Popen(
            [*command, "--headless", "--allow-factory", SLOW, "-j", "1", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            env={**os.environ, "HOME": str(self.folder)},
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def place_at(board_url: str, folder: Path) -> Iterator[Place]:
    """The board at ``board_url`` and a SQLite store beside it, both made."""
    store_url = f"sqlite:///{folder / 'flows.db'}"
    with ExitStack() as stack:
        with open_workplace(board_url, store_url=store_url, access="own"):
            pass
        board = jobboards.fetch(board_url, name="watcher")
        board.connect()
        stack.callback(board.close)
        yield Place(board_url, store_url, board, folder)
