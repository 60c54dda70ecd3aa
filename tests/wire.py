"""A ZooKeeper's wire, listened in on: what a client asks for, and a server that is older than ours."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator

from tests.servers import free_port

PING = 11
MULTI_READ = 22
_UNIMPLEMENTED = -6


class Wire:
    """Stands between clients and a server, and notes the kind (ZooKeeper's number) of each request, in order.

    :ivar requests: what was asked since the start; a connection's opening is not among it.
    :param unknown: requests that the server behind is made to know nothing of: it says so and hangs up, as ZooKeeper
        does.
    :param silent: what it says is lost.
    """

    def __init__(self, hosts: str, unknown: Collection[int] = (), silent: bool = False) -> None:
        host, _, port = hosts.partition(":")
        self._server = (host, int(port))
        self._unknown = unknown
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.requests: list[int] = []
        self.hosts = "{}:{}".format(*self._listener.getsockname())
        self._start(self._accept)

    def others(self) -> list[int]:
        """The requests that were no pings."""
        return [kind for kind in list(self.requests) if kind != PING]

    def pings(self) -> int:
        return self.requests.count(PING)

    def close(self) -> None:
        self._closed = True
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection would not end"
        for one in (self._listener, *self._sockets):
            one.close()

    def _start(self, run: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._asks, client, server)
            self._start(self._answers, client, server)

    def _asks(self, client: socket.socket, server: socket.socket) -> None:
        opened = False
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                frame = stream.read(struct.unpack("!i", head)[0])
                if opened:
                    xid, kind = struct.unpack_from("!ii", frame)
                    self.requests.append(kind)
                    if kind in self._unknown:
                        if not self._silent:
                            client.sendall(struct.pack("!iiqi", 16, xid, 0, _UNIMPLEMENTED))
                        break
                opened = True
                server.sendall(head + frame)
        self._hang_up(client, server)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := server.recv(65536):
                client.sendall(octets)
        self._hang_up(client, server)

    def _hang_up(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def wire(hosts: str, unknown: Collection[int] = (), silent: bool = False) -> Iterator[Wire]:
    """A wire to ``hosts``, closed on leaving."""
    made = Wire(hosts, unknown, silent)
    try:
        yield made
    finally:
        made.close()
