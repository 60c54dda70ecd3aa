"""What goes wrong with a store reaches those it concerns, in one clear line, and nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import models

from conductor_console.errors import ConsoleError, StoreUnreachable, UsageError
from conductor_console.persistence import fetch, schema
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.engine import masked
from conductor_console.persistence.faults import failure
from tests.storing import move, saved
from tests.support import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLBackend]:
    conf = {"connection": f"sqlite:///{path}", "busy_timeout": 0.05, "retry_for": 30}
    with contextlib.closing(SQLBackend(conf)) as made:
        made.ensure()
        yield made


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextlib.contextmanager
def queued(store: SQLBackend, path: Path, acts: list[Callable[[], Any]]) -> Iterator[list[Future[Any]]]:
    """Acts from a thread each, all waiting for the writer, which stands before another program's lock."""
    with ThreadPoolExecutor(len(acts) + 1) as pool, locked(path):
        pool.submit(store.get_connection().save_logbook, models.LogBook("the first in the queue"))
        eventually(store._writer._writing.locked, what="the writer to stand before the lock")
        done = [pool.submit(act) for act in acts]
        eventually(lambda: store._writer.pending == len(acts) + 1, what="everything to be queued")
        yield done


def in_one_transaction(store: SQLBackend, path: Path, acts: list[Callable[[], Any]]) -> list[Future[Any]]:
    """Runs the acts from a thread each, so that the writer gets them all at once."""
    with queued(store, path, acts) as done:
        pass
    return done


def execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("how", ["ABORT", "ROLLBACK", "FAIL"])
def test_a_failing_write_reaches_only_its_own_flow(store: SQLBackend, path: Path, how: str) -> None:
    """RAISE(ROLLBACK) even ends the transaction that the others' writes are in."""
    flows = [saved(store, f"f{number}") for number in range(5)]
    sick = flows[2]
    execute(
        path,
        f"CREATE TRIGGER sick BEFORE UPDATE ON atomdetails WHEN NEW.parent_uuid = '{sick.uuid}'"
        f" BEGIN SELECT RAISE({how}, 'this one not'); END",
    )
    done = in_one_transaction(
        store,
        path,
        [lambda flow=flow: move(store, flow, states.RUNNING) for flow in flows],  # type: ignore[misc]
    )
    for flow, future in zip(flows, done, strict=True):
        error = future.exception(60)
        if flow is sick:
            assert isinstance(error, excp.StorageFailure)
            assert "this one not" in str(error)
            assert "\n" not in str(error)
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                store.flush(flow.uuid)
            assert store.flow_state(flow.uuid) is None
            assert store.journal(flow_uuid=flow.uuid) == []
        else:
            assert error is None
            store.flush(flow.uuid)
            assert store.flow_state(flow.uuid) == states.RUNNING
            assert [row.to_state for row in store.journal(flow_uuid=flow.uuid)] == [states.RUNNING] * 2
    execute(path, "DROP TRIGGER sick")
    with pytest.raises(excp.StorageFailure, match="not wholly stored"):
        move(store, sick, states.RUNNING)
    store.bind(sick.uuid)
    move(store, sick, states.RUNNING)
    store.flush(sick.uuid)
    assert store.flow_state(sick.uuid) == states.RUNNING
    assert len(store.journal(flow_uuid=sick.uuid)) == 2


def test_what_waits_is_written_in_one_commit(store: SQLBackend, path: Path) -> None:
    flows = [saved(store, f"f{number}") for number in range(12)]
    with contextlib.closing(sqlite3.connect(path)) as watcher:
        before = watcher.execute("PRAGMA data_version").fetchone()
        seen: set[int] = set()
        done = in_one_transaction(
            store,
            path,
            [lambda flow=flow: move(store, flow, states.RUNNING) for flow in flows],  # type: ignore[misc]
        )
        for future in done:
            future.result(60)
            seen.add(watcher.execute("SELECT count(*) FROM flowdetails WHERE state = 'RUNNING'").fetchone()[0])
        assert before != watcher.execute("PRAGMA data_version").fetchone()
    assert seen == {12}  # whoever has its answer sees everybody's


def test_a_write_that_nobody_waited_for_is_told_to_the_next_call(store: SQLBackend, path: Path) -> None:
    flow = saved(store)
    atom = next(iter(flow))
    execute(path, "CREATE TRIGGER sick BEFORE UPDATE ON atomdetails BEGIN SELECT RAISE(ABORT, 'this one not'); END")
    connection = store.get_connection()
    with locked(path):
        atom.state, atom.results = states.SUCCESS, 1
        connection.update_atom_details(atom)
        flow.state = states.RUNNING
        connection.update_flow_details(flow)
    with pytest.raises(excp.StorageFailure, match=r"not wholly stored: .*this one not"):
        store.flush(flow.uuid)
    with pytest.raises(excp.StorageFailure, match=r"not wholly stored: .*this one not"):
        connection.update_atom_details(atom)
    # What came after it counted on it, and is not stored either.
    assert store.flow_state(flow.uuid) is None
    assert store.journal(flow_uuid=flow.uuid) == []


def test_writes_of_an_earlier_claim_are_not_done_in_the_name_of_the_next(store: SQLBackend, path: Path) -> None:
    flow = saved(store)
    with locked(path):
        flow.meta = {"by": "the first"}
        store.get_connection().update_flow_details(flow)
        store.bound.drop(flow.uuid)
        store.bind(flow.uuid, job_uuid="job", attempt=2)
    store.flush(flow.uuid)
    store._writer.barrier(flow.uuid)
    assert store.get_connection().get_flow_details(flow.uuid).meta == {}
    flow.meta = {"by": "the second"}
    store.get_connection().update_flow_details(flow)
    assert store.get_connection().get_flow_details(flow.uuid).meta == {"by": "the second"}


def test_a_flow_under_way_waits_for_few_commits(store: SQLBackend) -> None:
    """For each atom before it acts, and for the flow's end; the rest goes along with them."""
    commits: list[int] = []
    flow = saved(store)
    atoms = [models.TaskDetail(f"a{number}", uuid=f"{flow.uuid}-{number}") for number in range(3)]

    @sa.event.listens_for(store._write_engine, "commit")
    def note(_connection: Any) -> None:
        commits.append(1)

    connection = store.get_connection()
    flow.state = states.RUNNING
    for atom in atoms:
        flow.add(atom)
    connection.update_flow_details(flow)
    for atom in atoms:
        atom.state = states.RUNNING
        connection.update_atom_details(atom)
        atom.meta = {"progress": 0.5}
        connection.update_atom_details(atom)
        atom.state, atom.results = states.SUCCESS, 1
        connection.update_atom_details(atom)
    flow.state = states.SUCCESS
    connection.update_flow_details(flow)
    # More at most by writes that are taken up while the next are made.
    assert 4 <= len(commits) <= 14
    assert {store.flow_state(flow.uuid), *(atom.state for atom in store.flow_rows(flow.uuid).atoms[1:])} == {"SUCCESS"}


def test_a_queued_write_of_a_dropped_flow_is_not_done(store: SQLBackend, path: Path) -> None:
    lost, kept = saved(store, "lost"), saved(store, "kept")
    acts: list[Callable[[], Any]] = [
        lambda: move(store, lost, states.RUNNING),
        lambda: move(store, kept, states.RUNNING),
    ]
    with queued(store, path, acts) as done:
        store.drop(lost.uuid)
    with pytest.raises(excp.StorageFailure, match="its claim was lost"):
        done[0].result(60)
    done[1].result(60)
    assert store.flow_state(lost.uuid) is None
    assert store.flow_state(kept.uuid) == states.RUNNING
    assert store.journal(flow_uuid=lost.uuid) == []


def test_a_database_that_stays_locked_is_told_to_every_caller(path: Path) -> None:
    conf = {"connection": f"sqlite:///{path}", "busy_timeout": 0.02, "retry_for": 0.3}
    with contextlib.closing(SQLBackend(conf)) as store:
        store.ensure()
        flows = [saved(store, f"f{number}") for number in range(3)]
        with ThreadPoolExecutor(3) as pool, locked(path):
            done = [pool.submit(move, store, flow, states.RUNNING) for flow in flows]
            for future in done:
                error = future.exception(60)
                assert isinstance(error, StoreUnreachable)
                assert "is locked by another program" in str(error)
            # Readers do not wait for a writer.
            assert store.flow_state(flows[0].uuid) is None
        for flow in flows:
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                store.flush(flow.uuid)
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                move(store, flow, states.RUNNING)
            store.bind(flow.uuid)
            move(store, flow, states.RUNNING)
            store.flush(flow.uuid)
            assert len(store.journal(flow_uuid=flow.uuid)) == 2


def test_threads_write_without_losing_anything(store: SQLBackend) -> None:
    names = [f"f{number}" for number in range(8)]
    steps = [states.RUNNING, states.SUSPENDED] * 10

    def work(name: str) -> str:
        detail = saved(store, name)
        for state in steps:
            move(store, detail, state)
            store.get_connection().get_flow_details(detail.uuid)
        store.flush(detail.uuid)
        store.unbind(detail.uuid)
        return str(detail.uuid)

    with ThreadPoolExecutor(8) as pool:
        for uuid in pool.map(work, names):
            assert [row.to_state for row in store.journal(flow_uuid=uuid) if row.kind == "flow"] == steps
            assert store.flow_state(uuid) == steps[-1]
    rows = store.journal()
    assert len({row.seq for row in rows}) == len(rows) == 8 * 2 * len(steps)


def test_who_comes_too_late_to_wait_ends_no_thread(store: SQLBackend) -> None:
    """What a reader was about to wait for may be written before he says so."""
    detail = saved(store)
    for state in (states.RUNNING, states.SUCCESS):
        store._writer.hurry()
        moving = threading.Thread(target=move, args=(store, detail, state), daemon=True)
        moving.start()
        moving.join(30)
        assert not moving.is_alive()


def test_close_writes_what_is_queued_and_ends_the_thread(path: Path) -> None:
    store = SQLBackend({"connection": f"sqlite:///{path}", "busy_timeout": 0.05})
    store.ensure()
    flows = [saved(store, f"f{number}") for number in range(6)]
    acts: list[Callable[[], Any]] = [lambda flow=flow: move(store, flow, states.RUNNING) for flow in flows]  # type: ignore[misc]
    with ThreadPoolExecutor(1) as pool:
        with queued(store, path, acts) as done:
            closing = pool.submit(store.close)
            eventually(lambda: store._writer._closing, what="the store to be closing")
        closing.result(60)
    for future in done:
        future.result(60)
    assert not [thread for thread in threading.enumerate() if thread is store._writer._thread]
    for refused in (
        lambda: move(store, flows[0], states.SUCCESS),
        lambda: store.flow_state(flows[0].uuid),
    ):
        with pytest.raises(excp.StorageFailure, match="the store is closed"):
            refused()
    store.close()
    with contextlib.closing(SQLBackend({"connection": f"sqlite:///{path}"})) as again:
        assert {again.flow_state(flow.uuid) for flow in flows} == {states.RUNNING}


_ENDLESS = """
import itertools, sys
from taskflow.persistence import models
from conductor_console.persistence.backend import SQLBackend

store = SQLBackend({"connection": sys.argv[1]})
book = models.LogBook("b")
flow = models.FlowDetail("f", uuid="the-flow")
atoms = [models.TaskDetail(f"a{n}", uuid=f"atom-{n}") for n in range(4)]
for atom in atoms:
    flow.add(atom)
book.add(flow)
store.get_connection().save_logbook(book)
store.bind(flow.uuid)
for step in itertools.count():
    for one in (flow, *atoms):
        one.state = ("RUNNING", "SUSPENDED")[step % 2]
    atoms[0].results = step
    store.get_connection().update_flow_details(flow)
    if step == 3:
        print("going", flush=True)
"""


def test_a_killed_process_leaves_no_half_transaction(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with contextlib.closing(SQLBackend({"connection": url})) as store:
        store.ensure()
        child = subprocess.Popen([sys.executable, "-c", _ENDLESS, url], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "going\n"
            seen = len(store.journal())
            eventually(lambda: len(store.journal()) > seen + 50, what="the child to write on")
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
        with contextlib.closing(SQLBackend({"connection": url}, read_only=True)) as watching:
            assert watching.journal() == store.journal()
        rows = store.journal()
        flow = store.flow_rows("the-flow")
        # Every write told of the flow and its four atoms, and the last one is what the rows hold.
        assert len(rows) % 5 == 0
        assert {row.to_state for row in rows[-5:]} == {flow.state} == {atom.state for atom in flow.atoms}
        assert flow.atoms[0].results == len(rows) // 5 - 1


_FORKS = """
import os, sys
from taskflow.persistence import models
from conductor_console.persistence.backend import SQLBackend

def save(name):
    book = models.LogBook(name)
    book.add(models.FlowDetail(name, uuid=name))
    store.get_connection().save_logbook(book)
    return store.flow_rows(name).name

store = SQLBackend({"connection": sys.argv[1]})
store.ensure()
print(save("before"), flush=True)
store.bind("before", job_uuid="j")
with store._engine.connect():
    pid = os.fork()
    if pid == 0:
        print(save("by the fork"), store.bound.get("before"), flush=True)
        store.close()
        os._exit(0)
    os.waitpid(pid, 0)
print(save("after"), store.bound.get("before").job_uuid, flush=True)
store.close()
"""


def test_a_fork_writes_by_a_thread_and_connections_of_its_own(path: Path) -> None:
    script = [sys.executable, "-c", _FORKS, f"sqlite:///{path}"]
    result = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines() == ["before", "by the fork None", "after j"], result.stderr


def line(error: BaseException) -> str:
    """The error as a person gets it."""
    assert isinstance(error, ConsoleError)
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "a store is named by a URL"),
        ("flows.db", "store URL"),
        ("sqlite:/flows.db", "not a store's URL"),
        ("oracle://user:hunter2@host/flows", "is no kind of store"),
        ("mongodb://user:hunter2@host/flows", "is no kind of store"),
        ("postgresql+nosuch://user:hunter2@host/flows", "the driver nosuch for postgresql is not installed"),
        ("postgresql://user:hunter2@", "No database named"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        SQLBackend({"connection": url})
    assert told in line(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'conductor-console\[postgresql\]'") as caught:
        SQLBackend({"connection": "postgresql+psycopg://user:hunter2@host/flows"})
    assert "hunter2" not in line(caught.value)


def test_tables_on_a_server_need_alembic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "taskflow.persistence.backends.sqlalchemy.migration", None)
    monkeypatch.delattr("taskflow.persistence.backends.sqlalchemy.migration", raising=False)
    with (
        contextlib.closing(SQLBackend({"connection": "postgresql://user@127.0.0.1:1/flows"})) as store,
        pytest.raises(UsageError, match="needs alembic; pip install"),
    ):
        store.ensure()


@pytest.mark.parametrize(
    ("dialect", "time", "key"),
    [
        ("sqlite", "at DATETIME NOT NULL", "seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"),
        ("mysql", "at DATETIME(6) NOT NULL", "seq BIGINT NOT NULL AUTO_INCREMENT"),
        ("postgresql", "at TIMESTAMP WITHOUT TIME ZONE NOT NULL", "seq BIGSERIAL NOT NULL"),
    ],
)
def test_our_tables_keep_microseconds_and_long_numbers_everywhere(dialect: str, time: str, key: str) -> None:
    for table in (schema.journal, schema.audit):
        made = str(sa.schema.CreateTable(table).compile(dialect=sa.make_url(f"{dialect}://").get_dialect()()))
        assert time in made
        assert key in made


def test_an_unknown_kind_is_one_line() -> None:
    with pytest.raises(UsageError, match="is no kind of store"):
        fetch("mongodb://host/flows")
    with pytest.raises(UsageError, match="cannot be attached read-only"):
        fetch("memory://", read_only=True)


def not_there(path: Path) -> None:
    pass


def no_folder(path: Path) -> None:
    path.parent.rmdir()


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("this is a letter, not a database\n" * 100)


def damaged(path: Path) -> None:
    with contextlib.closing(SQLBackend({"connection": f"sqlite:///{path}"})) as store:
        store.ensure()
        for number in range(50):
            saved(store, f"f{number}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * len(data[4096:])
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.touch()


def anothers(path: Path) -> None:
    execute(path, "CREATE TABLE songs (name TEXT)")


def older(path: Path) -> None:
    execute(path, "CREATE TABLE logbooks (uuid VARCHAR(64))")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (not_there, "there is no store at"),
        (no_folder, "there is no folder"),
        (folder, "is a folder"),
        (text, "is not a SQLite database"),
        (damaged, "is damaged"),
        (empty, "has no TaskFlow tables"),
        (anothers, "has no TaskFlow tables"),
        (older, "in another version"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True], ids=["writing", "read-only"])
def test_a_file_that_is_no_store_is_one_line_and_stays_as_it_is(
    tmp_path: Path, made: Callable[[Path], None], told: str, read_only: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = place / "store.db"
    made(path)
    before = path.read_bytes() if path.is_file() else None
    with contextlib.closing(fetch(f"sqlite:///{path}", read_only=read_only)) as store:
        with pytest.raises(StoreUnreachable) as caught:
            store.check()
        assert told in line(caught.value)
        if made is not older:
            for look in (
                lambda: store.flow_rows("x"),
                lambda: store.resolve("x"),
                lambda: list(store.get_connection().get_logbooks()),
            ):
                with pytest.raises(StoreUnreachable):
                    look()
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (no_folder, "there is no folder"),
        (folder, "is a folder"),
        (text, "is not a SQLite database"),
        (anothers, "is another program's database (tables songs)"),
    ],
)
def test_tables_are_not_made_where_they_do_not_belong(tmp_path: Path, made: Callable[[Path], None], told: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = place / "store.db"
    made(path)
    before = path.read_bytes() if path.is_file() else None
    with contextlib.closing(fetch(f"sqlite:///{path}")) as store:
        with pytest.raises(StoreUnreachable) as caught:
            store.ensure()
        assert told in line(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_tables_are_made_once_however_many_make_them(path: Path) -> None:
    stores = [SQLBackend({"connection": f"sqlite:///{path}"}) for _ in range(6)]
    with ThreadPoolExecutor(len(stores)) as pool:
        for done in [pool.submit(store.ensure) for store in stores]:
            done.result(60)
    for store in stores:
        store.check()
        assert store.has_journal
        store.close()


def test_a_table_that_is_lost_while_working_is_told(store: SQLBackend, path: Path) -> None:
    detail = saved(store)
    execute(path, "DROP TABLE atomdetails")
    with pytest.raises(StoreUnreachable) as caught:
        move(store, detail, states.RUNNING)
    assert "has no TaskFlow tables" in line(caught.value)
    with pytest.raises(excp.StorageFailure):
        store.flush(detail.uuid)


def test_a_read_only_store_refuses_every_write(store: SQLBackend, path: Path) -> None:
    detail = saved(store)
    with contextlib.closing(fetch(f"sqlite:///{path}", read_only=True)) as watching:
        for act in (
            lambda: move(watching, detail, states.RUNNING),
            lambda: watching.get_connection().save_logbook(models.LogBook("b")),
            lambda: watching.get_connection().destroy_logbook("x"),
            lambda: watching.get_connection().clear_all(),
            lambda: watching.get_connection().upgrade(),
            lambda: watching.audit_begin("op", "b", "bin", None, None, {}),
        ):
            with pytest.raises(excp.StorageFailure, match="attached read-only"):
                act()
        assert watching.flow_state(detail.uuid) is None


def test_what_a_person_sees_of_a_store_has_no_password() -> None:
    url = sa.make_url("postgresql+psycopg://user:hunter2@host/flows?password=hunter2")
    assert masked(url) == "postgresql+psycopg://user:***@host/flows?password=***"
    lost = sa.exc.OperationalError("SELECT :x", {"x": "hunter2"}, OSError("connection refused\nmore"))
    told = line(failure(lost, "reading a flow", url))
    assert "connection refused" in told
    assert "hunter2" not in told
