"""Why an attempt failed, from what TaskFlow or a flow raised: type, message and the place in the user's code."""

from __future__ import annotations

import itertools
import re
import traceback
from pathlib import Path

import taskflow
from taskflow import exceptions as excp
from taskflow.types.failure import Failure

import conductor_console
from conductor_console.conductors.values import UnstorableValue
from conductor_console.jobboards.attempts import Cause, make_cause
from conductor_console.persistence.journal import place_of

_OURS = f"{Path(conductor_console.__file__).parent}/"
_TASKFLOW = f"{Path(taskflow.__file__).parent}/"
#: Of our own package only these are somebody's flows.
_DEMO = f"{_OURS}demo/"
_FRAME = re.compile(r'^\s*File "(?P<path>[^"\n]+)", line \d+, in ', re.MULTILINE)
#: Failures wrapped in failures: more than anyone nests, less than a loop.
_DEPTH = 20


def cause_of(error: Failure | BaseException) -> Cause:
    """The cause as the ledger keeps it. Of several failures wrapped in one it is the first, which came before the rest.

    ``where`` is the innermost frame that is neither TaskFlow's, ours nor Python's; empty where there is none.
    """
    for _ in range(_DEPTH):
        inner = error.exception if isinstance(error, Failure) else error
        if not isinstance(inner, excp.WrappedFailure) or not len(inner):
            break
        error = next(iter(inner))
    if isinstance(error, Failure):
        if error.exception is None or error.exception.__traceback__ is None:
            return _from_text(error)
        error = error.exception
    # The code that made such a value was done with it when it was refused.
    frames = error.frame if isinstance(error, UnstorableValue) else "".join(traceback.format_tb(error.__traceback__))
    return make_cause(type(error).__name__, message_of(error), _place(frames))


def import_cause(error: ImportError, factory: str) -> Cause:
    """The cause when TaskFlow could not import a factory: it wraps, and so hides, what went wrong."""
    inmost: BaseException = error
    for _ in range(_DEPTH):
        # No place is looked for: importing is what failed.
        below = inmost.__cause__ or inmost.__context__
        if below is None:
            break
        inmost = below
    return make_cause(type(inmost).__name__, f"the factory {factory} cannot be imported: {message_of(inmost)}")


def message_of(error: BaseException) -> str:
    """What an error says; foreign errors may fail even at that."""
    if isinstance(error, excp.MissingDependencies):
        # TaskFlow's own words name its classes; what is to be done is said nowhere.
        names = ", ".join(sorted(map(str, error.missing_requirements)))
        return f"nothing provides {names}: no task that comes before, not the flow's store, not the job's"
    try:
        return str(error)
    except Exception:  # the user's own __str__
        return "(its message cannot be shown)"


def _from_text(failure: Failure) -> Cause:
    """The cause in a failure that was stored and read again: its exception and traceback are text."""
    name = next(iter(failure), "Exception")
    return make_cause(name.rpartition(".")[2], failure.exception_str, _place(failure.traceback_str or ""))


def _place(frames: str) -> str:
    starts = [match.start() for match in _FRAME.finditer(frames)]
    parts = [frames[start:end] for start, end in itertools.pairwise([*starts, len(frames)])]
    return place_of("".join(part for part in parts if not _machinery(part))) or ""


def _machinery(frame: str) -> bool:
    match = _FRAME.match(frame)
    path = match["path"] if match else ""
    return path.startswith(_TASKFLOW) or (path.startswith(_OURS) and not path.startswith(_DEMO))
