"""What the app looks like, kept as pictures: compare them with your own eyes before you accept a new one."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_console.console.app import ConsoleApp
from tests.tui.board import FrozenSource, RecordedHand

VIEWS = ("claims", "failures", "bin", "purge")


def app() -> ConsoleApp:
    source = FrozenSource()
    return ConsoleApp(source, RecordedHand(), now=source.clock)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_first_screen(snap_compare: Any, size: tuple[int, int]) -> None:
    assert snap_compare(app(), terminal_size=size)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_delete_dialog(snap_compare: Any, size: tuple[int, int]) -> None:
    keys = [*["down"] * 4, "space", *["down"] * 2, "space", *["down"] * 3, "space", "D"]
    assert snap_compare(app(), press=keys, terminal_size=size)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("keys", [("2",), ("3",), ("4",), ("4", "space", "space", "X")], ids=VIEWS)
def test_the_views(snap_compare: Any, keys: tuple[str, ...], size: tuple[int, int]) -> None:
    assert snap_compare(app(), press=keys, terminal_size=size)
