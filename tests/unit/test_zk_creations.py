"""What was created on a board and what was seen of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from conductor_console.jobboards.zk_creations import Creations


def stat(pzxid: int, created: int, deleted: int = 0, czxid: int = 1) -> Any:
    """The board's node: each child that came or went is a change of its children."""
    return SimpleNamespace(czxid=czxid, pzxid=pzxid, cversion=created + deleted, numChildren=created - deleted)


def test_what_was_seen_explains_a_listing() -> None:
    creations = Creations()
    creations.settle(stat(10, 5))
    assert creations.explains(stat(10, 5))
    assert not creations.explains(stat(12, 6))
    creations.seen("job1.lock", 12)
    assert creations.explains(stat(12, 6))
    # What is newer than the listing explains nothing of it.
    creations.seen("job2.lock", 20)
    assert not creations.explains(stat(15, 7))
    assert not creations.explains(stat(20, 8, 1))
    assert creations.explains(stat(20, 7, 1))


def test_another_board_and_an_older_listing_are_not_explained() -> None:
    creations = Creations()
    creations.settle(stat(10, 5))
    assert not creations.explains(stat(10, 5, czxid=2))
    assert not creations.explains(stat(9, 5))


def test_what_we_made_and_took_away_at_once_is_no_excuse_for_anothers() -> None:
    creations = Creations()
    creations.settle(stat(10, 5))
    creations.came_and_went()
    assert not creations.explains(stat(12, 6, 1))
