"""Conductors: they claim jobs and run them. :func:`fetch` loads one by the name of its kind."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final

from conductor_console import plugins
from conductor_console.errors import UsageError
from conductor_console.text import visible

GROUP: Final = "conductor_console.conductors"
TASKFLOW_GROUP: Final = "taskflow.conductors"


def fetch(kind: str, name: str, jobboard: Any, **kwargs: Any) -> Any:
    """A TaskFlow conductor, not yet running: ``blocking`` and ``nonblocking`` are ours, then TaskFlow's and others'.

    :param name: what its claims carry.
    :param jobboard: connected, one of ours or any other of TaskFlow's.
    :param kwargs: what the conductor takes, ``persistence`` above all.
    :raises UsageError: when there is no such kind, or its module cannot be imported.
    """
    for group in (GROUP, TASKFLOW_GROUP):
        for entry_point in entry_points(group=group, name=kind):
            return plugins.load(entry_point, f"the {visible(kind, 40)} conductor")(name, jobboard, **kwargs)
    known = sorted({found.name for group in (GROUP, TASKFLOW_GROUP) for found in entry_points(group=group)})
    raise UsageError(f"{visible(kind)!r} is no kind of conductor; there are {', '.join(known)}")
