"""What a worker process of ``run`` runs: it logs where the command does, and tells errors in the same words."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from conductor_console.cli import collector, failures, hangup, logs
from conductor_console.conductors import worker


def surroundings() -> dict[str, Any]:
    """What a worker process is told of this one."""
    return {"logs": logs.FILES}


def main(descriptor: int) -> int:
    """Works for the parent at the other end of the socket. Returns the exit code."""
    logs.silence()
    collector.tune()
    on_terminal = any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    return worker.run(
        descriptor,
        prepare=_prepare,
        tell=lambda error: (failures.one_line(error), failures.exit_code(error)),
        # What a flow prints must not fail it when the terminal is gone.
        hung_up=hangup.forget_terminal if on_terminal else lambda: None,
    )


def _prepare(told: Mapping[str, Any]) -> None:
    for path, level in told["logs"]:
        logs.to_file(path, level)
