"""TaskFlow's worker-based engine, where its broker is not there: told at once, and not waited for without end."""

from __future__ import annotations

import logging
from typing import Any

from taskflow import exceptions as excp

from conductor_console.text import visible

LOG = logging.getLogger(__name__)


class Ear:
    """Looks after the thread in which an executor listens for its workers' answers.

    TaskFlow (6.5) waits for ever where that thread dies: for its start, and for each task that was sent off. Here the
    engine fails with ``ExecutionFailure``, which is no fault of the flow's.

    :param executor: a ``WorkerTaskExecutor`` that was not started yet.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._proxy = executor._proxy
        self._listen, self._start, self._submit = self._proxy.start, executor.start, executor._submit_task
        self._why: str | None = None
        self._proxy.start, executor.start, executor._submit_task = self._listening, self._started, self._submitted

    def _listening(self) -> None:
        try:
            self._listen()
        except BaseException as error:  # whatever the broker's library raises, in a thread that nobody looks at
            LOG.warning("workers are no longer heard", exc_info=True)
            self._why = visible(str(error).partition("\n")[0] or type(error).__name__, 300)
            # Whoever waits for its start waits for this.
            self._proxy._running.set()
            self._give_up()

    def _started(self) -> None:
        self._why = None
        self._start()
        if self._why is not None:
            self._executor.stop()
            raise self._failure()

    def _submitted(self, *args: Any, **kwargs: Any) -> Any:
        future = self._submit(*args, **kwargs)
        if self._why is not None:
            self._give_up()
        return future

    def _give_up(self) -> None:
        """Ends all tasks that wait for an answer."""
        executor = self._executor
        with executor._ongoing_requests_lock:
            requests = list(executor._ongoing_requests.values())
            executor._ongoing_requests.clear()
        for request in requests:
            if not request.future.done():
                request.future.set_exception(self._failure())

    def _failure(self) -> excp.ExecutionFailure:
        return excp.ExecutionFailure(f"the workers' broker cannot be reached: {self._why}")
