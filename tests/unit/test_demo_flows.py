"""Every sample flow of the demo runs, or fails, as it is labelled; on TaskFlow's own engine, without a board."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from taskflow import engines, states
from taskflow import exceptions as excp
from taskflow.engines.base import Engine
from taskflow.jobs.base import JobPriority

from conductor_console.demo import flows, poison, scenario
from conductor_console.demo.steps import Sample


def made(sample: Sample, arguments: Mapping[str, Any]) -> Any:
    module, _, function = sample.factory.rpartition(".")
    return getattr(importlib.import_module(module), function)(**arguments)


def engine_of(sample: Sample) -> Engine:
    return engines.load(made(sample, {**sample.arguments(Random(1)), "pace": 0.0}))


def named(name: str) -> Sample:
    return next(sample for sample in poison.SAMPLES if sample.factory.endswith(f".{name}"))


@pytest.mark.parametrize("sample", flows.SAMPLES, ids=lambda sample: sample.name)
def test_a_healthy_flow_runs(sample: Sample) -> None:
    engine = engine_of(sample)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert sample.ends == "done"


def test_there_is_a_dozen_of_them_with_names_of_their_own() -> None:
    assert len(flows.SAMPLES) >= 12
    names = [sample.name for sample in (*flows.SAMPLES, *poison.SAMPLES, poison.KILLER)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("sample", [*flows.SAMPLES, *poison.SAMPLES, poison.KILLER], ids=lambda sample: sample.name)
def test_what_is_posted_is_json_and_its_priority_is_one(sample: Sample) -> None:
    arguments = sample.arguments(Random(2))
    assert json.loads(json.dumps(arguments)) == arguments
    JobPriority(sample.priority)


def test_the_retry_of_a_failover_is_needed() -> None:
    sample = next(sample for sample in flows.SAMPLES if sample.name == "failover-amphora")
    engine = engines.load(made(sample, {"tries": 3, "pace": 0.0}))
    engine.run()
    assert engine.storage.get("ask-agent") == "answered at try 3"


def test_the_storage_failure_is_one_every_time() -> None:
    for _ in range(3):
        with pytest.raises(excp.StorageFailure, match="locked by another"):
            engine_of(named("storage_failure")).run()


def test_an_outage_ends_after_two_attempts() -> None:
    arguments = {"ticket": "of this test", "pace": 0.0}
    for _ in range(2):
        with pytest.raises(excp.ExecutionFailure, match="503"):
            engines.load(made(named("fails_twice"), arguments)).run()
    engine = engines.load(made(named("fails_twice"), arguments))
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_over_quota_is_reverted() -> None:
    engine = engine_of(named("over_quota"))
    with pytest.raises(poison.QuotaExceeded):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED


def test_the_slow_one_works() -> None:
    engine = engine_of(named("slow"))
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_factory_is_missing_and_another_lacks_its_argument() -> None:
    with pytest.raises(AttributeError):
        made(named("moved_last_release"), {})
    sample = named("wrong_arguments")
    with pytest.raises(TypeError):
        made(sample, sample.arguments(Random(3)))


def test_the_killer_is_not_allowed_to_the_demos_own_conductors() -> None:
    assert poison.KILLER.factory == scenario.KILLER
    assert scenario.KILLER not in scenario.ALLOWED
    assert [atom.name for atom, _ in made(poison.KILLER, {}).iter_nodes()] == ["unpack", "convert"]


def test_two_posters_of_one_seed_post_the_same() -> None:
    class Operations:
        def __init__(self) -> None:
            self.requests: list[Any] = []

        def post(self, request: Any) -> list[str]:
            self.requests.append(request)
            return [str(len(self.requests))]

    said = []
    for _ in range(2):
        operations = Operations()
        poster = scenario.Poster(operations, seed=5)  # type: ignore[arg-type]
        poster.batch(scenario.first_batch())
        assert len(poster.posted) == len(scenario.first_batch())
        said.append([(request.name, request.factory, dict(request.kwargs)) for request in operations.requests])
    assert said[0] == said[1]
