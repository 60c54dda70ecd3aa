"""The one picture the screen reads: immutable, complete, made off the UI thread.

Live view and replay are two sources of it. Counts add up: every job has exactly one ``state`` and one ``health``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from conductor_console.jobboards.attempts import Attempt, Cause
from conductor_console.jobboards.base import BinEntry, Connection, JobEntry
from conductor_console.jobboards.breaker import Breaker

State = Literal["waiting", "claimed", "held", "malformed", "no-access", "binned"]
Health = Literal["ok", "suspect", "cycling"]
#: What the first column shows: the worse of state and health.
Standing = Literal["cycling", "malformed", "no-access", "suspect", "held", "claimed", "waiting", "binned"]
#: Worst first: the default order of the jobs list.
STANDINGS: Final[tuple[Standing, ...]] = (
    "cycling",
    "malformed",
    "no-access",
    "suspect",
    "held",
    "claimed",
    "waiting",
    "binned",
)
ConductorState = Literal["running", "paused", "draining", "stopped", "crashed"]


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the screen shows it; ``entry`` is what an operator's act is conditional on.

    :ivar failures: the last unbroken run of failures; ``limit`` is where the bin waits (None: no policy known).
    :ivar owner_alive: whether the claim's owner is a registered live conductor; None where nothing tells.
    :ivar attempts: newest first, a crashed one told as such even before anyone wrote it down.
    :ivar binned_at: since when it lies in the bin; None on the board, and where nothing tells.
    """

    key: str
    name: str
    state: State
    health: Health
    standing: Standing
    entry: JobEntry
    failures: int = 0
    tries: int = 0
    limit: int | None = None
    priority: str = "NORMAL"
    owner: str | None = None
    owner_alive: bool | None = None
    claimed_at: datetime | None = None
    hold_until: datetime | None = None
    created_at: datetime | None = None
    cause: Cause | None = None
    attempts: tuple[Attempt, ...] = ()
    problem: str | None = None
    binned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConductorView:
    """A conductor: a worker thread of this process (``here``), or one that others registered on the board.

    :ivar jobs: the jobs it holds now. ``note`` is one clean line (why it crashed, what it waits for).
    """

    name: str
    state: ConductorState
    place: str
    here: bool
    jobs: int = 0
    since: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class CauseView:
    """Failures of the last hour that share one fingerprint; ``example`` is the newest. Worst first in a snapshot.

    :ivar count: failures; ``jobs`` are their jobs' keys, newest first, of which some may have left the board.
    :ivar first: when it was first heard of, be that longer ago.
    :ivar conductors: how many of them each conductor had, most first; ``""`` is where nobody told.
    :ivar bars: how many there were in each five minutes, oldest first: seconds since the epoch // 300, count.
    """

    fingerprint: str
    example: Cause
    count: int
    jobs: tuple[str, ...]
    first: datetime
    last: datetime
    conductors: tuple[tuple[str, int], ...] = ()
    bars: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts per minute of the last hour, oldest first (60 numbers each), and the oldest waiting job's age in s."""

    done: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    oldest_wait: float | None = None


@dataclass(frozen=True, slots=True)
class EventView:
    """One line of what happened; ``text`` is clean.

    :ivar subject: whom it happened to (a job's name, a conductor's), where the line begins with it.
    """

    at: datetime
    kind: str
    text: str
    key: str = ""
    subject: str = ""

    @property
    def what(self) -> str:
        """The line without its subject."""
        return self.text.removeprefix(self.subject).lstrip() if self.subject else self.text


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything on the screen at one moment. ``jobs`` is sorted worst first (STANDINGS, failures, age, key).

    :ivar counted_here: attempts of conductors that do not count for themselves are counted in memory alone.
    :ivar unseen: so many claims at most came and went unseen since ``unseen_since``, of conductors that do not count
        for themselves; None of them is part of a job's count.
    :ivar breaker: the circuit breaker where it is open, as it concerns all; None where it is closed.
    """

    version: int
    taken_at: datetime
    board: str
    connection: Connection
    jobs: Sequence[JobView] = ()
    by_key: Mapping[str, JobView] = field(default_factory=dict)
    counts: Mapping[Standing, int] = field(default_factory=dict)
    conductors: Sequence[ConductorView] = ()
    causes: Sequence[CauseView] = ()
    binned: Sequence[BinEntry] = ()
    rates: Rates = Rates()
    events: Sequence[EventView] = ()
    complete: bool = False
    read_only: bool = False
    uncounted: str | None = None
    unseen: int = 0
    unseen_since: datetime | None = None
    counted_here: bool = False
    breaker: Breaker | None = None

    @property
    def total(self) -> int:
        return len(self.jobs)
