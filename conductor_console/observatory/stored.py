"""What the store tells of a job's flow: how it stands, why it failed. Slow at times: not for the screen's thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from taskflow import exceptions as excp

from conductor_console.jobboards.attempts import Cause, make_cause
from conductor_console.persistence.journal import failure_digest
from conductor_console.persistence.rows import AtomRow

LOG = logging.getLogger(__name__)

#: The board's clock and that of the host that wrote the store differ by less.
_SKEW: Final = timedelta(seconds=5)


class StoredFlows:
    """The flows that jobs name.

    :param store: a store of ours, or anything else: then nothing is ever known. A store that does not answer leaves
        it unknown, too: its troubles are shown where they matter.
    """

    def __init__(self, store: Any) -> None:
        self._store: Any = store if hasattr(store, "flow_state") else None

    def __bool__(self) -> bool:
        return self._store is not None

    def answers(self) -> bool:
        """Whether the store can be worked with now, as far as it tells; True where there is none."""
        try:
            return self._store is None or bool(self._store.answers())
        except Exception as error:
            LOG.debug("the store does not tell whether it answers: %s", type(error).__name__)
            return False

    def state(self, flow_uuid: str | None, book_uuid: str | None) -> str | None:
        """The state of the flow, or of the book's only one."""
        try:
            flow = self._flow(flow_uuid, book_uuid)
            state: str | None = self._store.flow_state(flow) if flow is not None else None
        except Exception as error:
            LOG.debug("the store does not tell how a flow stands: %s", type(error).__name__)
            return None
        return state

    def cause(self, flow_uuid: str | None, book_uuid: str | None, since: datetime) -> Cause | None:
        """Why the flow failed last, if that was since ``since``."""
        try:
            flow = self._flow(flow_uuid, book_uuid)
            if flow is None:
                return None
            failed = [atom for atom in self._store.flow_rows(flow).atoms if _failure(atom) and _moved(atom, since)]
        except Exception as error:
            LOG.debug("the store does not tell why a flow failed: %s", type(error).__name__)
            return None
        if not failed:
            return None
        told = failure_digest(_failure(max(failed, key=_updated)) or {})
        return make_cause(str(told["type"]), str(told["message"]), str(told["where"] or ""))

    def traceback(self, flow_uuid: str | None, book_uuid: str | None) -> list[tuple[str, str]]:
        """The failed atoms of a flow, the newest first: their names, and their tracebacks as they are stored.

        :raises StoreUnreachable: when the store does not answer.
        """
        if self._store is None:
            return []
        flow = self._flow(flow_uuid, book_uuid)
        if flow is None:
            return []
        try:
            atoms = self._store.flow_rows(flow).atoms
        except excp.NotFound:
            return []
        told = []
        for atom in sorted(atoms, key=_updated, reverse=True):
            failure = _failure(atom) or {}
            text = str(failure.get("traceback_str") or "").rstrip()
            if failure:
                error = failure_digest(failure)
                # As Python prints it: the frames, then what was raised.
                told.append((atom.name, f"{text}\n{error['type']}: {error['message']}".lstrip("\n")))
        return told

    def _flow(self, flow_uuid: str | None, book_uuid: str | None) -> str | None:
        if flow_uuid is not None or self._store is None or book_uuid is None:
            return flow_uuid if self._store is not None else None
        flows = self._store.resolve(book_uuid)
        return flows[0] if len(flows) == 1 else None


def _failure(atom: AtomRow) -> Mapping[str, Any] | None:
    return atom.revert_failure or atom.failure


def _updated(atom: AtomRow) -> float:
    return atom.updated_at.timestamp() if atom.updated_at is not None else 0.0


def _moved(atom: AtomRow, since: datetime) -> bool:
    return atom.updated_at is not None and atom.updated_at >= since - _SKEW
