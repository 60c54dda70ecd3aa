"""The programs in docs/examples, each run as a user would."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from taskflow import states

from conductor_console import jobboards, persistence

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def imported(path: Path) -> set[str]:
    """The packages that a program imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names


def test_a_plain_taskflow_program(tmp_path: Path) -> None:
    program = EXAMPLES / "plain_taskflow.py"
    assert imported(program) == {"taskflow", "oslo_utils", "greeting"}
    assert imported(EXAMPLES / "greeting.py") == {"taskflow"}
    ended = subprocess.run(
        [sys.executable, program, "."],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    *greetings, last = ended.stdout.splitlines()
    assert greetings == ["HELLO ADA: SUCCESS", "HELLO GRACE: SUCCESS", "HELLO MARY: SUCCESS"]
    assert last == "conductor-console attach sqlite:///./board.db --store sqlite:///./flows.db"
    store = persistence.fetch(f"sqlite:///{tmp_path}/flows.db", read_only=True)
    board = jobboards.fetch(f"sqlite:///{tmp_path}/board.db", read_only=True)
    try:
        board.connect()
        assert not board.listing().jobs
        assert not board.listing().binned
        attempts = [row for row in store.journal() if row.kind == "attempt"]
        assert [(row.conductor, row.attempt, row.to_state) for row in attempts] == [("c1", 1, "consumed")] * 3
        assert {store.flow_state(row.flow_uuid) for row in attempts} == {states.SUCCESS}
    finally:
        board.close()
        store.close()
