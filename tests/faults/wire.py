"""A wire between a ZooKeeper client and its server that is cut at a chosen moment: the faults that no signal makes.

It passes whole frames on (ZooKeeper's: four bytes of length; a request begins with its number and its type, an answer
with the number of its request), so that it can be cut just before a transaction is sent, or just before its answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Literal

MULTI = 14

#: Where a transaction is cut off: before it reaches the server, or when it is done and only its answer is missing.
Cut = Literal["request", "answer"]


class Wire:
    """Listens on :attr:`hosts` and passes on to the server at ``port`` of 127.0.0.1; end it with :meth:`close`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._guard = threading.Lock()
        self._cuts: deque[Cut] = deque()
        self._made = 0
        self._down = False
        self._closed = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._spawn(self._accept)

    @property
    def hosts(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def cuts_left(self) -> int:
        """How many of the cuts that were asked for have not come yet."""
        return len(self._cuts)

    def cut_transactions(self, *cuts: Cut) -> None:
        """Cuts the next transactions that come by, one after the other, each in its way; others pass again."""
        with self._guard:
            self._cuts.extend(cuts)

    def down(self) -> None:
        """Cuts all connections and lets none through."""
        with self._guard:
            self._down = True
        self._cut_all()

    def up(self) -> None:
        with self._guard:
            self._down = False

    def close(self) -> None:
        with self._guard:
            self._closed = True
        # A blocked accept() does not notice that its socket is closed; a connection wakes it.
        with contextlib.suppress(OSError), socket.create_connection(self._listener.getsockname()):
            pass
        self._cut_all()
        for thread in self._threads:
            thread.join(30)
        self._listener.close()

    # -- the inside ----------------------------------------------------------------------------------------------------
    def _spawn(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, name="wire", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _cut_all(self) -> None:
        with self._guard:
            for end in self._open:
                _shut(end)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with self._guard:
                closed, refuse = self._closed, self._closed or self._down
            if not refuse:
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    refuse = True
            if refuse:
                client.close()
                if closed:
                    return
                continue
            with self._guard:
                self._open |= {client, server}
            self._spawn(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """One connection, until either end closes it or it is cut."""
        awaited: list[int] = []
        back = threading.Thread(target=self._answers, args=(server, client, awaited), name="wire-back", daemon=True)
        back.start()
        self._requests(client, server, awaited)
        for end in (client, server):
            _shut(end)
        back.join()
        with self._guard:
            self._open -= {client, server}
        client.close()
        server.close()

    def _requests(self, client: socket.socket, server: socket.socket, awaited: list[int]) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            for i, frame in enumerate(_frames(stream)):
                # The first one opens the session; a request is at least its number and its type.
                if i and len(frame) >= 12 and struct.unpack_from(">i", frame, 8)[0] == MULTI:
                    with self._guard:
                        cut = self._cuts.popleft() if self._cuts else None
                    if cut == "request":
                        return
                    if cut == "answer":
                        awaited.append(struct.unpack_from(">i", frame, 4)[0])
                server.sendall(frame)

    def _answers(self, server: socket.socket, client: socket.socket, awaited: list[int]) -> None:
        with contextlib.suppress(OSError), server.makefile("rb") as stream:
            for i, frame in enumerate(_frames(stream)):
                if i and struct.unpack_from(">i", frame, 4)[0] in awaited:
                    break
                client.sendall(frame)
        for end in (client, server):
            _shut(end)


def _frames(stream: BinaryIO) -> Iterator[bytes]:
    """Whole frames, their length in front."""
    while len(head := stream.read(4)) == 4:
        body = stream.read(struct.unpack(">i", head)[0])
        yield head + body


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
