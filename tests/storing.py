"""What tests of the store share: a flow saved and moved on, its journal told, and writers that never rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from taskflow import states
from taskflow.persistence import models

from conductor_console.persistence.backend import SQLBackend
from tests.support import eventually

#: States a flow can go to and fro between.
TO_AND_FRO = (states.RUNNING, states.SUSPENDED)


def saved(store: Any, name: str = "f") -> Any:
    """A flow detail with one atom, in a logbook of its own, bound."""
    book = models.LogBook(name)
    detail = models.FlowDetail(name, uuid=f"flow-of-{book.uuid}")
    detail.add(models.TaskDetail("a", uuid=f"atom-of-{book.uuid}"))
    book.add(detail)
    store.get_connection().save_logbook(book)
    store.bind(detail.uuid, job_uuid=f"job-of-{name}")
    return detail


def move(store: Any, detail: Any, state: str) -> None:
    """Moves the flow and its atom to ``state``, in one write."""
    detail.state = state
    for atom in detail:
        atom.state = state
    store.get_connection().update_flow_details(detail)


@dataclass
class Mover:
    """Moves a flow of its own to and fro in a thread, as fast as the store takes it.

    :ivar moves: how many of its writes came back as done.
    """

    store: SQLBackend
    name: str
    moves: int = 0
    error: BaseException | None = None
    detail: Any = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self._stop.is_set():
                move(self.store, self.detail, TO_AND_FRO[self.moves % 2])
                self.moves += 1
        except BaseException as error:  # a test looks at it
            self.error = error

    def check(self) -> None:
        """Every write that came back is there, once; and one more at the most, of which nobody heard."""
        told = [row.to_state for row in self.store.journal(flow_uuid=self.detail.uuid) if row.kind == "flow"]
        assert len(told) in (self.moves, self.moves + (self.error is not None))
        assert told == [TO_AND_FRO[number % 2] for number in range(len(told))], "a write was doubled or lost"
        atoms = [row.to_state for row in self.store.journal(flow_uuid=self.detail.uuid) if row.kind == "task"]
        assert atoms == told
        flow = self.store.flow_rows(self.detail.uuid)
        assert {flow.state, *(atom.state for atom in flow.atoms)} == {told[-1]}


@contextlib.contextmanager
def moving(store: SQLBackend, count: int) -> Iterator[list[Mover]]:
    """So many movers at work; on leaving each finishes the write it is at."""
    movers = [Mover(store, f"f{number}") for number in range(count)]
    for mover in movers:
        mover.detail = saved(store, mover.name)
    threads = [threading.Thread(target=mover.run, name=f"mover-{mover.name}", daemon=True) for mover in movers]
    for thread in threads:
        thread.start()
    try:
        yield movers
    finally:
        for mover in movers:
            mover._stop.set()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a write never came back"


def all_move(movers: list[Mover], times: int = 3) -> None:
    """Waits until each of them has been written so many times more, or has failed."""
    before = [mover.moves for mover in movers]

    def moved() -> bool:
        return all(
            mover.error is not None or mover.moves >= start + times for mover, start in zip(movers, before, strict=True)
        )

    eventually(moved, timeout=90, what="every flow to be written on")
