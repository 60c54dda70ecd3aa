from __future__ import annotations

import threading

import pytest

from conductor_console.observatory.steps import Steps, step
from tests.support import eventually


@pytest.mark.parametrize(
    ("atoms", "told"),
    [
        ([], ""),
        ([("a", "SUCCESS"), ("b", "PENDING")], ""),
        ([("a", "SUCCESS"), ("b", "RUNNING"), ("c", "PENDING")], "b, step 2 of 3"),
        ([("a", "RUNNING"), ("b", "RUNNING"), ("c", None)], "a and 1 more, step 1 of 3"),
        ([("a", "REVERTED"), ("b", "REVERTING"), ("c", "FAILURE")], "b, reverting"),
        ([("evil\x1b[2J", "RUNNING")], "evil\\x1b[2J, step 1 of 1"),
    ],
)
def test_a_step_in_words(atoms: list[tuple[str, str | None]], told: str) -> None:
    assert step(atoms) == told


class Slow:
    """A store that answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked: list[str] = []

    def flow_steps(self, flow_uuid: str) -> tuple[tuple[str, str | None], ...]:
        self.asked.append(flow_uuid)
        if flow_uuid == "broken":
            raise RuntimeError("no answer")
        self.let.wait(30)
        return ((f"atom of {flow_uuid}", "RUNNING"),)


def test_asking_never_waits_and_tells_of_the_flow_that_is_looked_at() -> None:
    store = Slow()
    steps = Steps(store)
    assert steps.of("f1") == ""
    store.let.set()
    eventually(lambda: steps.of("f1") == "atom of f1, step 1 of 1", what="the step")
    assert steps.of("f2") == ""
    eventually(lambda: steps.of("f2") == "atom of f2, step 1 of 1", what="the other flow's step")
    assert steps.of("broken") == ""
    eventually(lambda: "broken" in store.asked, what="the store to be asked")
    eventually(lambda: steps.of("f1") == "atom of f1, step 1 of 1", what="the step after trouble")
    steps.stop()
    assert steps.of("f1") == ""


def test_without_a_store_nothing_is_known() -> None:
    steps = Steps(None)
    assert steps.of("f1") == ""
    steps.stop()
