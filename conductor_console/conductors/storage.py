"""TaskFlow's storage of a flow at work, without four costs that are paid for each task.

Its saves go through a machinery of retries, which costs more than our store does for the save; here that is set up only
once a save failed. Its lock tells readers from writers, which under Python's own lock gains nothing. And a task's state
and the progress that its engine gives it for that state are two saves, of which the first may be the last: here they
are one. And what it saves is a copy, of which our store need not return another.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import models
from taskflow.storage import META_PROGRESS, Storage

from conductor_console.persistence.connection import StoreConnection

#: The progress that TaskFlow's engine gives a task with its state.
_PROGRESS: Final = {states.RUNNING: 0.0, states.SUCCESS: 1.0, states.REVERTING: 0.0, states.REVERTED: 1.0}


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

    def set_task_progress(self, task_name: str, progress: float, details: Any = None) -> None:
        if details is None and (self._atomdetail_by_name(task_name)[0].meta or {}).get(META_PROGRESS) == progress:
            return
        super().set_task_progress(task_name, progress, details=details)

    def _save_atom_detail(self, conn: Any, original_atom_detail: Any, atom_detail: Any) -> Any:
        state = atom_detail.state
        if state in _PROGRESS and state != original_atom_detail.state and isinstance(atom_detail, models.TaskDetail):
            # Not in place: TaskFlow's copies share what is empty with their originals.
            atom_detail.meta = {**(atom_detail.meta or {}), META_PROGRESS: _PROGRESS[state]}
        try:
            original_atom_detail.update(conn.update_atom_details(atom_detail, **_given_away(conn)))
        except excp.StorageFailure:
            return super()._save_atom_detail(conn, original_atom_detail, atom_detail)
        return original_atom_detail

    def _save_flow_detail(self, conn: Any, original_flow_detail: Any, flow_detail: Any) -> Any:
        try:
            original_flow_detail.update(conn.update_flow_details(flow_detail, **_given_away(conn)))
        except excp.StorageFailure:
            return super()._save_flow_detail(conn, original_flow_detail, flow_detail)
        return original_flow_detail


def _given_away(conn: Any) -> dict[str, bool]:
    """For our own store: what TaskFlow's storage saves is a copy already, which it then lets go."""
    return {"copied": False} if isinstance(conn, StoreConnection) else {}


def lighten(engine: Any) -> None:
    """Gives an engine that is not compiled yet, and whose storage nobody else knows, this storage in place of its own.

    Of an engine with a storage of another kind nothing is changed.
    """
    storage = engine.storage
    if type(storage) is Storage:
        # The engine makes it by itself, with what it alone knows; all that differs is how.
        storage.__class__ = LeanStorage
        storage._lock = _Lock()
