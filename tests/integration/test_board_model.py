"""Random doings of several clients on a real board, against a simple model: nothing lost, doubled, or told wrongly.

Each client acts on what was seen, which may be long past, and some act at the same moment. Whatever is done must have
been allowed by what was true then; whatever is refused must leave everything as it was, and must be told truly.
A test that failed is played again with its seed: ``MODEL_SEED=…`` and the same ``MODEL_SEQUENCES``.
"""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.integration.modelling.grounds import OnSQLite, OnZookeeper
from tests.integration.modelling.world import World
from tests.servers import Zookeeper

#: Sequences on both kinds of board together, spread over their parts; `make soak` asks for more.
SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "1000"))
PARTS = 3
SQLITE_PARTS = 2
#: What is done in a turn follows from one number and from what there is to be done then, which races may change:
#: nothing may be drawn for it later on. Without most of its turns a sequence still makes sense.
TURNS = st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=22)
#: Of those in which another process is killed: each death costs the start of a process.
KILLED_SEQUENCES = 12

# kazoo's threads draw from ``random`` for themselves, also while a sequence is being made up.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def _play(world: World, sequences: int) -> None:
    number = int(os.environ.get("MODEL_SEED") or secrets.randbits(32))

    @seed(number)
    @settings(
        max_examples=sequences,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(TURNS)
    def play(turns: list[int]) -> None:
        world.play(turns)

    try:
        play()
    except BaseException as error:
        error.add_note(f"MODEL_SEED={number}")
        raise
    finally:
        world.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_zookeeper_beside_taskflow(zookeeper: Zookeeper, part: int) -> None:
    _play(World(OnZookeeper(zookeeper, f"/model{uuid.uuid4().hex}/jobs")), SEQUENCES // 2 // PARTS + 1)


@pytest.mark.parametrize("part", range(SQLITE_PARTS))
def test_sqlite(tmp_path: Path, part: int) -> None:
    _play(World(OnSQLite(tmp_path, processes=False)), SEQUENCES // 2 // SQLITE_PARTS + 1)


def test_sqlite_beside_a_process_that_is_killed(tmp_path: Path) -> None:
    _play(World(OnSQLite(tmp_path, processes=True)), KILLED_SEQUENCES)
