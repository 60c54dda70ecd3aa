"""Conductors without a screen: one log line an event, and an orderly end on a signal."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Final

from conductor_console.cli.hangup import forget_terminal
from conductor_console.cli.output import tell
from conductor_console.clock import iso, utcnow
from conductor_console.jobboards.base import BoardEvent, LedgerBoard
from conductor_console.text import visible

if TYPE_CHECKING:
    from conductor_console.conductors.crews import AnyFleet
    from conductor_console.conductors.member import FleetEvent

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
#: Seconds between two looks whether the board is empty, when no event brings one.
LOOK: Final = 1.0


class Headless:
    """Runs a fleet until a signal, the end of standard input, or an empty board, whichever is asked for.

    The first signal suspends what runs at the next atom and frees every claim; a second one leaves at once.
    """

    def __init__(
        self, board: LedgerBoard, fleet: AnyFleet, *, when_empty: bool, with_stdin: bool, grace: float
    ) -> None:
        """
        :param when_empty: end when no job is left that this fleet may do.
        :param with_stdin: end when standard input does: a parent that dies closes it.
        :param grace: seconds for what runs to come to the end of its atom.
        """
        self._board = board
        self._fleet = fleet
        self._when_empty = when_empty
        self._with_stdin = with_stdin
        self._grace = grace
        # Of all that wakes a thread only this may be touched by a signal handler: its put never waits for a lock.
        self._wake: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._signals = 0
        self._on_terminal = sys.stderr.isatty()

    def run(self) -> int:
        """Returns the exit code: 1 where a conductor would not stop."""
        with ExitStack() as stack:
            for number in _SIGNALS:
                stack.callback(signal.signal, number, signal.signal(number, self._signalled))
            stack.callback(self._board.subscribe(self._on_board))
            stack.callback(self._fleet.subscribe(self._on_fleet))
            if self._with_stdin:
                threading.Thread(target=self._until_stdin_ends, name="stdin", daemon=True).start()
            self._fleet.start()
            log(f"started {', '.join(worker.name for worker in self._fleet.workers())}")
            reason = self._wait()
            log(f"stopping, {reason}")
            stuck = self._fleet.stop(self._grace)
        for name in stuck:
            log(f"{name} would not stop; its claim ends with this process")
        log("stopped")
        return 1 if stuck else 0

    def _wait(self) -> str:
        while True:
            try:
                reason = self._wake.get(timeout=LOOK if self._when_empty else None)
            except queue.Empty:
                reason = ""
            if reason:
                return reason
            if self._when_empty and self._done():
                return "nothing is left to do"

    def _done(self) -> bool:
        """Whether every job that is left is one that no conductor here can or may do."""
        listing = self._board.listing()
        if not listing.complete or listing.connection.state != "live":
            return False
        passed_over = self._fleet.not_allowed
        left = any(entry.workable and entry.uuid not in passed_over for entry in listing.jobs.values())
        return not left and not any(worker.jobs for worker in self._fleet.workers())

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        if number == signal.SIGHUP and self._on_terminal:
            # It is gone, and a line that cannot be written must not keep the jobs from being let go.
            forget_terminal()
        if self._signals > 1:
            os._exit(1)
        self._wake.put(f"{signal.Signals(number).name} (again to leave at once)")

    def _until_stdin_ends(self) -> None:
        # Not sys.stdin: Python would wait for its lock at the end.
        while os.read(0, 4096):
            pass
        self._wake.put("the process that started this one is gone")

    def _on_board(self, event: BoardEvent) -> None:
        entry = event.entry
        if event.kind == "claimed" and entry is not None and entry.claim is not None:
            if not self._fleet.tells_claims and entry.claim.owner in {worker.name for worker in self._fleet.workers()}:
                log(f"claimed {visible(entry.name)} {visible(event.key)} by {visible(entry.claim.owner)}")
        elif event.kind == "bin" and event.key:
            binned = self._board.listing().binned.get(event.key)
            if binned is not None:
                log(f"binned {visible(binned.name)} {visible(event.key)}: {safe(binned.why or 'no reason told')}")
        if self._when_empty and event.kind in ("removed", "released", "bin"):
            self._wake.put("")

    def _on_fleet(self, event: FleetEvent) -> None:
        job = f"{visible(event.job_name or '')} {visible(event.job_uuid or '')}"
        if event.kind == "claimed":
            log(f"claimed {job} by {visible(event.conductor)}")
        elif event.kind == "not_allowed" and event.job_uuid:
            log(f"not allowed here {job}")
        elif event.kind == "attempt_closed":
            log(_closed(event))
        elif event.kind in ("crashed", "died"):
            log(f"{event.kind} {visible(event.conductor)}: {safe(event.cause.message if event.cause else '')}")
        if self._when_empty:
            self._wake.put("")


def _closed(event: FleetEvent) -> str:
    name = f"{visible(event.job_name or '')} {visible(event.job_uuid or '')}"
    line = f"closed {name} {event.outcome} by {visible(event.conductor)}"
    if event.seconds is not None:
        line += f" after {event.seconds:.1f} s"
    if event.cause is not None:
        line += f": {safe(event.cause.type)}: {safe(event.cause.message)} {safe(event.cause.where)}".rstrip()
    return line


def safe(text: str) -> str:
    """Foreign text on one line, with what looks like a secret masked."""
    from conductor_console.masking import masked

    return visible(masked({"text": text})["text"], 300)


def log(line: str) -> None:
    """One line to standard error, with its time."""
    tell(f"{iso(utcnow())} {line}")
