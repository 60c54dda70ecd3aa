"""The store on PostgreSQL and MariaDB: what is written comes back as it was, or is refused in one clear line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import models
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend

from conductor_console.errors import ConsoleError, StoreUnreachable
from conductor_console.persistence import fetch
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.journal import JournalRow
from conductor_console.persistence.schema import Unstorable
from conductor_console.settings import store_conf
from tests.databases import KINDS, PASSWORD, Database
from tests.integration import test_store
from tests.storing import move, saved


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, database: Callable[[str], Database]) -> Database:
    return database(request.param)


@contextlib.contextmanager
def opened(url: str, **conf: Any) -> Iterator[SQLBackend]:
    """Our store at ``url``, its tables made."""
    with contextlib.closing(SQLBackend({"connection": url, **conf})) as store:
        store.ensure()
        yield store


@pytest.fixture
def url(server: Database) -> str:
    """A database of this test's own; nothing is in it yet."""
    return server.url(server.database())


@pytest.fixture
def store(url: str) -> Iterator[SQLBackend]:
    with opened(url) as made:
        yield made


def driven(url: str) -> str:
    """The URL as SQLAlchemy and TaskFlow want it."""
    return str(store_conf(url)["connection"])


def line(error: BaseException) -> str:
    """The error as a person gets it."""
    assert "\n" not in str(error)
    assert PASSWORD not in str(error)
    return str(error)


@pytest.mark.parametrize("make", [test_store.exhausts, test_store.graph, test_store.retries])
def test_rows_are_left_as_taskflow_leaves_them(url: str, server: Database, make: Callable[[], Any]) -> None:
    theirs_url = driven(server.url(server.database()))
    with contextlib.closing(SQLAlchemyBackend({"connection": theirs_url})) as theirs:
        theirs.get_connection().upgrade()
        wanted = test_store.saved(theirs)
        test_store.run(theirs, make(), wanted, store={"x": 1})
    with opened(url) as store:
        detail = test_store.saved(store)
        store.bind(detail.uuid, job_uuid="job", conductor="c1", attempt=1)
        test_store.run(store, make(), detail, store={"x": 1})
        store.flush(detail.uuid)
        assert test_store.left(driven(url), detail.uuid) == test_store.left(theirs_url, wanted.uuid)
        rows = store.journal(flow_uuid=detail.uuid)
        assert rows[0].to_state is not None
        assert {row.job_uuid for row in rows} == {"job"}
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})


def test_times_are_utc_to_the_microsecond_whatever_the_servers_zone(server: Database) -> None:
    name = server.database()
    if server.kind == "postgresql":
        server.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
    else:
        server.execute("SET GLOBAL time_zone = '+05:45'")
    try:
        with opened(server.url(name)) as store:
            at = datetime(2026, 3, 29, 1, 30, 0, 123457, tzinfo=UTC)
            store.record(JournalRow("attempt", at, job_uuid="j"))
            assert [row.at for row in store.journal(job_uuid="j")] == [at]
            before = datetime.now(UTC)
            seq = store.audit_begin("op@host", "board", "bin", "j", "job", {})
            store.audit_end(seq, "done")
            (act,) = store.audit_rows()
            assert before <= act.at <= datetime.now(UTC)
            detail = saved(store)
            move(store, detail, states.RUNNING)
            flow = store.flow_rows(detail.uuid)
            assert flow.updated_at is not None
            assert abs((flow.updated_at - datetime.now(UTC)).total_seconds()) < 600
    finally:
        if server.kind == "mysql":
            server.execute("SET GLOBAL time_zone = 'SYSTEM'")


def test_big_results_come_back_whole(store: SQLBackend, url: str) -> None:
    detail = saved(store)
    atom = next(iter(detail))
    big = {"text": 'say "x" \\ \N{SNOWMAN} \N{PILE OF POO} ' * 150_000, "numbers": [2**70, 1e-300, None, True]}
    atom.results = big
    atom.state = states.SUCCESS
    atom.meta = {"progress": 0.5, "note": "\N{PILE OF POO}\x00\x1b[0m"}
    detail.meta = {"store": {"x": "y" * 300_000}}
    store.get_connection().update_flow_details(detail)
    store.flush(detail.uuid)
    with contextlib.closing(SQLBackend({"connection": url})) as other:
        found = other.get_connection().get_flow_details(detail.uuid)
        assert found.meta == detail.meta
        assert found.find(atom.uuid).results == big
        assert found.find(atom.uuid).meta == atom.meta
    with contextlib.closing(SQLAlchemyBackend({"connection": driven(url)})) as theirs:
        assert theirs.get_connection().get_atom_details(atom.uuid).results == big
    # What has not changed is not written again, however it came back from the database.
    last = store.journal(flow_uuid=detail.uuid)[-1].seq
    store.bind(detail.uuid)
    store.get_connection().update_flow_details(found)
    assert store.journal(flow_uuid=detail.uuid, after=last) == []


def test_names_in_the_journal_are_any_text(store: SQLBackend) -> None:
    row = JournalRow(
        "attempt",
        datetime.now(UTC),
        job_uuid="Job-\N{PILE OF POO}",
        atom_name="\N{PILE OF POO}" * 300,
        conductor="c1@höst",
        detail={"error": "\N{PILE OF POO}" * 10_000, "name": "x\x00y"},
    )
    store.record(row)
    store.record(JournalRow("attempt", datetime.now(UTC), job_uuid="job-\N{PILE OF POO}"))
    (found,) = store.journal(job_uuid="Job-\N{PILE OF POO}")  # and not the one whose J is small
    assert (found.conductor, found.detail["name"]) == ("c1@höst", "x\x00y")
    assert found.atom_name is not None
    assert found.atom_name.startswith("\N{PILE OF POO}" * 200)
    seq = store.audit_begin("opé@host", "b", "bin", None, "\N{PILE OF POO}", {"details": "\N{PILE OF POO}"})
    store.audit_end(seq, "done \N{SNOWMAN}")
    assert store.audit_rows()[0].job_name == "\N{PILE OF POO}"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mysql", "CHARACTER SET latin1"),
        ("postgresql", "ENCODING 'SQL_ASCII' TEMPLATE template0"),
        ("postgresql", "ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"),
    ],
)
def test_a_database_in_another_character_set_keeps_what_it_takes(
    kind: str, options: str, database: Callable[[str], Database]
) -> None:
    server = database(kind)
    with opened(server.url(server.database(options))) as store:
        detail = saved(store, "é")
        next(iter(detail)).results = "\N{PILE OF POO}"
        store.get_connection().update_flow_details(detail)
        store.record(JournalRow("attempt", datetime.now(UTC), job_uuid="j", conductor="höst"))
        found = store.get_connection().get_flow_details(detail.uuid)
        assert found.name == "é"
        assert next(iter(found)).results == "\N{PILE OF POO}"
        assert store.journal(job_uuid="j")[0].conductor == "höst"
        if kind == "postgresql" and "LATIN1" in options:
            with pytest.raises(excp.StorageFailure) as caught:
                saved(store, "\N{SNOWMAN}")
            assert "LATIN1" in line(caught.value)


def test_what_a_column_does_not_take_is_refused_and_the_flow_goes_on(store: SQLBackend, server: Database) -> None:
    """Whatever the server's mode: a MySQL that is not strict would cut it, and say nothing."""
    if server.kind == "mysql":
        server.execute("SET GLOBAL sql_mode = ''")
        server.kick(str(store._url.database))
    try:
        detail = saved(store)
        atom = next(iter(detail))
        if server.kind == "mysql":
            atom.revert_results = "x" * 70_000  # TaskFlow's column is a TEXT here
            wanted = "revert results of 68 kB cannot be stored: its column takes 64 kB"
        else:
            atom.version = "1" * 65
            wanted = "too long"
        with pytest.raises(Unstorable) as caught:
            store.get_connection().update_atom_details(atom)
        assert wanted in line(caught.value)
        atom.revert_results, atom.version = "undone", "1.0"
        store.get_connection().update_atom_details(atom)
        store.flush(detail.uuid)
        with pytest.raises(Unstorable) as caught:
            saved(store, "x\N{PILE OF POO}" if server.kind == "mysql" else "x\x00")
        assert line(caught.value)
    finally:
        if server.kind == "mysql":
            server.execute("SET GLOBAL sql_mode = DEFAULT")


def test_a_statement_that_is_too_big_is_refused_before_it_breaks_the_connection(
    database: Callable[[str], Database],
) -> None:
    server = database("mysql")
    with opened(server.url(server.database())) as store:
        sick, well = saved(store, "sick"), saved(store, "well")
        atom = next(iter(sick))
        # As JSON each quote takes two octets, and in a statement four.
        atom.results = '"' * (5 * 2**20)
        with pytest.raises(Unstorable) as caught:
            store.get_connection().update_atom_details(atom)
        assert "results of 20.0 MB cannot be stored: the database takes 16.0 MB (max_allowed_packet)" in line(
            caught.value
        )
        atom.results = '"' * (3 * 2**20)
        store.get_connection().update_atom_details(atom)
        move(store, well, states.RUNNING)
        for flow in (sick, well):
            store.flush(flow.uuid)
        assert store.get_connection().get_atom_details(atom.uuid).results == atom.results


def test_a_uuid_is_that_very_uuid(store: SQLBackend) -> None:
    """MySQL's collations would have it that two are one."""
    book = models.LogBook("b", uuid="abc-1")
    flow = models.FlowDetail("f", uuid="def-1")
    flow.add(models.TaskDetail("a", uuid="ghi-1"))
    book.add(flow)
    connection = store.get_connection()
    connection.save_logbook(book)
    for look in (
        lambda: connection.get_logbook("ABC-1"),
        lambda: connection.get_flow_details("DEF-1"),
        lambda: connection.get_atom_details("GHI-1"),
        lambda: connection.update_atom_details(models.TaskDetail("a", uuid="GHI-1")),
        lambda: connection.update_flow_details(models.FlowDetail("f", uuid="DEF-1")),
        lambda: store.flow_rows("DEF-1"),
    ):
        with pytest.raises(excp.NotFound):
            look()
    assert store.flow_rows("def-1").name == "f"


def test_atoms_are_told_in_the_order_of_their_making(store: SQLBackend) -> None:
    book = models.LogBook("b")
    flow = models.FlowDetail("f", uuid="flow")
    names = [f"step{number}" for number in (5, 3, 9, 1, 7, 2, 8)]
    for name in names:
        atom = models.TaskDetail(name, uuid=f"of-{name}")
        atom.state = states.PENDING
        flow.add(atom)
    book.add(flow)
    store.get_connection().save_logbook(book)
    assert [name for name, _ in store.flow_steps("flow")] == names
    assert [atom.name for atom in store.flow_rows("flow").atoms] == names


def test_a_reader_sees_one_moment(store: SQLBackend) -> None:
    detail = saved(store)
    move(store, detail, states.RUNNING)
    atoms = sa.text("SELECT state FROM atomdetails")
    with store.reading("looking") as connection:
        assert connection.scalar(sa.text("SELECT state FROM flowdetails")) == states.RUNNING
        move(store, detail, states.SUCCESS)
        assert connection.scalar(atoms) == states.RUNNING
    with store.reading("looking again") as connection:
        assert connection.scalar(atoms) == states.SUCCESS


def test_the_name_mariadb_makes_the_same_tables(database: Callable[[str], Database]) -> None:
    server = database("mysql")
    name = server.database()
    with opened(server.url(name).replace("mysql://", "mariadb://")) as store:
        assert "mysql" in store.url
    types = dict(
        server.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = '{name}' AND table_name = 'atomdetails'"
        )
    )
    assert {types["results"], types["failure"], types["revert_failure"]} == {"longtext"}


_UPGRADE = """
import sys, warnings
warnings.simplefilter("ignore")
who, url = sys.argv[1:]
if who == "taskflow":
    from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend as Backend
else:
    from conductor_console.persistence.backend import SQLBackend as Backend
store = Backend({"connection": url})
print("ready", flush=True)
sys.stdin.readline()
store.get_connection().upgrade()
store.close()
"""


@pytest.mark.parametrize("kind", ["sqlite", *KINDS])
def test_tables_are_made_once_however_many_programs_make_them(
    kind: str, database: Callable[[str], Database], tmp_path: Path
) -> None:
    """Also beside TaskFlow, which asks nobody for a turn; what becomes of its own try is its affair."""
    url = f"sqlite:///{tmp_path}/store.db"
    if kind != "sqlite":
        server = database(kind)
        url = driven(server.url(server.database()))
    programs = ["ours", "ours", "taskflow"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _UPGRADE, who, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in programs
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for who, child in zip(programs, children, strict=True):
            _, said = child.communicate(timeout=120)
            assert child.returncode == 0 or who == "taskflow", said
    finally:
        for child in children:
            child.kill()
            child.communicate()
    with contextlib.closing(SQLBackend({"connection": url})) as store:
        store.check()
        store.ensure()
        assert store.has_journal
        assert store.has_audit
        move(store, saved(store), states.RUNNING)
        if kind != "sqlite":
            with store.reading("looking") as connection:
                assert len(connection.execute(sa.text("SELECT * FROM alembic_version")).all()) == 1


def test_another_programs_database_is_told(server: Database) -> None:
    name = server.database()
    server.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)", name)
    server.execute("INSERT INTO alembic_version VALUES ('c0ffee')", name)
    with contextlib.closing(fetch(server.url(name))) as store:
        with pytest.raises(StoreUnreachable, match="were made by another program or by a newer TaskFlow") as caught:
            store.ensure()
        assert line(caught.value)
        with pytest.raises(StoreUnreachable, match="has no TaskFlow tables"):
            store.check()
        with pytest.raises(StoreUnreachable, match="has no TaskFlow tables"):
            list(store.get_connection().get_logbooks())


def test_what_cannot_be_reached_is_one_line(server: Database) -> None:
    nobody = server.url("flows").replace(f":{server.port}/", ":1/")
    stranger = server.url("flows").replace(PASSWORD, "letmein")
    nowhere = server.url("nowhere")
    for url, words in ((nobody, "refused"), (stranger, "console"), (nowhere, "nowhere")):
        # The bound is far longer than the test: what waiting does not mend is told at once.
        conf = {"connection": url, "retry_for": 0.2 if url is nobody else 600}
        with contextlib.closing(SQLBackend(conf)) as store:
            for act in (store.check, store.ensure, lambda: store.record(JournalRow("attempt", datetime.now(UTC)))):
                with pytest.raises(StoreUnreachable) as caught:
                    act()
                assert isinstance(caught.value, ConsoleError)
                assert words in line(caught.value)
                assert "letmein" not in str(caught.value)
