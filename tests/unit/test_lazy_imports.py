"""What a command does not need it does not import: a start must not cost a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from conductor_console.cli.main import call
code = call(json.loads(sys.argv[1]))
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def modules_after(*args: str, code: int = 0) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(args)], capture_output=True, text=True, timeout=120, check=True
    )
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["code"] == code, done.stderr
    return set(told["modules"])


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["jobs", "--help"], ["run", "--help"], ["demo", "--help"], ["exporter", "--help"]],
)
def test_help_imports_no_library_it_does_not_need(args: list[str]) -> None:
    heavy = {"textual", "rich", "taskflow", "sqlalchemy", "kazoo", "prometheus_client"}
    assert heavy.isdisjoint(modules_after(*args))


def test_listing_jobs_never_imports_textual(tmp_path: Path) -> None:
    board = f"sqlite:///{tmp_path / 'board.db'}"
    modules_after("init", board)
    for args in (["jobs", "list", board], ["jobs", "list", board, "--json"]):
        modules = modules_after(*args)
        assert "conductor_console.jobboards.sqlite" in modules
        assert {"textual", "kazoo", "prometheus_client"}.isdisjoint(modules)
