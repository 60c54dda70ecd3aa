"""The flow log: one row for each transition, written in the same transaction as the state it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["flow", "task", "retry", "attempt", "operator"]


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One transition. ``seq`` is 0 until the store gave it one; the order of ``seq`` is not the order of commit.

    :ivar at: when it happened, UTC, microseconds.
    :ivar detail: JSON: a result's digest, a failure's ``type``/``message``/``where``, progress; capped in size, the
        cut told. For kind ``attempt``: ``outcome``, ``error``, ``name`` (the job's), ``seconds``.
    """

    kind: Kind
    at: datetime
    flow_uuid: str | None = None
    job_uuid: str | None = None
    atom_uuid: str | None = None
    atom_name: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    intention: str | None = None
    conductor: str | None = None
    attempt: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
