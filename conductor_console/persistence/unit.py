"""What one transaction does to the store: rows of its own accord, and edits that were decided before."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from oslo_utils import uuidutils
from taskflow import exceptions as excp

from conductor_console.persistence import edits, schema
from conductor_console.persistence.bound import Bound, FlowImage
from conductor_console.persistence.details import (
    BOOK_COLUMNS,
    AtomChange,
    BookChange,
    FlowChange,
    differing,
    encoded,
)
from conductor_console.persistence.edits import Edit
from conductor_console.persistence.journal import JournalRow, encode_row
from conductor_console.persistence.limits import over_packet
from conductor_console.persistence.schema import Unstorable, Values
from conductor_console.persistence.sessions import PACKET


def read_image(connection: sa.Connection, flow_uuid: str) -> FlowImage:
    """All rows of a flow. :raises NotFound: when there is no such flow."""
    row = schema.find(connection, schema.flowdetails, flow_uuid)
    if row is None:
        raise excp.NotFound(f"No flow details found with uuid '{flow_uuid}'")
    found = schema.children(connection, schema.atomdetails, flow_uuid)
    return FlowImage(flow_uuid, encoded(row), {str(atom["uuid"]): encoded(atom) for atom in found})


class Unit:
    """One transaction, by the writer's thread."""

    def __init__(self, connection: sa.Connection, bound: Bound, *, journal: bool) -> None:
        self.connection = connection
        self._bound = bound
        self._journal = journal

    # -- edits -------------------------------------------------------------------------------------------------------
    def allow(self, edit: Edit) -> None:
        """:raises StorageFailure: when the claim in whose name it is done is over, or has lost a write."""
        if edit.binding is not None:
            self._bound.allow_in_name_of(edit.binding)

    def apply(self, *chosen: Edit) -> None:
        """Writes edits that are allowed. :raises NotFound: when a row to be changed is not there."""
        edits.apply(self.connection, chosen, journal=self._journal)

    # -- what is compared with what is there -------------------------------------------------------------------------
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
        if changed:
            self._checked(Edit(changes=(edits.Change(books, change.uuid, changed),)))
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
        self._checked(edits.of_new_flow(change, self._bound.get(change.uuid)))

    def update_flow(self, change: FlowChange) -> tuple[FlowImage, frozenset[str]]:
        """Writes what differs of a flow and of the atoms it carries.

        :returns: all that is stored of it, and the uuids of the atoms that were new.

        :raises NotFound: when there is no such flow. :raises StorageFailure: when it was dropped.
        """
        self._bound.allow(change.uuid)
        known = read_image(self.connection, change.uuid)
        edit, image, new = edits.of_flow(known, change, self._bound.get(change.uuid))
        self._checked(edit)
        return image, new

    def update_atom(self, change: AtomChange) -> Values:
        """Writes what differs of an atom; returns its row.

        :raises NotFound: when there is no such atom. :raises StorageFailure: when its flow was dropped.
        """
        row = schema.find(self.connection, schema.atomdetails, change.uuid)
        if row is None:
            raise excp.NotFound(f"No atom details found with uuid '{change.uuid}'")
        flow_uuid = str(row["parent_uuid"])
        self._bound.allow(flow_uuid)
        edit, values = edits.of_atom(encoded(row), change, flow_uuid, self._bound.get(flow_uuid))
        self._checked(edit)
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

    def _checked(self, edit: Edit) -> None:
        for values in (*edit.atoms, *(change.values for change in edit.changes)):
            self._fits(values)
        self.apply(edit)

    def _fits(self, values: Values | dict[str, Any]) -> None:
        """:raises Unstorable: when it is more than the database takes in one statement."""
        excess = over_packet(values, self.connection.info.get(PACKET))
        if excess is not None:
            raise Unstorable(str(excess))
