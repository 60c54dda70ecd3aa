"""Where a ZooKeeper board keeps what: derived as TaskFlow derives it, plus the ledger's own folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from conductor_console.errors import UsageError
from conductor_console.text import visible

DEFAULT_PATH: Final = "/taskflow/jobs"
JOB_PREFIX: Final = "job"
LOCK_SUFFIX: Final = ".lock"
#: As the server writes it (``%010d``), negative once the sequence wrapped; in the bin maybe with a suffix behind it.
_NUMBERED: Final = re.compile(r"(job(-\d{9,10}|\d{10}))(-[0-9a-f]+)?")
_COUNTER: Final = 1 << 31
#: Servers of these days (3.8 at least) give it again and again, which fails; older ones went on below zero.
LAST_NUMBER: Final = _COUNTER - 1


class BoardPaths:
    """The paths of one board.

    TaskFlow (6.5) finds the bin and the entities by replacing the last part's *text* everywhere in the board's path
    (``/jobs/jobs`` gives ``/.trash/.trash``); so do we, to read where it writes.
    The ledger is ours and lies where it should: ``PARENT/.attempts/LAST``.

    :ivar board, trash, entities, conductors, attempts: the folders. ``breaker``: the circuit breaker's node.
    :raises UsageError: for a path that is not absolute or has no last part.
    """

    def __init__(self, path: str) -> None:
        path = "/" + path.strip("/") if path.startswith("/") else path
        parent, _, base = path.rpartition("/")
        if not path.startswith("/") or not base:
            raise UsageError(f"a ZooKeeper board's path is absolute, such as {DEFAULT_PATH}; not {visible(path)!r}")
        if any(part in ("", ".", "..") for part in path[1:].split("/")) or "\0" in path:
            raise UsageError(f"not a ZooKeeper path: {visible(path)!r}")
        self.board = path
        self.trash = path.replace(base, ".trash")
        self.entities = path.replace(base, ".entities")
        self.conductors = f"{self.entities}/conductor"
        self.attempts = f"{parent}/.attempts/{base}"
        self.breaker = f"{self.attempts}.breaker"
        #: What a sequential posting is created as.
        self.posting = f"{path}/{JOB_PREFIX}"

    def job(self, node: str) -> str:
        return f"{self.board}/{node}"

    def lock(self, node: str) -> str:
        return f"{self.board}/{node}{LOCK_SUFFIX}"

    def binned(self, node: str) -> str:
        return f"{self.trash}/{node}"

    def conductor(self, name: str) -> str:
        return f"{self.conductors}/{name}"

    def record(self, key: str) -> str:
        return f"{self.attempts}/{key}"


class Placed:
    """Where a board is, as TaskFlow's own board tells it."""

    _paths: BoardPaths

    @property
    def path(self) -> str:
        """The path that the postings lie under."""
        return self._paths.board

    @property
    def trash_path(self) -> str:
        """The path of the bin."""
        return self._paths.trash

    @property
    def entity_path(self) -> str:
        """The path that entities register under, by kind."""
        return self._paths.entities


def split_children(children: Iterable[str]) -> tuple[set[str], set[str]]:
    """The board's children as (postings, names of the postings that are locked); TaskFlow's rule for each."""
    jobs: set[str] = set()
    locked: set[str] = set()
    for child in children:
        if not child.startswith(JOB_PREFIX):
            continue
        if child.endswith(LOCK_SUFFIX):
            locked.add(child[: -len(LOCK_SUFFIX)])
        else:
            jobs.add(child)
    return jobs, locked


def old_name(node: str) -> tuple[str, int] | None:
    """The name that a binned posting had on its board, and its number; None where its name has none."""
    match = _NUMBERED.fullmatch(node)
    return (match.group(1), int(match.group(2))) if match else None


def created(stat: Any) -> int:
    """How many children a node ever had, by its stat; that is the number the next sequential child gets.

    The server tells twice that number, in 32 bits: beyond 2**30 children it is told wrapped, and whether it went below
    zero cannot be told at all.
    """
    return int((stat.cversion + stat.numChildren) & 0xFFFFFFFF) // 2


def is_past(number: int, stat: Any) -> bool:
    """Whether the board's sequence is beyond a number: a node made there by hand does not stand in its way."""
    return number < (created(stat) if number >= 0 else created(stat) - _COUNTER)
