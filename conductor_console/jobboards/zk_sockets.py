"""How kazoo's connection waits, reads and writes: with few system calls, however many requests are under way.

Each costs more than the time it takes: whoever makes one lets other threads run first. kazoo makes ten for a request
and its answer. Here what was received is handed out from memory, what is to be sent is gathered until there is nothing
else to do at once, and whoever has a request for the connection's thread wakes it only if it sleeps.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
import time
from typing import Any, Final

from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.handlers.utils import fileobj_to_fd
from kazoo.protocol.serialization import int_struct

#: So much is received at once; and so much, in bytes, is gathered at most before it is sent.
_OCTETS: Final = 64 * 1024
_OVER: Final = select.POLLHUP | select.POLLERR


class Stream:
    """A connected socket that does not block, buffered; for one thread. What is not told here is the socket's own."""

    def __init__(self, connected: Any) -> None:
        self._socket = connected
        self._received = b""
        self._at = 0
        self._unsent = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def pending(self) -> int:
        """How many bytes can be had without a system call; kazoo asks for it."""
        return len(self._received) - self._at

    def recv(self, size: int) -> bytes:
        """At most so many bytes, which are there; nothing at the end."""
        if self._at >= len(self._received):
            self._received, self._at = self._socket.recv(max(size, _OCTETS)), 0
        begin = self._at
        self._at = min(begin + size, len(self._received))
        return self._received[begin : self._at]

    def message(self) -> bytes | None:
        """The next of messages that each begin with their length, without that; None where not all of it is here.

        Asks the system where nothing is here. :raises OSError: the connection broke.
        """
        if self._at >= len(self._received):
            try:
                self._received, self._at = self._socket.recv(_OCTETS), 0
            except BlockingIOError:
                return None
        begin = self._at + int_struct.size
        if len(self._received) < begin:
            return None
        end = begin + int_struct.unpack_from(self._received, self._at)[0]
        if len(self._received) < end:
            return None
        self._at = end
        return self._received[begin:end]

    def send(self, octets: Any) -> int:
        """Takes all of it; it is gone once :meth:`flush` says so."""
        self._unsent += octets
        if not self.takes:
            self.flush()
        return len(octets)

    @property
    def at_once(self) -> bool:
        """Whether it can be read without asking the system."""
        return self._at < len(self._received)

    @property
    def unsent(self) -> bool:
        return bool(self._unsent)

    @property
    def takes(self) -> bool:
        """Whether there is room for more."""
        return len(self._unsent) < _OCTETS

    def flush(self) -> None:
        """Sends what the system takes at once. :raises OSError: the connection broke."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:sent]


class Bell:
    """A pair of sockets by which many threads tell one how many requests wait; only one that sleeps has to be woken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ear, self._hand = socket.socketpair()
        self._rung = 0
        self._asleep = False
        self._woken = False
        self._closed = False

    def ring(self) -> None:
        """:raises OSError: it is closed."""
        with self._lock:
            if self._closed:
                raise OSError("the connection is closed")
            self._rung += 1
            if self._asleep and self._rung > 0 and not self._woken:
                self._woken = True
                self._hand.send(b"\0")

    def heard(self) -> None:
        """One request is dealt with; that may be before it is rung for."""
        with self._lock:
            self._rung -= 1

    def forget_debts(self) -> None:
        """No ring is to come for what was dealt with; one that does is one too many, which does no harm."""
        with self._lock:
            self._rung = max(0, self._rung)

    def sleep(self) -> bool:
        """Whoever listens is about to wait for the socket. Returns whether there is no request for him yet."""
        with self._lock:
            self._asleep = self._rung <= 0
            return self._asleep

    def wake(self) -> None:
        """Whoever listens waits no more."""
        with self._lock:
            self._asleep = False
            if self._woken and not self._closed:
                self._woken = False
                self._ear.recv(1)

    @property
    def at_once(self) -> bool:
        return self._rung > 0

    def fileno(self) -> int:
        return self._ear.fileno()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._ear.close()
            self._hand.close()


class Ear:
    """The end of a bell that kazoo's connection waits at, as a socket."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.fileno = bell.fileno
        self.close = bell.close
        self.sleep = bell.sleep
        self.wake = bell.wake
        self.forget_debts = bell.forget_debts

    @property
    def at_once(self) -> bool:
        return self._bell.at_once

    def recv(self, _size: int) -> bytes:
        self._bell.heard()
        return b"\0"


class _Hand:
    """The other end."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.close = bell.close

    def send(self, octets: bytes) -> int:
        self._bell.ring()
        return len(octets)


class Handler(SequentialThreadingHandler):
    """kazoo's own, with sockets as they are here."""

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._wanted: dict[int, int] = {}

    def create_connection(self, *args: Any, **options: Any) -> Any:
        connected = super().create_connection(*args, **options)
        return connected if isinstance(connected, ssl.SSLSocket) else Stream(connected)

    def create_socket_pair(self) -> tuple[Any, Any]:
        bell = Bell()
        return Ear(bell), _Hand(bell)

    def select(self, rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None) -> tuple[list[Any], ...]:  # noqa: ARG002
        """As ``select.select``, whatever the number of the file; ``xlist`` is taken to be empty, as by kazoo's.

        :raises TypeError: a socket is closed. :raises ValueError: its file is another's, or nobody's, by now.
        """
        # kazoo asks before each piece that it reads and writes, and mostly there is nothing to wait for.
        if not rlist and len(wlist) == 1 and type(wlist[0]) is Stream and wlist[0].takes:
            return [], wlist, []
        if not wlist and len(rlist) == 1 and type(rlist[0]) is Stream and rlist[0].at_once:
            return rlist, [], []
        streams = [one for one in wlist or rlist if isinstance(one, Stream)]
        for stream in streams:
            stream.flush()
        ears = [one for one in rlist if isinstance(one, Ear)]
        slept = [ear.sleep() for ear in ears]
        try:
            return self._waited(rlist, wlist, streams, timeout if all(slept) else 0.0)
        finally:
            for ear in ears:
                ear.wake()

    def _waited(self, rlist: Any, wlist: Any, streams: list[Stream], timeout: float | None) -> tuple[list[Any], ...]:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            wanted: dict[int, int] = {}
            for one in rlist:
                wanted[fileobj_to_fd(one)] = select.POLLIN
            for one in (*wlist, *(stream for stream in streams if stream.unsent)):
                number = fileobj_to_fd(one)
                wanted[number] = wanted.get(number, 0) | select.POLLOUT
            if wanted != self._wanted:
                self._poll, self._wanted = select.poll(), wanted
                for number, events in wanted.items():
                    self._poll.register(number, events)
            at_once = any(_at_once(one) for one in rlist)
            left = 0.0 if at_once else None if end is None else max(0.0, end - time.monotonic())
            ready = dict(self._poll.poll(None if left is None else math.ceil(left * 1000)))
            if any(events & select.POLLNVAL for events in ready.values()):
                raise ValueError("a socket was closed while it was waited for")
            # What hung up can be read and written: that tells how.
            for stream in streams:
                if ready.get(stream.fileno(), 0) & (select.POLLOUT | _OVER):
                    stream.flush()
            readable = [
                one for one in rlist if _at_once(one) or ready.get(fileobj_to_fd(one), 0) & (select.POLLIN | _OVER)
            ]
            writable = [
                one
                for one in wlist
                if ready.get(fileobj_to_fd(one), 0) & (select.POLLOUT | _OVER)
                and not (isinstance(one, Stream) and not one.takes)
            ]
            if readable or writable or not ready:
                return readable, writable, []


def _at_once(one: Any) -> bool:
    """Whether it can be read without asking the system."""
    return isinstance(one, Stream | Ear) and one.at_once
