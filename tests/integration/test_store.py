"""Flows run on our store: the rows are left as TaskFlow's own store leaves them, and the journal tells the way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import engines, retry, states, task
from taskflow import exceptions as excp
from taskflow.patterns import graph_flow, linear_flow, unordered_flow
from taskflow.persistence import models
from taskflow.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend

from conductor_console.clock import utcnow
from conductor_console.persistence import backend, writer
from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.details import is_like, shape_of
from conductor_console.persistence.journal import DETAIL_LIMIT, JournalRow, place_of
from conductor_console.persistence.rows import AtomRow, FlowRows
from conductor_console.persistence.schema import Unstorable


class Make(task.Task):
    default_provides = "volume"

    def execute(self) -> dict[str, str]:
        return {"volume": "v-1"}

    def revert(self, *args: Any, **kwargs: Any) -> str:
        return "undone"


class Report(task.Task):
    def execute(self) -> str:
        self.update_progress(0.5)
        return "told"


class Break(task.Task):
    def execute(self) -> None:
        raise ValueError("boom: upstream said no")

    def revert(self, *args: Any, **kwargs: Any) -> str:
        return "boom-reverted"


class BreakTwice(Break):
    def revert(self, *args: Any, **kwargs: Any) -> str:
        raise RuntimeError("cannot undo")


class FailOnce(task.Task):
    """Fails the first time it is tried with the value it is given."""

    def execute(self, value: int) -> int:
        if value < 2:
            raise ValueError(f"not with {value}")
        return value


def succeeds() -> Any:
    return linear_flow.Flow("f").add(Make("a"), Report("b"), Make("c", provides="other"))


def reverts() -> Any:
    return linear_flow.Flow("f").add(Make("a"), Break("b"), Report("c"))


def revert_fails() -> Any:
    return linear_flow.Flow("f").add(Make("a"), BreakTwice("b"))


def retries() -> Any:
    return linear_flow.Flow("f", retry.ForEach([1, 2, 3], name="each", provides="value")).add(FailOnce("a"))


def exhausts() -> Any:
    return linear_flow.Flow("f", retry.Times(3, name="times3")).add(Make("a"), Break("b"))


def graph() -> Any:
    return graph_flow.Flow("f").add(
        Make("a"), FailOnce("b", inject={"value": 5}), unordered_flow.Flow("u").add(Report("c"))
    )


FLOWS: list[Callable[[], Any]] = [succeeds, reverts, revert_fails, retries, exhausts, graph]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLBackend]:
    with contextlib.closing(SQLBackend({"connection": f"sqlite:///{tmp_path}/store.db"})) as made:
        made.ensure()
        yield made


def saved(backend: Any, name: str = "f") -> Any:
    """A flow detail in a logbook of its own, saved in ``backend``."""
    book = models.LogBook(name)
    detail = models.FlowDetail(name, uuid=f"flow-of-{book.uuid}")
    detail.meta = {"factory": {"name": "tests.flows.f", "args": [], "kwargs": {}}}
    book.add(detail)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    return detail


def run(backend: Any, flow: Any, detail: Any, **kwargs: Any) -> None:
    """Runs the flow to its end; what the flow itself raises is part of it."""
    engine = engines.load(flow, backend=backend, flow_detail=detail, **kwargs)
    with contextlib.suppress(ValueError, RuntimeError, excp.WrappedFailure):
        engine.run()


def left(url: str, flow_uuid: str) -> dict[str, Any]:
    """What a database holds of a flow, read without anybody's backend; times, uuids and line numbers left out."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            flow = connection.execute(
                sa.text("SELECT name, state, meta FROM flowdetails WHERE uuid = :uuid"), {"uuid": flow_uuid}
            ).one()
            atoms = connection.execute(
                sa.text(
                    "SELECT name, state, intention, version, meta, atom_type, failure, results, revert_results,"
                    " revert_failure FROM atomdetails WHERE parent_uuid = :uuid ORDER BY name"
                ),
                {"uuid": flow_uuid},
            ).all()
            return {"flow": tuple(flow), "atoms": [tuple(atom) for atom in atoms]}
    finally:
        engine.dispose()


@pytest.mark.parametrize("make", FLOWS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("bound", "engine"), [(True, "serial"), (False, "serial"), (True, "parallel")], ids=["bound", "unbound", "parallel"]
)
def test_rows_are_left_as_taskflow_leaves_them(
    tmp_path: Path, store: SQLBackend, make: Callable[[], Any], bound: bool, engine: str
) -> None:
    theirs_url = f"sqlite:///{tmp_path}/theirs.db"
    with contextlib.closing(SQLAlchemyBackend({"connection": theirs_url})) as theirs:
        theirs.get_connection().upgrade()
        wanted = saved(theirs)
        run(theirs, make(), wanted, store={"x": 1}, engine=engine)
    detail = saved(store)
    if bound:
        store.bind(detail.uuid, job_uuid="job", conductor="c1", attempt=1)
    run(store, make(), detail, store={"x": 1}, engine=engine)
    store.flush(detail.uuid)
    assert left(f"sqlite:///{tmp_path}/store.db", detail.uuid) == left(theirs_url, wanted.uuid)


def told(rows: list[JournalRow]) -> list[str]:
    return [
        f"{row.atom_name or 'flow'} {row.to_state}"
        if row.from_state != row.to_state
        else f"{row.atom_name} will {row.intention}"
        for row in rows
    ]


def test_the_journal_tells_every_transition_in_order(store: SQLBackend) -> None:
    detail = saved(store)
    store.bind(detail.uuid, job_uuid="the job", conductor="c1@host:1", attempt=3)
    before = utcnow()
    run(store, reverts(), detail)
    rows = store.journal(flow_uuid=detail.uuid)
    assert told(rows) == [
        *("a PENDING", "b PENDING", "c PENDING", "flow RUNNING"),
        *("a RUNNING", "a SUCCESS", "b RUNNING", "b FAILURE"),
        *("a will REVERT", "b will REVERT", "c will REVERT"),
        *("b REVERTING", "b REVERTED", "a REVERTING", "a REVERTED", "flow REVERTED"),
    ]
    assert [row.seq for row in rows] == sorted(row.seq for row in rows)
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    assert all(before <= row.at <= utcnow() for row in rows)
    assert {(row.job_uuid, row.conductor, row.attempt) for row in rows} == {("the job", "c1@host:1", 3)}
    assert {row.kind for row in rows} == {"flow", "task"}
    # Each atom's rows join: one's end is the next one's beginning, and the last is what the row holds.
    for atom in store.flow_rows(detail.uuid).atoms:
        steps = [row for row in rows if row.atom_uuid == atom.uuid]
        assert [row.from_state for row in steps] == [None, *[row.to_state for row in steps[:-1]]]
        assert (steps[-1].to_state, steps[-1].intention) == (atom.state, atom.intention)

    failed = next(row for row in rows if row.to_state == states.FAILURE)
    assert failed.detail["progress"] == 0.0
    assert failed.detail["failure"] == {
        "type": "ValueError",
        "message": "boom: upstream said no",
        "where": failed.detail["failure"]["where"],
    }
    assert failed.detail["failure"]["where"].startswith("integration/test_store.py:")
    assert failed.detail["failure"]["where"].endswith(" in execute")
    made = next(row for row in rows if row.to_state == states.SUCCESS)
    assert made.detail["result"] == {"type": "object", "size": 17, "sha256": made.detail["result"]["sha256"]}
    assert "v-1" not in str(rows)  # results may be secret: their text is nowhere in the journal


def test_the_journal_tells_of_retries(store: SQLBackend) -> None:
    detail = saved(store)
    run(store, retries(), detail)
    rows = store.journal(flow_uuid=detail.uuid)
    steps = [row.to_state for row in rows if row.atom_name == "each" and row.from_state != row.to_state]
    assert steps == ["PENDING", "RUNNING", "SUCCESS", "RETRYING", "RUNNING", "SUCCESS"]
    assert {row.kind for row in rows if row.atom_name == "each"} == {"retry"}


def test_a_flow_is_resumed_from_what_was_read_back(store: SQLBackend) -> None:
    """A retry remembers what it tried, although its process is gone."""

    class StopOnce(FailOnce):
        def execute(self, value: int) -> int:
            if value == 2:
                current["engine"].suspend()
            return super().execute(value)

    current: dict[str, Any] = {}
    flow = linear_flow.Flow("f", retry.ForEach([1, 2, 3], name="each", provides="value")).add(
        StopOnce("a"), Report("b")
    )
    detail = saved(store)
    current["engine"] = engines.load(flow, backend=store, flow_detail=detail)
    current["engine"].run()
    assert store.flow_state(detail.uuid) == states.SUSPENDED

    again = store.get_connection().get_flow_details(detail.uuid)
    assert [provided for provided, _ in next(each for each in again if each.name == "each").results] == [1, 2]
    resumed = engines.load(flow, backend=store, flow_detail=again)
    resumed.run()
    assert store.flow_state(detail.uuid) == states.SUCCESS
    results = {atom.name: atom.results for atom in store.flow_rows(detail.uuid).atoms}
    assert results["a"] == 2
    assert [provided for provided, _ in results["each"]] == [1, 2]


def test_rows_carry_the_time_of_their_writing(store: SQLBackend) -> None:
    began = utcnow()
    detail = saved(store)
    never = store.flow_rows(detail.uuid)
    assert never.updated_at is None
    run(store, succeeds(), detail)
    flow = store.flow_rows(detail.uuid)
    rows: list[FlowRows | AtomRow] = [flow, *flow.atoms]
    for row in rows:
        assert row.created_at is not None
        assert row.updated_at is not None
        assert began <= row.created_at <= row.updated_at <= utcnow()
    assert flow.created_at == never.created_at


def test_only_what_changed_is_written(store: SQLBackend) -> None:
    detail = saved(store)
    store.bind(detail.uuid)
    run(store, succeeds(), detail)
    before = {atom.name: atom.updated_at for atom in store.flow_rows(detail.uuid).atoms}
    last = store.journal(flow_uuid=detail.uuid)[-1].seq
    stored = store.get_connection().get_flow_details(detail.uuid)
    one = next(atom for atom in stored if atom.name == "a")
    one.meta["progress"] = 0.25
    store.get_connection().update_flow_details(stored)
    store.flush(detail.uuid)
    after = {atom.name: atom.updated_at for atom in store.flow_rows(detail.uuid).atoms}
    assert {name for name in before if before[name] != after[name]} == {"a"}
    assert store.journal(after=last) == []  # no state changed


def test_an_atom_is_looked_into_only_when_somebody_gave_it_other_contents(store: SQLBackend) -> None:
    detail = saved(store)
    store.bind(detail.uuid)
    run(store, succeeds(), detail)
    connection, atom = store.get_connection(), next(atom for atom in detail if atom.name == "a")
    connection.update_atom_details(atom)
    shape = shape_of(atom)
    assert is_like(atom, shape)
    for name, other in (("state", states.REVERTED), ("results", {"volume": "v-1"}), ("meta", {"progress": 0.5})):
        before = getattr(atom, name)
        setattr(atom, name, other)
        assert not is_like(atom, shape)
        # In the flow's own write, too.
        connection.update_flow_details(detail)
        stored = next(one for one in connection.get_flow_details(detail.uuid) if one.name == "a")
        assert getattr(stored, name) == other
        setattr(atom, name, before)
        connection.update_flow_details(detail)
        stored = next(one for one in connection.get_flow_details(detail.uuid) if one.name == "a")
        assert getattr(stored, name) == before


def test_rows_of_a_bound_flow_are_read_once(store: SQLBackend) -> None:
    detail = saved(store)
    statements: list[str] = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    try:
        store.bind(detail.uuid)
        run(store, succeeds(), detail)
        store.flush(detail.uuid)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len([one for one in statements if one.startswith("SELECT") and "FROM atomdetails" in one]) == 1
    assert not [one for one in statements if one.startswith("UPDATE atomdetails") and "revert_results" in one]


def test_nobody_waits_for_what_waits_for_others(store: SQLBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not urgent may be written later; whoever waits for it sees to it that it is written now."""
    monkeypatch.setattr(writer, "LINGER", 3600.0)
    detail = saved(store)
    store.bind(detail.uuid, job_uuid="j")
    run(store, succeeds(), detail)
    atom = next(atom for atom in detail if atom.name == "a")
    for number in range(3):
        atom.meta = {"progress": number / 4}
        store.get_connection().update_atom_details(atom)
    stored = store.get_connection().get_flow_details(detail.uuid)
    assert next(one for one in stored if one.name == "a").meta["progress"] == 0.5
    atom.meta = {"progress": 0.75}
    store.get_connection().update_atom_details(atom)
    store.flush(detail.uuid)
    store.append(JournalRow("attempt", utcnow(), job_uuid="j", to_state="consumed"))
    assert store.journal(job_uuid="j")[-1].to_state == "consumed"
    monkeypatch.setattr(backend, "BACKLOG", 0)
    atom.meta = {"progress": 1.0}
    store.get_connection().update_atom_details(atom)


def test_a_dropped_flow_is_written_no_more(store: SQLBackend) -> None:
    detail, other = saved(store), saved(store)
    atom = models.TaskDetail("a", uuid="atom-1")
    detail.add(atom)
    connection = store.get_connection()
    store.bind(detail.uuid, job_uuid="job")
    connection.update_flow_details(detail)
    store.flush(detail.uuid)
    store.drop(detail.uuid)
    count = len(store.journal())

    detail.state = atom.state = states.RUNNING
    for _ in range(2):
        for act in (
            lambda: connection.update_flow_details(detail),
            lambda: connection.update_atom_details(atom),
            lambda: store.flush(detail.uuid),
        ):
            with pytest.raises(excp.StorageFailure, match="no longer ours"):
                act()
        store.unbind(detail.uuid)  # changes nothing
    assert store.flow_state(detail.uuid) is None
    assert len(store.journal()) == count
    other.state = states.RUNNING
    connection.update_flow_details(other)

    store.bind(detail.uuid, job_uuid="job", attempt=2)
    connection.update_flow_details(detail)
    store.flush(detail.uuid)
    assert store.flow_state(detail.uuid) == states.RUNNING
    assert store.flow_rows(detail.uuid).atoms[0].state == states.RUNNING


def test_a_value_that_cannot_be_stored_is_its_callers_error_and_nothing_is_lost(store: SQLBackend) -> None:
    detail = saved(store)
    atom = models.TaskDetail("a", uuid="atom-1")
    detail.add(atom)
    connection = store.get_connection()
    store.bind(detail.uuid)
    connection.update_flow_details(detail)
    store.flush(detail.uuid)
    atom.results = object()
    with pytest.raises(Unstorable, match="the results of atom 'a' cannot be stored as JSON"):
        connection.update_atom_details(atom)
    store.flush(detail.uuid)
    assert store.flow_rows(detail.uuid).atoms[0].results is None
    atom.results = "fine"
    connection.update_atom_details(atom)
    store.flush(detail.uuid)
    assert store.flow_rows(detail.uuid).atoms[0].results == "fine"


def test_a_row_that_is_gone_is_the_error_of_its_flow(store: SQLBackend) -> None:
    detail, other = saved(store), saved(store)
    connection = store.get_connection()
    for each in (detail, other):
        each.state = states.RUNNING
        store.bind(each.uuid)
        connection.update_flow_details(each)
        store.flush(each.uuid)
    (book_uuid,) = {book.uuid for book in connection.get_logbooks() if book.find(detail.uuid) is not None}
    with contextlib.closing(SQLBackend({"connection": store._conf["connection"]})) as elsewhere:
        elsewhere.get_connection().destroy_logbook(book_uuid)
    for each in (detail, other):
        each.state = states.SUCCESS
    with pytest.raises(excp.NotFound):
        connection.update_flow_details(detail)
    with pytest.raises(excp.StorageFailure):
        store.flush(detail.uuid)
    connection.update_flow_details(other)
    store.flush(other.uuid)
    assert [row.to_state for row in store.journal(flow_uuid=detail.uuid)] == [states.RUNNING]


def test_recorded_rows_come_back_whole_and_capped(store: SQLBackend) -> None:
    row = JournalRow(
        kind="attempt",
        at=utcnow(),
        flow_uuid="f",
        job_uuid="j",
        conductor="c1",
        attempt=2,
        detail={"outcome": "failed", "error": {"type": "ValueError", "message": "é"}, "name": "job", "seconds": 1.5},
    )
    seq = store.record(row)
    (found,) = store.journal(job_uuid="j")
    assert found.seq == seq > 0
    assert found == JournalRow(**{name: getattr(row, name) for name in JournalRow.__slots__ if name != "seq"}, seq=seq)

    store.record(JournalRow("operator", utcnow(), job_uuid="k", detail={"why": "x" * 100_000, "n": 1}))
    store.record(JournalRow("operator", utcnow(), job_uuid="k", detail={"l": list(range(50_000)), "n": 1}))
    long, many = store.journal(job_uuid="k")
    assert long.detail["why"].endswith(" more)")
    assert (long.detail["n"], many.detail["n"]) == (1, 1)
    assert "left out" in many.detail["l"]
    for each in (long, many):
        assert each.detail["cut_from"] > 100_000
        assert len(str(each.detail)) < DETAIL_LIMIT
    assert [each.seq for each in store.journal(after=seq, limit=1)] == [seq + 1]


def test_the_audit_trail_keeps_intent_and_outcome(store: SQLBackend) -> None:
    assert store.has_audit
    first = store.audit_begin("op@host", "zk://h/jobs", "bin", "j1", "a job", {"state": "waiting"})
    second = store.audit_begin("op@host", "zk://h/jobs", "delete", "j2", "b", {})
    store.audit_end(first, "done")
    rows = store.audit_rows(10)
    assert [(row.seq, row.action, row.outcome) for row in rows] == [(second, "delete", None), (first, "bin", "done")]
    assert rows[1].before == {"state": "waiting"}
    assert rows[1].at.tzinfo is not None
    with pytest.raises(excp.NotFound):
        store.audit_end(999, "done")


@pytest.mark.parametrize(
    ("traceback_text", "place"),
    [
        ("", None),
        ("nothing like a frame", None),
        ('  File "/srv/app/shop/flows.py", line 41, in save\n    x\n', "shop/flows.py:41 in save"),
        (
            '  File "/srv/app/shop/flows.py", line 41, in save\n    x\n'
            '  File "/v/lib/python3/site-packages/taskflow/task.py", line 9, in run\n    y\n',
            "shop/flows.py:41 in save",
        ),
        ('  File "/v/lib/python3/site-packages/taskflow/task.py", line 9, in run\n', "taskflow/task.py:9 in run"),
    ],
)
def test_the_place_is_the_innermost_frame_of_the_users(traceback_text: str, place: str | None) -> None:
    assert place_of(traceback_text) == place
