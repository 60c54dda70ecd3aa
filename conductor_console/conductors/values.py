"""Results that the store would refuse: the atom that made one fails, and its flow is undone like any that fails.

TaskFlow finds out when it saves a result, in the middle of its engine: the job is let go then, and comes again for
ever. Here each result is looked at when the engine takes it from its executor, before anything is saved.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Mapping
from concurrent import futures
from typing import Any, Final, Protocol, runtime_checkable

from oslo_utils import reflection
from taskflow import exceptions as excp
from taskflow import states
from taskflow.engines.action_engine import executor
from taskflow.persistence import models
from taskflow.types.failure import Failure

from conductor_console.persistence.schema import Unstorable
from conductor_console.text import visible

#: What a future of an engine's executors may raise that is no fault of the atom's code.
_NOT_THE_ATOMS: Final = (futures.CancelledError, futures.BrokenExecutor, excp.TaskFlowException)
_SAVED_AS: Final = {executor.EXECUTED: states.SUCCESS, executor.REVERTED: states.REVERTED}


class UnstorableValue(ValueError):
    """A value of a flow cannot be stored.

    :ivar frame: the place of the code that made it, as a traceback has it; empty where it is not known.
    """

    def __init__(self, told: str, frame: str = "") -> None:
        super().__init__(told)
        self.frame = frame


@runtime_checkable
class Choosy(Protocol):
    """A store that can say what it does not take."""

    def refusal(self, atom_detail: Any) -> str | None:
        """Why an atom cannot be stored as it is; None where it can."""


def check_values(values: Mapping[str, Any], backend: Any) -> None:
    """:raises UnstorableValue: when the values that a flow is given cannot be stored."""
    if not isinstance(backend, Choosy):
        return
    detail = models.TaskDetail("values", "values")
    detail.results = dict(values)
    why = backend.refusal(detail)
    if why is not None:
        raise UnstorableValue(f"the values that the flow is given cannot be stored: {why}")


def guard(engine: Any, backend: Any) -> None:
    """Has each atom of the engine fail whose result ``backend`` would refuse. To be called before it is compiled.

    An atom fails as well when its code raises where TaskFlow does not expect it: in ``post_execute``, or in the
    ``__str__`` of the exception that it raised.
    """
    if not isinstance(backend, Choosy):
        return
    for name in ("_task_executor", "_retry_executor"):
        made = getattr(engine, name, None)
        for kind in ("task", "retry"):
            for outcome, method in ((executor.EXECUTED, f"execute_{kind}"), (executor.REVERTED, f"revert_{kind}")):
                if hasattr(made, method):
                    submit = getattr(made, method)
                    setattr(made, method, functools.partial(_submitted, submit, outcome, engine, backend))
    engine.prepare = functools.partial(_prepared, engine.prepare)


def _submitted(submit: Any, outcome: str, engine: Any, backend: Choosy, *args: Any, **kwargs: Any) -> Any:
    future = submit(*args, **kwargs)
    # The engine waits for the future itself, and then asks for this.
    future.result = functools.partial(_result, future, outcome, engine, backend)
    return future


def _result(future: Any, outcome: str, engine: Any, backend: Choosy, timeout: float | None = None) -> tuple[str, Any]:
    # A future that holds itself would keep its result, which may be big, until the garbage is next looked for.
    vars(future).pop("result", None)
    atom = future.atom
    try:
        outcome, result = future.result(timeout)
    except _NOT_THE_ATOMS:
        raise
    except Exception as error:
        return outcome, _failure(error)
    if result is None or isinstance(result, Failure):
        return outcome, result
    _, detail = engine.storage._atomdetail_by_name(atom.name, clone=True)
    detail.put(_SAVED_AS[outcome], result)
    why = backend.refusal(detail)
    if why is None:
        return outcome, result
    kind = "retry" if isinstance(detail, models.RetryDetail) else "task"
    what = "result" if outcome == executor.EXECUTED else "result of reverting"
    told = f"the {what} of {kind} {visible(atom.name, 80)!r} cannot be stored: {why}"
    refused = UnstorableValue(told, _frame(atom, outcome))
    return outcome, _made(refused, told, refused.frame)


def _prepared(prepare: Any) -> None:
    try:
        prepare()
    except Unstorable as error:
        # For the store it is a failure, which may pass; this one does not.
        raise UnstorableValue(str(error)) from error


# -- failures --------------------------------------------------------------------------------------------------------
def _failure(error: Exception) -> Failure:
    """A failure of what an atom's code raised besides."""
    before = error.__context__
    # Where an exception cannot be shown, making a failure of it is what failed.
    raised = before if isinstance(before, Exception) and not _can_be_shown(before) else error
    if _can_be_shown(raised):
        return Failure.from_exception(raised)
    frames = "".join(traceback.format_tb(raised.__traceback__))
    return _made(raised, "(its message cannot be shown)", frames)


def _can_be_shown(error: BaseException) -> bool:
    try:
        str(error)
    except Exception:  # the user's own __str__
        return False
    return True


def _made(error: Exception, told: str, frames: str) -> Failure:
    names = reflection.get_all_class_names(type(error), up_to=Exception)
    return Failure(
        exc_info=(type(error), error, error.__traceback__),
        exception_str=told,
        exc_args=list(error.args),
        exc_type_names=list(names),
        traceback_str=frames,
        causes=(),
    )


def _frame(atom: Any, outcome: str) -> str:
    """The code that made a result, which is no longer running."""
    name = "execute" if outcome == executor.EXECUTED else "revert"
    # A task made of a function has it under a name of its own.
    code = getattr(inspect.unwrap(getattr(atom, f"_{name}", None) or getattr(atom, name)), "__code__", None)
    return "" if code is None else f'  File "{code.co_filename}", line {code.co_firstlineno}, in {code.co_name}\n'
