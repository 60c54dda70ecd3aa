"""What somebody else's package brings: kinds made of ours, and kinds made of TaskFlow's alone. A test installs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskflow.conductors.backends import impl_blocking
from taskflow.jobs.backends import impl_zookeeper
from taskflow.persistence.backends import impl_memory

from conductor_console.conductors.blocking import BlockingConductor
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from conductor_console.persistence.backend import SQLBackend


class Board(SQLiteJobBoard):
    """Of ours: it is counted, and shown on the screen, as ours are."""


class Conductor(BlockingConductor):
    """Of ours: woken by events, with a ledger."""


class Store(SQLBackend):
    """Of ours, under a URL of its own: ``shelf:////srv/flows.db``."""

    def __init__(self, conf: dict[str, Any], read_only: bool = False) -> None:
        super().__init__({"connection": conf["connection"].replace("shelf:", "sqlite:", 1)}, read_only=read_only)


class PlainBoard(impl_zookeeper.ZookeeperJobBoard):
    """Of TaskFlow's."""


class PlainConductor(impl_blocking.BlockingConductor):
    """Of TaskFlow's."""


class PlainStore(impl_memory.MemoryBackend):
    """Of TaskFlow's."""


#: What it says of itself, in the words of the file that an installer writes.
ENTRY_POINTS = """
[conductor_console.jobboards]
shelf = shelf:Board
broken = shelf_of_tomorrow:Board
wrong = shelf_with_a_fault:Board
[conductor_console.conductors]
shelf = shelf:Conductor
broken = shelf_of_tomorrow:Conductor
wrong = shelf_with_a_fault:Conductor
[conductor_console.persistence]
wrong = shelf_with_a_fault:Store
shelf = shelf:Store
[taskflow.jobboards]
plain-shelf = shelf:PlainBoard
[taskflow.conductors]
plain-shelf = shelf:PlainConductor
broken-plain = shelf:NoSuchConductor
[taskflow.persistence]
wrong-plain = shelf_with_a_fault:Store
plain-shelf = shelf:PlainStore
"""


def install(folder: Path, name: str, modules: dict[str, str], entry_points: str) -> None:
    """Puts a distribution into a folder as an installer does; it is there for whoever has the folder on ``sys.path``.

    :param modules: path to source.
    """
    for path, source in modules.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source, encoding="utf-8")
    told = folder / f"{name}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (told / "entry_points.txt").write_text(entry_points, encoding="utf-8")
