"""What is decided about worker processes: who has how many conductors, and how the next one begins."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from conductor_console.conductors.fleet import FleetEvent, Worker
from conductor_console.conductors.member import FINISHING
from conductor_console.conductors.processes import shares
from conductor_console.conductors.supervised import STARTING, Supervised, how_it_ended, kept_back, refusal_of
from conductor_console.conductors.wire import Refused
from conductor_console.errors import ConsoleError, Unreachable, UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.observatory.liveness import Claims, Liveness
from conductor_console.observatory.words import fleet_event

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "processes", "each"),
    [(4, 2, [2, 2]), (5, 2, [3, 2]), (1, 3, [1, 0, 0]), (0, 2, [0, 0]), (7, 3, [3, 2, 2])],
)
def test_conductors_are_shared_out_evenly(count: int, processes: int, each: list[int]) -> None:
    assert shares(count, processes) == each


def test_an_end_is_told_in_words() -> None:
    assert how_it_ended(-signal.SIGKILL) == "its process was ended by SIGKILL"
    assert how_it_ended(-200) == "its process was ended by signal 200"
    assert how_it_ended(3) == "its process ended with exit code 3"


def test_a_successor_begins_as_its_predecessor_was_left() -> None:
    workers = (
        Worker("w1-1", "running", (), NOW),
        Worker("w1-2", "paused", (), NOW),
        Worker("w1-3", "stopped", (), NOW),
        Worker("w1-4", "draining", ("uuid",), NOW, FINISHING),
        Worker("w1-5", "draining", ("uuid",), NOW, "suspending what runs"),
        Worker("w1-6", "crashed", (), NOW),
    )
    assert kept_back(workers) == (("w1-2",), ("w1-3", "w1-4"))


@pytest.mark.parametrize(("code", "kind"), [(2, UsageError), (3, Unreachable), (1, ConsoleError), (99, ConsoleError)])
def test_a_refusal_is_the_error_that_it_was(code: int, kind: type[ConsoleError]) -> None:
    error = refusal_of(Refused("no such table", code))
    assert (type(error), str(error)) == (kind, "no such table")


def supervised(share: int) -> Supervised:
    def never(*_: Any) -> Any:
        raise AssertionError("no process is started here")

    return Supervised("w1", share, order=never, program="", silent=True, tell=never, fatal=never, settled=never)


def test_what_is_wished_while_there_is_no_process_is_how_the_next_one_begins() -> None:
    made = supervised(3)
    assert [(worker.name, worker.state, worker.note) for worker in made.workers()] == [
        (f"w1-{number}", "running", STARTING) for number in (1, 2, 3)
    ]
    made.ask("pause").result(0)
    made.ask("resume", "w1-2").result(0)
    made.ask("drain", "w1-3").result(0)
    assert kept_back(made.workers()) == (("w1-1",), ("w1-3",))
    made.ask("restart", "w1-3").result(0)
    made.ask("scale", count=5).result(0)
    assert kept_back(made.workers()) == (("w1-1",), ())
    assert made.share == 5


def test_conductors_of_ones_processes_are_ones_own() -> None:
    liveness = Liveness()
    liveness.update({}, (Worker("w1-1", "running", (), NOW, pid=4711), Worker("w", "running", (), NOW)), NOW)
    assert liveness.alive("w1-1")
    assert [(view.name, view.place, view.here) for view in liveness.views(Claims())] == [
        ("w", "here", True),
        ("w1-1", "here:4711", True),
    ]


def test_the_death_of_a_process_is_a_line_among_the_events() -> None:
    died = FleetEvent("died", "w1", cause=make_cause("ProcessDied", "its process was ended by SIGKILL"), at=NOW)
    line = fleet_event(died, NOW)
    assert (line.kind, line.text) == ("crashed", "w1 died: its process was ended by SIGKILL")
    claimed = fleet_event(FleetEvent("claimed", "w1-1", "uuid", "scrub", at=NOW), NOW)
    assert (claimed.kind, claimed.text) == ("claimed", "scrub claimed by w1-1")
