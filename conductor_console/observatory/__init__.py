"""The live model: follows a board and a fleet, and hands out immutable snapshots."""

from conductor_console.observatory.build import build_snapshot
from conductor_console.observatory.observatory import Observatory
from conductor_console.observatory.snapshot import Snapshot

__all__ = ["Observatory", "Snapshot", "build_snapshot"]
