"""Values as JSON: what TaskFlow reads is what it would have written, and what we read is what was given."""

from __future__ import annotations

import json
import string
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_serialization import jsonutils

from conductor_console.persistence.kinds import DEEPEST, NotStorable, pack, unpack
from tests.valuables import DERIVED, FAITHFUL, REFUSED, same

_TZ: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.just(UTC), st.timedeltas(-timedelta(hours=23), timedelta(hours=23)).map(timezone)
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.text(max_size=5).map(str.encode),
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=_TZ),
    st.dates(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.ip_addresses(),
)
_KEYS = st.one_of(st.text(string.ascii_letters, max_size=3), st.integers(), st.booleans(), st.none(), st.floats())
_HASHABLE = st.one_of(st.integers(), st.text(max_size=3), st.dates(), st.tuples(st.integers(), st.uuids()))
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_LEAVES, st.sets(_HASHABLE, max_size=3), st.frozensets(_HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


def there_and_back(value: Any) -> Any:
    text, note = pack(value)
    # The note is stored as JSON itself.
    return unpack(json.loads(text), json.loads(json.dumps(note)))


@settings(max_examples=150, deadline=None)
@given(_VALUES)
def test_a_value_comes_back_as_it_was_or_is_refused(value: Any) -> None:
    try:
        back = there_and_back(value)
    except NotStorable:
        # Only keys that are one in JSON, as 1 and True's neighbour "1", make it so here.
        assert '"' in json.dumps(value, default=str)
        return
    assert same(back, value)


@pytest.mark.parametrize("name", FAITHFUL)
def test_every_kind_comes_back_and_taskflow_reads_what_it_would_have_written(name: str) -> None:
    value = FAITHFUL[name]
    assert same(there_and_back(value), value)
    if name in ("aware", "times", "set"):
        return  # its own text of the year 1, and its sets, are in no sure order or form
    assert jsonutils.loads(pack(value)[0]) == jsonutils.loads(jsonutils.dumps(value))


def test_taskflow_reads_times_and_sets_as_it_writes_them() -> None:
    for value in (datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), {7}):
        assert jsonutils.loads(pack(value)[0]) == jsonutils.loads(jsonutils.dumps(value))


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_value_comes_back_as_the_plain_one_it_equals(name: str) -> None:
    value, plain = DERIVED[name]
    back = there_and_back(value)
    assert same(back, plain)
    assert back == value


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_back_is_refused_with_its_place(name: str) -> None:
    make, told = REFUSED[name]
    with pytest.raises(NotStorable) as caught:
        pack(make())
    assert str(caught.value) == told


def test_what_is_no_json_is_refused_where_it_must_be_json() -> None:
    value = {"a": [1.0, float("inf")], "b": (float("nan"),)}
    assert same(there_and_back(value), value)
    with pytest.raises(NotStorable, match=r"it has inf, which this database's JSON does not know, at \['a'\]\[1\]"):
        pack(value, nan=False)


def test_plain_values_have_no_note_and_many_of_a_kind_a_short_one() -> None:
    assert pack({"a": [1, "x", None, {"b": 1.5}]})[1] is None
    assert len(json.dumps(pack([(n, str(n)) for n in range(5000)])[1])) < 50
    assert len(json.dumps(pack({n: {n: Decimal(n)} for n in range(5000)})[1])) < 100


def test_the_deepest_is_as_deep_as_that() -> None:
    value: Any = "[" * 500
    for _ in range(DEEPEST):
        value = [value]
    assert same(there_and_back(value), value)
    assert same(there_and_back([{}, []] * 300), [{}, []] * 300)
    with pytest.raises(NotStorable, match="nested more than"):
        pack([value])
    with pytest.raises(NotStorable, match="nested more than"):
        pack([(value,)])
