"""Postings: what TaskFlow writes is read back, and what anybody else writes never raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskflow.jobs.base import JobPriority

from conductor_console.jobboards.postings import format_posting, key_of, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    name=st.text(min_size=1),
    details=st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    priority=st.sampled_from(JobPriority),
)
def test_what_is_written_is_read_back(name: str, details: dict[str, object], priority: JobPriority) -> None:
    posting = parse(format_posting("u-1", name, details=details, priority=priority), "job0000000001")
    assert (posting.uuid, posting.name, posting.details, posting.priority) == ("u-1", name, details, priority)
    assert posting.problem is None


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    posting = parse(raw, "node")
    assert posting.problem is not None
    assert "\n" not in posting.problem


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("uuid", "name", "priority", "details", "book"), JSON)))
def test_any_fields(fields: dict[str, object]) -> None:
    posting = parse(json.dumps(fields).encode(), "node")
    assert posting.name
    assert isinstance(posting.details, dict)
    assert posting.problem is None or posting.problem.isprintable()


@pytest.mark.parametrize("priority", ["high", "High", "HIGH"])
def test_any_case_of_a_priority(priority: str) -> None:
    raw = json.dumps({"uuid": "u", "name": "n", "priority": priority}).encode()
    assert parse(raw, "node").priority is JobPriority.HIGH


def test_a_posting_without_a_priority_or_details_is_well_formed() -> None:
    posting = parse(b'{"uuid": "u", "name": "n", "details": null, "book": null}', "node")
    assert posting.problem is None
    assert (posting.priority, posting.details) == (JobPriority.NORMAL, {})


def test_nested_beyond_reason() -> None:
    assert parse(b"[" * 100_000, "node").problem is not None


@given(st.none() | st.text())
def test_a_key_is_always_one_safe_part_of_a_path(uuid: str | None) -> None:
    key = key_of(uuid, "job0000000001")
    assert key in (uuid, "job0000000001")
    assert key.isascii()
    assert key.isprintable()
    assert "/" not in key
    assert key not in ("", ".", "..")
    assert len(key) <= 128
