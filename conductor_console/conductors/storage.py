"""TaskFlow's storage of a flow at work, without two costs that are paid for each of its calls.

Its saves go through a machinery of retries, which costs more than our store does for the save; here that is set up only
once a save failed. Its lock tells readers from writers, which under Python's own lock gains nothing.
"""

from __future__ import annotations

import threading
from typing import Any

from taskflow import exceptions as excp
from taskflow.storage import Storage


class _Lock:
    """One that whoever holds it may take again, under the names of one that tells readers from writers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def read_lock(self) -> threading.RLock:
        """To be held while something is read."""
        return self._lock

    write_lock = read_lock


class LeanStorage(Storage):
    """See the module."""

    def _save_atom_detail(self, conn: Any, original_atom_detail: Any, atom_detail: Any) -> Any:
        try:
            original_atom_detail.update(conn.update_atom_details(atom_detail))
        except excp.StorageFailure:
            return super()._save_atom_detail(conn, original_atom_detail, atom_detail)
        return original_atom_detail

    def _save_flow_detail(self, conn: Any, original_flow_detail: Any, flow_detail: Any) -> Any:
        try:
            original_flow_detail.update(conn.update_flow_details(flow_detail))
        except excp.StorageFailure:
            return super()._save_flow_detail(conn, original_flow_detail, flow_detail)
        return original_flow_detail


def lighten(engine: Any) -> None:
    """Gives an engine that is not compiled yet, and whose storage nobody else knows, this storage in place of its own.

    Of an engine with a storage of another kind nothing is changed.
    """
    storage = engine.storage
    if type(storage) is Storage:
        # The engine makes it by itself, with what it alone knows; all that differs is how.
        storage.__class__ = LeanStorage
        storage._lock = _Lock()
