"""An act on many jobs: it is seen how far it is, it can be stopped, the screen stays alive, each job is told of."""

from __future__ import annotations

import threading
from dataclasses import replace

from tests.tui.board import FrozenSource, RecordedHand, bin_entry, job, picture
from tests.tui.driving import Desk, desk

JOBS = [job(f"sick-{n:02}", failures=3, hold=90, posted=60) for n in range(30)]


def many() -> FrozenSource:
    return FrozenSource(picture(JOBS, binned=[bin_entry(f"b{n}", n + 1, "anna", "why") for n in range(2)]))


def gated() -> RecordedHand:
    hand = RecordedHand()
    hand.gate = threading.Semaphore(0)
    return hand


async def begin(at: Desk) -> None:
    """Moves all of them to the bin; each waits for the gate."""
    await at.press("3", "d", "tab", "enter")
    await at.until(lambda: "0 of 30" in at.text, "the bar")


async def test_a_bar_tells_how_far_it_is_while_the_keys_stay_alive() -> None:
    hand = gated()
    assert hand.gate is not None
    async with desk(many(), hand=hand, size=(80, 24)) as at:
        await begin(at)
        assert at.line("Moving to the bin").rstrip().endswith("0 of 30  x stops it")
        hand.gate.release(10)
        await at.until(lambda: "10 of 30" in at.text, "ten of them")
        await at.press("1", "down", "down")
        assert at.table.rows.index == 2
        assert "10 of 30" in at.text
        hand.gate.release(20)
        await at.until(lambda: "30 moved to the bin, u undoes it" in at.text, "the notice")
        assert "x stop" not in at.text


async def test_x_stops_it_and_what_was_done_stays_done() -> None:
    hand = gated()
    assert hand.gate is not None
    async with desk(many(), hand=hand) as at:
        await begin(at)
        first, second = hand.calls[0][1][:2]
        hand.answer = {first: ("refused", "no rights"), second: ("changed", "claimed by c9 since")}
        assert "x stop" in at.text.splitlines()[-1]
        hand.gate.release(7)
        await at.until(lambda: "7 of 30" in at.text, "seven of them")
        await at.press("x")
        assert "no more is begun" in at.text
        hand.gate.release(1)
        told = "6 moved to the bin, u undoes it; stopped, 22 left as they were; 1 changed under you; 1 refused"
        await at.until(lambda: f"{told}; o tells each" in at.text, "the notice")
        await at.press("o")
        assert "What came of 30 jobs" in at.text
        assert "no rights" in at.line(f"refused  {first}")
        await at.press("end")
        assert "done     sick-" in at.text
        await at.press("escape")
        assert "What came of" not in at.text


async def test_all_that_a_filter_lists_are_marked_and_acted_upon_at_once() -> None:
    async with desk(many()) as at:
        await at.press("slash", *"sick-1", "enter", "a")
        assert "* 10 marked" in at.text
        await at.press("a")
        assert "marked" not in at.text
        await at.press("space", "a", "escape", "d")
        await at.until(lambda: "10 moved to the bin, u undoes it" in at.text, "the notice")
        ((verb, names),) = at.hand.calls
        assert (verb, sorted(names)) == ("bin", [f"sick-{n}" for n in range(10, 20)])
        await at.press("4", "a", "r")
        await at.until(lambda: "2 restored, u undoes it" in at.text, "the restoring")


async def test_the_whole_reason_is_told_however_narrow_the_screen() -> None:
    hand = RecordedHand()
    under = "job sick-n changed under you: it is claimed now"
    why = f"no rights to move it: {'the right to write is needed on ' * 5}its parent"
    hand.answer = {one.name: ("changed", under) for one in JOBS}
    async with desk(many(), hand=hand, size=(80, 24)) as at:
        await at.press("d")
        await at.until(lambda: "1 changed under you: it is claimed now" in at.text, "the notice")
        hand.answer |= {one.name: ("refused", why) for one in JOBS[:20]}
        await at.press("a", "d")
        await at.until(lambda: "o tells each" in at.text, "what came of all")
        await at.press("o")
        told = " ".join(line.split("│")[1] for line in at.text.splitlines() if line.count("│") == 2)
        assert "is needed on its parent" in " ".join(told.split())
        await at.press("end")
        assert "-30 of 30" in at.text
        assert "changed under you" not in at.text.splitlines()[-4]
        assert at.line(f"changed  {JOBS[29].name}").rstrip(" │").endswith("  it is claimed")
        await at.press("up", "up")
        assert "-30 of 30" not in at.text


async def test_quitting_finishes_what_is_under_way_first() -> None:
    hand = gated()
    assert hand.gate is not None
    async with desk(many(), hand=hand) as at:
        await begin(at)
        await at.press("q")
        assert at.app.return_code is None
        assert "no more is begun" in at.text
        hand.gate.release(1)
        await at.until_left()


async def test_a_short_act_shows_no_bar_and_nothing_to_stop() -> None:
    async with desk(many()) as at:
        await at.press("x")
        assert "Nothing is under way that could be stopped" in at.text
        await at.press("o")
        assert "Nothing was done yet" in at.text
        await at.press("d")
        await at.until(lambda: "1 moved to the bin" in at.text, "the notice")


async def test_purging_wants_the_word_typed() -> None:
    async with desk(many()) as at:
        await at.press("4", "X", "enter")
        assert "Purge this job from the bin for good?" in at.text
        assert "Type b0 to go on:" in at.text
        await at.press(*"b1", "enter")
        assert "Purge this job" in at.text
        assert at.hand.calls == []
        await at.press("tab", "enter")
        assert "Purge this job" not in at.text
        await at.press("X", *"b0", "enter")
        await at.until(lambda: "1 deleted for good" in at.text or "1 purged" in at.text, "the notice")
        assert at.hand.calls == [("delete", ["b0"])]
        await at.press("space", "space", "X", *"pu", "enter")
        assert "Type purge 2 to go on:" in at.text
        await at.press("escape", "escape")
        assert len(at.hand.calls) == 1


async def test_the_bin_is_filtered_and_what_is_hidden_is_not_acted_upon_unasked() -> None:
    async with desk(many()) as at:
        await at.press("4", "space", "slash", *"b1", "enter")
        assert "Filter 'b1': 1 of 2; esc clears it" in at.text
        await at.press("r")
        assert "Restore this job?" in at.text
        assert "1 of them are hidden by the filter." in at.text
        await at.press("enter")
        assert at.hand.calls == []


async def test_what_taskflow_binned_is_told_with_its_reason_unknown() -> None:
    theirs = replace(bin_entry("theirs", 1, "", "", failures=0), binned_at=None, who=None, why=None, record=None)
    async with desk(FrozenSource(picture((), binned=(theirs,)))) as at:
        await at.press("4")
        assert "reason unknown, moved by TaskFlow" in at.line("▌  theirs")
        await at.press("r")
        await at.until(lambda: "1 restored" in at.text, "the notice")
