"""A snapshot as Prometheus metrics. No threads and no I/O: a scrape costs what its numbers cost, and waits for nothing.

Labels are bounded in number and in length, and clean: what a board holds is foreign. No job's name, no message and no
detail becomes a label.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from conductor_console.clock import utcnow
from conductor_console.jobboards.breaker import Kind
from conductor_console.observatory.snapshot import ConductorState, Health, JobView, Snapshot, State
from conductor_console.observatory.totals import CAUSES, OTHER, CauseLabel, Totals, cause_label, label

PREFIX: Final = "conductor_console_"
#: So many owners have numbers of their own, those with the most claims; the rest is ``other``.
OWNERS: Final = 20
NAME_LENGTH: Final = 80
BOARD_LENGTH: Final = 120
STATES: Final = tuple(state for state in get_args(State) if state != "binned")
_ALIVE: Final[Mapping[bool | None, str]] = {True: "yes", False: "no", None: "unknown"}


@dataclass(slots=True)
class _Figures:
    """What is counted of the jobs of one snapshot."""

    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    oldest: dict[str, datetime] = field(default_factory=dict)
    oldest_claim: datetime | None = None
    claims: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, jobs: Iterable[JobView]) -> _Figures:
        made = cls()
        for job in jobs:
            made.jobs[job.state, job.health] += 1
            if job.created_at is not None:
                made.oldest[job.state] = min(job.created_at, made.oldest.get(job.state, job.created_at))
            if job.claimed_at is not None:
                made.oldest_claim = min(job.claimed_at, made.oldest_claim or job.claimed_at)
            if job.owner is not None:
                made.claims[job.owner, _ALIVE[job.owner_alive]] += 1
        return made


class SnapshotCollector(Collector):
    """The metrics of one board. Thread safe.

    :param read: gives the newest snapshot, at once.
    :param offset: seconds to add to the local clock to get the board's.
    :param versions: what the build info tells: a name and a version each.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        *,
        offset: Callable[[], float] = lambda: 0.0,
        versions: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._read = read
        self._offset = offset
        self._versions = dict(versions or {})
        self._now = now
        self._totals = Totals()
        self._jobs: Sequence[JobView] | None = None
        self._figures = _Figures()
        self._lock = threading.Lock()

    def observe(self) -> None:
        """Counts what happened since the last time; to be called often, or jobs that come and go are missed."""
        with self._lock:
            self._observed()

    def _observed(self) -> tuple[Snapshot, datetime]:
        snapshot, now = self._read(), self._now()
        self._totals.take(snapshot, now)
        return snapshot, now

    def collect(self) -> Iterable[Metric]:
        """The families, at once; those of the board from its first complete reading on."""
        with self._lock:
            snapshot, now = self._observed()
            families = [*self._of_itself(snapshot, now)]
            if snapshot.complete:
                if snapshot.jobs is not self._jobs:
                    self._jobs, self._figures = snapshot.jobs, _Figures.of(snapshot.jobs)
                families += [*self._of_the_board(snapshot, self._figures, now), *self._counted(snapshot, self._totals)]
        return families

    # -- families ------------------------------------------------------------------------------------------------------
    def _of_itself(self, snapshot: Snapshot, now: datetime) -> Iterator[Metric]:
        yield _gauge("build_info", "The versions of the exporter and of TaskFlow; always 1.", self._versions, 1)
        yield _gauge(
            "board_info",
            "Which board it is; always 1.",
            {"board": label(snapshot.board, BOARD_LENGTH), "read_only": "yes" if snapshot.read_only else "no"},
            1,
        )
        live = snapshot.connection.state == "live"
        yield _gauge("up", "1 while the board is connected, else 0: all figures are the last known then.", {}, live)
        if snapshot.complete:
            at = _as_of(snapshot, now).timestamp()
            yield _gauge("snapshot_timestamp_seconds", "When the figures were last known to be true.", {}, at)
        if self._totals.since is not None:
            since = self._totals.since.timestamp()
            yield _gauge("counting_since_timestamp_seconds", "When the counters began.", {}, since)
        if self._totals.changed_at is not None:
            changed = self._totals.changed_at.timestamp()
            yield _gauge("last_change_timestamp_seconds", "When a job or the bin was last seen to change.", {}, changed)

    def _of_the_board(self, snapshot: Snapshot, figures: _Figures, now: datetime) -> Iterator[Metric]:
        board_now = _as_of(snapshot, now) + timedelta(seconds=self._offset())
        jobs = _Many("jobs", "Jobs on the board; each has one state and one health.", "state", "health")
        for state, health in product(STATES, get_args(Health)):
            jobs.add((state, health), figures.jobs[state, health])
        yield jobs.family
        ages = _Many("oldest_job_age_seconds", "Since when the oldest job of a state is posted.", "state")
        for state, created in sorted(figures.oldest.items()):
            ages.add((state,), _seconds(created, board_now))
        yield ages.family
        if figures.oldest_claim is not None:
            held = _seconds(figures.oldest_claim, board_now)
            yield _gauge("oldest_claim_age_seconds", "For how long the oldest claim stands.", {}, held)
        yield _gauge("bin_jobs", "Jobs in the bin.", {}, len(snapshot.binned))
        breaker = _Many("breaker_open", "1 while the circuit breaker is open for that: no attempt counts.", "kind")
        for kind in get_args(Kind):
            breaker.add((kind,), snapshot.breaker is not None and snapshot.breaker.kind == kind)
        yield breaker.family
        claims = _Many("claims", "Claims by owner, and whether it is a registered conductor.", "owner", "alive")
        for labels, number in _bounded(figures.claims):
            claims.add(labels, number)
        yield claims.family
        states = Counter(conductor.state for conductor in snapshot.conductors)
        conductors = _Many("conductors", "Conductors on the board; crashed: claims, but no registration.", "state")
        for name in get_args(ConductorState):
            conductors.add((name,), states[name])
        yield conductors.family
        unseen = "Claims of TaskFlow's conductors, at most so many, that came and went unseen and are counted nowhere."
        yield _gauge("unseen_claims", unseen, {}, snapshot.unseen)
        in_memory = "1 where attempts of TaskFlow's conductors are counted by this process alone, in memory."
        yield _gauge("counted_in_memory", in_memory, {}, snapshot.counted_here)

    @staticmethod
    def _counted(snapshot: Snapshot, totals: Totals) -> Iterator[Metric]:
        attempts = CounterMetricFamily(f"{PREFIX}attempts", "Attempts that ended, by outcome.", labels=["outcome"])
        for outcome, number in totals.attempts.items():
            attempts.add_metric([outcome], number)
        yield attempts
        failures = CounterMetricFamily(
            f"{PREFIX}failures", "Failed attempts by cause, the rest as 'other'.", labels=["type", "fingerprint"]
        )
        for cause, number in totals.causes.shown().items():
            failures.add_metric(cause, number)
        yield failures
        about = "Jobs that failed by one cause within the last hour, the rest as 'other'."
        causes = _Many("cause_jobs", about, "type", "fingerprint")
        jobs: Counter[CauseLabel] = Counter()
        for rank, view in enumerate(snapshot.causes):
            cause = cause_label(view.example.type, view.fingerprint) if rank < CAUSES else OTHER
            jobs[cause] += len(view.jobs)
        for cause, number in jobs.items():
            causes.add(cause, number)
        yield causes.family


class _Many:
    """A gauge with labels."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        self.family = GaugeMetricFamily(f"{PREFIX}{name}", about, labels=labels)

    def add(self, labels: Sequence[str], value: float) -> None:
        self.family.add_metric(labels, float(value))


def _gauge(name: str, about: str, labels: Mapping[str, str], value: float) -> Metric:
    one = _Many(name, about, *labels)
    one.add(tuple(labels.values()), value)
    return one.family


def _bounded(claims: Counter[tuple[str, str]]) -> Iterable[tuple[tuple[str, str], int]]:
    """Claims by label: what would be too many, or reads the same once it is cut, is one."""
    held: Counter[str] = Counter()
    for (owner, _), number in claims.items():
        held[owner] += number
    most = {owner for owner, _ in sorted(held.items(), key=lambda item: (-item[1], item[0]))[:OWNERS]}
    merged: Counter[tuple[str, str]] = Counter()
    for (owner, alive), number in claims.items():
        merged[label(owner, NAME_LENGTH) if owner in most else OTHER[0], alive] += number
    return merged.items()


def _as_of(snapshot: Snapshot, now: datetime) -> datetime:
    """When the snapshot is, or was, true: a live one holds until the next is there."""
    return now if snapshot.connection.state == "live" else snapshot.taken_at


def _seconds(since: datetime, until: datetime) -> float:
    return max(0.0, (until - since).total_seconds())
