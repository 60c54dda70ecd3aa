"""The fleet: conductors of this process started, scaled, paused, restarted and ended; a crash seen and mended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from taskflow import states

from conductor_console.conductors.fleet import Fleet, FleetEvent
from conductor_console.errors import BoardUnreachable, UsageError
from tests.integration.conducting import QUICK, Rig, rig
from tests.support import eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rig]:
    with rig({"board": "sqlite", "path": str(tmp_path / "board.db")}, tmp_path) as made:
        yield made


class Fleets:
    """Makes fleets, hears what they say, ends them."""

    def __init__(self, here: Rig) -> None:
        self._here = here
        self._made: list[Fleet] = []
        self.told: list[FleetEvent] = []

    def __call__(self, count: int = 1, **options: Any) -> Fleet:
        options.setdefault("policy", QUICK)
        fleet = Fleet(self._here.board, self._here.store, count=count, on_event=self.told.append, **options)
        self._made.append(fleet)
        return fleet

    def kinds(self, conductor: str) -> list[str]:
        return [event.kind for event in list(self.told) if event.conductor == conductor]

    def end(self) -> None:
        for fleet in self._made:
            assert fleet.stop(30) == []


@pytest.fixture
def fleets(here: Rig) -> Iterator[Fleets]:
    made = Fleets(here)
    yield made
    made.end()


def shown(fleet: Fleet) -> dict[str, str]:
    return {worker.name: worker.state for worker in fleet.workers()}


def becomes(fleet: Fleet, **states_wanted: str) -> None:
    eventually(lambda: shown(fleet) == states_wanted, what=f"{states_wanted}, not {shown(fleet)}")


def test_a_fleet_works(here: Rig, fleets: Fleets) -> None:
    fleet = fleets(count=3)
    assert fleet.workers() == ()
    jobs = [here.post("line", here.effects, str(number))[0] for number in range(12)]
    fleet.start()
    fleet.start()
    becomes(fleet, w1="running", w2="running", w3="running")
    for job in jobs:
        here.gone(job)
    assert sorted(here.done(), key=int) == [str(number) for number in range(12)]
    eventually(lambda: sum(event.kind == "attempt_closed" for event in fleets.told) == 12, what="all to be told")
    closed = next(event for event in fleets.told if event.kind == "attempt_closed")
    assert (closed.outcome, closed.job_name, closed.cause) == ("consumed", "job", None)
    assert closed.job_uuid in {job.uuid for job in jobs}
    assert closed.seconds is not None
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("conductor-w")}
    assert names == {"conductor-w1", "conductor-w2", "conductor-w3"}
    assert fleet.stop(30) == []
    assert shown(fleet) == {"w1": "stopped", "w2": "stopped", "w3": "stopped"}
    assert fleets.kinds("w1")[0] == "started"
    assert fleets.kinds("w1")[-1] == "stopped"
    fleet.start()
    becomes(fleet, w1="running", w2="running", w3="running")


def test_scaling(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    fleet = fleets(count=1, prefix="c")
    fleet.scale(2)
    assert fleet.size == 2
    assert fleet.workers() == (), "not before it is started"
    fleet.start()
    jobs = [here.post("gated", here.effects, gate)[0] for _ in range(2)]
    eventually(lambda: here.done().count("two-began") == 2, what="both to be at work")
    assert sorted(uuid for worker in fleet.workers() for uuid in worker.jobs) == sorted(job.uuid for job in jobs)
    fleet.scale(1)
    becomes(fleet, c1="running", c2="draining")
    fleet.scale(2)
    becomes(fleet, c1="running", c3="running", c2="draining")
    Path(gate).touch()
    for job in jobs:
        here.gone(job)
    becomes(fleet, c1="running", c3="running")
    assert here.done().count("three") == 2
    assert any(event.outcome == "suspended" and event.conductor == "c2" for event in fleets.told)
    fleet.scale(0)
    becomes(fleet)
    with pytest.raises(UsageError):
        fleet.scale(-1)


def test_pausing_one_and_all(here: Rig, fleets: Fleets) -> None:
    fleet = fleets(count=2)
    fleet.start()
    becomes(fleet, w1="running", w2="running")
    fleet.pause()
    becomes(fleet, w1="paused", w2="paused")
    fleet.resume("w1")
    job, _ = here.post("fine", here.effects)
    here.gone(job)
    becomes(fleet, w1="running", w2="paused")
    eventually(lambda: "attempt_closed" in fleets.kinds("w1"), what="the attempt to be told")
    assert "attempt_closed" not in fleets.kinds("w2")
    fleet.restart("w2")
    eventually(lambda: fleets.kinds("w2").count("started") == 2, what="w2 to be followed by another")
    becomes(fleet, w1="running", w2="paused")
    fleet.pause("w2")
    fleet.resume()
    becomes(fleet, w1="running", w2="running")
    assert fleets.kinds("w2").count("paused") == 1
    assert fleets.kinds("w2").count("resumed") == 1
    with pytest.raises(UsageError, match="there is no conductor w9 here"):
        fleet.pause("w9")


def test_restarting_hands_the_job_on(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    job, detail = here.post("gated", here.effects, gate)
    fleet = fleets(count=1)
    fleet.start()
    eventually(lambda: "two-began" in here.done(), what="the job to be at work")
    fleet.restart("w1")
    becomes(fleet, w1="draining")
    Path(gate).touch()
    here.gone(job)
    becomes(fleet, w1="running")
    assert here.store.flow_state(detail.uuid) == states.SUCCESS
    assert here.done() == ["one", "two-began", "two", "three"]
    outcomes = [row.detail["outcome"] for row in here.attempt_rows(job)]
    assert outcomes == ["suspended", "consumed"]


def test_a_crash_is_shown_and_mended(here: Rig, fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleets(count=1)
    broken = threading.Event()
    broken.set()
    real = here.board.candidates

    def candidates(now: Any) -> Any:
        if broken.is_set():
            raise RuntimeError("a fault\x1b[31m of ours")
        return real(now)

    monkeypatch.setattr(here.board, "candidates", candidates)
    fleet.start()
    becomes(fleet, w1="crashed")
    (worker,) = fleet.workers()
    assert worker.note == "RuntimeError: a fault\\x1b[31m of ours"
    assert worker.jobs == ()
    assert worker.crashes > 0
    crash = next(event for event in fleets.told if event.kind == "crashed")
    assert crash.cause is not None
    assert crash.cause.type == "RuntimeError"
    broken.clear()
    job, _ = here.post("fine", here.effects)
    here.gone(job)
    becomes(fleet, w1="running")
    assert fleet.workers()[0].note == ""


def test_a_board_that_does_not_answer_is_waited_for(here: Rig, fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleets(count=1)
    asked: list[int] = []
    real = here.board.candidates

    def candidates(now: Any) -> Any:
        asked.append(1)
        if len(asked) <= 3:
            raise BoardUnreachable("no answer")
        return real(now)

    monkeypatch.setattr(here.board, "candidates", candidates)
    fleet.start()
    job, _ = here.post("fine", here.effects)
    here.gone(job)
    assert "crashed" not in fleets.kinds("w1")


def test_one_that_would_not_stop_is_named(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    here.post("gated", here.effects, gate)
    fleet = fleets(count=2)
    fleet.start()
    eventually(lambda: "two-began" in here.done(), what="one to be at work")
    (busy,) = [worker.name for worker in fleet.workers() if worker.jobs]
    assert fleet.stop(0.3) == [busy]
    assert shown(fleet)[busy] == "draining"
    Path(gate).touch()


def test_draining_finishes_what_runs_and_takes_nothing_new(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    fleet = fleets(count=2)
    fleet.start()
    job, detail = here.post("gated", here.effects, gate)
    eventually(lambda: "two-began" in here.done(), what="one to be at work")
    (busy,) = [worker.name for worker in fleet.workers() if worker.jobs]
    (idle,) = {"w1", "w2"} - {busy}
    fleet.drain(idle)
    becomes(fleet, **{busy: "running", idle: "stopped"})
    fleet.drain()
    becomes(fleet, **{busy: "draining", idle: "stopped"})
    assert next(worker.note for worker in fleet.workers() if worker.name == busy) == "finishing what runs"
    fleet.pause()
    fleet.resume()
    later, _ = here.post("fine", str(here.folder / "later"))
    with pytest.raises(UsageError, match="is still ending"):
        fleet.restart(busy)
    Path(gate).touch()
    here.gone(job)
    becomes(fleet, **{busy: "stopped", idle: "stopped"})
    assert here.store.flow_state(detail.uuid) == states.SUCCESS
    assert [row.detail["outcome"] for row in here.attempt_rows(job)] == ["consumed"]
    assert here.board.listing().jobs[later.uuid].record is None
    assert fleets.kinds(busy)[-1] == "stopped"
    fleet.restart(idle)
    here.gone(later)
    fleet.start()
    eventually(lambda: [worker.state for worker in fleet.workers()] == ["running"] * 2, what="two to be at work again")
    with pytest.raises(UsageError, match="there is no conductor w9 here"):
        fleet.drain("w9")


def test_what_drains_can_still_be_stopped(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    fleet = fleets(kind="nonblocking", max_simultaneous_jobs=2)
    fleet.start()
    jobs = [here.post("gated", here.effects, gate)[0] for _ in range(2)]
    eventually(lambda: here.done().count("two-began") == 2, what="both to be at work")
    fleet.drain()
    assert fleet.stop(0.1) == ["w1"]
    assert fleet.workers()[0].note == "suspending what runs"
    Path(gate).touch()
    for job in jobs:
        assert here.released(job).history[0].outcome == "suspended"
    becomes(fleet, w1="stopped")


def test_draining_ends_one_that_crashed(here: Rig, fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleets(count=1)

    def candidates(_now: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(here.board, "candidates", candidates)
    fleet.start()
    eventually(lambda: fleet.workers()[0].crashes > 1, what="it to crash again")
    fleet.drain()
    becomes(fleet, w1="stopped")


def test_after_a_stop_that_was_too_short_there_are_as_many_as_before(here: Rig, fleets: Fleets) -> None:
    gate = str(here.folder / "gate")
    job, _ = here.post("gated", here.effects, gate)
    fleet = fleets(count=2)
    fleet.start()
    eventually(lambda: "two-began" in here.done(), what="one to be at work")
    (busy,) = [worker.name for worker in fleet.workers() if worker.jobs]
    assert fleet.stop(0.3) == [busy]
    with pytest.raises(UsageError, match="the conductors here are stopped: start them"):
        fleet.restart(busy)
    fleet.start()
    eventually(lambda: shown(fleet)[busy] == "draining" and len(shown(fleet)) == 3, what="two more than it")
    Path(gate).touch()
    here.gone(job)
    eventually(lambda: [worker.state for worker in fleet.workers()] == ["running"] * 2, what="two to be at work")
    assert busy not in shown(fleet)


def test_none_is_started_behind_the_back_of_a_stop(here: Rig, fleets: Fleets) -> None:
    fleet = fleets(count=1)
    fleet.start()
    becomes(fleet, w1="running")
    assert fleet.stop(30) == []
    with pytest.raises(UsageError, match="stopped"):
        fleet.restart("w1")
    becomes(fleet, w1="stopped")
    job, _ = here.post("fine", here.effects)
    assert not threading.Event().wait(0.2)
    assert here.board.listing().jobs[job.uuid].claim is None


def test_a_conductor_that_ended_by_itself_is_shown_and_can_be_restarted(here: Rig, fleets: Fleets) -> None:
    """Somebody who has the conductor in hand, a listener for instance, stopped it."""
    fleet = fleets(count=1)
    fleet.start()
    eventually(lambda: fleets.kinds("w1") == ["started"], what="it to be at work")
    fleet._members["w1"]._conductor.stop()
    becomes(fleet, w1="stopped")
    eventually(lambda: fleets.kinds("w1") == ["started", "stopped"], what="both to be told")
    fleet.restart("w1")
    becomes(fleet, w1="running")


def test_what_is_not_allowed_is_told_once(here: Rig, fleets: Fleets) -> None:
    fleet = fleets(count=3, allow_factories=["shop.*"])
    job, _ = here.post("fine", here.effects)
    fleet.start()
    eventually(lambda: len(fleet.not_allowed) == 1, what="the job to be passed over")
    assert fleet.not_allowed == {job.uuid: "tests.flows.fine"}
    marker, _ = here.post("factory_raises")
    eventually(lambda: marker.uuid in fleet.not_allowed, what="the next to be passed over")
    told = eventually(
        lambda: found if len(found := [event for event in fleets.told if event.kind == "not_allowed"]) == 2 else None,
        what="both to be told",
    )
    assert [(event.job_uuid, event.cause.message) for event in told if event.cause] == [
        (job.uuid, "the factory tests.flows.fine is not allowed here"),
        (marker.uuid, "the factory tests.flows.factory_raises is not allowed here"),
    ]
    assert here.done() == []


def test_subscriptions_end(here: Rig, fleets: Fleets) -> None:
    heard: list[FleetEvent] = []
    fleet = fleets(count=1)

    def broken(_event: FleetEvent) -> None:
        raise RuntimeError("a listener's fault")

    end_broken = fleet.subscribe(broken)
    end = fleet.subscribe(heard.append)
    fleet.start()
    becomes(fleet, w1="running")
    eventually(lambda: heard, what="the start to be heard in spite of the other")
    end()
    end_broken()
    before = len(heard)
    fleet.pause()
    assert len(heard) == before


def test_nonblocking_fleet(here: Rig, fleets: Fleets) -> None:
    fleet = fleets(count=2, kind="nonblocking", max_simultaneous_jobs=2)
    jobs = [here.post("line", here.effects, str(number))[0] for number in range(10)]
    fleet.start()
    for job in jobs:
        here.gone(job)
    assert len(here.done()) == 10
    with pytest.raises(UsageError, match="no kind of conductor"):
        fleets(kind="imaginary")
