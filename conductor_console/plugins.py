"""Loading what an entry point names: code of anybody's, imported for the first time."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from taskflow.exceptions import TaskFlowException

from conductor_console.errors import UsageError
from conductor_console.text import visible


def load(found: EntryPoint, what: str) -> Any:
    """What the entry point names.

    :param what: for the message, e.g. ``the memory store``.
    :raises UsageError: when it cannot be imported, or its module raises whatever it may.
    """
    try:
        return found.load()
    except Exception as error:  # whatever a module does when it is imported
        raise UsageError(not_loaded(what, error)) from error


def not_loaded(what: str, error: Exception) -> str:
    """The one line that says why something could not be loaded."""
    said = str(error).partition("\n")[0]
    # These say all by themselves.
    if not said or not isinstance(error, ImportError | AttributeError | TaskFlowException):
        said = f"{type(error).__name__}: {said}"
    return f"{what} cannot be loaded: {visible(said, 300)}"
