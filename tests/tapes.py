"""Tapes for tests: written by hand, or made of rows that TaskFlow's own store holds (``tests/data/replay``)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from conductor_console.clock import naive_utc
from conductor_console.persistence.journal import JournalRow, Kind
from conductor_console.persistence.rows import AtomRow, FlowRows
from conductor_console.replay.tape import Tape, make_tape

DATA = Path(__file__).parent / "data" / "replay"
SAMPLES = sorted(path.name.removesuffix("-rows.json") for path in DATA.glob("*-rows.json"))
BEGAN = datetime(2026, 1, 1, 3, 13, 55, tzinfo=UTC)
FLOW = "1f0c9a2e-6b1d-4f0e-9c77-52a1e0b8d3f4"


def sample(name: str) -> dict[str, list[dict[str, Any]]]:
    """The three tables of a sample, a dict a row, as they lie in the database."""
    tables: dict[str, list[dict[str, Any]]] = json.loads((DATA / f"{name}-rows.json").read_text())
    return tables


def _time(told: str | None) -> datetime | None:
    return naive_utc(None if told is None else datetime.fromisoformat(told))


def _json(told: str | None) -> Any:
    return None if told is None else json.loads(told)


def sample_flow(name: str) -> FlowRows:
    """A sample's flow, as the store reads it."""
    tables = sample(name)
    flow, book = tables["flowdetails"][0], tables["logbooks"][0]
    atoms = tuple(
        AtomRow(
            uuid=row["uuid"],
            name=row["name"],
            kind="retry" if row["atom_type"] == "RETRY_DETAIL" else "task",
            state=row["state"],
            intention=row["intention"],
            version=row["version"],
            meta=_json(row["meta"]) or {},
            created_at=_time(row["created_at"]),
            updated_at=_time(row["updated_at"]),
            failure=_json(row["failure"]),
            revert_failure=_json(row["revert_failure"]),
            results=_json(row["results"]),
            revert_results=_json(row["revert_results"]),
        )
        for row in tables["atomdetails"]
        if row["parent_uuid"] == flow["uuid"]
    )
    return FlowRows(
        uuid=flow["uuid"],
        name=flow["name"],
        state=flow["state"],
        meta=_json(flow["meta"]) or {},
        book_uuid=book["uuid"],
        book_name=book["name"],
        created_at=_time(flow["created_at"]),
        updated_at=_time(flow["updated_at"]),
        atoms=atoms,
    )


def atom_row(name: str, state: str | None, kind: Literal["task", "retry"] = "task", **more: Any) -> AtomRow:
    """An atom as stored, made at BEGAN and last written ten seconds later; its uuid is its name."""
    fields: dict[str, Any] = {
        "uuid": name,
        "name": name,
        "kind": kind,
        "state": state,
        "intention": "EXECUTE",
        "version": "1.0",
        "meta": {},
        "created_at": BEGAN,
        "updated_at": BEGAN + timedelta(seconds=10),
        "failure": None,
        "revert_failure": None,
        "results": None,
        "revert_results": None,
    }
    return AtomRow(**{**fields, **more})


def flow_rows(
    state: str | None = "SUCCESS", atoms: Iterable[AtomRow] = (), name: str = "create-load-balancer-flow-1f0c9a2e"
) -> FlowRows:
    """A flow as stored, made at BEGAN and last written ten seconds later."""
    ended = BEGAN + timedelta(seconds=10)
    return FlowRows(FLOW, name, state, {}, "b00c", "octavia-create-lb-1f0c", BEGAN, ended, tuple(atoms))


def row(
    at: float,
    subject: str | None,
    to_state: str | None,
    from_state: str | None = None,
    *,
    kind: Kind | None = None,
    **more: Any,
) -> JournalRow:
    """A journal row ``at`` seconds after BEGAN; of the flow where ``subject`` is None, else of that atom."""
    kind = kind or ("flow" if subject is None else "task")
    fields: dict[str, Any] = {"flow_uuid": FLOW, "from_state": from_state, "to_state": to_state, "seq": 0} | more
    if subject is not None:
        fields |= {"atom_uuid": subject, "atom_name": subject}
    return JournalRow(kind=kind, at=BEGAN + timedelta(seconds=at), **fields)


def numbered(rows: Iterable[JournalRow]) -> list[JournalRow]:
    """The rows with the sequence numbers a store would have given them."""
    return [replace(each, seq=number) for number, each in enumerate(rows, 1)]


def failure(kind: str, message: str, where: str) -> dict[str, Any]:
    """The detail of a failed atom's row."""
    return {"failure": {"type": kind, "message": message, "where": where}}


_ATOMS = [
    "lookup-load-balancer",
    "allocate-vip",
    "retry-compute-create",
    "compute-create",
    "cert-compute-wait",
    "amphora-finalize",
    "calculate-delta",
    "attach-vip",
    "amphora-post-plug",
    "configure-haproxy",
    "mark-active-in-db",
]


def octavia_tape() -> Tape:
    """The flow of the drawings: a retried task, a failure at 12.9 s, everything reverted by 24 s."""
    plug = failure(
        "PlugVIPException",
        "no port on subnet 6c1e4f02 answers within 2.0 s",
        "octavia/network/drivers/neutron/base.py:214 in _wait_for_port",
    )
    build = failure("ComputeBuildException", "no valid host was found", "compute/tasks.py:92 in execute")
    retry, compute, attach = _ATOMS[2], _ATOMS[3], _ATOMS[7]
    spans = [("lookup-load-balancer", 0.0, 0.5), ("allocate-vip", 0.5, 1.8), (retry, 1.8, 2.2), (compute, 2.2, 3.5)]
    rows: list[JournalRow] = [row(0, None, "RUNNING", "PENDING")]
    for name, began, ended in spans:
        kind: Kind = "retry" if name == retry else "task"
        failed = name == compute
        rows.append(row(began, name, "RUNNING", "PENDING", kind=kind))
        end, detail = ("FAILURE", build) if failed else ("SUCCESS", {})
        rows.append(row(ended, name, end, "RUNNING", kind=kind, detail=detail))
    rows += [
        row(3.5, compute, "REVERTING", "FAILURE"),
        row(4.0, compute, "REVERTED", "REVERTING"),
        row(4.0, retry, "RETRYING", "SUCCESS", kind="retry"),
        row(4.0, compute, "PENDING", "REVERTED"),
        row(4.0, retry, "RUNNING", "RETRYING", kind="retry"),
        row(4.3, retry, "SUCCESS", "RUNNING", kind="retry"),
    ]
    later = [(compute, 4.3, 7.0), ("cert-compute-wait", 7.0, 9.0), ("amphora-finalize", 9.0, 9.5)]
    later += [("calculate-delta", 10.0, 10.6)]
    for name, began, ended in later:
        rows.append(row(began, name, "RUNNING", "PENDING"))
        rows.append(row(ended, name, "SUCCESS", "RUNNING"))
    rows.append(row(10.6, attach, "RUNNING", "PENDING"))
    rows.append(row(12.9, attach, "FAILURE", "RUNNING", detail=plug))
    undo = [(attach, 12.9, 14.2), ("calculate-delta", 14.3, 15.0), ("amphora-finalize", 15.0, 16.4)]
    undo += [("cert-compute-wait", 16.4, 16.9), (compute, 16.9, 20.1), (retry, 20.1, 20.2)]
    undo += [("allocate-vip", 20.2, 23.4), ("lookup-load-balancer", 23.4, 23.6)]
    for name, began, ended in undo:
        kind = "retry" if name == retry else "task"
        before = "FAILURE" if name == attach else "SUCCESS"
        rows.append(row(began, name, "REVERTING", before, kind=kind))
        rows.append(row(ended, name, "REVERTED", "REVERTING", kind=kind))
    rows.append(row(24.0, None, "REVERTED", "RUNNING"))
    told = [replace(each, attempt=7, conductor="c2@ctl-b") for each in rows]
    atoms = [
        atom_row(name, "REVERTED" if number < 8 else "PENDING", "retry" if name == retry else "task")
        for number, name in enumerate(_ATOMS)
    ]
    return make_tape("mysql://taskflow@db1/octavia", [flow_rows("REVERTED", atoms)], numbered(told))
