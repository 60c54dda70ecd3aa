"""Two board objects at one place, on each kind of board: what the tests of the board's contract share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conductor_console import jobboards
from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import Policy, make_cause
from conductor_console.jobboards.base import (
    BinEntry,
    BoardJob,
    JobEntry,
    LedgerBoard,
)
from tests.support import eventually

BOOM = make_cause("StorageFailure", "cannot save", "pkg/mod.py:41 in save")
POLICY = Policy(base=60, jitter=0)


@dataclass
class Place:
    """Somewhere a board may be, and the board objects that a test opened on it."""

    conf: dict[str, Any]
    opened: list[LedgerBoard] = field(default_factory=list)

    def board(self, **options: Any) -> LedgerBoard:
        """A board object that is not connected."""
        board: LedgerBoard = jobboards.fetch(self.conf, name="test", **options)
        self.opened.append(board)
        return board

    def connected(self, **options: Any) -> LedgerBoard:
        board = self.board(**options)
        board.connect()
        return board


@pytest.fixture(params=["sqlite", "zookeeper"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place where no board is yet."""
    if request.param == "sqlite":
        conf = {"board": "sqlite", "path": str(tmp_path / "board.db")}
    else:
        hosts, path = request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path")
        conf = {"board": "zookeeper", "hosts": hosts, "path": path}
    place = Place(conf)
    yield place
    for board in place.opened:
        board.close()


@pytest.fixture
def place(nowhere: Place) -> Place:
    """A place with an empty board."""
    board = nowhere.board()
    board.ensure()
    board.close()
    return nowhere


@pytest.fixture
def ours(place: Place) -> LedgerBoard:
    return place.connected()


@pytest.fixture
def theirs(place: Place) -> LedgerBoard:
    return place.connected()


def entry_of(board: LedgerBoard, uuid: str) -> JobEntry | None:
    return next((entry for entry in board.listing().jobs.values() if entry.uuid == uuid), None)


def binned_of(board: LedgerBoard, uuid: str) -> BinEntry | None:
    return next((entry for entry in board.listing().binned.values() if entry.uuid == uuid), None)


def seen(board: LedgerBoard, job: BoardJob, fits: Callable[[JobEntry], object] = lambda _: True) -> JobEntry:
    """The job in the board's listing, as soon as it is there and fits."""

    def look() -> JobEntry | None:
        entry = entry_of(board, job.uuid)
        return entry if entry is not None and fits(entry) else None

    entry = eventually(look, what=f"job {job.name} in the listing as expected")
    assert entry is not None
    return entry


def unseen(board: LedgerBoard, job: BoardJob) -> None:
    eventually(lambda: entry_of(board, job.uuid) is None, what=f"job {job.name} to leave the listing")


def seen_binned(board: LedgerBoard, job: BoardJob, fits: Callable[[BinEntry], object] = lambda _: True) -> BinEntry:
    def look() -> BinEntry | None:
        entry = binned_of(board, job.uuid)
        return entry if entry is not None and fits(entry) else None

    entry = eventually(look, what=f"job {job.name} in the bin")
    assert entry is not None
    return entry


def same_job(board: LedgerBoard, job: BoardJob) -> BoardJob:
    """The job as another board object gives it."""

    def look() -> BoardJob | None:
        return next((found for found in board.iterjobs() if found.uuid == job.uuid), None)

    found = eventually(look, what=f"job {job.name} on the board")
    assert found is not None
    return found


def claimed(entry: JobEntry) -> bool:
    return entry.claim is not None


def free(entry: JobEntry) -> bool:
    return entry.claim is None


def names(board: LedgerBoard, **options: Any) -> list[str]:
    return [job.name for job in board.iterjobs(**options)]


def ready(board: LedgerBoard, later: float = 0) -> list[str]:
    """The names of the jobs that may be tried in so many seconds."""
    return [job.name for job in board.candidates(utcnow() + timedelta(seconds=later))[0]]


def fail(board: LedgerBoard, job: BoardJob, who: str = "c1", hold: float = 0) -> None:
    """Claims the job and lets it go after an error."""
    board.claim(job, who)
    board.abandon(job, who, error=BOOM, hold=hold)
