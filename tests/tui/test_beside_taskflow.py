"""The console on a ZooKeeper that it shares with one of TaskFlow's own conductors, on TaskFlow's own board."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from conductor_console.cli.wiring import FleetPlan, open_workplace
from conductor_console.console.app import ConsoleApp
from conductor_console.jobboards.attempts import Policy
from conductor_console.operations import PostRequest
from tests import flows
from tests.integration.conducting import taskflows_board, taskflows_conductor
from tests.servers import Zookeeper
from tests.tui.driving import Driven

PATIENT = Policy(max_attempts=1000, base=0.05, cap=0.2)


async def test_jobs_of_both_are_done_once_and_a_cycling_one_is_deleted_from_the_screen(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    effects, sick = str(tmp_path / "effects"), str(tmp_path / "sick")
    with (
        open_workplace(
            f"zk://{zookeeper.hosts}{zk_path}",
            store_url=f"sqlite:///{tmp_path / 'flows.db'}",
            access="own",
            policy=PATIENT,
            fleet=FleetPlan(count=1, options={"allow_factories": ["tests.flows.*"]}),
            watch=True,
        ) as place,
        taskflows_board(zookeeper, zk_path, place.store) as theirs,
    ):
        assert place.fleet is not None
        assert place.observatory is not None
        conductor = taskflows_conductor("theirs", theirs, place.store)
        for number in range(10):
            place.operations.post(PostRequest("tests.flows:line", f"ours-{number}", args=[effects, f"ours-{number}"]))
            flows.post(theirs, place.store, "line", effects, f"theirs-{number}", name=f"theirs-{number}")
        place.operations.post(PostRequest("tests.flows:storage_failure", "poisoned", args=[sick]))
        app = ConsoleApp(place.observatory, place.operations, fleet=place.fleet)
        try:
            async with app.run_test(size=(120, 36)) as pilot:
                at = Driven(app, pilot)
                await at.until(lambda: "21 jobs" in at.text, "the jobs of both")
                place.fleet.start()
                conductor.start()
                await at.until(lambda: "1 job " in at.text, "all but the poisoned one to be done", timeout=120)
                await at.until(lambda: "↻ cycling" in at.text, "the poisoned one to cycle")
                await at.until(lambda: "job_abandoned" in conductor.events(), "theirs to fail on it too")
                await at.press("D")
                await at.press("tab", "tab", "enter")
                await at.until(lambda: "1 deleted for good" in at.text, "the deletion")
                await at.until(lambda: "No jobs on this board" in at.text, "the empty board")
        finally:
            conductor.stop()
        assert Counter(flows.lines(effects)) == Counter(
            {f"{side}-{number}": 1 for side in ("ours", "theirs") for number in range(10)}
        )
        assert list(theirs.iterjobs()) == []
