"""Puts the rooms together: a workplace is a board, and beside it whatever a command needs; closed as one."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Literal

from conductor_console import jobboards, persistence, settings
from conductor_console.cli.policy import Where, where
from conductor_console.errors import UsageError
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.operations import FileAudit, Operations
from conductor_console.text import visible

if TYPE_CHECKING:
    from conductor_console.conductors.crews import AnyFleet
    from conductor_console.observatory.observatory import Observatory
    from conductor_console.persistence.backend import SQLBackend

#: Seconds for conductors to end the atom they are at when they are told to stop.
STOP_TIMEOUT: Final = 30.0

#: The stores that a command can work with; TaskFlow's others are for programs of one's own.
_STORES: Final = "use a store such as sqlite:////srv/flows.db, postgresql://user@host/flows or mysql://user@host/flows"

Access = Literal["attached", "posting", "own"]


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The conductors to run; ``options`` go to each of them (``allow_factories``, ``on_failure``, ``engine`` …).

    :ivar count: of all ``processes`` together; 1 is this process, more are worker processes beside it.
    """

    count: int
    kind: str = "blocking"
    prefix: str = "w"
    options: dict[str, Any] = field(default_factory=dict)
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Workplace:
    """A connected board and what goes with it; what a command did not ask for is None."""

    title: str
    operator: str
    board: LedgerBoard
    store: SQLBackend | None
    operations: Operations
    fleet: AnyFleet | None
    observatory: Observatory | None


def operator() -> str:
    """Who acts, as the audit and the bin tell it: ``anna@ops-1``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@contextlib.contextmanager
def open_store(url: str, *, read_only: bool = True, make: bool = False) -> Iterator[SQLBackend]:
    """A store, checked to be one.

    :param make: make its tables where they are missing.
    :raises UsageError: when the URL is none. :raises StoreUnreachable: when it does not answer, or is no store.
    """
    store: SQLBackend = persistence.fetch(settings.store_conf(url), read_only=read_only)
    try:
        if not hasattr(store, "ensure"):
            raise UsageError(f"{visible(settings.masked(url), 200)} keeps no flow log: {_STORES}")
        if make:
            store.ensure()
        store.check()
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def open_workplace(
    board_url: str,
    *,
    store_url: str | None = None,
    access: Access = "attached",
    read_only: bool = False,
    policy: AnyPolicy | None = None,
    fleet: FleetPlan | None = None,
    watch: bool = False,
    who: str | None = None,
) -> Iterator[Workplace]:
    """Connects to the board and builds the rest around it; all of it is closed in reverse order, errors or not.

    :param board_url: or a profile's name, whose store counts where ``store_url`` names none.
    :param access: ``attached``: nothing is made, the store is only read, the audit trail is a local file.
        ``posting``: the store is written too. ``own``: missing paths and tables are made as well.
    :param policy: what repeated failure leads to, where conductors run here.
    :param fleet: the conductors to run; they are started by whoever is ready for them.
    :param watch: keep an observatory.
    :raises UsageError: for what cannot be meant. :raises BoardUnreachable, StoreUnreachable: when it is so.
    """
    acting = who or operator()
    with contextlib.ExitStack() as stack:
        # URLs first: a bad one is told before anything is opened.
        named = where(board_url, store_url)
        board_url, store_url = named.board, named.store
        conf = settings.board_conf(board_url)
        if conf["board"] not in entry_points(group=jobboards.GROUP).names:
            raise UsageError(f"a {conf['board']} board cannot be watched or counted: use zk:// or sqlite://")
        store = (
            stack.enter_context(
                open_store(store_url, read_only=read_only or access == "attached", make=access == "own")
            )
            if store_url is not None
            else None
        )
        board: LedgerBoard = jobboards.fetch(conf, name=acting, persistence=store, policy=policy, read_only=read_only)
        stack.callback(board.close)
        if access == "own":
            board.ensure()
        board.connect()
        title = settings.short_board(board_url)
        operations = Operations(
            board,
            operator=acting,
            store=store,
            audit=FileAudit() if access == "attached" else None,
            read_only=read_only,
            title=title,
        )
        crew = _fleet(board, store, policy, fleet, named, acting, watch=watch) if fleet is not None else None
        if crew is not None:
            stack.callback(crew.stop, STOP_TIMEOUT)
        observatory = None
        if watch:
            from conductor_console.observatory.observatory import Observatory

            observatory = Observatory(board, title=title, store=store, fleet=crew, policy=policy, read_only=read_only)
            stack.callback(observatory.stop)
            observatory.start()
        yield Workplace(title, acting, board, store, operations, crew, observatory)


def _fleet(
    board: LedgerBoard, store: Any, policy: AnyPolicy | None, plan: FleetPlan, named: Where, acting: str, *, watch: bool
) -> AnyFleet:
    common: dict[str, Any] = {"kind": plan.kind, "count": plan.count, "prefix": plan.prefix, "policy": policy}
    if plan.processes == 1:
        from conductor_console.conductors.fleet import Fleet

        return Fleet(board, store, **common, **plan.options)
    from conductor_console.cli import worker
    from conductor_console.conductors.processes import ProcessFleet

    assert named.store is not None
    return ProcessFleet(
        board,
        store,
        board_url=named.board,
        store_url=named.store,
        processes=plan.processes,
        operator=acting,
        grace=STOP_TIMEOUT,
        silent=watch,
        claims=not watch,
        program=worker.__name__,
        surroundings=worker.surroundings(),
        **common,
        **plan.options,
    )


def open_replay(store: SQLBackend) -> Callable[[str], Any]:
    """What the screen calls to see what a flow did, by the uuid of a flow, a logbook or a job."""

    def opened(uuid: str) -> Any:
        from conductor_console.replay import tape

        return tape.load(store, uuid)

    return opened
