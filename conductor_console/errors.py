"""What can go wrong in a way a person must be told: one clear line, and an exit code.

Exit codes are the command line's: 0 done, 1 not done, 2 usage, 3 cannot reach.
"""

from __future__ import annotations

from taskflow import exceptions as taskflow_exceptions


class ConsoleError(Exception):
    """Something is wrong; the message is one line that says what, and what to do about it."""

    exit_code = 1


class UsageError(ConsoleError):
    """What was asked cannot be meant: a bad URL, flag, pattern, or file."""

    exit_code = 2


class Unreachable(ConsoleError):
    """A board or a store does not answer, or is not one."""

    exit_code = 3


class BoardUnreachable(Unreachable, taskflow_exceptions.JobFailure):
    """The board cannot be reached; TaskFlow programs see it as a ``JobFailure``."""


class StoreUnreachable(Unreachable, taskflow_exceptions.StorageFailure):
    """The store cannot be reached; TaskFlow programs see it as a ``StorageFailure``."""
