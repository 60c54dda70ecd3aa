"""An error as a person is told of it: one line, and an exit code."""

from __future__ import annotations

from taskflow import exceptions as excp

from conductor_console.errors import ConsoleError
from conductor_console.text import visible


def exit_code(error: BaseException) -> int:
    """3 where a board or a store could not be reached, 2 for what cannot be meant, 1 for the rest."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ConsoleError):
            return link.exit_code
        link = link.__cause__ or link.__context__
    return 1


def one_line(error: BaseException) -> str:
    """What went wrong, clean. What was not foreseen is told with its type and where to learn more."""
    text = visible(str(error).strip().partition("\n")[0], 500)
    if isinstance(error, ConsoleError | excp.JobFailure | excp.StorageFailure | excp.NotFound) and text:
        return text
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"unexpected: {told} (conductor-console --debug-log FILE COMMAND keeps the details)"
