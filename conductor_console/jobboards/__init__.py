"""Jobboards: where jobs are posted, claimed and counted. :func:`fetch` loads one by URL or by TaskFlow's conf."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from conductor_console import plugins, settings
from conductor_console.errors import ConsoleError, UsageError
from conductor_console.text import visible

GROUP: Final = "conductor_console.jobboards"
TASKFLOW_GROUP: Final = "taskflow.jobboards"
_OURS: Final = frozenset({"policy", "read_only"})


def fetch(
    url_or_conf: str | Mapping[str, Any],
    *,
    name: str = "conductor-console",
    persistence: Any = None,
    client: Any = None,
    **options: Any,
) -> Any:
    """A jobboard, not yet connected.

    :param url_or_conf: ``zk://h1:2181,h2:2181/path``, ``sqlite:////srv/board.db`` …, or TaskFlow's conf dict, whose
        ``board`` names the kind.
    :param persistence: the backend that jobs load their logbooks from.
    :param client: a client to talk through, where the kind takes one (a kazoo client, for instance).
    :param options: what else the board's class takes (ours: ``policy``, ``read_only``, ``emit_notifications``).
    :returns: a :class:`~conductor_console.jobboards.base.LedgerBoard` for the kinds that are ours, else TaskFlow's.
    :raises UsageError: when the URL is none, its kind is unknown, or what it needs is not installed.
    """
    conf = settings.board_conf(url_or_conf) if isinstance(url_or_conf, str) else dict(url_or_conf)
    kind = conf.get("board")
    if not isinstance(kind, str) or not kind:
        raise UsageError('a board\'s conf names its kind, such as {"board": "zookeeper", …}')
    found = _find(kind)
    options["persistence"] = persistence
    if client is not None:
        options["client"] = client
    what = f"the {visible(kind, 40)} board"
    made = plugins.load(found, what)
    try:
        if found.group != GROUP:
            # TaskFlow's own boards, and third parties', know nothing of what ours take on top.
            options = {key: value for key, value in options.items() if key not in _OURS or value}
        return made(name, conf, **options)
    except ConsoleError:
        raise
    except Exception as error:  # a third party's, too
        raise UsageError(plugins.not_loaded(what, error)) from error


def _find(kind: str) -> Any:
    known: set[str] = set()
    for group in (GROUP, TASKFLOW_GROUP):
        there = entry_points(group=group)
        for found in there:
            if found.name == kind:
                return found
        known.update(there.names)
    raise UsageError(f"no board of kind {visible(kind, 40)!r}: there are {', '.join(sorted(known))}")
