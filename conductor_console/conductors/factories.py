"""Which jobs may be run here: a flow's factory is code that whoever writes to the board or the store can name."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.errors import UsageError
from conductor_console.text import visible


class FactoryRule:
    """Patterns in the manner of the shell over factories' full names, ``shop.flows.*`` (a ``*`` spans dots as well).

    A module's attribute counts by the name it is asked for: ``shop.flows.*`` also allows what ``shop.flows`` imports.

    :param patterns: None allows any factory, none at all allows nothing; ``pkg.mod:function`` reads as with a dot.
    :raises UsageError: for an empty pattern.
    """

    def __init__(self, patterns: Sequence[str] | None) -> None:
        if isinstance(patterns, str):
            patterns = [patterns]
        self._patterns = None if patterns is None else tuple(_dotted(pattern) for pattern in patterns)
        if self._patterns is not None and not all(self._patterns):
            raise UsageError("a factory's pattern is empty; it looks like shop.flows.*")

    @property
    def any(self) -> bool:
        """Whether every factory is allowed."""
        return self._patterns is None

    def allows(self, name: str) -> bool:
        """Whether the factory of this name may be called."""
        return self._patterns is None or any(fnmatchcase(_dotted(name), pattern) for pattern in self._patterns)


def _dotted(name: str) -> str:
    return name.strip().replace(":", ".")


def factory_of(flow_detail: Any) -> str | None:
    """The name of a flow's factory from its meta; None where there is none that could be called."""
    meta = getattr(flow_detail, "meta", None)
    factory = meta.get("factory") if isinstance(meta, Mapping) else None
    name = factory.get("name") if isinstance(factory, Mapping) else None
    return name if isinstance(name, str) else None


class Gate:
    """Says of a job, before it is claimed, whether its factory is allowed here; each job's answer is kept."""

    def __init__(self, rule: FactoryRule, persistence: Any) -> None:
        self.rule = rule
        self._persistence = persistence
        self._known: dict[str, str | None] = {}
        self._refused: dict[str, str] = {}

    @property
    def refused(self) -> Mapping[str, str]:
        """The jobs that were passed over, with their factories."""
        return MappingProxyType(dict(self._refused))

    def admits(self, job: Job) -> bool:
        """Whether the job may be claimed. A job whose factory the store does not tell may: no code of it is run.

        :raises StorageFailure: when the store does not answer, or fails at this one job.
        """
        if self.rule.any:
            return True
        if job.uuid not in self._known:
            self._known[job.uuid] = self._look_up(job)
        name = self._known[job.uuid]
        return name is None or self.rule.allows(name)

    def admits_flow(self, flow_detail: Any) -> bool:
        """The same, asked of the flow that is about to be made: the store may have changed since."""
        name = factory_of(flow_detail)
        return name is None or self.rule.allows(name)

    def refuse(self, job: Job, name: str) -> bool:
        """Remembers that the job was passed over. Returns False where that was known already."""
        self._known[job.uuid] = name
        if self._refused.get(job.uuid) == name:
            return False
        self._refused[job.uuid] = name
        return True

    def factory(self, job: Job) -> str | None:
        """The factory that :meth:`admits` found."""
        return self._known.get(job.uuid)

    def forget(self, uuid: str) -> None:
        """The job is gone."""
        self._known.pop(uuid, None)
        self._refused.pop(uuid, None)

    def _look_up(self, job: Job) -> str | None:
        if self._persistence is None:
            return None
        flow_uuid = job.details.get("flow_uuid") if isinstance(job.details, Mapping) else None
        with contextlib.closing(self._persistence.get_connection()) as connection:
            try:
                if flow_uuid is not None:
                    return factory_of(connection.get_flow_details(flow_uuid, lazy=True))
                if job.book_uuid is None:
                    return None
                flows = list(connection.get_flows_for_book(job.book_uuid, lazy=True))
            except excp.NotFound:
                return None
            except excp.StorageFailure:
                raise
            except Exception as error:  # what a posting names may be anything, and TaskFlow's own backends trip over it
                told = f"the flow of job {visible(job.uuid, 80)} cannot be looked up: {visible(repr(error), 200)}"
                raise excp.StorageFailure(told) from error
        return factory_of(flows[0]) if len(flows) == 1 else None
