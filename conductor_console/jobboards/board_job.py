"""A job as TaskFlow sees it, on a board of ours."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow import exceptions as excp
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.text import visible

if TYPE_CHECKING:
    from conductor_console.jobboards.base import JobEntry, LedgerBoard


class BoardJob(taskflow_base.Job):
    """A job on one of our boards: TaskFlow's ``Job``, and the entry it was made from."""

    def __init__(self, board: LedgerBoard, entry: JobEntry, backend: Any = None, book: Any = None) -> None:
        super().__init__(
            board,
            entry.name,
            uuid=entry.uuid,
            details=dict(entry.details),
            backend=backend,
            book=book,
            book_data={"uuid": entry.book_uuid, "name": entry.book_name} if entry.book_uuid else None,
        )
        self.entry = entry

    @property
    def priority(self) -> JobPriority:
        return self.entry.priority

    def _load_book(self) -> Any:
        uuid = self.book_uuid
        if uuid is not None and not _storable(uuid):
            raise excp.NotFound(f"there is no logbook {visible(uuid, 80)}")
        if uuid is None or self._backend is None:
            return None
        # Not TaskFlow's own way, which asks a store that fails again and again, and waits for seconds between.
        with contextlib.closing(self._backend.get_connection()) as connection:
            return connection.get_logbook(uuid)

    @property
    def created_on(self) -> datetime:
        """When it was posted: naive local time, as TaskFlow's own jobs tell it."""
        return self.entry.created_at.astimezone().replace(tzinfo=None)

    @property
    def last_modified(self) -> datetime:
        """A posting never changes: the same as :attr:`created_on`."""
        return self.created_on

    @property
    def sort_key(self) -> tuple[int, str]:
        return self.entry.place


def _storable(uuid: str) -> bool:
    """Whether a database can hold such a text at all."""
    try:
        uuid.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in uuid
