"""What is known of a ZooKeeper board: old answers that come in late change nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import AttemptRecord, opened, to_json
from conductor_console.jobboards.base import BoardEvent
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import Ledger, read_lock, read_record

NODE = "job0000000001"
POSTING = b'{"uuid": "u", "name": "n"}'


def stat(czxid: int, mzxid: int | None = None, version: int = 0, session: int = 7) -> Any:
    return SimpleNamespace(
        czxid=czxid,
        mzxid=mzxid or czxid,
        version=version,
        ctime=1_000,
        mtime=1_000,
        ephemeralOwner=session,
        dataLength=len(POSTING),
    )


class Known:
    """A model with its picture and the events it made."""

    def __init__(self) -> None:
        self.events: list[BoardEvent] = []
        self.picture = Picture(self.events.append)
        self.model = BoardModel(self.picture)

    @property
    def jobs(self) -> set[str]:
        return set(self.picture.listing().jobs)

    def owner(self) -> str | None:
        entry = self.picture.get("u")
        return entry.claim.owner if entry is not None and entry.claim is not None else None

    def lock(self, owner: str, czxid: int) -> None:
        self.model.locked(NODE, read_lock(f'{{"owner": "{owner}"}}'.encode(), stat(czxid)))


@pytest.fixture
def known() -> Known:
    return Known()


def test_a_listing_of_the_bin_from_before_a_move_does_not_empty_it(known: Known) -> None:
    known.model.bin_read(NODE, POSTING, stat(10))
    assert known.model.bin_listed([], 9) == []
    assert set(known.picture.listing().binned) == {"u"}
    # After an outage the numbers tell nothing.
    known.model.lost("away", expired=True)
    assert known.model.bin_listed([], 9) == []
    assert not known.picture.listing().binned
    known.model.bin_read(NODE, POSTING, stat(10))
    known.model.bin_listed([], 10)
    assert not known.picture.listing().binned


def test_a_listing_from_before_a_posting_does_not_remove_it(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.model.jobs_listed(set(), set(), 9)
    assert known.jobs == {"u"}
    known.model.jobs_listed(set(), set(), 11)
    assert known.jobs == set()


def test_an_answer_from_before_a_removal_does_not_bring_it_back(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.model.removed(NODE)
    assert known.model.jobs_listed({NODE}, set(), 10) == [NODE]
    known.model.job_read(NODE, POSTING, stat(10))
    assert known.jobs == set()
    # The same name again is another node: restored from the bin.
    known.model.job_read(NODE, POSTING, stat(15))
    assert known.jobs == {"u"}


def test_a_listing_from_before_a_claim_does_not_end_it(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.lock("us", 20)
    known.model.jobs_listed({NODE}, set(), 19)
    assert known.owner() == "us"
    known.model.jobs_listed({NODE}, set(), 21)
    assert known.owner() is None


def test_an_older_lock_does_not_replace_a_newer_one(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.lock("second", 30)
    known.lock("first", 20)
    assert known.owner() == "second"


def test_an_answer_from_before_a_release_does_not_claim_again(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.lock("us", 20)
    known.model.unlocked(NODE, 20)
    known.lock("us", 20)
    assert known.owner() is None
    known.lock("another", 21)
    assert known.owner() == "another"


def test_a_lock_that_comes_before_its_posting(known: Known) -> None:
    known.lock("them", 20)
    known.model.job_read(NODE, POSTING, stat(10))
    assert known.owner() == "them"


def test_a_replaced_lock_is_told_as_released_and_claimed(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    known.lock("first", 20)
    known.lock("second", 30)
    assert [event.kind for event in known.events] == ["posted", "claimed", "released", "claimed"]


def test_an_older_record_does_not_replace_a_newer_one(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(10))
    new = opened(AttemptRecord("u"), "c", utcnow(), None)
    known.model.recorded("u", Ledger(new, 3, mzxid=30, czxid=20))
    known.model.recorded("u", Ledger(AttemptRecord("u"), 2, mzxid=25, czxid=20))
    known.model.records_listed(set(), 19)
    entry = known.picture.get("u")
    assert entry is not None
    assert (entry.record, entry.record_version) == (new, 3)
    known.model.records_listed(set(), 40)
    entry = known.picture.get("u")
    assert entry is not None
    assert entry.record is None


def test_a_server_that_lost_its_data_starts_a_new_order(known: Known) -> None:
    known.model.job_read(NODE, POSTING, stat(1000))
    known.lock("us", 1001)
    known.model.lost("no connection", expired=True)
    other = "job0000000002"
    assert known.model.jobs_listed({NODE, other}, set(), 5) == [NODE, other]
    assert known.owner() is None
    known.model.job_read(NODE, b'{"uuid": "v", "name": "new"}', stat(3))
    known.model.job_read(other, POSTING, stat(4))
    assert known.jobs == {"u", "v"}


def test_a_reading_that_spans_a_loss_is_not_the_truth(known: Known) -> None:
    epoch = known.model.epoch
    known.model.lost("no connection")
    assert not known.model.in_step(epoch, "")
    assert known.picture.listing().connection.state == "lost"
    assert known.model.in_step(known.model.epoch, "")
    assert known.picture.listing().connection.state == "live"
    assert known.picture.listing().complete


def test_orphans(known: Known) -> None:
    record = to_json(AttemptRecord("u"))
    known.model.recorded("u", read_record(record, "u", stat(5)))
    assert known.model.orphans() == [("u", 0)]
    assert known.model.orphans(jobs=[NODE]) == []
    known.model.job_read(NODE, POSTING, stat(4))
    assert known.model.orphans() == []
    known.model.jobs_listed(set(), set(), 9)
    assert known.model.orphans() == [("u", 0)]
    known.model.bin_read(NODE, POSTING, stat(10))
    assert known.model.orphans() == []
    known.model.bin_gone(NODE)
    assert known.model.orphans() == [("u", 0)]
    known.model.record_gone("u")
    assert known.model.orphans() == []


def test_a_record_of_another_job_is_started_afresh() -> None:
    ledger = read_record(to_json(AttemptRecord("other")), "u", stat(5, version=4))
    assert (ledger.record, ledger.version) == (AttemptRecord("u"), 4)


def test_nothing_is_kept_of_what_is_gone(known: Known) -> None:
    model = known.model
    model.job_read(NODE, POSTING, stat(1))
    for number in range(2, 10):
        twin, zxid = f"job{number:010d}", 100 * number
        model.job_read(twin, POSTING, stat(zxid))
        model.job_read(f"{twin}1", f'{{"uuid": "u{number}", "name": "n"}}'.encode(), stat(zxid + 1))
        model.recorded(f"u{number}", read_record(b"", f"u{number}", stat(zxid + 2)))
        model.bar(f"v{number}")
        model.jobs_listed({NODE}, set(), zxid + 3)
        model.count_here(f"u{number}", lambda ledger: ledger.record)
        model.records_listed(set(), zxid + 4)
    kept = (model._twins, model._loose, model._barred, model._own_counts, model._ledgers)
    assert [len(one) for one in kept] == [0] * len(kept)
    assert (len(model._keys), len(model._born)) == (1, 1)
