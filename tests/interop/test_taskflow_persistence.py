"""TaskFlow's own persistence tests on our store, and files that both read and write."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixtures
import pytest
import sqlalchemy as sa
import testtools
from oslo_utils import uuidutils
from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import backends, models
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
from taskflow.tests.unit.persistence.base import PersistenceTestMixin
from taskflow.types import failure

from conductor_console.persistence import fetch
from conductor_console.persistence.backend import SQLBackend


class OnOurStore(testtools.TestCase, PersistenceTestMixin):
    """TaskFlow's suite over a SQLite file."""

    def setUp(self) -> None:
        super().setUp()
        folder = self.useFixture(fixtures.TempDir())
        self.store = SQLBackend({"connection": f"sqlite:///{folder.path}/store.db"})
        self.addCleanup(self.store.close)
        with contextlib.closing(self._get_connection()) as connection:
            connection.upgrade()

    def _get_connection(self) -> Any:
        return self.store.get_connection()


class OnOurStoreInMemory(testtools.TestCase, PersistenceTestMixin):
    """The same in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.store = SQLBackend({"connection": "sqlite://"})
        self.addCleanup(self.store.close)
        self.store.ensure()

    def _get_connection(self) -> Any:
        return self.store.get_connection()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[SQLBackend, SQLAlchemyBackend]]:
    """Our store and TaskFlow's on one file, which nobody made yet."""
    url = f"sqlite:///{tmp_path}/shared.db"
    with (
        contextlib.closing(SQLBackend({"connection": url})) as ours,
        contextlib.closing(SQLAlchemyBackend({"connection": url})) as theirs,
    ):
        yield ours, theirs


def book() -> Any:
    """A logbook with everything in it that a row can hold."""
    made = models.LogBook("a book", uuid=uuidutils.generate_uuid())
    made.meta = {"kind": "sample", "nested": {"n": [1, 2.5, None, "ü"]}}
    flow = models.FlowDetail("a flow", uuid=uuidutils.generate_uuid())
    flow.state = states.REVERTED
    flow.meta = {"factory": {"name": "pkg.mod.make", "args": [1], "kwargs": {}}, "store": {"x": 1}}
    task = models.TaskDetail("a task", uuid=uuidutils.generate_uuid())
    task.state = states.REVERT_FAILURE
    task.intention = states.REVERT
    task.version = "1.2"
    task.meta = {"progress": 0.5}
    task.failure = broken("it broke")
    task.revert_failure = broken("undoing broke too")
    done = models.TaskDetail("done", uuid=uuidutils.generate_uuid())
    done.state = states.SUCCESS
    done.results = {"volume": "v-1"}
    done.revert_results = "undone"
    retry = models.RetryDetail("a retry", uuid=uuidutils.generate_uuid())
    retry.results = [(1, {"a task": broken("first")}), (2, {})]
    for atom in (task, done, retry):
        flow.add(atom)
    made.add(flow)
    return made


def broken(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return failure.Failure()


def told(found: Any) -> Any:
    """All that a logbook holds, in a shape that can be compared.

    ``updated_at`` is left out: TaskFlow's reading sets it to the time of the reading, ours tells what is stored.
    """
    return json.loads(
        json.dumps(
            {
                "book": found.to_dict(marshal_time=True) | {"updated_at": None},
                "flows": [
                    flow.to_dict() | {"atoms": sorted((atom.to_dict() for atom in flow), key=lambda atom: atom["uuid"])}
                    for flow in found
                ],
            },
            default=str,
        )
    )


def test_taskflow_reads_what_we_wrote(both: tuple[SQLBackend, SQLAlchemyBackend], tmp_path: Path) -> None:
    ours, theirs = both
    ours.get_connection().upgrade()
    made = book()
    ours.get_connection().save_logbook(made)
    with contextlib.closing(theirs.get_connection()) as connection:
        found = connection.get_logbook(made.uuid)
        connection.upgrade()  # finds its tables in place
        assert [each.uuid for each in connection.get_logbooks()] == [made.uuid]
    # Its reading of its own rows is the measure: it mistakes what a failed try of a retry provided.
    with contextlib.closing(SQLAlchemyBackend({"connection": f"sqlite:///{tmp_path}/theirs.db"})) as other:
        other.get_connection().upgrade()
        other.get_connection().save_logbook(made)
        assert told(found) == told(other.get_connection().get_logbook(made.uuid))
    assert told(ours.get_connection().get_logbook(made.uuid)) == told(made)


def test_we_read_and_go_on_with_what_taskflow_wrote(both: tuple[SQLBackend, SQLAlchemyBackend]) -> None:
    ours, theirs = both
    made = book()
    with contextlib.closing(theirs.get_connection()) as connection:
        connection.upgrade()
        connection.save_logbook(made)
    assert not ours.has_journal
    assert not ours.has_audit
    assert told(ours.get_connection().get_logbook(made.uuid)) == told(made)

    # Without our tables everything works, and nothing is journalled.
    flow = next(iter(made))
    ours.bind(flow.uuid, job_uuid="a job")
    flow.state = states.SUCCESS
    ours.get_connection().update_flow_details(flow)
    atom = next(iter(flow))
    atom.meta["progress"] = 1.0
    ours.get_connection().update_atom_details(atom)
    ours.flush(flow.uuid)
    assert ours.journal(flow_uuid=flow.uuid) == []
    with contextlib.closing(theirs.get_connection()) as connection:
        again = connection.get_flow_details(flow.uuid)
    assert again.state == states.SUCCESS
    assert again.find(atom.uuid).meta == {"progress": 1.0}


def test_the_tables_are_taskflows(both: tuple[SQLBackend, SQLAlchemyBackend], tmp_path: Path) -> None:
    ours, _ = both
    ours.ensure()
    other = f"sqlite:///{tmp_path}/theirs.db"
    with contextlib.closing(SQLAlchemyBackend({"connection": other})) as theirs:
        theirs.get_connection().upgrade()
    assert schema_of(f"sqlite:///{tmp_path}/shared.db") == schema_of(other)


def schema_of(url: str) -> dict[str, str]:
    engine = sa.create_engine(url)
    with contextlib.closing(engine.raw_connection()) as connection:
        rows = connection.cursor().execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    engine.dispose()
    return {name: sql for name, sql in rows if name in ("logbooks", "flowdetails", "atomdetails")}


@pytest.mark.parametrize("which", ["ours", "theirs"])
def test_updates_return_what_taskflows_return(both: tuple[SQLBackend, SQLAlchemyBackend], which: str) -> None:
    """The same calls on either backend, with the same answers."""
    backend = both[0] if which == "ours" else both[1]
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
        made = book()
        assert connection.save_logbook(made) is made
        flow = next(iter(made))

        more = models.TaskDetail("more", uuid=uuidutils.generate_uuid())
        partial = models.FlowDetail(flow.name, flow.uuid)
        partial.state = states.RUNNING
        partial.meta = {"changed": True}
        partial.add(more)
        returned = connection.update_flow_details(partial)
        assert returned is not partial
        assert {atom.name for atom in returned} == {"a task", "done", "a retry", "more"}
        assert (returned.state, returned.meta) == (states.RUNNING, {"changed": True})

        retry = next(atom for atom in flow if atom.name == "a retry")
        answer = connection.update_atom_details(retry)
        assert answer is not retry
        assert answer.results == retry.results
        assert answer.results is not retry.results
        more.meta["progress"] = 1.0
        assert connection.update_atom_details(more).meta == {"progress": 1.0}

        wrong = models.RetryDetail("more", more.uuid)
        with pytest.raises(excp.NotImplementedError):
            connection.update_atom_details(wrong)

        second = models.LogBook(made.name, made.uuid)
        second.meta = {"new": 1}
        extra = models.FlowDetail("second", uuidutils.generate_uuid())
        second.add(extra)
        merged = connection.save_logbook(second)
        assert {each.name for each in merged} == {"a flow", "second"}
        assert merged.meta == {"new": 1}
        assert merged.created_at == second.created_at
        lazy = list(connection.get_flows_for_book(made.uuid, lazy=True))
        assert {each.name: len(each) for each in lazy} == {"a flow": 0, "second": 0}
        with pytest.raises(excp.NotFound):
            connection.get_atom_details("nothing")
        more.results = object()
        with pytest.raises(excp.StorageFailure):
            connection.update_atom_details(more)
        connection.clear_all()
        assert list(connection.get_logbooks()) == []


def test_taskflow_loads_our_store_by_name(tmp_path: Path) -> None:
    with contextlib.closing(backends.fetch(f"cc-sqlite:///{tmp_path}/named.db")) as loaded:
        assert isinstance(loaded, SQLBackend)
        loaded.get_connection().upgrade()
    with contextlib.closing(backends.fetch({"connection": f"sqlite:///{tmp_path}/named.db"})) as loaded:
        assert isinstance(loaded, SQLAlchemyBackend)


def test_we_load_taskflows_stores_by_name(tmp_path: Path) -> None:
    with contextlib.closing(fetch("memory://")) as loaded:
        loaded.get_connection().upgrade()
    with contextlib.closing(fetch({"connection": "dir", "path": str(tmp_path)})) as loaded:
        loaded.get_connection().upgrade()
    with contextlib.closing(fetch(f"sqlite:///{tmp_path}/x.db")) as loaded:
        assert isinstance(loaded, SQLBackend)
