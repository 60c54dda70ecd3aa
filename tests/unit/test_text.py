from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("nul\x00", "nul\\x00"),
        ("no\xa0break", "no\\xa0break"),
        ("\x9b2J", "\\x9b2J"),
        ("\U000e0001", "\\U000e0001"),
        ("größe 値", "größe 値"),
        ("[/red]", "[/red]"),
        (12, "12"),
    ],
)
def test_foreign_text_is_made_visible(raw: object, shown: str) -> None:
    assert text.visible(raw) == shown


@given(st.text())
def test_visible_text_is_one_printable_line(raw: str) -> None:
    shown = text.visible(raw)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()


def test_a_cut_is_told() -> None:
    assert text.visible("x" * 30, limit=10) == "x" * 10 + " (20 more)"


@given(st.text(alphabet=st.characters(exclude_categories=["C", "M", "Z"])), st.integers(1, 40))
def test_elided_text_fits(raw: str, cells: int) -> None:
    for elide in (text.elide_middle, text.elide_front, text.elide_end):
        short = elide(raw, cells)
        assert text.width(short) <= cells
        if text.width(raw) <= cells:
            assert short == raw


def test_elision_keeps_the_end_of_names_and_of_paths() -> None:
    assert text.elide_middle("create-load-balancer-flow-1f0c9a2e", 20) == "create-loa⋯-1f0c9a2e"
    assert text.elide_front("octavia/network/base.py:214", 12) == "⋯base.py:214"
    assert text.elide_end("a long message", 7) == "a long⋯"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (12.9, "0:12"), (2290, "38:10"), (7390, "2:03:10"), (90000, "1d 01h"), (-3, "0:00")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59, "59s"), (300, "5m"), (7300, "2h"), (300000, "3d"), (-1, "0s")]
)
def test_ages(seconds: float, shown: str) -> None:
    assert text.age(seconds) == shown


def test_sizes_and_plurals() -> None:
    assert [text.size(212), text.size(3277), text.size(2 * 1024 * 1024)] == ["212 bytes", "3.2 KB", "2.0 MB"]
    assert [text.plural(1, "job"), text.plural(1204, "job")] == ["1 job", "1,204 jobs"]
    assert text.plural(2, "entry", "entries") == "2 entries"
