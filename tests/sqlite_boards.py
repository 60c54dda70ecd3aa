"""SQLite boards for tests, and other processes that use them."""

from __future__ import annotations

import gc
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.base import BoardJob
from conductor_console.jobboards.sqlite import SQLiteJobBoard

#: A process that does what it is told, line by line, and answers each line with one.
OBEYS = """
import os, sys
from conductor_console import jobboards
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child")
board.connect()
def job(uuid):
    return next(job for job in board.iterjobs(ensure_fresh=True) if job.uuid == uuid)
def answer(text):
    print(text, flush=True)
answer("ready")
for line in sys.stdin:
    try:
        answer(eval(line))
    except Exception as error:
        answer(f"{type(error).__name__}: {error}")
"""


class Child:
    """A process of this test's, spoken to by lines."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.hear()

    def claim(self, job: BoardJob) -> None:
        assert self.ask(f"board.claim(job({job.uuid!r}), 'child')").startswith("AttemptRecord(")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board.db"


@pytest.fixture
def board(path: Path) -> Iterator[SQLiteJobBoard]:
    with connected(path) as board:
        yield board


@contextmanager
def connected(path: Path, **conf: Any) -> Iterator[SQLiteJobBoard]:
    """A board that is there and connected."""
    board = SQLiteJobBoard("test", {"path": str(path), **conf})
    board.ensure()
    board.connect()
    try:
        yield board
    finally:
        board.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Starts processes, which end with the test."""
    children: list[Child] = []

    def run(script: str, *arguments: object) -> Child:
        children.append(Child(script, *map(str, arguments)))
        return children[-1]

    yield run
    for child in children:
        child.end()


def owner(board: SQLiteJobBoard, job: BoardJob) -> str | None:
    entry = board.listing().jobs.get(job.uuid)
    return entry.claim.owner if entry is not None and entry.claim is not None else None


def lock_files(path: Path) -> list[Path]:
    folder = path.with_name(path.name + ".locks")
    return sorted(folder.iterdir()) if folder.exists() else []


@contextmanager
def overheard(board: SQLiteJobBoard) -> Iterator[list[str]]:
    """All that a board, which is not connected yet, asks the database for."""
    said: list[str] = []

    def listen(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(said.append)

    sa.event.listen(board._database._engine, "connect", listen)
    yield said


def reach(root: object) -> int:
    """How many objects hang on one, but for code and for SQLAlchemy's, whose caches have limits."""
    seen, left = {id(root)}, [root]
    while left:
        one = left.pop()
        # A dict that has text for keys alone does not tell of them.
        keys = one.keys() if isinstance(one, dict) else ()
        for held in (*gc.get_referents(one), *keys):
            ours = not isinstance(held, type | ModuleType | FunctionType)
            if ours and id(held) not in seen and not type(held).__module__.startswith("sqlalchemy."):
                seen.add(id(held))
                left.append(held)
    return len(seen)


def refusal(path: Path, act: str = "connect", **options: Any) -> str:
    """The one line with which the board refuses."""
    board = SQLiteJobBoard("test", {"path": str(path)}, **options)
    with pytest.raises(BoardUnreachable) as told:
        getattr(board, act)()
    board.close()
    assert "\n" not in str(told.value)
    return str(told.value)
