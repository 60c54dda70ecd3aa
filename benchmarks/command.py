"""The command line's conductors (``run --headless``), started and looked at as a user has them, for benchmarks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from kazoo.client import KazooClient

from benchmarks.crew import END_SECONDS, ROOT, Plan, family, processor_time
from conductor_console.jobboards.zk_paths import BoardPaths
from tests.support import eventually

_RUN = [sys.executable, "-W", "ignore", "-c", "from conductor_console.cli.main import main; main()", "run"]


def knows_processes() -> bool:
    """Whether ``run`` can spread its conductors over processes."""
    told = subprocess.run([*_RUN, "--help"], cwd=ROOT, capture_output=True, text=True, env=_WIDE)
    return "--processes" in told.stdout


#: So that help is not broken into lines.
_WIDE = {"COLUMNS": "300", "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "TERM": "dumb"}


class Command:
    """The command, as its parent sees it."""

    def __init__(self, plan: Plan, processes: int) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        board = f"zk://{plan.board['hosts']}{plan.board['path']}"
        words = ["--store", plan.store, "--allow-any-factory", "--headless", "-j", str(plan.workers)]
        words += ["--kind", plan.kind, "--engine", plan.engine, "--processes", str(processes)]
        self._process = subprocess.Popen(
            [*_RUN, board, *words], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors
        )

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it and its worker processes have taken so far."""
        return sum(processor_time(pid) for pid in family(self._process.pid))

    @property
    def running(self) -> bool:
        if self._process.poll() is not None:
            self._errors.seek(0)
            raise RuntimeError(f"the command ended:\n{self._errors.read()[-2000:].decode(errors='replace')}")
        return True

    def count_anew(self) -> None:
        """Nothing is counted here."""

    def end(self) -> dict[str, Any]:
        self._process.terminate()
        self._process.wait(END_SECONDS)
        return {"counts": {}, "flows": {}}

    def close(self) -> None:
        """Ends it in order, so that its own processes end as well."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()


@contextlib.contextmanager
def command(plan: Plan, processes: int, paths: BoardPaths, client: KazooClient) -> Iterator[Command]:
    """The command, all its conductors registered; ended on leaving."""
    made = Command(plan, processes)
    wanted = processes * (plan.workers if plan.kind == "blocking" else 1)
    try:
        eventually(
            lambda: made.running and len(client.get_children(paths.conductors)) >= wanted,
            timeout=60.0,
            what=f"{wanted} conductors to register",
        )
        yield made
    finally:
        made.close()
