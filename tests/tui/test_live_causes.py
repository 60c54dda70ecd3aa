"""Causes, bin and undo on a real board with a real conductor: seen, binned as a group, restored, posted again."""

from __future__ import annotations

from pathlib import Path

from conductor_console.cli.wiring import FleetPlan, open_workplace
from conductor_console.console.app import ConsoleApp
from conductor_console.jobboards.attempts import Policy
from conductor_console.operations import PostRequest
from tests.tui.driving import Driven

PLAN = FleetPlan(count=1, options={"allow_factories": ["tests.flows.*"]})
PATIENT = Policy(max_attempts=1000, base=0.05, cap=0.2)


async def test_a_cause_is_traced_binned_as_a_group_and_all_of_it_taken_back(tmp_path: Path) -> None:
    board, store = f"sqlite:///{tmp_path / 'board.db'}", f"sqlite:///{tmp_path / 'flows.db'}"
    with open_workplace(board, store_url=store, access="own", policy=PATIENT, fleet=PLAN, watch=True) as place:
        assert place.observatory is not None
        assert place.fleet is not None
        request = PostRequest("tests.flows:storage_failure", "sick", args=[str(tmp_path / "told")], count=2)
        place.operations.post(request)
        place.fleet.start()
        app = ConsoleApp(place.observatory, place.operations, fleet=place.fleet, operator="anna")
        async with app.run_test(size=(120, 36)) as pilot:
            at = Driven(app, pilot)
            await at.until(lambda: at.text.count("↻ cycling") == 2, "both to cycle")
            await at.press("P", "3")
            await at.until(
                lambda: all(job.claim is None for job in place.board.listing().jobs.values()), "both to be let go"
            )
            await at.until(lambda: "2 jobs fail for this reason" in at.text, "the cause")
            assert "On one conductor alone" in at.text
            await at.press("t")
            await at.until(lambda: "Traceback" in at.text or 'File "' in at.text, "the store's traceback")
            assert "StorageFailure" in at.text
            await at.press("escape", "d")
            assert "Move these 2 jobs to the bin?" in at.text
            await at.press("tab", "enter")
            await at.until(lambda: len(place.board.listing().binned) == 2, "both in the bin")
            await at.until(lambda: "2 moved to the bin" in at.text, "the notice")
            await at.press("u")
            await at.until(lambda: "2 undone: move of 2 jobs to the bin" in at.text, "the undoing")
            assert len(place.board.listing().jobs) == 2
            await at.press("1")
            await at.until(lambda: "sick-2" in at.text, "the jobs")
            before = set(place.board.listing().jobs)
            await at.press("D", "tab", "tab", "enter")
            await at.until(lambda: len(place.board.listing().jobs) == 1, "the deletion")
            await at.until(lambda: "1 deleted for good, u posts anew" in at.text, "the notice")
            await at.press("u")
            await at.until(lambda: "1 undone: deletion of 1 job" in at.text, "the undoing")
            jobs = place.board.listing().jobs
            assert len(jobs) == 2
            assert len(set(jobs) & before) == 1
            assert sorted(job.name for job in jobs.values()) == ["sick-1", "sick-2"]


async def test_what_was_deleted_before_is_posted_again(tmp_path: Path) -> None:
    board, store = f"sqlite:///{tmp_path / 'board.db'}", f"sqlite:///{tmp_path / 'flows.db'}"
    with open_workplace(board, store_url=store, access="own") as place:
        place.operations.post(PostRequest("tests.flows:storage_failure", "sick", count=2))
        place.operations.delete(list(place.board.listing().jobs.values()))
    with open_workplace(board, store_url=store, access="own", watch=True) as place:
        assert place.observatory is not None
        app = ConsoleApp(place.observatory, place.operations, operator="anna")
        async with app.run_test(size=(120, 36)) as pilot:
            at = Driven(app, pilot)
            await at.press("u")
            await at.until(lambda: "Post these 2 jobs again?" in at.text, "the question")
            await at.press("tab", "enter")
            await at.until(lambda: "2 posted again, as new jobs" in at.text, "the notice")
            assert sorted(job.name for job in place.board.listing().jobs.values()) == ["sick-1", "sick-2"]
            await at.press("u")
            await at.until(lambda: "Nothing to undo" in at.text, "nothing more")
