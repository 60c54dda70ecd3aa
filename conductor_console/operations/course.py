"""An act on many jobs: how far it is, how it is stopped, and several of them under way at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

E = TypeVar("E")

#: From so many jobs on, several are under way at a time: a board's answer is waited for by all of them at once.
MANY: Final = 32
AT_A_TIME: Final = 8
#: So many jobs are told of in the audit trail together; while the board works on those of one chunk, the trail of
#: another is written.
CHUNK: Final = 250
CHUNKS_AT_A_TIME: Final = 4
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


def chunks(targets: Sequence[E]) -> Iterator[Sequence[E]]:
    """The targets of an act on many, parted: a person who stops it, or looks how far it is, need not wait for long."""
    size = max(1, min(CHUNK, len(targets) // 8))
    return (targets[begin : begin + size] for begin in range(0, len(targets), size))
