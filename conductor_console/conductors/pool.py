"""Where the jobs of a nonblocking conductor run: threads that do not keep a process from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

_Call = tuple["futures.Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonPool(futures.Executor):
    """At most ``size`` named daemon threads, begun when there is work for them.

    The standard pool's threads are joined when the interpreter exits: one job that hangs would hold up everything.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """:raises RuntimeError: when the pool was shut down, or the thread it takes cannot be made; nothing is done."""
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if self._over:
                raise RuntimeError("the pool was shut down")
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._size:
                thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
                # Before the call is queued: one that is refused must not be made by another thread later on.
                thread.start()
                self._threads.append(thread)
            self._calls.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What was submitted is still done, unless it is to be cancelled and has not begun."""
        with self._lock:
            first, self._over = not self._over, True
        if first and cancel_futures:
            self._cancel()
        if first:
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel(self) -> None:
        try:
            while (call := self._calls.get_nowait()) is not None:
                call[0].cancel()
        except queue.Empty:
            pass

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, fn, args, kwargs = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # it is the caller's, who looks at the future
                    future.set_exception(error)
            # An idle thread must not keep the last job alive.
            del call, future, fn, args, kwargs
            with self._lock:
                self._idle += 1
