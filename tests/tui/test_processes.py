"""The screen does not know that its conductors are in worker processes: it shows, scales, pauses and drains them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_console.cli.wiring import FleetPlan, Workplace, open_workplace
from conductor_console.console.app import ConsoleApp
from tests.tui.driving import Driven

PLAN = FleetPlan(count=2, processes=2, options={"allow_factories": ["tests.flows.*"]})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    board, store = f"sqlite:///{tmp_path / 'board.db'}", f"sqlite:///{tmp_path / 'flows.db'}"
    with open_workplace(board, store_url=store, access="own", fleet=PLAN, watch=True) as made:
        yield made


async def test_conductors_in_processes_are_shown_scaled_paused_and_drained(place: Workplace) -> None:
    assert place.observatory is not None
    fleet = place.fleet
    assert fleet is not None
    fleet.start()
    app = ConsoleApp(place.observatory, place.operations, fleet=fleet, operator="anna")
    async with app.run_test(size=(120, 36)) as pilot:
        at = Driven(app, pilot)
        await at.press("5")

        def line(name: str) -> str:
            return next((line for line in at.text.splitlines() if f" {name} " in line), "")

        await at.until(lambda: all("running" in line(name) for name in ("w1-1", "w2-1")), "both")
        await at.until(lambda: all(not worker.note for worker in fleet.workers()), "both to be at work")
        pids = {worker.name: worker.pid for worker in fleet.workers()}
        await at.until(lambda: all(f"here:{pid}" in line(name) for name, pid in pids.items()), "their processes")
        # Each once: those that are registered on the board are these.
        assert at.text.count("w1-1") == at.text.count("w2-1") == 1
        await at.press("plus")
        await at.until(lambda: "running" in line("w1-2"), "the third")
        await at.press("home", "P")
        await at.until(lambda: "paused" in line("w1-1"), "the chosen one to be paused")
        assert "running" in line("w2-1")
        await at.press("end", "N")
        await at.until(lambda: "stopped" in line("w2-1"), "the last one to be drained")
        pid = pids["w1-1"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await at.until(lambda: "crashed" in line("w1-1") and "its process was ended by SIGKILL" in line("w1-1"), "that")
        await at.until(lambda: "paused" in line("w1-1") and "running" in line("w1-2"), "another to follow")
        await at.press("6")
        await at.until(lambda: "died: its process was ended by SIGKILL; another follows" in at.text, "the event")
        await at.press("q")
        await at.until_left()
    assert {worker.state for worker in fleet.workers()} == {"stopped"}
