"""The filter's terms: what each means, and what is said of one that means nothing."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskflow.jobs.base import JobPriority

from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Cause, make_cause
from conductor_console.jobboards.base import BinEntry, Claim, JobEntry
from conductor_console.observatory.filters import EVERYTHING, FIELDS, Texts, parse, seconds
from conductor_console.observatory.snapshot import JobView
from conductor_console.observatory.views import Limits, binned_view, job_view

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
NO_PORT = make_cause("PlugVIPException", "no port answers", "neutron/base.py:214 in wait")


def job(
    name: str,
    *,
    failures: int = 0,
    hold: float | None = None,
    owner: str | None = None,
    posted: float = 60.0,
    priority: JobPriority = JobPriority.NORMAL,
    problem: str | None = None,
    error: Cause = NO_PORT,
) -> JobView:
    history = tuple(
        Attempt(n, "c1@h:1", f"{n}", NOW, NOW, "abandoned", None, error) for n in range(failures, 0, -1)
    )  # fmt: skip
    until = None if hold is None else NOW + timedelta(seconds=hold)
    record = AttemptRecord(name, failures, failures, until, history=history) if history or until else None
    claim = Claim(owner, "1", NOW) if owner else None
    entry = JobEntry(
        name,
        "job1",
        None if problem else name,
        name,
        priority,
        NOW - timedelta(seconds=posted),
        problem=problem,
        claim=claim,
        record=record,
    )
    return job_view(entry, now=NOW, limits=Limits(), owner_alive=True if owner else None)


JOBS = (
    job("create-lb-1", failures=4, hold=60, posted=7200),
    job("create-lb-2", failures=1, hold=60),
    job("delete-lb-1", owner="c1@ctl-a:4121", priority=JobPriority.VERY_HIGH),
    job("update Pool 1", priority=JobPriority.HIGH, posted=90_000),
    job("job0000000044", problem="no uuid"),
    job("cycles-while-claimed", failures=3, owner="c2@ctl-b:9"),
)


def names(text: str) -> set[str]:
    chosen = parse(text)
    texts = Texts()
    found = {one.name for one in JOBS if chosen.fits(one, NOW, texts)}
    assert found == {one.name for one in JOBS if chosen.fits(one, NOW)}
    return found


EVERY = {one.name for one in JOBS}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", EVERY),
        ("   ", EVERY),
        ("state:held", {"create-lb-1", "create-lb-2"}),
        ("state:claimed", {"delete-lb-1", "cycles-while-claimed"}),
        ("STATE:HELD", {"create-lb-1", "create-lb-2"}),
        ("state:cycling", {"create-lb-1", "cycles-while-claimed"}),
        ("health:cycling", {"create-lb-1", "cycles-while-claimed"}),
        ("!state:cycling", EVERY - {"create-lb-1", "cycles-while-claimed"}),
        ("health:ok", EVERY - {"create-lb-1", "cycles-while-claimed"}),
        ("state:mal", {"job0000000044"}),
        ("state:c !state:claimed", {"create-lb-1"}),
        ("owner:c1", {"delete-lb-1"}),
        ("owner:c?@*", {"delete-lb-1", "cycles-while-claimed"}),
        ("!owner:c1 state:claimed", {"cycles-while-claimed"}),
        ("name:lb-1", {"create-lb-1", "delete-lb-1"}),
        ("name:*-lb-?", {"create-lb-1", "create-lb-2", "delete-lb-1"}),
        ('name:"update pool"', {"update Pool 1"}),
        ("cause:plugvip", {"create-lb-1", "create-lb-2", "cycles-while-claimed"}),
        (f"cause:{NO_PORT.fingerprint} fails:>3", {"create-lb-1"}),
        ('cause:"no port"', {"create-lb-1", "create-lb-2", "cycles-while-claimed"}),
        ("cause:neutron/base.py:214", {"create-lb-1", "create-lb-2", "cycles-while-claimed"}),
        ("fails:>3", {"create-lb-1"}),
        ("fails:>=3", {"create-lb-1", "cycles-while-claimed"}),
        ("fails:1", {"create-lb-2"}),
        ("fails:=1", {"create-lb-2"}),
        ("fails:<1", EVERY - {"create-lb-1", "create-lb-2", "cycles-while-claimed"}),
        ("age:>1h", {"create-lb-1", "update Pool 1"}),
        ("age:>1d", {"update Pool 1"}),
        ("age:<1.5m", EVERY - {"create-lb-1", "update Pool 1"}),
        ("prio:high", {"update Pool 1"}),
        ("prio:very_high", {"delete-lb-1"}),
        ("prio:v.hi", {"delete-lb-1"}),
        ("prio:very-high", {"delete-lb-1"}),
        ("create lb", {"create-lb-1", "create-lb-2"}),
        ('"update pool"', {"update Pool 1"}),
        ('!"update pool" !lb', {"job0000000044", "cycles-while-claimed"}),
        ("base.py:214", {"create-lb-1", "create-lb-2", "cycles-while-claimed"}),
        ("c1@ctl-a:4121", {"delete-lb-1"}),
        ('"state:held"', set()),
        ("[", set()),
        ("name:[a-z]*", set()),
    ],
)
def test_what_terms_mean(text: str, wanted: set[str]) -> None:
    assert names(text) == wanted


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_without_a_value_says_what_it_takes(field: str) -> None:
    with pytest.raises(UsageError, match=rf"^{field}:") as raised:
        parse(f"{field}:")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("state:broken", "no state 'broken', there are waiting, claimed, held"),
        ("health:ill", "no health 'ill', there are ok, suspect, cycling"),
        ("prio:soon", "no prio 'soon', there are very_high"),
        ("fails:many", "fails: takes a number"),
        ("fails:>3h", "fails: takes a number"),
        ("age:1h", "age: takes > or <"),
        ("age:>1", "age: takes > or <"),
        ("age:>-1h", "age: takes > or <"),
        ("stat:held", "no field 'stat', there are state, health, owner"),
        ("held !", "! inverts the term after it"),
        ("state:\x1b[2J", "no state '\\x1b[2J'"),
    ],
)
def test_a_bad_term_is_one_clear_line(text: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert str(raised.value).startswith(told)
    assert str(raised.value).isprintable()


def test_an_empty_filter_leaves_nothing_out() -> None:
    assert not EVERYTHING
    assert not parse(" ")
    assert parse("x")
    assert parse("state:held")


def test_in_the_bin_the_age_is_the_time_in_it() -> None:
    entry = BinEntry("k", "n", "k", "binned", JobPriority.NORMAL, b"{}", NOW - timedelta(days=2))
    assert parse("age:>1d state:binned").fits(binned_view(entry), NOW)
    assert not parse("age:>3d").fits(binned_view(entry), NOW)
    unknown = binned_view(replace(entry, binned_at=None))
    assert not parse("age:>1d").fits(unknown, NOW)
    assert not parse("age:<1d").fits(unknown, NOW)


def test_what_is_looked_through_follows_the_job() -> None:
    texts = Texts()
    waiting = job("one")
    assert parse("waiting").fits(waiting, NOW, texts)
    assert not parse("waiting").fits(replace(waiting, state="held", standing="held"), NOW, texts)


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90), ("1.5h", 5400), ("30d", 2_592_000), ("1w", 604_800)])
def test_times(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "d", ">5d", "5 d", "-5d", "5y", "1e3d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        seconds(text)


TERMS = st.lists(
    st.tuples(
        st.sampled_from(["", "!"]),
        st.sampled_from(["", *(f"{name}:" for name in FIELDS)]),
        st.sampled_from(["held", "cycling", "c", ">1", "<=2", ">1m", "lb", '"a b"', "*", ""]),
    ),
    max_size=4,
)


def readable(text: str) -> bool:
    """Whether it can be meant; else it is told in one clean line."""
    try:
        parse(text)
    except UsageError as error:
        told = str(error)
    else:
        return True
    assert told.isprintable()
    return False


@given(TERMS, st.text(string.printable, max_size=8))
def test_terms_are_anded_and_a_term_and_its_inverse_part_the_board(terms: list[tuple[str, str, str]], end: str) -> None:
    text = " ".join(f"{sign}{field}{value}" for sign, field, value in terms)
    if not readable(text) or not all(readable(f"!{field}{value}") for _, field, value in terms):
        return
    whole = parse(text)
    kept = EVERY
    for sign, field, value in terms:
        fitting, others = names(f"{field}{value}"), names(f"!{field}{value}")
        assert fitting | others == EVERY
        assert not fitting & others
        kept = kept & (others if sign else fitting)
    assert {one.name for one in JOBS if whole.fits(one, NOW)} == kept
    readable(text + end)
