"""What every board of ours promises, on each kind of board: two board objects look at the same place."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.base import POSTED, REMOVAL, JobPriority
from taskflow.persistence import models
from taskflow.types.entity import Entity

from conductor_console import jobboards
from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import AttemptRecord, Policy, make_cause, settled
from conductor_console.jobboards.base import (
    BinEntry,
    BoardEvent,
    BoardJob,
    Changed,
    Gone,
    JobEntry,
    LedgerBoard,
    Refused,
)
from tests.support import eventually

BOOM = make_cause("StorageFailure", "cannot save", "pkg/mod.py:41 in save")
POLICY = Policy(base=60, jitter=0)


@dataclass
class Place:
    """Somewhere a board may be, and the board objects that a test opened on it."""

    conf: dict[str, Any]
    opened: list[LedgerBoard] = field(default_factory=list)

    def board(self, **options: Any) -> LedgerBoard:
        """A board object that is not connected."""
        board: LedgerBoard = jobboards.fetch(self.conf, name="test", **options)
        self.opened.append(board)
        return board

    def connected(self, **options: Any) -> LedgerBoard:
        board = self.board(**options)
        board.connect()
        return board


@pytest.fixture(params=["sqlite", "zookeeper"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place where no board is yet."""
    if request.param == "sqlite":
        conf = {"board": "sqlite", "path": str(tmp_path / "board.db")}
    else:
        hosts, path = request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path")
        conf = {"board": "zookeeper", "hosts": hosts, "path": path}
    place = Place(conf)
    yield place
    for board in place.opened:
        board.close()


@pytest.fixture
def place(nowhere: Place) -> Place:
    """A place with an empty board."""
    board = nowhere.board()
    board.ensure()
    board.close()
    return nowhere


@pytest.fixture
def ours(place: Place) -> LedgerBoard:
    return place.connected()


@pytest.fixture
def theirs(place: Place) -> LedgerBoard:
    return place.connected()


def entry_of(board: LedgerBoard, uuid: str) -> JobEntry | None:
    return next((entry for entry in board.listing().jobs.values() if entry.uuid == uuid), None)


def binned_of(board: LedgerBoard, uuid: str) -> BinEntry | None:
    return next((entry for entry in board.listing().binned.values() if entry.uuid == uuid), None)


def seen(board: LedgerBoard, job: BoardJob, fits: Callable[[JobEntry], object] = lambda _: True) -> JobEntry:
    """The job in the board's listing, as soon as it is there and fits."""

    def look() -> JobEntry | None:
        entry = entry_of(board, job.uuid)
        return entry if entry is not None and fits(entry) else None

    entry = eventually(look, what=f"job {job.name} in the listing as expected")
    assert entry is not None
    return entry


def unseen(board: LedgerBoard, job: BoardJob) -> None:
    eventually(lambda: entry_of(board, job.uuid) is None, what=f"job {job.name} to leave the listing")


def seen_binned(board: LedgerBoard, job: BoardJob, fits: Callable[[BinEntry], object] = lambda _: True) -> BinEntry:
    def look() -> BinEntry | None:
        entry = binned_of(board, job.uuid)
        return entry if entry is not None and fits(entry) else None

    entry = eventually(look, what=f"job {job.name} in the bin")
    assert entry is not None
    return entry


def same_job(board: LedgerBoard, job: BoardJob) -> BoardJob:
    """The job as another board object gives it."""

    def look() -> BoardJob | None:
        return next((found for found in board.iterjobs() if found.uuid == job.uuid), None)

    found = eventually(look, what=f"job {job.name} on the board")
    assert found is not None
    return found


def claimed(entry: JobEntry) -> bool:
    return entry.claim is not None


def free(entry: JobEntry) -> bool:
    return entry.claim is None


def names(board: LedgerBoard, **options: Any) -> list[str]:
    return [job.name for job in board.iterjobs(**options)]


def ready(board: LedgerBoard, later: float = 0) -> list[str]:
    """The names of the jobs that may be tried in so many seconds."""
    return [job.name for job in board.candidates(utcnow() + timedelta(seconds=later))[0]]


def fail(board: LedgerBoard, job: BoardJob, who: str = "c1", hold: float = 0) -> None:
    """Claims the job and lets it go after an error."""
    board.claim(job, who)
    board.abandon(job, who, error=BOOM, hold=hold)


# -- being there -------------------------------------------------------------------------------------------------------


def test_a_board_that_is_not_there_is_told_in_one_line_and_not_made(nowhere: Place) -> None:
    board = nowhere.board()
    for _ in range(2):
        with pytest.raises(BoardUnreachable) as told:
            board.connect()
        assert "conductor-console init" in str(told.value)
        assert "\n" not in str(told.value)
        assert not board.connected
    assert board.listing().connection.state == "closed"


def test_ensuring_makes_the_board_once(nowhere: Place) -> None:
    board = nowhere.board()
    board.ensure()
    board.connect()
    board.post("kept")
    board.ensure()
    nowhere.board().ensure()
    board.refresh()
    assert names(board) == ["kept"]


def test_connection_and_listing_through_a_boards_life(place: Place) -> None:
    board = place.board()
    assert (board.connected, board.listing().complete) == (False, False)
    board.connect()
    board.connect()
    first = board.listing()
    assert (board.connected, first.complete, first.connection.state) == (True, True, "live")
    assert (dict(first.jobs), dict(first.binned), dict(first.entities)) == ({}, {}, {})
    board.post("a")
    second = board.listing()
    assert second.version > first.version
    assert second.taken_at >= first.taken_at
    assert (len(first.jobs), len(second.jobs)) == (0, 1)
    board.close()
    board.close()
    assert (board.connected, board.listing().connection.state) == (False, "closed")
    board.connect()
    assert names(board) == ["a"]


def test_a_closed_board_answers_with_job_failures(place: Place) -> None:
    board = place.connected()
    job = board.post("a")
    board.close()
    with pytest.raises(excp.JobFailure):
        _ = job.state
    with pytest.raises(excp.JobFailure):
        board.post("b")
    with pytest.raises(excp.JobFailure):
        board.claim(job, "c1")
    with pytest.raises(excp.JobFailure):
        board.refresh()
    assert not board.holds(job)
    assert list(board.candidates(utcnow())[0]) == []


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


# -- an operator's acts ------------------------------------------------------------------------------------------------


def test_binning_a_waiting_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=60)
    theirs.bin(seen(theirs, job, lambda entry: entry.record and free(entry)), "op@host", "cycling")
    for board in (ours, theirs):
        entry = seen_binned(board, job, lambda binned: binned.who)
        unseen(board, job)
        assert (entry.who, entry.why) == ("op@host", "cycling")
        assert entry.record is not None
        assert entry.record.hold_until is None
        assert [attempt.outcome for attempt in entry.record.history] == ["abandoned"]
    assert ours.attempts(job).binned is not None


def test_binning_a_job_that_was_never_tried(ours: LedgerBoard) -> None:
    job = ours.post("a")
    ours.bin(seen(ours, job), "op", "")
    assert seen_binned(ours, job).name == "a"
    assert ours.attempts(job).attempts == 0


@pytest.mark.parametrize("act", ["bin", "delete"])
def test_acting_on_anothers_claim_ends_it(ours: LedgerBoard, theirs: LedgerBoard, act: str) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    entry = seen(theirs, job, claimed)
    if act == "bin":
        theirs.bin(entry, "op", "stuck")
        assert theirs.attempts(same_binned(theirs, job)).history[0].outcome == "revoked"
    else:
        theirs.delete(entry)
    eventually(lambda: not ours.holds(job), what="the claim's loss to be noticed")
    for end in (ours.consume, ours.abandon, ours.trash):
        with pytest.raises(excp.NotFound):
            end(job, "c1")
    assert job.state == states.COMPLETE


def same_binned(board: LedgerBoard, job: BoardJob) -> BoardJob:
    """A binned job can still be asked about by the job object it was."""
    seen_binned(board, job)
    return job


def acts(board: LedgerBoard, entry: JobEntry) -> list[Callable[[], None]]:
    return [lambda: board.bin(entry, "op", ""), lambda: board.delete(entry)]


def test_what_was_claimed_since_it_was_seen_is_left_alone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    entry = seen(theirs, job)
    ours.claim(job, "c1")
    for act in [*acts(theirs, entry), lambda: theirs.retry(entry)]:
        with pytest.raises(Changed):
            act()
    assert ours.holds(job)
    ours.consume(job, "c1")


def test_what_was_let_go_and_claimed_again_since_is_left_alone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    entry = seen(theirs, job, claimed)
    ours.abandon(job, "c1")
    for act in acts(theirs, entry):
        with pytest.raises(Changed):
            act()
    ours.claim(job, "c1")
    for act in acts(theirs, entry):
        with pytest.raises(Changed):
            act()
    assert ours.holds(job)
    other = seen(theirs, job, lambda now: now.claim and entry.claim and now.claim.id != entry.claim.id)
    theirs.delete(other)
    unseen(ours, job)


def test_what_is_gone_is_told_as_gone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    entry = seen(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    for act in [*acts(theirs, entry), lambda: theirs.retry(entry)]:
        with pytest.raises(Gone):
            act()


def test_deleting_leaves_nothing(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    theirs.delete(seen(theirs, job, lambda entry: entry.record and free(entry)))
    for board in (ours, theirs):
        unseen(board, job)
        assert binned_of(board, job.uuid) is None
    with pytest.raises(excp.NotFound):
        ours.attempts(job)


def test_restoring_puts_the_job_back_in_its_place_with_its_failures_forgiven(
    ours: LedgerBoard, theirs: LedgerBoard
) -> None:
    jobs = [ours.post(name) for name in ("a", "b", "c")]
    job = jobs[1]
    fail(ours, job)
    ours.bin(seen(ours, job, lambda entry: entry.record and free(entry)), "op", "")
    key = theirs.restore(seen_binned(theirs, job, lambda binned: binned.record))
    assert key == seen(theirs, job).key
    for board in (ours, theirs):
        entry = seen(board, job, lambda now: now.record and not now.record.failures)
        eventually(lambda board=board: binned_of(board, job.uuid) is None, what="an empty bin")  # type: ignore[misc]
        assert names(board) == ["a", "b", "c"]
        assert entry.record is not None
        assert (entry.record.attempts, entry.record.failures, entry.record.binned) == (1, 0, None)
    again = same_job(ours, job)
    ours.claim(again, "c1")
    assert ours.attempts(again).attempts == 2
    ours.consume(again, "c1")


def test_a_bin_entry_serves_once(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.bin(seen(ours, job), "op", "")
    old = seen_binned(theirs, job)
    ours.restore(seen_binned(ours, job))
    for act in (theirs.restore, theirs.delete):
        with pytest.raises((Gone, Changed)):
            act(old)
    assert seen(theirs, job)


def test_purging_a_binned_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    ours.bin(seen(ours, job, lambda entry: entry.record and free(entry)), "op", "")
    entry = seen_binned(theirs, job)
    theirs.delete(entry)
    for board in (ours, theirs):
        eventually(lambda board=board: binned_of(board, job.uuid) is None, what="an empty bin")  # type: ignore[misc]
    for act in (ours.restore, ours.delete):
        with pytest.raises(Gone):
            act(entry)
    with pytest.raises(excp.NotFound):
        ours.attempts(job)


def test_retrying_ends_the_hold_for_all(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=600)
    entry = seen(theirs, job, lambda now: now.record and now.record.hold_until and free(now))
    theirs.retry(entry)
    for board in (ours, theirs):
        seen(board, job, lambda now: now.record and not now.record.hold_until)
        assert ready(board) == ["a"]
    record = ours.attempts(job)
    assert (record.attempts, record.failures) == (1, 1)


def test_retrying_what_is_claimed(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    with pytest.raises(Changed):
        theirs.retry(seen(theirs, job, claimed))


def test_retrying_what_was_never_tried_changes_nothing(ours: LedgerBoard) -> None:
    job = ours.post("a")
    ours.retry(seen(ours, job))
    assert ready(ours) == ["a"]


# -- news --------------------------------------------------------------------------------------------------------------


def follow(board: LedgerBoard) -> tuple[list[BoardEvent], Callable[[], None]]:
    events: list[BoardEvent] = []
    return events, board.subscribe(events.append)


def kinds(events: list[BoardEvent], key: str) -> list[str]:
    """What happened to the job; changes of its record alone left out, which come with all the rest."""
    return [event.kind for event in list(events) if event.key == key and event.kind != "changed"]


def test_a_jobs_life_is_told_to_both_boards(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    heard = [follow(board)[0] for board in (ours, theirs)]
    job = ours.post("a")
    key = seen(theirs, job).key
    ours.claim(job, "c1")
    seen(theirs, job, claimed)
    ours.abandon(job, "c1")
    seen(theirs, job, free)
    ours.claim(job, "c2")
    seen(theirs, job, claimed)
    ours.consume(job, "c2")
    unseen(theirs, job)
    expected = ["posted", "claimed", "released", "claimed", "removed"]
    for events in heard:
        eventually(
            lambda events=events: kinds(events, key)[-1:] == ["removed"],  # type: ignore[misc]
            what="the last event",
        )
        assert kinds(events, key)[:4] == expected[:4]
        assert [kind for kind in kinds(events, key) if kind in ("posted", "removed")] == ["posted", "removed"]
        entries = [event.entry for event in events if event.key == key and event.entry]
        assert {entry.name for entry in entries} == {"a"}


def test_a_changed_record_and_the_bin_are_told(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=60)
    entry = seen(theirs, job, lambda now: now.record and now.record.hold_until and free(now))
    heard = [follow(board)[0] for board in (ours, theirs)]
    ours.retry(entry)
    for events in heard:
        eventually(lambda events=events: any(e.kind == "changed" and e.key == entry.key for e in events))  # type: ignore[misc]
    ours.bin(seen(ours, job, lambda now: now.record and not now.record.hold_until), "op", "")
    for events in heard:
        eventually(lambda events=events: {"bin", "removed"} <= {e.kind for e in events})  # type: ignore[misc]


def test_listeners_come_and_go_and_do_not_harm_each_other(ours: LedgerBoard) -> None:
    def harmful(event: BoardEvent) -> None:
        raise RuntimeError("a listener's own fault")

    ours.subscribe(harmful)
    events, unsubscribe = follow(ours)
    ours.post("a")
    eventually(lambda: any(event.kind == "posted" for event in events), what="the event")
    unsubscribe()
    unsubscribe()
    told = len(events)
    later, _ = follow(ours)
    ours.post("b")
    eventually(lambda: any(event.kind == "posted" for event in later), what="the later event")
    assert len(events) == told


def test_taskflows_notifier_tells_of_posting_and_removal(place: Place) -> None:
    ours, theirs, silent = place.board(), place.board(), place.board(emit_notifications=False)
    told: dict[LedgerBoard, list[tuple[str, str]]] = {ours: [], theirs: [], silent: []}
    for board, heard in told.items():
        for kind in (POSTED, REMOVAL):
            board.notifier.register(kind, lambda kind, details, heard=heard: heard.append((kind, details["job"].name)))
        board.connect()
    job = ours.post("a")
    seen(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    for board in (ours, theirs):
        eventually(lambda board=board: len(told[board]) == 2, what="both notifications")  # type: ignore[misc]
        assert told[board] == [(POSTED, "a"), (REMOVAL, "a")]
    assert told[silent] == []


# -- conductors --------------------------------------------------------------------------------------------------------


def test_conductors_are_seen_while_they_live(place: Place, ours: LedgerBoard) -> None:
    theirs = place.connected()
    entity = Entity("conductor", "c1@host:42", {"hostname": "host", "pid": 42})
    theirs.register_entity(entity)
    theirs.register_entity(entity)
    for board in (ours, theirs):
        found = eventually(lambda board=board: dict(board.listing().entities), what="the entity")  # type: ignore[misc]
        assert list(found) == ["c1@host:42"]
        assert (found["c1@host:42"].owner, found["c1@host:42"].host, found["c1@host:42"].pid) == ("c1", "host", 42)
    theirs.close()
    eventually(lambda: not ours.listing().entities, what="the entity to go")


def test_only_conductors_register(ours: LedgerBoard) -> None:
    with pytest.raises(NotImplementedError):
        ours.register_entity(Entity("gardener", "g", {}))


# -- reading only ------------------------------------------------------------------------------------------------------


def test_a_board_that_only_reads_refuses_every_act(place: Place, ours: LedgerBoard) -> None:
    waiting, binned, held = ours.post("waiting"), ours.post("binned"), ours.post("held")
    ours.bin(seen(ours, binned), "op", "")
    ours.claim(held, "c1")
    reader = place.connected(read_only=True)
    entry, gone = seen(reader, waiting), seen_binned(reader, binned)
    job = same_job(reader, waiting)
    refused: list[Callable[[], Any]] = [
        reader.ensure,
        lambda: reader.post("x"),
        lambda: reader.claim(job, "c1"),
        lambda: reader.consume(same_job(reader, held), "c1"),
        lambda: reader.abandon(same_job(reader, held), "c1"),
        lambda: reader.trash(same_job(reader, held), "c1"),
        lambda: reader.bin(entry, "op", ""),
        lambda: reader.delete(entry),
        lambda: reader.delete(gone),
        lambda: reader.restore(gone),
        lambda: reader.retry(entry),
        lambda: reader.register_entity(Entity("conductor", "c@h:1", {})),
    ]
    for act in refused:
        with pytest.raises(Refused):
            act()
    assert reader.find_owner(same_job(reader, held)) == "c1"
    assert reader.attempts(same_job(reader, held)).attempts == 1
    ours.post("later")
    eventually(lambda: "later" in names(reader), what="a later job")


def test_refreshing_shows_what_is_there(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    theirs.refresh()
    assert entry_of(theirs, job.uuid) is not None
    ours.claim(job, "c1")
    theirs.refresh()
    entry = entry_of(theirs, job.uuid)
    assert entry is not None
    assert entry.claim is not None
