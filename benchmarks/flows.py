"""The flows that benchmarks run: three tasks that do nothing, and one that waits to be told."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from taskflow import task
from taskflow.patterns import linear_flow
from taskflow.persistence import models

from conductor_console.persistence import schema

TRIVIAL: Final = f"{__name__}.trivial"
GATED: Final = f"{__name__}.gated"
#: Seconds for which a gate is waited for.
PATIENCE: Final = 120.0


class Nothing(task.Task):  # type: ignore[misc]
    """Does nothing."""

    def execute(self) -> None:
        """Nothing to do."""


class Gate(task.Task):  # type: ignore[misc]
    """Waits until a file is there."""

    def __init__(self, path: str) -> None:
        super().__init__("gate")
        self._path = Path(path)

    def execute(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def trivial() -> linear_flow.Flow:
    return linear_flow.Flow("trivial").add(Nothing("one"), Nothing("two"), Nothing("three"))


def gated(path: str) -> linear_flow.Flow:
    return linear_flow.Flow("gated").add(Gate(path))


def book(number: int, factory: str = TRIVIAL, args: tuple[Any, ...] = ()) -> models.LogBook:
    """A logbook with one flow, not saved."""
    made = models.LogBook(f"book-{number}")
    detail = models.FlowDetail(f"flow-{number}", str(uuid.uuid4()))
    detail.meta = {"factory": {"name": factory, "args": list(args), "kwargs": {}}}
    made.add(detail)
    return made


def save(engine: sa.Engine, books: Sequence[models.LogBook]) -> None:
    """Saves logbooks, each with its flow, into TaskFlow's tables, all in one transaction."""
    now = datetime.now(UTC).replace(tzinfo=None)
    flows = [(book, flow) for book in books for flow in book]
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.logbooks), [{"uuid": one.uuid, "name": one.name, "created_at": now} for one in books]
        )
        columns = "uuid, name, meta, parent_uuid, created_at"
        statement = f"INSERT INTO flowdetails ({columns}) VALUES (:uuid, :name, :meta, :parent, :now)"
        connection.execute(
            sa.text(statement),
            [
                {"uuid": flow.uuid, "name": flow.name, "meta": json.dumps(flow.meta), "parent": book.uuid, "now": now}
                for book, flow in flows
            ],
        )


def posting_for(of: models.LogBook) -> bytes:
    """What TaskFlow's ``post`` writes for a job that runs the logbook's flow."""
    (flow,) = of
    made: Mapping[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "name": f"job of {of.name}",
        "priority": "NORMAL",
        "details": {"flow_uuid": flow.uuid},
        "book": {"name": of.name, "uuid": of.uuid},
    }
    return json.dumps(made).encode()
