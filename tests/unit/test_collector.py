"""Every command collects garbage as seldom as flows and big boards want it."""

from __future__ import annotations

import subprocess
import sys

from conductor_console.cli.collector import THRESHOLDS


def test_a_command_of_ours_has_python_collect_seldom() -> None:
    program = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()));"
        "from conductor_console.cli.main import main; main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(THRESHOLDS)
