"""The one thread that writes to a store: everything that is queued goes into one transaction.

Each piece of work has a promise of its own, which tells of its commit, or of its own error: what one piece does wrong,
or what stands in its way, never reaches the others of its transaction. Those of one flow are done in their order.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.errors import StoreUnreachable
from conductor_console.persistence.bound import Binding
from conductor_console.persistence.edits import Edit
from conductor_console.persistence.faults import blames_store, is_transient
from conductor_console.persistence.fence import Fence
from conductor_console.persistence.schema import Unstorable
from conductor_console.persistence.unit import Unit
from conductor_console.promise import Promise

_LOG = logging.getLogger(__name__)
#: Pieces of work in one transaction: enough for every worker of a host, few enough to be run again one by one.
BATCH: Final = 256
#: Seconds for which a store that is being closed is still tried.
CLOSING: Final = 3.0
#: Seconds that an edit, for which nobody waits, waits for others at most: a commit costs more than what is in it.
LINGER: Final = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

T = TypeVar("T")
Work = Callable[[Unit], T]
Outcome = tuple[Any, Exception | None]


class _Item:
    """One caller's piece of work; ``work`` is None for a barrier, which only takes its turn.

    :ivar edit: what the work does, where it is no more than that: it can be written together with others.
    :ivar due: when (monotonic) it is written though nobody waits for it. ``deadline``: when it is given up.
    :ivar alone: it was at work when a lock was not to be had or the connection broke. It may be the reason, so it is
        tried in a transaction of its own from then on.
    :ivar error: why it was not done when it was last tried.
    """

    __slots__ = ("alone", "deadline", "due", "edit", "error", "flow", "promise", "what", "work")

    def __init__(
        self, work: Work[Any] | None, what: str, flow: str | None, patience: float, edit: Edit | None = None
    ) -> None:
        self.work = work
        self.edit = edit
        self.what = what
        self.flow = flow
        now = time.monotonic()
        self.due = now + LINGER
        self.deadline = now + patience
        self.alone = False
        self.error: BaseException | None = None
        self.promise = Promise()


@dataclass(frozen=True, slots=True)
class _Unsure:
    """A transaction that was to be committed when the connection broke: what it will have done, if it was."""

    turn: int
    items: list[_Item]
    outcomes: list[Outcome]


class Writer:
    """Owns the writing side of a store. The thread starts with the first piece of work.

    :param name: the store's, for the log.
    :param connect: opens a connection for writing, no transaction begun.
    :param unit: makes the view of a transaction just begun on a connection.
    :param fence: where a commit's answer can be lost.
    :param failure: turns any error, and what was being done, into the one the caller gets.
    :param lost: told which flow's write could not be stored, why, and in the name of which claim it was to be written
        where that is known, before the caller is.
    :param retry_for: seconds for which a locked or lost store is tried again.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], AbstractContextManager[sa.Connection]],
        unit: Callable[[sa.Connection], Unit],
        fence: Fence | None,
        failure: Callable[[BaseException, str], Exception],
        lost: Callable[[str, Exception, Binding | None], None],
        retry_for: float,
    ) -> None:
        self._name = name
        self._connect = connect
        self._unit = unit
        self._failure = failure
        self._lost = lost
        self._retry_for = retry_for
        self._fence = fence
        self._unsure: _Unsure | None = None
        #: The item a transaction is at, while it is at one.
        self._at: _Item | None = None
        self._queue: deque[_Item] = deque()
        #: Whether somebody waits for what is queued.
        self._hurry = False
        #: What the thread has taken from the queue and not yet answered.
        self._waiting: list[_Item] = []
        self._wake = threading.Condition()
        self._closing = False
        self._closed_by = float("inf")
        self._thread: threading.Thread | None = None
        self._writing = threading.Lock()
        self._pause = threading.Event()
        self._troubled = False
        self._told = False
        #: Whether edits are written together; not while the store has trouble, of which one of them may be the reason.
        self._together = True

    @property
    def pending(self) -> int:
        """How many callers wait."""
        return len(self._queue) + len(self._waiting)

    @property
    def troubled(self) -> bool:
        """Whether a write failed by the store's fault, and no :meth:`probe` has gone well since."""
        return self._troubled

    def probe(self) -> None:
        """Writes something of no account, once. A write that found nothing to change would prove nothing.

        :raises StorageFailure: when the store takes no writes.
        """
        self.call(lambda unit: unit.probe(), "a first write", patience=0)
        self._troubled = False

    def call(self, work: Work[T], what: str, *, flow: str | None = None, patience: float | None = None) -> T:
        """Does ``work`` in a transaction, and returns its result once that is durable.

        :param what: named in errors, e.g. ``saving flow details``.
        :param flow: the uuid of the flow whose state it is.
        :param patience: seconds for which it is tried again; by default the writer's.
        :raises StorageFailure: when it could not be stored, or the store is closed.
        """
        item = _Item(work, what, flow, self._retry_for if patience is None else patience)
        result: T = self._submit(item).get()
        return result

    def submit(self, edit: Edit, what: str, flow: str | None = None, *, hurry: bool = True) -> Promise:
        """Queues an edit, and returns at once. The promise tells when it is durable, or why it never will be.

        :param hurry: False: nobody waits for it, so it waits a moment for what else comes; who comes to wait for it all
            the same calls :meth:`hurry`.
        :raises StorageFailure: the store is closed.
        """

        def work(unit: Unit) -> None:
            unit.allow(edit)
            unit.apply(edit)

        return self._submit(_Item(work, what, flow, self._retry_for, edit), hurry=hurry)

    def hurry(self) -> None:
        """Somebody waits for something that was queued; it may be done by now."""
        with self._wake:
            self._hurry = bool(self._queue)
            self._wake.notify()

    def barrier(self, flow: str) -> None:
        """Returns when everything of the flow that was queued before is durable or has failed."""
        self._submit(_Item(None, "waiting for the writer", flow, self._retry_for)).get()

    def settle(self) -> None:
        """Returns when the transaction that runs now, if any, is over."""
        with self._writing:
            pass

    def close(self) -> None:
        """Writes what is queued, then ends the thread. What comes later is refused."""
        with self._wake:
            if not self._closing:
                self._closing = True
                self._closed_by = time.monotonic() + CLOSING
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=60 + CLOSING)
            if thread.is_alive():
                _LOG.warning("the writer of %s does not end: its database does not answer", self._name)

    def _submit(self, item: _Item, *, hurry: bool = True) -> Promise:
        with self._wake:
            if self._closing:
                raise excp.StorageFailure(f"the store is closed; {item.what} was refused")
            self._queue.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
                self._thread.start()
            if (hurry and not self._hurry) or len(self._queue) == 1:
                self._wake.notify()
            self._hurry = self._hurry or hurry
        return item.promise

    # -- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._wake:
                self._gather()
                while self._queue and len(self._waiting) < BATCH:
                    self._waiting.append(self._queue.popleft())
                self._hurry = bool(self._queue)
            if not self._waiting:
                return
            self._waiting = self._round(self._waiting)
            if self._waiting:
                self._pause.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE

    def _gather(self) -> None:
        """Returns when there is something to write and somebody waits for it, or it waited long enough; with nothing
        queued only when all is over.
        """
        while not (self._waiting or self._closing):
            left = None
            if self._queue:
                left = 0.0 if self._hurry else self._queue[0].due - time.monotonic()
                if left <= 0:
                    return
            self._wake.wait(left)

    def _round(self, waiting: list[_Item]) -> list[_Item]:
        """Tries everything once. Returns what is to be tried again, in its order; all else is answered."""
        error = self._resolve()
        work = [item for item in waiting if item.work is not None and not item.promise.done]
        alone: list[_Item] = []
        together: list[_Item] = []
        for item in work:
            (alone if item.alone or _is_behind(item, alone) else together).append(item)
        if error is None:
            error = self._attempt(together)
        if error is None:
            error = self._one_by_one([item for item in work if item in alone or _is_behind(item, alone)])
        self._together = error is None and not any(item.alone for item in work if not item.promise.done)
        self._tell(error, len(work))
        now = time.monotonic()
        left: list[_Item] = []
        for item in waiting:
            if item.work is None:
                if any(before.flow == item.flow for before in left):
                    left.append(item)
                else:
                    item.promise.set(None)
            elif not item.promise.done:
                item.error = error or item.error
                if item.error is not None and min(item.deadline, self._closed_by) <= now:
                    self._fail(item, item.error)
                else:
                    left.append(item)
        return left

    def _tell(self, error: BaseException | None, count: int) -> None:
        """Says once that the store is not to be had, and once that it is again."""
        if error is not None and not self._told:
            _LOG.warning("%s; %d writes wait for it", self._failure(error, "writing"), count)
        elif error is None and self._told and count:
            _LOG.warning("the store %s answers again", self._name)
        self._told = error is not None or (self._told and not count)

    def _one_by_one(self, items: list[_Item]) -> BaseException | None:
        """Tries each in a transaction of its own. Returns why the store is not to be had, where it is not."""
        left: list[_Item] = []
        for item in items:
            if item.promise.done or _is_behind(item, left):
                continue
            if (error := self._attempt([item])) is not None:
                return error
            if not item.promise.done:
                left.append(item)
        return None

    def _attempt(self, items: list[_Item]) -> BaseException | None:
        """Tries all in one transaction. Returns why the store is not to be had, where it is not."""
        while items:
            try:
                outcomes = self._transact(items)
            except BaseException as error:  # whatever it is belongs to the callers, and the thread lives on
                culprit, self._at = self._at, None
                self._troubled = self._troubled or blames_store(error)
                if is_transient(error) or self._unsure is not None:
                    if culprit is None:
                        return error
                    culprit.alone, culprit.error = True, error
                    items = [item for item in items if item is not culprit and not _is_behind(item, [culprit])]
                    continue
                if len(items) > 1:
                    return self._one_by_one(items)
                self._fail(items[0], error)
            else:
                self._answer(items, outcomes)
            break
        return None

    def _resolve(self) -> BaseException | None:
        """Finds out how a transaction ended whose answer was lost. Returns why the store is not to be had."""
        unsure, fence = self._unsure, self._fence
        if unsure is None or fence is None:
            return None
        items = [item for item in unsure.items if not item.promise.done]
        if items:
            try:
                with self._connect() as connection:
                    committed = fence.committed(connection, unsure.turn)
            except BaseException as error:
                if is_transient(error):
                    return error
                for item in items:
                    self._fail(item, error)
                committed = False
            if committed:
                self._answer(unsure.items, unsure.outcomes)
        self._unsure = None
        return None

    def _answer(self, items: list[_Item], outcomes: list[Outcome]) -> None:
        for item, (result, failed) in zip(items, outcomes, strict=True):
            if item.promise.done:
                continue
            if failed is None:
                item.promise.set(result)
            else:
                self._fail(item, failed)

    def _fail(self, item: _Item, error: BaseException) -> None:
        told = self._failure(error, item.what)
        if self._unsure is not None and item in self._unsure.items:
            told = StoreUnreachable(f"{told}; whether it was stored is not known")
        if told is not error:
            told.__cause__ = error
        # Of an edit its flow already counts on being stored.
        if item.flow is not None and (item.edit is not None or not isinstance(told, Unstorable)):
            self._lost(item.flow, told, None if item.edit is None else item.edit.binding)
        item.promise.set_exception(told)

    def _transact(self, items: list[_Item]) -> list[Outcome]:
        """One transaction over all items. One that fails alone is taken back to its savepoint.

        :raises BaseException: when the transaction as a whole failed. Nothing of it is stored then, unless the
            connection broke in the commit itself, which is left to be resolved.
        """
        with self._writing, self._connect() as connection:
            if self._fence is not None and not self._fence.entered:
                self._fence.enter(connection)
            unsure: _Unsure | None = None
            try:
                with connection.begin():
                    turn = None if self._fence is None else self._fence.take(connection)
                    outcomes = self._do_all(connection, self._unit(connection), items)
                    unsure = None if turn is None else _Unsure(turn, items, outcomes)
            except BaseException as error:
                if is_transient(error) or not isinstance(error, sa.exc.DBAPIError):
                    self._unsure = unsure
                raise
            return outcomes

    def _do_all(self, connection: sa.Connection, unit: Unit, items: list[_Item]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        failed: dict[str, Exception] = {}
        for together, group in itertools.groupby(items, lambda item: self._together and item.edit is not None):
            some = list(group)
            if together and len(some) > 1 and not failed:
                outcomes += self._do_together(unit, some)
                continue
            for item in some:
                before = failed.get(item.flow or "") if item.edit is not None else None
                # What comes after it counts on it.
                outcome = (None, before) if before else self._do(connection, unit, item, alone=len(items) == 1)
                if outcome[1] is not None and item.flow is not None:
                    failed[item.flow] = outcome[1]
                outcomes.append(outcome)
        return outcomes

    @staticmethod
    def _do_together(unit: Unit, items: list[_Item]) -> list[Outcome]:
        """Writes edits in as few statements as it takes; where one of them fails, all do, and each is tried alone."""
        outcomes: list[Outcome] = []
        allowed: list[Edit] = []
        for item in items:
            assert item.edit is not None
            try:
                unit.allow(item.edit)
            except excp.StorageFailure as error:
                outcomes.append((None, error))
            else:
                allowed.append(item.edit)
                outcomes.append((None, None))
        unit.apply(*allowed)
        return outcomes

    def _do(self, connection: sa.Connection, unit: Unit, item: _Item, *, alone: bool) -> Outcome:
        assert item.work is not None
        self._at = item
        if alone:
            outcome: Outcome = (item.work(unit), None)
            self._at = None
            return outcome
        savepoint = connection.begin_nested()
        try:
            outcome = (item.work(unit), None)
            savepoint.commit()
        except Exception as error:
            if blames_store(error):
                raise
            # Where the database gave up the whole transaction this fails too, and everyone is tried alone.
            savepoint.rollback()
            outcome = (None, error)
        self._at = None
        return outcome


def _is_behind(item: _Item, others: list[_Item]) -> bool:
    """Whether an earlier write of the same flow is among the others: it has to wait for that one."""
    return item.flow is not None and any(other.flow == item.flow for other in others)
