"""A conductor that runs several jobs at a time, in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskflow.utils import threading_utils

from conductor_console.conductors.base import ExecutorConductor
from conductor_console.conductors.pool import DaemonPool


class NonBlockingConductor(ExecutorConductor):
    """Takes what :class:`~conductor_console.conductors.base.ExecutorConductor` takes, and

    :param max_simultaneous_jobs: default: one more than this machine has processors, as in TaskFlow.
    :param executor_factory: called without arguments for the executor of each ``run`` (default: named daemon threads).
    :raises ValueError: when that cannot be called.
    """

    MAX_SIMULTANEOUS_JOBS = threading_utils.get_optimal_thread_count()

    def __init__(self, *args: Any, executor_factory: Callable[[], Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if executor_factory is not None and not callable(executor_factory):
            raise ValueError("executor_factory must be callable")
        self._make_executor = executor_factory
        if executor_factory is None and self._limit is None:
            # What the threads cannot run yet is better left on the board, for others.
            self._limit = self.MAX_SIMULTANEOUS_JOBS

    def _executor_factory(self) -> Any:
        if self._make_executor is not None:
            return self._make_executor()
        return DaemonPool(self._limit or self.MAX_SIMULTANEOUS_JOBS, self.name)
