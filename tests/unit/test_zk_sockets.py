"""The sockets that kazoo's connection is given: what is read and sent is what was, in order, whatever the sizes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from conductor_console.jobboards.zk_sockets import Handler, Stream


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    mine, other = socket.socketpair()
    mine.setblocking(False)
    with contextlib.closing(mine), contextlib.closing(other):
        yield Stream(mine), other


def test_what_came_is_handed_out_in_pieces(handler: Handler, ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    other.sendall(b"abcdef")
    assert handler.select([stream], [], [], 5.0) == ([stream], [], [])
    assert (stream.recv(2), stream.pending()) == (b"ab", 4)
    # The rest is there without asking, and is told of.
    assert handler.select([stream], [], [], 0.0)[0] == [stream]
    assert (stream.recv(10), stream.pending()) == (b"cdef", 0)
    assert handler.select([stream], [], [], 0.0) == ([], [], [])
    other.close()
    assert handler.select([stream], [], [], 5.0)[0] == [stream]
    assert stream.recv(4) == b""


def test_what_is_sent_is_gathered_until_it_is_looked_for_answers(
    handler: Handler, ends: tuple[Stream, socket.socket]
) -> None:
    stream, other = ends
    other.setblocking(False)
    ear, hand = handler.create_socket_pair()
    with contextlib.closing(ear), contextlib.closing(hand):
        for octets in (b"one ", b"two"):
            assert handler.select([], [stream], [], 5.0) == ([], [stream], [])
            assert stream.send(octets) == len(octets)
        with pytest.raises(BlockingIOError):
            other.recv(10)
        assert handler.select([stream, ear], [], [], 0.0) == ([], [], [])
        assert other.recv(10) == b"one two"


def test_messages_are_taken_whole(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    assert stream.message() is None
    other.sendall(b"\0\0\0\3one\0\0\0\0\0\0\0\5t")
    assert [stream.message(), stream.message(), stream.message()] == [b"one", b"", None]
    # What is not whole yet is still there, to be read in pieces.
    assert stream.recv(9) == b"\0\0\0\5t"


def test_more_than_the_system_takes_is_sent_as_it_goes(handler: Handler, ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    whole = bytes(range(256)) * 16384
    got = bytearray()

    def read() -> None:
        while len(got) < len(whole):
            got.extend(other.recv(65536))
        other.sendall(b"!")

    reader = threading.Thread(target=read)
    stream.send(whole)
    assert stream.unsent
    assert not stream.takes
    # Nobody reads: there is no room for more.
    assert handler.select([], [stream], [], 0.0) == ([], [], [])
    reader.start()
    assert handler.select([], [stream], [], 30.0) == ([], [stream], [])
    assert handler.select([stream], [], [], 30.0) == ([stream], [], [])
    reader.join(30)
    assert bytes(got) == whole
    assert stream.recv(1) == b"!"


def test_answers_are_looked_for_while_requests_keep_coming(
    handler: Handler, ends: tuple[Stream, socket.socket]
) -> None:
    stream, other = ends
    ear, hand = handler.create_socket_pair()
    with contextlib.closing(ear), contextlib.closing(hand):
        other.sendall(b"answer")
        hand.send(b"\0")
        assert handler.select([stream, ear], [], [], 5.0)[0] == [stream, ear]


def test_a_request_dealt_with_before_it_was_rung_for_wakes_nobody(handler: Handler) -> None:
    ear, hand = handler.create_socket_pair()
    with contextlib.closing(ear), contextlib.closing(hand):
        ear.recv(1)
        late = threading.Timer(0.1, hand.send, [b"\0"])
        late.start()
        assert handler.select([ear], [], [], 0.5) == ([], [], [])
        late.join()
        later = threading.Timer(0.1, hand.send, [b"\0"])
        later.start()
        assert handler.select([ear], [], [], 30.0)[0] == [ear]
        later.join()


def test_a_ring_that_was_lost_silences_nobody_for_good(handler: Handler) -> None:
    ear, hand = handler.create_socket_pair()
    with contextlib.closing(ear), contextlib.closing(hand):
        ear.recv(1)
        ear.forget_debts()
        hand.send(b"\0")
        assert handler.select([ear], [], [], 5.0)[0] == [ear]


def test_a_bell_tells_how_many_requests_wait(handler: Handler) -> None:
    ear, hand = handler.create_socket_pair()
    # A request may be dealt with before it is rung for.
    ear.recv(1)
    hand.send(b"\0")
    assert handler.select([ear], [], [], 0.0) == ([], [], [])
    threads = [threading.Thread(target=lambda: [hand.send(b"\0") for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    heard = 0
    while heard < 2000:
        assert handler.select([ear], [], [], 30.0)[0] == [ear]
        ear.recv(1)
        heard += 1
    for thread in threads:
        thread.join()
    assert handler.select([ear], [], [], 0.0) == ([], [], [])
    ear.close()
    with pytest.raises(OSError, match="closed"):
        hand.send(b"\0")
    hand.close()


def test_a_socket_that_was_closed_is_told(handler: Handler) -> None:
    one, other = socket.socketpair()
    with contextlib.closing(other):
        one.close()
        with pytest.raises((TypeError, ValueError)):
            handler.select([one], [], [], 0.0)
