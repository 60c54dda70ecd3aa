"""Following a ZooKeeper board: watches, one thread that reads what they tell of, and the connection's ups and downs.

kazoo calls back on threads of its own, which must not wait: there it is only noted what moved. The reading is done
by one thread (``board-NAME``); each round takes all that was noted so far, so a flood costs one listing, not many.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import Callback, EventType, KazooState, KeeperState

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.zk_breaker import BreakerNode
from conductor_console.jobboards.zk_client import LOG, NO_RIGHTS, answer, as_hex, describe, session_of
from conductor_console.jobboards.zk_listing import Listed, listing
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import read_lock, read_record
from conductor_console.jobboards.zk_paths import LOCK_SUFFIX, BoardPaths
from conductor_console.jobboards.zk_reads import Reads

Folder = Literal["jobs", "records", "bin", "entities"]
#: In this order a record that is listed belongs to a job that is found on the board or in the bin, or to none.
FOLDERS: Final[tuple[Folder, ...]] = ("records", "jobs", "bin", "entities")
JOIN_SECONDS: Final = 15.0
#: Seconds between two listings of a big board (a small one's cost is nothing); where one takes longer than the first,
#: as long as it takes, up to the second: half of the time is for others.
LONGEST_PAUSE, BIG_PAUSE = 0.05, 0.15
#: The same while many jobs are moved by ourselves: to list a big board anew for each few of them would take longer than
#: the moves. A claim that lasts less than this may be among those that are told as unseen then.
CALM_PAUSE: Final = 0.5
#: The last is between two looks at a folder that may not be listed.
_RETRY_SECONDS, _TOLD_SECONDS, _DENIED_SECONDS = 0.5, 5.0, 5.0
_CALLED: Final[Mapping[Folder, str]] = {"jobs": "jobs", "records": "attempts", "bin": "bin", "entities": "conductors"}


class _Work:
    """What has to be read again: folders to list, single nodes to read."""

    def __init__(self) -> None:
        self.folders: set[Folder] = set()
        self.locks: set[str] = set()
        self.records: set[str] = set()
        self.breaker = False
        self.all = False

    def __bool__(self) -> bool:
        return bool(self.folders or self.locks or self.records or self.breaker)

    def everything(self) -> None:
        self.folders.update(FOLDERS)
        self.breaker = self.all = True

    def add(self, other: _Work) -> None:
        self.folders |= other.folders
        self.locks |= other.locks
        self.records |= other.records
        self.breaker = self.breaker or other.breaker
        self.all = self.all or other.all


class Mirror:
    """Keeps a :class:`BoardModel` true to the board.

    :param hosts: for messages.
    :param on_round: called on the board's thread after each round in which all is in step; it may talk to ZooKeeper.
    :param on_quiet: called on it about once a second while there is nothing to read, with whether it is connected.
    :param on_lost: called at once when the connection goes, True when the session (its locks and entities with it) is
        over; it must not wait.
    """

    def __init__(
        self,
        client: KazooClient,
        paths: BoardPaths,
        model: BoardModel,
        breaker: BreakerNode,
        name: str,
        hosts: str,
        on_round: Callable[[], None],
        on_quiet: Callable[[bool], None],
        on_lost: Callable[[bool], None],
    ) -> None:
        self._client = client
        self._reads = Reads(client)
        self._paths = paths
        self._model = model
        self._breaker = breaker
        self._name = name
        self._hosts = hosts
        self._on_round = on_round
        self._on_quiet = on_quiet
        self._on_lost = on_lost
        self._wake = threading.Condition()
        self._work = _Work()
        self._asked = 0
        self._done = 0
        self._progress = 0
        self._calm = 0
        self._stopping = False
        self._failure: str | None = None
        #: Why a folder is not shown, and when to ask again for one that may not be listed: no event tells of rights.
        self._denied: dict[Folder, str] = {}
        self._ask_again = 0.0
        self._board_born = 0
        # From here on touched by the board's own thread alone: the board's children, and nodes that are watched.
        self._listed = Listed()
        self._watched_locks: set[str] = set()
        self._watched_records: set[str] = set()
        self._thread: threading.Thread | None = None

    # -- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begins to follow; the client is connected."""
        self._stopping = False
        self._failure = None
        self._work = _Work()
        self._work.everything()
        self._client.add_listener(self._state_changed)
        self._thread = threading.Thread(target=self._run, name=f"board-{self._name}", daemon=True)
        self._thread.start()
        if not self._client.connected:
            # It went between the start and the listener.
            self._state_changed(self._client.state)

    def stop(self) -> None:
        """Ends the following: nothing is read any more. Call :meth:`join` once the client is stopped, or is alive."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._client.remove_listener(self._state_changed)

    def join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)

    def refresh(self, timeout: float, folders: tuple[Folder, ...] = FOLDERS) -> None:
        """Lists all (or these) folders anew and returns when it is in.

        :param timeout: seconds without any progress (a big board takes its time).
        :raises BoardUnreachable: when that does not come about.
        """
        with self._wake:
            self._asked += 1
            turn = self._asked
            self._work.folders.update(folders)
            self._wake.notify_all()
            progress = -1
            while self._done < turn and not self._hopeless() and progress != self._progress:
                progress = self._progress
                self._wake.wait_for(lambda: self._done >= turn or self._hopeless(), timeout)
            if self._done < turn:
                reason = self._failure or ("closed" if self._stopping else f"no answer within {timeout:g} s")
                raise BoardUnreachable(f"cannot read the board at {self._hosts}: {reason}")

    def _hopeless(self) -> bool:
        """Whether to wait for what was asked for is no use; to be called under the lock."""
        return self._stopping or (self._failure is not None and not self._reads.excused)

    @property
    def reads_many(self) -> bool:
        """Whether the server is known to read many nodes at once."""
        return self._reads.proven

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """While many jobs are moved by ourselves."""
        with self._wake:
            self._calm += 1
        try:
            yield
        finally:
            with self._wake:
                self._calm -= 1

    def look_again(self) -> None:
        """Asks for one more round, soon; returns at once."""
        with self._wake:
            self._work.folders.add("jobs")
            self._wake.notify_all()

    def wait_connected(self, timeout: float) -> bool:
        """Waits until there is a connection, at most ``timeout`` seconds; False when none came."""
        with self._wake:
            return bool(self._wake.wait_for(lambda: self._client.connected or self._stopping, timeout)) and bool(
                self._client.connected
            )

    def begin_anew(self) -> None:
        """What is known is put in no order with what the next connection finds; to be called while there is none."""
        self._model.lost(self._failure or f"no connection to {self._hosts}", expired=True)

    # -- kazoo's threads: note and return --------------------------------------------------------------------------
    def _state_changed(self, state: str) -> None:
        if self._stopping:
            return
        if state == KazooState.CONNECTED:
            with self._wake:
                self._failure = None
                self._work.everything()
                self._wake.notify_all()
            return
        expired = state == KazooState.LOST
        if expired:
            if self._client.client_state == KeeperState.AUTH_FAILED:
                why = "the credentials were refused"
            elif self._client.client_state == KeeperState.CLOSED:
                why = "the client was closed"
            else:
                why = "the session expired; connecting anew"
        else:
            why = "trying again"
        self._on_lost(expired)
        detail = f"no connection to {self._hosts}: {why}"
        with self._wake:
            self._failure = detail
            self._wake.notify_all()
        self._model.lost(detail, expired)

    def _watched(self, event: Any) -> None:
        if event.type == EventType.NONE or self._stopping:
            return  # the connection's, which the listener tells
        path: str = event.path
        folder, _, name = path.rpartition("/")
        with self._wake:
            if path == self._paths.board:
                self._work.folders.add("jobs")
            elif path == self._paths.attempts:
                self._work.folders.add("records")
            elif path == self._paths.breaker:
                self._work.breaker = True
            elif path == self._paths.trash:
                self._work.folders.add("bin")
            elif path == self._paths.conductors:
                self._work.folders.add("entities")
            elif folder == self._paths.board and name.endswith(LOCK_SUFFIX):
                self._work.locks.add(name[: -len(LOCK_SUFFIX)])
            elif folder == self._paths.attempts:
                self._work.records.add(name)
            else:
                return
            self._wake.notify_all()

    # -- the board's own thread ------------------------------------------------------------------------------------
    def _run(self) -> None:
        pause, turn = 0.0, 0
        while True:
            with self._wake:
                if pause:
                    self._wake.wait_for(lambda: self._stopping, pause)
                self._wake.wait_for(lambda: self._stopping or (self._work and self._client.connected), 1.0)
                if self._stopping:
                    return
                connected = self._client.connected
                if self._denied and not self._work and time.monotonic() >= self._ask_again:
                    self._work.folders.update(self._denied)
                if connected and self._work:
                    work, self._work, turn = self._work, _Work(), self._asked
                else:
                    work = _Work()
            if work:
                pause = self._round(work, turn)
            else:
                self._on_quiet(connected)

    def _round(self, work: _Work, turn: int) -> float:
        """Reads what moved. Returns the pause before the next round, in seconds."""
        began = time.monotonic()
        epoch = self._model.epoch
        try:
            self._read(work)
            if turn > self._done:
                self._read_what_was_told()
            with self._wake:
                caught_up = not self._work.all
            if caught_up and self._model.in_step(epoch, "; ".join(self._denied.values())):
                with self._wake:
                    self._done = turn
                    self._wake.notify_all()
                self._on_round()
            taken = time.monotonic() - began
            return max(min(taken, BIG_PAUSE), min(CALM_PAUSE if self._calm else LONGEST_PAUSE, 3 * taken))
        except (k_exceptions.KazooException, KazooTimeoutError) as error:
            LOG.info("reading the board failed: %s", describe(error))
        except Exception:
            LOG.exception("following the board failed; it is read anew")
        with self._wake:
            self._work.add(work)
            self._work.everything()
        return _RETRY_SECONDS

    def _read_what_was_told(self) -> None:
        """What the client was told before these answers, another thread may note later: a refresh must not miss it."""
        noted = threading.Event()
        self._client.handler.dispatch_callback(Callback("watch", noted.set, ()))
        noted.wait(_TOLD_SECONDS)
        with self._wake:
            if self._work.all or not self._work:
                return
            work, self._work = self._work, _Work()
        self._read(work)

    def _read(self, work: _Work) -> None:
        if work.all:
            # What was watched before the connection went is not watched any more.
            self._watched_locks.clear()
            self._watched_records.clear()
            # The server that we came to may be behind the one that told us what we know.
            answer(self._client.sync_async, self._paths.board)
        if work.breaker:
            self._breaker.look(self._watched, anew=work.all)
        self._watched_locks -= work.locks
        self._watched_records -= work.records
        # What was touched and is listed no more is gone: there is nothing to read.
        records = self._list_records(work.records) if "records" in work.folders else work.records
        if "jobs" in work.folders:
            jobs, locks, stat = self._list_jobs(work.locks)
            # What we made ourselves is known, unless there may be another's of that name in its place by now.
            ours = set() if work.all or stat is None else self._ours(locks - work.locks)
            # Locks first: a claim that lasts a moment is seen by its lock alone.
            self._read_locks(locks - ours)
            self._read_jobs(jobs)
            if stat is not None:
                if ours and not self._model.creations.explains(stat):
                    self._read_locks(ours)
                self._model.creations.settle(stat)
        else:
            self._read_locks(work.locks)
        self._read_records(records)
        if "bin" in work.folders:
            self._read_bin()
        if "entities" in work.folders:
            self._read_entities()

    def _children(self, path: str, folder: Folder) -> tuple[list[str], Any] | None:
        """A folder's children and its stat, watched; None where it is not there (its coming is watched then).

        The stat is None where the folder may not be listed.
        """
        for _ in range(3):
            try:
                listed: tuple[list[str], Any] = answer(listing, self._client, path, self._watched)
                self._denied.pop(folder, None)
                return listed
            except k_exceptions.NoNodeError:
                if answer(self._client.exists_async, path, watch=self._watched) is None:
                    return None
            except NO_RIGHTS:
                if folder == "records":
                    self._model.set_uncounted("no rights to read the ledger")
                else:
                    self._denied[folder] = f"no rights to list the {_CALLED[folder]} at {path}"
                    self._ask_again = time.monotonic() + _DENIED_SECONDS
                return [], None
        with self._wake:
            self._work.folders.add(folder)
        return None

    def _list_jobs(self, touched: set[str]) -> tuple[list[str], set[str], Any]:
        """Lists the board. Returns the postings to read, the locks that are not watched (any more), the board's stat.

        :param touched: the locks to read where the board may not be listed.
        """
        found = self._children(self._paths.board, "jobs")
        if found is None:
            self._model.board_missing()
            self._watched_locks.clear()
            self._denied["jobs"] = f"the board at {self._paths.board} is gone; waiting for it to come back"
            return [], set(), None
        names, stat = found
        if stat is not None and stat.czxid != self._board_born:
            if self._board_born:
                # It was deleted and made again between two looks: the same names are others' now.
                self._model.board_missing()
                self._watched_locks.clear()
            self._board_born = stat.czxid
        jobs, locked = self._listed.split(names)
        self._watched_locks &= locked
        new = self._model.jobs_listed(jobs, locked, stat.pzxid if stat is not None else 0)
        return new, touched if stat is None else locked - self._watched_locks, stat

    def _ours(self, nodes: set[str]) -> set[str]:
        session = session_of(self._client)
        return set() if session is None else self._model.locked_by(as_hex(session), nodes)

    def _read_locks(self, nodes: set[str]) -> None:
        for node, found in self._each(sorted(nodes), self._paths.lock, self._watched):
            self._watched_locks.add(node)
            self._model.locked(node, read_lock(*found))

    def _read_jobs(self, nodes: list[str]) -> None:
        for node, found in self._each(nodes, self._paths.job):
            self._model.job_read(node, *found)

    def _each(
        self, names: Sequence[str], path: Callable[[str], str], watch: Any = None
    ) -> Iterator[tuple[str, tuple[bytes | None, Any]]]:
        """What lies at the paths of these names: of a node that may not be read its stat alone.

        One that is not there any more is left out: the listing that follows tells so.
        """
        reads = self._reads.plain(names, path) if watch is None else self._reads.watched(names, path, watch)
        for name, found in reads:
            if isinstance(found, NO_RIGHTS):
                stat = answer(self._client.exists_async, path(name), watch=watch)
                found = (None, stat) if stat is not None else None
            if isinstance(found, tuple):
                self._progress += 1
                yield name, found

    def _list_records(self, touched: set[str]) -> set[str]:
        """Lists the ledger. Returns the records that are not watched (any more).

        :param touched: the records to read where it may not be listed.
        """
        found = self._children(self._paths.attempts, "records")
        names, stat = found if found is not None else ([], None)
        if found is not None and stat is None:
            return touched
        present = set(names)
        self._watched_records &= present
        self._model.records_listed(present, self._client.last_zxid if stat is None else stat.pzxid)
        return present - self._watched_records

    def _read_records(self, keys: set[str]) -> None:
        for key, (raw, stat) in self._each(sorted(keys), self._paths.record, self._watched):
            self._watched_records.add(key)
            if raw is None:
                self._model.bar(key)
            elif self._model.ledger(key).mzxid < stat.mzxid:
                # Mostly it is not what we wrote ourselves a moment ago.
                self._model.recorded(key, read_record(raw, key, stat))

    def _read_bin(self) -> None:
        names, stat = self._children(self._paths.trash, "bin") or ([], None)
        new = self._model.bin_listed(names, None if stat is None else stat.pzxid)
        for node, read in self._each(new, self._paths.binned):
            self._model.bin_read(node, *read)

    def _read_entities(self) -> None:
        names, _ = self._children(self._paths.conductors, "entities") or ([], None)
        self._model.entities_read(dict(self._each(sorted(names), self._paths.conductor)))
