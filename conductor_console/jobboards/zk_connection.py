"""kazoo's connection, dealing at each of its turns with all that came, and sending all that is to be sent.

kazoo's own takes one answer, or one request, a turn, and asks the system before and after each.
"""

from __future__ import annotations

from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler
from kazoo.protocol.serialization import ReplyHeader, reply_header_struct

from conductor_console.jobboards.zk_sockets import Ear, Stream

#: Requests that are sent before it is looked for answers.
_AT_ONCE: Final = 64


class Connection(ConnectionHandler):
    """See the module. What is told of ``Stream`` goes for connections without TLS, whose sockets are kazoo's own."""

    def _read_header(self, timeout: float) -> tuple[ReplyHeader, bytes, int]:
        stream = self._socket
        if type(stream) is Stream:
            with self._socket_error_handling():
                octets = stream.message()
            if octets is not None:
                return ReplyHeader._make(reply_header_struct.unpack_from(octets)), octets, reply_header_struct.size
        found: tuple[ReplyHeader, bytes, int] = super()._read_header(timeout)
        return found

    def _read_socket(self, read_timeout: float) -> Any:
        response = super()._read_socket(read_timeout)
        # What TLS has decrypted already no system call tells of.
        while response != CLOSE_RESPONSE and hasattr(self._socket, "pending") and self._socket.pending() > 0:
            response = super()._read_socket(read_timeout)
        return response

    def _send_request(self, read_timeout: float, connect_timeout: float) -> None:
        super()._send_request(read_timeout, connect_timeout)
        for _ in range(_AT_ONCE):
            if type(self._read_sock) is not Ear or not self.client._queue:
                break
            super()._send_request(read_timeout, connect_timeout)

    def _send_ping(self, connect_timeout: float) -> None:
        # Whoever was interrupted between queueing a request and ringing for it is heard here at the latest.
        if type(self._read_sock) is Ear:
            if self.client._queue:
                self._send_request(connect_timeout, connect_timeout)
            self._read_sock.forget_debts()
        super()._send_ping(connect_timeout)

    def _write(self, msg: bytes, timeout: float) -> None:
        stream = self._socket
        if type(stream) is Stream and stream.takes:
            with self._socket_error_handling():
                stream.send(msg)
        else:
            super()._write(msg, timeout)


def use(client: KazooClient) -> None:
    """Gives a client that was not started yet this connection."""
    # The client makes it by itself, with what it alone knows; all that differs is how it reads and sends.
    client._connection.__class__ = Connection
