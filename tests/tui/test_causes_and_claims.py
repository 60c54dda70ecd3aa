"""The failures by cause, and the claims: what they tell, and what their keys do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conductor_console.console import glyphs
from conductor_console.console.screens.jobs import JobsScreen
from tests.tui.board import PLUG, STORE, FrozenSource, bin_entry, cause_view, job, picture
from tests.tui.driving import Desk, desk

SICK = [job(f"plug-{n}", failures=5 - n, hold=90, posted=60) for n in range(3)]
RUNNING = job("plug-running", failures=3, owner="c1@ctl-a:4121", held=20, posted=30, alive=True)
OTHER = job("store-1", failures=1, hold=30, error=STORE)
HEALTHY = job("healthy", posted=2)
ORPHAN = job("orphan", owner="c9@ctl-z:1", held=2400, posted=50, alive=False)
LATE = job("late", owner="a1@ctl-a:2", held=500, posted=50, alive=True)


def failing() -> FrozenSource:
    binned = bin_entry("plug-binned", 12, "anna@ops-1", "after 8 failures")
    causes = (cause_view(PLUG, 38, 0), cause_view(STORE, 2, 0))
    return FrozenSource(picture((*SICK, RUNNING, OTHER, HEALTHY), binned=(binned,), causes=causes))


def held() -> FrozenSource:
    return FrozenSource(picture((LATE, RUNNING, ORPHAN, HEALTHY), binned=()))


def names(at: Desk) -> list[str]:
    return [row.name for row in at.table.rows.shown]  # type: ignore[union-attr]


# -- failures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_a_cause_is_told_with_its_count_times_conductors_and_jobs(size: tuple[int, int]) -> None:
    async with desk(failing(), size=size) as at:
        await at.press("3")
        line = at.line("PlugVIPException").split()
        assert line[:4] == ["▌", "38x", "PlugVIPException", "neutron/base.py:214"]
        assert line[4:6] == ["5", "8s"]
        assert "no port on subnet 6c1e4f02 answers within 2.0 s" in at.text
        assert f"cause {PLUG.fingerprint}, first 47m ago, last 8s ago" in at.text
        assert "5 jobs fail for this reason" in at.text
        assert "c1@ctl-a" in at.text
        assert "5/8" in at.line("plug-0")
        assert max(len(line) for line in at.text.splitlines()) <= size[0]
        await at.press("down")
        assert "1 job fails for this reason" in at.text
        assert "the database does not answer" in at.text


async def test_enter_lists_the_jobs_of_a_cause_and_the_numbers_agree() -> None:
    async with desk(failing()) as at:
        await at.press("3", "enter")
        assert isinstance(at.app.screen, JobsScreen)
        assert sorted(names(at)) == ["plug-0", "plug-1", "plug-2", "plug-running"]
        assert f"'cause:{PLUG.fingerprint} fails:>0': 4 of 6; esc clears it" in at.text
        await at.press("escape")
        assert len(names(at)) == 6


async def test_what_acts_on_a_cause_asks_and_acts_on_its_jobs_on_the_board() -> None:
    async with desk(failing()) as at:
        await at.press("3", "d")
        assert "Move these 4 jobs to the bin?" in at.text
        assert "One is claimed by a live conductor." in at.text
        await at.press("tab", "enter")
        await at.until(lambda: "4 moved to the bin, u undoes it" in at.text, "the notice")
        await at.press("R")
        assert "Retry these 3 jobs now?" in at.text
        assert "plug-running" not in "".join(at.text.partition("Retry these")[2].partition("Cancel")[0])
        await at.press("tab", "enter")
        await at.until(lambda: "3 to be retried now" in at.text, "the notice")
        await at.press("D")
        assert "Delete these 4 jobs for good?" in at.text
        await at.press("escape")
        mine = ["plug-0", "plug-1", "plug-2"]
        assert [(verb, sorted(done)) for verb, done in at.hand.calls] == [
            ("bin", [*mine, "plug-running"]),
            ("retry", mine),
        ]


async def test_a_cause_none_of_whose_jobs_is_left_says_so() -> None:
    async with desk(FrozenSource(picture((), binned=(), causes=(cause_view(PLUG, 3, 2),)))) as at:
        await at.press("3")
        assert "2 jobs fail for this reason" in at.text
        assert "2 left the board" in at.text
        await at.press("d", "D", "R", "enter", "t")
        assert "None of its jobs is on the board" in at.text
        assert at.hand.calls == []


async def test_a_board_without_failures_says_so() -> None:
    async with desk(FrozenSource(picture((HEALTHY,), binned=(), causes=()))) as at:
        await at.press("3", "d", "enter")
        assert "No job fails, none failed in the last hour" in at.text


async def test_the_traceback_is_the_stores_and_hostile_text_in_it_is_text() -> None:
    source = failing()
    source.tracebacks["plug-1"] = [
        ("plug", '  File "a.py", line 1, in f\n    raise \x1b[31m[/red]\nValueError: no'),
        ("older", "OSError: password=hunter2"),
    ]
    async with desk(source) as at:
        await at.press("3", "t")
        await at.until(lambda: "plug-1: tracebacks" in at.text, "the traceback")
        assert "raise \\x1b[31m[/red]" in at.text
        assert "ValueError: no" in at.text
        assert "hunter2" not in at.text
        assert "masked" in at.text
        await at.press("y", "escape")
        assert "hunter2" not in at.app.clipboard
        assert "ValueError: no" in at.app.clipboard
        await at.press("down", "t")
        await at.until(lambda: "No traceback is stored" in at.text, "the notice")
        await at.press("y")
        assert at.app.clipboard.startswith("StorageFailure: the database does not answer")


async def test_a_cause_that_heals_says_so_for_a_moment() -> None:
    source = failing()
    async with desk(source) as at:
        await at.press("3", "down")
        source.show(picture((*SICK, RUNNING, HEALTHY), binned=(), causes=(cause_view(PLUG, 38, 0),)))
        await at.deliver()
        assert "no job fails so any more" in at.line("StorageFailure")


# -- claims ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_claims_stand_by_owner_the_orphans_first(size: tuple[int, int]) -> None:
    async with desk(held(), size=size) as at:
        await at.press("2")
        assert "3 claims   3 owners   1 held by no live conductor" in at.text
        rows = [line.split()[-5:] for line in at.text.splitlines() if "0x1" in line]
        assert [row[1:4] for row in rows] == [
            ["c9@ctl-z", "orphan", "40:00"],
            ["a1@ctl-a", "late", "8:20"],
            ["c1@ctl-a", "plug-running", "0:20"],
        ]
        assert "? suspect" in at.line("c9@ctl-z")
        assert max(len(line) for line in at.text.splitlines()) <= size[0]


async def test_claims_are_filtered_opened_marked_and_acted_upon() -> None:
    async with desk(held()) as at:
        await at.press("2", "slash", *"!state:s", "enter")
        assert "2 of 3; esc clears it" in at.text
        await at.press("space", "space", "D")
        assert "2 are claimed by live conductors." in at.text
        await at.press("tab", "tab", "enter")
        await at.until(lambda: "2 deleted for good, u posts anew" in at.text, "the notice")
        assert at.hand.calls == [("delete", ["late", "plug-running"])]
        await at.press("enter")
        assert "Jobs › " in at.text


async def test_a_claim_that_ends_says_how_for_a_moment() -> None:
    source = held()
    async with desk(source) as at:
        await at.press("2")
        freed = replace(LATE, owner=None, claimed_at=None, state="waiting", standing="waiting")
        source.show(picture((freed, RUNNING, ORPHAN, HEALTHY), binned=()))
        await at.deliver()
        assert "let go" in at.line("a1@ctl-a")


async def test_nobody_holds_anything() -> None:
    async with desk(FrozenSource(picture((HEALTHY,), binned=()))) as at:
        await at.press("2", "d", "enter")
        assert "Nobody holds any job" in at.text
        assert at.hand.calls == []


async def test_the_new_views_are_ascii_where_that_is_asked_for() -> None:
    try:
        async with desk(failing(), ascii_only=True) as at:
            for view in "234":
                await at.press(view)
                assert at.text.isascii(), at.text
            await at.press("X")
            assert at.text.isascii(), at.text
    finally:
        glyphs.use_ascii(False)


@pytest.mark.parametrize("view", ["1", "2"])
async def test_a_claim_is_released_only_after_the_warning(view: str) -> None:
    async with desk(held()) as at:
        await at.press(view, "slash", *"late", "enter")
        await at.press("U")
        assert "Release the claim on this job?" in at.text
        assert "cannot be undone" in at.text
        assert "Whoever holds it may still be at work." in at.text
        assert "The job may then be run twice at once" in at.text
        assert "Release only when you know that its owner is dead." in at.text
        assert "Cancel (focused)" in at.text
        await at.press("enter")
        assert at.hand.calls == []
        await at.press("U", "tab", "enter")
        await at.until(lambda: "1 released" in at.text, "the notice")
        assert at.hand.calls == [("release", ["late"])]


async def test_what_nobody_holds_has_no_claim_to_release_and_can_be_held() -> None:
    async with desk(FrozenSource(picture((HEALTHY,), binned=()))) as at:
        await at.press("U")
        assert "there is no claim to release" in at.text
        await at.press("H")
        said = "1 held for an hour, u undoes it; it binds our conductors alone"
        await at.until(lambda: said in at.text, "the notice")
        assert at.hand.calls == [("hold", ["healthy"])]
