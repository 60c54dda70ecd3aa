"""``attach``, ``init``, and the console on the embedded board."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from conductor_console.cli import logs, options, output

if TYPE_CHECKING:
    from conductor_console.cli.wiring import Workplace
    from conductor_console.console.app import ConsoleApp


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        "attach",
        epilog=options.example(
            "conductor-console attach zk://zk1:2181,zk2:2181/octavia_jobboard --read-only",
            "conductor-console attach sqlite:////srv/board.db --store sqlite:////srv/flows.db",
        ),
    )(attach)
    app.command(
        "init",
        epilog=options.example("conductor-console init zk://zk1:2181/taskflow/jobs --store sqlite:////srv/flows.db"),
    )(init)


def need_terminal(instead: str) -> None:
    """:raises UsageError: where there is no terminal for a screen; ``instead`` says what there is."""
    if not output.interactive():
        from conductor_console.errors import UsageError

        raise UsageError(f"the console needs a terminal; {instead}")


def show(
    place: Workplace,
    *,
    ascii_only: bool = False,
    read_only: bool = False,
    tidy: Callable[[], object] = lambda: None,
    begin: Callable[[threading.Event], object] = lambda _: None,
) -> None:
    """The console on a workplace, until it is left.

    :param begin: called before it is shown, with what is set once the first screen is painted.
    :param tidy: what must be done even where the screen cannot be ended in good order.
    """
    from conductor_console.cli.hangup import quit_on_signals
    from conductor_console.cli.wiring import open_replay
    from conductor_console.console.run import run

    def before(app: ConsoleApp) -> None:
        stack.enter_context(quit_on_signals(app.exit, place.fleet, tidy))
        begin(app.painted)

    assert place.observatory is not None
    with ExitStack() as stack:
        code = run(
            place.observatory,
            place.operations,
            fleet=place.fleet,
            open_replay=open_replay(place.store) if place.store is not None else None,
            operator=place.operator,
            ascii_only=ascii_only,
            read_only=read_only,
            before=before,
        )
    if code:
        raise typer.Exit(code)


def embedded() -> None:
    """The console on the board and store in the user's data folder; they are made at the first time."""
    import platformdirs

    from conductor_console.cli.wiring import open_workplace
    from conductor_console.errors import UsageError

    need_terminal("see conductor-console --help for the commands that print")
    try:
        folder = platformdirs.user_data_path("conductor-console", ensure_exists=True)
    except OSError as error:
        raise UsageError(f"cannot make the data folder: {error.strerror or error}") from error
    logs.to_file(None)
    with open_workplace(
        f"sqlite:///{folder / 'board.db'}", store_url=f"sqlite:///{folder / 'flows.db'}", access="own", watch=True
    ) as place:
        show(place)


def attach(
    board: options.BoardUrl,
    store: options.StoreUrl = None,
    read_only: options.ReadOnly = False,
    ascii_only: options.Ascii = False,
    log: options.Log = None,
) -> None:
    """Watch someone's board, and act on it by hand. Runs no conductor, creates nothing."""
    from conductor_console.cli.wiring import open_workplace

    output.warn_password(board, store)
    need_terminal("without one, use: conductor-console jobs list BOARD")
    logs.to_file(log)
    with open_workplace(board, store_url=store, read_only=read_only, watch=True) as place:
        show(place, ascii_only=ascii_only, read_only=read_only)


def init(board: options.BoardUrl, store: options.StoreUrl = None) -> None:
    """Make a board's paths or tables, and a store's tables, where they are missing."""
    from conductor_console.cli.wiring import open_workplace
    from conductor_console.settings import masked
    from conductor_console.text import visible

    output.warn_password(board, store)
    with open_workplace(board, store_url=store, access="own") as place:
        output.lines([f"board  {visible(masked(board))}  ready"])
        if place.store is not None:
            output.lines([f"store  {visible(place.store.url)}  ready"])
