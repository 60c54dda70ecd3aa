"""An act on many jobs: how far it is, how it is stopped, and several of them under way at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

E = TypeVar("E")
R = TypeVar("R")

#: From so many jobs on, several are under way at a time: a board's answer is waited for by all of them at once.
MANY: Final = 32
AT_A_TIME: Final = 8
#: What is said of a job that an act did not come to.
NOT_REACHED: Final = "stopped before its turn, nothing was done"
#: A name longer than this is not asked to be typed.
_TYPED: Final = 40


def purge_word(names: Sequence[str]) -> str:
    """What a person types before jobs are purged: the one's name, where it can be typed, else how many they are."""
    if len(names) == 1 and names[0].isascii() and names[0].strip() == names[0] and 0 < len(names[0]) <= _TYPED:
        return names[0]
    return f"purge {len(names)}"


class Course:
    """Read, and stopped, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.done = 0
        """Jobs of which it is known what came of them."""
        self.total = 0

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """What is under way is finished, what is done stays done; nothing more is begun."""
        self._stopped.set()

    def begin(self, total: int) -> None:
        """So many jobs are to come, beside those that were."""
        with self._lock:
            self.total += total

    def step(self) -> None:
        """One of them is done with."""
        with self._lock:
            self.done += 1


def each(
    targets: Sequence[E], act: Callable[[E], R], skipped: Callable[[E], R], course: Course | None = None
) -> list[R]:
    """``act`` on each target, in the order of ``targets``; ``skipped`` for those a stopped course does not come to.

    Neither may raise.
    """
    course = course or Course()
    course.begin(len(targets))

    def one(target: E) -> R:
        if course.stopped:
            return skipped(target)
        result = act(target)
        course.step()
        return result

    if len(targets) < MANY:
        return [one(target) for target in targets]
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="operation") as pool:
        return list(pool.map(one, targets))
