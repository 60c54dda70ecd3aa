"""What a posting needs before it goes on the board: a checked request, and a logbook with its flow in the store.

The factory is only named, never imported: posting runs nobody's code.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from oslo_utils import uuidutils
from taskflow.jobs.base import JobPriority
from taskflow.persistence import models

from conductor_console.errors import UsageError
from conductor_console.text import visible

#: TaskFlow's tables hold names of this length.
NAME_LENGTH: Final = 255
COUNT_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class PostRequest:
    """What to post: ``count`` jobs named ``name`` (``name-1``, ``name-2`` … where there are several).

    :ivar factory: ``pkg.mod:function`` or ``pkg.mod.function``, called with ``args`` and ``kwargs`` by the conductor.
    :ivar inject: the flow's values by name, kept in the store, not on the board.
    :ivar priority: a name, in any case: VERY_HIGH, HIGH, NORMAL, LOW, VERY_LOW.
    """

    factory: str
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inject: Mapping[str, Any] = field(default_factory=dict)
    priority: str = "NORMAL"
    count: int = 1

    def __repr__(self) -> str:
        """Without the values, which may be secrets."""
        return f"PostRequest({self.factory!r}, {self.name!r}, priority={self.priority!r}, count={self.count})"

    def names(self) -> list[str]:
        """The jobs' names, one a job."""
        return [self.name] if self.count == 1 else [f"{self.name}-{number}" for number in range(1, self.count + 1)]


def checked(request: PostRequest) -> tuple[str, JobPriority]:
    """The factory's dotted name and the priority of a request that can be posted.

    :raises UsageError: one line that says what is wrong with it.
    """
    if not request.name.strip() or not request.name.isprintable():
        raise UsageError("A job needs a name of printable characters (example: --name nightly-report)")
    if not 1 <= request.count <= COUNT_LIMIT:
        raise UsageError(f"A count is a number from 1 to {COUNT_LIMIT:,}, not {request.count}")
    if len(request.names()[-1]) > NAME_LENGTH:
        raise UsageError(f"A job's name has at most {NAME_LENGTH} characters, this one {len(request.names()[-1])}")
    try:
        priority = JobPriority.convert(request.priority)
    except ValueError:
        known = ", ".join(priority.value for priority in JobPriority)
        raise UsageError(f"No priority {visible(request.priority, 40)!r}, there are {known}") from None
    for label, value in (("arguments", list(request.args)), ("keywords", request.kwargs), ("values", request.inject)):
        if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
            raise UsageError(f"The {label} of a flow are named by text")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"The {label} of a flow must be JSON: {visible(error, 120)}") from None
    return factory_name(request.factory), priority


def factory_name(text: str) -> str:
    """``pkg.mod:function`` or ``pkg.mod.function`` as TaskFlow writes it: dotted.

    :raises UsageError: when it cannot be a function's name.
    """
    module, colon, function = text.partition(":")
    parts = (f"{module}.{function}" if colon else module).split(".")
    if len(parts) < 2 or (colon and "." in function) or not all(part.isidentifier() for part in parts):
        raise UsageError(f"Not a factory: {visible(text, 80)!r} (example: shop.flows:checkout)")
    return ".".join(parts)


def saved_book(store: Any, name: str, factory: str, request: PostRequest) -> tuple[models.LogBook, str]:
    """A logbook of one flow, saved in ``store`` (any TaskFlow backend), and the flow's uuid.

    :raises StorageFailure: when the store does not take it.
    """
    meta: dict[str, Any] = {
        "factory": {"name": factory, "args": list(request.args), "kwargs": dict(request.kwargs)},
    }
    if request.inject:
        meta["store"] = dict(request.inject)
    flow = models.FlowDetail(name, uuidutils.generate_uuid())
    flow.meta = meta
    book = models.LogBook(name, uuidutils.generate_uuid())
    book.add(flow)
    with contextlib.closing(store.get_connection()) as connection:
        connection.save_logbook(book)
    return book, flow.uuid
