"""Somebody else's kinds of board, conductor and store, found by name in our groups and in TaskFlow's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.conducting import ROOT
from tests.interop import third_party


def test_each_of_its_kinds_is_fetched_and_works(tmp_path: Path, zk_hosts: str, zk_path: str) -> None:
    """In a process of its own: what is installed there is nobody else's."""
    source = Path(third_party.__file__).read_text(encoding="utf-8")
    faulty = "raise RuntimeError('not on a Sunday')\n"
    modules = {"shelf.py": source, "shelf_with_a_fault.py": faulty}
    third_party.install(tmp_path, "shelf", modules, third_party.ENTRY_POINTS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    arguments = [str(tmp_path), zk_hosts, zk_path]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.interop.third_party_program", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["shelf"] == ["shelf.Board", "shelf.Conductor", "shelf.Store", "SUCCESS"]
    assert told["plain"] == ["shelf.PlainBoard", "shelf.PlainConductor", "shelf.PlainStore", "SUCCESS"]
    assert told["effects"] == ["shelf", "plain-shelf"]
    board, missing, wrong, absent, unknown, *faulty_ones = told["refused"]
    assert board == "the broken board cannot be loaded: No module named 'shelf_of_tomorrow'"
    assert missing == "the broken conductor cannot be loaded: No module named 'shelf_of_tomorrow'"
    assert wrong == "the wrong conductor cannot be loaded: RuntimeError: not on a Sunday"
    assert absent.startswith("the broken-plain conductor cannot be loaded: module 'shelf' has no attribute")
    assert unknown.startswith('"nobody\'s" is no kind of conductor; there are blocking, broken, broken-plain, cc-')
    assert unknown.endswith("plain-shelf, shelf, wrong")
    *ours, theirs = faulty_ones
    assert ours == [f"the wrong {kind} cannot be loaded: RuntimeError: not on a Sunday" for kind in ("board", "store")]
    assert theirs.startswith("the wrong-plain store cannot be loaded: ")
    assert theirs.endswith("not on a Sunday")
