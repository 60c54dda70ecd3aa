"""Jobs by cause: what is on the board, what lies in the bin, what has left; since when and on which conductors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taskflow.jobs.base import JobPriority

from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Cause, make_cause
from conductor_console.jobboards.base import BinEntry, Connection, JobEntry, Listing
from conductor_console.jobboards.common import identity
from conductor_console.observatory.build import Builder, build_snapshot
from conductor_console.observatory.causes import Causes
from conductor_console.observatory.groups import cause_groups
from conductor_console.observatory.rates import Closings
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.observatory.views import Limits

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PORT = make_cause("PlugVIPException", "no port 7", "base.py:2 in wait")
DISK = make_cause("OSError", "disk \x1b[31m full", "io.py:9 in write")


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def record(key: str, *failed: tuple[float, str, Cause], failures: int | None = None) -> AttemptRecord:
    """A record of attempts that failed so many minutes ago, newest first."""
    history = tuple(
        Attempt(len(failed) - place, who, f"{place}", ago(minutes + 1), ago(minutes), "abandoned", None, error)
        for place, (minutes, who, error) in enumerate(failed)
    )
    return AttemptRecord(key, len(failed), len(failed) if failures is None else failures, history=history)


def entry(key: str, told: AttemptRecord | None = None) -> JobEntry:
    return JobEntry(key, f"job{key}", key, key, JobPriority.NORMAL, ago(300), record=told)


def snapshot(*jobs: JobEntry, binned: tuple[BinEntry, ...] = ()) -> Snapshot:
    listing = Listing(
        1,
        NOW,
        Connection("live", NOW),
        jobs={job.key: job for job in jobs},
        binned={one.key: one for one in binned},
        complete=True,
    )
    return build_snapshot(listing, now=NOW)


def test_groups_tell_jobs_conductors_and_times() -> None:
    worse = entry("a", record("a", (1, "c1@h:1", PORT), (5, "c2@h:2", PORT), (130, "c1@h:1", PORT)))
    fewer = entry("b", record("b", (2, "c1@h:1", PORT)))
    old = entry("c", record("c", (200, "c3@h:3", DISK)))
    healed = entry("d", record("d", (1, "c1@h:1", DISK), failures=0))
    in_bin = BinEntry(
        "e", "jobe", "e", "e", JobPriority.NORMAL, b"{}", ago(3), "anna", "why", record=record("e", (4, "c2@h:2", PORT))
    )
    port, disk = cause_groups(snapshot(worse, fewer, old, healed, entry("f"), binned=(in_bin,)))
    assert (port.fingerprint, port.example) == (PORT.fingerprint, PORT)
    assert [job.key for job in port.jobs] == ["a", "b"]
    assert [one.key for one in port.binned] == ["e"]
    # What failed longer ago than an hour is none of the hour's count, but tells since when it goes on.
    assert (port.count, port.affected, port.left) == (4, 3, 0)
    assert (port.first, port.last) == (ago(130), ago(1))
    assert dict(port.conductors) == {"c1@h": 2, "c2@h": 2}
    assert sum(count for _, count in port.bars) == port.count
    # A job that was forgiven is none that fails, though it is told of in the hour; nor has it left.
    assert [job.key for job in disk.jobs] == ["c"]
    assert (disk.count, disk.left, disk.example.message) == (1, 0, "disk \\x1b[31m full")


def test_a_cause_that_is_quiet_for_an_hour_is_told_from_its_jobs_alone() -> None:
    (group,) = cause_groups(snapshot(entry("a", record("a", (70, "c1@h:1", PORT), (90, "c2", PORT)))))
    assert (group.count, group.affected, group.bars) == (0, 1, ())
    assert (group.first, group.last) == (ago(90), ago(70))
    assert dict(group.conductors) == {"c1@h": 1, "c2": 1}


def test_a_conductor_that_was_started_anew_and_one_of_ours_are_one_conductor() -> None:
    told = record("a", (1, "c1@h:2", PORT), (5, "c1@h:1", PORT))
    quiet = record("b", (70, "c9@h:2", DISK), (90, "c9@h:1", DISK))
    port, disk = cause_groups(snapshot(entry("a", told), entry("b", quiet)))
    assert (port.conductors, disk.conductors) == ((("c1@h", 2),), (("c9@h", 2),))
    causes = Causes()
    closings = Closings(causes)
    # Of a conductor of this process it is heard by its short name, with or before the record.
    closings.from_fleet("a", "w1", ago(2), "abandoned", PORT, NOW)
    closings.from_record("a", record("a", (2, identity("w1"), PORT), (9, identity("w1"), PORT)).history, NOW, 0)
    (view,) = causes.views()
    assert view.conductors == ((identity("w1").rpartition(":")[0], 2),)


def test_jobs_of_a_cause_that_left_the_board_are_counted() -> None:
    builder = Builder(title="b", limits=Limits())
    builder.causes.add("gone", PORT, ago(1), "c1")
    listing = Listing(1, NOW, Connection("live", NOW), complete=True)
    (group,) = cause_groups(builder.update(listing, now=NOW))
    assert (group.jobs, group.left, group.affected, group.conductors) == ((), 1, 1, (("c1", 1),))


def test_nothing_fails() -> None:
    assert cause_groups(snapshot(entry("a"))) == ()


def test_conductors_and_bars_grow_old_with_their_failures() -> None:
    causes = Causes()
    for minutes, who in ((59, "c1"), (30, "c2"), (1, "c2"), (1, "")):
        causes.add("job", PORT, ago(minutes), who)
    (view,) = causes.views()
    assert view.conductors == (("c2", 2), ("c1", 1), ("", 1))
    assert [count for _, count in view.bars] == [1, 1, 2]
    causes.expire(NOW + timedelta(minutes=5))
    (view,) = causes.views()
    assert (view.count, dict(view.conductors), sum(count for _, count in view.bars)) == (3, {"c2": 2, "": 1}, 3)
    assert view.first == ago(59)
