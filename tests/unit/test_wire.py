"""What a fleet and its processes tell each other: read as it was written, and nothing else taken for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from conductor_console.conductors import wire
from conductor_console.conductors.member import FleetEvent, Worker
from conductor_console.conductors.wire import Answer, Ask, Channel, Leaving, News, NotAMessage, Order, Ready, Refused
from conductor_console.jobboards.attempts import Policy, make_cause
from conductor_console.jobboards.policies import Policies

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def order(**changed: Any) -> Order:
    told: dict[str, Any] = {
        "board": "zk://anna:secret@zk1:2181/jobs",
        "store": "sqlite:///flows.db",
        "operator": "anna@ops",
        "kind": "blocking",
        "prefix": "w1-",
        "count": 2,
        "policy": None,
        "options": {"engine_options": {"max_workers": 2}, "allow_factories": ["shop.*"]},
        "paused": ("w1-1",),
        "drained": (),
        "path": ("", "/srv/flows"),
        "grace": 30.0,
        "claims": True,
        "surroundings": {"logs": [["/tmp/log", 20]]},
    }
    return Order(**{**told, **changed})


MESSAGES: list[wire.Message] = [
    order(),
    order(policy=Policy(max_attempts=3, action="hold")),
    order(policy=Policies(Policy(base=0.5), (("lb-*", Policy(max_attempts=2)),))),
    Ask(7, "pause", "w1-1"),
    Ask(8, "stop", timeout=1.5),
    Ready(),
    Leaving(),
    Refused("the store has no tables", 3),
    News(
        (Worker("w1-1", "paused", ("uuid-1", "uuid-2"), NOW, "a note", 3, 4711),),
        (
            FleetEvent("attempt_closed", "w1-1", "uuid", "jöb\udc80", "failed", make_cause("E", "x", "y"), 0.25, NOW),
            FleetEvent("not_allowed", "w1-1", "uuid", at=NOW, factory="shop.flows.f"),
        ),
    ),
    Answer(8, None, ("w1-1",)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


def test_an_order_shows_no_password() -> None:
    assert "secret" not in repr(order())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"version": 1}',
        b'{"version": 1, "what": "Exec"}',
        b'{"version": 1, "what": "Ready", "more": 1}',
        b'{"version": 1, "what": "Ask", "number": 1, "verb": "exec"}',
        b'{"version": 1, "what": "News", "workers": [{}], "events": []}',
        b'{"version": 1, "what": "News", "workers": 7, "events": []}',
        b'{"version": 1, "what": ["Ready"]}',
    ],
)
def test_what_is_no_message_is_told_as_that(raw: bytes) -> None:
    with pytest.raises(NotAMessage, match="do not understand each other"):
        wire.decode(raw)


def test_another_version_is_told_as_that() -> None:
    told = json.loads(wire.encode(Ready()))
    with pytest.raises(NotAMessage, match="different versions: start the command anew"):
        wire.decode(json.dumps({**told, "version": wire.VERSION + 1}).encode())


def test_only_plain_data_is_told() -> None:
    with pytest.raises(NotAMessage, match="plain data: object is none"):
        wire.encode(order(options={"executor": object()}))


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0.02)
        yield Channel(one), other


def test_messages_come_in_order_however_they_are_cut(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    raw = b"".join(len(one).to_bytes(4, "big") + one for one in [wire.encode(message) for message in MESSAGES])

    def trickle() -> None:
        for first in range(0, len(raw), 7):
            other.sendall(raw[first : first + 7])
        other.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=trickle)
    thread.start()
    assert [channel.read() for _ in MESSAGES] == MESSAGES
    assert channel.read() is None
    thread.join()


def test_an_end_in_the_middle_of_a_message_is_an_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b"\0\0\0\x09{")
    other.close()
    assert channel.read() is None


def test_a_dead_process_whose_end_somebody_keeps_open_is_dead(ends: tuple[Channel, socket.socket]) -> None:
    link, other = socket.socketpair()
    with link, other:
        link.settimeout(0.02)
        looks = iter([True, True, False])
        other.sendall(len(wire.encode(Ready())).to_bytes(4, "big") + wire.encode(Ready()))
        channel = Channel(link, going=lambda: next(looks))
        assert channel.read() == Ready()
        assert channel.read() is None


def test_a_length_of_nonsense_is_not_waited_for(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(NotAMessage):
        channel.read()
