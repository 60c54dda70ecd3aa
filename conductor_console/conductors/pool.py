"""Where jobs, atoms and factories run beside a conductor: threads that do not keep a process from ending."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Final

from taskflow import exceptions as excp

_Call = tuple["futures.Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonPool(futures.Executor):
    """At most ``size`` named daemon threads (None: as many as there is work for), begun when they are needed.

    The standard pool's threads are joined when the interpreter exits: one job that hangs would hold up everything.
    """

    def __init__(self, size: int | None, name: str) -> None:
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
            elif self._size is None or len(self._threads) < self._size:
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


class SharedPool:
    """One unbounded pool for all who are at work in this process, there while anyone is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._users = 0
        self._pool: DaemonPool | None = None

    @contextlib.contextmanager
    def used(self) -> Iterator[DaemonPool]:
        """The pool; its threads end when its last user is done, and with what they are at."""
        with self._lock:
            self._users += 1
            if self._pool is None:
                self._pool = DaemonPool(None, self._name)
            pool = self._pool
        try:
            yield pool
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._pool = None
                    pool.shutdown(wait=False)


HELPERS: Final = SharedPool("conductor-helper")


class Lane(futures.Executor):
    """One flow's part of an executor: at most ``width`` of its calls are under way at a time (None: any number).

    The engine does not wait for its atoms where its executor is not its own; :meth:`close` does.
    """

    def __init__(self, pool: futures.Executor, width: int | None) -> None:
        self._pool = pool
        self._width = width
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._running: set[futures.Future[Any]] = set()
        self._over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """:raises RuntimeError: when it was closed."""
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if self._over:
                raise RuntimeError("the flow is over")
            self._waiting.append((future, fn, args, kwargs))
        self._fill()
        return future

    def _fill(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or (self._width is not None and len(self._running) >= self._width):
                    return
                future, fn, args, kwargs = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                self._running.add(future)
            try:
                inner = self._pool.submit(fn, *args, **kwargs)
            except Exception as error:  # no thread is to be had: no fault of the flow
                self._done(future, error=excp.ExecutionFailure(f"a task could not be begun: {error}"))
                continue
            inner.add_done_callback(lambda done, future=future: self._copy(done, future))  # type: ignore[misc]

    def _copy(self, inner: futures.Future[Any], future: futures.Future[Any]) -> None:
        if inner.cancelled():
            self._done(future, error=excp.ExecutionFailure("a task was cancelled by its executor"))
        elif (error := inner.exception()) is not None:
            self._done(future, error=error)
        else:
            self._done(future, inner.result())
        self._fill()

    def _done(self, future: futures.Future[Any], result: Any = None, error: BaseException | None = None) -> None:
        with self._lock:
            self._running.discard(future)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._over = True
            waiting = list(self._waiting) if cancel_futures else []
            running = list(self._running)
        for future, *_ in waiting:
            future.cancel()
        if wait:
            futures.wait(running)

    def close(self) -> None:
        """Nothing more is begun; returns when what is under way has ended."""
        self.shutdown(cancel_futures=True)
