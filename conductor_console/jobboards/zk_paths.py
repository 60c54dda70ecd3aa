"""Where a ZooKeeper board keeps what: derived as TaskFlow derives it, plus the ledger's own folder."""

from __future__ import annotations

import re
from typing import Final

from conductor_console.errors import UsageError
from conductor_console.text import visible

DEFAULT_PATH: Final = "/taskflow/jobs"
JOB_PREFIX: Final = "job"
LOCK_SUFFIX: Final = ".lock"
_NUMBER: Final = re.compile(r"job(\d{10})")


class BoardPaths:
    """The paths of one board.

    TaskFlow (6.5) finds the bin and the entities by replacing the last part's *text* everywhere in the board's path
    (``/jobs/jobs`` gives ``/.trash/.trash``); so do we, to read where it writes.
    The ledger is ours and lies where it should: ``PARENT/.attempts/LAST``.

    :ivar board, trash, entities, conductors, attempts: the folders.
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


def split_children(children: list[str]) -> tuple[set[str], set[str]]:
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


def number_of(node: str) -> int | None:
    """A posting's sequence number; None where its name has none (or has something behind it)."""
    match = _NUMBER.match(node)
    return int(match.group(1)) if match else None
