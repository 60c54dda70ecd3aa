"""What every board of ours promises to conductors, on each kind of board: posting, claiming, letting go, crashes."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.base import JobPriority
from taskflow.persistence import models

from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, settled
from conductor_console.jobboards.base import (
    BoardJob,
    LedgerBoard,
)
from tests import boards
from tests.boards import (
    BOOM,
    POLICY,
    Place,
    claimed,
    entry_of,
    fail,
    free,
    names,
    ready,
    same_job,
    seen,
    seen_binned,
    unseen,
)
from tests.support import eventually

#: Fixtures.
nowhere, place, ours, theirs = boards.nowhere, boards.place, boards.ours, boards.theirs


# -- posting and handing out -------------------------------------------------------------------------------------------


def test_a_posting_arrives_whole(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    book = models.LogBook("book")
    job = ours.post(
        "a", book=book, details={"flow_uuid": "f", "store": {"x": [1, "\u00fc"]}}, priority=JobPriority.HIGH
    )
    for board in (ours, theirs):
        entry = seen(board, job)
        assert (entry.name, entry.uuid, entry.priority, entry.problem) == ("a", job.uuid, JobPriority.HIGH, None)
        assert entry.details == {"flow_uuid": "f", "store": {"x": [1, "\u00fc"]}}
        assert (entry.flow_uuid, entry.book_uuid, entry.book_name) == ("f", book.uuid, "book")
        assert (entry.claim, entry.workable) == (None, True)
        assert abs((entry.created_at - utcnow()).total_seconds()) < 60
        assert entry.size > 50
    found = same_job(theirs, job)
    assert (found.name, found.uuid, found.priority, found.book_uuid) == ("a", job.uuid, JobPriority.HIGH, book.uuid)
    assert found.details == job.details
    assert job.book is book
    assert job.created_on == found.created_on
    assert job.created_on.tzinfo is None


def test_jobs_are_handed_out_by_priority_then_as_posted(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    for name, priority in (
        ("n1", "NORMAL"),
        ("low", "very_low"),
        ("n2", "normal"),
        ("high", "VERY_HIGH"),
        ("h", "HIGH"),
    ):
        ours.post(name, priority=JobPriority.convert(priority))
    expected = ["high", "h", "n1", "n2", "low"]
    assert names(ours) == ready(ours) == expected
    eventually(lambda: names(theirs) == expected, what="all five jobs")
    assert ready(theirs) == expected
    assert (ours.job_count, theirs.job_count) == (5, 5)


def test_iterating_leaves_out_what_is_claimed_if_asked(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    one, _two = ours.post("one"), ours.post("two")
    ours.claim(one, "c1")
    assert names(ours) == ["one", "two"]
    assert names(ours, only_unclaimed=True) == ["two"]
    assert names(theirs, ensure_fresh=True) == ["one", "two"]
    assert names(theirs, only_unclaimed=True, ensure_fresh=True) == ["two"]
    iterator = ours.iterjobs(only_unclaimed=True)
    assert (iterator.only_unclaimed, iterator.ensure_fresh, iterator.board) == (True, False, ours)


def test_waiting_for_jobs(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    with pytest.raises(excp.NotFound):
        ours.wait(timeout=0.05)
    found: list[str] = []
    waiter = threading.Thread(target=lambda: found.extend(job.name for job in ours.wait(timeout=30)))
    waiter.start()
    theirs.post("a")
    waiter.join(30)
    assert found == ["a"]


def test_waiting_for_a_jobs_end(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    assert not job.wait(timeout=0.05)
    theirs_job = same_job(theirs, job)
    theirs.claim(theirs_job, "c1")
    assert not job.wait(timeout=0.05)
    theirs.consume(theirs_job, "c1")
    assert job.wait(timeout=30)


# -- claiming ----------------------------------------------------------------------------------------------------------


def test_a_claim_is_seen_by_all_and_opens_an_attempt(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a", details={"flow_uuid": "f"})
    assert ours.attempts(job) == AttemptRecord(seen(ours, job).key)
    assert job.state == states.UNCLAIMED
    ours.claim(job, "c1")
    mine, other = seen(ours, job, claimed).claim, seen(theirs, job, claimed).claim
    assert mine is not None
    assert other is not None
    assert (mine.owner, mine.id, mine.problem) == (other.owner, other.id, None) == ("c1", other.id, None)
    assert abs((mine.claimed_at - utcnow()).total_seconds()) < 60
    assert job.state == same_job(theirs, job).state == states.CLAIMED
    assert ours.find_owner(job) == theirs.find_owner(same_job(theirs, job)) == "c1"
    assert ours.holds(job)
    assert not theirs.holds(same_job(theirs, job))
    for board in (ours, theirs):
        record = board.attempts(same_job(board, job))
        attempt = record.open_attempt
        assert attempt is not None
        assert (record.attempts, record.failures) == (1, 0)
        assert (attempt.n, attempt.flow, attempt.who.partition("@")[0]) == (1, "f", "c1")
        listed = seen(board, job, lambda entry: entry.record).record
        assert listed == record


@pytest.mark.parametrize("who", ["c1", "c2"])
def test_a_claimed_job_cannot_be_claimed(ours: LedgerBoard, theirs: LedgerBoard, who: str) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    for board in (ours, theirs):
        with pytest.raises(excp.UnclaimableJob):
            board.claim(same_job(board, job), who)
    assert ours.attempts(job).attempts == 1


def test_a_job_that_is_gone_cannot_be_claimed(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    other = same_job(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    for board, gone in ((ours, job), (theirs, other)):
        with pytest.raises(excp.NotFound):
            board.claim(gone, "c2")


@pytest.mark.parametrize(("who", "error"), [("", ValueError), (None, TypeError)])
def test_an_applicant_has_a_name(ours: LedgerBoard, who: Any, error: type[Exception]) -> None:
    job = ours.post("a")
    for act in (ours.claim, ours.consume, ours.abandon, ours.trash):
        with pytest.raises(error):
            act(job, who)


def test_many_that_claim_at_once_get_each_job_once(place: Place) -> None:
    boards = [place.connected() for _ in range(2)]
    jobs = [boards[0].post(f"j{number}") for number in range(8)]
    for board in boards:
        eventually(lambda board=board: board.job_count == len(jobs), what="all jobs")  # type: ignore[misc]
    won: queue.SimpleQueue[str] = queue.SimpleQueue()
    refused: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    start = threading.Barrier(4)

    def claim_all(board: LedgerBoard, who: str) -> None:
        mine = list(board.iterjobs())
        start.wait(30)
        for job in mine:
            try:
                board.claim(job, who)
            except excp.UnclaimableJob:
                continue
            except BaseException as error:
                refused.put(error)
            else:
                won.put(job.uuid)

    threads = [
        threading.Thread(target=claim_all, args=(board, f"c{number}"))
        for number, board in enumerate(board for board in boards for _ in range(2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused.empty()
    assert sorted(won.get_nowait() for _ in range(won.qsize())) == sorted(job.uuid for job in jobs)
    assert {boards[1].attempts(same_job(boards[1], job)).attempts for job in jobs} == {1}


# -- letting go --------------------------------------------------------------------------------------------------------


def test_consuming_takes_job_and_record_away(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    other = same_job(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    assert entry_of(ours, job.uuid) is None
    unseen(theirs, job)
    assert job.state == other.state == states.COMPLETE
    assert not ours.holds(job)
    for board, gone in ((ours, job), (theirs, other)):
        with pytest.raises(excp.NotFound):
            board.attempts(gone)
        with pytest.raises(excp.NotFound):
            board.consume(gone, "c1")


@pytest.mark.parametrize("act", ["consume", "abandon", "trash"])
def test_only_the_claims_holder_may_end_it(ours: LedgerBoard, theirs: LedgerBoard, act: str) -> None:
    job = ours.post("a")
    other = same_job(theirs, job)
    with pytest.raises(excp.NotFound):
        getattr(ours, act)(job, "c1")
    ours.claim(job, "c1")
    seen(theirs, job, claimed)
    with pytest.raises(excp.JobFailure):
        getattr(ours, act)(job, "c2")
    with pytest.raises(excp.JobFailure):
        getattr(theirs, act)(other, "c2")
    # The same name does not make it the same claim.
    with pytest.raises((excp.JobFailure, excp.NotFound)):
        getattr(theirs, act)(other, "c1")
    assert ours.holds(job)
    assert ours.find_owner(job) == "c1"


def test_abandoning_closes_the_attempt_and_holds_the_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job, _other = ours.post("a"), ours.post("b")
    before = utcnow()
    ours.claim(job, "c1")
    ours.abandon(job, "c1", error=BOOM, hold=60)
    assert not ours.holds(job)
    assert job.state == states.UNCLAIMED
    record = ours.attempts(job)
    attempt = record.history[0]
    assert (record.attempts, record.failures) == (1, 1)
    assert (attempt.outcome, attempt.error) == ("abandoned", BOOM)
    assert attempt.claim is not None
    assert attempt.ended is not None
    assert attempt.began <= attempt.ended
    assert record.hold_until is not None
    assert 59 < (record.hold_until - before).total_seconds() < 120
    for board in (ours, theirs):
        assert seen(board, job, lambda entry: entry.record and free(entry)).record == record
        assert ready(board) == ["b"]
        until = board.candidates(utcnow())[1]
        assert until is not None
        assert abs((until - record.hold_until).total_seconds()) < 5
        assert ready(board, later=300) == ["a", "b"]
        assert sorted(names(board, only_unclaimed=True)) == ["a", "b"]


def test_what_is_no_failure_is_not_counted_as_one(ours: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    ours.claim(job, "c1")
    ours.abandon(job, "c1", outcome="suspended")
    record = ours.attempts(job)
    assert (record.attempts, record.failures, record.hold_until) == (2, 1, None)
    assert [attempt.outcome for attempt in record.history] == ["suspended", "abandoned"]
    assert ready(ours) == ["a"]
    assert ours.candidates(utcnow())[1] is None


def test_a_held_job_may_be_claimed_by_those_who_know_no_holds(ours: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=60)
    ours.claim(job, "c1")
    assert ours.attempts(job).hold_until is None


def test_a_claim_can_be_turned_down_by_the_very_record_it_is_written_into(
    ours: LedgerBoard, theirs: LedgerBoard
) -> None:
    job = ours.post("a")
    stale = same_job(theirs, job)
    ours.claim(job, "c1")
    ours.abandon(job, "c1", error=BOOM)
    asked: list[AttemptRecord] = []

    def failed(record: AttemptRecord) -> bool:
        asked.append(record)
        return record.failures > 0

    with pytest.raises(excp.UnclaimableJob):
        theirs.claim(stale, "c2", unless=failed)
    assert asked[-1].failures == 1
    assert theirs.attempts(stale).attempts == 1
    theirs.claim(stale, "c2", unless=lambda record: record.failures > 1)
    assert theirs.attempts(stale).attempts == 2


def test_trash_moves_the_job_to_the_bin_with_its_reason(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a", priority=JobPriority.LOW)
    other = same_job(theirs, job)
    ours.claim(job, "c1")
    ours.trash(job, "c1", why="5 failures", outcome="failed", error=BOOM)
    assert not ours.holds(job)
    assert job.state == states.COMPLETE
    for board in (ours, theirs):
        entry = seen_binned(board, job, lambda binned: binned.record)
        unseen(board, job)
        assert (entry.name, entry.priority, entry.why) == ("a", JobPriority.LOW, "5 failures")
        assert (entry.who or "").partition("@")[0] == "c1"
        assert entry.binned_at is not None
        assert b'"a"' in entry.posting
        assert entry.record is not None
        assert (entry.record.failures, entry.record.history[0].outcome) == (1, "failed")
        assert entry.record.cause == BOOM
    assert theirs.attempts(other).attempts == 1
    with pytest.raises(excp.NotFound):
        ours.claim(job, "c1")


def test_taskflow_lets_go_without_saying_how(ours: LedgerBoard) -> None:
    one, two = ours.post("one"), ours.post("two")
    for job in (one, two):
        ours.claim(job, "c1")
    ours.abandon(one, "c1")
    ours.trash(two, "c1")
    assert ours.attempts(one).history[0].outcome == "abandoned"
    assert ours.attempts(two).history[0].outcome == "abandoned"


# -- crashes -----------------------------------------------------------------------------------------------------------


def crash(place: Place, job: BoardJob, watcher: LedgerBoard, who: str = "doomed") -> None:
    """A conductor claims the job and is gone, without a word."""
    board = place.connected()
    board.claim(same_job(board, job), who)
    seen(watcher, job, claimed)
    board.close()
    seen(watcher, job, free)


def test_a_dead_claim_is_free_and_its_attempt_settled_as_crashed(place: Place, ours: LedgerBoard) -> None:
    job = ours.post("a")
    crash(place, job, ours)
    assert job.state == states.UNCLAIMED
    assert ours.find_owner(job) is None
    told = settled(ours.attempts(job), claimed=False, now=utcnow())
    assert told is not None
    assert told.history[0].outcome == "crashed"
    record = ours.settle(job, POLICY)
    assert record == ours.attempts(job)
    attempt = record.history[0]
    assert (record.attempts, record.failures, attempt.outcome) == (1, 1, "crashed")
    assert attempt.who.partition("@")[0] == "doomed"
    assert attempt.claim is not None
    assert record.hold_until is None
    assert ready(ours) == ["a"]


def test_the_second_crash_in_a_row_is_held(place: Place, ours: LedgerBoard) -> None:
    job = ours.post("a")
    for _ in range(2):
        crash(place, job, ours)
        ours.settle(job, POLICY)
    record = ours.attempts(job)
    assert (record.attempts, record.failures) == (2, 2)
    assert record.held(utcnow())
    eventually(lambda: ready(ours) == [], what="the hold in the listing")
    assert ready(ours, later=600) == ["a"]


def test_claiming_over_a_crash_counts_it(place: Place, ours: LedgerBoard) -> None:
    job = ours.post("a")
    crash(place, job, ours)
    ours.claim(job, "c1")
    record = ours.attempts(job)
    assert (record.attempts, record.failures) == (2, 1)
    assert [attempt.outcome for attempt in record.history] == [None, "crashed"]
    ours.consume(job, "c1")
    assert job.state == states.COMPLETE


def test_settling_writes_only_where_an_attempt_is_open(ours: LedgerBoard) -> None:
    job = ours.post("a")
    assert ours.settle(job, POLICY).attempts == 0
    assert seen(ours, job).record_version is None
    fail(ours, job)
    before = seen(ours, job, lambda entry: entry.record and not entry.record.open_attempt)
    assert ours.settle(job, POLICY) == ours.attempts(job) == before.record
    ours.refresh()
    assert seen(ours, job).record_version == before.record_version


def test_settling_what_is_claimed_or_gone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    other = same_job(theirs, job)
    ours.claim(job, "c1")
    with pytest.raises(excp.UnclaimableJob):
        theirs.settle(other, POLICY)
    with pytest.raises(excp.UnclaimableJob):
        ours.settle(job, POLICY)
    ours.consume(job, "c1")
    with pytest.raises(excp.NotFound):
        theirs.settle(other, POLICY)


def test_a_claim_that_was_lost_is_not_taken_for_the_next_one_of_the_same_board(
    ours: LedgerBoard, theirs: LedgerBoard
) -> None:
    posted = ours.post("a")
    lost = same_job(ours, posted)
    ours.claim(lost, "c1")
    theirs.bin(seen(theirs, posted, claimed), "op", "")
    theirs.restore(seen_binned(theirs, posted))
    seen(ours, posted, free)
    anew = same_job(ours, posted)
    ours.claim(anew, "c1")
    assert ours.holds(anew)
    assert not ours.holds(lost)
    with pytest.raises(excp.NotFound):
        ours.consume(lost, "c1")
    ours.consume(anew, "c1")
    unseen(theirs, posted)
