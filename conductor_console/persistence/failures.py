"""TaskFlow's failures as JSON: always storable, and never without bounds, whatever a user's exception holds."""

from __future__ import annotations

from typing import Any, Final

from taskflow.types.failure import Failure

from conductor_console.persistence.kinds import NotStorable, pack, whole
from conductor_console.text import visible

#: Characters that each text of a failure may have: the first that lets it fit where it goes.
ROOMS: Final = (64 * 1024, 8 * 1024, 1024, 128)
#: Failures that came before a failure (``raise … from …``): how many are kept.
CAUSES: Final = 20
#: So many of them may each tell theirs again, as TaskFlow has it: it doubles what is written with each.
_TELLING: Final = 5
#: Arguments of an exception that are kept.
_ARGUMENTS: Final = 50


def told(failure: Failure, room: int = ROOMS[0], *, nan: bool = True) -> dict[str, Any]:
    """A failure in TaskFlow's form.

    An argument of the exception that cannot be stored, or is too long, is there as its repr; a text that is too long
    is cut, which is told in it.

    :param room: characters for each text and argument.
    """
    causes = _causes(failure)
    if len(causes) <= _TELLING:
        return _one(failure, room, nan) | {"causes": [told(cause, room, nan=nan) for cause in causes]}
    return _one(failure, room, nan) | {"causes": [_one(cause, room, nan) | {"causes": []} for cause in causes[:CAUSES]]}


def _causes(failure: Failure) -> tuple[Failure, ...]:
    try:
        return tuple(failure.causes)
    except Exception:  # the text of an exception before it is asked for here, which may be a user's own method
        return ()


def _one(failure: Failure, room: int, nan: bool) -> dict[str, Any]:
    arguments = [_argument(argument, room, nan) for argument in failure.exception_args[:_ARGUMENTS]]
    left = len(failure.exception_args) - len(arguments)
    return {
        "exception_str": _cut(failure.exception_str, room),
        "traceback_str": None if failure.traceback_str is None else _cut(failure.traceback_str, room),
        "exc_type_names": list(failure),
        "version": failure.DICT_VERSION,
        "exc_args": [*arguments, f"({left} more)"] if left else arguments,
    }


def _argument(argument: Any, room: int, nan: bool) -> Any:
    if isinstance(argument, str):
        return _cut(argument, room)
    try:
        if len(pack(argument, nan=nan)[0]) <= room:
            return argument
    except NotStorable:
        pass
    try:
        return _cut(repr(argument), room)
    except Exception:  # the argument's own method
        return f"(a {visible(type(argument).__name__, 80)}, which cannot be shown)"


def _cut(text: str, room: int) -> str:
    text = whole(str(text))
    if len(text) <= room:
        return text
    # The end of a traceback is where it broke.
    head, tail = room // 4, room - room // 4
    return f"{text[:head]}\n… ({len(text) - room} characters left out) …\n{text[-tail:]}"
