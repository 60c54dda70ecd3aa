"""The engine that a conductor runs its flows in: checked before the first job, its threads shared by all flows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from taskflow import engines, states
from taskflow import exceptions as excp
from taskflow.engines.action_engine.engine import ParallelActionEngine, SerialActionEngine
from taskflow.patterns import linear_flow
from taskflow.storage import Storage
from taskflow.utils import threading_utils

from conductor_console.conductors import workers
from conductor_console.conductors.pool import HELPERS, DaemonPool, Lane
from conductor_console.conductors.storage import lighten
from conductor_console.conductors.values import check_values, guard
from conductor_console.errors import UsageError
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

GROUP: Final = "taskflow.engines"
#: What TaskFlow's engines look for in their options; anything else they pass over without a word.
_EVERY: Final = frozenset({"defer_reverts", "never_resolve", "inject_transient", "gather_statistics"})
_PARALLEL: Final = _EVERY | {"executor", "max_workers"}
_WORKERS: Final = _EVERY | {
    "executor",
    "url",
    "exchange",
    "topics",
    "transport",
    "transport_options",
    "transition_timeout",
    "retry_options",
    "worker_expiry",
}


class Engines:
    """Makes the engines of one conductor.

    TaskFlow's parallel engine makes threads of its own for each flow, and waits for a second to end them; here they
    come from a pool that every flow of this process shares. ``max_workers`` still bounds each single flow.

    :param kind: TaskFlow's name of an engine, or its URI (``parallel://?max_workers=4``); None is its default.
    :param options: what that engine takes (https://docs.openstack.org/taskflow/latest/user/engines.html).
    :raises UsageError: when there is no such engine, it cannot be loaded, or it refuses its options.
    """

    def __init__(self, kind: str | None, options: Mapping[str, Any] | None) -> None:
        self._kind = kind
        self._options = dict(options or {})
        self._pool: DaemonPool | None = None
        _whole(self._options.get("max_workers"))
        trial = self._trial()
        # Finding an engine by its name takes longer than making it.
        self._known_kind = type(trial) if type(trial) in (SerialActionEngine, ParallelActionEngine) else None
        self._chosen = dict(trial.options)
        self._unknown = frozenset(self._options) - self._known(trial)
        executor = trial.options.get("executor")
        self._given = None if isinstance(executor, str) else executor
        green = isinstance(executor, str) and executor.lower().startswith("green")
        self._shared = isinstance(trial, ParallelActionEngine) and not green
        # An executor that was given is started and ended by every flow: that is its giver's business.
        self._workers = _is_worker_based(trial) and self._given is None
        self._width = _whole(trial.options.get("max_workers"))

    @property
    def unknown(self) -> frozenset[str]:
        """Options that the engine does not know, and so passes over."""
        return self._unknown

    @contextlib.contextmanager
    def threads(self) -> Iterator[None]:
        """While it is open engines can be made whose atoms run in shared threads."""
        with HELPERS.used() as self._pool:
            yield

    def load(self, flow: Any, detail: Any, values: Mapping[str, Any], backend: Any) -> Any:
        """The engine for a flow; to be closed with :func:`end` when it is done.

        :raises UnstorableValue: when the store does not take one of the values.
        """
        check_values(values, backend)
        options = dict(self._options)
        pool = self._pool if self._given is None else self._given
        if self._shared and pool is not None:
            width = self._width
            if width is None and self._given is None:
                width = threading_utils.get_optimal_thread_count()
            options["executor"] = Lane(pool, width)
        _mend_values(detail)
        if self._known_kind is None:
            engine = engines.load(
                flow, store=dict(values), flow_detail=detail, backend=backend, engine=self._kind, **options
            )
        else:
            engine = self._known_kind(flow, detail, backend, self._chosen | options)
            if values:
                engine.storage.inject(dict(values))
        lighten(engine)
        guard(engine, backend)
        if self._workers:
            workers.Ear(engine._task_executor)
        return engine

    def _trial(self) -> Any:
        """An engine with nothing to do, for what it says of its kind and options."""
        try:
            return engines.load(linear_flow.Flow("trial"), engine=self._kind, **self._options)
        except excp.NotFound as error:
            raise UsageError(self._why_not()) from error
        except (TypeError, ValueError, ImportError, AttributeError, excp.TaskFlowException) as error:
            why = visible(str(error).partition("\n")[0], 300)
            raise UsageError(f"the {self._name} engine does not take these options: {why}") from error

    def _why_not(self) -> str:
        known = entry_points(group=GROUP)
        name = (self._kind or "default").partition("://")[0]
        for found in known.select(name=name):
            try:
                found.load()
            except Exception as error:  # whatever a module does when it is imported
                why = visible(f"{type(error).__name__}: {error}".partition("\n")[0], 300)
                return f"the {self._name} engine cannot be loaded: {why}"
        return f"there is no engine {self._name}; there are {', '.join(sorted(known.names))}"

    @property
    def _name(self) -> str:
        return visible(self._kind or "default", 80)

    def _known(self, trial: Any) -> frozenset[str]:
        if type(trial) is SerialActionEngine:
            return _EVERY
        if type(trial) is ParallelActionEngine:
            return _PARALLEL
        if _is_worker_based(trial):
            return _WORKERS
        return frozenset(self._options)


def _mend_values(detail: Any) -> None:
    """Lets an engine be made for a flow whose first conductor was killed while it wrote the flow's values.

    TaskFlow saves the atom that is to hold them first, and its values with a second write; of one without values its
    storage could never be made again.
    """
    for atom in detail:
        if atom.name == Storage.injector_name and atom.results is None:
            atom.results, atom.state = {}, states.SUCCESS


def end(engine: Any) -> None:
    """Returns when no atom of the engine is under way any more."""
    lane = engine.options.get("executor")
    if isinstance(lane, Lane):
        lane.close()


def check(kind: str | None, options: Mapping[str, Any]) -> None:
    """:raises UsageError: when there is no such engine, or it does not know or take one of the options."""
    made = Engines(kind, options)
    if made.unknown:
        names = ", ".join(sorted(visible(name, 80) for name in made.unknown))
        raise UsageError(f"the {visible(kind or 'default', 80)} engine has no option {names}")


def _is_worker_based(engine: Any) -> bool:
    # Its module needs kombu, which may not be installed.
    return type(engine).__module__.startswith("taskflow.engines.worker_based.")


def _whole(value: Any) -> int | None:
    """:raises UsageError: when it is no number of workers."""
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UsageError(f"max_workers is a whole number, at least 1, not {visible(repr(value), 80)}")
    return number
