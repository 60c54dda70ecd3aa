"""Random doings of two operators, two conductors and a guard on a real board, against a simple model.

No job is lost or doubled; none is run by two at once unless an operator ended a claim that was seen; what each was
told is true; what the audit trails say is what was told. Everybody acts on what was seen, which may be long past, and
some act at the same moment. A test that failed is played again with its seed: ``MODEL_SEED=…`` and the same
``MODEL_SEQUENCES``.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from conductor_console.jobboards.base import LedgerBoard
from conductor_console.operations import FileAudit, Operations, acts
from tests.integration.helpers import claimed, in_bin, job, take
from tests.integration.modelling.grounds import Ground, OnSQLite, OnZookeeper
from tests.integration.modelling.office import Office
from tests.integration.modelling.playing import SEQUENCES, play_many
from tests.servers import Zookeeper

#: The part of the sequences that is played on ZooKeeper, where each takes longer.
ON_ZOOKEEPER = 0.1
PARTS = 2
SQLITE_PARTS = 4

# kazoo's threads draw from ``random`` for themselves, also while a sequence is being made up.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lets a job go while only one acts: to wait for that would be in vain."""
    monkeypatch.setattr(acts, "PATIENCE", 0.01)


def _play(ground: Ground, folder: Path, part: float) -> None:
    play_many(Office(ground, folder), math.ceil(SEQUENCES * part), shortest=4, longest=7)


@pytest.mark.parametrize("part", range(PARTS))
def test_zookeeper(zookeeper: Zookeeper, zk_path: str, tmp_path: Path, part: int) -> None:
    _play(OnZookeeper(zookeeper, zk_path), tmp_path, ON_ZOOKEEPER / PARTS)


@pytest.mark.parametrize("part", range(SQLITE_PARTS))
def test_sqlite(tmp_path: Path, part: int) -> None:
    _play(OnSQLite(tmp_path, processes=False), tmp_path, (1 - ON_ZOOKEEPER) / SQLITE_PARTS)


# -- what the sequences found ------------------------------------------------------------------------------------------
@pytest.fixture
def anna(board: LedgerBoard, tmp_path: Path) -> Operations:
    return Operations(board, operator="anna@desk", audit=FileAudit(tmp_path / "audit.jsonl"))


def test_what_another_binned_since_is_not_taken_back(board: LedgerBoard, other: LedgerBoard, anna: Operations) -> None:
    uuid = board.post("order").uuid
    anna.bin([job(board, uuid)])
    other.restore(in_bin(other, uuid))
    other.bin(job(other, uuid), "guard@post", "failed 3 times in a row")
    (result,) = anna.undo()
    assert (result.result, result.why) == ("changed", "binned by guard@post since")
    assert in_bin(board, uuid).who == "guard@post"


def test_what_another_binned_at_that_very_moment_is_not_taken_back(
    board: LedgerBoard, other: LedgerBoard, anna: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = board.post("order").uuid
    anna.bin([job(board, uuid)])
    refresh = board.refresh

    def refreshing() -> None:
        refresh()
        monkeypatch.setattr(board, "refresh", refresh)
        shown = board.listing()
        other.restore(in_bin(other, uuid))
        other.bin(job(other, uuid), "guard@post", "failed 3 times in a row")
        monkeypatch.setattr(board, "listing", lambda: shown)

    monkeypatch.setattr(board, "refresh", refreshing)
    (result,) = anna.undo()
    assert result.result == "changed"
    assert in_bin(other, uuid).who == "guard@post"


def test_a_job_that_was_let_go_before_it_was_deleted_is_posted_again(
    board: LedgerBoard, other: LedgerBoard, anna: Operations
) -> None:
    uuid = board.post("order").uuid
    held = take(other, uuid)
    seen = claimed(board, uuid)
    other.abandon(held, "c9")
    job(board, uuid, lambda entry: entry.claim is None)
    assert [result.result for result in anna.delete([seen])] == ["done"]
    (result,) = anna.undo()
    assert result.result == "done"
    assert job(board, result.why.removeprefix("posted again as ")).name == "order"


def test_a_job_that_the_board_has_not_shown_yet_is_not_told_as_gone(
    board: LedgerBoard, other: LedgerBoard, anna: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = other.post("order").uuid
    held = take(other, uuid)
    seen = claimed(other, uuid)
    other.abandon(held, "c9")
    claimed_anew = take(other, uuid, "c8")
    job(board, uuid)
    listing, refreshed = board.listing(), threading.Event()
    behind = replace(listing, jobs={key: entry for key, entry in listing.jobs.items() if key != uuid})
    listed, refresh = board.listing, board.refresh
    monkeypatch.setattr(board, "listing", lambda: listed() if refreshed.is_set() else behind)

    def refreshing() -> None:
        refresh()
        refreshed.set()

    monkeypatch.setattr(board, "refresh", refreshing)
    (result,) = anna.delete([seen])
    assert (result.result, "c8 holds it now" in result.why) == ("changed", True)
    assert other.holds(claimed_anew)
