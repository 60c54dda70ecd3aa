"""Flows that TaskFlow ran on the real store, looked at again; and TaskFlow's own stores, which have no journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from taskflow import engines, retry, task
from taskflow.patterns import linear_flow
from taskflow.persistence import models

from conductor_console.errors import ConsoleError, StoreUnreachable, UsageError
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.journal import JournalRow
from conductor_console.replay import report
from conductor_console.replay.player import Player
from conductor_console.replay.tape import is_inferred, load
from conductor_console.replay.words import cause_of
from tests.tapes import BEGAN, SAMPLES, sample


class Allocate(task.Task):
    def execute(self) -> str:
        return "192.0.2.7"


class Plug(task.Task):
    def execute(self) -> None:
        raise ValueError("no port answers")


class Flaky(task.Task):
    """Fails until the retry controller gives it 3."""

    def execute(self, number: int) -> int:
        if number < 3:
            raise RuntimeError(f"not yet at {number}")
        return number


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLBackend]:
    backend = SQLBackend({"connection": f"sqlite:///{tmp_path / 'flows.db'}"})
    backend.ensure()
    yield backend
    backend.close()


def run(store: SQLBackend, flow: Any, *, job_uuid: str | None = None, attempt: int | None = None) -> tuple[str, str]:
    """Runs the flow to its end, whatever that is. Returns the uuids of its book and of its flow detail."""
    book = models.LogBook("a-book")
    detail = models.FlowDetail(flow.name, f"{flow.name}-uuid")
    book.add(detail)
    connection = store.get_connection()
    connection.save_logbook(book)
    if job_uuid is not None:
        store.bind(detail.uuid, job_uuid=job_uuid, conductor="w1", attempt=attempt)
    engine = engines.load(flow, flow_detail=detail, book=book, backend=store)
    try:
        engine.run()
    except (ValueError, RuntimeError):
        pass
    finally:
        store.unbind(detail.uuid)
    return book.uuid, detail.uuid


def stories(player: Player) -> dict[str, list[str | None]]:
    rows = player.tape.rows
    return {lane.atom.name: [rows[change].to_state for change in lane.changes] for lane in player.lanes}


def test_a_success_is_told_completely(store: SQLBackend) -> None:
    flow = linear_flow.Flow("fine").add(Allocate("allocate"), Allocate("again"))
    _, uuid = run(store, flow)
    player = Player(load(store, uuid))
    assert player.tape.complete
    assert report.provenance(player.tape) == "complete log, nothing inferred"
    assert player.failures == ()
    told = stories(player)
    assert told["allocate"][-2:] == told["again"][-2:] == ["RUNNING", "SUCCESS"]
    assert [lane.atom.name for lane in player.lanes] == ["allocate", "again"]
    player.end()
    assert [atom.word for atom in player.atoms()] == ["done", "done"]
    assert player.tape.flows[0].state == "SUCCESS"


def test_a_failure_and_the_revert_after_it(store: SQLBackend) -> None:
    flow = linear_flow.Flow("broken").add(Allocate("allocate"), Plug("plug"), Allocate("never"))
    _, uuid = run(store, flow)
    player = Player(load(store, uuid))
    assert player.tape.complete
    told = stories(player)
    assert told["allocate"][-4:] == ["RUNNING", "SUCCESS", "REVERTING", "REVERTED"]
    assert told["plug"][-4:] == ["RUNNING", "FAILURE", "REVERTING", "REVERTED"]
    assert player.next_failure()
    row = player.row
    assert row is not None
    cause = cause_of(row)
    assert cause is not None
    assert cause[:2] == ("ValueError", "no port answers")
    assert cause[2].endswith("in execute")
    words = {atom.atom.name: atom.word for atom in player.atoms()}
    assert (words["allocate"], words["plug"], words["never"]) == ("done", "failed", "pending")
    kinds = {lane.atom.name: [bar.kind for bar in lane.segments] for lane in player.lanes}
    assert kinds == {"allocate": ["ran", "reverted"], "plug": ["failed", "reverted"], "never": []}


def test_retries_are_told_one_by_one(store: SQLBackend) -> None:
    flow = linear_flow.Flow("stubborn", retry=retry.ForEach([1, 2, 3], "tries", provides="number")).add(Flaky("flaky"))
    _, uuid = run(store, flow)
    player = Player(load(store, uuid))
    assert player.tape.complete
    told = stories(player)
    assert told["flaky"].count("FAILURE") == 2
    assert told["flaky"][-1] == "SUCCESS"
    assert len(player.failures) == 2
    player.end()
    words = {atom.atom.name: atom.word for atom in player.atoms()}
    assert words == {"tries": "retry 3", "flaky": "done"}
    assert player.next_failure() is False


def test_a_jobs_uuid_and_a_books_lead_to_the_same_flow(store: SQLBackend) -> None:
    flow = linear_flow.Flow("fine").add(Allocate("allocate"))
    book_uuid, uuid = run(store, flow, job_uuid="job-1", attempt=4)
    store.record(JournalRow("attempt", BEGAN, uuid, "job-1", conductor="w1", attempt=4, detail={"outcome": "consumed"}))
    store.record(JournalRow("operator", BEGAN, None, "job-1", detail={"action": "restore"}))
    tapes = [load(store, each) for each in (uuid, book_uuid, "job-1")]
    assert tapes[0].rows == tapes[1].rows == tapes[2].rows
    assert {row.kind for row in tapes[0].rows} == {"flow", "task", "attempt", "operator"}
    player = Player(tapes[0])
    player.end()
    assert player.attempt == 4
    assert tapes[0].book == "a-book"
    assert tapes[0].clock_jumps == 1, "the two rows above were stamped by a clock that is behind"


def test_nothing_by_that_uuid_is_one_line(store: SQLBackend) -> None:
    with pytest.raises(ConsoleError, match=r"^no flow, logbook or job 'no\\\\x1bsuch' in flows.db$"):
        load(store, "no\x1bsuch")
    with pytest.raises(UsageError):
        load(store, " ")


def test_a_file_without_tables_is_one_line(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    store = SQLBackend({"connection": f"sqlite:///{tmp_path / 'empty.db'}"}, read_only=True)
    try:
        with pytest.raises(StoreUnreachable, match="no TaskFlow tables"):
            load(store, "x")
    finally:
        store.close()


@pytest.mark.parametrize("name", SAMPLES)
def test_taskflows_own_stores_are_rebuilt(name: str, tmp_path: Path) -> None:
    path = tmp_path / "taskflow.db"
    made = SQLBackend({"connection": f"sqlite:///{path}"})
    made.ensure()
    made.close()
    database = sqlite3.connect(path)
    with database:
        database.execute("DROP TABLE cc_journal")
        for table, rows in sample(name).items():
            for row in rows:
                marks = ", ".join("?" for _ in row)
                database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
    database.close()
    store = SQLBackend({"connection": f"sqlite:///{path}"}, read_only=True)
    try:
        tape = load(store, sample(name)["flowdetails"][0]["uuid"])
    finally:
        store.close()
    assert not tape.complete
    assert sum(map(is_inferred, tape.rows)) == tape.inferred
    assert len(tape.flows[0].atoms) == len(sample(name)["atomdetails"])
    assert json.loads(json.dumps(report.events(tape))) == report.events(tape)
    assert report.text(tape)[0].startswith("Replay  ")
