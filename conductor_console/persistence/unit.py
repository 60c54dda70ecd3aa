"""What one transaction does to flows: compares with what is stored, writes what differs, journals transitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from oslo_utils import uuidutils
from taskflow import exceptions as excp

from conductor_console.persistence import schema
from conductor_console.persistence.bound import Binding, Bound, FlowImage
from conductor_console.persistence.details import (
    ATOM_COLUMNS,
    BOOK_COLUMNS,
    FLOW_COLUMNS,
    AtomChange,
    BookChange,
    FlowChange,
    differing,
    encoded,
)
from conductor_console.persistence.journal import JournalRow, Kind, atom_detail, encode_row
from conductor_console.persistence.limits import over_packet
from conductor_console.persistence.schema import Unstorable, Values
from conductor_console.persistence.sessions import PACKET

_KINDS: dict[str, Kind] = {"TASK_DETAIL": "task", "RETRY_DETAIL": "retry"}

#: A mark to go back to when one of several pieces of work in a transaction fails.
Mark = dict[str, tuple[Binding, FlowImage]]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class Unit:
    """One transaction. Rows of bound flows are taken from their cache; they go back into it only by :meth:`settle`."""

    def __init__(self, connection: sa.Connection, bound: Bound, *, journal: bool) -> None:
        self.connection = connection
        self._bound = bound
        self._journal = journal
        self._images: Mark = {}

    # -- the cache ---------------------------------------------------------------------------------------------------
    def mark(self) -> Mark:
        """Where the transaction stands."""
        return dict(self._images)

    def back_to(self, mark: Mark) -> None:
        """Forgets what was done since ``mark``, rows read since then included."""
        for flow_uuid in self._images.keys() - mark.keys():
            self._bound.forget(flow_uuid)
        self._images = mark

    def settle(self) -> None:
        """The transaction is committed: its rows are now what is stored."""
        for binding, image in self._images.values():
            self._bound.install(binding, image)

    def forget(self) -> None:
        """The transaction failed: nothing is known of its rows any more."""
        for flow_uuid in self._images:
            self._bound.forget(flow_uuid)

    def _image(self, flow_uuid: str) -> FlowImage:
        """:raises NotFound: when there is no such flow."""
        self._bound.allow(flow_uuid)
        if flow_uuid in self._images:
            return self._images[flow_uuid][1]
        binding = self._bound.get(flow_uuid)
        image = binding.image if binding is not None else None
        if image is None:
            image = self._read(flow_uuid)
        if binding is not None:
            self._images[flow_uuid] = (binding, image)
        return image

    def _read(self, flow_uuid: str) -> FlowImage:
        atoms = schema.atomdetails
        row = schema.find(self.connection, schema.flowdetails, flow_uuid)
        if row is None:
            raise excp.NotFound(f"No flow details found with uuid '{flow_uuid}'")
        found = self.connection.execute(sa.select(atoms).where(atoms.c.parent_uuid == flow_uuid))
        return FlowImage(
            flow_uuid,
            encoded(row),
            {atom.uuid: encoded(schema.plain(atom)) for atom in found},
        )

    def _keep(self, image: FlowImage) -> None:
        if image.uuid in self._images:
            self._images[image.uuid] = (self._images[image.uuid][0], image)

    # -- writing -----------------------------------------------------------------------------------------------------
    def save_book(self, change: BookChange) -> bool:
        """Writes a logbook and all it carries. Returns whether it was there before."""
        books = schema.logbooks
        row = schema.find(self.connection, books, change.uuid)
        if row is None:
            self._fits(change.values)
            self.connection.execute(sa.insert(books).values(**change.values))
            for flow in change.flows:
                self._insert_flow(flow, change.uuid)
            return False
        changed = differing(encoded(row), change.values, BOOK_COLUMNS)
        self._update(books, change.uuid, changed)
        present = set(
            self.connection.scalars(
                sa.select(schema.flowdetails.c.uuid).where(schema.flowdetails.c.parent_uuid == change.uuid)
            )
        )
        for flow in change.flows:
            if flow.uuid in present:
                self.update_flow(flow)
            else:
                self._insert_flow(flow, change.uuid)
        return True

    def _insert_flow(self, change: FlowChange, book_uuid: str) -> None:
        self._fits(change.values)
        self.connection.execute(sa.insert(schema.flowdetails).values(**change.values, parent_uuid=book_uuid))
        rows = self._flow_rows(change.uuid, None, change)
        self._insert_atoms(change.uuid, change.atoms)
        self._append([*rows, *self._new_atoms(change.uuid, change.atoms)])

    def update_flow(self, change: FlowChange) -> tuple[FlowImage, frozenset[str]]:
        """Writes what differs of a flow and of the atoms it carries.

        :returns: all that is stored of it, and the uuids of the atoms that were new.

        :raises NotFound: when there is no such flow. :raises StorageFailure: when it was dropped.
        """
        image = self._image(change.uuid)
        changed = differing(image.values, change.values, FLOW_COLUMNS)
        self._update(schema.flowdetails, change.uuid, changed)
        rows = self._flow_rows(change.uuid, image.values["state"], change)
        atoms = dict(image.atoms)
        new = [atom for atom in change.atoms if atom.uuid not in atoms]
        for atom in change.atoms:
            if atom.uuid in atoms:
                atoms[atom.uuid], told = self._change_atom(change.uuid, atoms[atom.uuid], atom)
                rows += told
        self._insert_atoms(change.uuid, new)
        rows += self._new_atoms(change.uuid, new)
        atoms |= {atom.uuid: {**atom.values, "parent_uuid": change.uuid} for atom in new}
        self._append(rows)
        image = replace(image, values={**image.values, **changed}, atoms=atoms)
        self._keep(image)
        return image, frozenset(atom.uuid for atom in new)

    def update_atom(self, change: AtomChange) -> Values:
        """Writes what differs of an atom; returns its row.

        :raises NotFound: when there is no such atom. :raises StorageFailure: when its flow was dropped.
        """
        flow_uuid = self._bound.flow_of(change.uuid)
        if flow_uuid is None:
            row = schema.find(self.connection, schema.atomdetails, change.uuid)
            if row is None:
                raise excp.NotFound(f"No atom details found with uuid '{change.uuid}'")
            known, flow_uuid = encoded(row), str(row["parent_uuid"])
            self._bound.allow(flow_uuid)
            if self._bound.get(flow_uuid) is None:
                values, rows = self._change_atom(flow_uuid, known, change)
                self._append(rows)
                return values
        image = self._image(flow_uuid)
        if change.uuid not in image.atoms:
            raise excp.NotFound(f"No atom details found with uuid '{change.uuid}'")
        values, rows = self._change_atom(flow_uuid, image.atoms[change.uuid], change)
        self._append(rows)
        self._keep(replace(image, atoms={**image.atoms, change.uuid: values}))
        return values

    def destroy_book(self, book_uuid: str) -> None:
        """:raises NotFound: when there is no such logbook."""
        books = schema.logbooks
        if self.connection.execute(sa.delete(books).where(books.c.uuid == book_uuid)).rowcount == 0:
            raise excp.NotFound(f"No logbook found with uuid '{book_uuid}'")

    def record(self, row: JournalRow) -> int:
        """Appends a row to the journal; returns its ``seq``, 0 where this store has no journal."""
        if not self._journal:
            return 0
        result = self.connection.execute(sa.insert(schema.journal).values(**encode_row(row)))
        key = result.inserted_primary_key
        return int(key[0]) if key else 0

    def probe(self) -> None:
        """Writes something that is gone again with the commit, by which it shows whether the store takes writes."""
        books = schema.logbooks
        uuid = uuidutils.generate_uuid()
        self.connection.execute(sa.insert(books).values(uuid=uuid, name="probe"))
        self.connection.execute(sa.delete(books).where(books.c.uuid == uuid))

    # -- helpers -----------------------------------------------------------------------------------------------------
    def _update(self, table: sa.Table, uuid: str, changed: dict[str, Any]) -> None:
        if not changed:
            return
        self._fits(changed)
        result = self.connection.execute(sa.update(table).where(table.c.uuid == uuid).values(**changed))
        if result.rowcount == 0:
            raise excp.NotFound(f"No row with uuid '{uuid}' found in {table.name}: it was deleted meanwhile")

    def _fits(self, values: Values) -> None:
        """:raises Unstorable: when it is more than the database takes in one statement."""
        excess = over_packet(values, self.connection.info.get(PACKET))
        if excess is not None:
            raise Unstorable(str(excess))

    def _insert_atoms(self, flow_uuid: str, atoms: Iterable[AtomChange]) -> None:
        rows = [{**atom.values, "parent_uuid": flow_uuid} for atom in atoms]
        for row in rows:
            self._fits(row)
        if rows:
            self.connection.execute(sa.insert(schema.atomdetails), rows)

    def _change_atom(self, flow_uuid: str, known: Values, change: AtomChange) -> tuple[Values, list[JournalRow]]:
        if known["atom_type"] != change.values["atom_type"]:
            kind = _KINDS.get(str(known["atom_type"]), "unknown")
            raise excp.NotImplementedError(f"Can only merge with other {kind} details")
        changed = differing(known, change.values, ATOM_COLUMNS)
        self._update(schema.atomdetails, change.uuid, changed)
        values = {**known, **changed}
        if "state" not in changed and "intention" not in changed:
            return values, []
        return values, [self._atom_row(flow_uuid, known["state"], values, change.at)]

    def _new_atoms(self, flow_uuid: str, atoms: Iterable[AtomChange]) -> list[JournalRow]:
        return [
            self._atom_row(flow_uuid, None, atom.values, atom.at) for atom in atoms if atom.values["state"] is not None
        ]

    def _atom_row(self, flow_uuid: str, before: object, values: Values, at: datetime) -> JournalRow:
        row = self._row(_KINDS.get(str(values["atom_type"]), "task"), flow_uuid, before, values["state"], at)
        return replace(
            row,
            atom_uuid=str(values["uuid"]),
            atom_name=str(values["name"]),
            intention=_text(values["intention"]),
            detail=atom_detail(values) if before != values["state"] else {},
        )

    def _flow_rows(self, flow_uuid: str, before: object, change: FlowChange) -> list[JournalRow]:
        after = change.values["state"]
        return [] if before == after else [self._row("flow", flow_uuid, before, after, change.at)]

    def _row(self, kind: Kind, flow_uuid: str, before: object, after: object, at: datetime) -> JournalRow:
        binding = self._bound.get(flow_uuid)
        return JournalRow(
            kind=kind,
            at=at,
            flow_uuid=flow_uuid,
            from_state=_text(before),
            to_state=_text(after),
            job_uuid=binding.job_uuid if binding else None,
            conductor=binding.conductor if binding else None,
            attempt=binding.attempt if binding else None,
        )

    def _append(self, rows: list[JournalRow]) -> None:
        if rows and self._journal:
            self.connection.execute(sa.insert(schema.journal), [encode_row(row) for row in rows])
