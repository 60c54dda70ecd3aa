"""Which factories may be called, and what is told of one that failed. No board, no server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from taskflow import engines
from taskflow import exceptions as excp
from taskflow.persistence.backends import impl_memory
from taskflow.types.failure import Failure

from conductor_console import conductors
from conductor_console.conductors.blocking import BlockingConductor
from conductor_console.conductors.causes import cause_of, import_cause, message_of
from conductor_console.conductors.factories import FactoryRule, Gate, factory_of
from conductor_console.conductors.nonblocking import NonBlockingConductor
from conductor_console.errors import UsageError
from tests import flows


@pytest.fixture
def memory() -> Any:
    backend = impl_memory.MemoryBackend()
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    return backend


class Postbox:
    """Keeps what is posted."""

    def post(self, name: str, book: Any = None, details: Any = None, priority: Any = None) -> Any:
        return SimpleNamespace(uuid=name, name=name, details=details, book_uuid=book.uuid if book else None)


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (None, "os.system", True),
        ([], "shop.flows.buy", False),
        (["shop.flows.*"], "shop.flows.buy", True),
        (["shop.flows.*"], "shop.flowsy.buy", False),
        (["shop.flows.*"], "os.system", False),
        (["shop.flows:buy"], "shop.flows.buy", True),
        (["shop.flows.buy"], "shop.flows:buy", True),
        (["shop.*"], "shop.deep.down.buy", True),
        (["Shop.flows.*"], "shop.flows.buy", False),
        (["a.*", "shop.flows.b??"], "shop.flows.buy", True),
        (["shop.flows.[bc]uy"], "shop.flows.buy", True),
    ],
)
def test_rule(patterns: list[str] | None, name: str, allowed: bool) -> None:
    assert FactoryRule(patterns).allows(name) is allowed


def test_a_single_pattern_is_not_taken_for_its_letters() -> None:
    assert not FactoryRule("*.buy").allows("os.system")
    assert FactoryRule("*.buy").allows("shop.buy")


@pytest.mark.parametrize("patterns", [[""], ["shop.*", "  "]])
def test_an_empty_pattern_is_refused(patterns: list[str]) -> None:
    with pytest.raises(UsageError, match="empty"):
        FactoryRule(patterns)


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        (None, None),
        ({}, None),
        ({"factory": {"name": "a.b"}}, "a.b"),
        ({"factory": {"name": ["a.b"]}}, None),
        ({"factory": "a.b"}, None),
        ([1], None),
    ],
)
def test_factory_of(meta: Any, name: str | None) -> None:
    assert factory_of(SimpleNamespace(meta=meta)) == name


def test_gate_reads_the_factory_by_flow_and_by_book(memory: Any) -> None:
    gate = Gate(FactoryRule(["tests.flows.*"]), memory)
    allowed, _ = flows.post(Postbox(), memory, "fine", name="a")
    by_book, _ = flows.post(Postbox(), memory, "os.system", name="b", details={})
    bare, _ = flows.post(Postbox(), memory, "fine", name="c", book=False, details={})
    gone = SimpleNamespace(uuid="d", details={"flow_uuid": "not-there"}, book_uuid=None)
    assert gate.admits(allowed)
    assert not gate.admits(by_book)
    assert gate.factory(by_book) == "os.system"
    assert gate.admits(bare), "no flow is known, so no code can run"
    assert gate.admits(gone)


def test_gate_tells_once_what_it_passed_over(memory: Any) -> None:
    gate = Gate(FactoryRule([]), memory)
    job, detail = flows.post(Postbox(), memory, "fine")
    assert not gate.admits(job)
    assert gate.refuse(job, "tests.flows.fine")
    assert not gate.refuse(job, "tests.flows.fine")
    assert gate.refused == {job.uuid: "tests.flows.fine"}
    assert not gate.admits_flow(detail)
    gate.forget(job.uuid)
    assert gate.refused == {}


def test_gate_with_an_unreachable_store_does_not_guess() -> None:
    class Down:
        def get_connection(self) -> Any:
            raise excp.StorageFailure("down")

    job = SimpleNamespace(uuid="x", details={"flow_uuid": "f"}, book_uuid="b")
    with pytest.raises(excp.StorageFailure):
        Gate(FactoryRule(["a.*"]), Down()).admits(job)
    assert Gate(FactoryRule(None), Down()).admits(job), "nothing is read where anything is allowed"


def _raised(call: Callable[[], object]) -> BaseException:
    """What it raises, without the frames of this file: a conductor's caller is no part of a cause."""
    try:
        call()
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        return error.with_traceback(trace)
    raise AssertionError("nothing was raised")


def _run(factory: str, memory: Any, path: str) -> BaseException:
    _, detail = flows.post(Postbox(), memory, factory, *([path] if path else []))
    return _raised(lambda: engines.load_from_detail(detail, backend=memory).run())


def test_cause_names_the_users_line(memory: Any, tmp_path: Any) -> None:
    cause = cause_of(_run("storage_failure", memory, str(tmp_path / "x")))
    assert (cause.type, cause.message) == ("StorageFailure", "no room on 10.0.0.7")
    assert cause.where.startswith("tests/flows.py:")
    assert cause.where.endswith(" in execute")


def test_cause_of_a_stored_failure_is_the_same(memory: Any, tmp_path: Any) -> None:
    error = _run("storage_failure", memory, str(tmp_path / "x"))
    stored = Failure.from_dict(Failure.from_exception(error).to_dict())
    assert stored.exception is None
    assert cause_of(stored) == cause_of(error)


def test_cause_of_several_failures_is_the_first() -> None:
    first, second = Failure.from_exception(flows.Broken("one")), Failure.from_exception(flows.Broken("two"))
    inner = excp.WrappedFailure([first, second])
    assert cause_of(excp.WrappedFailure([Failure.from_exception(inner), second])).message == "one"


def test_cause_leaves_the_machinery_out(memory: Any) -> None:
    cause = cause_of(_run("fine", memory, ""))
    assert cause.type == "TypeError"
    assert "missing 1 required positional argument" in cause.message
    assert cause.where == "", "TaskFlow's frames tell the user nothing"


def test_cause_of_an_error_that_cannot_speak() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert message_of(Mute()) == cause_of(Mute()).message == "(its message cannot be shown)"


@pytest.mark.parametrize(
    ("factory", "kind", "words"),
    [
        ("nowhere.at.all", "ModuleNotFoundError", "No module named 'nowhere'"),
        ("tests.flows.missing", "AttributeError", "module 'tests.flows' has no attribute 'missing'"),
    ],
)
def test_import_cause_tells_what_taskflow_hides(memory: Any, factory: str, kind: str, words: str) -> None:
    error = _run(factory, memory, "")
    assert isinstance(error, ImportError)
    cause = import_cause(error, factory)
    assert cause.type == kind
    assert cause.message == f"the factory {factory} cannot be imported: {words}"


def test_fetch_finds_ours_and_taskflows() -> None:
    assert type(conductors.fetch("blocking", "c", Postbox())) is BlockingConductor
    assert type(conductors.fetch("nonblocking", "c", Postbox(), max_simultaneous_jobs=2)) is NonBlockingConductor
    assert type(conductors.fetch("cc-blocking", "c", Postbox())) is BlockingConductor
    with pytest.raises(UsageError, match=r"'nobody' is no kind of conductor; there are .*blocking"):
        conductors.fetch("nobody", "c", Postbox())


@pytest.mark.parametrize(
    "options",
    [{"wait_timeout": "testing"}, {"on_failure": "explode"}, {"max_attempts": 0}, {"max_simultaneous_jobs": "x"}],
)
def test_parameters_without_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says another thing
        conductors.fetch("blocking", "c", Postbox(), **options)
    with pytest.raises(ValueError, match="callable"):
        conductors.fetch("nonblocking", "c", Postbox(), executor_factory="testing")
