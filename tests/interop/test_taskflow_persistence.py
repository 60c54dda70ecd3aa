"""TaskFlow's own persistence tests on our store, and databases that both read and write."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
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
from conductor_console.settings import store_conf
from tests.databases import KINDS, Database


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


@pytest.fixture(scope="module")
def emptied(_databases: Callable[[str], Database]) -> Iterator[Callable[[str], SQLBackend]]:
    """Our store on a server of a kind, emptied whenever it is asked for: making the tables takes longer than a test."""
    stores: dict[str, SQLBackend] = {}

    def of(kind: str) -> SQLBackend:
        if kind not in stores:
            server = _databases(kind)
            stores[kind] = SQLBackend({"connection": server.url(server.database())})
            stores[kind].ensure()
        stores[kind].get_connection().clear_all()
        return stores[kind]

    yield of
    for store in stores.values():
        store.close()


class OnAServer(PersistenceTestMixin):
    """The same on a database server."""

    kind: str
    store: SQLBackend

    @pytest.fixture(autouse=True)
    def _opened(self, emptied: Callable[[str], SQLBackend]) -> None:
        self.store = emptied(self.kind)

    def _get_connection(self) -> Any:
        return self.store.get_connection()


class OnPostgreSQL(testtools.TestCase, OnAServer):
    kind = "postgresql"


class OnMariaDB(testtools.TestCase, OnAServer):
    kind = "mysql"


@pytest.fixture(params=["sqlite", *KINDS])
def new_url(request: pytest.FixtureRequest, database: Callable[[str], Database], tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of another database each time, which nobody made tables in yet."""
    names = itertools.count(1)

    def of() -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path}/flows{next(names)}.db"
        server = database(request.param)
        return str(store_conf(server.url(server.database()))["connection"])

    return of


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def both(url: str) -> Iterator[tuple[SQLBackend, SQLAlchemyBackend]]:
    """Our store and TaskFlow's on one database, which nobody made tables in yet."""
    with (
        contextlib.closing(SQLBackend({"connection": url})) as ours,
        contextlib.closing(SQLAlchemyBackend({"connection": url})) as theirs,
    ):
        yield ours, theirs


def book() -> Any:
    """A logbook with everything in it that a row can hold."""
    made = models.LogBook("a book", uuid=uuidutils.generate_uuid())
    made.meta = {"kind": "sample", "nested": {"n": [1, 2.5, None, "ü"]}}
    made.created_at = made.created_at.replace(microsecond=0)  # MySQL's column has no more
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


def test_taskflow_reads_what_we_wrote(both: tuple[SQLBackend, SQLAlchemyBackend], new_url: Callable[[], str]) -> None:
    ours, theirs = both
    ours.get_connection().upgrade()
    made = book()
    ours.get_connection().save_logbook(made)
    with contextlib.closing(theirs.get_connection()) as connection:
        found = connection.get_logbook(made.uuid)
        connection.upgrade()  # finds its tables in place
        assert [each.uuid for each in connection.get_logbooks()] == [made.uuid]
    # Its reading of its own rows is the measure: it mistakes what a failed try of a retry provided.
    with contextlib.closing(SQLAlchemyBackend({"connection": new_url()})) as other:
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


def test_the_tables_are_taskflows(
    both: tuple[SQLBackend, SQLAlchemyBackend], url: str, new_url: Callable[[], str]
) -> None:
    ours, _ = both
    ours.ensure()
    other = new_url()
    with contextlib.closing(SQLAlchemyBackend({"connection": other})) as theirs:
        theirs.get_connection().upgrade()
    assert schema_of(url) == schema_of(other)


def schema_of(url: str) -> dict[str, Any]:
    """All that a database tells of TaskFlow's tables; the indexes that we add are none of its affair."""
    engine = sa.create_engine(url)
    try:
        inspector = sa.inspect(engine)
        found: dict[str, Any] = {
            name: [
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
                inspector.get_pk_constraint(name),
                inspector.get_foreign_keys(name),
                [index for index in inspector.get_indexes(name) if not str(index["name"]).startswith("cc_")],
            ]
            for name in ("logbooks", "flowdetails", "atomdetails")
        }
        with engine.connect() as connection:
            if inspector.has_table("alembic_version"):
                found["revision"] = connection.execute(sa.text("SELECT * FROM alembic_version")).all()
            if engine.dialect.name == "sqlite":
                query = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'cc_%'")
                found["sql"] = sorted(tuple(row) for row in connection.execute(query) if row.name in found)
            if engine.dialect.name == "mysql":
                for name in ("logbooks", "flowdetails", "atomdetails"):
                    found[f"{name} as made"] = connection.execute(sa.text(f"SHOW CREATE TABLE {name}")).one()[1]
        return found
    finally:
        engine.dispose()


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
        # On PostgreSQL TaskFlow lets the encoder's own error through.
        with pytest.raises(excp.StorageFailure if which == "ours" else (excp.StorageFailure, TypeError)):
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
