"""From listings to snapshots: states, health, order, counts, conductors, causes and rates; without a board."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskflow.jobs.base import JobPriority

from conductor_console.conductors.fleet import Worker
from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Cause, make_cause
from conductor_console.jobboards.base import BinEntry, Claim, Connection, EntityEntry, JobEntry, Listing
from conductor_console.observatory import build_snapshot
from conductor_console.observatory.build import PATIENCE, Builder
from conductor_console.observatory.snapshot import STANDINGS, JobView, Snapshot
from conductor_console.observatory.views import Limits, sort_key

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
LIVE = Connection("live", NOW - timedelta(hours=2))
BOOM = make_cause("PlugVIPException", "no port answers within 2 s", "neutron/base.py:214 in wait")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def attempt(n: int, ended: float | None = 60.0, outcome: str | None = "abandoned", error: Cause | None = BOOM,
            who: str = "c1") -> Attempt:  # fmt: skip
    if ended is None:
        return Attempt(n, who, None, ago(30))
    return Attempt(n, who, hex(n), ago(ended + 1), ago(ended), outcome, None, error)  # type: ignore[arg-type]


def record(key: str, failures: int = 0, hold: float | None = None, *history: Attempt) -> AttemptRecord:
    until = None if hold is None else NOW + timedelta(seconds=hold)
    return AttemptRecord(key, attempts=len(history) or failures, failures=failures, hold_until=until, history=history)


def job(key: str, age: float = 100.0, *, owner: str | None = None, failures: int = 0, hold: float | None = None,
        history: tuple[Attempt, ...] = (), problem: str | None = None, access: bool = True,
        session: str | None = None) -> JobEntry:  # fmt: skip
    return JobEntry(
        key=key,
        node=key,
        uuid=None if problem else key,
        name=f"flow-{key}",
        priority=JobPriority.NORMAL,
        created_at=ago(age),
        problem=problem,
        access=access,
        claim=Claim(owner, "0x1", ago(20), session=session) if owner else None,
        record=record(key, failures, hold, *history) if failures or hold or history else None,
    )


def binned(key: str, at: float | None = 10.0, *history: Attempt) -> BinEntry:
    when = None if at is None else ago(at)
    return BinEntry(key, key, key, key, JobPriority.NORMAL, b"{}", when, record=record(key, 3, None, *history))


def listing(*jobs: JobEntry, bins: tuple[BinEntry, ...] = (), entities: tuple[str, ...] = (), version: int = 1,
            connection: Connection = LIVE, offset: float = 0.0) -> Listing:  # fmt: skip
    found = {}
    for entity in entities:
        name, _, place = entity.partition("@")
        host, _, pid = place.partition(":")
        found[entity] = EntityEntry(f"{name}@{place}", host, int(pid) if pid else None)
    return Listing(
        version=version,
        taken_at=ago(3),
        connection=connection,
        jobs={entry.key: entry for entry in jobs},
        binned={entry.key: entry for entry in bins},
        entities=found,
        complete=True,
        clock_offset=offset,
    )


def view(entry: JobEntry) -> JobView:
    return build_snapshot(listing(entry, entities=("c1@h:1",)), now=NOW).by_key[entry.key]


def worker(name: str, *jobs: str, state: str = "running") -> Worker:
    return Worker(name=name, state=state, jobs=jobs, since=ago(60), note="")  # type: ignore[arg-type]


# -- one job -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "state", "health", "standing"),
    [
        (job("a"), "waiting", "ok", "waiting"),
        (job("a", owner="c1"), "claimed", "ok", "claimed"),
        (job("a", owner="c9"), "claimed", "suspect", "suspect"),
        (job("a", failures=1, hold=5), "held", "ok", "held"),
        (job("a", failures=1, hold=-5), "waiting", "ok", "waiting"),
        (job("a", failures=2, hold=5), "held", "suspect", "suspect"),
        (job("a", failures=3), "waiting", "cycling", "cycling"),
        (job("a", owner="c1", failures=7, hold=5), "claimed", "cycling", "cycling"),
        (job("a", problem="no uuid"), "malformed", "ok", "malformed"),
        (job("a", problem="no uuid", failures=2), "malformed", "suspect", "malformed"),
        (job("a", problem="no uuid", failures=3), "malformed", "cycling", "cycling"),
        (job("a", access=False, problem="x", owner="c1"), "no-access", "ok", "no-access"),
    ],
)
def test_state_health_and_the_worse_of_both(entry: JobEntry, state: str, health: str, standing: str) -> None:
    seen = view(entry)
    assert (seen.state, seen.health, seen.standing) == (state, health, standing)


def test_limits_are_settings_and_the_policy_is_told() -> None:
    limits = Limits(suspect_after=1, cycling_after=2, max_attempts=8)
    jobs = build_snapshot(listing(job("a", failures=1), job("b", failures=2)), now=NOW, limits=limits).by_key
    assert (jobs["a"].health, jobs["b"].health, jobs["a"].limit) == ("suspect", "cycling", 8)
    assert view(job("a")).limit is None


def test_an_attempt_left_open_is_told_as_crashed() -> None:
    seen = view(job("a", failures=1, history=(attempt(2, None), attempt(1))))
    assert (seen.failures, seen.tries, seen.health) == (2, 2, "suspect")
    assert seen.attempts[0].outcome == "crashed"
    assert seen.cause is not None
    assert seen.cause.type == "ConductorGone"
    running = view(job("a", owner="c1", failures=1, history=(attempt(2, None), attempt(1))))
    assert (running.failures, running.attempts[0].outcome) == (1, None)


def test_the_boards_clock_decides_about_holds() -> None:
    held = job("a", failures=1, hold=60)
    assert build_snapshot(listing(held, offset=120.0), now=NOW).by_key["a"].state == "waiting"
    assert build_snapshot(listing(held, offset=-120.0), now=NOW).by_key["a"].state == "held"


def test_foreign_text_is_made_visible() -> None:
    evil = "a\x1b[2J\u202eb"
    cause = Cause(evil, evil, evil, evil)
    entry = replace(
        job("a", owner=evil, history=(replace(attempt(1, who=evil), error=cause),)), name=evil, problem=evil
    )
    snapshot = build_snapshot(listing(entry, entities=(f"{evil}@{evil}",)), now=NOW)
    seen = snapshot.by_key["a"]
    shown = [seen.name, seen.owner, seen.problem, seen.attempts, seen.cause, snapshot.conductors, snapshot.causes]
    assert "\x1b" not in repr(shown).replace("\\x1b", "")
    assert all(text.isprintable() for text in (seen.name, seen.owner or "", snapshot.causes[0].example.message))


# -- all jobs ----------------------------------------------------------------------------------------------------------
def test_worst_first_then_failures_then_age_then_key() -> None:
    snapshot = build_snapshot(
        listing(
            job("wait-young", 10),
            job("wait-b", 50),
            job("wait-a", 50),
            job("run", owner="c1"),
            job("held", failures=1, hold=9),
            job("sus", failures=2),
            job("noac", access=False),
            job("mal", problem="no uuid"),
            job("cyc3", 500, failures=3),
            job("cyc6", 1, failures=6),
            entities=("c1@h:1",),
        ),
        now=NOW,
    )
    order = ["cyc6", "cyc3", "mal", "noac", "sus", "held", "run", "wait-a", "wait-b", "wait-young"]
    assert [seen.key for seen in snapshot.jobs] == order
    assert snapshot.counts == {
        "cycling": 2, "malformed": 1, "no-access": 1, "suspect": 1, "held": 1, "claimed": 1, "waiting": 3,
    }  # fmt: skip


def test_the_bin_is_counted_beside_the_jobs_newest_first() -> None:
    bins = (binned("old", 90), binned("tf", None), binned("new", 5))
    snapshot = build_snapshot(listing(job("a"), bins=bins), now=NOW)
    assert snapshot.counts == {"waiting": 1, "binned": 3}
    assert snapshot.total == 1
    assert [entry.key for entry in snapshot.binned] == ["new", "old", "tf"]


keys = st.sampled_from([f"k{number}" for number in range(12)])
entries = st.builds(
    job,
    keys,
    st.floats(0, 1e6),
    owner=st.none() | st.sampled_from(["c1", "c2", "dead"]),
    failures=st.integers(0, 5),
    hold=st.none() | st.floats(-5, 5).filter(bool),
    history=st.lists(st.builds(attempt, st.integers(1, 30), st.none() | st.floats(0, 7000)), max_size=3).map(tuple),
    problem=st.none() | st.just("no uuid"),
    access=st.booleans(),
)
listings = st.builds(
    lambda jobs, bins, entities: listing(*jobs, bins=bins, entities=entities),
    st.lists(entries, max_size=12),
    st.lists(st.builds(binned, keys, st.none() | st.floats(0, 1e4)), max_size=4).map(tuple),
    st.lists(st.sampled_from(["c1@h:1", "c2@g:2"]), unique=True).map(tuple),
)


def check(snapshot: Snapshot, seen: Listing) -> None:
    jobs = sum(number for standing, number in snapshot.counts.items() if standing != "binned")
    assert jobs == snapshot.total == len(seen.jobs)
    assert snapshot.counts.get("binned", 0) == len(seen.binned) == len(snapshot.binned)
    assert all(number > 0 for number in snapshot.counts.values())
    for standing in STANDINGS[:-1]:
        assert snapshot.counts.get(standing, 0) == sum(1 for one in snapshot.jobs if one.standing == standing)
    assert {one.key for one in snapshot.jobs} == set(seen.jobs)
    assert {one.key: one for one in snapshot.jobs} == dict(snapshot.by_key)
    assert list(snapshot.jobs) == sorted(snapshot.jobs, key=sort_key)


@given(listings)
def test_counts_add_up(seen: Listing) -> None:
    check(build_snapshot(seen, now=NOW), seen)


@settings(max_examples=60)
@given(st.lists(st.tuples(listings, st.floats(0, 4)), min_size=1, max_size=6), st.booleans())
def test_step_by_step_ends_where_from_nothing_does(steps: list[tuple[Listing, float]], all_at_once: bool) -> None:
    """Whatever came before, the jobs are those of the last listing (once doubts are settled)."""
    builder = Builder(title="b", limits=Limits())
    now, snapshot, version = NOW, None, 0
    for seen, pause in steps:
        now += timedelta(seconds=pause)
        snapshot = builder.update(seen, now=now)
        check(snapshot, seen)
        assert snapshot.version >= version
        version = snapshot.version
    now += timedelta(seconds=PATIENCE + 0.1)
    last = replace(steps[-1][0], entities={**steps[-1][0].entities, "x@y:1": EntityEntry("x@y:1", "y", 1)})
    snapshot = builder.update(last, now=now)
    fresh = build_snapshot(last, now=now)
    assert [_timeless(one) for one in snapshot.jobs] == [_timeless(one) for one in fresh.jobs]
    assert snapshot.counts == fresh.counts
    assert snapshot.rates.oldest_wait == fresh.rates.oldest_wait
    assert snapshot.conductors == fresh.conductors or any(one.state == "crashed" for one in snapshot.conductors)


def _timeless(one: JobView) -> JobView:
    """A crash that nobody wrote down is told as of the moment it was noticed."""
    return replace(one, attempts=tuple(replace(each, ended=None) for each in one.attempts))


# -- what changes, and what it costs -----------------------------------------------------------------------------------
def test_nothing_new_is_the_same_snapshot() -> None:
    builder = Builder(title="b", limits=Limits())
    seen = listing(job("a"), job("b", owner="c1"), bins=(binned("x"),), entities=("c1@h:1",))
    first = builder.update(seen, now=NOW)
    assert builder.update(replace(seen, version=2), now=NOW + timedelta(seconds=5)) is first


def test_only_what_changed_is_made_anew() -> None:
    builder = Builder(title="b", limits=Limits())
    jobs = {f"j{number}": job(f"j{number}", number) for number in range(100)}
    first = builder.update(replace(listing(), jobs=jobs), now=NOW)
    changed = builder.update(replace(listing(), jobs={**jobs, "j7": job("j7", 7, failures=3)}), now=NOW)
    assert changed.version == first.version + 1
    assert changed.jobs[0].key == "j7"
    assert sum(1 for key in jobs if changed.by_key[key] is not first.by_key[key]) == 1
    assert first.by_key["j7"].standing == "waiting"


def test_time_alone_ends_a_hold() -> None:
    builder = Builder(title="b", limits=Limits())
    seen = listing(job("a", failures=1, hold=30), offset=10.0)
    assert builder.update(seen, now=NOW).by_key["a"].state == "held"
    assert builder.next_due() == (NOW + timedelta(seconds=20)).timestamp()
    assert builder.update(seen, now=NOW + timedelta(seconds=21)).by_key["a"].state == "waiting"
    assert builder.next_due() is None


def test_a_record_that_arrives_before_its_claim_is_no_crash() -> None:
    builder = Builder(title="b", limits=Limits())
    builder.update(listing(job("a")), now=NOW)
    half = listing(job("a", failures=1, history=(attempt(2, None), attempt(1))))
    assert builder.update(half, now=NOW).by_key["a"].failures == 1
    assert builder.update(half, now=NOW + timedelta(seconds=PATIENCE + 0.01)).by_key["a"].failures == 2


def test_a_lost_connection_keeps_the_data_and_its_date() -> None:
    builder = Builder(title="b", limits=Limits())
    seen = listing(job("a"))
    live = builder.update(seen, now=NOW)
    lost = Connection("lost", NOW, "no answer from h1", NOW + timedelta(seconds=4))
    later = builder.update(replace(seen, connection=lost), now=NOW + timedelta(seconds=2))
    assert live.taken_at == NOW
    assert later.version == live.version + 1
    assert (later.connection, later.taken_at, later.jobs) == (lost, seen.taken_at, live.jobs)
    retried = replace(lost, next_try=NOW + timedelta(seconds=9))
    assert builder.update(replace(seen, connection=retried), now=NOW + timedelta(seconds=3)).connection == retried


def test_a_heap_of_waits_does_not_grow_for_ever() -> None:
    builder = Builder(title="b", limits=Limits())
    for number in range(6000):
        builder.update(listing(job("old", 999), job("a", 1, failures=number % 2)), now=NOW)
    assert len(builder._waiting) < 3000
    assert builder.update(listing(job("old", 999)), now=NOW).rates.oldest_wait == 960.0


# -- conductors --------------------------------------------------------------------------------------------------------
def conductors(snapshot: Snapshot) -> Mapping[str, tuple[str, str, int]]:
    return {one.name: (one.state, one.place, one.jobs) for one in snapshot.conductors}


def test_conductors_of_others_ours_and_the_dead() -> None:
    here = f"w1@{socket.gethostname()}:{os.getpid()}"
    snapshot = build_snapshot(
        listing(
            job("a", owner="c1"),
            job("b", owner="c1"),
            job("c", owner="w1"),
            job("d", owner="c3"),
            entities=("c10@h:9", "c1@h:1", here),
        ),
        now=NOW,
        workers=(worker("w2", state="paused"), worker("w1", "c")),
    )
    assert conductors(snapshot) == {
        "c1": ("running", "h:1", 2),
        "c10": ("running", "h:9", 0),
        "w1": ("running", "here", 1),
        "w2": ("paused", "here", 0),
        "c3": ("crashed", "", 1),
    }
    assert [one.name for one in snapshot.conductors] == ["c1", "c10", "w1", "w2", "c3"]
    assert snapshot.conductors[-1].since == ago(20)
    owners = {one.key: one.owner_alive for one in snapshot.jobs}
    assert owners == {"a": True, "b": True, "c": True, "d": False}


def test_a_conductor_of_ours_that_was_scaled_away_does_not_come_back_as_somebody_elses() -> None:
    ours = tuple(f"w{number}@{socket.gethostname()}:{os.getpid()}" for number in (1, 2))
    builder = Builder(title="b", limits=Limits())
    seen = listing(entities=ours)
    assert conductors(builder.update(seen, now=NOW, workers=(worker("w1"), worker("w2")))).keys() == {"w1", "w2"}
    # It stays registered for as long as our session lasts.
    assert conductors(builder.update(seen, now=NOW, workers=(worker("w1"),))).keys() == {"w1"}


def test_a_board_that_knows_no_conductors_suspects_nobody() -> None:
    snapshot = build_snapshot(listing(job("a", owner="c1")), now=NOW)
    assert (snapshot.jobs[0].owner_alive, snapshot.jobs[0].health) == (None, "ok")
    assert not snapshot.conductors


def test_a_conductor_that_dies_is_told_with_its_place_and_time_also_as_the_last_one() -> None:
    builder = Builder(title="b", limits=Limits())
    builder.update(listing(job("a", owner="c1"), job("b", owner="c2"), entities=("c1@h:1",)), now=NOW)
    later = NOW + timedelta(seconds=30)
    snapshot = builder.update(listing(job("a", owner="c1"), job("b", owner="c2")), now=later)
    assert conductors(snapshot) == {"c1": ("crashed", "h:1", 1), "c2": ("crashed", "", 1)}
    assert snapshot.conductors[0].since == later
    assert snapshot.by_key["a"].standing == "suspect"
    snapshot = builder.update(listing(job("a", owner="c1"), entities=("c1@h:1",)), now=later)
    assert conductors(snapshot) == {"c1": ("running", "h:1", 1)}
    assert snapshot.by_key["a"].standing == "claimed"


def test_two_of_one_name_are_told_apart_by_session() -> None:
    seen = listing(job("a", owner="c1", session="s1"), job("b", owner="c1", session="s2"))
    entities = {f"c1@{host}:1": EntityEntry(f"c1@{host}:1", host, 1, f"s{n}") for n, host in ((1, "h"), (2, "g"))}
    snapshot = build_snapshot(replace(seen, entities=entities), now=NOW)
    assert [(one.place, one.jobs) for one in snapshot.conductors] == [("g:1", 1), ("h:1", 1)]


def test_a_name_with_an_at_sign_and_a_number_of_any_length() -> None:
    snapshot = build_snapshot(
        listing(job("a", owner="c2@ctl-b"), entities=("c2@ctl-b@h:1", "9" * 5000 + "@h:2")), now=NOW
    )
    assert snapshot.jobs[0].owner_alive is True
    assert conductors(snapshot)["c2@ctl-b"][2] == 1


# -- causes and rates --------------------------------------------------------------------------------------------------
def test_causes_of_the_last_hour_on_board_and_in_the_bin_worst_first() -> None:
    other = make_cause("ImportError", "no module", "flows/mk.py:9 in make")
    snapshot = build_snapshot(
        listing(
            job("a", failures=3, history=(attempt(3, 10), attempt(2, 20), attempt(1, 3700))),
            job("b", failures=1, history=(attempt(1, 5, error=other),)),
            job("c", history=(attempt(1, 5, "suspended", None),)),
            bins=(binned("x", 30, attempt(9, 30)),),
        ),
        now=NOW,
    )
    first, second = snapshot.causes
    assert (first.example, first.count, set(first.jobs)) == (BOOM, 3, {"a", "x"})
    assert (first.first, first.last) == (ago(30), ago(10))
    assert (second.example.type, second.count, second.jobs) == ("ImportError", 1, ("b",))
    assert sum(snapshot.rates.failed) == 4
    assert sum(snapshot.rates.done) == 0


def test_what_was_counted_stays_for_an_hour_after_its_job_is_gone() -> None:
    builder = Builder(title="b", limits=Limits())
    builder.update(listing(job("a", failures=1, history=(attempt(1, 0),))), now=NOW)
    gone = builder.update(listing(), now=NOW + timedelta(minutes=59))
    assert gone.causes[0].count == 1
    assert (gone.rates.failed[0], sum(gone.rates.failed)) == (1, 1)
    over = builder.update(listing(), now=NOW + timedelta(minutes=61))
    assert over.causes == ()
    assert sum(over.rates.failed) == 0


def test_one_attempt_told_in_several_ways_is_counted_once() -> None:
    for order in ("record first", "fleet first"):
        builder = Builder(title="b", limits=Limits())
        told = listing(job("a", failures=2, history=(attempt(2, 1), attempt(1, 4))))
        if order == "record first":
            builder.update(told, now=NOW)
        for seconds in (3.9, 0.9):
            builder.closings.from_fleet("a", "c1", ago(seconds), "abandoned", BOOM, NOW)
        snapshot = builder.update(told, now=NOW)
        assert sum(snapshot.rates.failed) == 2, order
        assert snapshot.causes[0].count == 2, order


def test_a_consumed_job_is_counted_once_by_fleet_and_removal() -> None:
    builder = Builder(title="b", limits=Limits())
    closings = builder.closings
    closings.from_fleet("a", "w1", ago(1), "consumed", None, NOW)
    assert closings.ended("a", ago(1))
    closings.from_removal("a", ago(1), "consumed", NOW)
    closings.from_fleet("b", "w1", ago(1), "failed", BOOM, NOW)
    closings.from_removal("c", ago(1), "consumed", NOW)
    closings.from_fleet("d", "w1", ago(1), "suspended", None, NOW)
    snapshot = builder.update(listing(), now=NOW)
    assert (sum(snapshot.rates.done), sum(snapshot.rates.failed)) == (2, 1)
    assert snapshot.rates.done[-2:] == (2, 0) or snapshot.rates.done[-1] == 2
    assert snapshot.causes[0].jobs == ("b",)
    assert len(snapshot.rates.done) == len(snapshot.rates.failed) == 60


def test_the_oldest_wait() -> None:
    wait = build_snapshot(listing(job("a", 59), job("b", 900, owner="c1"), job("c", 999, failures=1, hold=4)), now=NOW)
    assert wait.rates.oldest_wait == 59
    assert build_snapshot(listing(job("a", 125)), now=NOW).rates.oldest_wait == 120
    assert build_snapshot(listing(), now=NOW).rates.oldest_wait is None


def test_any_year_in_a_foreign_record_is_borne() -> None:
    for year in (1, 9999):
        when = datetime(year, 1 if year == 1 else 12, 1 if year == 1 else 31, tzinfo=UTC)
        strange = replace(attempt(1), began=when, ended=when)
        entry = job("a", failures=1, history=(strange,))
        assert entry.record is not None
        entry = replace(entry, record=replace(entry.record, hold_until=when))
        for offset in (-3600.0, 3600.0):
            builder = Builder(title="b", limits=Limits())
            builder.update(listing(entry, offset=offset), now=NOW)
            builder.next_due()
