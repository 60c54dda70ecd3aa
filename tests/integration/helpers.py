"""What tests on real boards share: a board opened and closed, a job waited for, a job taken by another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from conductor_console import jobboards
from conductor_console.jobboards.base import BinEntry, JobEntry, LedgerBoard
from tests.support import eventually

T = TypeVar("T")


@contextlib.contextmanager
def opened(url: str, store: Any = None, **options: Any) -> Iterator[LedgerBoard]:
    """The board at ``url``, made where it is missing, connected, and closed on leaving."""
    board: LedgerBoard = jobboards.fetch(url, persistence=store, **options)
    try:
        board.ensure()
        board.connect()
        yield board
    finally:
        board.close()


def found(look: Callable[[], T | None], what: str) -> T:
    """What ``look`` finds, as soon as it finds it."""
    seen = eventually(look, what=what)
    assert seen is not None
    return seen


def job(board: LedgerBoard, key: str, when: Callable[[JobEntry], object] = lambda _: True) -> JobEntry:
    """The job, once it is as ``when`` wants it."""

    def look() -> JobEntry | None:
        entry = board.listing().jobs.get(key)
        return entry if entry is not None and when(entry) else None

    return found(look, f"{key} on the board as it should be")


def in_bin(board: LedgerBoard, key: str) -> BinEntry:
    return found(lambda: board.listing().binned.get(key), f"{key} in the bin")


def claimed(board: LedgerBoard, key: str) -> JobEntry:
    return job(board, key, lambda entry: entry.claim)


def take(board: LedgerBoard, key: str, who: str = "c9") -> Any:
    """Claims the job through ``board``, another's connection."""
    taken = eventually(lambda: next((one for one in board.iterjobs() if one.uuid == key), None), what=f"{key} there")
    board.claim(taken, who)
    return taken
