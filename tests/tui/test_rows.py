"""The rows of a list: cursor, marks and scroll position go by key, and what vanished says why for two seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from conductor_console.console.rows import Ghost, Rows

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows(*keys: str, height: int = 5) -> Rows[str]:
    made: Rows[str] = Rows(str)
    made.resize(height)
    take(made, *keys)
    return made


def take(made: Rows[str], *keys: str, now: datetime = NOW, hidden: tuple[str, ...] = ()) -> None:
    made.take(list(keys), {key: key for key in (*keys, *hidden)}, now, lambda key: f"{key} went")


def shown(made: Rows[str]) -> list[str]:
    return [f"({row.item})" if isinstance(row, Ghost) else row for row in made.shown]


def line(made: Rows[str]) -> int:
    return made.index - made.top


def test_the_cursor_begins_at_the_worst_and_keeps_to_its_job() -> None:
    made = rows("a", "b", "c")
    assert made.cursor == "a"
    take(made, "z", "a", "b", "c")
    assert (made.cursor, made.top) == ("a", 0)


def test_until_it_is_steered_the_list_keeps_to_its_top() -> None:
    made = rows("a", "b", "c", height=2)
    take(made, "x", "y", "z", "a", "b", "c")
    assert (made.cursor, made.top) == ("x", 0)


def test_steered_the_row_keeps_its_line_of_the_screen() -> None:
    made = rows(*"abcdefgh", height=4)
    made.go(5)
    before = line(made)
    take(made, *"xyzabcdefgh")
    assert (made.cursor, line(made)) == ("f", before)
    take(made, *"hgfedcba")
    assert made.cursor == "f"


def test_a_vanished_row_stays_two_seconds_and_then_its_neighbour_has_the_cursor() -> None:
    made = rows(*"abcd")
    made.go(1)
    take(made, *"acd")
    assert shown(made) == ["a", "(b)", "c", "d"]
    assert (made.cursor, made.current, made.targets()) == ("b", None, [])
    take(made, *"acd", now=NOW + timedelta(seconds=1.9))
    assert shown(made) == ["a", "(b)", "c", "d"]
    take(made, *"acd", now=NOW + timedelta(seconds=2.1))
    assert shown(made) == ["a", "c", "d"]
    assert (made.cursor, line(made)) == ("c", 1)


def test_a_ghost_tells_why() -> None:
    made = rows("a", "b")
    take(made, "a")
    ghost = made.shown[1]
    assert isinstance(ghost, Ghost)
    assert ghost.why == "b went"


def test_the_last_of_the_list_vanishing_puts_the_cursor_on_the_one_before() -> None:
    made = rows(*"abc")
    made.go(2)
    take(made, *"ab")
    take(made, *"ab", now=NOW + timedelta(seconds=3))
    assert made.cursor == "b"
    take(made, now=NOW + timedelta(seconds=6))
    take(made, now=NOW + timedelta(seconds=9))
    assert shown(made) == []
    assert made.cursor is None


def test_a_filtered_row_is_no_ghost() -> None:
    made = rows(*"abc")
    made.go(1)
    take(made, *"ac", hidden=("b",))
    assert shown(made) == ["a", "c"]
    assert made.cursor == "c"


def test_marks_go_by_key_survive_filters_and_end_with_their_row() -> None:
    made = rows(*"abc")
    made.toggle_mark()
    made.go(2)
    made.toggle_mark()
    take(made, *"cb", hidden=("a",))
    assert made.targets() == ["a", "c"]
    assert made.hidden_marks == 1
    take(made, *"cb")
    assert made.targets() == ["c"]
    made.go(0)
    made.toggle_mark()
    assert made.targets() == ["c"]


@given(
    pictures=st.lists(st.lists(st.sampled_from("abcdefghij"), unique=True), min_size=1, max_size=8),
    moves=st.lists(st.integers(0, 12), max_size=8),
    height=st.integers(1, 6),
)
def test_whatever_comes_the_cursor_is_on_its_job_and_in_sight(
    pictures: list[list[str]], moves: list[int], height: int
) -> None:
    made = rows(*pictures[0], height=height)
    now = NOW
    for place, picture in enumerate(pictures):
        now += timedelta(seconds=0.7)
        before = made.cursor
        take(made, *picture, now=now)
        live = [row for row in made.shown if not isinstance(row, Ghost)]
        assert live == picture
        if made.shown:
            assert made.top <= made.index < made.top + height
        if before in picture and (made.top or before in made.viewport):
            assert made.cursor == before or (made.top == 0 and made.index == 0)
        if place < len(moves) and made.shown:
            made.go(moves[place])
            assert made.top <= made.index < made.top + height


def test_what_went_while_nobody_looked_is_no_ghost() -> None:
    made = rows("a", "b", "c")
    take(made, "c", now=NOW + timedelta(seconds=30))
    assert shown(made) == ["c"]
    take(made, now=NOW + timedelta(seconds=31))
    assert shown(made) == ["(c)"]
