"""A believable board, frozen: what the pictures and most tests of the screen are made of. No server, no clock."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from taskflow.jobs.base import JobPriority

from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Cause, Outcome, make_cause
from conductor_console.jobboards.base import BinEntry, Claim, Connection, JobEntry
from conductor_console.observatory.snapshot import (
    CauseView,
    ConductorState,
    ConductorView,
    EventView,
    JobView,
    Rates,
    Snapshot,
)
from conductor_console.observatory.views import Limits, job_view, sort_key
from conductor_console.operations import Course, Past, Result
from conductor_console.operations.course import NOT_REACHED

NOW = datetime(2026, 3, 14, 3, 14, 7, tzinfo=UTC)
BOARD = "zk1,zk2,zk3/octavia_jobboard"
LIMITS = Limits(suspect_after=2, cycling_after=3, max_attempts=8)

PLUG = make_cause(
    "PlugVIPException", "no port on subnet 6c1e4f02 answers within 2.0 s", "neutron/base.py:214 in _wait_for_port"
)
STORE = make_cause("StorageFailure", "the database does not answer", "store/writer.py:41 in save")
TIMED_OUT = make_cause("TimeOutException", "the amphora does not answer", "amphora/rest.py:88 in request")
QUOTA = make_cause("QuotaExceeded", "quota exceeded for members", "db/repo.py:302 in check")
IMPORT = make_cause("ImportError", "no module named flows.mk", "flows/mk.py:9 in <module>")
GONE = make_cause("ConductorGone", "conductor process gone")


def ago(**kw: float) -> datetime:
    """A time before :data:`NOW`."""
    return NOW - timedelta(**kw)


def attempt(
    n: int,
    who: str,
    minutes: float,
    seconds: float,
    outcome: Outcome | None = "abandoned",
    error: Cause | None = PLUG,
    flow: str | None = None,
) -> Attempt:
    """An attempt that ended ``minutes`` ago after ``seconds``; with ``outcome=None`` one under way."""
    ended = ago(minutes=minutes)
    return Attempt(
        n,
        who,
        f"0x{n:x}",
        ended - timedelta(seconds=seconds),
        None if outcome is None else ended,
        outcome,
        flow,
        None if outcome is None else error,
    )


def job(
    name: str,
    *,
    failures: int = 0,
    tries: int | None = None,
    owner: str | None = None,
    held: float = 0.0,
    hold: float | None = None,
    priority: str = "NORMAL",
    posted: float = 0.0,
    alive: bool | None = None,
    history: Sequence[Attempt] = (),
    error: Cause = PLUG,
    problem: str | None = None,
    uuid: str | None = "",
    size: int = 188,
    details: Mapping[str, Any] | None = None,
) -> JobView:
    """A job's view.

    :param held: seconds the owner has held it. ``hold``: seconds until its next try. ``posted``: minutes ago.
    """
    key = f"{abs(hash_of(name)):08x}-6b1d-4f0e-9c77-52a1e0b8d3f4" if uuid == "" else (uuid or name)
    if failures and not history:
        past = tuple(
            attempt(n, "c1@ctl-a:4121", 6.0 * (failures - n + 1), 40, error=error) for n in range(failures, 0, -1)
        )
        opened = Attempt(failures + 1, owner, None, ago(seconds=held)) if owner else None
        history = (opened, *past) if opened else past
    record = None
    if history or hold is not None:
        record = AttemptRecord(
            key,
            attempts=tries if tries is not None else len(history),
            failures=failures,
            hold_until=None if hold is None else NOW + timedelta(seconds=hold),
            history=tuple(history),
        )
    entry = JobEntry(
        key=key,
        node=name if problem else "job0000012871",
        uuid=None if problem else key,
        name=name,
        priority=JobPriority.convert(priority),
        created_at=ago(minutes=posted),
        details=details or {},
        book_name=None if problem else f"book of {name}",
        size=size,
        problem=problem,
        claim=Claim(owner, "0x1f3", ago(seconds=held), session=f"0x10000{hash_of(owner):08x}") if owner else None,
        record=record,
    )
    return job_view(entry, now=NOW, limits=LIMITS, owner_alive=alive)


def hash_of(name: str) -> int:
    """The same number for the same name in every run."""
    value = 2166136261
    for char in name.encode("utf-8", "surrogatepass"):
        value = (value ^ char) * 16777619 % (1 << 32)
    return value


FIRST = job(
    "create-load-balancer-flow-1f0c9a2e",
    failures=6,
    tries=7,
    owner="c2@ctl-b",
    held=12,
    priority="HIGH",
    posted=131,
    alive=True,
    uuid="1f0c9a2e-6b1d-4f0e-9c77-52a1e0b8d3f4",
    details={
        "flow_uuid": "7d1c52fe-3a0e-4c58-9f04-0b61f6c3e2aa",
        "flavor": "ACTIVE_STANDBY",
        "server_pem": "-----BEGIN",
    },
    history=(
        Attempt(7, "c2@ctl-b:99", None, ago(seconds=12), flow="7d1c52fe-3a0e-4c58-9f04-0b61f6c3e2aa"),
        attempt(6, "c1@ctl-a:4121", 5, 41),
        attempt(5, "c4@ctl-c:2210", 9, 40),
        attempt(4, "c1@ctl-a:4121", 14, 41),
        attempt(3, "c2@ctl-b:99", 26, 17, "crashed", GONE),
        attempt(2, "c1@ctl-a:4121", 61, 40),
        attempt(1, "c1@ctl-a:4121", 125, 42),
    ),
)


def believable_jobs() -> list[JobView]:
    """The jobs of the first mock-up, and so many more that the counts are its."""
    shown = [
        FIRST,
        job("create-load-balancer-flow-5b17e0d4", failures=6, owner="c1@ctl-a", held=31, posted=128, alive=True),
        job("create-load-balancer-flow-c40a8e91", failures=6, hold=250, posted=126),
        job("failover-amphora-flow-02be77f3", failures=5, owner="c4@ctl-c", held=4, priority="HIGH", posted=80),
        job("update-pool-flow-e8d1a6c5", failures=4, hold=92, posted=51, error=STORE),
        job("create-listener-flow-7730fb1a", failures=3, hold=48, priority="LOW", posted=40, error=STORE),
        job("job0000000044", problem="no uuid", size=212, posted=362),
        job("delete-load-balancer-flow-90d2f7ab", failures=1, owner="c3@ctl-b", held=2290, posted=190, alive=False),
        job("create-member-flow-4ac1d920", failures=1, hold=40, posted=12, error=STORE),
        job("update-health-monitor-flow-b3e94f07", failures=1, hold=9, posted=8, error=STORE),
        job("failover-load-balancer-flow-9a11d0c4", owner="c1@ctl-a", held=123, priority="HIGH", posted=56, alive=True),
        job("create-load-balancer-flow-6d0f3b82", owner="c2@ctl-b", held=107, posted=55, alive=True),
        job("create-listener-flow-a1c05e7d", owner="c1@ctl-a", held=22, posted=54, alive=True),
        job("delete-pool-flow-3f8e2c16", owner="c4@ctl-c", held=9, posted=54, alive=True),
        job("update-listener-flow-d27b904c", owner="w1@here", held=3, posted=53, alive=True),
    ]  # fmt: skip
    shown += [
        job(f"update-member-flow-{hash_of(f'held {n}'):08x}", failures=1, hold=10 + n, posted=5, error=STORE)
        for n in range(1)
    ]
    shown += [
        job(f"create-pool-flow-{hash_of(f'claimed {n}'):08x}", owner="c1@ctl-a", held=2, posted=50, alive=True)
        for n in range(1)
    ]
    kinds = ("create-member", "delete-load-balancer", "batch-update-members", "create-pool", "update-l7policy")
    shown += [
        job(
            f"{kinds[n % 5]}-flow-{hash_of(f'waiting {n}'):08x}",
            posted=53 - n * 0.03,
            priority=("HIGH", "NORMAL", "LOW")[n % 3],
        )
        for n in range(1187)
    ]
    return shown


def conductor(
    name: str, place: str, jobs: int, state: ConductorState = "running", since: float = 190.0, note: str = ""
) -> ConductorView:
    """A conductor; ``since`` in minutes."""
    return ConductorView(name, state, place, place == "here", jobs, ago(minutes=since), note)


def bin_entry(name: str, minutes: float, who: str, why: str, failures: int = 8, error: Cause = PLUG) -> BinEntry:
    """A binned job, since ``minutes``."""
    history = tuple(
        attempt(n, "c1@ctl-a:4121", minutes + 5.0 * (failures - n), 41, error=error) for n in range(failures, 0, -1)
    )
    key = f"{hash_of(name):08x}-0e55-4c1a-b2a8-7f1b90e3c6d2"
    record = AttemptRecord(key, attempts=failures, failures=failures, history=history)
    return BinEntry(
        key, "job0000012870", key, name, JobPriority.NORMAL, b"{}", ago(minutes=minutes), who, why, record=record
    )


_RISING = (0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 7)


def cause_view(error: Cause, count: int, jobs: int) -> CauseView:
    """A cause that so many failures of so many jobs share."""
    share = count * 17 // 38
    told = (("c1@ctl-a:4121", count - 2 * (share * 2 // 3)), *((name, share * 2 // 3) for name in ("c2@ctl-b", "c4")))
    last = int(NOW.timestamp()) // 300
    return CauseView(
        error.fingerprint,
        error,
        count,
        tuple(f"job {n}" for n in range(jobs)),
        ago(minutes=43),
        ago(seconds=8),
        conductors=tuple((name, number) for name, number in told if number),
        bars=tuple((last - 11 + place, number) for place, number in enumerate(_RISING) if count >= 14),
    )


DONE = tuple(minutes for bar in (12, 14, 15, 13, 16, 18, 17, 19, 23, 24, 22, 21) for minutes in [bar] * 5)
FAILED = tuple(minutes for bar in (0, 1, 0, 0, 0, 3, 2, 0, 0, 2, 3, 1) for minutes in [bar] * 5)


def picture(
    jobs: Iterable[JobView] | None = None,
    *,
    version: int = 1,
    connection: Connection | None = None,
    **kw: Any,
) -> Snapshot:
    """A snapshot of ``jobs`` (the believable ones by default), sorted and counted as the observatory does."""
    views = sorted(believable_jobs() if jobs is None else jobs, key=sort_key)
    binned = kw.pop("binned", None)
    if binned is None:
        binned = (
            bin_entry("create-load-balancer-flow-d9c2b60f", 12, "c1@ctl-a", "after 8 failures: PlugVIPException"),
            bin_entry("create-load-balancer-flow-0a4e8d13", 31, "c2@ctl-b", "after 8 failures: PlugVIPException"),
            bin_entry("update-l7policy-flow-e71b45c9", 130, "anna@ops-1", "by an operator: customer deleted it", 2),
        )
    counts: Counter[Any] = Counter(view.standing for view in views)
    counts["binned"] = len(binned)
    whole = Snapshot(
        version=version,
        taken_at=NOW,
        board=BOARD,
        connection=connection or Connection("live", ago(hours=3)),
        jobs=tuple(views),
        by_key={view.key: view for view in views},
        counts=counts,
        conductors=(
            conductor("c1@ctl-a:4121", "ctl-a:4121", 4),
            conductor("c2@ctl-b:99", "ctl-b:99", 2),
            conductor("c4@ctl-c:2210", "ctl-c:2210", 2),
            conductor("w1", "here", 1),
            conductor("w2", "here", 0, "paused"),
            conductor("c3@ctl-b:118", "ctl-b:118", 1, "crashed", 38, "its session ended"),
        ),
        causes=(
            cause_view(PLUG, 38, 14),
            cause_view(STORE, 14, 9),
            cause_view(IMPORT, 3, 1),
            cause_view(TIMED_OUT, 2, 2),
            cause_view(QUOTA, 1, 1),
        ),
        binned=tuple(binned),
        rates=Rates(DONE, FAILED, 53 * 60.0),
        events=(
            EventView(ago(seconds=12), "claimed", "create-load-balancer-flow-1f0c9a2e claimed by c2@ctl-b", FIRST.key),
            EventView(ago(minutes=12), "bin", "create-load-balancer-flow-d9c2b60f in the bin"),
            EventView(ago(minutes=38), "crashed", "c3@ctl-b crashed: its session ended"),
        ),
        complete=True,
    )
    return replace(whole, **kw)


class FrozenSource:
    """A source of pictures that changes when a test says so."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.now = NOW
        self._snapshot = snapshot or picture()
        self.tracebacks: dict[str, list[tuple[str, str]]] = {}

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def step(self, flow_uuid: str) -> str:
        """Where a flow is; what is drawn in the mock-up."""
        return "attach-vip, step 8 of 11"

    def traceback(self, entry: JobEntry) -> list[tuple[str, str]]:
        """The tracebacks of a job, by its name."""
        return self.tracebacks.get(entry.name, [])

    def show(self, snapshot: Snapshot) -> None:
        """Another picture; its version is made newer than the last."""
        self._snapshot = replace(snapshot, version=self._snapshot.version + 1)

    def clock(self) -> datetime:
        """The clock of the app under test."""
        return self.now

    def tick(self, seconds: float) -> None:
        """Lets the clock go on."""
        self.now += timedelta(seconds=seconds)


class RecordedHand:
    """Operations that remember what they were asked for, and answer as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.answer: Mapping[str, tuple[str, str]] = {}
        self.can_undo = ""
        self.error: Exception | None = None
        self.gate: threading.Semaphore | None = None
        """Where there is one, a job is acted upon once it lets it."""

    def _did(self, verb: str, targets: Sequence[JobEntry | BinEntry], course: Course | None) -> list[Result]:
        self.calls.append((verb, [target.name for target in targets]))
        if self.error is not None:
            raise self.error

        def one(target: JobEntry | BinEntry) -> Result:
            if self.gate is not None:
                self.gate.acquire(timeout=20)
            verdict, why = self.answer.get(target.name, ("done", ""))
            return Result(target.key, target.uuid, target.name, verdict, why)  # type: ignore[arg-type]

        def skipped(target: JobEntry | BinEntry) -> Result:
            return Result(target.key, target.uuid, target.name, "refused", NOT_REACHED)

        course = course or Course()
        course.begin(len(targets))
        results = []
        for target in targets:
            if course.stopped:
                results.append(skipped(target))
                continue
            results.append(one(target))
            course.step()
        return results

    def bin(
        self, targets: Sequence[JobEntry], why: str = "by an operator", course: Course | None = None
    ) -> list[Result]:
        self.can_undo = "move to the bin"
        return self._did("bin", targets, course)

    def delete(self, targets: Sequence[JobEntry | BinEntry], course: Course | None = None) -> list[Result]:
        return self._did("delete", targets, course)

    def restore(self, targets: Sequence[BinEntry], course: Course | None = None) -> list[Result]:
        return self._did("restore", targets, course)

    def retry(self, targets: Sequence[JobEntry], course: Course | None = None) -> list[Result]:
        return self._did("retry", targets, course)

    def hold(self, targets: Sequence[JobEntry], seconds: float, course: Course | None = None) -> list[Result]:
        assert seconds == 3600
        return self._did("hold", targets, course)

    def release(self, targets: Sequence[JobEntry], course: Course | None = None) -> list[Result]:
        return self._did("release", targets, course)

    def close_breaker(self) -> tuple[bool, str]:
        self.calls.append(("close breaker", []))
        return True, "The circuit breaker is closed"

    def undo(self, course: Course | None = None) -> list[Result]:
        self.calls.append(("undo", []))
        self.can_undo = ""
        return [Result("key", None, "name", "done")]

    def deleted_before(self) -> list[Past]:
        return []

    def post_again(self, pasts: Sequence[Past], course: Course | None = None) -> list[Result]:
        return self._did("post again", [past.entry for past in pasts], course)
