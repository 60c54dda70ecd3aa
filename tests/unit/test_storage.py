"""TaskFlow's storage made lighter: what it saves, and that a save which fails is tried again, is as before."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from taskflow import engines, states, task
from taskflow import exceptions as excp
from taskflow.patterns import linear_flow
from taskflow.persistence.backends import impl_memory
from taskflow.storage import Storage

from conductor_console.conductors.storage import LeanStorage, lighten


class Count(task.Task):
    def execute(self) -> int:
        return 1


def engine_on(backend: Any, engine: str = "serial") -> Any:
    return engines.load(linear_flow.Flow("f").add(Count("a", provides="one")), backend=backend, engine=engine)


@pytest.fixture
def backend() -> Any:
    made = impl_memory.MemoryBackend()
    with contextlib.closing(made.get_connection()) as connection:
        connection.upgrade()
    return made


@pytest.mark.parametrize("kind", ["serial", "parallel"])
def test_a_flow_runs_on_it(backend: Any, kind: str) -> None:
    engine = engine_on(backend, kind)
    lighten(engine)
    engine.run()
    assert type(engine.storage) is LeanStorage
    assert engine.storage.fetch("one") == 1
    stored = backend.get_connection().get_flow_details(engine.storage.flow_uuid)
    assert {atom.state for atom in stored} == {stored.state} == {states.SUCCESS}


class Half(task.Task):
    def execute(self) -> None:
        self.update_progress(0.5)

    def revert(self, *args: Any, **kwargs: Any) -> None:
        """Undone."""


class Break(task.Task):
    def execute(self) -> None:
        raise RuntimeError("no")


@pytest.mark.parametrize("fails", [False, True])
def test_rows_are_left_as_taskflows_own_storage_leaves_them_by_fewer_saves(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    saved: list[tuple[str, str, Any]] = []
    save = impl_memory.Connection.update_atom_details

    def noted(self: Any, detail: Any) -> Any:
        saved.append((detail.name, detail.state, detail.meta.get("progress")))
        return save(self, detail)

    monkeypatch.setattr(impl_memory.Connection, "update_atom_details", noted)

    def left(*, light: bool) -> list[tuple[Any, ...]]:
        saved.clear()
        backend = impl_memory.MemoryBackend()
        flow = linear_flow.Flow("f").add(Half("a"), Count("b"), *([Break("c")] if fails else []))
        engine = engines.load(flow, backend=backend, engine="serial")
        if light:
            lighten(engine)
        with contextlib.suppress(RuntimeError):
            engine.run()
        stored = backend.get_connection().get_flow_details(engine.storage.flow_uuid)
        return sorted((one.name, one.state, one.intention, one.results, one.meta) for one in stored)

    theirs = left(light=False)
    before = len(saved)
    assert left(light=True) == theirs
    assert len(saved) < before
    assert ("a", states.RUNNING, 0.0) in saved
    assert ("a", states.SUCCESS, 1.0) in saved
    assert (("a", states.REVERTED, 1.0) in saved) == fails


@pytest.mark.parametrize("method", ["update_atom_details", "update_flow_details"])
def test_a_save_that_fails_is_tried_again(backend: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    engine = engine_on(backend)
    lighten(engine)
    save = getattr(impl_memory.Connection, method)
    failed: list[Any] = []

    def fails_once(self: Any, detail: Any, *args: Any, **kwargs: Any) -> Any:
        if not failed:
            failed.append(detail)
            raise excp.StorageFailure("once")
        return save(self, detail, *args, **kwargs)

    monkeypatch.setattr(impl_memory.Connection, method, fails_once)
    engine.run()
    assert failed
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_storage_of_another_kind_is_left_alone(backend: Any) -> None:
    class Other(Storage):
        pass

    engine = engine_on(backend)
    engine.storage.__class__ = Other
    lighten(engine)
    assert type(engine.storage) is Other
