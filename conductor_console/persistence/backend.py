"""The store: a TaskFlow persistence backend on SQLAlchemy, with a journal, and reads that need no TaskFlow object."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from taskflow import exceptions as excp

from conductor_console.errors import StoreUnreachable
from conductor_console.persistence import (
    audit,
    books,
    details,
    edits,
    engine,
    faults,
    limits,
    schema,
    sessions,
    upgrade,
)
from conductor_console.persistence.bound import Binding, Bound, FlowImage
from conductor_console.persistence.connection import StoreConnection
from conductor_console.persistence.edits import Edit
from conductor_console.persistence.fence import Fence
from conductor_console.persistence.journal import JournalRow
from conductor_console.persistence.limits import Limits
from conductor_console.persistence.unit import Unit, read_image
from conductor_console.persistence.view import StoredView
from conductor_console.persistence.writer import T, Work, Writer
from conductor_console.promise import Promise

#: Seconds for which a locked or lost database is tried again before a write's caller is told. A server restarts, and a
#: standby takes over, in less; what ran meanwhile goes on with nothing lost.
RETRY_FOR: Final = 60.0
#: The same for a read and for making tables, of which nothing is lost.
READ_FOR: Final = 10.0
#: So many writes may wait before whoever brings more has to wait as well.
BACKLOG: Final = 1000
_JOURNALLING: Final = "writing to the journal"
_AUDITING: Final = "writing to the audit trail"

#: Engines that came with a fork. Closing (or collecting) their connections here could disturb the parent's.
_inherited: list[sa.Engine] = []
#: The stores of this process.
_stores: weakref.WeakSet[SQLBackend] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    upgrade.after_fork()
    for store in list(_stores):
        store.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class SQLBackend(StoredView):
    """A store on SQLite, PostgreSQL or MySQL. Thread safe. Nothing is opened until it is needed, nothing is created
    but by :meth:`ensure` (a connection's ``upgrade``).

    :param conf: TaskFlow's: ``{"connection": "sqlite:////srv/flows.db"}`` with its pool settings (see
        :func:`conductor_console.persistence.engine.create`). Ours are, in seconds, ``busy_timeout`` (for a lock that
        another program holds), ``answer_timeout`` (for a server that says nothing) and ``retry_for`` (after which the
        callers of a locked or lost store are told).
    :param read_only: every write is refused, and a SQLite file is opened for reading only.
    :raises UsageError: when the URL is none, or its driver is not installed.
    """

    def __init__(self, conf: Mapping[str, Any], read_only: bool = False) -> None:
        super().__init__(dict(conf))
        self._url = engine.parse(conf.get("connection"))
        self._path = engine.sqlite_path(self._url)
        self._on_sqlite = self._dialect == "sqlite"
        self.read_only = read_only
        self._retry_for = float(conf.get("retry_for", RETRY_FOR))
        self._open()
        # A SQLite database in memory is one connection, which threads can only use in turn.
        self._in_memory = self._on_sqlite and self._path is None
        # Only MySQL has to be asked.
        self._limits = None if self._dialect == "mysql" else Limits(nan=self._takes_nan)
        self._closed = False
        self._begin()
        _stores.add(self)

    @property
    def _dialect(self) -> str:
        return str(self._url.get_backend_name())

    @property
    def _takes_nan(self) -> bool:
        return self._dialect != "postgresql"

    def _open(self) -> None:
        """Makes the engines. Nothing is connected yet."""

        def made(purpose: engine.Purpose) -> sa.Engine:
            return engine.create(self._url, self._conf, read_only=self.read_only, purpose=purpose)

        self._engine = self._write_engine = self._single_engine = made("reading")
        if not self._on_sqlite:
            self._write_engine = made("writing")
        if self._dialect == "postgresql":
            self._single_engine = made("single")

    def _begin(self) -> None:
        """Locks and the writer, and what they guard: made anew in a child made by fork, where the threads are not."""
        self._turn: threading.RLock | contextlib.nullcontext[None] = (
            threading.RLock() if self._in_memory else contextlib.nullcontext()
        )
        #: The flows being worked on here.
        self.bound = Bound()
        self._writer = Writer(
            self.url,
            self._write_connection,
            self._unit,
            None if self._on_sqlite else Fence(lambda connection: self._has(schema.writers, connection)),
            self._failure,
            self.bound.failed,
            self._retry_for,
        )

    def after_fork(self) -> None:
        """In the child: leaves the parent's connections alone and begins anew; what it works on is the parent's."""
        if not self._in_memory:
            _inherited.extend((self._engine, self._write_engine, self._single_engine))
            self._open()
        self._begin()

    def __repr__(self) -> str:
        return f"SQLBackend({self.url!r})"

    @property
    def url(self) -> str:
        """The store's URL for people, passwords masked."""
        return engine.masked(self._url)

    def get_connection(self) -> StoreConnection:
        """TaskFlow's connection; it costs nothing and opens nothing."""
        return StoreConnection(self)

    def ensure(self) -> None:
        """Makes or upgrades TaskFlow's tables, and makes ours. Safe however many programs do so at once.

        :raises StoreUnreachable: when they cannot be made, or are another program's.
        :raises UsageError: on PostgreSQL and MySQL, when alembic, which TaskFlow upgrades with, is not installed.
        """
        self._refuse_read_only("making tables")
        patience = min(READ_FOR, self._retry_for)
        try:
            if self._on_sqlite:
                with self._turn:
                    upgrade.on_sqlite(self._engine, self._url, patience)
                return
            patient = engine.create(self._url, self._conf, read_only=False, purpose="upgrading")
            try:
                upgrade.on_server(patient, self._url, patience)
            finally:
                patient.dispose()
        except Exception as error:
            told = self._failure(error, "making its tables")
            raise told from (None if told is error else error)

    def check(self) -> None:
        """Looks whether this is a TaskFlow store that answers.

        :raises StoreUnreachable: one line that says what is wrong and how to mend it.
        """
        with self.reading("a first look") as connection:
            problem = schema.problem(connection)
        if problem is not None:
            raise StoreUnreachable(f"the store {self.url} {problem}")

    @property
    def troubled(self) -> bool:
        """Whether a write failed by the store's fault, and :meth:`answers` has not been true since; returns at once."""
        return self._writer.troubled

    def answers(self) -> bool:
        """Whether the store can be worked with now; where a write has failed lately, whether it takes writes again.

        Asks once, and waits for nothing but the answer.
        """
        try:
            with self.reading("a first look") as connection:
                connection.execute(sa.select(1))
            if not self.read_only and self._writer.troubled:
                self._writer.probe()
        except excp.StorageFailure:
            return False
        return True

    def close(self) -> None:
        """Writes what is queued, ends the writer's thread and closes every connection. Safe to call twice."""
        self._closed = True
        self._writer.close()
        with self._turn:
            for opened in {self._engine, self._write_engine, self._single_engine}:
                opened.dispose()

    # -- work in progress --------------------------------------------------------------------------------------------
    def bind(
        self,
        flow_uuid: str,
        *,
        job_uuid: str | None = None,
        conductor: str | None = None,
        attempt: int | None = None,
        detail: Any = None,
    ) -> None:
        """A claim on this flow's job begins: its journal rows will carry the context, its rows are kept in memory
        until :meth:`unbind`, and what :meth:`drop` forbade is allowed again.

        From here on only what must be durable before the next step waits for that (see :meth:`edit`).

        :param detail: the flow with all its atoms, as it was read since the claim; without it its rows are read here.
        :raises StorageFailure: when its rows cannot be read.
        """
        binding = Binding(flow_uuid, job_uuid, conductor, attempt)
        self.bound.bind(binding)
        image = None if detail is None else details.image_of(detail, self.limits)
        if image is None:
            self._keep(binding)
        else:
            self.bound.keep(binding, image)

    def unbind(self, flow_uuid: str) -> None:
        """The claim is over. A flow that was dropped stays dropped."""
        self.bound.unbind(flow_uuid)

    def drop(self, flow_uuid: str) -> None:
        """The claim is lost: once this returns nothing more of the flow is written until it is bound again; queued
        and later writes of it raise ``StorageFailure``. Waits for the transaction that runs, if any.
        """
        self.bound.drop(flow_uuid)
        self._writer.settle()

    def flush(self, flow_uuid: str) -> None:
        """Returns when everything of the flow is durable.

        :raises StorageFailure: when a write of it was lost since it was bound, or its claim was.
        """
        binding = self.bound.get(flow_uuid)
        last = None if binding is None else binding.last
        if not self.read_only and (last is None or not last.done):
            self._writer.barrier(flow_uuid)
        self.bound.allow(flow_uuid)

    def append(self, row: JournalRow) -> None:
        """Appends a row to the journal, if this store has one; it is durable on return."""
        self._refuse_read_only(_JOURNALLING)
        self._writer.submit(edits.of_row(row), _JOURNALLING).get()

    def record(self, row: JournalRow) -> int:
        """Appends a row (an attempt's, an operator's) to the journal; it is durable on return.

        :returns: its ``seq``; 0 where this store has no journal, and nothing was written.
        """
        return self.write(lambda unit: unit.record(row), _JOURNALLING)

    # -- audit -------------------------------------------------------------------------------------------------------
    def audit_begin(
        self,
        operator: str,
        board: str,
        action: str,
        job_uuid: str | None,
        job_name: str | None,
        before: Mapping[str, Any],
    ) -> int:
        """Writes an operator's intent, durable on return. Returns the number :meth:`audit_end` wants."""
        return self.audit_begin_all(operator, board, [audit.Intent(action, job_uuid, job_name, before)])[0]

    def audit_begin_all(self, operator: str, board: str, intents: Sequence[audit.Intent]) -> list[int]:
        """Writes many intents in one transaction, as :meth:`audit_begin` does one."""
        return self.write(
            lambda unit: audit.begin(unit.connection, operator=operator, board=board, intents=intents), _AUDITING
        )

    def audit_end(self, seq: int, outcome: str) -> None:
        """Writes how it went. :raises NotFound: when the intent is gone."""
        self.audit_end_all([(seq, outcome)])

    def audit_end_all(self, outcomes: Sequence[tuple[int, str]]) -> None:
        """Writes how many acts went, in one transaction. :raises NotFound: when an intent is gone."""
        self.write(lambda unit: audit.end(unit.connection, outcomes), _AUDITING)

    # -- what can be stored ------------------------------------------------------------------------------------------
    @property
    def limits(self) -> Limits:
        """What the database takes; as much as is known of it, where it does not answer or has no tables yet."""
        if self._limits is not None:
            return self._limits
        try:
            with self.reading("asking what it takes") as connection:
                found = limits.of(connection)
        except excp.StorageFailure:
            return Limits(nan=self._takes_nan)
        if found.columns:
            self._limits = found
        return found

    def refusal(self, atom_detail: Any) -> str | None:
        """Why an atom cannot be stored as it is, in the words of whoever made its values; None where it can."""
        known = self.limits
        try:
            excess = known.over(schema.atomdetails, details.atom_change(atom_detail, known).values)
        except schema.Unstorable as error:
            return str(error.__cause__)
        return None if excess is None else excess.why

    # -- for the connection ------------------------------------------------------------------------------------------
    def write(self, work: Work[T], what: str, flow_uuid: str | None = None) -> T:
        """Does ``work`` in the writer's next transaction; durable on return.

        :param flow_uuid: the flow whose state it is: when it is lost, nothing more of the flow is written until it is
            bound again.
        :raises Unstorable: when the database does not take a value; nothing is lost then.
        :raises StorageFailure: when it could not be stored.
        """
        self._refuse_read_only(what)
        return self._writer.call(work, what, flow=flow_uuid)

    def edit(
        self,
        binding: Binding,
        make: Callable[[FlowImage], tuple[Edit, FlowImage, T]],
        what: str,
        otherwise: Work[T],
    ) -> T:
        """Compares with a bound flow's rows as they will be, and queues what is to be written.

        What is urgent is durable on return; what goes wrong with the rest is told to the flow's next call, and to
        :meth:`flush`.

        :param make: gives what is to be written, the rows as they will be then, and what is returned here.
        :param otherwise: does the same where the rows are not kept, or the database may refuse a text.
        :raises Unstorable: when the database does not take a value; nothing is lost then.
        :raises StorageFailure: when it, or something of the flow before it, could not be stored.
        """
        self._refuse_read_only(what)
        urgent = False
        with binding.turn:
            self.bound.allow_in_name_of(binding)
            if binding.image is None:
                return self.write(otherwise, what, binding.flow_uuid)
            edit, image, result = make(binding.image)
            if edit.doubtful:
                result = self.write(otherwise, what, binding.flow_uuid)
                self._keep(binding)
                return result
            if edit:
                excess = edit.excess(self.limits)
                if excess is not None:
                    raise schema.Unstorable(str(excess))
                urgent = edit.urgent
                binding.last = self._writer.submit(edit, what, binding.flow_uuid, hurry=urgent)
                self.bound.keep(binding, image)
            last = binding.last
        if last is not None and urgent:
            last.get()
        elif last is not None and self._writer.pending > BACKLOG:
            self.wait_for(last)
        return result

    def wait_for(self, queued: Promise) -> None:
        """Returns when an edit that was queued is durable. :raises StorageFailure: it never will be."""
        if not queued.done:
            self._writer.hurry()
        queued.get()

    def _keep(self, binding: Binding) -> None:
        """Reads a bound flow's rows; nothing is kept of one that is not there."""
        with contextlib.suppress(excp.NotFound):
            uuid = binding.flow_uuid
            self.bound.keep(binding, self.read(lambda connection: read_image(connection, uuid), "reading a flow"))

    def read(self, work: Callable[[sa.Connection], T], what: str, *, single: bool = False) -> T:
        """What ``work`` reads, tried again for up to :data:`READ_FOR` seconds while the store is lost.

        :param single: it makes do with one statement.
        :raises StorageFailure: whatever the database, or a row that cannot be read, raises.
        """

        def once() -> T:
            with self.reading(what, sure=False) as connection:
                return work(engine.for_one_statement(connection) if single else connection)

        return faults.insisting(once, faults.may_pass, min(READ_FOR, self._retry_for))

    def read_book(self, book_uuid: str, make: Callable[[books.Found], T]) -> T:
        """What ``make`` makes of a logbook's rows.

        :raises StorageFailure: whatever the database, or a row that cannot be read, raises.
        """
        what, single = "reading a logbook", self._single_engine
        if self._in_memory or self._dialect == "mysql":
            return self.read(lambda connection: make(books.find(connection, book_uuid)), what, single=True)

        def once() -> T:
            with self._telling(what), engine.driver_of(single) as driver:
                return make(books.find_by_driver(driver, single.dialect, book_uuid))

        return faults.insisting(once, faults.may_pass, min(READ_FOR, self._retry_for))

    @contextlib.contextmanager
    def reading(self, what: str, *, sure: bool = True) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database; its errors come as one line.

        :param sure: False: it may have broken a moment ago; whoever tries again need not ask first.
        :raises StorageFailure: whatever the database, or a row that cannot be read, raises.
        """
        with self._telling(what), self._turn, self._engine.connect() as connection:
            if sure:
                sessions.make_sure(connection)
            yield connection

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        if self._closed:
            raise excp.StorageFailure(f"the store is closed; {what} was refused")
        try:
            yield
        except Exception as error:
            told = self._failure(error, what)
            if told is error:
                raise
            raise told from error

    @contextlib.contextmanager
    def _write_connection(self) -> Iterator[sa.Connection]:
        with self._turn, self._write_engine.connect() as connection:
            yield connection.execution_options(**{engine.WRITING: True})

    def _unit(self, connection: sa.Connection) -> Unit:
        return Unit(connection, self.bound, journal=self._has(schema.journal, connection))

    def _failure(self, error: BaseException, what: str) -> Exception:
        return faults.failure(error, what, self._url)

    def _refuse_read_only(self, what: str) -> None:
        if self.read_only:
            raise excp.StorageFailure(f"the store is attached read-only; {what} was refused")
