"""Random doings of several clients on a real board, against a simple model: nothing lost, doubled, or told wrongly.

Each client acts on what was seen, which may be long past, and some act at the same moment. Whatever is done must have
been allowed by what was true then; whatever is refused must leave everything as it was, and must be told truly.
A test that failed is played again with its seed: ``MODEL_SEED=…`` and the same ``MODEL_SEQUENCES``.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.integration.modelling.grounds import OnSQLite, OnZookeeper
from tests.integration.modelling.playing import SEQUENCES, play_many
from tests.integration.modelling.world import World
from tests.servers import Zookeeper

PARTS = 3
SQLITE_PARTS = 3
#: Of those in which another process is killed: each death costs the start of a process.
KILLED_SEQUENCES = 12

# kazoo's threads draw from ``random`` for themselves, also while a sequence is being made up.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def _play(world: World, sequences: int) -> None:
    play_many(world, sequences, shortest=7, longest=16)


@pytest.mark.parametrize("part", range(PARTS))
def test_zookeeper_beside_taskflow(zookeeper: Zookeeper, part: int) -> None:
    _play(World(OnZookeeper(zookeeper, f"/model{uuid.uuid4().hex}/jobs")), SEQUENCES // 6 // PARTS + 1)


@pytest.mark.parametrize("part", range(SQLITE_PARTS))
def test_sqlite(tmp_path: Path, part: int) -> None:
    _play(World(OnSQLite(tmp_path, processes=False)), 5 * SEQUENCES // 6 // SQLITE_PARTS + 1)


def test_sqlite_beside_a_process_that_is_killed(tmp_path: Path) -> None:
    _play(World(OnSQLite(tmp_path, processes=True)), KILLED_SEQUENCES)
