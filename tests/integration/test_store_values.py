"""What may be stored, and what becomes of the rest: the atom that made it fails, and its flow as any that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_serialization import jsonutils
from taskflow import states
from taskflow.persistence import backends as taskflow_backends
from taskflow.persistence import models
from taskflow.storage import Storage

from conductor_console.persistence.backend import SQLBackend
from conductor_console.persistence.schema import Unstorable
from tests import databases, valuables
from tests.databases import Database
from tests.integration.conducting import Rig, board_at, process, rig
from tests.storing import saved
from tests.support import eventually
from tests.valuables import FAITHFUL, REFUSED, same

Databases = Callable[[str], Database]


@contextlib.contextmanager
def opened(url: str) -> Iterator[SQLBackend]:
    with contextlib.closing(SQLBackend({"connection": url})) as store:
        store.ensure()
        yield store


@pytest.fixture(params=["sqlite", *databases.KINDS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server = request.getfixturevalue("database")(request.param)
    return str(server.url(server.database()))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rig]:
    with rig({"board": "sqlite", "path": str(tmp_path / "board.db")}, tmp_path) as made:
        yield made


def factory(name: str) -> str:
    return f"{valuables.__name__}.{name}"


def failed(here: Rig, name: str, *args: Any, **options: Any) -> tuple[Any, str]:
    """Runs a flow that is to fail: once, undone, its job gone. Returns the cause, and the flow's uuid."""
    running = here.start(**options)
    job, detail = here.post(factory(name), *args)
    here.gone(job)
    eventually(running.closed, what="the attempt to be closed")
    running.stop()
    (closed,) = running.closed()
    assert closed["outcome"] == "failed"
    return closed["error"], detail.uuid


# -- the store ---------------------------------------------------------------------------------------------------------
def test_every_kind_of_value_comes_back_and_taskflow_reads_it_as_its_own(url: str) -> None:
    with opened(url) as store, opened(url) as other:
        detail = saved(store)
        atom = next(iter(detail))
        for column in ("results", "revert_results"):
            # MySQL has less room for what a task returns when it is undone.
            setattr(
                atom, column, {key: value for key, value in FAITHFUL.items() if key != "rows" or column == "results"}
            )
        atom.meta = {"progress": 0.5, "mine": (1, {2})}
        store.get_connection().update_atom_details(atom)
        store.flush(detail.uuid)
        read = other.get_connection().get_atom_details(atom.uuid)
        for name, value in FAITHFUL.items():
            assert same(read.results[name], value), name
            assert name == "rows" or same(read.revert_results[name], value), name
        assert same(read.meta, {"progress": 0.5, "mine": (1, {2})})
        assert other.flow_rows(detail.uuid).atoms[0].meta == {"progress": 0.5, "mine": [1, [2]]}

        # TaskFlow reads what it would have written itself, and what it writes is not taken for what was there before.
        theirs = taskflow_backends.fetch({"connection": store._url.render_as_string(hide_password=False)})
        with contextlib.closing(theirs), contextlib.closing(theirs.get_connection()) as connection:
            found = connection.get_atom_details(atom.uuid)
            for name in FAITHFUL.keys() - {"aware", "times", "set"}:
                assert found.results[name] == jsonutils.loads(jsonutils.dumps(FAITHFUL[name])), name
            connection.update_atom_details(found)
            assert same(other.get_connection().get_atom_details(atom.uuid).results, dict(FAITHFUL))
            found.results = [1, 2]
            connection.update_atom_details(found)
        assert other.get_connection().get_atom_details(atom.uuid).results == [1, 2]


def test_metas_of_flows_and_books_are_kept_as_well(url: str) -> None:
    with opened(url) as store:
        book, detail = models.LogBook("b"), models.FlowDetail("f", "f-1")
        book.meta = detail.meta = {"store": {"pair": (1, 2), "by": {1: "x"}}}
        book.add(detail)
        store.get_connection().save_logbook(book)
        read = store.get_connection().get_logbook(book.uuid)
        assert same(read.meta, book.meta)
        assert same(read.find("f-1").meta, book.meta)
        detail.meta = {"store": object()}
        with pytest.raises(Unstorable, match="the meta of flow 'f' cannot be stored as JSON: it has an object, at"):
            store.get_connection().update_flow_details(detail)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.characters(), max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=10,
)


def test_all_that_is_json_comes_back(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'store.db'}") as store:
        detail = saved(store)
        atom = next(iter(detail))

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(JSON)
        def back(value: Any) -> None:
            atom.results = value
            store.get_connection().update_atom_details(atom)
            assert same(store.get_connection().get_atom_details(atom.uuid).results, value)

        back()


def test_notes_that_make_no_sense_are_told(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'store.db'}") as store:
        detail = saved(store)
        atom = next(iter(detail))
        atom.results = (1,)
        store.get_connection().update_atom_details(atom)
        store.flush(detail.uuid)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE atomdetails SET meta = replace(meta, 'tuple', 'uuid')")
        with pytest.raises(Exception, match=f"what the store notes in the meta of {atom.uuid} makes no sense"):
            store.get_connection().get_atom_details(atom.uuid)


# -- atoms -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", REFUSED)
def test_a_task_whose_result_cannot_be_stored_fails_and_its_flow_is_undone(here: Rig, name: str) -> None:
    cause, flow = failed(here, "makes", name, here.effects)
    assert cause.type == "UnstorableValue"
    assert cause.message == f"the result of task 'make' cannot be stored: {REFUSED[name][1]}"
    assert cause.where.startswith("tests/valuables.py:")
    assert cause.where.endswith("in execute")
    assert here.done() == ["one", "make-reverted True", "one-reverted"]
    assert here.store.flow_state(flow) == states.REVERTED
    told = [row.detail["failure"] for row in here.store.journal(flow_uuid=flow) if "failure" in row.detail]
    assert told == [{"type": "UnstorableValue", "message": cause.message, "where": cause.where}]


@pytest.mark.parametrize("name", ["lock", "rude"])
def test_so_it_does_in_a_parallel_engine(here: Rig, name: str) -> None:
    cause, flow = failed(here, "makes", name, here.effects, engine="parallel")
    assert REFUSED[name][1] in cause.message
    assert here.store.flow_state(flow) == states.REVERTED


def test_a_result_of_reverting_that_cannot_be_stored_is_a_failure_to_revert(here: Rig) -> None:
    cause, flow = failed(here, "reverts_to", "lock")
    assert cause.message == "bad"
    assert here.store.flow_state(flow) == states.FAILURE
    told = here.store.flow_rows(flow).atoms[0].revert_failure
    assert told is not None
    assert told["exception_str"].startswith("the result of reverting of task 'undone' cannot be stored: it has a lock")


def test_what_a_retry_provides_must_be_storable_too(here: Rig) -> None:
    cause, flow = failed(here, "retries_with", "object", here.effects)
    assert cause.message.startswith("the result of retry 'retries' cannot be stored: it has an object")
    assert here.store.flow_state(flow) == states.REVERTED
    assert here.done() == []


def test_an_exception_of_anything_is_a_failure_that_is_stored(here: Rig) -> None:
    cause, flow = failed(here, "raises", 20 * 2**20, False)
    assert (cause.type, cause.message) == ("Wordy", "bad")
    told = here.store.flow_rows(flow).atoms[0].failure
    assert told is not None
    assert told["exc_args"][0] == "bad"
    assert "in execute" in told["traceback_str"]


def test_an_exception_that_cannot_be_shown_is_one_too(here: Rig) -> None:
    cause, flow = failed(here, "raises", 0, True)
    assert (cause.type, cause.message) == ("Broken", "(its message cannot be shown)")
    assert cause.where.startswith("tests/valuables.py:")
    assert here.store.flow_state(flow) == states.REVERTED


def test_an_exception_that_many_came_before_is_stored_at_once(here: Rig) -> None:
    cause, _ = failed(here, "chained")
    assert cause.message == "39"


def test_progress_that_cannot_be_stored_is_left_out_and_told(here: Rig, caplog: pytest.LogCaptureFixture) -> None:
    here.start()
    job, detail = here.post(factory("careless"))
    here.gone(job)
    assert here.store.flow_state(detail.uuid) == states.SUCCESS
    assert "the progress details of atom careless cannot be stored: it has a lock, at ['details']['at']" in caplog.text


def test_values_that_a_flow_is_given_and_cannot_be_stored_are_told(database: Databases, tmp_path: Path) -> None:
    server = database("postgresql")
    with (
        opened(server.url(server.database())) as store,
        board_at({"board": "sqlite", "path": str(tmp_path / "board.db")}, store) as board,
    ):
        here = Rig(board, store, tmp_path)
        job, detail = here.post("fine", here.effects, job_store={"rate": float("nan")})
        here.start()
        told = here.in_bin(job)
        here.stop()
        assert "the values that the flow is given cannot be stored: it has nan" in str(told)
        assert store.flow_state(detail.uuid) is None


def test_a_value_that_a_flow_brings_itself_is_its_fault(here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # TaskFlow takes it for a fault of the store that may pass, and tries again ten seconds long.
    monkeypatch.setattr(Storage._save_atom_detail.retry, "wait", tenacity.wait_none())
    cause, _ = failed(here, "injects", engine_options={"inject_transient": False})
    assert cause.type == "UnstorableValue"
    told = "the meta of atom 'want' cannot be stored as JSON: it has an object, at ['injected']['wanted']"
    assert cause.message == told


# -- each database --------------------------------------------------------------------------------------------------
def test_twenty_megabytes_are_stored_or_told(url: str, tmp_path: Path) -> None:
    with opened(url) as store, board_at({"board": "sqlite", "path": str(tmp_path / "board.db")}, store) as board:
        here = Rig(board, store, tmp_path)
        if url.startswith("mysql"):
            cause, flow = failed(here, "makes_sized", 20 * 2**20, here.effects)
            told = "it takes 20.0 MB, and the database takes 16.0 MB (max_allowed_packet)"
            assert cause.message == f"the result of task 'sized' cannot be stored: {told}"
            assert store.flow_state(flow) == states.REVERTED
            # What is returned by reverting has a column of its own, with less room.
            (atom,) = (atom for atom in store.get_connection().get_flow_details(flow) if atom.name == "sized")
            atom.revert_results = "x" * 70_000
            assert store.refusal(atom) == "it takes 68 kB, and its column takes 64 kB"
            return
        here.start()
        job, detail = here.post(factory("makes_sized"), 20 * 2**20, here.effects)
        here.gone(job)
        here.stop()
        assert store.flow_state(detail.uuid) == states.SUCCESS
        assert here.done() == [str(20 * 2**20)]


def test_what_is_no_number_is_stored_or_told(url: str, tmp_path: Path) -> None:
    with opened(url) as store, board_at({"board": "sqlite", "path": str(tmp_path / "board.db")}, store) as board:
        here = Rig(board, store, tmp_path)
        if url.startswith("postgresql"):
            cause, _ = failed(here, "makes_no_number")
            assert "it has nan, which this database's JSON does not know, at ['rate']" in cause.message
            return
        here.start()
        job, detail = here.post(factory("makes_no_number"))
        here.gone(job)
        here.stop()
        (atom,) = store.get_connection().get_flow_details(detail.uuid)
        assert same(atom.results, {"rate": float("nan")})


def test_a_failure_fits_a_column_that_taskflow_made_small(database: Databases) -> None:
    """By one of MySQL's names TaskFlow makes no more room than 64 kB for results and failures."""
    server = database("mysql")
    name = server.database()
    with opened(server.url(name)) as store:
        detail = saved(store)
        server.execute("ALTER TABLE atomdetails MODIFY failure TEXT, MODIFY results TEXT", name)
    with opened(server.url(name)) as store:
        atom = next(iter(detail))
        with pytest.raises(valuables.Wordy) as caught:
            valuables.Raise(size=10**6).execute()
        atom.failure = models.ft.Failure.from_exception(caught.value)
        store.get_connection().update_atom_details(atom)
        atom.failure, atom.results = None, "x" * 70_000
        assert store.refusal(atom) == "it takes 68 kB, and its column takes 64 kB"


# -- another process -------------------------------------------------------------------------------------------------
def killed_and_resumed(here: Rig, name: str) -> None:
    """Runs a flow in a process that is killed in its midst, and to its end in another."""
    conf = {"board": "sqlite", "path": str(here.folder / "board.db")}
    store_url = f"sqlite:///{here.folder / 'flows.db'}"
    job, detail = here.post(factory(name), here.effects)
    with process(conf, store_url, "first", here.folder) as first:
        eventually(lambda: first.poll() is not None, what="the process to be killed")
    with process(conf, store_url, "second", here.folder):
        here.gone(job)
    assert here.store.flow_state(detail.uuid) == states.SUCCESS


def test_whoever_resumes_gets_values_as_they_were(here: Rig) -> None:
    killed_and_resumed(here, "provides")
    assert valuables.told(here.effects, "kept") == [f"kept {' '.join(FAITHFUL)} and 2"]


def test_the_history_of_a_retry_outlives_its_process(here: Rig) -> None:
    killed_and_resumed(here, "tries")
    assert valuables.told(here.effects, "try") == [f"try {number} n" for number in (0, 1, 2, 2, 3, 3)]
    (*_, before, after) = (line.split(" ", 2) for line in valuables.told(here.effects, "history"))
    assert before[1] != after[1], "told by the process that was killed"
    assert after[2] == " ".join(
        f"({number}, 'n'):{task}=(({number}, 'again'), '<bare>')"
        for number, task in enumerate(("twice", "twice", "once"))
    ).replace("(2, 'again'), '<bare>'", "(2, 'again'), <bare>"), "the last is still at hand as it was raised"
