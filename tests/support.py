"""Small helpers every test may use."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(predicate: Callable[[], T | None], timeout: float = 30.0, what: str = "the condition") -> T:
    """Waits until ``predicate`` returns something true, and returns that.

    :param timeout: seconds; generous, since it is only reached when something is wrong.
    :raises AssertionError: when it never became true; ``what`` is told.
    """
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        pause.wait(0.02)


def freeze(pid: int) -> None:
    """Stops a process, which ``SIGCONT`` lets go on; returns when none of its threads runs any more.

    :raises ProcessLookupError: there is none.
    """

    def stopped() -> bool:
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            # The state is behind the name, which may have anything in it.
            threads = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
            return all(thread.rpartition(")")[2].split()[0] in "tTZ" for thread in threads)
        return False

    os.kill(pid, signal.SIGSTOP)
    eventually(stopped, what=f"process {pid} to stop")
