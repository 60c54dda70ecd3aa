"""Work off the screen's thread: plain named daemon threads that post what came of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from textual.app import App

from conductor_console.console.messages import Failed, Finished
from conductor_console.errors import ConsoleError
from conductor_console.text import visible

T = TypeVar("T")
_log = logging.getLogger(__name__)


def run_aside(app: App[Any], name: str, work: Callable[[], T], then: Callable[[T], None]) -> threading.Thread:
    """Calls ``work`` on a thread called ``name``, then ``then`` with its result on the screen's thread.

    What goes wrong arrives as :class:`Failed` with one line. Textual's own pool is small and delays exit: not used.
    """

    def run() -> None:
        message: Finished | Failed
        try:
            message = Finished(partial(then, work()))
        except ConsoleError as error:
            message = Failed(visible(error, 300))
        except Exception as error:
            _log.exception("%s failed", name)
            message = Failed(f"Not done: {visible(error, 300)}")
        try:
            app.post_message(message)
        except RuntimeError:
            _log.info("%s ended after the screen did", name)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
