"""The screen's end by a signal, also where the terminal is gone and the screen cannot be ended any more."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from conductor_console.cli.wiring import STOP_TIMEOUT

if TYPE_CHECKING:
    from conductor_console.conductors.fleet import Fleet

LOG = logging.getLogger(__name__)

#: Seconds for the screen to end by itself.
PATIENCE: Final = 5.0


@contextmanager
def quit_on_signals(leave: Callable[[], object], fleet: Fleet | None, tidy: Callable[[], object]) -> Iterator[None]:
    """While it is open SIGTERM and SIGHUP call ``leave``.

    Textual writes by way of a thread, which dies when the terminal does, and then blocks whoever writes next for
    ever. So where leaving takes longer than ``PATIENCE`` the claims are freed and ``tidy`` is called from here, and
    the process ends.
    """
    watchdog = threading.Timer(PATIENCE, _force, (fleet, tidy))
    watchdog.daemon = True

    def signalled(number: int, _: object) -> None:
        if not watchdog.is_alive():
            watchdog.start()
        if number == signal.SIGHUP:
            _forget_terminal()
        leave()

    with ExitStack() as stack:
        stack.callback(watchdog.cancel)
        for number in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, signalled))
        yield


def _forget_terminal() -> None:
    """Writes to a terminal that hung up would fail; nobody reads them any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _force(fleet: Fleet | None, tidy: Callable[[], object]) -> None:
    LOG.warning("the screen did not end within %g s of a signal; leaving without it", PATIENCE)
    try:
        if fleet is not None:
            fleet.stop(STOP_TIMEOUT)
        tidy()
    finally:
        os._exit(1)
