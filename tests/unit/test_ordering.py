"""Jobs stay in their order, however many of them change at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.observatory import ordering
from conductor_console.observatory.ordering import reordered
from conductor_console.observatory.views import sort_key
from tests.unit.test_snapshot_build import job, view

#: A job's number, its age in seconds, and how often it failed.
JOBS = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=40)


@pytest.mark.parametrize("few", [0, 2, 10**6], ids=["each by itself", "as it comes", "none by itself"])
@pytest.mark.parametrize("many", [0, 2, 10**6], ids=["merged", "as it comes", "sorted anew"])
@given(before=JOBS, after=JOBS)
def test_they_are_as_if_sorted_anew(
    few: int, many: int, before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_FEW", few)
        patch.setattr(ordering, "_MANY", many)
        old, new = (
            {number: view(job(f"k{number}", age, failures=failures)) for number, (age, failures) in jobs.items()}
            for jobs in (before, after)
        )
        gone = [one for number, one in old.items() if before[number] != after.get(number)]
        come = [one for number, one in new.items() if after[number] != before.get(number)]
        wanted = [one.key for one in sorted(new.values(), key=sort_key)]
        assert [one.key for one in reordered(sorted(old.values(), key=sort_key), gone, come)] == wanted
