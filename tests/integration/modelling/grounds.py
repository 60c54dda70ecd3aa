"""Where a world's board is, and somebody else who is on it."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.retry import KazooRetry
from taskflow import exceptions as excp
from taskflow.jobs import backends as taskflow_boards
from taskflow.types import entity

from conductor_console import jobboards
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from conductor_console.jobboards.zk_client import as_hex, session_of
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.servers import Zookeeper, end_client, expire_session, make_client
from tests.sqlite_boards import Child
from tests.support import eventually

#: The outsider's name on its claims, and as a conductor.
STRANGER: Final = "c4"
STRANGER_ENTITY: Final = f"{STRANGER}@model:5"


class Outsider(abc.ABC):
    """Somebody else on the board, who posts, claims, and ends claims.

    :ivar foreign: its claims are counted by watchers, if at all.
    """

    foreign = True

    @abc.abstractmethod
    def look(self) -> dict[str, Any]:
        """The jobs on the board, by uuid, each as it wants to be handed back."""

    @abc.abstractmethod
    def post(self, name: str) -> str: ...

    @abc.abstractmethod
    def do(self, verb: str, job: Any) -> None:
        """Claims a job, or ends a claim as ``ENDINGS`` has it, as ``STRANGER``."""

    @property
    def session(self) -> str | None:
        """The session that it holds its claims in, where that can be told."""
        return None

    @abc.abstractmethod
    def die(self) -> None:
        """Its session ends, and it comes back."""

    @abc.abstractmethod
    def close(self) -> None: ...


class Ground(abc.ABC):
    """Where the world's board is.

    :ivar expires: whether a session can end while its process lives.
    :ivar trails: whether the word that a record changed may have come, and not be shown yet, when a reading is in.
    """

    expires = True
    trails = True

    @abc.abstractmethod
    def board(self) -> LedgerBoard:
        """One more board object, connected."""

    @abc.abstractmethod
    def outsider(self) -> Outsider | None: ...

    @abc.abstractmethod
    def clear(self, board: LedgerBoard) -> None:
        """Takes everything off the board."""

    @abc.abstractmethod
    def expire(self, board: LedgerBoard) -> None:
        """Ends the session of a board object, and returns when it found out and is at work again."""

    def catch_up(self, board: LedgerBoard) -> None:
        """Has the board show all that happened."""
        board.refresh()

    @abc.abstractmethod
    def records(self) -> set[str] | None:
        """The keys of all the records that lie on the board; None where they go with their jobs."""

    @abc.abstractmethod
    def close(self) -> None: ...


# -- ZooKeeper -----------------------------------------------------------------------------------------------------
class TaskFlowsBoard(Outsider):
    """TaskFlow's own board, on the path of ours."""

    foreign = True

    def __init__(self, hosts: str, path: str) -> None:
        self._hosts = hosts
        self._client = make_client(hosts)
        # Its way to ask for the server's version is one that servers refuse unless told otherwise.
        conf = {"board": "zookeeper", "path": path, "check_compatible": False}
        self._board = taskflow_boards.fetch("taskflow", conf, client=self._client, emit_notifications=False)
        self._board.connect()
        self._register()

    def _register(self) -> None:
        self._board.register_entity(entity.Entity("conductor", STRANGER_ENTITY, {}))

    @property
    def session(self) -> str | None:
        session = session_of(self._client)
        return None if session is None else as_hex(session)

    def look(self) -> dict[str, Any]:
        return {job.uuid: job for job in self._board.iterjobs(ensure_fresh=True)}

    def post(self, name: str) -> str:
        return str(self._board.post(name).uuid)

    def do(self, verb: str, job: Any) -> None:
        getattr(self._board, verb)(job, STRANGER)

    def die(self) -> None:
        _end_session(self._client, self._hosts)
        self._register()

    def close(self) -> None:
        self._board.close()
        end_client(self._client)


class OnZookeeper(Ground):
    """A path on a server of the tests."""

    def __init__(self, server: Zookeeper, path: str) -> None:
        self._hosts = server.hosts
        self._paths = BoardPaths(path)
        self._conf = {
            "board": "zookeeper",
            "hosts": server.hosts,
            "path": path,
            "connection_retry": KazooRetry(max_tries=-1, delay=0.01, max_delay=0.1),
        }
        maker = jobboards.fetch(self._conf)
        maker.ensure()
        maker.close()
        self._client = make_client(server.hosts)
        self._client.start()

    def board(self) -> LedgerBoard:
        return _connected(self._conf)

    def outsider(self) -> Outsider:
        return TaskFlowsBoard(self._hosts, self._paths.board)

    def clear(self, board: LedgerBoard) -> None:
        folders = (self._paths.board, self._paths.trash, self._paths.attempts)
        while left := [f"{folder}/{child}" for folder in folders for child in self._children(folder)]:
            transaction = self._client.transaction()
            for path in left:
                transaction.delete(path)
            # Somebody may be about to sweep: what could not be done at once is done anew.
            transaction.commit()

    def _children(self, folder: str) -> list[str]:
        try:
            return list(self._client.get_children(folder))
        except NoNodeError:
            return []

    def expire(self, board: LedgerBoard) -> None:
        assert isinstance(board, ZookeeperJobBoard)
        client = board._client
        _end_session(client, self._hosts)
        eventually(lambda: board.listing().connection.state == "live", what="the board to be known again")
        eventually(lambda: session_of(client) in self._registered(), what="the conductor to be registered again")

    def _registered(self) -> set[int]:
        stats = [self._client.exists(self._paths.conductor(name)) for name in self._children(self._paths.conductors)]
        return {stat.ephemeralOwner for stat in stats if stat is not None}

    def records(self) -> set[str]:
        return set(self._children(self._paths.attempts))

    def close(self) -> None:
        end_client(self._client)


def _end_session(client: KazooClient, hosts: str) -> None:
    session = session_of(client)
    expire_session(client, hosts)
    eventually(lambda: client.connected and session_of(client) != session, what="another session")


# -- SQLite --------------------------------------------------------------------------------------------------------
_CHILD: Final = """
import sys
from conductor_console import jobboards
from taskflow.types import entity
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child")
board.connect()
board.register_entity(entity.Entity("conductor", sys.argv[3], {}))
seen, mine, options = {}, {}, {"suspend": {"outcome": "suspended"}, "trash": {"outcome": "failed"}}
def look():
    # What is told is what can be claimed: the board may be lost, and found again, between two looks.
    jobs = {job.uuid: job for job in board.iterjobs(ensure_fresh=True)}
    seen.update(jobs)
    return " ".join(jobs)
def do(verb, uuid):
    job = seen[uuid] if verb == "claim" else mine[uuid]
    act = getattr(board, "abandon" if verb == "suspend" else verb)
    act(job, sys.argv[2], **options.get(verb, {}))
    mine[uuid] = job
    return "done"
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""
_TOLD: Final = {"NotFound": excp.NotFound, "JobFailure": excp.JobFailure, "UnclaimableJob": excp.UnclaimableJob}


class Process(Outsider):
    """Another process with a board of ours, which dies by SIGKILL."""

    foreign = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._child = self._start()

    def _start(self) -> Child:
        return Child(_CHILD, str(self._path), STRANGER, STRANGER_ENTITY)

    def look(self) -> dict[str, Any]:
        return {uuid: uuid for uuid in self._child.ask("look()").split()}

    def post(self, name: str) -> str:
        return self._child.ask(f"board.post({name!r}).uuid")

    def do(self, verb: str, job: Any) -> None:
        told = self._child.ask(f"do({verb!r}, {job!r})")
        kind, _, why = told.partition(": ")
        if kind in _TOLD:
            raise _TOLD[kind](why)
        assert told == "done", told

    def die(self) -> None:
        self._child.kill()
        self._child.end()
        self._child = self._start()

    def close(self) -> None:
        self._child.end()


class OnSQLite(Ground):
    """A board in a file.

    :param processes: whether the outsider is there: another process.
    """

    expires = False
    trails = False

    def __init__(self, folder: Path, *, processes: bool) -> None:
        self._path = folder / "board.db"
        self._processes = processes
        self._conf = {"board": "sqlite", "path": str(self._path)}
        maker = jobboards.fetch(self._conf)
        maker.ensure()
        maker.close()

    def board(self) -> LedgerBoard:
        return _connected(self._conf)

    def outsider(self) -> Outsider | None:
        return Process(self._path) if self._processes else None

    def clear(self, board: LedgerBoard) -> None:
        assert isinstance(board, SQLiteJobBoard)
        self.catch_up(board)
        listing = board.listing()
        if listing.jobs or listing.binned:
            # In one transaction: it is done before every sequence.
            with board._act(durable=False) as act:
                for entry in listing.jobs.values():
                    act.remove(entry)
                for binned in listing.binned.values():
                    act.purge(binned)

    def expire(self, board: LedgerBoard) -> None:
        raise NotImplementedError

    def catch_up(self, board: LedgerBoard) -> None:
        """By the news alone, as every process learns of what others did."""
        assert isinstance(board, SQLiteJobBoard)
        board.freshen()

    def records(self) -> set[str] | None:
        return None

    def close(self) -> None:
        """A file needs no closing."""


def _connected(conf: dict[str, Any]) -> LedgerBoard:
    board: LedgerBoard = jobboards.fetch(conf, name="model")
    board.connect()
    return board
