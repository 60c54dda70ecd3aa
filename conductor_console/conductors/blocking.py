"""A conductor that runs one job after the other, in the thread that calls its ``run``."""

from __future__ import annotations

from typing import Any

import futurist

from conductor_console.conductors.base import ExecutorConductor


class BlockingConductor(ExecutorConductor):
    """Takes what :class:`~conductor_console.conductors.base.ExecutorConductor` takes."""

    MAX_SIMULTANEOUS_JOBS = 1

    def _executor_factory(self) -> Any:
        return futurist.SynchronousExecutor()
