"""What our boards share: the thread that tells of events, and TaskFlow's reading side over a picture in memory.

A board reads and writes its own service; what it learnt it puts into its :class:`~.picture.Picture`. The picture
compares with what it knew and makes the events, so that the same news told twice (by the act itself, and by the
watch that sees it a moment later) is one event. Nothing here does I/O.
"""

from __future__ import annotations

import abc
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs import base as taskflow_base

from conductor_console.jobboards.base import BinEntry, BoardEvent, BoardJob, JobEntry, LedgerBoard, Listener, Listing
from conductor_console.jobboards.breaker import Breaker
from conductor_console.jobboards.picture import Picture

LOG = logging.getLogger(__name__)

#: How long closing waits for a listener that is still being told something, in seconds.
STOP_TIMEOUT = 5.0

#: Our events that are TaskFlow's, too.
_TASKFLOW_KINDS = {"posted": taskflow_base.POSTED, "removed": taskflow_base.REMOVAL}


@dataclass(slots=True, eq=False)
class _Subscription:
    listener: Listener
    ended: bool = False


class Dispatcher:
    """One thread that calls listeners in order; telling it something never blocks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def tell(self, call: Callable[[], None]) -> None:
        """Calls it soon, on the dispatcher's thread; calls made while it is stopped wait for its start."""
        self._queue.put(call)

    def stop(self) -> None:
        """What was told before is still delivered; returns when the thread ended (bounded)."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put(None)
        if thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except Exception:  # a listener's fault must not end the board's events
                LOG.exception("a listener of the board's events failed")


class LazyJobs(Sequence[BoardJob]):
    """Jobs made from their entries only when they are looked at: a board may hold many thousands."""

    def __init__(self, entries: Sequence[JobEntry], make: Callable[[JobEntry], BoardJob]) -> None:
        self._entries = entries
        self._make = make

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[BoardJob]:
        return map(self._make, self._entries)

    @overload
    def __getitem__(self, index: int) -> BoardJob: ...

    @overload
    def __getitem__(self, index: slice) -> LazyJobs: ...

    def __getitem__(self, index: int | slice) -> BoardJob | LazyJobs:
        if isinstance(index, slice):
            return LazyJobs(self._entries[index], self._make)
        return self._make(self._entries[index])


class PicturedJob(BoardJob):
    """A job of a board that keeps a picture."""

    @property
    def state(self) -> str:
        """UNCLAIMED, CLAIMED or COMPLETE (no longer on the board), asked of the board's service.

        :raises JobFailure: when the board does not answer.
        """
        return self.board.job_state(self)

    def wait(
        self,
        timeout: float | None = None,
        delay: float = 0.01,  # noqa: ARG002
        delay_multiplier: float = 2.0,  # noqa: ARG002
        max_delay: float = 60.0,  # noqa: ARG002
        sleep_func: Callable[[float], None] = time.sleep,  # noqa: ARG002
    ) -> bool:
        """Waits until the job is no longer on the board; woken by the board, so the delays are not used."""
        return self.board.wait_until_gone(self, timeout)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, BoardJob):
            return NotImplemented
        return self.sort_key < other.sort_key


class JobIterator(taskflow_base.JobBoardIterator):
    """TaskFlow's iterator, over what the picture says at the moment of handing out: no round trip a job."""

    def __init__(self, board: PicturedBoard, picture: Picture, *, only_unclaimed: bool, ensure_fresh: bool) -> None:
        super().__init__(board, LOG, only_unclaimed=only_unclaimed, ensure_fresh=ensure_fresh)
        self._picture = picture
        self._entries: Iterator[JobEntry] | None = None

    def __next__(self) -> BoardJob:
        if self._entries is None:
            if self.ensure_fresh:
                self._board.freshen()
            self._entries = iter(self._picture.ordered())
        for seen in self._entries:
            entry = self._picture.get(seen.key)
            if entry is not None and not (self.only_unclaimed and entry.claim is not None):
                return self._board.make_job(entry)
        raise StopIteration


class PicturedBoard(LedgerBoard):
    """The reading side of a board of ours, TaskFlow's and the console's, over :attr:`picture`."""

    def __init__(self, name: str, conf: Mapping[str, Any], persistence: Any, emit_notifications: bool) -> None:
        super().__init__(name, conf)
        self._persistence = persistence
        self._emit_notifications = emit_notifications
        self._listeners: tuple[_Subscription, ...] = ()
        self._renew()

    def _renew(self) -> None:
        """Threads and locks, and what they guard: made anew in a child made by fork, where the threads are not."""
        self._listeners_lock = threading.Lock()
        self._dispatcher = Dispatcher(f"{self._name}-events")
        self.picture = Picture(self._publish)

    @property
    def name(self) -> str:
        return self._name

    @property
    def job_count(self) -> int:
        return self.picture.job_count

    def listing(self) -> Listing:
        return self.picture.listing()

    @property
    def breaker(self) -> Breaker:
        return self.picture.breaker

    def find(self, key: str) -> JobEntry | None:
        return self.picture.get(key)

    def find_binned(self, key: str) -> BinEntry | None:
        return self.picture.get_binned(key)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        subscription = _Subscription(listener)
        with self._listeners_lock:
            self._listeners = (*self._listeners, subscription)

        def unsubscribe() -> None:
            subscription.ended = True
            with self._listeners_lock:
                # By identity: the same function may be subscribed twice.
                self._listeners = tuple(known for known in self._listeners if known is not subscription)

        return unsubscribe

    def candidates(self, now: datetime) -> tuple[Sequence[BoardJob], datetime | None]:
        entries, until = self.picture.candidates(now)
        return LazyJobs(entries, self.make_job), until

    def iterjobs(self, only_unclaimed: bool = False, ensure_fresh: bool = False) -> JobIterator:
        return JobIterator(self, self.picture, only_unclaimed=only_unclaimed, ensure_fresh=ensure_fresh)

    def wait(self, timeout: float | None = None) -> JobIterator:
        """Waits until there is any job, at most ``timeout`` seconds (None: for ever).

        :raises NotFound: when there was none.
        """
        if not self.picture.wait_for_jobs(timeout):
            within = "before the board was closed" if timeout is None else f"within {timeout:g} s"
            raise excp.NotFound(f"no job arrived {within}")
        return self.iterjobs()

    @abc.abstractmethod
    def freshen(self) -> None:
        """Returns when the picture shows all that happened before this call.

        :raises BoardUnreachable: when the board does not answer.
        """

    @abc.abstractmethod
    def job_state(self, job: taskflow_base.Job) -> str:
        """The state TaskFlow asks a job for, read from the board's service.

        :raises JobFailure: when the board does not answer.
        """

    def wait_until_gone(self, job: taskflow_base.Job, timeout: float | None) -> bool:
        """Waits until the job is no longer on the board; False when it still is after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            version = self.picture.version
            # Asked of the service, not of the picture: a lost connection must not look like an end.
            if self.job_state(job) == states.COMPLETE:
                return True
            # The bound on each wait is for a change that the picture cannot show: the connection being closed.
            left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            if left <= 0:
                return False
            self.picture.wait_for_change(version, left)

    def make_job(self, entry: JobEntry, book: Any = None) -> BoardJob:
        return PicturedJob(self, entry, backend=self._persistence, book=book)

    def _publish(self, event: BoardEvent) -> None:
        subscriptions = self._listeners
        notify = self._emit_notifications and event.kind in _TASKFLOW_KINDS and len(self.notifier) > 0
        if subscriptions or notify:
            self._dispatcher.tell(lambda: self._tell(event, subscriptions, notify))

    def _tell(self, event: BoardEvent, subscriptions: tuple[_Subscription, ...], notify: bool) -> None:
        """Tells those who had subscribed when it happened and still are."""
        for subscription in subscriptions:
            if subscription.ended:
                continue
            try:
                subscription.listener(event)
            except Exception:  # one listener's fault must not keep the news from the others
                LOG.exception("a listener of the board's events failed")
        if notify and event.entry is not None and event.entry.workable:
            self.notifier.notify(_TASKFLOW_KINDS[event.kind], {"job": self.make_job(event.entry)})


def identity(who: str) -> str:
    """An attempt's ``who``: the claim's owner, and the process it lives in."""
    return who if "@" in who else f"{who}@{socket.gethostname()}:{os.getpid()}"
