"""The demo without a terminal: a real run whose numbers add up, and nothing that outlives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conductor_console.demo import scenario
from tests.support import eventually

DEMO = [sys.executable, "-m", "conductor_console.cli.main", "demo"]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}


def all_children(pid: int) -> list[int]:
    """The children that any of its threads started."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        path = thread / "children"
        found += [int(child) for child in path.read_text().split()] if path.exists() else []
    return found


def test_a_piped_demo_adds_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--json", "--seconds", "20"], capture_output=True, text=True, timeout=240, env=environment(tmp_path)
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["adds_up"] is True
    assert told["problems"] == []
    first, second = scenario.first_batch(), scenario.second_batch()
    assert told["posted"] == len(first) + len(second) == len(told["jobs"])
    assert told["posted"] == told["done"] + told["failed"] + told["binned"] + told["left"]
    assert told["done"] > 0
    assert told["binned"] >= 2
    assert told["processes_killed"] >= 1
    failures = {job["name"].rsplit("-", 1)[0]: job["failures"] for job in told["jobs"]}
    assert failures["update-quota"] >= 1
    assert {cause["cause"]["type"] for cause in told["causes"]} >= {"StorageFailure", "TypeError"}
    assert list(tmp_path.glob("conductor-console-*")) == []


def test_the_report_is_tables(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--seconds", "6", "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["posted", "done", "failed", "binned", "left", "of", "these", "cycling"]
    assert sum(int(number) for number in lines[2].split()[1:5]) == int(lines[2].split()[0])
    assert "Failures by job" in lines
    assert "Causes" in lines
    assert lines[-1].startswith("The numbers add up: ")
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--json", "--seconds", "300"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    ) as demo:
        try:
            [child] = eventually(lambda: all_children(demo.pid), what="the demo's child")
        finally:
            demo.kill()
        demo.communicate(timeout=60)
    # It may be one that was started a moment later: none may be left that has this demo's folder.
    eventually(lambda: not named(str(tmp_path)), what=f"the demo's child {child} to end")


def named(text: str) -> list[str]:
    """The command lines of processes that name ``text``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [line] if text in line else []
    return found
