"""What the console needs of the rooms below, and nothing more: a test can stand in for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from conductor_console.jobboards.base import BinEntry, JobEntry
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.operations import Result
from conductor_console.replay.tape import Tape


class SnapshotSource(Protocol):
    """The live model: its newest picture, at once."""

    def snapshot(self) -> Snapshot: ...


class Hand(Protocol):
    """What an operator may do. Every call blocks, and is made on a thread of its own."""

    @property
    def can_undo(self) -> str: ...
    def bin(self, targets: Sequence[JobEntry], why: str = ...) -> list[Result]: ...
    def delete(self, targets: Sequence[JobEntry | BinEntry]) -> list[Result]: ...
    def restore(self, targets: Sequence[BinEntry]) -> list[Result]: ...
    def retry(self, targets: Sequence[JobEntry]) -> list[Result]: ...
    def undo(self) -> list[Result]: ...


class WorkerView(Protocol):
    """One conductor of this process."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def jobs(self) -> tuple[str, ...]: ...


class Crew(Protocol):
    """The conductors of this process. ``scale`` and ``stop`` block, and are called on a thread of their own."""

    @property
    def size(self) -> int: ...
    def workers(self) -> Sequence[WorkerView]: ...
    def scale(self, count: int) -> None: ...
    def pause(self, name: str | None = None) -> None: ...
    def resume(self, name: str | None = None) -> None: ...
    def stop(self, timeout: float) -> list[str]: ...


OpenReplay = Callable[[str], Tape]
