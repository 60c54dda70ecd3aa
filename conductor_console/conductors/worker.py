"""A worker process of a fleet: conductors in threads, told by the parent what to do, and gone when it is gone."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from conductor_console import jobboards, persistence, settings
from conductor_console.conductors.fleet import Fleet
from conductor_console.conductors.member import FleetEvent, Worker
from conductor_console.conductors.wire import Answer, Ask, Channel, Leaving, News, NotAMessage, Order, Ready, Refused
from conductor_console.errors import ConsoleError
from conductor_console.jobboards.base import BoardEvent, LedgerBoard
from conductor_console.text import visible

#: Blocked by the parent until this process can tell what to do about them.
SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
#: Least seconds between two messages of news.
COALESCE: Final = 0.1
#: So many events are kept for a parent that reads nothing; then the oldest are forgotten.
KEPT: Final = 20_000

#: A reason to end that is no :class:`Ask`: the parent is gone, or somebody sent a SIGTERM to this process alone.
Reason = Ask | None


def told(error: BaseException) -> tuple[str, int]:
    """An error in one line, and the command line's exit code for it."""
    code = error.exit_code if isinstance(error, ConsoleError) else 1
    return visible(str(error).partition("\n")[0] or type(error).__name__, 500), code


def run(
    descriptor: int,
    *,
    prepare: Callable[[Mapping[str, Any]], object] = lambda _: None,
    tell: Callable[[BaseException], tuple[str, int]] = told,
    hung_up: Callable[[], object] = lambda: None,
) -> int:
    """Works until the parent says so or is gone, or a SIGTERM comes. Returns the exit code.

    :param descriptor: of a socket, whose other end is the parent's.
    :param prepare: called with the order's surroundings before anything is opened.
    :param tell: as :func:`told`.
    :param hung_up: called when the terminal is gone.
    """
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    channel = Channel(link)
    process = Process(channel)
    with contextlib.ExitStack() as stack:
        stack.callback(channel.close)
        for number in SIGNALS:
            signal.signal(number, lambda number, _: process.signalled(number, hung_up))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            order = channel.read()
            if not isinstance(order, Order):
                return 0 if order is None else 1
            prepare(order.surroundings)
            sys.path[:] = order.path
            threading.Thread(target=process.listen, name="parent", daemon=True).start()
            return process.work(order)
        except Exception as error:  # whatever keeps it from working is the parent's to tell
            line, code = tell(error)
            with contextlib.suppress(OSError):
                channel.send(Refused(line, code))
            return code


def main(descriptor: int) -> int:
    """The program of a process, where no other is named."""
    return run(descriptor)


class Process:
    """The process, as it sees itself: a thread that works and ends, one that listens, one that tells news."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # Of all that wakes a thread only this may be touched by a signal handler: its put never waits for a lock.
        self._wake: queue.SimpleQueue[Reason] = queue.SimpleQueue()
        self._terminated = 0
        self._lock = threading.Lock()
        self._fleet: Fleet | None = None
        self._ending = False
        self._early: list[Ask] = []
        self._events: deque[FleetEvent] = deque(maxlen=KEPT)
        self._telling = threading.Lock()
        self._shown: tuple[Worker, ...] | None = None
        self._over = threading.Event()

    def signalled(self, number: int, hung_up: Callable[[], object]) -> None:
        """A terminal's signals go to the parent as well, which says what to do; only SIGTERM is for this one alone."""
        if number == signal.SIGHUP:
            hung_up()
        elif number == signal.SIGTERM:
            self._terminated += 1
            if self._terminated > 1:
                os._exit(1)
            self._wake.put(None)

    # -- working -----------------------------------------------------------------------------------------------------
    def work(self, order: Order) -> int:
        """:raises ConsoleError: what was ordered cannot be done, and nothing was begun."""
        with self._opened(order) as fleet:
            with self._lock:
                fleet.start(order.paused, order.drained)
                self._fleet = fleet
                for ask in self._early:
                    self._answer(fleet, ask)
            self._send(Ready())
            reporter = threading.Thread(target=self._report, name="news", daemon=True)
            reporter.start()
            reason = self._wake.get()
            with self._lock:
                self._ending = True
                if reason is None:
                    # Before the news that they end: whoever follows them is not to begin like that.
                    self._send(Leaving())
            stuck = fleet.stop(reason.timeout if reason is not None else order.grace)
            self._over.set()
            reporter.join()
            self._tell_news()
            if reason is not None:
                self._send(Answer(reason.number, stuck=tuple(stuck)))
            if stuck:
                # Closing waits for threads that will not end. The claims go with this process.
                sys.stdout.flush()
                os._exit(1)
        return 0

    @contextlib.contextmanager
    def _opened(self, order: Order) -> Iterator[Fleet]:
        with contextlib.ExitStack() as stack:
            store = persistence.fetch(settings.store_conf(order.store))
            stack.callback(store.close)
            store.check()
            conf = settings.board_conf(order.board)
            board: LedgerBoard = jobboards.fetch(conf, name=order.operator, persistence=store, policy=order.policy)
            stack.callback(board.close)
            board.connect()
            fleet = Fleet(
                board,
                store,
                kind=order.kind,
                count=order.count,
                prefix=order.prefix,
                on_event=self._events.append,
                policy=order.policy,
                **order.options,
            )
            if order.claims:
                stack.callback(board.subscribe(lambda event: self._claimed(event, order.prefix)))
            yield fleet

    def _claimed(self, event: BoardEvent, prefix: str) -> None:
        claim = event.entry.claim if event.kind == "claimed" and event.entry is not None else None
        if event.entry is not None and claim is not None and claim.owner.startswith(prefix):
            self._events.append(FleetEvent("claimed", claim.owner, event.key, event.entry.name))

    # -- listening ---------------------------------------------------------------------------------------------------
    def listen(self) -> None:
        """Does what the parent asks, until it is gone."""
        while (message := self._heard()) is not None:
            if isinstance(message, Ask):
                self._asked(message)
        with self._lock:
            if self._fleet is None or self._ending:
                # Nothing was begun; or whoever waited for the end waits no more, as at a second Ctrl-C.
                os._exit(1)
            self._wake.put(None)

    def _heard(self) -> object:
        try:
            return self._channel.read()
        except NotAMessage:
            return None

    def _asked(self, ask: Ask) -> None:
        with self._lock:
            if ask.verb == "stop":
                if self._fleet is None:
                    os._exit(0)
                self._wake.put(ask)
            elif self._fleet is None:
                self._early.append(ask)
            else:
                self._answer(self._fleet, ask)

    def _answer(self, fleet: Fleet, ask: Ask) -> None:
        refusal = None
        try:
            if ask.verb == "scale":
                fleet.scale(ask.count)
            elif ask.verb == "restart":
                fleet.restart(str(ask.name))
            else:
                {"pause": fleet.pause, "resume": fleet.resume, "drain": fleet.drain}[ask.verb](ask.name)
        except Exception as error:  # the parent tells whoever asked
            refusal, _ = told(error)
        # Before the answer: whoever has that sees what came of it.
        self._tell_news(fleet)
        self._send(Answer(ask.number, refusal))

    # -- telling -----------------------------------------------------------------------------------------------------
    def _report(self) -> None:
        self._tell_news()
        while not self._over.wait(COALESCE):
            self._tell_news()

    def _tell_news(self, fleet: Fleet | None = None) -> None:
        fleet = fleet or self._fleet
        assert fleet is not None
        with self._telling:
            events = [self._events.popleft() for _ in range(len(self._events))]
            workers = fleet.workers()
            if events or workers != self._shown:
                self._shown = workers
                self._send(News(workers, tuple(events)))

    def _send(self, message: Ready | Leaving | News | Answer) -> None:
        # A parent that is gone is heard of by listening.
        with contextlib.suppress(OSError):
            self._channel.send(message)
