"""``exporter``: a board as Prometheus metrics, served until a signal ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from conductor_console.cli import options, output, policy

if TYPE_CHECKING:
    from http.server import HTTPServer

    from conductor_console.cli.wiring import Workplace
    from conductor_console.observatory.metrics import SnapshotCollector

LISTEN: Final = "127.0.0.1:9791"
#: Seconds between two looks at the newest snapshot: what comes and goes in between is counted by the rates alone.
LOOK: Final = 0.1
#: Seconds that a client may take to send what it wants, or to take what it is sent.
PATIENCE: Final = 10.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "exporter",
        epilog=options.example(
            "conductor-console exporter zk://zk1:2181/octavia_jobboard --store mysql://reader@db/octavia",
            f"conductor-console exporter sqlite:////srv/board.db --listen {LISTEN} --read-only",
        ),
    )(exporter)


def exporter(
    board: options.BoardUrl,
    store: options.StoreUrl = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to serve /metrics; port 0 takes a free one.")
    ] = LISTEN,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Count attempts of TaskFlow's conductors in memory, write nothing.")
    ] = False,
) -> None:
    """Serve a board as Prometheus metrics: jobs, ages, attempts, failures, claims, bin, connection.

    Whoever can connect sees counts, the names of the board's hosts and of claims' owners, and the types of errors; no
    job's name, no message, no detail. There is no password: leave it on 127.0.0.1, or put something before it.
    While the board cannot be reached the last known figures are served, dated, with conductor_console_up 0.
    """
    from conductor_console.cli.wiring import open_workplace

    output.warn_password(board, store)
    named = policy.where(board, store)
    host, port = address(listen)
    with ExitStack() as stack:
        # Before the board is asked for anything: what nobody could scrape need not be made.
        server = stack.enter_context(_bound(host, port))
        place = stack.enter_context(open_workplace(named.board, store_url=named.store, read_only=read_only, watch=True))
        _serve(place, server)


def address(text: str) -> tuple[str, int]:
    """The host and port of ``127.0.0.1:9791``, ``[::1]:9791`` or ``:9791`` (every address of this host).

    :raises UsageError: when it is none.
    """
    from conductor_console.errors import UsageError
    from conductor_console.text import visible

    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    whole = host == bare or host == f"[{bare}]"
    if not colon or not whole or (":" in bare and host == bare) or not (port.isascii() and port.isdecimal()):
        raise UsageError(f"--listen reads HOST:PORT, such as {LISTEN} or [::1]:9791, not {visible(text, 80)!r}")
    if len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--listen: there is no port {visible(port, 20)}; ports end at 65535")
    return bare, int(port)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[HTTPServer]:
    """A server that has its address, and does not listen yet.

    :raises UsageError: when this host has no such address. :raises ConsoleError: when it cannot be had.
    """
    import logging
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer

    from conductor_console.errors import ConsoleError, UsageError
    from conductor_console.text import visible

    shown = f"{f'[{host}]' if ':' in host else visible(host, 80)}:{port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--listen: there is no host {visible(host, 80)!r}") from error

    class Server(ThreadingHTTPServer):
        def server_bind(self) -> None:
            # Not HTTPServer's: it asks the name service what this host is called, and may wait for it.
            TCPServer.server_bind(self)

        def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
            # A client that went away, or sent nothing: no reason to print a traceback.
            logging.getLogger(__name__).debug("a request failed", exc_info=True)

    with ExitStack() as stack:
        problem: OSError | None = None
        for family, *_, place in found:
            Server.address_family = family
            try:
                server = stack.enter_context(
                    Server((str(place[0]), port), BaseHTTPRequestHandler, bind_and_activate=False)
                )
                server.server_bind()
            except OSError as error:
                problem = error
                # A name may stand for an address of a kind that this host lacks (::1), and for another that it has.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                break
            yield server
            return
        assert problem is not None
        if problem.errno == errno.EADDRINUSE:
            raise ConsoleError(f"{shown} is in use, by another exporter perhaps: give another --listen") from problem
        if problem.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise UsageError(f"--listen: {visible(host, 80)} is no address of this host") from problem
        raise ConsoleError(f"cannot listen on {shown}: {problem.strerror or problem}") from problem


def _serve(place: Workplace, server: HTTPServer) -> None:
    """Answers scrapes until a signal comes; a second one leaves at once."""
    import threading

    from prometheus_client import CollectorRegistry, MetricsHandler

    from conductor_console.cli.headless import log

    collector = _collector(place)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)

    class Handler(MetricsHandler):
        timeout = PATIENCE

    Handler.registry = registry
    server.RequestHandlerClass = Handler
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    with _signals() as came:
        thread.start()
        host, port = server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        log(f"metrics of {place.title} on http://{shown}:{port}/metrics")
        reason = ""
        while not reason:
            with contextlib.suppress(queue.Empty):
                reason = came.get(timeout=LOOK)
            collector.observe()
        log(f"stopping, {reason}")
        server.shutdown()
        thread.join()


def _collector(place: Workplace) -> SnapshotCollector:
    from importlib.metadata import version

    from conductor_console import __version__
    from conductor_console.observatory.metrics import SnapshotCollector

    assert place.observatory is not None
    return SnapshotCollector(
        place.observatory.snapshot,
        offset=lambda: place.board.clock_offset,
        versions={"version": __version__, "taskflow": version("taskflow")},
    )


@contextlib.contextmanager
def _signals() -> Iterator[queue.SimpleQueue[str]]:
    """While it is open a signal is a line in the queue; a second one ends the process at once."""
    from conductor_console.cli.hangup import forget_terminal

    came: queue.SimpleQueue[str] = queue.SimpleQueue()
    on_terminal = sys.stderr.isatty()
    number_of = 0

    def signalled(number: int, _: FrameType | None) -> None:
        nonlocal number_of
        number_of += 1
        if number == signal.SIGHUP and on_terminal:
            forget_terminal()
        if number_of > 1:
            os._exit(1)
        came.put(f"{signal.Signals(number).name} (again to leave at once)")

    with ExitStack() as stack:
        for number in _SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, signalled))
        yield came
