"""Follows one board, and the fleet of this process, on a thread of its own; hands out the newest snapshot at once."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from conductor_console.clock import utcnow
from conductor_console.jobboards.base import BoardEvent, JobEntry, LedgerBoard
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.observatory import words
from conductor_console.observatory.build import Builder
from conductor_console.observatory.removals import Removals
from conductor_console.observatory.snapshot import EventView, Snapshot
from conductor_console.observatory.steps import Steps
from conductor_console.observatory.stored import StoredFlows
from conductor_console.observatory.views import Limits
from conductor_console.observatory.watcher import Watcher
from conductor_console.text import visible

if TYPE_CHECKING:
    from conductor_console.conductors.crews import AnyFleet
    from conductor_console.conductors.member import FleetEvent

LOG = logging.getLogger(__name__)

EVENTS: Final = 500
#: So many lines of one claim are looked through for one that tells the same.
TOLD: Final = 5
#: Seconds between two looks when nothing happens: minutes roll over, waits grow.
TICK: Final = 1.0
#: Least seconds between two snapshots, on a small board and on a big one.
PAUSE_SMALL: Final = 0.02
PAUSE_BIG: Final = 0.1
BIG: Final = 2000


class Observatory:
    """The live model of one board. Thread safe; nothing but :meth:`start` and :meth:`stop` waits for anything."""

    def __init__(
        self,
        board: LedgerBoard,
        *,
        title: str,
        store: Any = None,
        fleet: AnyFleet | None = None,
        policy: AnyPolicy | None = None,
        read_only: bool = False,
        suspect_after: int = 2,
        cycling_after: int = 3,
    ) -> None:
        """
        :param board: connected, or about to be.
        :param title: how the header names the board.
        :param store: tells how the flows of consumed jobs ended; not needed.
        :param policy: what the conductors here do with a failing job; None where there are none.
        """
        self._board = board
        self._fleet = fleet
        limits = Limits(suspect_after, cycling_after, policy=policy)
        self._builder = Builder(title=title, limits=limits, read_only=read_only)
        self._inbox: deque[tuple[datetime, BoardEvent | FleetEvent | EventView]] = deque()
        self._events: deque[EventView] = deque(maxlen=EVENTS)
        self._events_shown: Sequence[EventView] = ()
        self._told: dict[str, list[EventView]] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._removals = Removals(store, self._wake.set)
        self._watcher = Watcher(board, store)
        self._steps = Steps(store)
        self._flows = StoredFlows(store)
        self._endings: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._took = 0.0
        self._ailing = ""
        self._snapshot = Snapshot(
            version=0,
            taken_at=utcnow(),
            board=title,
            connection=board.listing().connection,
            read_only=read_only,
        )

    # -- life ------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begins to follow; on return :meth:`snapshot` shows the board as it is now."""
        if self._thread is not None:
            return
        self._endings.append(self._board.subscribe(self._from_board))
        if self._fleet is not None:
            self._endings.append(self._fleet.subscribe(self._from_fleet))
        self._removals.start()
        self._watcher.start()
        self._look()
        self._thread = threading.Thread(target=self._run, name="observatory", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends following, within ``timeout`` seconds; the last snapshot stays."""
        for end in self._endings:
            end()
        self._endings.clear()
        self._stopping.set()
        self._wake.set()
        self._watcher.stop(timeout)
        self._removals.stop(timeout)
        self._steps.stop(timeout)
        if self._thread is not None:
            self._thread.join(timeout)

    # -- reading ---------------------------------------------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        """The newest picture; its version moved when anything visible changed."""
        return self._snapshot

    def step(self, flow_uuid: str) -> str:
        """Where a flow that runs is (``attach-vip, step 8 of 11``), a second or two old; at once, empty if unknown."""
        return self._steps.of(flow_uuid)

    def traceback(self, entry: JobEntry) -> list[tuple[str, str]]:
        """The failed atoms of a job's flow and their tracebacks, newest first; empty where the store has none.

        Blocks: it is asked of the store. :raises StoreUnreachable: when that does not answer.
        """
        return self._flows.traceback(entry.flow_uuid, entry.book_uuid)

    def note(self, kind: str, text: str, key: str = "") -> None:
        """Adds a line to the events; ``text`` may be of foreign origin."""
        self._take(EventView(utcnow(), kind, visible(text, 500), key))

    # -- following -------------------------------------------------------------------------------------------------
    def _from_board(self, event: BoardEvent) -> None:
        self._take(event)

    def _from_fleet(self, event: FleetEvent) -> None:
        self._take(event)

    def _take(self, event: BoardEvent | FleetEvent | EventView) -> None:
        self._inbox.append((utcnow(), event))
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._patience())
            # Floods collapse: whatever arrives within the pause goes into one snapshot.
            least = PAUSE_SMALL if len(self._snapshot.jobs) < BIG else PAUSE_BIG
            self._stopping.wait(max(least, 2 * self._took))
            self._wake.clear()
            if not self._stopping.is_set():
                self._look()

    def _patience(self) -> float:
        due = [when for when in (self._builder.next_due(), self._removals.next_due()) if when is not None]
        return min(TICK, max(0.0, min(due) - utcnow().timestamp())) if due else TICK

    def _look(self) -> None:
        began = time.monotonic()
        try:
            self._snapshot = self._build()
            self._ailing = ""
        except Exception as error:
            # The screen keeps the last picture; whoever looks at the events learns why it stands still.
            line = f"the view is not up to date: {type(error).__name__}: {visible(error, 200)}"
            if line != self._ailing:
                self._ailing = line
                LOG.exception("a snapshot could not be made")
                self.note("problem", line)
        self._took = time.monotonic() - began

    def _build(self) -> Snapshot:
        arrived = [self._inbox.popleft() for _ in range(len(self._inbox))]
        # Read after the events: it is at least as new as each of them.
        listing = self._board.listing()
        now = utcnow()
        closings = self._builder.closings
        for at, event in arrived:
            if isinstance(event, EventView):
                line: EventView | None = event
            elif isinstance(event, BoardEvent):
                line = words.board_event(event, at, listing, self._builder.binned)
                if event.kind == "released":
                    self._removals.let_go(event.key, at)
                elif event.kind == "removed" and event.entry is not None:
                    self._removals.add(event.entry, at)
            else:
                line = words.fleet_event(event, event.at or at)
                if event.kind == "attempt_closed" and event.job_uuid and event.outcome:
                    closings.from_fleet(event.job_uuid, event.conductor, line.at, event.outcome, event.cause, now)
            if line is not None:
                self._tell(line)
        if arrived:
            self._events_shown = tuple(self._events)
        self._removals.settle(closings, listing, now)
        workers = self._fleet.workers() if self._fleet is not None else ()
        return self._builder.update(
            listing, now=now, workers=workers, events=self._events_shown, counting=self._watcher.needed
        )

    def _tell(self, line: EventView) -> None:
        """Adds a line, unless one of the same job's says it already; what says less than this one goes."""
        if line.key:
            told = self._told.get(line.key, [])
            if words.begins(line):
                told = []
            if any(words.repeats(line, other) for other in told):
                return
            for other in [other for other in told if words.repeats(other, line)]:
                told.remove(other)
                with contextlib.suppress(ValueError):  # it may have been pushed out
                    self._events.remove(other)
            self._told[line.key] = [*told[-TOLD:], line]
        if len(self._events) == EVENTS:
            oldest = self._events.pop()
            if self._told.get(oldest.key, [None])[-1] is oldest:
                del self._told[oldest.key]
        self._events.appendleft(line)
