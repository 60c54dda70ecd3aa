"""What every jobboard of ours is: TaskFlow's ``JobBoard``, and on top of it what a console needs.

* a :class:`Listing`: the whole board as one immutable picture, kept current by the board itself;
* the attempt ledger, opened and closed in the board's own transactions (``attempts.py``);
* an operator's acts, each conditional on what the operator saw (:class:`JobEntry`, :class:`BinEntry`).

Errors of the acts: :class:`Changed`, :class:`Gone`, :class:`Refused`, and :class:`BoardUnreachable`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from taskflow import exceptions as excp
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.errors import ConsoleError
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.board_job import BoardJob as BoardJob
from conductor_console.jobboards.breaker import CLOSED, Breaker, BreakerKept
from conductor_console.jobboards.postings import in_order
from conductor_console.text import visible

#: Best first: our boards hand out VERY_HIGH before HIGH, then by sequence.
PRIORITY_ORDER: Mapping[JobPriority, int] = MappingProxyType(
    {priority: rank for rank, priority in enumerate(JobPriority)}
)

EventKind = Literal["posted", "removed", "claimed", "released", "changed", "bin", "entities", "connection", "breaker"]
ConnectionState = Literal["connecting", "live", "lost", "closed"]
#: How the session that held a claim fares: it lives; it ended and took the claim with it; it ended, at some time; it
#: was never seen to register a conductor.
Fate = Literal["alive", "died", "ended", "unknown"]


class Changed(ConsoleError, excp.JobFailure):
    """The job is no longer as it was seen (claimed, let go, posted anew); nothing was done."""


class Gone(ConsoleError, excp.NotFound):
    """The job is no longer there; nothing was done."""


class Refused(ConsoleError, excp.JobFailure):
    """The board does not let this be done (rights, size, a node with children); nothing was done."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who holds a job. ``id`` is unique to this claim: the lock's czxid in hex, or a SQLite board's number.

    ``problem`` tells why a lock is not an ordinary one (empty, not JSON, not ephemeral); ``owner`` is then the
    best that is known.
    """

    owner: str
    id: str
    claimed_at: datetime
    session: str | None = None
    version: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class JobEntry:
    """One job as a listing saw it. ``key`` is its identity: the uuid, or the node's name where that is not usable.

    ``problem`` is None for a well-formed posting, else why it is malformed; ``access`` is False where the posting
    may not be read. ``size`` is the posting's, in bytes. Times are the board's own clock, in UTC.
    """

    key: str
    node: str
    uuid: str | None
    name: str
    priority: JobPriority
    created_at: datetime
    version: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    book_uuid: str | None = None
    book_name: str | None = None
    size: int = 0
    problem: str | None = None
    access: bool = True
    claim: Claim | None = None
    record: AttemptRecord | None = None
    record_version: int | None = None

    @property
    def flow_uuid(self) -> str | None:
        """The flow the posting names; None where the book's only flow is meant."""
        flow = self.details.get("flow_uuid")
        return flow if isinstance(flow, str) else None

    @property
    def workable(self) -> bool:
        """Whether a conductor can make sense of it at all."""
        return self.access and self.problem is None and self.uuid is not None

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands among those that may be tried: best priority first, then as posted."""
        return (PRIORITY_ORDER[self.priority], in_order(self.node))


@dataclass(frozen=True, slots=True)
class BinEntry:
    """One job in the bin. ``binned_at``, ``who`` and ``why`` are None where TaskFlow put it there."""

    key: str
    node: str
    uuid: str | None
    name: str
    priority: JobPriority
    posting: bytes
    binned_at: datetime | None = None
    who: str | None = None
    why: str | None = None
    version: int = 0
    record: AttemptRecord | None = None
    record_version: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EntityEntry:
    """A live conductor that registered on the board. ``owner`` is what its claims carry: the part before the @."""

    name: str
    host: str
    pid: int | None
    session: str | None = None

    @property
    def owner(self) -> str:
        return self.name.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the connection to the board stands; ``detail`` is one clean line for a person."""

    state: ConnectionState
    since: datetime
    detail: str = ""
    next_try: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The whole board at one moment; a later one has a greater ``version``.

    :ivar taken_at: when this was last known to be true (local clock); it stands still while the connection is lost.
    :ivar complete: False until the first full reading is in.
    :ivar clock_offset: seconds to add to the local clock to get the board's.
    :ivar uncounted: why the ledger is not written (no rights), None where it is.
    :ivar unseen: so many claims at most came and went unseen by this process since ``unseen_since``; they are part
        of no job's count.
    :ivar breaker: the circuit breaker's state; one that may not be written is known to this board object alone.
    """

    version: int
    taken_at: datetime
    connection: Connection
    jobs: Mapping[str, JobEntry] = field(default_factory=dict)
    binned: Mapping[str, BinEntry] = field(default_factory=dict)
    entities: Mapping[str, EntityEntry] = field(default_factory=dict)
    complete: bool = False
    clock_offset: float = 0.0
    uncounted: str | None = None
    unseen: int = 0
    unseen_since: datetime | None = None
    breaker: Breaker = CLOSED


@dataclass(frozen=True, slots=True)
class BoardEvent:
    """Something moved. ``key`` names the job, or is empty for what concerns the whole board.

    ``entry`` is the job as it was just before (removed) or is now (everything else), where known.
    """

    kind: EventKind
    key: str = ""
    entry: JobEntry | None = None


Listener = Callable[[BoardEvent], None]
#: What may forbid an act on a job (or raise ``Changed`` itself) by the record that is about to be changed with it.
Unless = Callable[[AttemptRecord], bool] | None


def forbidden(entry: JobEntry | BinEntry, record: AttemptRecord, unless: Unless) -> None:
    """:raises Changed: when what the record says now forbids the act."""
    if unless is not None and unless(record):
        raise Changed(f"job {visible(entry.name, 80)} changed under you: its failures are others now")


def unclaimed(entry: JobEntry) -> Changed:
    """What a claim cannot be ended for that there is not."""
    return Changed(f"job {visible(entry.name, 80)} has no claim to end: nobody holds it")


class LedgerBoard(BreakerKept, taskflow_base.NotifyingJobBoard, metaclass=abc.ABCMeta):
    """A TaskFlow jobboard that counts attempts, can be watched whole, and takes an operator's acts.

    Thread safe. Nothing is created by connecting; ``ensure`` makes what the board needs.
    TaskFlow's own events (POSTED, REMOVAL) are emitted on ``notifier``; ours by :meth:`subscribe`.
    """

    # -- watching ------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def listing(self) -> Listing:
        """The newest picture; returns at once, also while the connection is lost."""

    @abc.abstractmethod
    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Calls ``listener``, which must return at once, for each event on a thread of the board's; returns its end."""

    @property
    def uncounted(self) -> str | None:
        """Why the ledger is not written, as :attr:`Listing.uncounted` tells."""
        return None

    @property
    def clock_offset(self) -> float:
        """Seconds to add to the local clock to get the board's."""
        return 0.0

    @abc.abstractmethod
    def find(self, key: str) -> JobEntry | None:
        """One job of the newest picture; returns at once."""

    @abc.abstractmethod
    def find_binned(self, key: str) -> BinEntry | None:
        """One job in the bin of the newest picture; returns at once."""

    @abc.abstractmethod
    def refresh(self) -> None:
        """Reads the whole board anew and returns when :meth:`listing` shows it.

        :raises BoardUnreachable: when the board does not answer.
        """

    @abc.abstractmethod
    def make_job(self, entry: JobEntry, book: Any = None) -> BoardJob:
        """TaskFlow's view of an entry."""

    # -- working -------------------------------------------------------------------------------------------------
    @abc.abstractmethod
    def ensure(self) -> None:
        """Makes the board's paths or tables where they are missing (posting and running need them).

        :raises BoardUnreachable: when the board does not answer, or does not let it be made.
        """

    @abc.abstractmethod
    def candidates(self, now: datetime) -> tuple[Sequence[BoardJob], datetime | None]:
        """The jobs that may be tried now, best first, and when the next hold ends (None: no job is held)."""

    @abc.abstractmethod
    def claim(
        self, job: taskflow_base.Job, who: str, *, unless: Callable[[AttemptRecord], bool] | None = None
    ) -> AttemptRecord | None:
        """Takes a job that nobody holds and opens its attempt, in one transaction.

        :param unless: asked of the very record that the claim is about to be written into, an attempt that a dead
            process left open told as crashed: a listing may trail what another conductor wrote a moment ago.
        :returns: the record as it lies on the board now, the attempt begun in it; None where it is not counted.
        :raises UnclaimableJob: when somebody holds it, or ``unless`` said so. :raises NotFound: when it is gone.
        """

    @abc.abstractmethod
    def attempts(self, job: taskflow_base.Job) -> AttemptRecord:
        """The job's record, read from the board; an empty one where nothing was counted yet.

        :raises NotFound: when the job is neither on the board nor in the bin.
        """

    @abc.abstractmethod
    def settle(self, job: taskflow_base.Job, policy: Policy, *, excused: bool = False) -> AttemptRecord:
        """Closes an attempt that a dead process left open, with the hold that follows, and returns the record.

        Writes only where there is such an attempt, and only while nobody holds the job. No failure if ``excused``.
        :raises UnclaimableJob: when somebody holds the job. :raises NotFound: when it is gone.
        """

    @abc.abstractmethod
    def holds(self, job: taskflow_base.Job) -> bool:
        """Whether this board object's claim on the job still stands, as far as is known here; no round trip."""

    @property
    def claim_seconds(self) -> float | None:
        """How long a claim surely outlives the last word from the board; None: for as long as this process lives."""
        return None

    def confirm(self, job: taskflow_base.Job) -> bool:
        """Whether this board object's claim still stands, asked of the board.

        A process that was stopped for longer than :attr:`claim_seconds` may have lost it without knowing yet.

        :raises BoardUnreachable: when the board does not answer.
        """
        return self.holds(job)

    @abc.abstractmethod
    def abandon(
        self,
        job: taskflow_base.Job,
        who: str,
        *,
        outcome: Outcome = "abandoned",
        error: Cause | None = None,
        hold: float = 0.0,
    ) -> None:
        """Lets a job of ours go, closing its attempt in the same transaction.

        :param hold: seconds for which our conductors leave it alone.
        :raises NotFound: when we do not hold it or it is gone. :raises JobFailure: when another holds it.
        """

    @abc.abstractmethod
    def trash(
        self,
        job: taskflow_base.Job,
        who: str,
        *,
        why: str = "",
        outcome: Outcome = "abandoned",
        error: Cause | None = None,
    ) -> None:
        """Moves a job of ours to the bin, closing its attempt with ``outcome`` in the same transaction."""

    # -- counting for others -------------------------------------------------------------------------------------------
    def foreign(self, claim: Claim) -> bool:  # noqa: ARG002
        """Whether it depends on a watcher that this claim is counted: its maker writes no ledger."""
        return False

    def count_claim(self, entry: JobEntry, claim: Claim) -> None:
        """Opens the attempt of a foreign claim, once however many watchers call it; nothing where the job is gone.

        :raises BoardUnreachable: when the board does not answer; to call again is safe, here and below.
        """

    def count_end(self, entry: JobEntry | BinEntry, claim: Claim, outcome: Outcome, error: Cause | None = None) -> None:
        """Closes the attempt of a foreign claim that is no more, and counts it where that was not done yet.

        An outcome that is written stays, but for ``unknown``, which gives way.
        """

    def registrant(self, claim: Claim) -> EntityEntry | None:  # noqa: ARG002
        """The conductor that is registered by the session that holds a claim; returns at once."""
        return None

    def fate(self, claim: Claim, entity: EntityEntry | None) -> Fate:  # noqa: ARG002
        """What became of the session that held a claim which is no more.

        :param entity: the conductor that its session had registered, where one was seen.
        """
        return "unknown"

    # -- an operator's acts ----------------------------------------------------------------------------------------
    @abc.abstractmethod
    def bin(self, entry: JobEntry, who: str, why: str, *, unless: Unless = None) -> str:
        """Moves a job to the bin if it still is as ``entry`` shows it, claim included. Returns its key there.

        :param unless: asked of the record as it lies on the board now, where there is one: a listing may trail it.
        :raises Changed, Gone, Refused, BoardUnreachable: and nothing was done.
        """

    #: Whether to ask for it again and again, while somebody holds the job, is cheap for the board and all who use it.
    pursuable = False

    def binning(
        self,
        entry: JobEntry,  # noqa: ARG002
        who: str,
        why: str,
        *,
        unless: Unless = None,
    ) -> Callable[[JobEntry], object]:
        """As :meth:`bin`, for whoever has to be quick: what takes time is done here, the act by what is returned, and
        what came of it is shown by the listing when it is.

        :returns: to be called with the job as it is now; called again it tries again, it raises as :meth:`bin` does.
        :raises Changed, Gone, Refused, BoardUnreachable: and nothing was done.
        """
        return lambda entry: self.bin(entry, who, why, unless=unless)

    def bin_many(self, entries: Sequence[JobEntry], who: str, why: str) -> Sequence[str | Exception | None]:  # noqa: ARG002
        """Moves jobs to the bin, as far as that goes better for many together; not shown by the listing before long.

        :returns: for each its key in the bin; None where nothing was done: :meth:`bin` is to be called, and tells why
            it cannot be; an error where it is not known whether it was done.
        :raises ConsoleError: nothing was done to any of them.
        """
        return [None] * len(entries)

    def restore_many(self, entries: Sequence[BinEntry], *, unless: Unless = None) -> Sequence[str | Exception | None]:  # noqa: ARG002
        """Puts binned jobs back, as :meth:`bin_many` bins them; what it returns is as there, for :meth:`restore`."""
        return [None] * len(entries)

    @abc.abstractmethod
    def delete(self, entry: JobEntry | BinEntry, *, unless: Unless = None) -> None:
        """Deletes a job (or purges a binned one) and its record for good, if it still is as seen.

        :param unless: as :meth:`bin` has it, of a job on the board.
        :raises Changed, Gone, Refused, BoardUnreachable: and nothing was done.
        """

    @abc.abstractmethod
    def restore(self, entry: BinEntry, *, unless: Unless = None) -> str:
        """Puts a binned job back on the board, failures forgiven. Returns its new key.

        :param unless: as :meth:`bin` has it.
        :raises Changed, Gone, Refused, BoardUnreachable: and nothing was done.
        """

    def retry(self, entry: JobEntry) -> None:
        """Ends the job's hold, so that the next free conductor of ours takes it.

        :raises Changed: when it is claimed now. :raises Gone, Refused, BoardUnreachable: and nothing was done.
        """
        self.hold(entry, None)

    @abc.abstractmethod
    def hold(self, entry: JobEntry, until: datetime | None, *, unless: Unless = None) -> None:
        """Has conductors of ours leave a job alone that nobody holds; TaskFlow's know no holds.

        :param until: by the board's clock; None ends the hold.
        :param unless: as :meth:`bin` has it.
        :raises Changed: when it is claimed now. :raises Gone, Refused, BoardUnreachable: and nothing was done.
        """

    @abc.abstractmethod
    def release(self, entry: JobEntry) -> None:
        """Ends the very claim that ``entry`` shows; its attempt is told as revoked. The job stays.

        Whoever holds it may be at work still: a conductor of ours gives up at its next step, one of TaskFlow's never
        knows, and the job may be run twice at once.

        :raises Changed: when nobody holds it, or by another claim.
        :raises Gone, Refused, BoardUnreachable: and nothing was done.
        """
