"""What becomes of writes when a database server fails, and how: each is done once, or its caller is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import models

from conductor_console.errors import StoreUnreachable
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.journal import JournalRow
from tests.databases import KINDS, PASSWORD, Database
from tests.faults.sql_wire import Cut, wired
from tests.storing import all_move, move, moving, saved
from tests.support import eventually


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, database: Callable[[str], Database]) -> Database:
    return database(request.param)


@pytest.fixture
def name(server: Database) -> str:
    """A database of the test's own, with all tables."""
    made = server.database()
    with contextlib.closing(SQLBackend({"connection": server.url(made)})) as store:
        store.ensure()
    return made


@contextlib.contextmanager
def opened(url: str, **conf: Any) -> Iterator[SQLBackend]:
    with contextlib.closing(SQLBackend({"connection": url, **conf})) as store:
        yield store


@pytest.fixture
def store(server: Database, name: str) -> Iterator[SQLBackend]:
    with opened(server.url(name)) as made:
        yield made


def told(error: BaseException | None) -> str:
    """The error as its caller gets it: one line, with no secret in it."""
    assert isinstance(error, StoreUnreachable), error
    assert "\n" not in str(error)
    assert PASSWORD not in str(error)
    return str(error)


# -- under load ------------------------------------------------------------------------------------------------------
def restarted(server: Database, _name: str) -> None:
    server.restart()


def killed(server: Database, _name: str) -> None:
    server.kill()
    server.start()


def kicked(server: Database, name: str) -> None:
    eventually(lambda: server.kick(name), what="a connection to end from the server's side")


def paused(server: Database, _name: str) -> None:
    server.pause()
    server.resume()


@pytest.mark.parametrize("happens", [restarted, killed, kicked, paused])
def test_writes_go_on_after_it_each_done_once(
    store: SQLBackend, server: Database, name: str, happens: Callable[[Database, str], None]
) -> None:
    with moving(store, 6) as movers:
        for _ in range(3):
            all_move(movers)
            happens(server, name)
        all_move(movers)
    for mover in movers:
        assert mover.error is None
        mover.check()
        store.flush(mover.detail.uuid)


def test_reads_go_on_at_once_when_all_connections_broke(store: SQLBackend, server: Database, name: str) -> None:
    """Each was used a moment ago: none is asked whether it lives before it is used."""
    detail = saved(store)

    def in_use(together: int) -> None:
        barrier = threading.Barrier(together)
        with ThreadPoolExecutor(together) as pool:
            for done in [pool.submit(reads, barrier) for _ in range(together)]:
                done.result(60)

    def reads(barrier: threading.Barrier) -> None:
        with store.reading("a test") as connection, contextlib.closing(store.get_connection()) as taskflows:
            connection.execute(sa.select(1))
            barrier.wait(60)
            assert taskflows.get_logbook(book.uuid).uuid == book.uuid

    book = models.LogBook("read")
    store.get_connection().save_logbook(book)
    for happens in (kicked, restarted):
        in_use(4)
        happens(server, name)
        # Once: these do not try again.
        assert store.flow_rows(detail.uuid).uuid == detail.uuid
        assert store.get_connection().get_logbook(book.uuid).name == "read"
        in_use(4)


# -- a commit's answer -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cut", ["answer", "request"])
def test_a_commit_whose_answer_is_lost_is_not_done_again(server: Database, name: str, cut: Cut) -> None:
    with wired(server.port) as wire, opened(server.url(name).replace(f":{server.port}/", f":{wire.port}/")) as store:
        detail = saved(store)
        wire.cut_commits(cut)
        seq = store.record(JournalRow("attempt", datetime.now(UTC), job_uuid="job-1", attempt=1))
        assert [row.seq for row in store.journal(job_uuid="job-1")] == [seq]

        wire.cut_commits(cut, cut)
        number = store.audit_begin("op", "board", "bin", "job-1", "job", {})
        wire.cut_commits(cut)
        store.audit_end(number, "done")
        assert [(row.seq, row.outcome) for row in store.audit_rows()] == [(number, "done")]

        wire.cut_commits(cut)
        move(store, detail, states.RUNNING)
        store.flush(detail.uuid)
        assert [row.to_state for row in store.journal(flow_uuid=detail.uuid)] == [states.RUNNING] * 2

        book = models.LogBook("new")
        wire.cut_commits(cut)
        assert store.get_connection().save_logbook(book) is book
        wire.cut_commits(cut)
        store.get_connection().destroy_logbook(book.uuid)
        assert wire.cuts_left == 0


def test_a_commit_that_comes_late_is_waited_for(server: Database, name: str) -> None:
    """The client is long gone when the server hears of the commit: to do it again would do it twice."""
    url = server.url(name)
    with (
        wired(server.port) as wire,
        opened(url.replace(f":{server.port}/", f":{wire.port}/"), busy_timeout=1) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        detail = saved(store)
        wire.cut_commits("late")
        done = pool.submit(move, store, detail, states.RUNNING)
        assert wire.late.wait(60)
        eventually(lambda: server.waiting(name), what="the store to wait for the commit's end")
        assert not done.done()
        wire.let_late_go()
        done.result(60)
        store.flush(detail.uuid)
        assert [row.to_state for row in store.journal(flow_uuid=detail.uuid)] == [states.RUNNING] * 2


# -- locks -----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def holding(server: Database, name: str, *flow_uuids: str) -> Iterator[Any]:
    """Another program holds the rows of these flows in a transaction that it does not end."""
    with contextlib.closing(server.connect(name)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        for uuid in flow_uuids:
            cursor.execute(f"SELECT uuid FROM flowdetails WHERE uuid = '{uuid}' FOR UPDATE")
            assert cursor.fetchall()
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")


def in_one_transaction(
    store: SQLBackend, server: Database, name: str, gate: Any, flows: list[Any]
) -> list[Future[Any]]:
    """Moves the flows in the order given, in one transaction of the store's; its writer stands before ``gate``'s row
    until that is let go.
    """
    pool = ThreadPoolExecutor(len(flows) + 1)
    waiting = server.waiting(name)
    done = [pool.submit(move, store, gate, states.RUNNING)]
    eventually(lambda: server.waiting(name) > waiting, what="the writer to stand before the lock")
    for number, flow in enumerate(flows, 2):
        done.append(pool.submit(move, store, flow, states.RUNNING))
        eventually(lambda: store._writer.pending == number, what="the write to be queued")  # noqa: B023
    pool.shutdown(wait=False)
    return done


def deadlocks(server: Database) -> int:
    if server.kind == "postgresql":
        return server.log.read_text().count("deadlock detected")
    return int(server.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")[0][1])


def test_a_deadlock_is_tried_again(server: Database, name: str) -> None:
    """Two writers take the rows of two flows in opposite order, until they stand in each other's way."""
    before = deadlocks(server)
    with opened(server.url(name), busy_timeout=60) as one, opened(server.url(name), busy_timeout=60) as two:
        for _ in range(20):
            _cross(server, name, one, two)
            if deadlocks(server) > before:
                return
    raise AssertionError("there was no deadlock")


def _cross(server: Database, name: str, one: SQLBackend, two: SQLBackend) -> None:
    gates = [saved(one, "gate of one"), saved(two, "gate of two")]
    a, b = saved(one, "a"), saved(one, "b")
    both = [(a.copy(), b.copy()), (a.copy(), b.copy())]
    with holding(server, name, a.uuid, b.uuid):
        with holding(server, name, *(gate.uuid for gate in gates)):
            done = in_one_transaction(one, server, name, gates[0], [both[0][0], both[0][1]])
            done += in_one_transaction(two, server, name, gates[1], [both[1][1], both[1][0]])
        eventually(lambda: done[0].done() and done[3].done(), what="both gates to be passed")
        eventually(lambda: server.waiting(name) == 2, what="each writer to stand before its first row")
    for future in done:
        future.result(120)
    for flow in (a, b, *gates):
        assert one.flow_state(flow.uuid) == states.RUNNING
    assert len(one.journal(flow_uuid=gates[0].uuid)) == len(one.journal(flow_uuid=gates[1].uuid)) == 2


def test_a_row_that_another_program_holds_keeps_only_its_own_flow_waiting(
    store: SQLBackend, server: Database, name: str
) -> None:
    with opened(server.url(name), busy_timeout=1) as impatient, ThreadPoolExecutor(1) as pool:
        stuck = saved(impatient, "stuck")
        with moving(impatient, 4) as movers:
            with holding(server, name, stuck.uuid):
                done = pool.submit(move, impatient, stuck, states.RUNNING)
                eventually(lambda: server.waiting(name), what="the writer to stand before the lock")
                all_move(movers)
                assert not done.done(), done.exception()
            done.result(60)
        impatient.flush(stuck.uuid)
        for mover in movers:
            assert mover.error is None
            mover.check()


def test_writes_of_one_flow_keep_their_order_though_the_first_is_held_up(
    store: SQLBackend, server: Database, name: str
) -> None:
    """None of them was waited for, so that all of them are queued behind the row that another program holds."""
    with opened(server.url(name), busy_timeout=1) as impatient:
        stuck, other = saved(impatient, "stuck"), saved(impatient, "other")
        atom = next(iter(stuck))
        connection = impatient.get_connection()
        with holding(server, name, stuck.uuid):
            stuck.meta = {"step": 1}
            connection.update_flow_details(stuck)
            eventually(lambda: server.waiting(name), what="the writer to stand before the lock")
            for step in range(2, 6):
                atom.results = step
                connection.update_atom_details(atom)
                stuck.meta = {"step": step}
                connection.update_flow_details(stuck)
            move(impatient, other, states.RUNNING)
            assert store.get_connection().get_atom_details(atom.uuid).results is None
        impatient.flush(stuck.uuid)
        found = store.get_connection().get_flow_details(stuck.uuid)
        assert (found.meta, found.find(atom.uuid).results) == ({"step": 5}, 5)


def test_a_row_that_stays_held_is_told_to_its_own_flow(server: Database, name: str) -> None:
    with opened(server.url(name), busy_timeout=1, retry_for=2) as store, ThreadPoolExecutor(3) as pool:
        stuck, other = saved(store, "stuck"), saved(store, "other")
        with holding(server, name, stuck.uuid):
            done = pool.submit(move, store, stuck, states.RUNNING)
            eventually(lambda: server.waiting(name), what="the writer to stand before the lock")
            beside = pool.submit(move, store, other, states.RUNNING)
            assert "lock" in told(done.exception(60)).lower()
            beside.result(60)
        store.flush(other.uuid)
        # What was lost stays lost, until somebody takes the flow up again.
        for act in (lambda: store.flush(stuck.uuid), lambda: move(store, stuck, states.SUCCESS)):
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                act()
        assert store.flow_state(stuck.uuid) is None
        store.bind(stuck.uuid)
        move(store, stuck, states.RUNNING)
        store.flush(stuck.uuid)
        assert len(store.journal(flow_uuid=stuck.uuid)) == 2


# -- beyond the bound ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_a_server_that_does_not_come_back_is_told_to_every_caller(server: Database, name: str, how: str) -> None:
    with opened(server.url(name), retry_for=1, answer_timeout=1) as store:
        with moving(store, 5) as movers:
            all_move(movers)
            server.stop() if how == "stopped" else server.pause()
            eventually(lambda: all(mover.error is not None for mover in movers), what="every writer to be told")
            with ThreadPoolExecutor(3) as pool:
                answers = pool.submit(store.answers)
                for told_too in (
                    pool.submit(store.get_connection().get_flow_details, movers[0].detail.uuid),
                    pool.submit(store.record, JournalRow("attempt", datetime.now(UTC))),
                ):
                    assert told(told_too.exception(60))
                assert not answers.result(60)
        for mover in movers:
            assert told(mover.error)
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                store.flush(mover.detail.uuid)
        server.start() if how == "stopped" else server.resume()
        eventually(store.answers, what="the store to answer again")
        for mover in movers:
            with pytest.raises(excp.StorageFailure, match="not wholly stored"):
                move(store, mover.detail, states.RUNNING)
            mover.check()
            store.bind(mover.detail.uuid)
            move(store, mover.detail, states.SUCCESS)
            store.flush(mover.detail.uuid)
            assert store.flow_state(mover.detail.uuid) == states.SUCCESS


def test_reads_wait_for_a_server_that_restarts(store: SQLBackend, server: Database) -> None:
    detail = saved(store)
    server.stop()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(store.get_connection().get_flow_details, detail.uuid)
        server.start()
        assert found.result(60).uuid == detail.uuid


def test_a_store_is_closed_though_its_server_is_gone(server: Database, name: str) -> None:
    store = SQLBackend({"connection": server.url(name)})
    detail = saved(store)
    server.stop()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(move, store, detail, states.RUNNING)
        eventually(lambda: store._writer.troubled, what="the write to fail")
        store.close()
        assert told(done.exception(60))
    assert store._writer._thread is not None
    assert not store._writer._thread.is_alive()
    assert not [thread for thread in threading.enumerate() if thread is store._writer._thread]
