"""The fleet in worker processes: at work, asked, killed, frozen and refused; with the parent ended in every way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conductor_console.cli.main import call
from conductor_console.conductors import processes
from conductor_console.conductors.fleet import FleetEvent, Worker
from conductor_console.conductors.processes import ProcessFleet
from conductor_console.conductors.supervised import kept_back
from conductor_console.errors import ConsoleError, StoreUnreachable, Unreachable, UsageError
from tests import flows
from tests.integration.conducting import QUICK, Rig, rig
from tests.integration.running import Place, place_at
from tests.support import eventually, freeze


class Fleets:
    """Makes fleets of two processes, hears what they say, ends them."""

    def __init__(self, url: str, here: Rig) -> None:
        self.here = here
        self._url = url
        self._made: list[ProcessFleet] = []
        self.told: list[FleetEvent] = []

    def __call__(self, count: int = 2, **options: Any) -> ProcessFleet:
        told: dict[str, Any] = {
            "board_url": self._url,
            "store_url": f"sqlite:///{self.here.folder / 'flows.db'}",
            "policy": QUICK,
            "silent": True,
        }
        fleet = ProcessFleet(
            self.here.board, self.here.store, count=count, on_event=self.told.append, **{**told, **options}
        )
        self._made.append(fleet)
        return fleet

    def of(self, kind: str) -> list[FleetEvent]:
        return [event for event in list(self.told) if event.kind == kind]

    def end(self) -> None:
        for fleet in self._made:
            assert fleet.stop(30) == []


def board_url(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder / 'board.db'}"
    return f"zk://{request.getfixturevalue('zk_hosts')}{request.getfixturevalue('zk_path')}?timeout=2"


@pytest.fixture(params=["sqlite", "zookeeper"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_at(board_url(request.param, tmp_path, request), tmp_path) as made:
        yield made


@pytest.fixture
def fleets(tmp_path: Path) -> Iterator[Fleets]:
    with rig({"board": "sqlite", "path": str(tmp_path / "board.db")}, tmp_path) as here:
        made = Fleets(f"sqlite:///{tmp_path / 'board.db'}", here)
        try:
            yield made
        finally:
            made.end()


def shown(fleet: ProcessFleet) -> dict[str, str]:
    return {worker.name: worker.state for worker in fleet.workers()}


def becomes(fleet: ProcessFleet, **wanted: str) -> None:
    names = {name.replace("_", "-"): state for name, state in wanted.items()}
    eventually(lambda: shown(fleet) == names, what=f"{names}, not {shown(fleet)}")


def worker(fleet: ProcessFleet, name: str) -> Worker:
    return next(one for one in fleet.workers() if one.name == name)


def at_work(fleet: ProcessFleet) -> None:
    """Waits until all processes tell of their conductors."""
    eventually(lambda: all(not one.note and one.pid for one in fleet.workers()), what="all processes to be at work")


def gone(pid: int) -> bool:
    """Whether a process has ended; nobody may have waited for it yet."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def children(pid: int) -> set[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for thread in threads for child in (thread / "children").read_text().split()}


def attempts(place: Place, uuids: set[str]) -> int:
    """How many attempts there were of jobs that are all claimed; 0 where one is not."""
    entries = [place.entry(uuid) for uuid in uuids]
    return sum(one.record.attempts if one and one.claim and one.record else -100 for one in entries)


def outcome(place: Place, uuid: str) -> str | None:
    """How the last attempt of a job ended, once nobody holds it."""
    eventually(lambda: (one := place.entry(uuid)) is not None and one.claim is None, what="the claim to go")
    entry = place.entry(uuid)
    assert entry is not None
    assert entry.record is not None
    return entry.record.history[0].outcome


def freed(fleets: Fleets, job: Any) -> None:
    eventually(lambda: fleets.here.board.listing().jobs[job.uuid].claim is None, what="the claim to go")


def test_the_fleet_works_and_does_what_it_is_asked(fleets: Fleets) -> None:
    here, fleet = fleets.here, fleets(count=4, allow_factories=["tests.flows.*"])
    with pytest.raises(UsageError, match="stopped: start them"):
        fleet._act("restart", None)
    fleet.start()
    at_work(fleet)
    becomes(fleet, w1_1="running", w1_2="running", w2_1="running", w2_2="running")
    pids = {one.pid for one in fleet.workers()}
    assert len(pids) == 2
    assert os.getpid() not in pids
    eventually(
        lambda: {entity.owner for entity in here.board.listing().entities.values()} == set(shown(fleet)),
        what="all of them to be registered",
    )
    foreign, _ = here.post("docs.nowhere.flow")
    jobs = [here.post("line", here.effects, str(number))[0] for number in range(12)]
    for job in jobs:
        here.gone(job)
    assert sorted(here.done(), key=int) == [str(number) for number in range(12)]
    eventually(lambda: len(fleets.of("attempt_closed")) == 12, what="all to be told")
    assert {event.outcome for event in fleets.of("attempt_closed")} == {"consumed"}
    assert fleet.not_allowed == {foreign.uuid: "docs.nowhere.flow"}
    assert len(fleets.of("not_allowed")) == 1, "once, and not by each process"

    fleet.pause()
    becomes(fleet, w1_1="paused", w1_2="paused", w2_1="paused", w2_2="paused")
    job, _ = here.post("fine", here.effects)
    fleet.resume("w2-1")
    here.gone(job)
    eventually(lambda: len(fleets.of("attempt_closed")) == 13, what="that to be told")
    assert fleets.of("attempt_closed")[-1].conductor == "w2-1"
    fleet.scale(5)
    assert fleet.size == 5
    assert shown(fleet) == dict.fromkeys(("w1-1", "w1-2"), "paused") | {
        "w1-3": "running",
        "w2-1": "running",
        "w2-2": "paused",
    }
    fleet.scale(2)
    becomes(fleet, w1_1="paused", w2_1="running")
    fleet.drain("w2-1")
    becomes(fleet, w1_1="paused", w2_1="stopped")
    fleet.restart("w2-1")
    becomes(fleet, w1_1="paused", w2_1="running")
    for name, act in (("w9-1", fleet.pause), ("w1-2", fleet.drain), ("w", fleet.restart)):
        with pytest.raises(UsageError, match=f"there is no conductor {name} here"):
            act(name)
    with pytest.raises(UsageError):
        fleet.scale(-1)
    assert fleet.stop(30) == []
    assert shown(fleet) == {"w1-1": "stopped", "w2-1": "stopped"}
    assert all(gone(pid) for pid in pids if pid)
    with pytest.raises(UsageError, match="stopped: start them"):
        fleet.restart("w1-1")


def test_a_process_that_dies_is_told_and_followed_by_another(fleets: Fleets) -> None:
    here, gate = fleets.here, fleets.here.folder / "gate"
    fleet = fleets(count=3)
    fleet.start()
    at_work(fleet)
    fleet.pause("w2-1")
    job, _ = here.post("gated", here.effects, str(gate))
    busy = eventually(lambda: next((one for one in fleet.workers() if one.jobs), None), what="one to be at work")
    assert busy is not None
    fleet.pause("w1-2" if busy.name == "w1-1" else "w1-1")
    others_pid = worker(fleet, "w2-1").pid
    assert busy.pid is not None
    assert busy.pid != others_pid
    os.kill(busy.pid, signal.SIGKILL)
    eventually(lambda: fleets.of("died"), what="its death to be told")
    (died,) = fleets.of("died")
    assert died.conductor == "w1"
    assert died.cause is not None
    assert died.cause.message == "its process was ended by SIGKILL; another follows in 0.5 s"
    assert worker(fleet, busy.name).state == "crashed"
    assert worker(fleet, busy.name).note == died.cause.message
    gate.touch()
    here.gone(job)
    at_work(fleet)
    assert sorted(shown(fleet).values()) == ["paused", "paused", "running"]
    assert worker(fleet, busy.name).crashes == 1
    assert worker(fleet, busy.name).pid != busy.pid
    assert worker(fleet, "w2-1").pid == others_pid
    assert [row.detail["outcome"] for row in here.attempt_rows(job)] == ["crashed", "consumed"]

    # Whoever sends one a SIGTERM ends it in order.
    again, _ = here.post("gated", str(here.folder / "again"), str(here.folder / "later"))
    eventually(lambda: "two-began" in flows.lines(here.folder / "again"), what="it to be in the middle of an atom")
    busy = eventually(
        lambda: next((one for one in fleet.workers() if again.uuid in one.jobs), None), what="one to be at work"
    )
    assert busy is not None
    assert busy.pid is not None
    before = fleet.workers()
    os.kill(busy.pid, signal.SIGTERM)
    eventually(lambda: worker(fleet, busy.name).state == "draining", what="it to be ending")
    (here.folder / "later").touch()
    here.gone(again)
    assert here.attempt_rows(again)[0].detail["outcome"] == "suspended"
    eventually(lambda: len(fleets.of("died")) == 2, what="that to be told as well")
    assert [event.cause.message for event in fleets.of("died") if event.cause][-1] == (
        "its process was told to end; another follows"
    )
    becomes(fleet, **{one.name.replace("-", "_"): one.state for one in before})


def test_a_frozen_process_keeps_nobody_waiting(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ANSWER", 0.3)
    gate = fleets.here.folder / "gate"
    fleet = fleets(count=2)
    fleet.start()
    at_work(fleet)
    jobs = [fleets.here.post("gated", fleets.here.effects, str(gate))[0] for _ in range(2)]
    eventually(lambda: all(one.jobs for one in fleet.workers()), what="both to be at work")
    frozen, stuck = worker(fleet, "w1-1").pid, worker(fleet, "w2-1").pid
    assert frozen
    assert stuck
    freeze(frozen)
    with pytest.raises(ConsoleError, match=r"did not answer within 0\.3 s"):
        fleet.pause()
    assert worker(fleet, "w2-1").state == "paused", "the others do as they are told"
    assert sorted(fleet.stop(0.5)) == ["w1-1", "w2-1"]
    assert gone(frozen)
    assert gone(stuck)
    assert set(shown(fleet).values()) == {"stopped"}
    for job in jobs:
        freed(fleets, job)


def test_what_no_process_can_do_is_told_once_and_ends_all(fleets: Fleets, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.touch()
    fleet = fleets(store_url=f"sqlite:///{other}")
    with pytest.raises(Unreachable, match=r"the store sqlite:///.*other\.db") as told:
        fleet.start()
    assert told.value.exit_code == StoreUnreachable.exit_code
    assert fleets.told == []
    assert set(shown(fleet).values()) == {"stopped"}
    for options in ({"processes": 0}, {"processes": 65}, {"kind": "imaginary"}, {"engine": "imaginary"}):
        with pytest.raises(UsageError):
            fleets(**options)
    with pytest.raises(ConsoleError, match="plain data"):
        fleets(log=object())


def test_processes_that_cannot_begin_are_tried_again(fleets: Fleets) -> None:
    fleet = fleets(program="tests.flows")
    fleet.start()
    becomes(fleet, w1_1="crashed", w2_1="crashed")
    assert worker(fleet, "w1-1").note.startswith("its process ended with exit code 1; another follows in ")
    eventually(lambda: len(fleets.of("died")) > 3, what="others to be tried")
    # Asked for while there is none, or one that dies: the next one is to begin like that.
    fleet.scale(3)
    assert fleet.size == 3
    fleet.pause("w2-1")
    fleet.drain("w1-1")
    assert [kept_back(one._next) for one in fleet._processes] == [((), ("w1-1",)), (("w2-1",), ())]


def test_the_command_ends_in_order_and_its_processes_with_it(place: Place) -> None:
    uuids = {place.post(minutes=2, pace=0.2) for _ in range(4)}
    with place.running("--processes", "2", "-j", "2", "--name", "p") as process:
        eventually(lambda: all(place.claimed(uuid) for uuid in uuids), what="all to be claimed")
        wanted = {"p1-1", "p1-2", "p2-1", "p2-2"}
        eventually(
            lambda: {entity.owner for entity in place.board.listing().entities.values()} == wanted,
            timeout=90,
            what="all to be registered",
        )
        before = children(process.pid)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        # By the others, who are at work already, or by those that follow.
        eventually(
            lambda: len(children(process.pid) - {victim}) == 2 and attempts(place, uuids) == 6,
            what="another to follow, and all to be claimed again",
        )
        now = children(process.pid)
        assert len(now & before) == 1
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    words = [line.split()[1] for line in told.splitlines()]
    assert words[0] == "started"
    assert words[-1] == "stopped"
    assert words.count("died") == 1
    # Of what a process did just before it was killed nothing may be told.
    assert 4 <= words.count("claimed") <= 6, told
    assert told.count(" suspended by p") == 4, told
    assert all(gone(pid) for pid in now)
    assert {outcome(place, uuid) for uuid in uuids} == {"suspended"}


def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    with place_at(f"sqlite:///{tmp_path / 'board.db'}", tmp_path) as place:
        uuids = {place.post(minutes=2, pace=0.1) for _ in range(2)}
        with place.running("--processes", "2") as process:
            eventually(lambda: all(place.claimed(uuid) for uuid in uuids), what="both to be claimed")
            pids = children(process.pid)
            assert len(pids) == 2
            process.kill()
            process.communicate(timeout=60)
        eventually(lambda: all(gone(pid) for pid in pids), what="the processes to end")
        assert {outcome(place, uuid) for uuid in uuids} == {"suspended"}, "in good order"


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    with place_at(f"sqlite:///{tmp_path / 'board.db'}", tmp_path) as place:
        uuid = place.post(minutes=1, pace=60.0)
        with place.running("--processes", "2") as process:
            eventually(lambda: place.claimed(uuid), what="the claim")
            pids = children(process.pid)
            # As a terminal does it: to all of them.
            for pid in (process.pid, *pids):
                os.kill(pid, signal.SIGINT)
            assert process.stderr is not None
            assert any("stopping" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1
        eventually(lambda: all(gone(pid) for pid in pids), timeout=10, what="its processes to leave as well")
        eventually(lambda: not place.claimed(uuid), what="the claim to end")


@pytest.mark.parametrize(
    ("store", "code", "line"),
    [
        ("memory://", 2, "memory:// keeps no flow log: use a store such as sqlite:////srv/flows.db, "),
        ("sqlite:///:memory:", 2, "A store in memory cannot be shared, name a file"),
        ("sqlite:////nowhere/flows.db", 3, "there is no folder /nowhere for the store"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    store: str, code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = f"sqlite:///{tmp_path / 'board.db'}"
    args = ["run", board, "--store", store, "--allow-any-factory", "--headless", "--processes", "2"]
    assert call(args) == code
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"conductor-console: {line}")
