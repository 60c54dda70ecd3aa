"""Keeping a SQLite board's picture current: one thread a board object looks whether anything moved.

Looking costs a ``PRAGMA data_version``; only after another connection wrote is the list of changes read, and only
the jobs it names. A store that shares the file makes the first true and the second empty. Claims end without any
write when their process dies, so the lock files of those who hold something are tried, too, a few times a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from conductor_console.errors import ConsoleError
from conductor_console.jobboards.base import BinEntry, EntityEntry, JobEntry
from conductor_console.jobboards.breaker import Breaker
from conductor_console.jobboards.common import STOP_TIMEOUT
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.sqlite_database import Database
from conductor_console.jobboards.sqlite_file import FileGone
from conductor_console.jobboards.sqlite_liveness import Sessions
from conductor_console.jobboards.sqlite_rows import Reader
from conductor_console.jobboards.sqlite_schema import breaker_of
from conductor_console.text import visible

LOG: Final = logging.getLogger(__name__)

#: Seconds between two looks, between two trials of the lock files, and before a lost file is tried again.
LOOK_EVERY: Final = 0.02
TRY_LOCKS_EVERY: Final = 0.2
RETRY_AFTER: Final = 0.5

#: What a change of the entities is called among the changes, where a job's is its key.
ENTITIES_KEY: Final = ""
#: The same of the circuit breaker; no job's uuid.
BREAKER_KEY: Final = "breaker"
_NO_JOBS: Final = frozenset({ENTITIES_KEY, BREAKER_KEY})


@dataclass(frozen=True, slots=True)
class News:
    """Some keys read anew: what is not in ``jobs`` or ``binned`` is not there.

    :ivar entities, breaker: None if not asked for.
    """

    keys: tuple[str, ...]
    jobs: dict[str, JobEntry]
    binned: dict[str, BinEntry]
    entities: tuple[EntityEntry, ...] | None
    breaker: Breaker | None


class Mirror:
    """Feeds one board's picture.

    :param tend: called a few times a second on the watching thread, while the board can be read.
    :ivar lock: held by each act from its transaction's begin until its outcome is in the picture, and by each
        reading likewise, so that nothing older ever overwrites something newer. Never held while waiting for
        listeners.
    :ivar file_gone: whether the file that was opened is no longer there.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        sessions: Sessions,
        picture: Picture,
        *,
        read_only: bool,
        tend: Callable[[], None],
    ) -> None:
        self.lock = threading.RLock()
        self.reader = Reader(picture, sessions)
        self.file_gone = False
        self._name = name
        self._database = database
        self._sessions = sessions
        self._picture = picture
        self._read_only = read_only
        self._tend = tend
        self._seen = 0
        #: Changes of our own that are in the picture already.
        self._own: set[int] = set()
        #: Whose life what is shown depends on: the session of each claimed job, and of the entities.
        self._claims: dict[str, str] = {}
        self._entity_sessions: frozenset[str] = frozenset()
        self._data_version: int | None = None
        self._next_trial = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- life ----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Reads the whole board, then watches it until :meth:`stop`.

        :raises BoardUnreachable: when there is no board.
        """
        self._picture.set_connection("connecting")
        try:
            self._open()
        except BaseException:
            self._picture.set_connection("closed")
            raise
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"{self._name}-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT)
        self._picture.set_connection("closed")

    def _open(self) -> None:
        self._database.open()
        self.load()
        self.file_gone = False
        self._picture.set_connection("live")

    def _run(self) -> None:
        connection: sa.Connection | None = None
        live = True
        try:
            while not self._stop.wait(LOOK_EVERY if live else RETRY_AFTER):
                try:
                    if not live:
                        self._open()
                        live = True
                    if connection is None:
                        connection = self._database.connect()
                        self._data_version = None
                    self._look(connection)
                except Exception as error:
                    if not isinstance(error, ConsoleError):
                        LOG.exception("watching the board failed")
                    live = False
                    lost = self._lost()
                    self._picture.set_connection("lost", visible(lost or error, 300))
                    if connection is not None:
                        if lost is not None and not self._read_only:
                            self._database.rescue(connection)
                        connection.close()
                        connection = None
        finally:
            if connection is not None:
                connection.close()

    def _look(self, connection: sa.Connection) -> None:
        version = self._database.ask(connection, "PRAGMA data_version")
        if version != self._data_version:
            self._data_version = version
            self._read_changes()
        now = time.monotonic()
        if now >= self._next_trial:
            self._next_trial = now + TRY_LOCKS_EVERY
            self._database.file.need_same()
            self._bury_the_dead()
            self._tend()

    def _lost(self) -> ConsoleError | None:
        """What is no longer there of the files that were opened; None while all of it is."""
        try:
            self._database.file.need_same()
        except ConsoleError as error:
            self.file_gone = isinstance(error, FileGone)
            return error
        return None

    def _bury_the_dead(self) -> None:
        with self.lock:
            owners = self._entity_sessions.union(self._claims.values())
            dead = {session for session in owners if not self._sessions.alive(session)}
            if not dead:
                return
            if not self._read_only:
                for session in dead:
                    self._sessions.bury(session)
            keys = [key for key, session in self._claims.items() if session in dead]
            if dead & self._entity_sessions:
                keys.append(ENTITIES_KEY)
            with self._database.reading() as connection:
                news = self.read(connection, keys)
            self._show(news)

    # -- reading -------------------------------------------------------------------------------------------------------
    def load(self) -> None:
        """Reads the whole board into the picture."""
        with self.lock, self._database.reading() as connection:
            self._seen = self.reader.newest_change(connection)
            self._own.clear()
            jobs = list(self.reader.jobs(connection))
            binned = list(self.reader.binned(connection))
            entities = tuple(self.reader.entities(connection))
            self._picture.set_breaker(breaker_of(connection))
            self._picture.replace(jobs, binned, entities)
            self._claims.clear()
            for entry in jobs:
                self._note_claim(entry.key, entry)
            self._note_entities(entities)

    def catch_up(self) -> None:
        """Reads what moved since the last reading, and who died."""
        self._read_changes()
        self._bury_the_dead()

    def _read_changes(self) -> None:
        with self.lock:
            with self._database.reading() as connection:
                changes = self.reader.changes(connection, self._seen)
                if changes:
                    news = self.read(connection, _keys(changes, self._own))
            if changes is None:
                self.load()
            elif changes:
                self._show(news)
                self._seen = changes[-1][0]
                self._own = {seq for seq in self._own if seq > self._seen}

    def read(self, connection: sa.Connection, keys: Sequence[str]) -> News:
        """What the transaction sees of these keys."""
        jobs = [key for key in keys if key not in _NO_JOBS]
        entities = tuple(self.reader.entities(connection)) if ENTITIES_KEY in keys else None
        return News(
            tuple(jobs),
            {entry.key: entry for entry in self.reader.jobs(connection, jobs)},
            {entry.key: entry for entry in self.reader.binned(connection, jobs)},
            entities,
            breaker_of(connection) if BREAKER_KEY in keys else None,
        )

    def shows(self, session: str | None) -> bool:
        """Whether the conductors that registered with a session are in the picture."""
        return session in self._entity_sessions

    def done(self, news: News, changes: Sequence[int]) -> None:
        """Shows what an act of ours did, now that it is committed; the caller holds the lock."""
        self._own.update(changes)
        self._show(news)

    def _show(self, news: News) -> None:
        for key in news.keys:
            entry, binned = news.jobs.get(key), news.binned.get(key)
            if binned is not None:
                self._picture.put_binned(binned)
            else:
                self._picture.drop_binned(key)
            if entry is not None:
                self._picture.put(entry)
            else:
                self._picture.drop(key)
            self._note_claim(key, entry)
        if news.breaker is not None:
            self._picture.set_breaker(news.breaker)
        if news.entities is not None:
            self._picture.set_entities(news.entities)
            self._note_entities(news.entities)

    def _note_claim(self, key: str, entry: JobEntry | None) -> None:
        if entry is not None and entry.claim is not None and entry.claim.session is not None:
            self._claims[key] = entry.claim.session
        else:
            self._claims.pop(key, None)

    def _note_entities(self, entities: Sequence[EntityEntry]) -> None:
        self._entity_sessions = frozenset(entity.session for entity in entities if entity.session)


def _keys(changes: Sequence[tuple[int, str]], known: set[int]) -> list[str]:
    """What moved, each once, but for the changes that are known."""
    return list(dict.fromkeys(key for seq, key in changes if seq not in known))
