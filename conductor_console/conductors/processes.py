"""A fleet in worker processes: each runs conductors in threads, and is followed by another where it dies.

The parent runs no conductor. It starts the processes, tells them what is asked of the fleet, and shows and tells what
they do. Whichever way it ends, they notice and end too.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from types import MappingProxyType
from typing import Any, Final

from conductor_console import conductors
from conductor_console.conductors.crews import TOLD_LIMIT, AnyFleet
from conductor_console.conductors.member import FleetEvent, Worker
from conductor_console.conductors.supervised import Supervised
from conductor_console.conductors.wire import Answer, Order, Verb, encode
from conductor_console.errors import ConsoleError, UsageError
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Processes of one fleet at most.
MOST: Final = 64
#: Seconds that a start waits for the first process to be at work, and an act for an answer.
START: Final = 60.0
ANSWER: Final = 10.0


def shares(count: int, processes: int) -> list[int]:
    """How many conductors each process has: as many as the others, or one more where it does not come out even."""
    each, more = divmod(count, processes)
    return [each + (number < more) for number in range(processes)]


class ProcessFleet(AnyFleet):
    """Conductors in worker processes, which open the board and the store by their URLs.

    ``scale``, ``pause``, ``resume``, ``drain`` and ``restart`` wait until the processes have answered, for 10 s at
    most (``ConsoleError``); one that is being started anew begins as it was wished meanwhile.

    :param board: the same board as ``board_url``'s, connected: what the parent watches.
    :param store: the same store as ``store_url``'s.
    :param kind: as :func:`conductor_console.conductors.fetch` takes it; ours only.
    :param processes: how many, named ``prefix1``, ``prefix2`` …; their conductors are ``prefix1-1``, ``prefix1-2`` …
    :param count: how many conductors to begin with, in all processes together.
    :param operator: as whom the processes connect to the board.
    :param grace: seconds that a process gives what it runs when its parent is gone.
    :param silent: what flows print goes nowhere.
    :param claims: whether each claim is told as an event.
    :param program: the module whose ``main`` the processes run; and what it wants to know.
    :param conductor_kw: what each conductor takes, of JSON's values alone.
    :raises UsageError: a conductor cannot be made of that.
    """

    def __init__(
        self,
        board: Any,
        store: Any,
        *,
        board_url: str,
        store_url: str,
        kind: str = "blocking",
        processes: int = 2,
        count: int = 2,
        prefix: str = "w",
        operator: str = "conductor-console",
        policy: AnyPolicy | None = None,
        grace: float = 30.0,
        silent: bool = False,
        claims: bool = False,
        program: str = "conductor_console.conductors.worker",
        surroundings: Mapping[str, Any] = MappingProxyType({}),
        on_event: Callable[[FleetEvent], None] | None = None,
        **conductor_kw: Any,
    ) -> None:
        super().__init__(on_event)
        if not 1 <= processes <= MOST:
            raise UsageError(f"there can be from 1 to {MOST} worker processes, not {processes}")
        self._board = board
        self._prefix = prefix
        self._number = processes
        self._program = program
        self._silent = silent
        self.tells_claims = claims
        self._wanted = max(0, count)
        self._passing = threading.Lock()
        self._passed_over: dict[str, str] = {}
        self._room = TOLD_LIMIT
        self._acting = threading.Lock()
        self._settling = threading.Condition()
        self._stopped = True
        self._up = False
        self._died: set[str] = set()
        self._failure: ConsoleError | None = None
        self._processes: tuple[Supervised, ...] = ()

        def order(prefix: str, count: int, paused: tuple[str, ...], drained: tuple[str, ...]) -> Order:
            return Order(
                board=board_url,
                store=store_url,
                operator=operator,
                kind=kind,
                prefix=prefix,
                count=count,
                policy=policy,
                options=conductor_kw,
                paused=paused,
                drained=drained,
                path=tuple(sys.path),
                grace=grace,
                claims=claims,
                surroundings=dict(surroundings),
            )

        self._order = order
        # What cannot be made is said now, to whoever asks, not later by each process.
        conductors.fetch(kind, f"{prefix}1-1", board, persistence=store, policy=policy, **conductor_kw)
        encode(order(prefix, 0, (), ()))

    @property
    def size(self) -> int:
        return self._wanted

    @property
    def not_allowed(self) -> Mapping[str, str]:
        with self._passing:
            return dict(self._passed_over)

    def workers(self) -> tuple[Worker, ...]:
        return tuple(worker for process in self._processes for worker in process.workers())

    def start(self) -> None:
        """Starts the processes, and waits until one of them is at work: what one cannot do none of them can.

        :raises ConsoleError: what a process was refused, by the board or the store for instance; all have ended.
        """
        with self._acting:
            if self._processes and self._failure is None and not self._stopped:
                for process in self._processes:
                    for worker in process.workers():
                        if worker.state == "stopped":
                            process.ask("restart", worker.name)
                return
            self._stopped, self._up, self._failure = False, False, None
            self._died.clear()
            self._processes = tuple(
                self._supervised(number, share) for number, share in enumerate(shares(self._wanted, self._number), 1)
            )
            for process in self._processes:
                process.start()
        with self._settling:
            self._settling.wait_for(self._settled, START)
        if self._failure is not None:
            self.stop(0.0)
            raise self._failure

    def _supervised(self, number: int, share: int) -> Supervised:
        name = f"{self._prefix}{number}"
        return Supervised(
            name,
            share,
            order=self._order,
            program=self._program,
            silent=self._silent,
            tell=self._heard,
            fatal=self._fatal,
            settled=lambda up: self._settle(name, up=up),
        )

    def scale(self, count: int) -> None:
        if count < 0:
            raise UsageError(f"there cannot be {count} conductors")
        with self._acting:
            self._wanted = count
            wanted = zip(self._processes, shares(count, self._number), strict=False)
            answers = [process.ask("scale", count=share) for process, share in wanted if process.share != share]
        self._gather(answers)

    def pause(self, name: str | None = None) -> None:
        self._act("pause", name)

    def resume(self, name: str | None = None) -> None:
        self._act("resume", name)

    def drain(self, name: str | None = None) -> None:
        self._act("drain", name)

    def restart(self, name: str) -> None:
        self._act("restart", name)

    def stop(self, timeout: float) -> list[str]:
        """Ends all processes; one that does not end within ``timeout`` seconds is killed, and its claims with it."""
        with self._acting:
            self._stopped = True
            deadline = time.monotonic() + timeout
            for process in self._processes:
                process.stop(timeout)
            return [name for process in self._processes for name in process.ended(deadline)]

    def kill(self) -> None:
        """Ends all processes at once, as ``kill -9``; where the fleet was not stopped others follow."""
        for process in self._processes:
            process.kill()

    # -- asking ------------------------------------------------------------------------------------------------------
    def _act(self, verb: Verb, name: str | None) -> None:
        with self._acting:
            chosen = [
                process
                for process in self._processes
                if name is None or any(worker.name == name for worker in process.workers())
            ]
            if name is not None and not chosen:
                raise UsageError(f"there is no conductor {visible(name)} here")
            if self._stopped and verb == "restart":
                raise UsageError(f"the conductors here are stopped: start them, and {visible(name)} with them")
            answers = [process.ask(verb, name) for process in chosen]
        self._gather(answers)

    @staticmethod
    def _gather(answers: Sequence[futures.Future[Answer]]) -> None:
        """Waits for all. :raises ConsoleError: the first that was not done."""
        futures.wait(answers, ANSWER)
        for answer in answers:
            if not answer.done():
                raise ConsoleError(f"a worker process did not answer within {ANSWER:g} s; it may do so later")
            if (refusal := answer.result().refusal) is not None:
                raise UsageError(refusal)

    # -- told by processes -------------------------------------------------------------------------------------------
    def _settle(self, name: str, *, up: bool) -> None:
        with self._settling:
            self._up = self._up or up
            if not up:
                self._died.add(name)
            self._settling.notify_all()

    def _settled(self) -> bool:
        return self._up or self._failure is not None or len(self._died) == self._number

    def _fatal(self, refusal: ConsoleError) -> bool:
        """Whether a process that was refused something is the end of all: as long as none has been at work."""
        with self._settling:
            if self._up:
                return False
            self._failure = self._failure or refusal
            self._settling.notify_all()
            return True

    def _heard(self, event: FleetEvent) -> None:
        if event.kind == "not_allowed" and event.job_uuid is not None:
            with self._passing:
                self._passed_over[event.job_uuid] = event.factory or ""
                if len(self._passed_over) > self._room:
                    there = self._board.listing().jobs
                    self._passed_over = {uuid: name for uuid, name in self._passed_over.items() if uuid in there}
                    self._room = max(TOLD_LIMIT, 2 * len(self._passed_over))
        elif event.kind == "died" and event.cause is not None:
            LOG.warning("%s died: %s", visible(event.conductor), event.cause.message)
        self._publish(event)
