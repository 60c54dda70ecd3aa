"""The operator's side of a ZooKeeper board: single acts, each shown when it returns, and many at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import postings
from conductor_console.jobboards.base import BinEntry, Changed, JobEntry, Unless
from conductor_console.jobboards.common import PicturedBoard
from conductor_console.jobboards.zk_bulk import BulkActs
from conductor_console.jobboards.zk_mirror import Mirror
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_operator import OperatorActs
from conductor_console.jobboards.zk_requests import talking
from conductor_console.text import visible

#: How long an operator's act waits to see itself in the listing; it is done either way.
_SHOW_SECONDS: Final = 5.0


class OperatedBoard(PicturedBoard):
    """See :class:`~conductor_console.jobboards.base.LedgerBoard` for what each call means."""

    _model: BoardModel
    _mirror: Mirror
    _operator: OperatorActs
    _bulk: BulkActs

    def _may(self, act: str) -> None:
        """:raises Refused: nothing is written through this board."""
        raise NotImplementedError

    pursuable = True

    def binning(self, entry: JobEntry, who: str, why: str, *, unless: Unless = None) -> Callable[[JobEntry], object]:
        with self._operating("bin", entry):
            move = self._operator.move(entry)
        return lambda entry: self._bin(entry, who, why, unless, move)

    def bin(self, entry: JobEntry, who: str, why: str, *, unless: Unless = None) -> str:
        node = self._bin(entry, who, why, unless)
        self._show()
        return self._model.binned_key(node) or (node if entry.key == entry.node else entry.key)

    def _bin(self, entry: JobEntry, *args: Any) -> str:
        with self._operating("bin", entry):
            return self._operator.bin(entry, *args)

    def bin_many(self, entries: Sequence[JobEntry], who: str, why: str) -> Sequence[str | Exception | None]:
        self._may("bin")
        with self._mirror.calm():
            return self._bulk.bin(entries, who, why)

    def delete(self, entry: JobEntry | BinEntry, *, unless: Unless = None) -> None:
        with self._operating("delete", entry):
            if isinstance(entry, BinEntry):
                self._operator.purge(entry, self._model.twin(entry))
            else:
                self._operator.delete(entry, unless)

    def restore(self, entry: BinEntry, *, unless: Unless = None) -> str:
        with self._operating("restore", entry):
            node = self._operator.restore(entry, self._model.twin(entry), unless)
        self._show()
        shown = self._model.entry_at(node)
        return shown.key if shown is not None else postings.key_of(entry.uuid, node)

    def restore_many(self, entries: Sequence[BinEntry], *, unless: Unless = None) -> Sequence[str | Exception | None]:
        self._may("restore")
        with self._mirror.calm():
            return self._bulk.restore(entries, unless)

    def hold(self, entry: JobEntry, until: datetime | None, *, unless: Unless = None) -> None:
        with self._operating("retry" if until is None else "hold", entry):
            self._operator.hold(entry, until, unless)

    def release(self, entry: JobEntry) -> None:
        with self._operating("release", entry):
            self._operator.release(entry)

    @contextlib.contextmanager
    def _operating(self, act: str, entry: JobEntry | BinEntry) -> Iterator[None]:
        self._may(act)
        try:
            with talking(f"{act} job {visible(entry.name, 80)}"):
                yield
        except Changed:
            if isinstance(entry, BinEntry):
                self._show()
            raise

    def _show(self) -> None:
        """What was done is shown before the act returns, if that can be had soon."""
        with contextlib.suppress(BoardUnreachable):
            self._mirror.refresh(_SHOW_SECONDS)
