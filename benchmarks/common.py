"""What benchmarks share: turns taken A B A B in one process, medians, and how they are told."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: One turn of a contender: does its work and returns how long the measured part took, in seconds.
Turn = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Measured:
    """How one contender did in its turns, in seconds."""

    turns: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.turns)


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, the garbage of whoever came before it cleared away first."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(contenders: Mapping[str, Turn], rounds: int) -> dict[str, Measured]:
    """Lets each contender take its turn, ``rounds`` times over, after one turn each that is not counted.

    All see the same server and machine at nearly the same moments, so that their ratio outlasts both.
    """
    for turn in contenders.values():
        turn()
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, turn in contenders.items():
            turns[name].append(turn())
    return {name: Measured(tuple(seconds)) for name, seconds in turns.items()}


@dataclass
class Report:
    """Lines for people as they come, or one JSON document at the end."""

    as_json: bool
    results: list[dict[str, object]] = field(default_factory=list)

    def say(self, line: str) -> None:
        if not self.as_json:
            print(line, flush=True)

    def add(self, result: dict[str, object], line: str) -> None:
        self.results.append(result)
        self.say(line)

    def end(self) -> None:
        if self.as_json:
            print(json.dumps(self.results, indent=2))


def against(measured: Mapping[str, Measured], name: str, other: str) -> float:
    """How many times as long ``name`` takes as ``other``."""
    return measured[name].median / measured[other].median
