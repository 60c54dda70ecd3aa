"""From snapshots to metrics: what is counted, how often, and that hostile boards give bounded, clean labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from conductor_console.jobboards.attempts import Attempt, Cause, make_cause
from conductor_console.jobboards.base import BinEntry, Connection, JobEntry
from conductor_console.jobboards.breaker import CLOSED, opened
from conductor_console.observatory.build import Builder
from conductor_console.observatory.metrics import NAME_LENGTH, OWNERS, STATES, SnapshotCollector
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.observatory.totals import CAUSES, OTHER, CauseTotals
from conductor_console.observatory.views import Limits
from tests.unit.test_snapshot_build import BOOM, LIVE, NOW, attempt, binned, job, listing

LOST = Connection("lost", NOW, "no answer")
HOSTILE = 'a"\\\n\x1b[31m\x00\u202e\ud800' + "x" * 1000

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Board:
    """A board that a test changes, and the collector that looks at it."""

    def __init__(self) -> None:
        self.now = NOW
        self.offset = 0.0
        self.shown = Snapshot(version=0, taken_at=NOW, board="b", connection=Connection("connecting", NOW))
        self.collector = SnapshotCollector(
            lambda: self.shown, offset=lambda: self.offset, versions={"version": "1"}, now=lambda: self.now
        )
        self._builder = Builder(title="zk1/jobs", limits=Limits())
        self._registry = CollectorRegistry()
        self._registry.register(self.collector)

    def show(self, *jobs: JobEntry, bins: tuple[BinEntry, ...] = (), connection: Connection = LIVE,
             entities: tuple[str, ...] = (), after: float = 1.0,
             happened: Callable[[Builder], object] = lambda _: None) -> None:  # fmt: skip
        """The board is like that ``after`` so many seconds; ``happened`` tells what left it."""
        self.now += timedelta(seconds=after)
        happened(self._builder)
        made = replace(listing(*jobs, bins=bins, entities=entities, connection=connection), clock_offset=self.offset)
        if connection is LIVE:
            made = replace(made, taken_at=self.now)
        self.shown = self._builder.update(made, now=self.now)
        self.collector.observe()

    def values(self) -> Values:
        text = generate_latest(self._registry).decode()
        found: Values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name.removeprefix("conductor_console_"), tuple(sorted(sample.labels.items())))
                assert key not in found, "told twice"
                found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.values().get((name, tuple(sorted(labels.items()))))

    def counted(self) -> dict[str, float]:
        """The attempts by outcome, without those that there were none of."""
        return {
            dict(labels)["outcome"]: value
            for (name, labels), value in self.values().items()
            if name == "attempts_total" and value
        }


def tried(key: str, *history: Attempt, attempts: int | None = None) -> JobEntry:
    """A job with that history, newest first."""
    entry = job(key, failures=1, history=history)
    assert entry.record is not None
    return entry if attempts is None else replace(entry, record=replace(entry.record, attempts=attempts))


@pytest.fixture
def board() -> Board:
    return Board()


def test_before_the_first_reading_no_figure_is_told(board: Board) -> None:
    names = {name for name, _ in board.values()}
    assert names == {"build_info", "board_info", "up"}
    assert board.value("up") == 0


def test_jobs_add_up_by_state_and_health(board: Board) -> None:
    board.show(
        job("a"), job("b", owner="c1"), job("c", failures=3), job("d", hold=60.0, failures=2), job("e", problem="x")
    )
    values = board.values()
    jobs = {labels: value for (name, labels), value in values.items() if name == "jobs"}
    assert len(jobs) == len(STATES) * 3
    assert sum(jobs.values()) == 5
    assert board.value("jobs", state="waiting", health="cycling") == 1
    assert board.value("jobs", state="held", health="suspect") == 1
    assert board.value("bin_jobs") == 0


def test_an_open_breaker_is_told_by_what_it_is_open_for(board: Board) -> None:
    board.show(job("a"))
    assert [board.value("breaker_open", kind=kind) for kind in ("store", "board", "cause")] == [0, 0, 0]
    board.shown = replace(board.shown, breaker=opened(CLOSED, "store", "it does not answer", NOW, "c1"))
    assert [board.value("breaker_open", kind=kind) for kind in ("store", "board", "cause")] == [1, 0, 0]


def test_ages_are_by_the_boards_clock_and_stand_still_with_it(board: Board) -> None:
    board.offset = 30.0
    board.show(job("a", age=100), job("b", age=50), job("c", age=70, owner="c1"))
    assert board.value("oldest_job_age_seconds", state="waiting") == 131
    assert board.value("oldest_job_age_seconds", state="claimed") == 101
    assert board.value("oldest_job_age_seconds", state="held") is None
    assert board.value("oldest_claim_age_seconds") == 51
    taken = board.now
    board.show(job("a", age=100), job("b", age=50), job("c", age=70, owner="c1"), connection=LOST)
    board.now += timedelta(hours=1)
    assert board.value("up") == 0
    told = board.value("snapshot_timestamp_seconds")
    assert told is not None
    assert told < taken.timestamp()
    assert (board.value("oldest_claim_age_seconds") or 0) < 60


def test_live_figures_are_of_now_though_nothing_changed(board: Board) -> None:
    board.show(job("a"))
    changed = board.value("last_change_timestamp_seconds")
    board.now += timedelta(hours=1)
    assert board.value("snapshot_timestamp_seconds") == board.now.timestamp()
    assert board.value("last_change_timestamp_seconds") == changed == (NOW + timedelta(seconds=1)).timestamp()


def test_attempts_are_counted_once_from_the_first_look_on(board: Board) -> None:
    board.show(tried("a", attempt(2), attempt(1)))
    assert board.counted() == {}
    third = tried("a", attempt(3, None), attempt(2), attempt(1))
    board.show(third)
    assert board.counted() == {}
    board.show(tried("a", attempt(3, 0), attempt(2), attempt(1)))
    board.show(tried("a", attempt(4, 0, "crashed"), attempt(3, 0), attempt(2), attempt(1)))
    assert board.counted() == {"abandoned": 1, "crashed": 1}
    # A server that trails shows an older picture for a moment.
    board.show(third)
    board.show(tried("a", attempt(4, 0, "crashed"), attempt(3, 0), attempt(2), attempt(1)))
    assert board.counted() == {"abandoned": 1, "crashed": 1}
    assert board.value("failures_total", type=BOOM.type, fingerprint=BOOM.fingerprint) == 2
    assert board.value("counting_since_timestamp_seconds") == (NOW + timedelta(seconds=1)).timestamp()


def test_a_job_on_its_way_to_the_bin_and_back_is_not_counted_again(board: Board) -> None:
    history = (attempt(2, 0), attempt(1, 0))
    board.show()
    board.show(tried("a", *history))
    board.show()
    board.show(bins=(binned("a", 1.0, *history),))
    board.show(bins=(binned("a", 1.0, *history), binned("b")))
    board.show(tried("a", *history), bins=(binned("b"),))
    assert board.counted() == {"abandoned": 2}
    assert board.value("bin_jobs") == 1


def test_what_the_history_no_longer_holds_is_told_as_unknown(board: Board) -> None:
    board.show(tried("a", attempt(1, None)))
    board.show(tried("a", attempt(40, None), attempt(39, 0), attempt(38, 0), attempts=40))
    assert board.counted() == {"abandoned": 2, "unknown": 37}


def test_unknown_may_give_way(board: Board) -> None:
    board.show(tried("a", attempt(1, None)), tried("b", attempt(1, None)))
    board.show(tried("a", attempt(1, 0, "unknown")), tried("b", attempt(1, 0, "unknown")))
    assert board.counted() == {}
    board.show(tried("a", attempt(1, 0, "abandoned")), tried("b", attempt(1, 0, "unknown")))
    board.now += timedelta(seconds=60)
    assert board.counted() == {"abandoned": 1, "unknown": 1}


def test_what_leaves_with_its_record_is_counted_by_the_rates(board: Board) -> None:
    board.show(job("a", owner="c1"), job("b", owner="c1"), tried("c", attempt(1, None)))

    def ended(builder: Builder) -> None:
        builder.closings.from_removal("a", board.now, "consumed", board.now)
        builder.closings.from_removal("b", board.now, "failed", board.now)

    board.show(tried("c", attempt(1, 0)), happened=ended)
    assert board.counted() == {"consumed": 1, "failed": 1, "abandoned": 1}
    for _ in range(3):
        # Minutes go by, the hour forgets; a counter does not.
        board.show(tried("c", attempt(1, 0)), after=1800)
    assert board.counted() == {"consumed": 1, "failed": 1, "abandoned": 1}


def test_a_failure_while_the_connection_goes_is_counted_once(board: Board) -> None:
    board.show(tried("a", attempt(1, None)))
    board.show(tried("a", attempt(1, 0)), connection=LOST)
    board.show(tried("a", attempt(1, 0)), tried("b", attempt(1, None)))
    assert board.counted() == {"abandoned": 1}


def test_owners_are_bounded_clean_and_told_once(board: Board) -> None:
    owners = [f"c{number}" for number in range(OWNERS + 10)]
    jobs = [job(f"{owner}-{n}", owner=owner) for owner in owners for n in range(2)]
    jobs += [job(f"h{n}", owner=HOSTILE + str(n)) for n in range(5)]
    jobs += [job(f"o{n}", owner="other") for n in range(3)]
    board.show(*jobs, entities=("c0@h:1",))
    claims = {labels: value for (name, labels), value in board.values().items() if name == "claims"}
    assert len(claims) <= OWNERS + 1
    assert sum(claims.values()) == len(jobs)
    for labels in claims:
        owner = dict(labels)["owner"]
        assert len(owner) <= NAME_LENGTH
        assert owner.isascii()
        assert owner.isprintable()
    assert board.value("claims", owner="c0", alive="yes") == 2
    assert board.value("claims", owner="c1", alive="no") == 2
    assert board.value("conductors", state="running") == 1


def test_hostile_causes_are_bounded_and_clean(board: Board) -> None:
    board.show()
    causes = [Cause(HOSTILE, HOSTILE, HOSTILE, f"{number}{HOSTILE}") for number in range(3 * CAUSES)]
    board.show(*(tried(f"j{n}", attempt(1, 0, error=cause)) for n, cause in enumerate(causes)))
    for family in ("failures_total", "cause_jobs"):
        found = {labels: value for (name, labels), value in board.values().items() if name == family}
        assert len(found) == CAUSES + 1
        assert sum(found.values()) == len(causes)
        assert found[("fingerprint", "other"), ("type", "other")] == 2 * CAUSES
        assert max(len(value) for labels in found for _, value in labels) <= 80
    assert "\ud800" not in str(board.values())


def test_a_record_that_lies_about_its_number_breaks_no_scrape(board: Board) -> None:
    board.show(tried("a", attempt(1, 0)))
    board.show(tried("a", attempt(10**400, 0), attempts=10**400))
    assert (board.value("attempts_total", outcome="unknown") or 0) <= 10**9


def test_no_cause_ever_falls_and_a_quiet_one_gives_its_place_up() -> None:
    totals, at = CauseTotals(places=2), NOW

    def add(name: str, when: datetime) -> dict[tuple[str, str], int]:
        before = dict(totals.shown())
        totals.add((name, name), when)
        after = dict(totals.shown())
        assert all(after[cause] >= before[cause] for cause in after.keys() & before.keys())
        return after

    add("a", at)
    add("b", at)
    assert add("c", at) == {("a", "a"): 1, ("b", "b"): 1, OTHER: 1}
    later = at + timedelta(hours=1)
    add("b", later)
    assert add("c", later) == {("b", "b"): 2, ("c", "c"): 1, OTHER: 1}
    assert add("a", later + timedelta(hours=2)) == {("c", "c"): 1, ("a", "a"): 2, OTHER: 1}


def test_a_cause_that_is_called_other_is_one_of_the_others() -> None:
    totals = CauseTotals()
    totals.add(OTHER, NOW)
    assert totals.shown() == {OTHER: 1}


def test_a_message_is_never_told(board: Board) -> None:
    board.show()
    secret = make_cause("Boom", "password=hunter2", "a.py:1 in b")
    board.show(tried("secret-name", attempt(1, 0, error=secret)))
    assert "hunter2" not in str(board.values())
    assert "secret-name" not in str(board.values())


# -- the document ------------------------------------------------------------------------------------------------------
DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The type and the labels of each metric in the document's table."""
    text = DOCUMENT.read_text("utf-8")
    rows = re.findall(r"^\| `(conductor_console_\w+)` \| (\w+) \|([^|]*)\|", text, re.MULTILINE)
    return {name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}


def test_the_document_tells_of_every_metric_and_of_no_other(board: Board) -> None:
    board.show(job("a", owner="c1"), tried("b", attempt(1, None)))
    board.show(job("a", owner="c1"), tried("b", attempt(1, 0)))
    board.collector = SnapshotCollector(
        lambda: board.shown, versions={"version": "1", "taskflow": "2"}, now=lambda: board.now
    )
    registry = CollectorRegistry()
    registry.register(board.collector)
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert family.documentation.endswith(".")
            found[sample.name] = (family.type, tuple(sorted(sample.labels)))
    assert found == documented()


def test_the_rules_in_the_document_ask_for_metrics_that_there_are() -> None:
    rules = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)[-1]
    asked = re.findall(r"(conductor_console_\w+)(?:\{(\w+))?", rules)
    assert len(asked) > 5
    for name, label in asked:
        assert name in documented()
        assert not label or label in documented()[name][1]
