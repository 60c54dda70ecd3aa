"""The automatic alleviation: takes jobs that fail again and again off a board whose conductors never would.

It counts what the board's conductors do not count themselves (a :class:`~.watcher.Watcher`), and acts by the policy
for the job's name, through ``operations``, so that all it does is audited. A job is taken in a moment in which nobody
holds it, in one transaction that fails otherwise: what runs is never taken.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from taskflow import exceptions as excp

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable, ConsoleError
from conductor_console.jobboards.attempts import REMOVING, AttemptRecord, Cause
from conductor_console.jobboards.base import BoardEvent, Changed, Gone, JobEntry, LedgerBoard
from conductor_console.jobboards.breaker import RULE, Rule
from conductor_console.jobboards.policies import AnyPolicy, why
from conductor_console.observatory.watcher import Watcher
from conductor_console.operations import Intent, Operations, Result
from conductor_console.text import visible

#: What came of a job: the first four are acts of the policy, the others tell why there was none.
What = Literal["binned", "deleted", "reported", "would", "outrun", "gone", "refused", "left"]
ACTS: Final[frozenset[str]] = frozenset({"binned", "deleted", "reported", "would"})

#: Seconds between two looks at what waits for its moment.
TICK: Final = 1.0
#: Seconds for which a job is pursued after each of its claims: one that cycles is free for a few milliseconds at a
#: time, and by the time that the board's news are here it is claimed again. The request that takes it fails while it
#: is held, so that it may be sent at any time; seconds between two of them.
PURSUIT: Final = 1.0
PACE: Final = 0.002
#: So many are pursued at a time: those that moved last; each by so many requests under way, for so many seconds.
PURSUED: Final = 8
HANDS: Final = 3
BURST: Final = 0.03
#: Of several requests for one job the one that was granted tells; the others found it gone, or held.
_BEST: Final = ("done", "refused", "gone", "changed")
#: Seconds after which an attempt that is open while nobody holds its job is one that a dead process left open: its
#: claim and its record may be seen one after the other.
ORPHANED: Final = 2.0
#: Seconds after which what was refused is tried again.
REFUSED: Final = 60.0
_KINDS: Final = frozenset({"posted", "claimed", "released", "changed", "removed", "bin", "connection", "breaker"})


@dataclass(frozen=True, slots=True)
class Act:
    """What the guard did to a job, or why it did not; ``line`` is clean and says it to a person.

    :ivar failures: the unbroken ones, as they were counted when it was decided.
    """

    what: What
    key: str
    uuid: str | None
    name: str
    failures: int
    cause: Cause | None
    line: str
    at: datetime = field(default_factory=utcnow)


@dataclass(slots=True)
class _Armed:
    """A job that is to leave the board as soon as nobody holds it.

    :ivar until: it is pursued till then (``time.monotonic()``).
    :ivar outrun: how many attempts it had when a conductor was last quicker than we.
    """

    entry: JobEntry
    intent: Intent
    until: float
    outrun: int = -1


class Guard:
    """Watches a board and acts; :meth:`run` works on the caller's thread until :meth:`stop`, or once.

    :param policy: what is done after how many failures; ``hold`` binds conductors of ours alone, here it reports.
    :param store: tells how flows stand and why they failed; not needed.
    :param names: patterns of job names; none: all jobs. No other job is looked at.
    :param dry_run: do nothing, tell what would be done.
    :param rule: when the circuit breaker opens; while it is open nothing is done.
    :param tell: is told of each act; ``remark`` of all else that a person should know, one clean line each.
    """

    def __init__(
        self,
        board: LedgerBoard,
        operations: Operations,
        policy: AnyPolicy,
        *,
        store: Any = None,
        names: Sequence[str] = (),
        dry_run: bool = False,
        rule: Rule = RULE,
        tell: Callable[[Act], None],
        remark: Callable[[str], None],
    ) -> None:
        self._board = board
        self._operations = operations
        self._policy = policy
        self._names = tuple(names)
        self._dry_run = dry_run
        self._tell = tell
        self._remark = remark
        self._watcher = Watcher(board, store, rule)
        self._breaker = self._watcher.breaker
        self._breaker_was = ""
        self._inbox: queue.SimpleQueue[BoardEvent | None] = queue.SimpleQueue()
        self._armed: dict[str, _Armed] = {}
        self._orphans: dict[str, float] = {}
        self._refusals: dict[str, float] = {}
        self._forgiven: set[str] = set()
        #: What was told of a job, so that it is told once.
        self._told: dict[str, str] = {}
        self._hands = futures.ThreadPoolExecutor(HANDS, thread_name_prefix="guard")
        self._live = True
        #: How many acts were done (or told of, where the policy is to report), and how many refused.
        self.acted = 0
        self.refused = 0

    # -- life ----------------------------------------------------------------------------------------------------------
    def stop(self) -> None:
        """Has :meth:`run` end in order, soon. May be called by a signal's handler."""
        self._inbox.put(None)

    def run(self, patience: float | None = None) -> None:
        """Guards the board until :meth:`stop`.

        :param patience: end by itself when all jobs that are over their limit were seen to, at most so many seconds
            after the beginning: one that is claimed may be let go meanwhile.
        """
        end = self._board.subscribe(self._hear)
        deadline = None if patience is None else time.monotonic() + patience
        try:
            self._watcher.start()
            self._breaker_moved()
            self._look_at_all()
            next_tick = time.monotonic() + TICK
            while deadline is None or ((self._armed or self._orphans) and time.monotonic() < deadline):
                pursued = self._pursued()
                try:
                    event = self._inbox.get(timeout=PACE if pursued else TICK)
                except queue.Empty:
                    self._pursue(pursued)
                else:
                    if event is None:
                        break
                    self._take(event)
                if time.monotonic() >= next_tick:
                    self._tick()
                    next_tick = time.monotonic() + TICK
        finally:
            end()
            self._hands.shutdown()
            self._watcher.stop()
            self._leave()

    def _hear(self, event: BoardEvent) -> None:
        if event.kind in _KINDS:
            self._inbox.put(event)

    def _leave(self) -> None:
        """What is claimed still stays where it is; that is an outcome, too."""
        for key in list(self._armed):
            self._settle(key)
        for armed in self._armed.values():
            entry = self._board.find(armed.entry.key) or armed.entry
            owner = visible(entry.claim.owner) if entry.claim is not None else "a conductor"
            line = f"{owner} holds it: left alone"
            armed.intent.drop(f"changed: {line}")
            self._say("left", entry, line)
        self._armed.clear()

    # -- looking -------------------------------------------------------------------------------------------------------
    def _take(self, event: BoardEvent) -> None:
        if event.kind == "connection":
            self._connection()
            self._breaker_moved()
        elif event.kind == "breaker":
            self._breaker_moved()
        elif event.kind == "bin":
            self._settle(event.key)
        elif event.kind == "removed":
            self._orphans.pop(event.key, None)
            self._refusals.pop(event.key, None)
            self._told.pop(event.key, None)
        else:
            self._look(event.key)

    def _connection(self) -> None:
        connection = self._board.listing().connection
        live = connection.state == "live"
        if live != self._live:
            self._live = live
            self._remark("the board is back" if live else f"the board is away: {visible(connection.detail, 200)}")
        if live:
            self._look_at_all()

    def _breaker_moved(self) -> None:
        state = self._breaker.state
        tells = self._breaker.kind in ("store", "cause")
        line = f"the circuit breaker is open: {visible(state.why, 200)}; nothing is binned" if tells else ""
        if line == self._breaker_was:
            return
        self._remark(line or "the circuit breaker is closed")
        self._breaker_was = line
        if self._live:
            self._look_at_all()

    def _look_at_all(self) -> None:
        for key in self._board.listing().jobs:
            self._look(key)
        for key in list(self._armed):
            self._settle(key)

    def _tick(self) -> None:
        self._breaker_moved()
        for key, armed in list(self._armed.items()):
            until = armed.until
            self._look(key)
            # Nothing was heard of it: that is no reason to go on.
            armed.until = until
            self._settle(key)
        now = time.monotonic()
        for key in [key for key, since in self._orphans.items() if now - since >= ORPHANED]:
            del self._orphans[key]
            self._close_orphan(key)
        for key in [key for key, until in self._refusals.items() if now >= until]:
            del self._refusals[key]
            self._look(key)

    def _look(self, key: str) -> None:
        entry = self._board.find(key)
        if entry is None or not self._live:
            return
        if self._names and not any(fnmatchcase(entry.name, pattern) for pattern in self._names):
            return
        policy = self._policy.of(entry.name)
        if not policy.exhausted(entry.record):
            self._note_orphan(entry)
            self._told.pop(key, None)
            self._spare(key)
        elif self._breaker.open:
            self._spare(key, "the circuit breaker is open")
        elif policy.action not in REMOVING:
            self._say("reported", entry)
        elif self._dry_run:
            self._say("would", entry, policy.action)
        elif key not in self._refusals:
            armed = self._armed.get(key) or self._arm("bin" if policy.action == "bin" else "delete", entry)
            if armed is not None:
                armed.until = time.monotonic() + PURSUIT
                if entry.claim is None:
                    self._act(armed, entry)

    def _spare(self, key: str, why: str = "its failures were forgiven") -> None:
        armed = self._armed.pop(key, None)
        if armed is not None:
            armed.intent.drop(f"changed: {why}")

    def _pursued(self) -> list[_Armed]:
        if not self._live or not self._board.pursuable:
            return []
        now = time.monotonic()
        hot = [armed for armed in self._armed.values() if armed.until > now]
        return sorted(hot, key=lambda armed: armed.until, reverse=True)[:PURSUED]

    # -- acting --------------------------------------------------------------------------------------------------------
    def _arm(self, action: Literal["bin", "delete"], entry: JobEntry) -> _Armed | None:
        """Writes the intent down beforehand: there is no time for it when the moment comes."""
        assert entry.record is not None
        policy = self._policy.of(entry.name)

        def forgiven(record: AttemptRecord) -> bool:
            """Restored meanwhile: a listing may show the job before its record."""
            if not policy.exhausted(record) or self._breaker.open:
                self._forgiven.add(entry.key)
            return entry.key in self._forgiven

        self._forgiven.discard(entry.key)
        try:
            intent = self._operations.intend(action, entry, why(entry.record), unless=forgiven)
        except (Gone, Changed, BoardUnreachable):
            return None
        except ConsoleError as error:
            self._refuse(entry, str(error))
            return None
        armed = self._armed[entry.key] = _Armed(entry, intent, time.monotonic())
        return armed

    def _act(self, armed: _Armed, entry: JobEntry) -> None:
        result = _tried(armed.intent, entry)
        if result is not None:
            self._came(armed, entry, result)

    def _pursue(self, pursued: Sequence[_Armed]) -> None:
        """Tries for a moment, one request close on the other: any one of them may meet a job that nobody holds."""
        for armed in pursued:
            entry = self._board.find(armed.entry.key)
            if entry is None:
                continue
            tries = [self._hands.submit(_tried_on, armed.intent, entry, time.monotonic() + BURST) for _ in range(HANDS)]
            results = [result for result in (one.result() for one in tries) if result is not None]
            if results:
                self._came(armed, entry, min(results, key=lambda result: _BEST.index(result.result)))

    def _came(self, armed: _Armed, entry: JobEntry, result: Result) -> None:
        """Makes known what came of an act."""
        if result.result != "done" and entry.key in self._forgiven:
            self._spare(entry.key)
            return
        if result.result == "changed":
            attempts = entry.record.attempts if entry.record is not None else 0
            # One that is seen to be held was not ours to take; many a try may fail for one and the same claim.
            if entry.claim is None and armed.outrun != attempts:
                armed.outrun = attempts
                self._say("outrun", entry, "a conductor claimed it again first")
            return
        del self._armed[entry.key]
        untold = armed.intent.drop(f"{result.result}: {result.why}" if result.why else result.result)
        if result.result == "done":
            self._done(armed.intent, entry, untold)
        elif result.result == "gone":
            self._say("gone", entry, "it left the board first")
        else:
            self._refuse(entry, result.why)

    def _settle(self, key: str) -> None:
        """A job that was to leave the board, and did: by whose hand tells the bin."""
        if key not in self._armed or self._board.find(key) is not None or not self._live:
            return
        armed, binned = self._armed.pop(key), self._board.find_binned(key)
        if binned is not None and binned.who == self._operations.operator:
            armed.intent.drop("done")
            self._done(armed.intent, armed.entry, "")
            return
        line = f"binned by {visible(binned.who or 'a conductor', 80)} first" if binned else "it left the board first"
        armed.intent.drop(f"gone: {line}")
        self._say("gone", armed.entry, line)

    def _done(self, intent: Intent, entry: JobEntry, untold: str) -> None:
        self._say("binned" if intent.action == "bin" else "deleted", entry, untold)

    def _refuse(self, entry: JobEntry, line: str) -> None:
        self._refusals[entry.key] = time.monotonic() + REFUSED
        if self._say("refused", entry, line):
            self.refused += 1

    def _say(self, what: What, entry: JobEntry, line: str = "") -> bool:
        """Tells of an act, or why there is none; what was told of a job before is not told again."""
        if what != "outrun":
            if self._told.get(entry.key) == f"{what} {line}":
                return False
            self._told[entry.key] = f"{what} {line}"
        if what in ACTS:
            self.acted += 1
        if what in ("binned", "deleted", "gone"):
            del self._told[entry.key]
        record = entry.record
        failures, cause = (record.failures, record.cause) if record is not None else (0, None)
        self._tell(Act(what, entry.key, entry.uuid, visible(entry.name), failures, cause, line))
        return True

    # -- attempts that a dead process left open ------------------------------------------------------------------------
    def _note_orphan(self, entry: JobEntry) -> None:
        attempt = entry.record.open_attempt if entry.record is not None else None
        if entry.claim is not None or attempt is None or attempt.noted or self._dry_run:
            self._orphans.pop(entry.key, None)
        else:
            self._orphans.setdefault(entry.key, time.monotonic())

    def _close_orphan(self, key: str) -> None:
        """Counts the crash of a conductor of ours, where none of them is there to do it; the event brings us back."""
        entry = self._board.find(key)
        if entry is None or entry.claim is not None or entry.record is None or entry.record.open_attempt is None:
            return
        try:
            excused = self._breaker.excuses(entry.record.open_attempt.began)
            self._board.settle(self._board.make_job(entry), self._policy.of(entry.name), excused=excused)
        except (excp.JobFailure, excp.NotFound) as error:
            self._remark(f"an attempt at job {visible(entry.name)} is not counted: {visible(error, 200)}")


def _tried(intent: Intent, entry: JobEntry) -> Result | None:
    """What came of one try; None where the board does not answer: it shows that when the connection stands again."""
    try:
        return intent.act(entry)
    except BoardUnreachable:
        return None


def _tried_on(intent: Intent, entry: JobEntry, until: float) -> Result | None:
    while True:
        result = _tried(intent, entry)
        if result is None or result.result != "changed" or time.monotonic() >= until:
            return result
