"""The circuit breaker of a board in the hand of one of those who decide over it: a conductor, a guard, a console.

All of them see the same attempts closed on the board and the same state there, and come to the same result by the same
rule (``breaker.py``); who is first writes it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from taskflow import exceptions as excp

from conductor_console.clock import utcnow
from conductor_console.errors import ConsoleError
from conductor_console.jobboards.attempts import Cause, Outcome
from conductor_console.jobboards.base import BoardEvent, Connection, JobEntry, LedgerBoard
from conductor_console.jobboards.breaker import RULE, Breaker, Kind, Rule, Trend, blame, closed, opened, stepped
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Somebody else may write first: it is looked at anew so often.
_TRIES: Final = 3
#: Seconds after which time alone may have changed the verdict.
_STALE: Final = 1.0
#: Those of this process that are shared, by board, rule and store.
_SHARED: WeakValueDictionary[tuple[int, Rule, int], Switch] = WeakValueDictionary()
_SHARING: Final = threading.Lock()
_SHOWING: Final = frozenset({"posted", "claimed", "released", "changed"})
STORE_DOWN: Final = "the store does not answer"


class Switch:
    """Thread safe. It only listens until :meth:`decide` or :meth:`probe` is called, which may write to the board.

    :param who: gives who decides, for those who read the state.
    :param store: whose state :meth:`probe` asks for; not used otherwise.
    """

    def __init__(self, board: LedgerBoard, who: Callable[[], str], rule: Rule = RULE, store: Any = None) -> None:
        self.rule = rule
        self._board = board
        #: Kept so that nothing else can take its place in what is shared.
        self._store = store
        self._who = who
        self._trend = Trend(rule)
        #: Held while the trend is touched, never while the board is asked; ``_deciding`` is the other way round.
        self._guard = threading.Lock()
        self._deciding = threading.Lock()
        self._news = False
        self._judged = datetime.min.replace(tzinfo=utcnow().tzinfo)
        self._lost: Connection | None = None
        #: When (monotonic) the store answered last, and whether we said that it does not since.
        self._answered = 0.0
        self._told = False
        self._starting = threading.Lock()
        self._users: set[object] = set()
        self._end_subscription: Callable[[], None] = lambda: None

    # -- what it is --------------------------------------------------------------------------------------------------
    @property
    def state(self) -> Breaker:
        """The state now; at once. While the board does not answer, that is what it is open for, here at least."""
        state, lost, now = self._board.breaker, self._lost, self._now()
        if lost is None or (state.kind == "store" and state.open(now)):
            return state
        why = f"the board does not answer: {lost.detail}"
        return opened(Breaker(cleared=state.cleared), "board", why, now, self._who(), self.rule)

    @property
    def open(self) -> bool:
        """Whether nothing is to be binned by policy now."""
        return self.state.open(self._now())

    @property
    def kind(self) -> Kind | None:
        """What it is open for; None where it is closed."""
        state = self.state
        return state.kind if state.open(self._now()) else None

    def excuses(self, began: datetime | None) -> bool:
        """Whether an attempt that fails now counts as no failure.

        :param began: when it did, by the board's clock; None where that is not known.
        """
        return self.state.excuses(began, self._now())

    @property
    def hold(self) -> float:
        """For how many seconds a job is left alone whose failure is excused now."""
        return self.rule.cause_hold if self.kind == "cause" else self.rule.hold

    def due(self, now: datetime) -> datetime | None:
        """When (local clock) :meth:`decide` is to be called again though nothing happens; None: not by itself."""
        return None if self._board.breaker.kind is None else now + timedelta(seconds=min(1.0, self.rule.window / 4))

    def _now(self) -> datetime:
        return utcnow() + timedelta(seconds=self._board.clock_offset)

    # -- what it hears -------------------------------------------------------------------------------------------------
    def start(self) -> Callable[[], None]:
        """Begins to listen, with what the board's records tell now. Returns how to end that, for whoever started it."""
        user = object()
        with self._starting:
            self._users.add(user)
            if len(self._users) == 1:
                self._end_subscription = self._board.subscribe(self._hear)
                self._connection()

        def end() -> None:
            with self._starting:
                self._users.discard(user)
                if not self._users:
                    self._end_subscription()

        return end

    def ended(self, key: str, number: int, began: datetime | None, outcome: Outcome, error: Cause | None) -> None:
        """An attempt is about to be closed here, as ``outcome`` has it; decides what follows.

        :param key: its job's. :param number: its own among the job's attempts.
        :param began: when it did, by the board's clock, where that is known.
        """
        cause = blame(outcome, error)
        if cause is not None:
            with self._guard:
                self._news = self._trend.add(key, number, self._now(), cause, began=began) or self._news
            self.decide()

    def _hear(self, event: BoardEvent) -> None:
        if event.kind in _SHOWING and event.entry is not None:
            self._record(event.entry)
        elif event.kind == "removed" and event.entry is not None:
            self._removed(event.entry)
        elif event.kind == "connection":
            self._connection()

    def _record(self, entry: JobEntry) -> None:
        if entry.record is not None and entry.record.history:
            with self._guard:
                self._news = self._trend.add_history(entry.key, entry.record.history, self._now()) or self._news

    def _removed(self, entry: JobEntry) -> None:
        """Whoever held it consumed it, or put it into the bin: no attempt that tells of a cause to anybody else."""
        attempt = entry.record.open_attempt if entry.record is not None else None
        if entry.claim is not None or attempt is not None:
            with self._guard:
                if attempt is None:
                    self._trend.add(entry.key, 0, self._now())
                else:
                    self._trend.add(entry.key, attempt.n, self._now(), began=attempt.began)

    def _connection(self) -> None:
        listing = self._board.listing()
        self._lost = listing.connection if listing.connection.state == "lost" else None
        if self._lost is None:
            for entry in listing.jobs.values():
                self._record(entry)

    # -- what it decides -----------------------------------------------------------------------------------------------
    def decide(self) -> None:
        """Opens, holds open or closes the breaker as the closed attempts have it. Asks the board only to write."""
        with self._deciding:
            now = self._now()
            if self._lost is not None:
                return
            state = self._board.breaker
            stale = (now - self._judged).total_seconds() >= min(_STALE, self.rule.window / 8)
            with self._guard:
                news, self._news = self._news, False
                if not news and not stale:
                    return
                self._judged = now
                if stepped(state, self._trend, now, "", self.rule) is state:
                    return

            def step(state: Breaker) -> Breaker:
                with self._guard:
                    return stepped(state, self._trend, now, self._who(), self.rule)

            self._write(step)

    def probe(self, ask: Callable[[], bool], *, failed: bool = True) -> bool:
        """Asks whether the store answers, makes the answer known, and returns it.

        Whoever got no answer says so once, until it got one: where others can work with the store it is closed again,
        and stays so.

        :param failed: whether a call of ours had failed before: without one it is not opened.
        """
        asked = time.monotonic()
        answers = ask()
        with self._deciding:
            state, now = self._board.breaker, self._now()
            if answers:
                self._answered, self._told = time.monotonic(), False
                if state.kind == "store":
                    self._write(lambda state: closed(state, now, self._who()) if state.kind == "store" else state)
            elif asked >= self._answered and (state.kind == "store" or (failed and not self._told)):
                # Another may have asked later and had its answer sooner.
                self._told = True
                self._write(lambda state: opened(state, "store", STORE_DOWN, now, self._who(), self.rule))
        return answers

    def _write(self, change: Callable[[Breaker], Breaker]) -> None:
        try:
            for _ in range(_TRIES):
                state = self._board.breaker
                changed = change(state)
                if changed is state:
                    return
                if self._board.set_breaker(changed, state):
                    self._tell(state, changed)
                    return
        except (ConsoleError, excp.JobFailure) as error:
            LOG.info("the circuit breaker is not written: %s", visible(error, 200))

    def _tell(self, before: Breaker, after: Breaker) -> None:
        if after.kind is None:
            LOG.warning("the circuit breaker is closed")
        elif before.kind != after.kind:
            LOG.warning("the circuit breaker is open: %s; no attempt counts, nothing is binned", after.why)


def shared(board: LedgerBoard, who: Callable[[], str], rule: Rule, store: Any) -> Switch:
    """The one of this board object, rule and store in this process: a fleet's conductors hear and judge together.

    :param who: as for :class:`Switch`; whoever was first speaks for all.
    """
    with _SHARING:
        key = (id(board), rule, id(store))
        switch = _SHARED.get(key)
        if switch is None:
            switch = _SHARED[key] = Switch(board, who, rule, store)
        return switch
