"""The store: TaskFlow's persistence on SQL, with a journal of every transition. :func:`fetch` loads it by URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from conductor_console import plugins
from conductor_console.errors import UsageError

GROUP = "conductor_console.persistence"
TASKFLOW_GROUP = "taskflow.persistence"
_NAME = re.compile(r"(?:cc-)?([A-Za-z][A-Za-z0-9_-]*)")


def fetch(url_or_conf: str | Mapping[str, Any], *, read_only: bool = False, **kwargs: Any) -> Any:
    """A TaskFlow persistence backend by URL or by TaskFlow's conf dict (``{"connection": …}``); nothing is opened yet.

    SQLite, PostgreSQL and MySQL give a :class:`~conductor_console.persistence.backend.SQLBackend`; every other name
    is looked for among TaskFlow's own (``memory``, ``dir``, ``zookeeper``, a third party's).

    :param read_only: refuse every write; only our own backends can.
    :raises UsageError: when the URL is none, its kind is unknown, or its driver is not installed.
    """
    conf = {"connection": url_or_conf} if isinstance(url_or_conf, str) else dict(url_or_conf)
    match = _NAME.match(str(conf.get("connection", "")))
    name = match[1].lower() if match else ""
    name = {"postgres": "postgresql"}.get(name, name)
    for entry_point in entry_points(group=GROUP, name=name):
        return plugins.load(entry_point, f"the {name} store")(conf, read_only=read_only, **kwargs)
    known = sorted({found.name for group in (GROUP, TASKFLOW_GROUP) for found in entry_points(group=group)})
    if name not in known:
        raise UsageError(
            f"{name or 'that'!r} is no kind of store ({', '.join(known)}); a store's URL looks like sqlite:////srv/flows.db"
        )
    if read_only:
        raise UsageError(f"a {name} store cannot be attached read-only")
    from taskflow.persistence import backends

    try:
        return backends.fetch(conf, **kwargs)
    except Exception as error:  # whatever a third party's module does when it is imported
        raise UsageError(plugins.not_loaded(f"the {name} store", error)) from error
