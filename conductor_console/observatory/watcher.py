"""Counts the attempts of conductors that do not count them themselves: TaskFlow's own.

Whoever watches a board runs one of these; however many do, each claim is counted once (the board sees to that).
The board tells of a claim at once and of its end at once; here it is judged how it ended, on a thread of its own,
since that asks the store.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

from taskflow import states

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable, ConsoleError
from conductor_console.jobboards.attempts import CRASHED, FAILURES, Cause, Outcome, make_cause
from conductor_console.jobboards.base import (
    BinEntry,
    BoardEvent,
    Claim,
    EntityEntry,
    Fate,
    JobEntry,
    LedgerBoard,
)
from conductor_console.jobboards.breaker import RULE, Rule
from conductor_console.jobboards.common import identity
from conductor_console.jobboards.switch import Switch
from conductor_console.observatory.stored import StoredFlows
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: So many jobs that left the board are remembered until the bin shows them.
LEAVING: Final = 1000
_KINDS: Final = frozenset({"posted", "claimed", "released", "removed", "bin", "entities", "connection"})
#: What moves the circuit breaker, besides.
_MOVING: Final = frozenset({"changed", "breaker"})
#: Seconds between two looks at the circuit breaker, while it is open.
LOOK: Final = 1.0
_FAILED: Final = frozenset({states.FAILURE, states.REVERTED})

#: What TaskFlow's conductors do with a job whose flow they cannot make (no such book, flow or factory).
TRASHED: Final = make_cause("Trashed", "the conductor could not make an engine for it, and moved it to the bin")


def outcome_of(fate: Fate, flow_state: str | None) -> Outcome:
    """How an attempt ended whose claim went while its job stayed.

    :param fate: what became of the session that held the claim.
    :param flow_state: how the flow stands in the store; None where that is not known.
    """
    if flow_state == states.SUSPENDED:
        return "suspended"
    if fate == "alive":
        return "abandoned"
    if fate == "died":
        return "crashed"
    if flow_state in _FAILED:
        return "abandoned"
    return "crashed" if fate == "ended" and flow_state is not None else "unknown"


@dataclass(frozen=True, slots=True)
class _Followed:
    """A foreign claim that stands, the job it is on, and the conductor that its session had registered."""

    entry: JobEntry
    claim: Claim
    entity: EntityEntry | None


class Watcher:
    """Fed by the board's events; nothing but :meth:`start` and :meth:`stop` is called from outside.

    It also decides, with the conductors of ours and whoever else watches, when the circuit breaker opens and closes.

    :param store: tells how flows stand and why they failed; not needed.
    :param rule: when the circuit breaker opens.
    :ivar breaker: the circuit breaker.
    """

    def __init__(self, board: LedgerBoard, store: Any = None, rule: Rule = RULE) -> None:
        self._board = board
        self._flows = StoredFlows(store)
        self._inbox: queue.SimpleQueue[BoardEvent | None] = queue.SimpleQueue()
        self._followed: dict[str, _Followed] = {}
        self._leaving: OrderedDict[str, _Followed] = OrderedDict()
        self._unsaid: list[BoardEvent | _Followed] = []
        self.breaker = Switch(board, lambda: identity("watcher"), rule)
        self._end_breaker = lambda: None
        self._end_subscription = lambda: None
        self._thread: threading.Thread | None = None
        self._stopping = False
        #: Whether a claim was ever seen that is not counted by its maker.
        self.needed = False

    def start(self) -> None:
        """Begins to follow the board, with the claims that stand now."""
        if self._thread is not None:
            return
        self._end_breaker = self.breaker.start()
        self._end_subscription = self._board.subscribe(self._hear)
        self._inbox.put(BoardEvent("connection"))
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends it, within ``timeout`` seconds. Claims that stand are followed by whoever watches later."""
        self._end_subscription()
        self._end_breaker()
        self._stopping = True
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    def _hear(self, event: BoardEvent) -> None:
        if event.kind in _KINDS or event.kind in _MOVING:
            self._inbox.put(event)

    # -- on the watcher's thread ---------------------------------------------------------------------------------------
    def _run(self) -> None:
        # The first answers of a store take long: asked before there is anything to tell, not when conductors go on.
        if self._flows:
            self._flows.state("", None)
            self._flows.cause("", None, utcnow())
        while not self._stopping:
            try:
                event = self._inbox.get(timeout=LOOK if self.breaker.state.kind is not None else None)
            except queue.Empty:
                self._look_after_the_store()
            else:
                if event is None:
                    return
                if event.kind in _KINDS:
                    self._take(event)
            self.breaker.decide()

    def _look_after_the_store(self) -> None:
        if self._flows and self.breaker.kind == "store":
            self.breaker.probe(self._flows.answers)

    def _take(self, event: BoardEvent | _Followed) -> None:
        try:
            if isinstance(event, _Followed):
                self._ended(event)
            elif event.kind == "connection":
                self._look_at_all()
            elif event.kind in ("claimed", "posted"):
                self._claimed(event)
            elif event.kind == "released":
                self._released(event)
            elif event.kind == "removed":
                self._left(event.key)
            elif event.kind == "entities":
                self._know_registrants()
            else:
                self._binned(event.key)
        except BoardUnreachable:
            # Said again when the connection stands: to count twice is not possible.
            self._unsaid.append(event)
        except ConsoleError as error:
            LOG.info("an attempt was not counted: %s", visible(str(error), 300))
        except Exception:
            # One claim that cannot be told of must not end the counting of all the others.
            LOG.exception("an attempt was not counted")

    def _look_at_all(self) -> None:
        """What was not said while there was no connection; then all that stands, and what nobody saw end."""
        listing = self._board.listing()
        if not listing.complete or listing.connection.state != "live":
            return
        unsaid, self._unsaid = self._unsaid, []
        for event in unsaid:
            self._take(event)
        for entry in listing.jobs.values():
            if entry.claim is not None:
                self._follow(entry, entry.claim)
            self._left_open(entry)
        for binned in listing.binned.values():
            self._left_open(binned)

    def _left_open(self, entry: JobEntry | BinEntry) -> None:
        """An attempt that an earlier watcher noted, and that ended while nobody watched."""
        attempt = entry.record.open_attempt if entry.record is not None else None
        if attempt is None or attempt.claim is None or not attempt.noted:
            return
        if isinstance(entry, JobEntry) and entry.claim is not None and entry.claim.id == attempt.claim:
            return
        claim = Claim(attempt.who, attempt.claim, attempt.began)
        self._close(entry, _Followed(entry, claim, None) if isinstance(entry, JobEntry) else None, claim)

    def _claimed(self, event: BoardEvent) -> None:
        self._leaving.pop(event.key, None)
        if event.entry is not None and event.entry.claim is not None:
            self._follow(event.entry, event.entry.claim)

    def _follow(self, entry: JobEntry, claim: Claim) -> None:
        known = self._followed.get(entry.key)
        if (known is not None and known.claim.id == claim.id) or not self._board.foreign(claim):
            return
        self.needed = True
        self._followed[entry.key] = _Followed(entry, claim, self._board.registrant(claim))
        now = self._board.find(entry.key)
        if now is not None and now.claim is not None and now.claim.id == claim.id:
            # One that is over by now is counted with its end, in one write: the news come faster than they are written.
            self._board.count_claim(entry, claim)

    def _know_registrants(self) -> None:
        """A conductor's first claim may be seen before its registration is."""
        for key, followed in self._followed.items():
            if followed.entity is None:
                self._followed[key] = replace(followed, entity=self._board.registrant(followed.claim))

    def _released(self, event: BoardEvent) -> None:
        followed = self._followed.get(event.key)
        if followed is None:
            return
        still = event.entry.claim if event.entry is not None else None
        if still is not None and still.id == followed.claim.id:
            return
        del self._followed[event.key]
        self._ended(followed)

    def _ended(self, followed: _Followed) -> None:
        key = followed.entry.key
        entry = self._board.find(key)
        if entry is None:
            # Consumed; or binned, which the bin tells in a moment.
            self._leaving[key] = followed
            if len(self._leaving) > LEAVING:
                self._leaving.popitem(last=False)
            self._binned(key)
            return
        self._close(entry, followed, followed.claim)

    def _left(self, key: str) -> None:
        followed = self._followed.pop(key, None)
        if followed is not None:
            self._ended(followed)

    def _binned(self, key: str) -> None:
        entry = self._board.find_binned(key)
        followed = self._leaving.pop(key, None) if entry is not None else None
        if entry is None or followed is None:
            return
        # The bin may be seen before the record that tells who filled it.
        record = self._board.attempts(self._board.make_job(followed.entry))
        if record.binned is None:
            self._board.count_end(entry, followed.claim, "abandoned", TRASHED)
        else:
            # Somebody else binned it, when its claim had just ended by itself.
            self._close(entry, followed, followed.claim)

    def _close(self, entry: JobEntry | BinEntry, followed: _Followed | None, claim: Claim) -> None:
        if _told(entry, claim.id):
            return
        outcome: Outcome = "unknown"
        cause: Cause | None = None
        if followed is not None:
            flow, book = followed.entry.flow_uuid, followed.entry.book_uuid
            outcome = outcome_of(
                self._board.fate(claim, followed.entity),
                self._flows.state(flow, book) if self._flows else None,
            )
            if outcome in FAILURES and self._flows:
                # Where it does not answer, what it would tell of this failure is what the conductor had trouble with.
                self.breaker.probe(self._flows.answers)
            if outcome == "crashed":
                cause = make_cause("ConductorGone", CRASHED)
            elif outcome in FAILURES and self._flows:
                cause = self._flows.cause(flow, book, claim.claimed_at)
            if outcome in FAILURES and self.breaker.excuses(claim.claimed_at):
                outcome = "released"
        self._board.count_end(entry, claim, outcome, cause)


def _told(entry: JobEntry | BinEntry, claim_id: str) -> bool:
    """Whether another watcher told already how this claim ended."""
    history = entry.record.history if entry.record is not None else ()
    return any(attempt.claim == claim_id and attempt.outcome not in (None, "unknown") for attempt in history)
