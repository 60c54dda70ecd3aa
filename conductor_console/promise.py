"""One answer that is still to come, for few to wait for: ``concurrent.futures`` costs several times as much."""

from __future__ import annotations

import contextlib
import threading
from typing import Any


class Promise:
    """Given once, by :meth:`set` or :meth:`set_exception`. Thread safe."""

    __slots__ = ("_error", "_told", "_value", "done")

    def __init__(self) -> None:
        self._told = threading.Lock()
        self._told.acquire()
        self._value: Any = None
        self._error: BaseException | None = None
        #: Whether there is an answer.
        self.done = False

    def set(self, value: Any = None) -> None:
        self._value = value
        self._tell()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._tell()

    def _tell(self) -> None:
        self.done = True
        self._open()

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # told twice: it is open already
            self._told.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether there is an answer, after so many seconds at most."""
        if not self.done:
            if not self._told.acquire(timeout=-1 if timeout is None else timeout):
                return False
            # Whoever else waits is next.
            self._open()
        return True

    def get(self, timeout: float | None = None) -> Any:
        """The answer, or raises what was met. :raises TimeoutError: there was none in time."""
        if not self.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value
