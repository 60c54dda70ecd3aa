"""Runs the console in the terminal, with nothing else writing to it."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

from conductor_console.console import theme as themes
from conductor_console.console.app import ConsoleApp
from conductor_console.console.sources import Crew, Hand, OpenReplay, SnapshotSource
from conductor_console.errors import UsageError

#: Busy worker threads starve the screen at Python's 5 ms; a shorter switch keeps a keypress within a few.
SWITCH: float = 0.0005


def run(
    observatory: SnapshotSource,
    operations: Hand,
    *,
    fleet: Crew | None = None,
    open_replay: OpenReplay | None = None,
    operator: str = "operator",
    ascii_only: bool = False,
    theme: str = "dark",
    read_only: bool = False,
    before: Callable[[ConsoleApp], None] | None = None,
) -> int:
    """Shows the console until it is left, and returns the exit code.

    :param before: called with the app before it starts.
    :raises UsageError: when there is no theme of that name.
    """
    if theme not in themes.PALETTES:
        raise UsageError(f"No theme {theme!r}, there are {', '.join(themes.PALETTES)}")
    app = ConsoleApp(
        observatory,
        operations,
        fleet=fleet,
        open_replay=open_replay,
        operator=operator,
        ascii_only=ascii_only,
        theme=theme,
        read_only=read_only,
    )
    if before is not None:
        before(app)
    with silent_logging(), _quick_switching():
        app.run()
    return app.return_code or 0


@contextlib.contextmanager
def silent_logging() -> Iterator[None]:
    """No log line reaches the terminal while the screen has it; handlers that write to files are left alone."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    taken = [
        (logger, handler)
        for logger in loggers
        for handler in list(logger.handlers)
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    quiet = logging.NullHandler()
    for logger, handler in taken:
        logger.removeHandler(handler)
    # With a handler at the root, Python's last resort (standard error) is never used.
    logging.getLogger().addHandler(quiet)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(quiet)
        for logger, handler in taken:
            logger.addHandler(handler)


@contextlib.contextmanager
def _quick_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
