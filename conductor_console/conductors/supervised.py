"""One worker process of a fleet as its parent sees it: started, listened to, asked, and followed by another."""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import conductor_console
from conductor_console.clock import utcnow
from conductor_console.conductors.backoff import Backoff
from conductor_console.conductors.member import FINISHING, FleetEvent, Worker, WorkerState
from conductor_console.conductors.wire import (
    Answer,
    Ask,
    Channel,
    Leaving,
    Message,
    News,
    NotAMessage,
    Order,
    Ready,
    Refused,
    Verb,
)
from conductor_console.errors import ConsoleError, Unreachable, UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Seconds between two looks whether a process lives that says nothing.
LOOK: Final = 1.0
#: Seconds for a process to be gone, once it has said that it has nothing to do any more, or closed its end.
LEAVING: Final = 5.0
#: Seconds by which a process's word that it has stopped may be late.
LATE: Final = 1.0
#: One that lived for so many seconds was well: the waits between its successors are short again.
WELL: Final = 60.0
STARTING: Final = "its process is starting"

#: Python's start: this package is found where the parent has it, and nothing in the working directory is imported.
_BOOT: Final = (
    "import importlib, sys; sys.path.append(sys.argv[3]); "
    "sys.exit(importlib.import_module(sys.argv[1]).main(int(sys.argv[2])))"
)
_ROOT: Final = str(Path(conductor_console.__file__).parents[1])
#: What a wish leads to where there is no process at the moment that could be asked.
_WISHED: Final[dict[Verb, tuple[tuple[WorkerState, ...], WorkerState]]] = {
    "pause": (("running", "crashed"), "paused"),
    "resume": (("paused",), "running"),
    "drain": (("running", "paused", "crashed"), "stopped"),
    "restart": (("paused", "stopped", "crashed"), "running"),
}
_BLOCKED: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


def launch(program: str, name: str, *, silent: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process that runs ``program``'s ``main`` with its end of the socket of which this returns the other.

    Nothing but names is on its command line. The signals of a terminal wait until it can tell what to do about them.

    :param silent: what its flows print goes nowhere, instead of where ours goes.
    :raises OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    output = subprocess.DEVNULL if silent else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, program, str(theirs.fileno()), _ROOT, name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
            )
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    ours.settimeout(LOOK)
    return process, ours


def how_it_ended(code: int) -> str:
    """A process's end in words; ``code`` as :class:`subprocess.Popen` has it."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was ended by signal {-code}"


def kept_back(workers: tuple[Worker, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of a process's conductors those that were paused, and those that were drained: as its successor has to begin."""
    paused = tuple(worker.name for worker in workers if worker.state == "paused")
    drained = (w.name for w in workers if w.state == "stopped" or (w.state == "draining" and w.note == FINISHING))
    return paused, tuple(drained)


def refusal_of(refused: Refused) -> ConsoleError:
    """What a process says of its order, as the error that it was there."""
    kind = {UsageError.exit_code: UsageError, Unreachable.exit_code: Unreachable}.get(refused.code, ConsoleError)
    return kind(refused.line)


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended, in words.

    :ivar refusal: what it said of its order, where it could not be done.
    :ivar orderly: it put its jobs down.
    """

    how: str
    refusal: ConsoleError | None = None
    orderly: bool = False


class Supervised:
    """A worker process, by name, and one after the other where it dies.

    :param prefix: of its conductors' names.
    :param share: how many conductors it has.
    :param order: makes the order for a process that begins, from prefix, share, and who is paused and drained.
    :param fatal: asked about a process that was refused what it needs, before any was at work; True ends it here.
    :param settled: told when a process is at work (True), or has died (False).
    """

    def __init__(
        self,
        name: str,
        share: int,
        *,
        order: Callable[[str, int, tuple[str, ...], tuple[str, ...]], Order],
        program: str,
        silent: bool,
        tell: Callable[[FleetEvent], None],
        fatal: Callable[[ConsoleError], bool],
        settled: Callable[[bool], None],
    ) -> None:
        self.name = name
        self.prefix = f"{name}-"
        self.share = share
        self._order = order
        self._program = program
        self._silent = silent
        self._tell = tell
        self._fatal = fatal
        self._settled = settled
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._asked: dict[int, tuple[Verb, str | None, futures.Future[Answer]]] = {}
        self._numbers = itertools.count(1)
        self._stop: futures.Future[Answer] | None = None
        self._deaths = 0
        # While it is set there is no process that tells anything.
        self._trouble = ""
        self._since = utcnow()
        self._leaving = False
        self._shown = tuple(
            Worker(f"{self.prefix}{number}", "running", (), self._since, STARTING) for number in range(1, share + 1)
        )
        # As the next process is to begin.
        self._next = self._shown
        self._thread = threading.Thread(target=self._tend, name=f"process-{name}", daemon=True)

    # -- asked by the fleet ------------------------------------------------------------------------------------------
    def start(self) -> None:
        self._thread.start()

    def workers(self) -> tuple[Worker, ...]:
        with self._lock:
            if not self._trouble:
                return self._shown
            return tuple(
                worker
                if worker.state == "stopped"
                else replace(worker, state="crashed", jobs=(), since=self._since, note=self._trouble, pid=None)
                for worker in self._next
            )

    def ask(self, verb: Verb, name: str | None = None, count: int = 0, timeout: float = 0.0) -> futures.Future[Answer]:
        """The answer to come. Where the process is dead, or dies before it answers, its successor begins as wished."""
        answer: futures.Future[Answer] = futures.Future()
        with self._lock:
            if verb == "scale":
                self.share = count
            channel, number = self._channel, next(self._numbers)
            if channel is None:
                self._wish(verb, name)
                answer.set_result(Answer(number))
                return answer
            self._asked[number] = (verb, name, answer)
        try:
            channel.send(Ask(number, verb, name, count, timeout))
        except OSError:
            # It is dead, or takes nothing: whoever reads it finds that out.
            self.kill()
        return answer

    def _wish(self, verb: Verb, name: str | None) -> None:
        if verb not in _WISHED:
            return
        states, wanted = _WISHED[verb]
        self._next = tuple(
            replace(worker, state=wanted) if name in (None, worker.name) and worker.state in states else worker
            for worker in self._next
        )
        if not self._leaving:
            self._shown = self._next

    def stop(self, timeout: float) -> None:
        """Asks it to end, its jobs being suspended within ``timeout`` seconds; none follows. Returns at once."""
        self._stopping.set()
        self._stop = self.ask("stop", timeout=timeout)

    def ended(self, deadline: float) -> list[str]:
        """Waits for its end after :meth:`stop`, until ``deadline`` (monotonic); then it is killed.

        :returns: the names of the conductors that did not end by themselves.
        """
        if self._stop is None or self._thread.ident is None:
            return []
        stuck: list[str] | None = None
        try:
            stuck = list(self._stop.result(max(0.0, deadline - time.monotonic()) + LATE).stuck)
            if self._leaving:
                # It was on its way, and gives no answer but its end.
                self._thread.join(max(0.0, deadline - time.monotonic()) + LATE)
                stuck = None if self._thread.is_alive() else []
        except TimeoutError:
            pass
        if stuck is None:
            stuck = [worker.name for worker in self.workers() if worker.state != "stopped"] or [self.name]
        if stuck:
            LOG.warning("the process %s did not end in time and is killed", visible(self.name))
            self.kill()
        self._thread.join(LEAVING)
        if self._thread.is_alive():
            self.kill()
            self._thread.join()
        return stuck

    def kill(self) -> None:
        """As ``kill -9``: its claims end with it."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    # -- its thread --------------------------------------------------------------------------------------------------
    def _tend(self) -> None:
        backoff = Backoff(first=0.5, most=30.0)
        while not self._stopping.is_set():
            began = time.monotonic()
            end = self._live()
            if self._stopping.is_set() or (end.refusal is not None and self._fatal(end.refusal)):
                break
            if time.monotonic() - began > WELL:
                backoff.reset()
            wait = backoff.next()
            if end.orderly:
                # Somebody sent it a SIGTERM, perhaps to all of us: then the next that is heard is that all is to end.
                self._suffer(end.how)
                if self._stopping.wait(wait):
                    break
                wait = 0.0
            told = f"{end.how}; another follows" + (f" in {wait:g} s" if wait else "")
            self._suffer(told)
            self._tell(FleetEvent("died", self.name, cause=make_cause("ProcessDied", told)))
            self._settled(False)
            self._stopping.wait(wait)
        with self._lock:
            self._trouble = ""
            self._shown = tuple(
                replace(worker, state="stopped", jobs=(), note="", since=utcnow(), pid=None)
                if worker.state != "stopped"
                else worker
                for worker in self._shown
            )
            self._next = self._shown

    def _suffer(self, trouble: str) -> None:
        with self._lock:
            if not self._trouble:
                self._since = utcnow()
            self._trouble = visible(trouble, 200)

    def _live(self) -> End:
        """One process from its start to its end."""
        try:
            process, link = launch(self._program, self.name, silent=self._silent)
        except OSError as error:
            return End(f"its process cannot be started: {visible(error.strerror or error, 200)}")
        channel = Channel(link, going=lambda: process.poll() is None)
        refusal: ConsoleError | None = None
        try:
            # Under the lock, so that whatever is asked is in the order, or comes after it.
            with self._lock:
                self._process, self._channel = process, channel
                if self._stopping.is_set():
                    process.kill()
                channel.send(self._order(self.prefix, self.share, *kept_back(self._next)))
                self._leaving = False
                # The board may tell of them before they do themselves.
                self._shown = tuple(replace(worker, pid=process.pid) for worker in self._next)
            while (message := channel.read()) is not None:
                if isinstance(message, Refused):
                    refusal = refusal_of(message)
                else:
                    self._take(message, process.pid)
        except NotAMessage as error:
            refusal = error
            process.kill()
        except Exception as error:  # whatever it is, the work goes on with another process
            if not isinstance(error, OSError):
                LOG.exception("what the process %s told cannot be taken in", visible(self.name))
            process.kill()
        finally:
            self._gone()
            link.close()
            _await(process)
        if refusal is not None:
            return End(visible(refusal, 200), refusal)
        if self._leaving:
            return End("its process was told to end", orderly=True)
        return End(how_it_ended(process.returncode))

    def _take(self, message: Message, pid: int) -> None:
        if isinstance(message, Ready):
            self._settled(True)
        elif isinstance(message, Leaving):
            with self._lock:
                self._leaving, self._channel = True, None
        elif isinstance(message, News):
            with self._lock:
                self._trouble = ""
                self._shown = tuple(
                    replace(worker, pid=pid, crashes=worker.crashes + self._deaths) for worker in message.workers
                )
                if not self._leaving:
                    self._next = self._shown
            for event in message.events:
                self._tell(event)
        elif isinstance(message, Answer):
            with self._lock:
                _, _, answer = self._asked.pop(message.number)
            answer.set_result(message)

    def _gone(self) -> None:
        with self._lock:
            self._channel = None
            self._deaths += 1
            unanswered = list(self._asked.items())
            self._asked.clear()
            for _, (verb, name, _) in unanswered:
                self._wish(verb, name)
        for number, (_, _, answer) in unanswered:
            answer.set_result(Answer(number))


def _await(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
