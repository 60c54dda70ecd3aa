"""The store as a conductor uses it: ours keeps a journal and can say when a flow is durable, TaskFlow's cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from conductor_console.persistence.journal import JournalRow


@runtime_checkable
class JournalledStore(Protocol):
    """What our stores offer beyond TaskFlow's backend interface."""

    def bind(
        self,
        flow_uuid: str,
        *,
        job_uuid: str | None = None,
        conductor: str | None = None,
        attempt: int | None = None,
        detail: Any = None,
    ) -> None:
        """Work on the flow begins; ``detail`` is the flow as it was just read."""

    def unbind(self, flow_uuid: str) -> None:
        """Work on the flow is over."""

    def drop(self, flow_uuid: str) -> None:
        """The claim is lost: later writes of the flow raise ``StorageFailure``."""

    def flush(self, flow_uuid: str) -> None:
        """Returns when everything of the flow is durable, or raises ``StorageFailure``."""

    def append(self, row: JournalRow) -> None:
        """Appends a row, durable on return."""

    def answers(self) -> bool:
        """Whether it can be worked with now: a disk that is full still lets itself be read."""

    def journal(self, *, job_uuid: str) -> Sequence[JournalRow]:
        """The rows of a job."""


class StorePort:
    """One face for both. ``persistence`` may also be None: flows then live in memory only, as with TaskFlow."""

    def __init__(self, persistence: Any) -> None:
        self.backend = persistence
        self._journalled = persistence if isinstance(persistence, JournalledStore) else None

    def bind(self, detail: Any, *, job_uuid: str, conductor: str, attempt: int | None) -> None:
        """Work begins on the flow, which was read since its job was claimed."""
        if self._journalled is not None:
            self._journalled.bind(detail.uuid, job_uuid=job_uuid, conductor=conductor, attempt=attempt, detail=detail)

    def unbind(self, flow_uuid: str) -> None:
        if self._journalled is not None:
            self._journalled.unbind(flow_uuid)

    def drop(self, flow_uuid: str) -> None:
        """Refuses what is still written of a flow whose claim is lost, where the store can."""
        if self._journalled is not None:
            self._journalled.drop(flow_uuid)

    def flush(self, flow_uuid: str) -> None:
        """:raises StorageFailure: when not everything of the flow is durable."""
        if self._journalled is not None:
            self._journalled.flush(flow_uuid)

    def record_attempt(
        self,
        *,
        at: datetime,
        flow_uuid: str | None,
        job_uuid: str,
        conductor: str,
        attempt: int | None,
        detail: Mapping[str, Any],
    ) -> None:
        """Writes how an attempt ended into the journal, durable on return.

        :raises StorageFailure: when it could not be written.
        """
        if self._journalled is not None:
            self._journalled.append(
                JournalRow(
                    "attempt",
                    at,
                    flow_uuid=flow_uuid,
                    job_uuid=job_uuid,
                    conductor=conductor,
                    attempt=attempt,
                    to_state=detail.get("outcome"),
                    detail=detail,
                )
            )

    def attempts_told(self, job_uuid: str) -> frozenset[int]:
        """The numbers of the job's attempts whose end is in the journal.

        :raises StorageFailure: when that could not be read.
        """
        if self._journalled is None:
            return frozenset()
        rows = self._journalled.journal(job_uuid=job_uuid)
        return frozenset(row.attempt for row in rows if row.kind == "attempt" and row.attempt is not None)

    @property
    def troubled(self) -> bool:
        """Whether a write fails, or has since it was last asked whether it answers; at once, without asking it."""
        return bool(getattr(self.backend, "troubled", False))

    def answers(self) -> bool:
        """Whether the store can be reached now: a failure of it is no job's fault while it cannot."""
        if self.backend is None:
            return True
        if self._journalled is not None:
            return self._journalled.answers()
        try:
            with contextlib.closing(self.backend.get_connection()) as connection:
                connection.validate()
        except Exception:  # TaskFlow's own backends let the database's errors through here
            return False
        return True
