"""The one thread that writes to a store: everything that is queued goes into one transaction.

Each caller waits for the commit of its own piece of work, and gets its own error: what one piece does wrong never
reaches the others of its transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.persistence.engine import is_transient
from conductor_console.persistence.unit import Unit

_LOG = logging.getLogger(__name__)
#: Pieces of work in one transaction: enough for every worker of a host, few enough to be run again one by one.
BATCH = 256
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

T = TypeVar("T")
Work = Callable[[Unit], T]


class _Item:
    """One caller's piece of work; ``work`` is None for a barrier, which only takes its turn."""

    __slots__ = ("future", "what", "work")

    def __init__(self, work: Work[Any] | None, what: str) -> None:
        self.work = work
        self.what = what
        self.future: Future[Any] = Future()

    def do(self, unit: Unit) -> Any:
        return None if self.work is None else self.work(unit)


class Writer:
    """Owns the writing side of a store. The thread starts with the first piece of work.

    :param connect: opens a connection for writing, no transaction begun.
    :param unit: makes the view of a transaction just begun on a connection.
    :param failure: turns any error, and what was being done, into the one the caller gets.
    :param retry_for: seconds for which a locked or lost store is tried again.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        unit: Callable[[sa.Connection], Unit],
        failure: Callable[[BaseException, str], Exception],
        retry_for: float,
    ) -> None:
        self._connect = connect
        self._unit = unit
        self._failure = failure
        self._retry_for = retry_for
        self._queue: deque[_Item] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._writing = threading.Lock()
        self._pause = threading.Event()

    def call(self, work: Work[T], what: str) -> T:
        """Does ``work`` in a transaction, and returns its result once that is durable.

        :param what: named in errors, e.g. ``saving flow details``.
        :raises StorageFailure: when it could not be stored, or the store is closed.
        """
        result: T = self._submit(_Item(work, what)).result()
        return result

    def barrier(self) -> None:
        """Returns when everything queued before is durable or has failed."""
        self._submit(_Item(None, "waiting for the writer")).result()

    def settle(self) -> None:
        """Returns when the transaction that runs now, if any, is over."""
        with self._writing:
            pass

    def close(self) -> None:
        """Writes what is queued, then ends the thread. What comes later is refused."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2 * self._retry_for + 30)
            if thread.is_alive():
                _LOG.warning("the store's writer does not end: its database does not answer")

    def _submit(self, item: _Item) -> Future[Any]:
        with self._wake:
            if self._closing:
                raise excp.StorageFailure(f"the store is closed; {item.what} was refused")
            self._queue.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
                self._thread.start()
            self._wake.notify()
        return item.future

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            work = [item for item in batch if item.work is not None]
            if work:
                self._write(work, time.monotonic() + self._retry_for)
            for item in batch:
                if item.work is None:
                    item.future.set_result(None)

    def _write(self, items: list[_Item], deadline: float) -> None:
        """Writes all, trying again what may pass; each item's future is answered on return."""
        pause = _FIRST_PAUSE
        while True:
            try:
                outcomes = self._transact(items)
            except BaseException as error:  # whatever it is belongs to the callers, and the thread lives on
                if is_transient(error):
                    if time.monotonic() + pause < deadline:
                        self._pause.wait(pause)
                        pause = min(2 * pause, _LONGEST_PAUSE)
                        continue
                elif len(items) > 1:
                    for item in items:
                        self._write([item], deadline)
                    return
                for item in items:
                    self._fail(item, error)
                return
            for item, (result, failed) in zip(items, outcomes, strict=True):
                if failed is None:
                    item.future.set_result(result)
                else:
                    self._fail(item, failed)
            return

    def _fail(self, item: _Item, error: BaseException) -> None:
        told = self._failure(error, item.what)
        if told is not error:
            told.__cause__ = error
        item.future.set_exception(told)

    def _transact(self, items: list[_Item]) -> list[tuple[Any, Exception | None]]:
        """One transaction over all items. One that fails alone is taken back to its savepoint.

        :raises BaseException: when the transaction as a whole failed. Nothing of it is stored then; or all of it, where
            the connection broke in the commit itself: rows are read anew, so that none is written twice.
        """
        with self._writing, self._connect() as connection:
            unit: Unit | None = None
            outcomes: list[tuple[Any, Exception | None]]
            try:
                with connection.begin():
                    unit = self._unit(connection)
                    alone = len(items) == 1
                    outcomes = [(item.do(unit), None) if alone else self._try(connection, unit, item) for item in items]
            except BaseException:
                if unit is not None:
                    unit.forget()
                raise
            unit.settle()
            return outcomes

    @staticmethod
    def _try(connection: sa.Connection, unit: Unit, item: _Item) -> tuple[Any, Exception | None]:
        mark = unit.mark()
        savepoint = connection.begin_nested()
        try:
            result = item.do(unit)
            savepoint.commit()
        except Exception as error:
            if is_transient(error):
                raise
            # Where the database gave up the whole transaction this fails too, and everyone is tried alone.
            savepoint.rollback()
            unit.back_to(mark)
            return None, error
        return result, None
