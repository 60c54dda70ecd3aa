"""Small helpers every test may use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
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
