"""TaskFlow's ``Connection`` to our store. It holds nothing open: opening and closing one costs nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow.persistence import base

from conductor_console.persistence import books, details, edits, schema
from conductor_console.persistence.bound import Binding, FlowImage
from conductor_console.persistence.details import AtomChange, FlowChange
from conductor_console.persistence.edits import Edit
from conductor_console.persistence.schema import Values
from conductor_console.persistence.unit import Unit

if TYPE_CHECKING:
    from conductor_console.persistence.backend import SQLBackend


_SAVING_ATOM: Final = "saving atom details"
_SAVING_FLOW: Final = "saving flow details"


def _of_atom(image: FlowImage, change: AtomChange, binding: Binding) -> tuple[Edit, FlowImage, Values]:
    edit, values = edits.of_atom(image.atoms[change.uuid], change, image.uuid, binding)
    return edit, FlowImage(image.uuid, image.values, {**image.atoms, change.uuid: values}), values


def _of_flow(
    image: FlowImage, change: FlowChange, binding: Binding
) -> tuple[Edit, FlowImage, tuple[FlowImage, frozenset[str]]]:
    edit, after, new = edits.of_flow(image, change, binding)
    return edit, after, (after, new)


def _book_of(found: books.Found) -> Any:
    """A logbook with all it holds; None where there is none."""
    flows = {row["uuid"]: details.flow_of(row) for row in found[schema.flowdetails.name]}
    for row in found[schema.atomdetails.name]:
        flows[row["parent_uuid"]].add(details.atom_of(row))
    for row in found[schema.logbooks.name]:
        book = details.book_of(row)
        # Adding moves the book's own clock; what is stored is kept.
        updated_at = book.updated_at
        for flow in flows.values():
            book.add(flow)
        book.updated_at = updated_at
        return book
    return None


class StoreConnection(base.Connection):
    """Reads run in the calling thread; writes go through the store's writer and return when they are durable. Either
    is tried again for a bounded time where the store is locked or lost.

    Of a flow that is bound only what the next step counts on is waited for: that an atom runs or is reverted, and that
    the flow is over or suspended. What goes wrong with the rest is told to the flow's next call. Reading that flow
    waits for what was written of it here; a logbook that is read while its flow is at work may trail it by a commit.

    Every method raises ``StorageFailure`` when the store fails (:class:`~conductor_console.errors.StoreUnreachable`
    is one), and ``NotFound`` where TaskFlow's own backends do.
    """

    def __init__(self, backend: SQLBackend) -> None:
        self._backend = backend

    @property
    def backend(self) -> SQLBackend:
        return self._backend

    def close(self) -> None:
        """Nothing to close: connections are the backend's."""

    def upgrade(self) -> None:
        """Makes or upgrades TaskFlow's tables, and makes ours."""
        self._backend.ensure()

    def validate(self) -> None:
        """:raises StoreUnreachable: when the database does not answer; tables are not asked for (as TaskFlow)."""
        with self._backend.reading("a first look") as connection:
            connection.execute(sa.text("SELECT 1"))

    def clear_all(self) -> None:
        """Deletes every logbook with its flows and atoms; journal and audit, which tell of the past, stay."""
        self._backend.write(lambda unit: unit.connection.execute(sa.delete(schema.logbooks)), "clearing all entries")
        self._backend.bound.forget()

    # -- writing -----------------------------------------------------------------------------------------------------
    def update_atom_details(self, atom_detail: Any, *, copied: bool = True) -> Any:
        """Stores what changed of an atom; returns a detail of its own with the stored identity.

        :param copied: False: the given detail is nobody else's any more, and is returned itself where it can be.
        :raises NotFound: when there is no such atom.
        """
        backend = self._backend
        change = details.atom_change(atom_detail, backend.limits)
        binding = backend.bound.of_atom(atom_detail.uuid)

        def work(unit: Unit) -> Values:
            return unit.update_atom(change)

        if binding is None:
            values = backend.write(work, _SAVING_ATOM)
        else:
            values = backend.edit(binding, lambda image: _of_atom(image, change, binding), _SAVING_ATOM, work)
            binding.seen[atom_detail.uuid] = details.shape_of(atom_detail)
        if not copied and values["name"] == atom_detail.name:
            return atom_detail
        return details.merged_atom(values, atom_detail)

    def update_flow_details(self, flow_detail: Any, *, copied: bool = True) -> Any:
        """Stores what changed of a flow, and of the atoms it carries; returns a detail with all its stored atoms.

        :param copied: False: the given detail is nobody else's any more, and is returned itself where it can be.
        :raises NotFound: when there is no such flow.
        """
        backend = self._backend
        binding = backend.bound.get(flow_detail.uuid)
        # Where the rows are not kept somebody else may have written them.
        known = {} if binding is None or binding.image is None else binding.seen
        change = details.flow_change(flow_detail, backend.limits, known)

        def work(unit: Unit) -> tuple[FlowImage, frozenset[str]]:
            return unit.update_flow(change)

        if binding is None:
            image, new = backend.write(work, _SAVING_FLOW, change.uuid)
        else:
            image, new = backend.edit(binding, lambda image: _of_flow(image, change, binding), _SAVING_FLOW, work)
            binding.seen.update((atom.uuid, details.shape_of(flow_detail.find(atom.uuid))) for atom in change.atoms)
        if not copied and len(image.atoms) == len(flow_detail):
            return flow_detail
        return details.merged_flow(image, flow_detail, new)

    def save_logbook(self, book: Any) -> Any:
        """Stores a logbook and all it carries; returns ``book`` where it is new, else the stored one merged with it."""
        change = details.book_change(book, self._backend.limits)
        for flow in change.flows:
            self._backend.bound.forget(flow.uuid)
        if not self._backend.write(lambda unit: unit.save_book(change), "saving a logbook"):
            return book
        stored = self.get_logbook(book.uuid).merge(book)
        for flow in book:
            known = stored.find(flow.uuid).merge(flow)
            for atom in flow:
                known.find(atom.uuid).merge(atom)
        return stored

    def destroy_logbook(self, book_uuid: str) -> None:
        """Deletes a logbook with its flows and atoms.

        :raises NotFound: when there is none.
        """
        self._backend.write(lambda unit: unit.destroy_book(book_uuid), "destroying a logbook")
        self._backend.bound.forget()

    # -- reading -----------------------------------------------------------------------------------------------------
    def get_logbook(self, book_uuid: str, lazy: bool = False) -> Any:
        """:raises NotFound: when there is none. ``lazy`` leaves its flows out."""

        def read(connection: sa.Connection) -> Any:
            row = schema.find(connection, schema.logbooks, book_uuid)
            return None if row is None else details.book_of(row)

        if lazy:
            book = self._backend.read(read, "reading a logbook", single=True)
        else:
            book = self._backend.read_book(book_uuid, _book_of)
        if book is None:
            raise excp.NotFound(f"No logbook found with uuid '{book_uuid}'")
        return book

    def get_logbooks(self, lazy: bool = False) -> Iterator[Any]:
        """All logbooks; they are read when the first is asked for."""

        def read(connection: sa.Connection) -> list[Any]:
            rows = connection.execute(sa.select(schema.logbooks)).all()
            if lazy:
                return [details.book_of(schema.plain(row)) for row in rows]
            found = (self._book(connection, row.uuid) for row in rows)
            return [book for book in found if book is not None]

        yield from self._backend.read(read, "reading logbooks")

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[Any]:
        """A logbook's flows; ``lazy`` leaves their atoms out."""
        yield from self._backend.read(
            lambda connection: self._flows(connection, book_uuid, lazy), "reading a logbook's flows"
        )

    def get_flow_details(self, fd_uuid: str, lazy: bool = False) -> Any:
        """:raises NotFound: when there is none. ``lazy`` leaves its atoms out."""

        def read(connection: sa.Connection) -> Any:
            row = schema.find(connection, schema.flowdetails, fd_uuid)
            if row is None:
                raise excp.NotFound(f"No flow details found with uuid '{fd_uuid}'")
            return self._flow(connection, row, lazy)

        self._catch_up(self._backend.bound.get(fd_uuid))
        return self._backend.read(read, "reading flow details")

    def get_atom_details(self, ad_uuid: str) -> Any:
        """:raises NotFound: when there is none."""

        def read(connection: sa.Connection) -> Any:
            row = schema.find(connection, schema.atomdetails, ad_uuid)
            if row is None:
                raise excp.NotFound(f"No atom details found with uuid '{ad_uuid}'")
            return details.atom_of(row)

        self._catch_up(self._backend.bound.of_atom(ad_uuid))
        return self._backend.read(read, "reading atom details")

    def get_atoms_for_flow(self, fd_uuid: str) -> Iterator[Any]:
        """A flow's atoms."""
        self._catch_up(self._backend.bound.get(fd_uuid))
        yield from self._backend.read(lambda connection: self._atoms(connection, fd_uuid), "reading a flow's atoms")

    def _catch_up(self, binding: Binding | None) -> None:
        """Waits for what was queued of a flow: whoever reads it sees what was written here before."""
        if binding is not None and binding.last is not None:
            # What could not be written is told to whoever writes.
            with contextlib.suppress(Exception):
                self._backend.wait_for(binding.last)

    @staticmethod
    def _book(connection: sa.Connection, book_uuid: str) -> Any:
        """A logbook with all it holds; None where there is none."""
        return _book_of(books.find(connection, book_uuid))

    def _flows(self, connection: sa.Connection, book_uuid: str, lazy: bool) -> list[Any]:
        if lazy:
            return [details.flow_of(row) for row in schema.children(connection, schema.flowdetails, book_uuid)]
        book = self._book(connection, book_uuid)
        return [] if book is None else list(book)

    def _flow(self, connection: sa.Connection, row: dict[str, Any], lazy: bool) -> Any:
        flow = details.flow_of(row)
        if not lazy:
            for atom in self._atoms(connection, flow.uuid):
                flow.add(atom)
        return flow

    @staticmethod
    def _atoms(connection: sa.Connection, flow_uuid: str) -> list[Any]:
        return [details.atom_of(row) for row in schema.children(connection, schema.atomdetails, flow_uuid)]
