"""The benchmarks work: each runs, far too small to tell anything, and gives figures that are whole."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHES
from benchmarks.common import Bench, Report, Servers, percentile
from tests.servers import Zookeeper


@pytest.fixture
def servers(zookeeper: Zookeeper) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        yield Servers(stack, zookeeper)


def numbers(value: object) -> Iterator[float]:
    """Every number in a JSON document."""
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_it_runs_and_tells_its_figures(
    bench: Bench, servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    report = Report(str(path))
    bench.run(servers, bench.options(quick=True), report)
    report.end()
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["machine"]["cores"] >= 1
    assert document["results"], "no figures"
    assert {result["bench"] for result in document["results"]} == {bench.name}
    assert len({result["of"] for result in document["results"]}) == len(document["results"])
    for result in document["results"]:
        found = list(numbers(result))
        assert found
        assert all(math.isfinite(number) for number in found)
        if "per_job" in result:
            # What is asked for without SQLAlchemy is counted as well.
            counted = result["per_job"]
            assert 0 < counted["commits"] < counted["statements"]
            assert counted["requests"] >= 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{bench.name}: {bench.about.splitlines()[0]}"
    assert len(lines) == 1 + len(document["results"])


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 99) == 7.0
