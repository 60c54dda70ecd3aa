"""The end by a signal, also where the terminal is gone and the screen cannot be ended any more."""

from __future__ import annotations

import logging
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from conductor_console.cli.wiring import STOP_TIMEOUT

if TYPE_CHECKING:
    from conductor_console.conductors.crews import AnyFleet

LOG = logging.getLogger(__name__)

#: Seconds for the screen to end by itself.
PATIENCE: Final = 5.0
#: Seconds for what is left to be done when it has to end at once.
HASTE: Final = 2.0
#: Ends the other screen, mouse reports and bracketed paste, and shows the cursor.
_RESET: Final = b"\x1b[?1049l\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[0m\r\n"


@contextmanager
def quit_on_signals(leave: Callable[[], object], fleet: AnyFleet | None, tidy: Callable[[], object]) -> Iterator[None]:
    """While it is open SIGTERM and SIGHUP call ``leave``; a second one ends the process at once, its claims with it.

    Textual writes by way of a thread, which dies when the terminal does, and then blocks whoever writes next for
    ever. So where leaving takes longer than ``PATIENCE`` the claims are freed and ``tidy`` is called from here, and
    the process ends.
    """
    watchdog = threading.Timer(PATIENCE, _force, (fleet, tidy))
    watchdog.daemon = True

    before = _terminal_settings()
    came = 0

    def signalled(number: int, _: object) -> None:
        nonlocal came
        came += 1
        if number == signal.SIGHUP:
            forget_terminal()
        if came > 1:
            _leave_at_once(before, tidy)
        watchdog.start()
        leave()

    with ExitStack() as stack:
        stack.callback(watchdog.cancel)
        for number in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, signalled))
        yield


def forget_terminal() -> None:
    """Writes to a terminal that hung up would fail; nobody reads them any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _terminal_settings() -> list[Any] | None:
    with suppress(OSError, ValueError, AttributeError, termios.error):
        return termios.tcgetattr(sys.__stdin__.fileno())  # type: ignore[union-attr]
    return None


def _leave_at_once(before: list[Any] | None, tidy: Callable[[], object]) -> None:
    """Gives the terminal back and ends the process, whatever it is at; the board frees its claims."""

    def last() -> None:
        if before is not None:
            with suppress(OSError, termios.error):
                os.write(1, _RESET)
                termios.tcsetattr(0, termios.TCSANOW, before)
        tidy()

    try:
        # Beside this thread: a terminal that takes nothing any more must not hold it up.
        hand = threading.Thread(target=last, name="leaving", daemon=True)
        hand.start()
        hand.join(HASTE)
    finally:
        os._exit(1)


def _force(fleet: AnyFleet | None, tidy: Callable[[], object]) -> None:
    LOG.warning("the screen did not end within %g s of a signal; leaving without it", PATIENCE)
    try:
        if fleet is not None:
            fleet.stop(STOP_TIMEOUT)
        tidy()
    finally:
        os._exit(1)
