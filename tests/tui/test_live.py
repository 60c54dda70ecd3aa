"""The screen on a real board, with real conductors: a job that keeps failing is seen, and is deleted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_console.cli.wiring import FleetPlan, Workplace, open_replay, open_workplace
from conductor_console.console.app import ConsoleApp
from conductor_console.jobboards.attempts import Policy
from conductor_console.operations import PostRequest
from tests.tui.driving import Driven

PLAN = FleetPlan(count=1, options={"allow_factories": ["tests.flows.*"]})
#: Failures enough to be seen; none of them leads to the bin.
PATIENT = Policy(max_attempts=1000, base=0.05, cap=0.2)


@pytest.fixture(params=["sqlite", "zookeeper"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workplace]:
    """A board, a store, a conductor, and all that watches and acts."""
    board = f"sqlite:///{tmp_path / 'board.db'}"
    if request.param == "zookeeper":
        board = f"zk://{request.getfixturevalue('zk_hosts')}{request.getfixturevalue('zk_path')}"
    store = f"sqlite:///{tmp_path / 'flows.db'}"
    with open_workplace(board, store_url=store, access="own", policy=PATIENT, fleet=PLAN, watch=True) as made:
        yield made


async def test_a_cycling_job_is_seen_replayed_and_deleted(place: Workplace, tmp_path: Path) -> None:
    assert place.observatory is not None
    assert place.fleet is not None
    assert place.store is not None
    request = PostRequest("tests.flows:storage_failure", "poisoned", args=[str(tmp_path / "told")])
    (uuid,) = place.operations.post(request)
    app = ConsoleApp(
        place.observatory, place.operations, fleet=place.fleet, open_replay=open_replay(place.store), operator="anna"
    )
    async with app.run_test(size=(120, 36)) as pilot:
        at = Driven(app, pilot)
        await at.until(lambda: "poisoned" in at.text, "the job")
        place.fleet.start()
        await at.until(lambda: "↻ cycling" in at.text, "the job to cycle")
        assert "StorageFailure" in at.text
        await at.press("P")
        await at.until(lambda: "║ w1" in at.text or "w1 paused" in at.text, "the conductor to pause")
        await at.until(lambda: place.board.listing().jobs[uuid].claim is None, "the job to be let go")
        await at.press("p")
        await at.until(lambda: len(app.screen_stack) == 2, "the replay")
        await at.press("escape")
        await at.press("D")
        assert "Delete this job for good?" in at.text
        await at.press("enter")
        assert uuid in place.board.listing().jobs
        await at.press("D", "tab", "tab", "enter")
        await at.until(lambda: "1 deleted for good" in at.text, "the deletion")
        assert uuid not in place.board.listing().jobs
        await at.until(lambda: "No jobs on this board" in at.text, "the empty board")
        await at.press("q")
        await at.until_left()
    assert place.fleet.workers() == () or {worker.state for worker in place.fleet.workers()} == {"stopped"}


async def test_where_a_flow_is_that_runs(place: Workplace, tmp_path: Path) -> None:
    assert place.observatory is not None
    assert place.fleet is not None
    told, gate = str(tmp_path / "told"), tmp_path / "gate"
    (uuid,) = place.operations.post(PostRequest("tests.flows:gated", "slow", args=[told, str(gate)]))
    app = ConsoleApp(place.observatory, place.operations, fleet=place.fleet)
    async with app.run_test(size=(120, 36)) as pilot:
        at = Driven(app, pilot)
        place.fleet.start()
        await at.until(lambda: "two, step 2 of 3" in at.text, "the step that runs")
        gate.touch()
        await at.until(lambda: uuid not in place.board.listing().jobs, "the flow to end")


async def test_a_conductor_is_drained_and_starts_anew(place: Workplace, tmp_path: Path) -> None:
    assert place.observatory is not None
    assert place.fleet is not None
    gate, told = tmp_path / "gate", tmp_path / "told"
    (uuid,) = place.operations.post(PostRequest("tests.flows:gated", "gated", args=[str(told), str(gate)]))
    place.fleet.start()
    app = ConsoleApp(place.observatory, place.operations, fleet=place.fleet, operator="anna")
    async with app.run_test(size=(120, 36)) as pilot:
        at = Driven(app, pilot)
        await at.until(lambda: told.exists() and "two-began" in told.read_text(), "the job to be under way")
        await app.run_action("view('conductors')", app.screen)
        await at.until(lambda: "N drain" in at.text, "the conductors, and the key in the footer")
        await at.until(lambda: "here" in at.text, "our conductor")
        await at.press("N")
        await at.until(lambda: "finishing what runs" in at.line(" here "), "the conductor to drain")
        assert place.board.listing().jobs[uuid].claim is not None
        await at.press("N")
        await at.until(lambda: "still finishing" in at.text, "the notice")
        gate.touch()
        await at.until(lambda: "stopped" in at.line(" here "), "the conductor to end")
        assert uuid not in place.board.listing().jobs
        await at.press("N")
        await at.until(lambda: "running" in at.line(" here "), "it to start anew")
