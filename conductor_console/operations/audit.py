"""The audit trail: what an operator meant to do, written before it is done, and what came of it, written after.

In the store's own audit table where there is one, else in a local file of JSON lines that only its owner may read.
An act whose intent cannot be written is not done. Of many acts the intents are written together, and so are the
outcomes: an intent without one is an act that may have been done.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import platformdirs

from conductor_console.clock import from_iso, iso, utcnow
from conductor_console.errors import ConsoleError
from conductor_console.persistence.audit import AuditRow, Intent


class AuditFailed(ConsoleError):
    """The audit trail cannot be written, or not be read."""


class Audit(Protocol):
    """Where acts are told. What writes returns when all is durable, and raises when it is not."""

    def begin(self, operator: str, board: str, intents: Sequence[Intent]) -> list[int]:
        """Writes intents and returns the numbers that :meth:`end` wants."""

    def end(self, outcomes: Sequence[tuple[int, str]]) -> None:
        """Writes what came of each number."""

    def read(self, limit: int, job: str | None = None) -> list[AuditRow]:
        """The newest ``limit`` acts, newest first; none where nothing was ever written.

        :param job: only those on jobs whose uuid begins so. :raises StorageFailure, AuditFailed: cannot be read.
        """


class StoreAudit:
    """The audit table of a store of ours; what is written together is one transaction."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def begin(self, operator: str, board: str, intents: Sequence[Intent]) -> list[int]:
        return [int(number) for number in self._store.audit_begin_all(operator, board, intents)]

    def end(self, outcomes: Sequence[tuple[int, str]]) -> None:
        self._store.audit_end_all(outcomes)

    def read(self, limit: int, job: str | None = None) -> list[AuditRow]:
        rows: list[AuditRow] = self._store.audit_rows(limit, job)
        return rows


class FileAudit:
    """JSON lines in a local file, mode 0600: an intent and an outcome are a line each, tied by ``seq``."""

    def __init__(self, path: Path | None = None) -> None:
        """:param path: by default ``audit.jsonl`` in the user's state folder; made when the first line is written."""
        self.path = path or platformdirs.user_state_path("conductor-console") / "audit.jsonl"
        self._lock = threading.Lock()

    def begin(self, operator: str, board: str, intents: Sequence[Intent]) -> list[int]:
        at = iso(utcnow())
        numbers = [secrets.randbits(53) for _ in intents]
        self._write(
            [
                {
                    "seq": number,
                    "at": at,
                    "operator": operator,
                    "board": board,
                    "action": intent.action,
                    "job_uuid": intent.job_uuid,
                    "job_name": intent.job_name,
                    "before": dict(intent.before),
                }
                for number, intent in zip(numbers, intents, strict=True)
            ]
        )
        return numbers

    def end(self, outcomes: Sequence[tuple[int, str]]) -> None:
        at = iso(utcnow())
        self._write([{"seq": number, "at": at, "outcome": outcome} for number, outcome in outcomes])

    def read(self, limit: int, job: str | None = None) -> list[AuditRow]:
        """A line that is none of ours, or was cut short, is passed over."""
        found: dict[int, AuditRow] = {}
        for line in self._lines():
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                told = json.loads(line)
                seq = int(told["seq"])
                if "outcome" in told:
                    if seq in found:
                        found[seq] = replace(found[seq], outcome=str(told["outcome"]))
                elif job is None or str(told["job_uuid"]).startswith(job):
                    found[seq] = _row(seq, told)
        # In the order of their writing: numbers are random here, and times are a clock's.
        return list(found.values())[: -limit - 1 : -1]

    def _lines(self) -> list[bytes]:
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AuditFailed(f"cannot read the audit file {self.path}: {error.strerror or error}") from error
        with os.fdopen(handle, "rb") as file:
            return file.readlines()

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        data = b"".join(json.dumps(line, default=str).encode() + b"\n" for line in lines)
        try:
            with self._lock:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # One write of whole lines with O_APPEND: several consoles may share the file.
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


def _row(seq: int, told: Mapping[str, Any]) -> AuditRow:
    return AuditRow(
        seq=seq,
        at=from_iso(told["at"]),
        operator=told["operator"],
        board=told["board"],
        action=told["action"],
        job_uuid=told["job_uuid"],
        job_name=told["job_name"],
        before=dict(told["before"]),
        outcome=None,
    )
