"""How the jobs that left the board ended, where no conductor of ours tells: anybody may have consumed them.

A removal waits a moment for better news (the bin, our own conductor), then the store is asked for the flow's state, on
a thread of its own, since a store may be slow or away.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from taskflow import states

from conductor_console.jobboards.base import JobEntry, Listing
from conductor_console.observatory.rates import Closings
from conductor_console.observatory.stored import StoredFlows

#: How long better news may take.
PATIENCE: Final = timedelta(seconds=2)
#: So many questions may wait for the store; more are not asked.
QUESTIONS: Final = 1000
_OUTCOMES: Final = {states.SUCCESS: "consumed", states.REVERTED: "failed", states.FAILURE: "failed"}


@dataclass(frozen=True, slots=True)
class Removal:
    """A job that left the board. ``held``: somebody was seen to hold it just before."""

    key: str
    at: datetime
    held: bool
    flow_uuid: str | None
    book_uuid: str | None


class Removals:
    """Fed and asked on the observatory's thread only; answers of the store arrive by ``wake``."""

    def __init__(self, store: Any, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._flows = StoredFlows(store)
        self._waiting: deque[Removal] = deque()
        self._let_go: dict[str, datetime] = {}
        self._questions: queue.Queue[Removal | None] = queue.Queue(QUESTIONS)
        self._answers: deque[tuple[Removal, str | None]] = deque()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._flows:
            self._thread = threading.Thread(target=self._ask, name="observatory-store", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the thread; a question under way is waited for ``timeout`` seconds at most."""
        if self._thread is not None:
            while True:
                try:
                    self._questions.put_nowait(None)
                    break
                except queue.Full:
                    self._questions.get_nowait()
            self._thread.join(timeout)

    def let_go(self, key: str, at: datetime) -> None:
        """A claim ended. What a consumed job loses at once can be seen to go bit by bit: record, claim, job."""
        self._let_go.pop(key, None)
        self._let_go[key] = at

    def add(self, entry: JobEntry, at: datetime) -> None:
        """A job left the board; ``entry`` is as it was just before."""
        let_go = self._let_go.pop(entry.key, None)
        if entry.record is not None:
            held = entry.record.open_attempt is not None
        else:
            held = let_go is not None and at - let_go <= PATIENCE
        held = held or entry.claim is not None
        self._waiting.append(Removal(entry.key, at, held, entry.flow_uuid, entry.book_uuid))

    def next_due(self) -> float | None:
        """When (s since the epoch, local clock) :meth:`settle` will find something."""
        return (self._waiting[0].at + PATIENCE).timestamp() if self._waiting else None

    def settle(self, closings: Closings, listing: Listing, now: datetime) -> None:
        """Counts the removals of which nothing better will be heard."""
        # In the order of time: the oldest are first.
        while self._let_go and now - next(iter(self._let_go.values())) > PATIENCE:
            del self._let_go[next(iter(self._let_go))]
        while self._waiting and self._waiting[0].at + PATIENCE <= now:
            removal = self._waiting.popleft()
            if removal.key in listing.jobs or removal.key in listing.binned:
                continue
            if closings.ended(removal.key, removal.at):
                continue
            if not self._flows or self._questions.full():
                self._answers.append((removal, "consumed" if removal.held else None))
            else:
                self._questions.put_nowait(removal)
        while self._answers:
            removal, outcome = self._answers.popleft()
            if outcome is not None and not closings.ended(removal.key, removal.at):
                closings.from_removal(removal.key, removal.at, outcome, now)

    def _ask(self) -> None:
        while (removal := self._questions.get()) is not None:
            self._answers.append((removal, self._outcome(removal)))
            self._wake()

    def _outcome(self, removal: Removal) -> str | None:
        """None where the job was not consumed, as far as one can tell: an operator deleted it."""
        state = self._flows.state(removal.flow_uuid, removal.book_uuid)
        if state is None:
            return "consumed" if removal.held else None
        return _OUTCOMES.get(state)
