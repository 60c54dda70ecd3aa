"""The live model on real boards with a real store: what others do is seen, counted once, and told in plain words."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from taskflow import states, task
from taskflow.patterns import linear_flow
from taskflow.types import entity

from conductor_console.conductors.fleet import Fleet
from conductor_console.jobboards.attempts import Policy, make_cause
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.observatory import Observatory, Snapshot
from conductor_console.observatory.snapshot import JobView
from conductor_console.operations import Operations, PostRequest
from tests.integration.helpers import found, opened, take
from tests.servers import running_zookeeper
from tests.support import eventually

BOOM = make_cause("ValueError", "no such port 4711", "shop/flows.py:41 in save")


class Works(task.Task):
    def execute(self) -> None:
        """Nothing to do."""


class Breaks(task.Task):
    def execute(self) -> None:
        raise ValueError("no such port 4711")


def healthy() -> linear_flow.Flow:
    return linear_flow.Flow("healthy").add(Works())


def sick() -> linear_flow.Flow:
    return linear_flow.Flow("sick").add(Breaks())


@contextlib.contextmanager
def watching(board: LedgerBoard, **options: Any) -> Iterator[Observatory]:
    observatory = Observatory(board, title="shop", **options)
    observatory.start()
    try:
        yield observatory
    finally:
        observatory.stop()


@pytest.fixture
def sight(board: LedgerBoard, store: Any) -> Iterator[Observatory]:
    with watching(board, store=store, policy=Policy(max_attempts=8)) as observatory:
        yield observatory


@pytest.fixture
def ops(board: LedgerBoard, store: Any) -> Operations:
    return Operations(board, operator="anna", store=store)


def posted(ops: Operations, name: str = "order", count: int = 1) -> list[str]:
    return ops.post(PostRequest("shop.flows:checkout", name, count=count))


def shows(sight: Observatory, when: Callable[[Snapshot], object], what: str) -> Snapshot:
    return found(lambda: seen if when(seen := sight.snapshot()) else None, what)


def view(sight: Observatory, key: str, when: Callable[[JobView], object], what: str) -> JobView:
    def look() -> JobView | None:
        seen = sight.snapshot().by_key.get(key)
        return seen if seen is not None and when(seen) else None

    return found(look, what)


def register(board: LedgerBoard, name: str) -> None:
    board.register_entity(entity.Entity("conductor", f"{name}@host-b:99", {"hostname": "host-b", "pid": 99}))


def texts(sight: Observatory) -> list[str]:
    return [event.text for event in reversed(sight.snapshot().events)]


def test_a_job_is_followed_from_post_to_bin_and_back(
    sight: Observatory, ops: Operations, board: LedgerBoard, other: LedgerBoard
) -> None:
    version = sight.snapshot().version
    (key,) = posted(ops)
    waiting = view(sight, key, lambda seen: seen.state == "waiting", "the posted job")
    assert (waiting.name, waiting.limit, waiting.failures) == ("order", 8, 0)
    assert sight.snapshot().version > version

    register(other, "c9")
    taken = take(other, key, "c9")
    held = view(sight, key, lambda seen: seen.state == "claimed" and seen.owner_alive, "the claim")
    assert held.owner == "c9"
    shown = shows(sight, lambda seen: any(one.jobs for one in seen.conductors), "its conductor")
    assert [(one.name, one.place, one.here, one.jobs) for one in shown.conductors] == [("c9", "host-b:99", False, 1)]

    other.abandon(taken, "c9", error=BOOM, hold=300)
    failed = view(sight, key, lambda seen: seen.state == "held", "the hold")
    assert (failed.failures, failed.tries, failed.health, failed.cause) == (1, 1, "ok", BOOM)
    assert failed.hold_until is not None
    counted = shows(sight, lambda seen: seen.causes, "the cause")
    assert (counted.causes[0].count, counted.causes[0].jobs) == (1, (key,))
    assert sum(counted.rates.failed) == 1

    ops.bin([failed.entry])
    gone = shows(sight, lambda seen: seen.binned and not seen.jobs, "the binned job")
    assert gone.counts == {"binned": 1}
    ops.undo()
    back = view(sight, key, lambda seen: seen.failures == 0, "the job back")
    assert back.tries == 1
    shows(sight, lambda seen: any("left the bin" in event.text for event in seen.events), "the events")
    told = texts(sight)
    for what in ("posted", "claimed by c9", "let go", "moved to the bin by anna", "left the bin"):
        assert f"order {what}" in told
    assert sum(sight.snapshot().rates.failed) == 1


def test_what_was_there_before_is_there_at_once(ops: Operations, board: LedgerBoard) -> None:
    keys = posted(ops, count=5)
    eventually(lambda: len(board.listing().jobs) == 5, what="five jobs")
    with watching(board) as sight:
        seen = sight.snapshot()
        assert set(seen.by_key) == set(keys)
        assert (seen.board, seen.counts, seen.complete) == ("shop", {"waiting": 5}, True)
        assert seen.connection.state == "live"


def test_time_alone_ends_a_hold(sight: Observatory, ops: Operations, other: LedgerBoard) -> None:
    (key,) = posted(ops)
    other.abandon(take(other, key), "c9", error=BOOM, hold=1.5)
    view(sight, key, lambda seen: seen.state == "held", "the hold")
    view(sight, key, lambda seen: seen.state == "waiting" and seen.failures == 1, "the end of the hold")


def test_a_claim_whose_owner_nobody_registered_is_suspect(
    sight: Observatory, ops: Operations, other: LedgerBoard
) -> None:
    (key,) = posted(ops)
    register(other, "c1")
    take(other, key, "ghost")
    seen = view(sight, key, lambda one: one.standing == "suspect", "the suspicion")
    assert seen.owner_alive is False
    shown = shows(sight, lambda one: any(each.state == "crashed" for each in one.conductors), "the ghost")
    assert [(one.name, one.state, one.jobs) for one in shown.conductors] == [
        ("c1", "running", 0),
        ("ghost", "crashed", 1),
    ]


def test_what_others_consume_is_counted_as_its_flow_ended(
    sight: Observatory, ops: Operations, store: Any, other: LedgerBoard
) -> None:
    good, bad, deleted = posted(ops, count=3)
    for key, state in ((good, states.SUCCESS), (bad, states.REVERTED)):
        entry = view(sight, key, lambda _: True, "the job").entry
        with contextlib.closing(store.get_connection()) as connection:
            book = connection.get_logbook(entry.book_uuid)
            (flow,) = list(book)
            flow.state = state
            connection.update_flow_details(flow)
        taken = take(other, key)
        view(sight, key, lambda seen: seen.state == "claimed", "the claim")
        other.consume(taken, "c9")
    ops.delete([view(sight, deleted, lambda _: True, "the job").entry])
    counted = shows(sight, lambda seen: any(seen.rates.done) and any(seen.rates.failed), "both counts")
    assert (sum(counted.rates.done), sum(counted.rates.failed), counted.total) == (1, 1, 0)


def test_without_a_store_what_was_claimed_and_is_gone_counts_as_done(
    ops: Operations, board: LedgerBoard, other: LedgerBoard
) -> None:
    with watching(board) as sight:
        consumed, deleted = posted(ops, count=2)
        taken = take(other, consumed)
        view(sight, consumed, lambda seen: seen.state == "claimed", "the claim")
        other.consume(taken, "c9")
        ops.delete([view(sight, deleted, lambda _: True, "the job").entry])
        counted = shows(sight, lambda seen: any(seen.rates.done), "the count")
        assert (sum(counted.rates.done), sum(counted.rates.failed)) == (1, 0)


@pytest.mark.parametrize("on_failure", ["consume", "abandon"])
def test_the_work_of_our_own_fleet_is_counted_once(
    ops: Operations, board: LedgerBoard, store: Any, on_failure: str
) -> None:
    policy = Policy(max_attempts=2, base=0.2)
    fleet = Fleet(board, store, count=2, policy=policy, on_failure=on_failure)
    with watching(board, store=store, fleet=fleet, policy=policy) as sight:
        fleet.start()
        try:
            shown = shows(sight, lambda seen: len(seen.conductors) == 2, "two conductors")
            assert [(one.name, one.place, one.here) for one in shown.conductors] == [
                ("w1", "here", True),
                ("w2", "here", True),
            ]
            ops.post(PostRequest(f"{__name__}:healthy", "good", count=8))
            (bad,) = ops.post(PostRequest(f"{__name__}:sick", "bad"))
            failures = 1 if on_failure == "consume" else 2
            done = shows(
                sight,
                lambda seen: sum(seen.rates.done) >= 8 and sum(seen.rates.failed) >= failures and not seen.jobs,
                "all done",
            )
            # Longer than a removal waits for better news: none of them is counted again.
            eventually(lambda: not sight._removals._waiting, what="the removals to be settled")
            sight.note("operator", "settled")
            done = shows(sight, lambda seen: seen.events[0].text == "settled", "the last look")
            assert (sum(done.rates.done), sum(done.rates.failed)) == (8, failures)
            (cause,) = done.causes
            assert (cause.example.type, cause.count, cause.jobs) == ("ValueError", failures, (bad,))
            assert [entry.key for entry in done.binned] == ([] if on_failure == "consume" else [bad])
            # What became of a job is told once, by whoever did it: not that it was let go and left as well.
            ended = [event for event in done.events if event.kind in ("done", "failed")]
            assert sum(event.what.startswith(("done by w1 after 0:", "done by w2 after 0:")) for event in ended) == 8
            assert sum("failed and reverted on w" in event.text for event in ended) == failures
            binned = {event.key for event in done.events if event.kind == "bin"}
            assert [event.text for event in done.events if event.kind in ("removed", "released")] == []
            assert binned == (set() if on_failure == "consume" else {bad})
        finally:
            assert fleet.stop(30) == []
        shows(sight, lambda seen: all(one.state == "stopped" for one in seen.conductors), "the conductors stopped")


def test_notes_are_clean_and_the_newest_events_stay(sight: Observatory) -> None:
    for number in range(600):
        sight.note("operator", f"line {number}\x1b[0m", key="k")
    seen = shows(sight, lambda one: one.events and "line 599" in one.events[0].text, "the last note")
    assert len(seen.events) == 500
    assert (seen.events[0].text, seen.events[0].kind, seen.events[0].key) == ("line 599\\x1b[0m", "operator", "k")


def test_it_outlives_a_board_that_misbehaves(
    sight: Observatory, ops: Operations, board: LedgerBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted(ops, "before")
    shows(sight, lambda seen: seen.total == 1, "one job")

    def broken() -> None:
        raise RuntimeError("odd\x1b")

    with monkeypatch.context() as patch:
        patch.setattr(board, "listing", broken)
        sight.note("operator", "look")
        eventually(lambda: sight._ailing, what="the trouble to be noticed")
        assert sight.snapshot().total == 1
    posted(ops, "after")

    def told(seen: Snapshot) -> bool:
        return any("not up to date" in event.text and "\x1b" not in event.text for event in seen.events)

    # The trouble is told a moment after it is noticed.
    shows(sight, lambda one: one.total == 2 and told(one), "the view to recover, and the trouble to be told")


def test_stopping_ends_its_threads_and_keeps_the_picture(board: LedgerBoard, ops: Operations, store: Any) -> None:
    before = set(threading.enumerate())
    with watching(board, store=store) as sight:
        posted(ops)
        shows(sight, lambda seen: seen.total == 1, "the job")
        assert {one.name for one in set(threading.enumerate()) - before} >= {"observatory", "observatory-store"}
    assert not {one.name for one in threading.enumerate() if one.name.startswith("observatory")}
    posted(ops)
    assert sight.snapshot().total == 1
    Observatory(board, title="never started").stop()


def test_a_lost_server_keeps_the_data_dated_and_comes_back(tmp_path: Path, store: Any) -> None:
    with running_zookeeper() as server, opened(f"zk://{server.hosts}/shop/jobs?timeout=2", store) as board:
        ops = Operations(board, operator="anna", store=store)
        posted(ops, count=3)
        with watching(board) as sight:
            live = shows(sight, lambda seen: seen.total == 3, "three jobs")
            server.stop()
            lost = shows(sight, lambda seen: seen.connection.state == "lost", "the loss")
            assert lost.total == 3
            assert lost.version > live.version
            assert lost.counts == live.counts
            assert lost.connection.detail
            server.start()
            back = shows(sight, lambda seen: seen.connection.state == "live", "the connection back")
            assert back.total == 3
            assert any(event.kind == "connection" for event in back.events)
