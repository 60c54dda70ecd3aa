"""The first screen, driven by keys on a frozen board."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from conductor_console.console import layout
from conductor_console.jobboards.base import Connection
from conductor_console.observatory import filters
from tests.tui.board import BOARD, FIRST, NOW, FrozenSource, RecordedHand, bin_entry, job, picture
from tests.tui.driving import desk

HELD = job("held-job", failures=1, hold=40, posted=12)
WAITING = job("waiting-job", posted=30)
OTHER = job("other-job", posted=20)
CLAIMED = job("claimed-job", owner="c1@ctl-a:4121", held=123, posted=50, alive=True)
CYCLING = job("cycling-job", failures=4, hold=90, posted=60)
SMALL = (CYCLING, HELD, CLAIMED, WAITING, OTHER)


def small() -> FrozenSource:
    return FrozenSource(picture(SMALL, binned=()))


async def test_one_look_tells_what_is_stuck_since_when_by_whom_and_why() -> None:
    async with desk() as at:
        first = at.line("create-load-balancer-flow-1f0c9a2e")
        assert "↻ cycling" in first
        assert "6/8   0:12  c2@ctl-b   high    2h" in first
        assert at.line("delete-load-balancer-flow-90d2f7ab").split()[-1] != ""
        assert "◉ live" in at.text
        assert BOARD in at.text
        assert "03:14:07 UTC" in at.text
        assert "1,204 jobs   6 cycling   1 malformed   1 suspect" in at.text
        assert "6 of 7 attempts failed, bin at 8" in at.text
        assert "PlugVIPException  neutron/base.py:214" in at.text
        assert "more below, worst first" in at.text


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (110, 33), (120, 36), (160, 45), (200, 60)])
async def test_no_line_is_longer_than_the_terminal_and_no_word_of_the_keys_is_cut(size: tuple[int, int]) -> None:
    async with desk(size=size) as at:
        lines = at.text.splitlines()
        assert len(lines) <= size[1]
        assert "? help" in lines[-1]
        assert "q quit" in lines[-1]
        assert "d bin" in lines[-1]


async def test_too_small_a_terminal_still_shows_the_list_and_says_what_is_needed() -> None:
    async with desk(size=(60, 15)) as at:
        assert "80x24 needed, this is 60x15" in at.text
        assert "cycling" in at.text


def test_columns_are_those_of_the_design() -> None:
    at_80 = {column.id: (column.start, column.end) for column in layout.columns(80)}
    assert at_80 == {"state": (3, 14), "name": (16, 52), "fails": (53, 58), "for": (60, 66), "owner": (68, 78)}
    at_120 = {column.id: column.end for column in layout.columns(89)}
    assert at_120 == {"state": 14, "name": 52, "fails": 58, "for": 65, "owner": 77, "prio": 82, "age": 88}
    assert {"cause", "posted"} <= {column.id for column in layout.columns(117)}
    for width in range(40, 260):
        placed = layout.columns(width)
        assert all(one.end < two.start for one, two in pairwise(placed))
        assert width < 55 or placed[-1].end < width


async def test_the_cursor_follows_its_job_when_rows_are_sorted_anew() -> None:
    async with desk(small()) as at:
        await at.press("down", "down")
        assert at.table.rows.cursor == CLAIMED.key
        worse = job("claimed-job", failures=6, owner="c1@ctl-a:4121", held=123, posted=50, alive=True)
        assert worse.key == CLAIMED.key
        at.source.show(picture((worse, CYCLING, HELD, WAITING, OTHER), binned=()))
        await at.deliver()
        assert at.table.rows.cursor == CLAIMED.key
        assert "▌  ↻ cycling    claimed-job" in at.text


async def test_a_vanished_row_says_why_and_acting_on_it_does_nothing() -> None:
    async with desk(small()) as at:
        await at.press("down")
        binned = replace(bin_entry("held-job", 0.0, "anna@ops-1", "by an operator"), key=HELD.key, uuid=HELD.key)
        at.source.show(picture((CYCLING, CLAIMED, WAITING, OTHER), binned=(binned,)))
        await at.deliver()
        assert at.line("held-job  ").split("│")[0].rstrip().endswith("held-job" + 30 * " " + "in the bin by anna@ops-1")
        assert "1 of 1 attempt failed" in at.text
        await at.press("d", "D")
        assert at.hand.calls == []
        assert "That job is gone" in at.text
        at.source.tick(2.5)
        await at.deliver()
        assert at.table.rows.cursor == CLAIMED.key


async def test_d_moves_an_unclaimed_job_to_the_bin_at_once_and_u_undoes_it() -> None:
    async with desk(small()) as at:
        await at.press("d")
        await at.until(lambda: "1 moved to the bin, u undoes it" in at.text, "the notice")
        assert at.hand.calls == [("bin", ["cycling-job"])]
        await at.press("u")
        await at.until(lambda: "1 undone" in at.text, "the undoing")
        await at.press("u")
        await at.until(lambda: "Nothing to undo" in at.text, "the notice")


async def test_d_asks_when_somebody_holds_the_job() -> None:
    async with desk(small()) as at:
        await at.press("down", "down", "d")
        assert "Move this job to the bin?" in at.text
        assert "It is claimed by a live conductor." in at.text
        await at.press("enter")
        assert at.hand.calls == []
        await at.press("d", "tab", "enter")
        await at.until(lambda: at.hand.calls == [("bin", ["claimed-job"])], "the move")


async def test_deleting_always_asks_and_cancel_has_the_focus() -> None:
    async with desk(small()) as at:
        await at.press("space", "space", "space", "D")
        assert "Delete these 3 jobs for good?" in at.text
        assert "u can only post anew" in at.text
        assert "One is claimed by a live conductor." in at.text
        assert "running now, for 2:03" in at.line("claimed-job")
        assert "failed 4 of 8" in at.line("cycling-job")
        assert "▸ Cancel" in at.text
        assert "enter Cancel (focused)" in at.text
        await at.press("enter")
        assert "Delete these" not in at.text
        assert at.hand.calls == []


async def test_deleting_takes_two_more_keys_and_tells_what_came_of_each() -> None:
    hand = RecordedHand()
    hand.answer = {"claimed-job": ("changed", "claimed by c9 since")}
    async with desk(small(), hand=hand) as at:
        await at.press("space", "space", "space", "D", "tab", "tab", "enter")
        await at.until(lambda: "2 deleted for good" in at.text, "the notice")
        assert "1 changed under you: claimed by c9 since" in at.text
        assert hand.calls == [("delete", ["cycling-job", "held-job", "claimed-job"])]
        assert list(at.table.rows.marks) == [CLAIMED.key]


async def test_the_mild_way_of_the_delete_dialog_moves_to_the_bin() -> None:
    async with desk(small()) as at:
        await at.press("D", "tab", "enter")
        await at.until(lambda: at.hand.calls == [("bin", ["cycling-job"])], "the move")


async def test_the_dialog_is_about_the_jobs_that_were_seen_whatever_happens_meanwhile() -> None:
    async with desk(small()) as at:
        await at.press("D")
        at.source.show(picture((WAITING, OTHER), binned=()))
        await at.deliver()
        assert "cycling-job" in at.text
        await at.press("escape", "D")
        assert at.hand.calls == []


async def test_a_refusal_is_one_red_line() -> None:
    hand = RecordedHand()
    hand.error = RuntimeError("boom\x1b[31m")
    async with desk(small(), hand=hand) as at:
        await at.press("d")
        await at.until(lambda: "Not done: boom\\x1b[31m" in at.text, "the error")


async def test_marks_stay_with_their_jobs() -> None:
    async with desk(small()) as at:
        await at.press("space")
        assert "* ↻ cycling" in at.line("cycling-job")
        assert "* 1 marked" in at.text
        healed = replace(CYCLING, failures=0, standing="waiting", state="waiting", health="ok")
        at.source.show(picture((HELD, CLAIMED, WAITING, OTHER, healed), binned=()))
        await at.deliver()
        assert "* ◦ waiting" in at.line("cycling-job")
        await at.press("escape")
        assert "marked" not in at.text


async def test_the_filter_lists_what_matches_as_it_is_typed_and_escape_clears_it() -> None:
    async with desk(small()) as at:
        await at.press("slash", *"held-j")
        assert at.text.splitlines()[-1].split() == ["enter", "keep", "esc", "clear"]
        assert [row.name for row in at.table.rows.shown] == ["held-job"]  # type: ignore[union-attr]
        await at.press("enter")
        assert "Filter 'held-j': 1 of 5; esc clears it" in at.text
        await at.press("escape")
        assert len(at.table.rows.shown) == 5
        assert "Filter" not in at.text


@pytest.mark.parametrize(
    ("needle", "names"),
    [
        ("!job", set()),
        ("!held", {"claimed-job", "waiting-job", "other-job"}),
        ("CYCLING", {"cycling-job"}),
        ("c1@ctl", {"claimed-job"}),
        ("plugvip", {"cycling-job", "held-job"}),
        ("neutron/base", {"cycling-job", "held-job"}),
        (WAITING.key[:8], {"waiting-job"}),
        ("[", set()),
        ("state:cycling", {"cycling-job"}),
        ("!state:claimed fails:0", {"waiting-job", "other-job"}),
        ("age:>55m", {"cycling-job"}),
    ],
)
async def test_the_filter_looks_through_name_uuid_owner_state_and_cause(needle: str, names: set[str]) -> None:
    async with desk(small()) as at:
        at.table.filter(filters.parse(needle))
        await at.pilot.pause()
        assert {row.name for row in at.table.rows.shown} == names  # type: ignore[union-attr]
        assert names or "None of 5 jobs matches" in at.text


async def test_a_bad_term_is_told_while_it_is_typed_and_the_list_stays_as_it_was() -> None:
    async with desk(small(), size=(80, 24)) as at:
        await at.press("slash", *"held")
        assert "Filter 'held': 2 of 5" in at.text
        await at.press("space", "!")
        assert at.line("! inverts the term after it (example: !state:claimed)")
        assert at.table.shown == 2
        await at.press("enter")
        assert at.text.splitlines()[-1].split() == ["enter", "keep", "esc", "clear"]
        await at.press(*"xy:")
        assert at.line("no field 'xy', there are state, health, owner")
        await at.press(*["backspace"] * 9, *"!state:h")
        assert "Filter '!state:h': 3 of 5" in at.text
        await at.press("enter")
        assert "Filter '!state:h': 3 of 5; esc clears it" in at.text


async def test_what_a_filter_shows_and_hides_adds_up_whatever_moves() -> None:
    async with desk(small()) as at:
        await at.press("slash", *"fails:>0", "enter")
        assert "Filter 'fails:>0': 2 of 5" in at.text
        at.source.show(picture((CYCLING, CLAIMED, WAITING, OTHER), binned=()))
        await at.deliver()
        assert "gone" in at.line("held-job")
        assert "Filter 'fails:>0': 1 of 4" in at.text
        at.source.show(picture((CLAIMED, WAITING, OTHER, HELD, CYCLING, job("third", failures=1, hold=2)), binned=()))
        await at.deliver()
        assert "Filter 'fails:>0': 3 of 6" in at.text
        await at.press("slash")
        assert at.table.chosen.text == "fails:>0"
        await at.press("escape")
        assert at.table.shown == 6
        assert "Filter" not in at.text


async def test_what_a_filter_hides_is_not_acted_upon_without_a_question() -> None:
    async with desk(small()) as at:
        await at.press("space", "slash", *"other", "enter", "d")
        assert "1 of them are hidden by the filter." in at.text
        assert at.hand.calls == []


async def test_sorting_goes_round_the_columns() -> None:
    async with desk(small()) as at:
        await at.press("s")
        names = [row.name for row in at.table.rows.shown]  # type: ignore[union-attr]
        assert names == sorted(names)
        assert "name ▾" in at.text
        await at.press(*["s"] * 6)
        assert "state ▾" in at.text


async def test_retry_is_for_jobs_that_nobody_holds() -> None:
    async with desk(small()) as at:
        await at.press("R")
        await at.until(lambda: "1 to be retried now" in at.text, "the retry")
        await at.press("down", "down", "R")
        assert "Claimed now: there is no hold to end" in at.text
        assert at.hand.calls == [("retry", ["cycling-job"])]


async def test_a_lost_connection_that_is_tried_every_moment_says_so() -> None:
    source = FrozenSource()
    source.show(replace(picture(), connection=Connection("lost", NOW, "no answer from zk1, zk2, zk3")))
    async with desk(source) as at:
        await at.deliver()
        assert "tried again all the time   no answer from zk1, zk2, zk3" in at.text


async def test_a_lost_connection_is_a_banner_with_a_countdown_over_dated_data() -> None:
    source = FrozenSource()
    lost = Connection("lost", NOW, "no answer from zk1, zk2, zk3", NOW + timedelta(seconds=27))
    source.show(replace(picture(), connection=lost))
    source.tick(23)
    async with desk(source) as at:
        assert "✗ Connection lost 23 s ago   next try in 4 s   no answer from zk1, zk2, zk3" in at.text
        assert "data of 03:14:07 UTC" in at.text
        assert "✗ lost" in at.text
        assert "R d D wait for the board" in at.text
        assert "0:12  c2@ctl-b" in at.text
        await at.press("d", "D", "R", "u")
        assert at.hand.calls == []
        assert "the board cannot be reached" in at.text
        await at.press("down")
        assert at.table.rows.index == 1
        source.tick(1)
        await at.deliver()
        assert "Connection lost 24 s ago   next try in 3 s" in at.text
        source.show(picture())
        await at.deliver()
        assert "◉ live" in at.text
        assert "Connection lost" not in at.text
        assert "d bin" in at.text


async def test_a_read_only_console_says_so_and_does_nothing() -> None:
    async with desk(small(), read_only=True) as at:
        assert "read-only" in at.text.splitlines()[0]
        assert "D delete" not in at.text
        await at.press("d", "D", "R", "u")
        assert "This console is read-only" in at.text
        assert at.hand.calls == []


async def test_an_empty_board_tells_what_to_do() -> None:
    async with desk(FrozenSource(picture((), binned=(), causes=(), conductors=()))) as at:
        assert "No jobs on this board" in at.text
        assert "conductor-console jobs post BOARD" in at.text
        await at.press("d", "D", "enter", "space", "down", "p", "y")
        assert at.hand.calls == []


async def test_a_board_not_read_yet_is_not_called_empty() -> None:
    connecting = Connection("connecting", NOW)
    async with desk(FrozenSource(picture((), complete=False, connection=connecting))) as at:
        assert "has not been read yet" in at.text
        assert "No jobs" not in at.text


async def test_hostile_text_is_shown_as_text() -> None:
    evil = job("[/red] [bold]x[/bold] \x1b]0;pwned\x07 \u202egnp.exe", failures=3, hold=9, uuid="[/]")
    wide = job("作業-負荷分散装置-の作成-1f0c9a2e-作業-負荷分散装置", posted=5)
    async with desk(FrozenSource(picture((evil, wide, OTHER), binned=(), board="[/red]\x1b[2J"))) as at:
        line = at.line("▌")
        assert "[/red] [bold]x[/bo⋯x07 \\u202egnp.exe" in line
        assert "\x1b" not in at.text
        assert "\u202e" not in at.text
        assert "[/red]\\x1b[2J" in at.text
        await at.press("D")
        assert "[/red] [bold]" in at.text
        await at.press("escape", "enter")
        assert "Jobs › [/red] [bold]x[/bold] \\x1b]0;pwned\\x07 \\u202egnp.exe" in at.text
        await at.press("escape", "slash", "left_square_bracket", "slash", "enter")
        assert [row.name for row in at.table.rows.shown] == [evil.name]  # type: ignore[union-attr]
        assert {strip.cell_length for strip in at.strips()} == {120}


async def test_enter_opens_the_job_and_escape_leads_back() -> None:
    async with desk() as at:
        await at.press("enter")
        assert f"Jobs › {FIRST.name}" in at.text
        assert FIRST.key in at.text
        assert "PlugVIPException: no port on subnet 6c1e4f02 answers within 2.0 s" in at.text
        assert "server_pem" in at.text
        assert "masked" in at.line("server_pem")
        assert "BEGIN" not in at.text
        await at.press("down", "down", "down")
        assert "#3 crashed after 0:17" in at.text
        at.source.show(picture(()))
        await at.deliver()
        assert "left the board" in at.text or "claimed by" in at.text
        await at.press("d")
        assert "That job is gone" in at.text
        await at.press("escape")
        assert "state ▾" in at.text


async def test_copying_gives_text() -> None:
    async with desk(small()) as at:
        await at.press("y")
        assert at.app.clipboard.startswith(f"cycling\tcycling-job\t{CYCLING.key}\t4\t-\tPlugVIPException: ")
        await at.press("D", "y", "escape")
        assert at.app.clipboard.startswith("Delete this job for good?\ncycling")


async def test_the_help_is_made_from_the_keys_that_act() -> None:
    async with desk(size=(120, 50)) as at:
        await at.press("question_mark")
        assert "Delete for good; always asks" in at.text
        assert "Sort by the next column" in at.text
        assert "More, fewer conductors" in at.text
        assert "fails again and again" in at.text
        assert "Close the open circuit breaker" in at.text
        assert "Stop what is being done to many jobs" in at.text
        assert "Mark all that are listed" in at.text
        await at.press("escape")
        assert "always asks" not in at.text
        await at.press("4", "question_mark")
        assert "Put back on the board" in at.text
        assert "always asks" not in at.text


async def test_the_help_cuts_nothing_where_there_is_little_room() -> None:
    async with desk(size=(80, 24)) as at:
        await at.press("question_mark")
        seen = at.text
        for _ in range(6):
            await at.press("pagedown")
            seen += at.text
        dialog = [line.split("│")[1] for line in seen.splitlines() if line.count("│") == 2]
        assert not [line for line in dialog if "⋯" in line]
        told = " ".join(" ".join(dialog).split())
        assert "it binds our conductors alone" in told
        assert "Conductors, Events" in told


async def test_changing_views_keeps_where_one_was() -> None:
    async with desk(small()) as at:
        await at.press("down", "down", "4")
        assert "Nothing is in the bin" in at.text
        await at.press("2")
        assert "c1@ctl-a" in at.line("claimed-job")
        await at.press("3")
        assert "PlugVIPException" in at.text
        await at.press("5")
        assert "its session ended" in at.text
        await at.press("6")
        assert "c3@ctl-b crashed" in at.text
        await at.press("1")
        assert at.table.rows.cursor == CLAIMED.key
