"""What an operator did, newest last, so that it can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from taskflow.persistence import models

from conductor_console.jobboards.base import JobEntry, LedgerBoard
from conductor_console.operations.audited import Posted
from conductor_console.text import plural, visible

#: How many steps can be undone.
LIMIT: Final = 100
Undoable = Literal["bin", "restore", "delete", "retry", "hold", "release", "purge"]

_LABELS: Final = {
    "bin": "move of {} to the bin",
    "restore": "restore of {}",
    "delete": "deletion of {}",
    "retry": "retry of {}",
    "hold": "hold of {}",
    "release": "release of {}",
    "purge": "purge of {}",
}
#: What is not taken back, and why; nothing else is undone in its place.
FINAL: Final = {
    "release": "a claim that was released is not given back",
    "purge": "what was purged does not come back; jobs post --again posts a new job like it",
}


@dataclass(frozen=True, slots=True)
class Step:
    """An act that was done: the keys of its jobs, as they are called since.

    :ivar seen: the jobs as they were before, where that is needed to undo it: those deleted, those held.
    """

    action: Undoable
    keys: tuple[str, ...]
    seen: tuple[JobEntry, ...] = ()

    @property
    def label(self) -> str:
        return _LABELS[self.action].format(plural(len(self.keys), "job"))


class Steps:
    """Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: list[Step] = []

    @property
    def label(self) -> str:
        """What is taken back next (``move of 3 jobs to the bin``), or empty."""
        with self._lock:
            return self._steps[-1].label if self._steps else ""

    def add(self, action: Undoable, keys: Sequence[str], seen: Sequence[JobEntry] = ()) -> None:
        """Notes what was done; nothing where it was done to no job."""
        if keys:
            with self._lock:
                self._steps = [*self._steps, Step(action, tuple(keys), tuple(seen))][-LIMIT:]

    def pop(self) -> Step | None:
        """The newest, which is forgotten."""
        with self._lock:
            return self._steps.pop() if self._steps else None


def post_again(board: LedgerBoard, entry: JobEntry) -> Posted:
    """Posts a deleted job again, with what its posting told, as a new job. Returns its uuid.

    :raises ConsoleError, JobFailure: and nothing was posted.
    """
    book = models.LogBook(entry.book_name or "", entry.book_uuid) if entry.book_uuid is not None else None
    job = board.post(entry.name, book=book, details=dict(entry.details), priority=entry.priority)
    return Posted(job.uuid)


def lost(entry: JobEntry) -> str:
    """Why a deleted job is not posted again; empty where it can be."""
    if entry.claim is not None:
        return held(entry.claim.owner)
    if not entry.workable:
        return "its posting was none that could be worked on"
    return ""


def held(owner: str) -> str:
    """What speaks against posting a job again that somebody held when it was deleted."""
    return f"{visible(owner, 80)} held it when it was deleted, and may run its flow still"
