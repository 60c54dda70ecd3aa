"""What a store tells without TaskFlow's objects: the journal, flows as they are stored, the audit trail."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa
from taskflow.persistence import base

from conductor_console.persistence import audit, journal, rows, schema
from conductor_console.persistence.audit import AuditRow
from conductor_console.persistence.journal import JournalRow
from conductor_console.persistence.rows import FlowRows


class StoredView(base.Backend):
    """The reading side of a store. Each call raises ``StorageFailure`` when the store does not answer."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        super().__init__(conf)
        self._tables_seen: set[str] = set()

    @abc.abstractmethod
    def reading(self, what: str) -> AbstractContextManager[sa.Connection]:
        """A connection that sees one state of the database; its errors come as one line."""

    @property
    @abc.abstractmethod
    def _dialect(self) -> str:
        """``sqlite``, ``postgresql`` or ``mysql``."""

    def _has(self, table: sa.Table, connection: sa.Connection | None = None) -> bool:
        """Whether the store has this table of ours."""
        # A table that was there stays there; one that was not may be made at any time, by anyone.
        if table.name in self._tables_seen:
            return True
        if connection is None:
            with self.reading("looking for tables") as own:
                found = sa.inspect(own).has_table(table.name)
        else:
            found = sa.inspect(connection).has_table(table.name)
        if found:
            self._tables_seen.add(table.name)
        return found

    # -- reading -----------------------------------------------------------------------------------------------------
    @property
    def has_journal(self) -> bool:
        """Whether the store has our journal. :raises StoreUnreachable: when it does not answer."""
        return self._has(schema.journal)

    @property
    def _by_journal(self) -> bool:
        """Whether it takes the journal to tell in which order atoms were made."""
        return self._dialect == "mysql" and self.has_journal

    @property
    def has_audit(self) -> bool:
        """Whether the store has our audit trail. :raises StoreUnreachable: when it does not answer."""
        return self._has(schema.audit)

    def journal(
        self,
        *,
        flow_uuid: str | None = None,
        job_uuid: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[JournalRow]:
        """Journal rows by ``seq``, those after ``after``, at most ``limit``; none where there is no journal.

        A follower asks again for some rows before its newest: the order of ``seq`` is not the order of commit.
        """
        if not self.has_journal:
            return []
        with self.reading("reading the journal") as connection:
            return journal.read(connection, flow_uuid=flow_uuid, job_uuid=job_uuid, after=after, limit=limit)

    def flow_rows(self, flow_uuid: str) -> FlowRows:
        """A flow and its atoms as they are stored. :raises NotFound: when there is none."""
        journal = self._by_journal
        with self.reading("reading a flow") as connection:
            return rows.flow_rows(connection, flow_uuid, journal=journal)

    def flow_state(self, flow_uuid: str) -> str | None:
        """A flow's state; None where it has none yet or there is no such flow."""
        with self.reading("reading a flow's state") as connection:
            return rows.flow_state(connection, flow_uuid)

    def flow_steps(self, flow_uuid: str) -> tuple[tuple[str, str | None], ...]:
        """The flow's atoms by name and state, in the order of their making; none where there is no such flow."""
        journal = self._by_journal
        with self.reading("reading a flow's steps") as connection:
            return rows.flow_steps(connection, flow_uuid, journal=journal)

    def resolve(self, uuid: str) -> list[str]:
        """The uuids of the flows that a flow's, a logbook's or a job's uuid means, oldest first; none if unknown.

        A job's uuid is known only where there is a journal.
        """
        has_journal = self.has_journal
        with self.reading("looking for a flow") as connection:
            return rows.resolve(connection, uuid, journal=has_journal)

    def audit_rows(self, limit: int = 100, job: str | None = None) -> list[AuditRow]:
        """The newest acts, newest first; none where there is no audit trail.

        :param job: only those on jobs whose uuid begins so.
        """
        if not self.has_audit:
            return []
        with self.reading("reading the audit trail") as connection:
            return audit.read(connection, limit, job)
