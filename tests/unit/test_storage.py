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
