"""Processes that benchmarks talk to by lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.crew import ROOT


class Child:
    """``python -m MODULE ARGUMENTS``; it says ``ready``."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._module = module

    def line(self) -> str:
        """The next line it says. :raises RuntimeError: when it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with {self._process.wait()}")
        return line.strip()

    def ready(self) -> None:
        if (line := self.line()) != "ready":
            raise RuntimeError(f"{self._module} is not ready: {line}")

    def answer(self) -> Any:
        return json.loads(self.line())

    def say(self, line: object = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Ends its input, and then it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def child(module: str, *arguments: object) -> Iterator[Child]:
    """One that is ready; gone on leaving."""
    made = Child(module, *arguments)
    try:
        made.ready()
        yield made
    finally:
        made.close()
