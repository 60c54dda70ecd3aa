"""What the sample flows are made of: a step that takes a while, and a sample that says what to post and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from taskflow import task

#: How a sample's job leaves the board: done, consumed with a failed flow, or by way of the bin.
Ending = Literal["done", "failed", "binned"]


class Step(task.Task):
    """Takes ``seconds``, and hands on a short text.

    :param requires: names of the values it is given; it only shows them in its result.
    """

    def __init__(self, name: str, seconds: float, *, provides: str | None = None, requires: Sequence[str] = ()) -> None:
        super().__init__(name, provides=provides, requires=requires)
        self._seconds = seconds

    def execute(self, **given: Any) -> str:
        time.sleep(self._seconds)
        return " ".join([self.name, *(str(value) for value in given.values())])[:80]

    def revert(self, **_: Any) -> None:
        time.sleep(min(self._seconds / 2, 0.3))


@dataclass(frozen=True, slots=True)
class Sample:
    """A kind of job.

    :ivar factory: ``pkg.mod.function``, called with what ``arguments`` draws (JSON).
    :ivar ends: how such a job leaves the board.
    :ivar priority: TaskFlow's name of it.
    """

    factory: str
    name: str
    ends: Ending = "done"
    arguments: Callable[[Random], dict[str, Any]] = lambda _: {}
    priority: str = "NORMAL"
