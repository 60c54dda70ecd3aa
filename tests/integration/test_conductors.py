"""Each way a job can end, on a SQLite board and store: what the ledger, the journal, the board and listeners hear."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_utils import uuidutils
from sqlalchemy.pool import NullPool
from taskflow import exceptions as excp
from taskflow import states
from taskflow.conductors import backends
from taskflow.persistence import models
from taskflow.persistence.backends import impl_sqlalchemy
from taskflow.storage import Storage

from conductor_console import conductors
from conductor_console.clock import utcnow
from conductor_console.conductors.stores import StorePort
from conductor_console.jobboards.attempts import Policy
from tests import flows
from tests.integration.conducting import Rig, Running, board_at, memory_store, rig
from tests.support import eventually


def factory(key: str, value: Any) -> dict[str, Any]:
    """A flow's meta with something that no factory could be called with."""
    return {"factory": {"name": "tests.flows.fine", key: value}}


TASKFLOW_ORDER = [
    "compilation_start",
    "compilation_end",
    "preparation_start",
    "preparation_end",
    "validation_start",
    "validation_end",
    "running_start",
    "running_end",
]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Rig]:
    with rig({"board": "sqlite", "path": str(tmp_path / "board.db")}, tmp_path) as made:
        yield made


KINDS = pytest.mark.parametrize("kind", ["blocking", "nonblocking"])


@KINDS
def test_a_job_that_goes_well(sqlite: Rig, kind: str) -> None:
    job, detail = sqlite.post("fine", sqlite.effects)
    running = sqlite.start(kind=kind)
    sqlite.gone(job)
    eventually(running.closed, what="the attempt to be told")
    assert sqlite.done() == ["one", "two"]
    assert sqlite.store.flow_state(detail.uuid) == states.SUCCESS
    assert running.events() == [*TASKFLOW_ORDER, "job_consumed", "attempt_closed"]
    closed = running.closed()[0]
    assert (closed["outcome"], closed["error"], closed["flow_uuid"]) == ("consumed", None, detail.uuid)
    assert closed["job"].uuid == job.uuid
    assert closed["conductor"] is running.conductor
    assert closed["seconds"] > 0
    (row,) = sqlite.attempt_rows(job)
    assert (row.attempt, row.conductor, row.flow_uuid) == (1, "c1", detail.uuid)
    assert row.detail["outcome"] == "consumed"
    assert row.detail["name"] == "job"
    rows = sqlite.store.journal(flow_uuid=detail.uuid)
    assert {(each.conductor, each.attempt, each.job_uuid) for each in rows} == {("c1", 1, job.uuid)}
    assert [each.kind for each in rows][-1] == "attempt", "closed in the journal after the flow's last state"


def test_a_task_that_fails_is_consumed_as_taskflow_does(sqlite: Rig) -> None:
    job, detail = sqlite.post("fails", sqlite.effects)
    running = sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == states.REVERTED
    assert sqlite.done() == ["one", "fail", "one-reverted"]
    (row,) = sqlite.attempt_rows(job)
    assert row.detail["outcome"] == "failed"
    assert row.detail["error"]["type"] == "Broken"
    assert row.detail["error"]["message"] == "out of spares"
    assert row.detail["error"]["where"].startswith("tests/flows.py:")
    eventually(running.closed, what="the attempt to be told")
    assert running.events() == [*TASKFLOW_ORDER[:-1], "job_consumed", "attempt_closed"]


@pytest.mark.parametrize(("factory", "state"), [("fails_to_revert", states.FAILURE), ("fails_thrice", states.REVERTED)])
def test_the_first_cause_is_told(sqlite: Rig, factory: str, state: str) -> None:
    job, detail = sqlite.post(factory, sqlite.effects)
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == state
    (row,) = sqlite.attempt_rows(job)
    assert (row.detail["outcome"], row.detail["error"]["message"]) == ("failed", "out of spares")


def test_a_missing_input_is_consumed_as_taskflow_does(sqlite: Rig) -> None:
    job, _ = sqlite.post("wants")
    running = sqlite.start()
    sqlite.gone(job)
    eventually(running.closed, what="the attempt to be told")
    error = running.closed()[0]["error"]
    assert (running.closed()[0]["outcome"], error.type) == ("failed", "MissingDependencies")
    told = "nothing provides wanted: no task that comes before, not the flow's store, not the job's"
    assert error.message == told
    assert running.events() == [*TASKFLOW_ORDER[:5], "job_consumed", "attempt_closed"]


def test_values_come_from_the_flow_and_from_the_job(sqlite: Rig) -> None:
    job, detail = sqlite.post("wants", job_store={"wanted": 7}, flow_store={"wanted": 1, "more": 2})
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == states.SUCCESS
    (atom,) = [atom for atom in sqlite.store.flow_rows(detail.uuid).atoms if atom.name == "want"]
    assert atom.results == 7


@pytest.mark.parametrize("values", [{"wanted": 7}, {}], ids=["some", "none"])
def test_a_flow_whose_conductor_died_while_it_wrote_the_values_is_run(sqlite: Rig, values: dict[str, Any]) -> None:
    """TaskFlow saves the atom that holds them before them, so that a kill can leave it empty."""
    factory = ["wants"] if values else ["fine", sqlite.effects]
    job, detail = sqlite.post(*factory, job_store=values)
    with contextlib.closing(sqlite.store.get_connection()) as connection:
        half = connection.get_flow_details(detail.uuid)
        half.add(models.TaskDetail(Storage.injector_name, uuidutils.generate_uuid()))
        connection.update_flow_details(half)
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == states.SUCCESS
    (kept,) = [atom for atom in sqlite.store.flow_rows(detail.uuid).atoms if atom.name == Storage.injector_name]
    assert (kept.results or {}) == values


def test_failed_flows_can_be_abandoned_and_end_in_the_bin(sqlite: Rig) -> None:
    job, _ = sqlite.post("fails", sqlite.effects)
    sqlite.start(on_failure="abandon", max_attempts=2)
    binned = sqlite.in_bin(job)
    assert binned.why == "failed 2 times in a row"
    assert binned.record is not None
    assert [attempt.outcome for attempt in binned.record.history] == ["failed", "failed"]


def test_failed_flows_can_be_binned_at_once(sqlite: Rig) -> None:
    job, _ = sqlite.post("fails", sqlite.effects)
    running = sqlite.start(on_failure="bin")
    binned = sqlite.in_bin(job)
    assert binned.why == "its flow failed: Broken: out of spares"
    eventually(running.closed, what="the attempt to be told")
    assert running.events()[-2:] == ["job_trashed", "attempt_closed"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [("execution_failure", "worker gone"), ("exits", "enough")],
)
def test_an_internal_failure_is_abandoned_and_held(sqlite: Rig, factory: str, message: str) -> None:
    job, _ = sqlite.post(factory, sqlite.effects)
    running = sqlite.start(policy=Policy(base=100, jitter=0))
    record = sqlite.released(job)
    assert (record.attempts, record.failures) == (1, 1)
    assert record.history[0].outcome == "abandoned"
    assert record.cause.message == message
    assert record.hold_until is not None
    assert 60 < (record.hold_until - utcnow()).total_seconds() < 101
    eventually(running.closed, what="the attempt to be told")
    assert running.events()[-2:] == ["job_abandoned", "attempt_closed"]
    assert sqlite.done() == ["fail"]


def test_failures_are_forgotten_when_it_goes_well_after_all(sqlite: Rig) -> None:
    job, detail = sqlite.post("fails_first", sqlite.effects, 2)
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == states.SUCCESS
    outcomes = [(row.attempt, row.detail["outcome"]) for row in sqlite.attempt_rows(job)]
    assert outcomes == [(1, "abandoned"), (2, "abandoned"), (3, "consumed")]


@pytest.mark.parametrize(
    ("factory", "options", "why"),
    [
        ("nowhere.at.all", {}, "ModuleNotFoundError: the factory nowhere.at.all cannot be imported: No module named"),
        ("factory_raises", {}, "Broken: no such amphora"),
        ("factory_exits", {}, "SystemExit: factory"),
        (
            "factory_returns_nothing",
            {},
            "TypeError: the factory tests.flows.factory_returns_nothing returned null, not a",
        ),
        ("os.getpid", {}, "TypeError: the factory os.getpid returned a number, not a flow"),
        ("fine", {"meta": {"factory": "fine"}}, "ValueError: the flow job names no factory"),
        ("fine", {"meta": factory("args", "x")}, "ValueError: the arguments of the flow's factory are a text, not a"),
        (
            "fine",
            {"meta": factory("kwargs", [1])},
            "ValueError: the keyword arguments of the flow's factory are a list",
        ),
        ("fine", {"details": {"flow_uuid": 7}}, "NotFound: the job's flow_uuid is a number, not a text"),
        (
            "wants",
            {"details": {"store": ["wanted"]}},
            "TypeError: the job's store is a list, not an object of names and values",
        ),
        (
            "wants",
            {"meta": {**factory("args", []), "store": "wanted"}},
            "TypeError: the flow's store is a text, not an object of names and values",
        ),
        ("factory_misses_a_module", {}, "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("fine", {}, "TypeError: fine() missing 1 required positional argument"),
        ("fine", {"book": False}, "NotFound: the job has no logbook"),
        ("fine", {"details": {"flow_uuid": "not-there"}}, "NotFound: the job's logbook has no flow not-there"),
        ("fine", {"meta": {}}, "ValueError: the flow job names no factory"),
    ],
)
def test_what_cannot_be_made_goes_to_the_bin(sqlite: Rig, factory: str, options: dict[str, Any], why: str) -> None:
    job, _ = sqlite.post(factory, **options)
    healthy, _ = sqlite.post("fine", sqlite.effects)
    running = sqlite.start()
    binned = sqlite.in_bin(job)
    assert binned.why is not None
    assert binned.why.startswith(f"no engine can be made: {why}")
    sqlite.gone(healthy)
    assert running.error is None
    assert [attempt.outcome for attempt in binned.record.history] == ["abandoned"] if binned.record else False


def save(sqlite: Rig, *paths: str) -> models.LogBook:
    """A logbook of as many flows."""
    book = models.LogBook("book")
    for path in paths:
        detail = models.FlowDetail("flow", models.uuidutils.generate_uuid())
        detail.meta = {"factory": {"name": "tests.flows.fine", "args": [path]}}
        book.add(detail)
    with contextlib.closing(sqlite.store.get_connection()) as connection:
        connection.save_logbook(book)
    return book


def test_the_only_flow_of_the_book_is_run(sqlite: Rig) -> None:
    job = sqlite.board.post("job", book=save(sqlite, sqlite.effects))
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.done() == ["one", "two"]


def test_of_several_flows_one_has_to_be_named(sqlite: Rig) -> None:
    book = save(sqlite, sqlite.effects, str(sqlite.folder / "other"))
    unnamed = sqlite.board.post("job", book=book)
    empty = sqlite.board.post("job", book=save(sqlite))
    named = sqlite.board.post("job", book=book, details={"flow_uuid": next(iter(book)).uuid})
    sqlite.start()
    sqlite.gone(named)
    assert sqlite.done() == ["one", "two"]
    why = "MultipleChoices: the job's logbook has 2 flows: name one in the job's details, as flow_uuid"
    assert sqlite.in_bin(unnamed).why == f"no engine can be made: {why}"
    assert sqlite.in_bin(empty).why == "no engine can be made: NotFound: the job's logbook has no flow"


def test_values_that_nobody_wants_do_no_harm(sqlite: Rig) -> None:
    job, detail = sqlite.post("fine", sqlite.effects, job_store={"one": 1, "x": None}, flow_store={"y": [2]})
    sqlite.start()
    sqlite.gone(job)
    assert sqlite.store.flow_state(detail.uuid) == states.SUCCESS


def test_two_tasks_of_one_name_are_told(sqlite: Rig) -> None:
    job, _ = sqlite.post("factory_makes_twins")
    running = sqlite.start()
    sqlite.gone(job)
    eventually(running.closed, what="the attempt to be told")
    assert running.closed()[0]["error"].message.startswith("Atoms with duplicate names found: ['twin']")


class Hanging:
    """A factory, or the module that it is in, that does not return before the test is over."""

    def __init__(self, folder: Path, name: str, where: str) -> None:
        self._over = folder / "over"
        wait = [
            "import pathlib, threading",
            f"while not pathlib.Path({str(self._over)!r}).exists():",
            "    threading.Event().wait(0.02)",
        ]
        indented = ["def make():", *(f"    {line}" for line in (wait if where == "call" else ["pass"]))]
        (folder / f"{name}.py").write_text("\n".join([*(wait if where == "import" else []), *indented]))
        self.factory = f"{name}.make"

    def end(self) -> None:
        self._over.touch()
        eventually(
            lambda: not any(thread.name.startswith("conductor-helper-") for thread in threading.enumerate()),
            what="what was left behind to end",
        )


@pytest.fixture(params=["import", "call"])
def hanging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.syspath_prepend(tmp_path)
    made = Hanging(tmp_path, f"hanging_{uuid.uuid4().hex}", request.param)
    yield made
    made.end()


def test_a_factory_that_never_returns_is_binned_and_keeps_no_other_waiting(sqlite: Rig, hanging: Hanging) -> None:
    job, _ = sqlite.post(hanging.factory)
    healthy, _ = sqlite.post("fine", sqlite.effects)
    running = sqlite.start(factory_timeout=0.2)
    binned = sqlite.in_bin(job)
    told = f"no engine can be made: TimeoutError: the factory {hanging.factory} did not return within 0.2 s"
    assert binned.why == told
    sqlite.gone(healthy)
    running.stop()


def test_a_factory_that_never_returns_does_not_hold_up_a_stop(sqlite: Rig, hanging: Hanging) -> None:
    job, _ = sqlite.post(hanging.factory)
    running = sqlite.start()
    eventually(lambda: running.conductor.jobs, what="the job to be taken")
    running.stop()
    record = sqlite.released(job)
    assert [(attempt.outcome, attempt.error) for attempt in record.history] == [("suspended", None)]


def test_an_idle_conductor_makes_no_calls_until_an_event_comes(
    sqlite: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Posted, let go by another, a hold that ends, one of its own that is done: each wakes it, nothing else does."""
    looks: list[int] = []
    real = sqlite.board.candidates

    def candidates(now: Any) -> Any:
        looks.append(1)
        return real(now)

    monkeypatch.setattr(sqlite.board, "candidates", candidates)
    asked: list[int] = []
    monkeypatch.setattr(sqlite.store, "get_connection", _counted(sqlite.store.get_connection, asked))
    running = sqlite.start(kind="nonblocking", max_simultaneous_jobs=1, policy=Policy(base=0.3, jitter=0.0))

    def quiet() -> None:
        eventually(lambda: not running.conductor.jobs, what="it to be idle")
        pause, before = threading.Event(), -1
        while before != len(looks):
            before = len(looks)
            pause.wait(0.2)
        known = (len(looks), len(asked))
        assert not pause.wait(0.7)
        assert (len(looks), len(asked)) == known, "nobody asked anything"

    eventually(lambda: looks, what="its first look")
    quiet()
    job, _ = sqlite.post("fine", sqlite.effects)
    sqlite.gone(job)
    quiet()
    with board_at({"board": "sqlite", "path": str(tmp_path / "board.db")}, sqlite.store) as other:
        running.conductor.pause()
        held, _ = sqlite.post("fine", sqlite.effects)
        found = eventually(lambda: next(iter(other.iterjobs()), None), what="the job to be seen")
        other.claim(found, "other")
        eventually(lambda: sqlite.board.listing().jobs[held.uuid].claim, what="the claim to be seen")
        running.conductor.resume()
        quiet()
        other.abandon(found, "other")
        sqlite.gone(held)
    sick, _ = sqlite.post("fails_first", str(tmp_path / "sick"), 1)
    sqlite.gone(sick)
    gate = tmp_path / "gate"
    first, _ = sqlite.post("gated", str(tmp_path / "gated"), str(gate))
    eventually(lambda: running.conductor.jobs, what="the first to be taken")
    second, _ = sqlite.post("fine", sqlite.effects)
    gate.touch()
    sqlite.gone(first)
    sqlite.gone(second)
    quiet()


def _counted(real: Any, calls: list[int]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(*args, **kwargs)

    return call


def test_what_is_the_surroundings_fault_can_be_told_otherwise(sqlite: Rig) -> None:
    """As with TaskFlow's: a subclass may name other exceptions for which a job is not consumed."""
    running = sqlite.conductor(max_attempts=2)
    running.conductor.NO_CONSUME_EXCEPTIONS = (flows.Broken,)
    running.start()
    job, _ = sqlite.post("fails", sqlite.effects)
    record = sqlite.in_bin(job).record
    assert record is not None
    assert [attempt.outcome for attempt in record.history] == ["abandoned", "abandoned"]
    other, _ = sqlite.post("storage_failure", sqlite.effects)
    sqlite.gone(other)


def test_an_unbroken_run_of_failures_from_elsewhere_is_binned_before_it_is_run(sqlite: Rig) -> None:
    job, _ = sqlite.post("storage_failure", sqlite.effects)
    first = sqlite.start(policy=Policy(max_attempts=9, base=0.05, cap=0.05, jitter=0))
    sqlite.released(job, attempts=3)
    first.stop()
    ran = len(sqlite.done())
    sqlite.start("c2", max_attempts=2)
    binned = sqlite.in_bin(job)
    assert binned.why is not None
    assert binned.why.startswith(f"failed {ran} times in a row: StorageFailure: no room on")
    assert binned.who is not None
    assert binned.who.startswith("c2@")
    assert len(sqlite.done()) == ran


def test_a_finished_flow_is_only_consumed(sqlite: Rig) -> None:
    job, detail = sqlite.post("fine", sqlite.effects)
    sqlite.start()
    sqlite.gone(job)
    # As a conductor leaves it that died between a flow's last state and its job's end.
    again = sqlite.board.post("again", book=_book(sqlite, detail), details={"flow_uuid": detail.uuid})
    sqlite.gone(again)
    (row,) = sqlite.attempt_rows(again)
    assert row.detail["outcome"] == "consumed"
    assert sqlite.done() == ["one", "two"]


def _book(sqlite: Rig, detail: Any) -> Any:
    return models.LogBook("job", sqlite.store.flow_rows(detail.uuid).book_uuid)


def test_stopping_suspends_and_another_resumes(sqlite: Rig) -> None:
    gate = str(sqlite.folder / "gate")
    job, detail = sqlite.post("gated", sqlite.effects, gate)
    first = sqlite.start("c1")
    eventually(lambda: "two-began" in sqlite.done(), what="the job to be at work")
    assert first.conductor.jobs == (job.uuid,)
    first.conductor.stop()
    Path(gate).touch()
    assert first.conductor.wait(30)
    record = sqlite.released(job)
    assert (record.history[0].outcome, record.failures, record.hold_until) == ("suspended", 0, None)
    assert sqlite.store.flow_state(detail.uuid) == states.SUSPENDED
    assert first.events()[-2:] == ["job_abandoned", "attempt_closed"]
    assert first.conductor.jobs == ()
    sqlite.start("c2")
    sqlite.gone(job)
    assert sqlite.done() == ["one", "two-began", "two", "three"]
    assert [(row.conductor, row.detail["outcome"]) for row in sqlite.attempt_rows(job)] == [
        ("c1", "suspended"),
        ("c2", "consumed"),
    ]


def test_pausing_claims_nothing_more(sqlite: Rig) -> None:
    running = sqlite.start()
    first, _ = sqlite.post("fine", sqlite.effects)
    sqlite.gone(first)
    running.conductor.pause()
    assert running.conductor.paused
    second, _ = sqlite.post("fine", sqlite.effects)
    eventually(lambda: second.uuid in sqlite.board.listing().jobs, what="the job to be seen")
    assert not threading.Event().wait(0.3)
    assert sqlite.board.listing().jobs[second.uuid].claim is None
    running.conductor.resume()
    sqlite.gone(second)


def test_factories_that_are_not_allowed_are_passed_over(sqlite: Rig) -> None:
    other, _ = sqlite.post("os.getcwd", name="other")
    mine, _ = sqlite.post("fine", sqlite.effects)
    running = sqlite.start(allow_factories=["tests.flows.*"])
    sqlite.gone(mine)
    eventually(lambda: running.conductor.not_allowed, what="the other to be passed over")
    assert running.conductor.not_allowed == {other.uuid: "os.getcwd"}
    entry = sqlite.board.listing().jobs[other.uuid]
    assert (entry.claim, entry.record) == (None, None)
    assert running.events().count("job_passed_over") == 1
    assert next(details["factory"] for event, details in running.told if event == "job_passed_over") == "os.getcwd"
    sqlite.start("c2")
    assert "the factory os.getcwd returned a text, not a flow" in (sqlite.in_bin(other).why or "")
    eventually(lambda: not running.conductor.not_allowed, what="what is gone to be forgotten")


def test_without_a_known_factory_no_code_is_run(sqlite: Rig) -> None:
    job, _ = sqlite.post("fine", book=False, details={})
    sqlite.start(allow_factories=[])
    assert "the job has no logbook" in (sqlite.in_bin(job).why or "")


@pytest.mark.parametrize("store_is_ours", [True, False])
def test_a_job_that_cannot_be_looked_up_keeps_no_other_waiting(
    sqlite: Rig, tmp_path: Path, store_is_ours: bool
) -> None:
    with board_at({"board": "sqlite", "path": str(tmp_path / "other.db")}, memory_store()) as board:
        made = sqlite if store_is_ours else Rig(board, board._persistence, tmp_path)
        sick, _ = made.post("fine", made.effects, details={"flow_uuid": {"not": "a uuid"}}, priority="VERY_HIGH")
        mine, _ = made.post("fine", made.effects)
        running = made.start(allow_factories=["tests.flows.*"])
        try:
            made.gone(mine)
            assert "no engine can be made" in (made.in_bin(sick).why or "")
            assert made.done() == ["one", "two"]
            assert running.error is None
        finally:
            running.stop()


def test_a_flow_that_cannot_be_read_is_counted_and_keeps_no_other_waiting(sqlite: Rig) -> None:
    sick, detail = sqlite.post("fine", sqlite.effects, priority="VERY_HIGH")
    with sqlite.store._write_connection() as connection, connection.begin():
        damaged = {"meta": "{no JSON", "uuid": detail.uuid}
        connection.execute(sa.text("UPDATE flowdetails SET meta = :meta WHERE uuid = :uuid"), damaged)
    mine, _ = sqlite.post("fine", sqlite.effects)
    running = sqlite.start(allow_factories=["tests.flows.*"], max_attempts=2)
    sqlite.gone(mine)
    assert sqlite.in_bin(sick).why == "failed 2 times in a row"
    assert sqlite.done() == ["one", "two"]
    assert running.error is None


def test_a_store_that_changed_its_mind_is_noticed(sqlite: Rig) -> None:
    """What is run is what was allowed: the flow's meta is looked at again in the very object that is made."""
    job, _ = sqlite.post("os.getcwd")
    running = sqlite.conductor(allow_factories=["tests.flows.*"])
    running.conductor.gate._known[job.uuid] = "tests.flows.fine"
    running.start()
    record = sqlite.released(job)
    assert (record.history[0].outcome, record.failures) == ("released", 0)
    assert record.cause.type == "NotAllowed"
    assert running.conductor.not_allowed == {job.uuid: "os.getcwd"}


def test_dispatches_are_counted(sqlite: Rig) -> None:
    jobs = [sqlite.post("line", sqlite.effects, str(number))[0] for number in range(5)]
    running = sqlite.conductor(kind="nonblocking", max_simultaneous_jobs=2)
    running.conductor.run(max_dispatches=0)
    assert sqlite.done() == []
    running.conductor.run(max_dispatches=3)
    assert len(sqlite.done()) == 3
    assert not running.conductor.dispatching
    assert len(sqlite.board.listing().jobs) == 2
    running.conductor.run(max_dispatches=2)
    assert sorted(sqlite.done()) == ["0", "1", "2", "3", "4"]
    assert len({job.uuid for job in jobs}) == 5


def test_several_jobs_run_at_a_time(sqlite: Rig) -> None:
    gate = str(sqlite.folder / "gate")
    jobs = [sqlite.post("gated", sqlite.effects, gate)[0] for _ in range(4)]
    running = sqlite.start(kind="nonblocking", max_simultaneous_jobs=3)
    eventually(lambda: sqlite.done().count("two-began") == 3, what="three jobs to be at work")
    assert len(running.conductor.jobs) == 3
    assert not threading.Event().wait(0.2)
    assert sqlite.done().count("two-began") == 3, "not more than were asked for"
    Path(gate).touch()
    for job in jobs:
        sqlite.gone(job)
    assert sqlite.done().count("three") == 4


def test_an_error_in_a_listener_is_its_own(sqlite: Rig) -> None:
    running = sqlite.conductor()

    def broken(_event: str, _details: Any) -> None:
        raise RuntimeError("a listener's fault")

    running.conductor.notifier.register("job_consumed", broken)
    running.start()
    job, _ = sqlite.post("fine", sqlite.effects)
    sqlite.gone(job)
    eventually(running.closed, what="the attempt to be told all the same")


def test_a_keyboard_interrupt_suspends_and_is_raised(sqlite: Rig) -> None:
    job, _ = sqlite.post("fine", sqlite.effects)
    running = sqlite.conductor()

    def interrupt(*_args: Any) -> list[Any]:
        raise KeyboardInterrupt

    running.conductor._listeners_from_job = interrupt
    with pytest.raises(KeyboardInterrupt):
        running.conductor.run()
    assert not running.conductor.dispatching
    record = sqlite.released(job)
    assert (record.history[0].outcome, record.failures) == ("suspended", 0)


def test_a_store_without_a_journal_will_do(tmp_path: Path) -> None:
    store = memory_store()
    with board_at({"board": "sqlite", "path": str(tmp_path / "board.db")}, store) as board:
        made = Rig(board, store, tmp_path)
        try:
            fine, detail = made.post("fine", made.effects)
            sick, _ = made.post("storage_failure", made.effects)
            made.start(max_attempts=2)
            made.gone(fine)
            assert made.in_bin(sick).why == "failed 2 times in a row"
            assert flows.flow_state(store, detail.uuid) == states.SUCCESS
        finally:
            made.stop()


def test_a_store_that_does_not_answer_is_no_fault_of_the_job(sqlite: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt is not counted as a failure, and no other job is claimed until the store answers."""
    job, _ = sqlite.post("fine", sqlite.effects)
    down = threading.Event()
    down.set()
    real = sqlite.store.get_connection

    def connection() -> Any:
        if down.is_set():
            raise excp.StorageFailure("connection refused")
        return real()

    monkeypatch.setattr(sqlite.store, "get_connection", connection)
    monkeypatch.setattr(sqlite.store, "answers", lambda: not down.is_set())
    monkeypatch.setattr("conductor_console.conductors.dispatch.STORE_PAUSE", 0.05)
    running = sqlite.start()
    record = sqlite.released(job)
    assert (record.history[0].outcome, record.failures) == ("released", 0)
    assert record.cause.message == "connection refused"
    down.clear()
    sqlite.gone(job)
    assert sqlite.done() == ["one", "two"]
    assert running.error is None


def test_a_store_of_taskflows_that_does_not_answer_is_waited_for(
    sqlite: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its probe raises what the database raises, not a StorageFailure."""
    file, away = tmp_path / "theirs" / "flows.db", tmp_path / "away"
    file.parent.mkdir()
    theirs = impl_sqlalchemy.SQLAlchemyBackend(
        {"connection": f"sqlite:///{file}", "engine_args": {"poolclass": NullPool}}
    )
    with contextlib.closing(theirs), contextlib.closing(theirs.get_connection()) as connection:
        connection.upgrade()
        assert StorePort(theirs).answers()
        job, _ = flows.post(sqlite.board, theirs, "fine", sqlite.effects)
        file.parent.rename(away)
        assert not StorePort(theirs).answers()
        made = conductors.fetch("blocking", "c1", sqlite.board, persistence=theirs, allow_factories=["tests.flows.*"])
        running = Running(made)
        sqlite.running.append(running)
        asked = threading.Event()
        answers = made.store.answers

        def answering() -> bool:
            asked.set()
            return answers()

        monkeypatch.setattr(made.store, "answers", answering)
        running.start()
        assert asked.wait(30)
        away.rename(file.parent)
        made.gate.forget(job.uuid)
        eventually(lambda: running.error or job.uuid not in sqlite.board.listing().jobs, what="the job to be done")
        assert running.error is None


def test_taskflows_own_fetch_loads_ours(sqlite: Rig) -> None:
    made = backends.fetch("cc-nonblocking", "c1", sqlite.board, persistence=sqlite.store, max_simultaneous_jobs=2)
    assert type(made) is type(conductors.fetch("nonblocking", "x", sqlite.board))
