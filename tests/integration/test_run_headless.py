"""``run --headless`` as a process of its own: signals, kill -9, and the end of its parent; on both boards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_console.jobboards.base import JobEntry
from tests.integration.running import Place, place_at
from tests.support import eventually

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(params=["sqlite", "zookeeper"])
def place(request: pytest.FixtureRequest, tmp_path: Path, zk_path: str) -> Iterator[Place]:
    board_url = f"sqlite:///{tmp_path / 'board.db'}"
    if request.param == "zookeeper":
        board_url = f"zk://{request.getfixturevalue('zk_hosts')}{zk_path}?timeout=2"
    with place_at(board_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_suspends_and_frees_the_claim(place: Place, number: signal.Signals) -> None:
    uuid = place.post(minutes=2, pace=0.2)
    with place.running("--name", "a") as process:
        eventually(lambda: place.done_steps(uuid) > 1, what="two steps to be done")
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert [line.split()[1] for line in told.splitlines()] == ["started", "claimed", "stopping,", "closed", "stopped"]
    assert f"scrub {uuid} suspended by a1" in told
    entry = eventually(lambda: (found := place.entry(uuid)) and found.claim is None and found, what="the claim to go")
    assert isinstance(entry, JobEntry)
    assert entry.record is not None
    assert (entry.record.attempts, entry.record.failures) == (1, 0)
    assert entry.record.history[0].outcome == "suspended"


def test_a_suspended_job_goes_on_where_it_was(place: Place) -> None:
    uuid = place.post(minutes=0.2, pace=0.3)
    with place.running() as process:
        eventually(lambda: place.done_steps(uuid) > 1, what="two steps to be done")
        process.terminate()
        process.communicate(timeout=60)
    before = place.done_steps(uuid)
    assert 2 <= before < 12
    with place.running("--exit-when-empty") as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert f"{uuid} consumed by" in told
    assert place.done_steps(uuid) == 12


def test_a_second_signal_leaves_at_once(place: Place) -> None:
    uuid = place.post(minutes=1, pace=60.0)
    with place.running() as process:
        eventually(lambda: place.claimed(uuid), what="the claim")
        process.terminate()
        assert process.stderr is not None
        for line in process.stderr:
            if "stopping" in line:
                break
        process.terminate()
        assert process.wait(20) == 1
    eventually(lambda: not place.claimed(uuid), what="the claim to end with its process")


def test_a_terminal_that_hangs_up_suspends_and_frees_the_claim(place: Place) -> None:
    """What it says about that can be written nowhere any more."""
    uuid = place.post(minutes=2, pace=0.2)
    master, slave = os.openpty()
    with place.running(stderr=slave) as process:
        os.close(slave)
        eventually(lambda: place.done_steps(uuid) > 1, what="two steps to be done")
        os.close(master)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    entry = eventually(lambda: (found := place.entry(uuid)) and found.claim is None and found, what="the claim to go")
    assert isinstance(entry, JobEntry)
    assert entry.record is not None
    assert [attempt.outcome for attempt in entry.record.history] == ["suspended"]


LEAVING = """
import pathlib, sys, threading
from conductor_console.cli import hangup
hangup.PATIENCE = 600.0
tidied = pathlib.Path(sys.argv[1])
with hangup.quit_on_signals(lambda: print("leaving", flush=True), None, tidied.touch):
    print("ready", flush=True)
    threading.Event().wait()
"""


def test_a_second_signal_ends_a_screen_that_does_not_end(tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    with subprocess.Popen(
        [sys.executable, "-c", LEAVING, str(tidied)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.stdout.readline() == "leaving\n"
            assert process.poll() is None
            assert not tidied.exists()
            process.send_signal(signal.SIGHUP)
            assert process.wait(30) == 1
        finally:
            process.kill()
    assert tidied.exists()


def test_engine_options_reach_the_engine(place: Place) -> None:
    uuid = place.post(minutes=0.04, pace=0.0)
    options = ("--engine", "parallel", "--engine-option", "max_workers=2", "--engine-option", "executor=threads")
    with place.running("--exit-when-empty", *options) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert f"{uuid} consumed by" in told
    with place.running("--exit-when-empty", "--engine-option", "max_workers=2") as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the serial engine has no option max_workers" in told


def test_a_killed_conductors_job_is_resumed_elsewhere_and_counted(place: Place) -> None:
    uuid = place.post(minutes=0.5, pace=0.2)
    with place.running("--name", "first") as process:
        eventually(lambda: place.done_steps(uuid) > 1, what="two steps to be done")
        process.kill()
        process.communicate(timeout=60)
    with place.running("--name", "second", "--exit-when-empty") as process:
        # A watcher learns of a lock and of its record one after the other.
        taken = eventually(
            lambda: (
                (found := place.entry(uuid))
                and (found.claim and found.claim.owner == "second1")
                and (found.record and (under_way := found.record.open_attempt))
                and under_way.who.startswith("second1@")
                and found
            ),
            what="the second conductor's claim and its record",
        )
        assert isinstance(taken, JobEntry)
        assert taken.record is not None
        outcomes = [(attempt.n, attempt.outcome) for attempt in taken.record.history]
        assert outcomes == [(2, None), (1, "crashed")]
        assert taken.record.failures == 1
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert f"{uuid} consumed by second1" in told
    assert place.done_steps(uuid) >= 30
    assert place.entry(uuid) is None


def test_it_ends_with_the_process_that_holds_its_standard_input(place: Place) -> None:
    uuid = place.post(minutes=1, pace=0.2)
    with place.running("--until-stdin-ends") as process:
        eventually(lambda: place.claimed(uuid), what="the claim")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
    eventually(lambda: not place.claimed(uuid), what="the claim to go")


def test_two_processes_share_a_board_and_do_each_job_once(place: Place) -> None:
    uuids = {place.post(minutes=0.04, pace=0.02) for _ in range(10)}
    with (
        place.running("--exit-when-empty", "--name", "a") as one,
        place.running("--exit-when-empty", "--name", "b") as two,
    ):
        told = "".join(process.communicate(timeout=120)[1] for process in (one, two))
        assert (one.returncode, two.returncode) == (0, 0), told
    closed = [line.split()[3] for line in told.splitlines() if " closed " in line]
    assert sorted(closed) == sorted(uuids)
    assert told.count(" consumed by ") == 10


def test_nothing_but_its_own_lines_is_printed(place: Place) -> None:
    place.post(minutes=0.04, pace=0.0)
    with place.running("--exit-when-empty", "--kind", "nonblocking", "-j", "3") as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    for line in told.splitlines():
        time, word = line.split()[:2]
        assert time.endswith("Z")
        assert word.rstrip(",") in {"started", "claimed", "closed", "stopping", "stopped"}
    assert json.dumps(told)
