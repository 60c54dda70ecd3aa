from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console import clock


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)))
def test_times_survive_being_written(when: datetime) -> None:
    assert clock.from_iso(clock.iso(when)) == when


def test_times_are_written_in_utc() -> None:
    when = datetime(2026, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    assert clock.iso(when) == "2026-01-01T00:00:00.000000Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no zone"):
        clock.from_iso("2026-01-01T00:00:00")


def test_zookeeper_and_database_times_become_aware() -> None:
    assert clock.from_millis(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert clock.naive_utc(datetime(2026, 1, 1)) == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.naive_utc(None) is None
