"""A wire between a store and its server that is cut in a commit: what makes a commit's answer get lost."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Iterator
from typing import Literal

#: What becomes of a commit: it never reaches the server; it is done, and only its answer is lost; the client is cut off
#: at once, and the server hears of the commit only when :meth:`SqlWire.let_late_go` is called.
Cut = Literal["request", "answer", "late"]

#: The statement, and not what a transaction begins with.
_COMMIT = re.compile(rb"COMMIT(?!TED)")


class SqlWire(socketserver.ThreadingTCPServer):
    """Listens on :attr:`port` of 127.0.0.1 and passes everything on to the server at ``target``."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.port: int = self.server_address[1]
        self._guard = threading.Lock()
        self._cuts: deque[Cut] = deque()
        self.late = threading.Event()
        self._release = threading.Event()
        self.closing = threading.Event()

    @property
    def cuts_left(self) -> int:
        """How many of the cuts that were asked for have not come yet."""
        return len(self._cuts)

    def cut_commits(self, *cuts: Cut) -> None:
        """Cuts the next commits, one after the other, each in its way; others pass again."""
        with self._guard:
            self._cuts.extend(cuts)

    def next_cut(self) -> Cut | None:
        with self._guard:
            return self._cuts.popleft() if self._cuts else None

    def let_late_go(self) -> None:
        """The commit that was held back reaches the server."""
        self._release.set()

    def wait_for_release(self) -> None:
        self.late.set()
        self._release.wait(60)


class _Connection(socketserver.BaseRequestHandler):
    server: SqlWire

    def handle(self) -> None:
        client: socket.socket = self.request
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.target)) as server:
            while not self.server.closing.is_set():
                for end in select.select([client, server], [], [], 0.5)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is server:
                        client.sendall(data)
                    elif not self._sent(client, server, data):
                        return

    def _sent(self, client: socket.socket, server: socket.socket, data: bytes) -> bool:
        """Passes a request on. False when the wire was cut at it."""
        cut = self.server.next_cut() if _COMMIT.search(data) else None
        if cut == "request":
            return False
        if cut == "late":
            client.close()
            self.server.wait_for_release()
        server.sendall(data)
        if cut is not None:
            server.recv(65536)  # it is done
        return cut is None


@contextlib.contextmanager
def wired(target: int) -> Iterator[SqlWire]:
    """A wire to the server at that port, ended on leaving."""
    with SqlWire(target) as wire:
        thread = threading.Thread(
            target=wire.serve_forever, kwargs={"poll_interval": 0.05}, name="sql-wire", daemon=True
        )
        thread.start()
        try:
            yield wire
        finally:
            wire.closing.set()
            wire.let_late_go()
            wire.shutdown()
            thread.join(30)
