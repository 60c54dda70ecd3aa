"""Logging: never on the screen or among a command's output; in a file where one is asked for."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from pathlib import Path

LOG = logging.getLogger("conductor_console")
#: The files that are logged to, each with its level.
FILES: list[tuple[str, int]] = []
_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(threadName)s %(name)s: %(message)s"


def silence() -> None:
    """Nothing that a library logs or warns of is printed, nor what a thread dies of."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    warnings.simplefilter("ignore", DeprecationWarning)
    threading.excepthook = _thread_failed


def to_file(path: str | None, level: int = logging.INFO) -> None:
    """Logs to ``path`` (mode 0600), by default ``conductor-console.log`` in the user's log folder.

    Only this program's own lines go below INFO: kazoo's would tell credentials.
    :raises UsageError: when the file cannot be written.
    """
    if path is None:
        import platformdirs

        target = platformdirs.user_log_path("conductor-console") / "conductor-console.log"
    else:
        target = Path(path)
    try:
        if path is None:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        handler = logging.FileHandler(target, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        if path is None:
            return  # a home that cannot be written is no reason not to look at a board
        from conductor_console.errors import UsageError

        raise UsageError(f"cannot write the log {target}: {error.strerror or error}") from error
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = _utc
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    FILES.append((str(target.absolute()), level))
    root.setLevel(logging.INFO)
    LOG.setLevel(level)


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    """Python would print a traceback over the screen."""
    if what.exc_value is not None:
        name = what.thread.name if what.thread is not None else "a thread"
        LOG.error("%s failed", name, exc_info=what.exc_value)


def _utc(seconds: float | None) -> time.struct_time:
    return time.gmtime(seconds)
