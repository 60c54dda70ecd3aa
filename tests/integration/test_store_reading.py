"""Reading what TaskFlow wrote: real rows, in a database that TaskFlow made, without any table of ours."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from taskflow import exceptions as excp
from taskflow.persistence import models
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend

from conductor_console.clock import utcnow
from conductor_console.errors import StoreUnreachable
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.journal import JournalRow

FAILURE = {
    "exception_str": "boom: upstream said no",
    "traceback_str": '  File "/srv/app/bench_flows.py", line 30, in execute\n    raise ValueError(...)\n',
    "exc_type_names": ["ValueError", "Exception"],
    "version": 1,
    "exc_args": ["boom: upstream said no"],
    "causes": [],
}


def atom(name: str, created: str, **columns: Any) -> dict[str, Any]:
    """An atom's row as TaskFlow leaves it, JSON columns as their text."""
    row = {
        "created_at": f"2026-11-24 23:46:30.{created}",
        "updated_at": "2026-11-24 23:46:30.744280",
        "meta": '{"progress": 1.0}',
        "parent_uuid": "54881a71-9f51-48ea-a71a-899bae7d83df",
        "name": name,
        "version": "1.0",
        "state": "REVERTED",
        "uuid": f"uuid-of-{name}",
        "failure": None,
        "results": None,
        "revert_results": None,
        "revert_failure": None,
        "atom_type": "TASK_DETAIL",
        "intention": "REVERT",
    }
    return row | columns


#: TaskFlow 6.5's rows of a flow whose retry was exhausted, and of one that was posted and never ran.
ROWS: dict[str, list[dict[str, Any]]] = {
    "logbooks": [
        {
            "created_at": "2026-11-24 23:46:30.291986",
            "updated_at": "2026-11-24 23:46:30.291998",
            "meta": "{}",
            "name": "exhausted",
            "uuid": "2a3d1bbf-1d2a-4b82-9527-770e4266b335",
        }
    ],
    "flowdetails": [
        {
            "created_at": "2026-11-24 23:46:30.295217",
            "updated_at": "2026-11-24 23:46:30.743556",
            "parent_uuid": "2a3d1bbf-1d2a-4b82-9527-770e4266b335",
            "meta": '{"factory": {"name": "bench_flows.retried", "args": [], "kwargs": {}}}',
            "name": "exhausted",
            "state": "REVERTED",
            "uuid": "54881a71-9f51-48ea-a71a-899bae7d83df",
        },
        {
            "created_at": "2026-11-24 23:46:30.894829",
            "updated_at": None,
            "parent_uuid": "2a3d1bbf-1d2a-4b82-9527-770e4266b335",
            "meta": "{}",
            "name": "never ran",
            "state": None,
            "uuid": "6db362be-e5be-4bc6-b538-9283f596c1fc",
        },
    ],
    "atomdetails": [
        atom("times3", "306002", atom_type="RETRY_DETAIL", results="[]", meta="{}"),
        atom("b", "305858", failure=json.dumps(FAILURE), revert_results='"boom-reverted"'),
        atom("a", "305565", results='{"volume": "v-1"}', revert_results='"undone"'),
    ],
}


def insert(path: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for table, found in rows.items():
            for row in found:
                marks = ", ".join(f":{column}" for column in row)
                connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that TaskFlow made, with rows that TaskFlow wrote."""
    found = tmp_path / "theirs.db"
    with contextlib.closing(SQLAlchemyBackend({"connection": f"sqlite:///{found}"})) as theirs:
        theirs.get_connection().upgrade()
    insert(found, ROWS)
    return found


@pytest.fixture
def store(path: Path) -> Iterator[SQLBackend]:
    with contextlib.closing(SQLBackend({"connection": f"sqlite:///{path}"}, read_only=True)) as made:
        yield made


def test_a_flow_is_read_as_it_is(store: SQLBackend) -> None:
    store.check()
    (uuid, other) = store.resolve("2a3d1bbf-1d2a-4b82-9527-770e4266b335")
    flow = store.flow_rows(uuid)
    assert (flow.name, flow.state, flow.book_name) == ("exhausted", "REVERTED", "exhausted")
    assert flow.book_uuid == "2a3d1bbf-1d2a-4b82-9527-770e4266b335"
    assert flow.meta["factory"]["name"] == "bench_flows.retried"
    assert flow.created_at == datetime(2026, 11, 24, 23, 46, 30, 295217, tzinfo=UTC)
    assert flow.updated_at == datetime(2026, 11, 24, 23, 46, 30, 743556, tzinfo=UTC)
    assert [(one.name, one.kind, one.state) for one in flow.atoms] == [
        ("a", "task", "REVERTED"),
        ("b", "task", "REVERTED"),
        ("times3", "retry", "REVERTED"),
    ]
    first, second, third = flow.atoms
    assert (first.results, first.revert_results, first.failure) == ({"volume": "v-1"}, "undone", None)
    assert second.failure == FAILURE
    assert second.meta == {"progress": 1.0}
    assert (second.intention, second.version, second.revert_failure) == ("REVERT", "1.0", None)
    assert third.results == []

    never = store.flow_rows(other)
    assert (never.state, never.updated_at, never.atoms) == (None, None, ())
    assert (store.flow_state(uuid), store.flow_state(other), store.flow_state("x")) == ("REVERTED", None, None)


def test_a_uuid_is_looked_up_as_flow_book_and_job(store: SQLBackend) -> None:
    flows = ["54881a71-9f51-48ea-a71a-899bae7d83df", "6db362be-e5be-4bc6-b538-9283f596c1fc"]
    assert store.resolve(flows[1]) == [flows[1]]
    assert store.resolve("2a3d1bbf-1d2a-4b82-9527-770e4266b335") == flows
    assert store.resolve("a job's") == []
    with pytest.raises(excp.NotFound):
        store.flow_rows("x")


def test_a_job_is_known_where_there_is_a_journal(path: Path) -> None:
    with contextlib.closing(SQLBackend({"connection": f"sqlite:///{path}"})) as store:
        assert store.record(JournalRow("attempt", utcnow(), flow_uuid="f1", job_uuid="job")) == 0
        store.ensure()
        assert store.has_journal
        for flow in ("f2", "f1", "f2", None):
            store.record(JournalRow("attempt", utcnow(), flow_uuid=flow, job_uuid="job"))
        assert store.resolve("job") == ["f2", "f1"]
        assert store.flow_rows("54881a71-9f51-48ea-a71a-899bae7d83df").state == "REVERTED"


def test_without_our_tables_there_is_no_journal_and_no_audit(store: SQLBackend) -> None:
    assert not store.has_journal
    assert not store.has_audit
    assert store.journal() == []
    assert store.audit_rows() == []


def test_reading_changes_nothing(path: Path) -> None:
    """Neither the file nor its folder, whether or not the store was opened for reading only."""
    for read_only in (True, False):
        before = hashlib.sha256(path.read_bytes()).digest()
        with contextlib.closing(SQLBackend({"connection": f"sqlite:///{path}"}, read_only=read_only)) as store:
            store.check()
            store.get_connection().validate()
            assert len(list(store.get_connection().get_logbooks())) == 1
            assert store.resolve("2a3d1bbf-1d2a-4b82-9527-770e4266b335")
            assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_reader_sees_what_another_process_commits(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    with (
        contextlib.closing(SQLBackend({"connection": url})) as writing,
        contextlib.closing(SQLBackend({"connection": url}, read_only=True)) as watching,
    ):
        with pytest.raises(StoreUnreachable):
            watching.check()
        writing.ensure()
        assert watching.has_journal
        book = models.LogBook("b")
        book.add(models.FlowDetail("f", uuid="flow"))
        writing.get_connection().save_logbook(book)
        assert watching.resolve(book.uuid) == ["flow"]


@pytest.mark.parametrize(
    "columns",
    [
        {"results": "{not json"},
        {"failure": '{"unknown": 1}'},
        {"failure": "[1]"},
        {"atom_type": "SOMETHING"},
        {"intention": "DANCE"},
        {"created_at": "yesterday"},
    ],
)
def test_a_row_that_cannot_be_read_is_one_line(path: Path, store: SQLBackend, columns: dict[str, Any]) -> None:
    insert(path, {"atomdetails": [atom("sick", "9", **columns)]})
    with pytest.raises(excp.StorageFailure) as caught:
        store.get_connection().get_flow_details("54881a71-9f51-48ea-a71a-899bae7d83df")
    assert "\n" not in str(caught.value)
    assert len(store.get_connection().get_logbook("2a3d1bbf-1d2a-4b82-9527-770e4266b335", lazy=True)) == 0
