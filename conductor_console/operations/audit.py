"""The audit trail: what an operator meant to do, written before it is done, and what came of it, written after.

In the store's own audit table where there is one, else in a local file of JSON lines that only its owner may read.
An act whose intent cannot be written is not done.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import platformdirs

from conductor_console.clock import iso, utcnow
from conductor_console.errors import ConsoleError


class AuditFailed(ConsoleError):
    """The audit trail cannot be written."""


class Audit(Protocol):
    """Where acts are told. Both calls return when the line is durable, and raise when it is not."""

    def begin(
        self, operator: str, board: str, action: str, job_uuid: str, job_name: str, before: Mapping[str, Any]
    ) -> int:
        """Writes an intent and returns the number that :meth:`end` wants."""

    def end(self, number: int, outcome: str) -> None:
        """Writes what came of it."""


class StoreAudit:
    """The audit table of a store of ours."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def begin(
        self, operator: str, board: str, action: str, job_uuid: str, job_name: str, before: Mapping[str, Any]
    ) -> int:
        return int(self._store.audit_begin(operator, board, action, job_uuid, job_name, dict(before)))

    def end(self, number: int, outcome: str) -> None:
        self._store.audit_end(number, outcome)


class FileAudit:
    """JSON lines in a local file, mode 0600: an intent and an outcome are a line each, tied by ``seq``."""

    def __init__(self, path: Path | None = None) -> None:
        """:param path: by default ``audit.jsonl`` in the user's state folder; made when the first line is written."""
        self.path = path or platformdirs.user_state_path("conductor-console") / "audit.jsonl"
        self._lock = threading.Lock()

    def begin(
        self, operator: str, board: str, action: str, job_uuid: str, job_name: str, before: Mapping[str, Any]
    ) -> int:
        number = secrets.randbits(53)
        self._write(
            {
                "seq": number,
                "at": iso(utcnow()),
                "operator": operator,
                "board": board,
                "action": action,
                "job_uuid": job_uuid,
                "job_name": job_name,
                "before": dict(before),
            }
        )
        return number

    def end(self, number: int, outcome: str) -> None:
        self._write({"seq": number, "at": iso(utcnow()), "outcome": outcome})

    def _write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, default=str).encode() + b"\n"
        try:
            with self._lock:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # One write of one line with O_APPEND: several consoles may share the file.
                handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                try:
                    os.fchmod(handle, 0o600)
                    if os.write(handle, data) != len(data):
                        raise OSError("the disk is full")
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise AuditFailed(f"cannot write the audit file {self.path}: {error.strerror or error}") from error
