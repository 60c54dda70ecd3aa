"""Rows written in bulk are the rows that SQLAlchemy would have written, its columns' own times among them."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from conductor_console.persistence import bulk, schema
from conductor_console.persistence.schema import Encoded, Stored

ATOMS = schema.atomdetails


def atom(uuid: str) -> dict[str, Stored]:
    return {"uuid": uuid, "name": f"of {uuid}", "meta": Encoded('{"a": 1}'), "atom_type": "TASK_DETAIL", "state": None}


def test_sqlite_is_given_what_sqlalchemy_would_give_it() -> None:
    engine = sa.create_engine("sqlite://")
    before = datetime.now(UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        schema.create_taskflow(connection)
        schema.create_ours(connection)
        bulk.insert(connection, ATOMS, [atom("one"), atom("two")])
        rows = {row.uuid: row for row in connection.execute(sa.select(ATOMS))}
        assert [(row.name, row.meta, row.state, row.updated_at) for row in rows.values()] == [
            ("of one", {"a": 1}, None, None),
            ("of two", {"a": 1}, None, None),
        ]
        assert before <= rows["one"].created_at < rows["two"].created_at
        changed: dict[str, dict[str, Stored]] = {
            uuid: {"state": "RUNNING", "meta": Encoded('{"b": 2}')} for uuid in ("two", "three")
        }
        # Who is not there is not counted.
        assert bulk.update(connection, ATOMS.name, changed) == 1
        rows = {row.uuid: row for row in connection.execute(sa.select(ATOMS))}
        assert (rows["two"].state, rows["two"].meta) == ("RUNNING", {"b": 2})
        assert rows["two"].updated_at >= rows["two"].created_at
        assert (rows["one"].state, rows["one"].updated_at) == (None, None)
        at = datetime(2026, 1, 2, 3, 4, 5, 678)
        # What is given goes before what a column has of its own.
        bulk.insert(connection, ATOMS, [atom("four") | {"created_at": at}])
        assert bulk.update(connection, ATOMS.name, {"four": {"state": "SUCCESS", "updated_at": at}}) == 1
        four = connection.execute(sa.select(ATOMS).where(ATOMS.c.uuid == "four")).one()
        assert (four.state, four.created_at, four.updated_at) == ("SUCCESS", at, at)
        bulk.insert(connection, schema.journal, [{"at": at, "kind": "flow", "detail": None}])
        told = connection.execute(sa.select(schema.journal)).one()
        assert (told.seq, told.at, told.kind, told.detail) == (1, at, "flow", None)
