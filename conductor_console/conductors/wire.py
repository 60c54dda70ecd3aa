"""What a fleet and its worker processes tell each other: messages of plain data, each as a length and JSON of so long.

Every message tells the version of this protocol: a process that is started anew after an upgrade of this package runs
other code than its parent.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from conductor_console.clock import from_iso, iso
from conductor_console.conductors.member import FleetEvent, Worker
from conductor_console.errors import ConsoleError
from conductor_console.jobboards.attempts import Cause, Policy
from conductor_console.jobboards.policies import AnyPolicy, Policies

VERSION: Final = 1
#: Bytes of a message; a longer one is none of ours.
LARGEST: Final = 64 * 2**20

Verb = Literal["scale", "pause", "resume", "drain", "restart", "stop"]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)


class NotAMessage(ConsoleError):
    """What came is no message of this version."""


@dataclass(frozen=True, slots=True)
class Order:
    """A process's first message: what to work on, and how. URLs may hold passwords, so they are in no repr.

    :ivar operator: as whom it connects to the board.
    :ivar options: what each conductor takes; of JSON's values alone.
    :ivar paused, drained: names of those that are not to claim anything at first.
    :ivar path: where Python looks for modules: flows are to be found where the parent finds them.
    :ivar grace: seconds for what runs to come to the end of its atom when the parent is gone.
    :ivar claims: whether to tell of each claim as well.
    :ivar surroundings: what the process's program wants to know, which logs there are for instance.
    """

    board: str = field(repr=False)
    store: str = field(repr=False)
    operator: str
    kind: str
    prefix: str
    count: int
    policy: AnyPolicy | None
    options: Mapping[str, Any]
    paused: tuple[str, ...]
    drained: tuple[str, ...]
    path: tuple[str, ...]
    grace: float
    claims: bool
    surroundings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """Something to do, which is answered; ``count`` is for ``scale``, ``timeout`` (s) for ``stop``."""

    number: int
    verb: Verb
    name: str | None = None
    count: int = 0
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A process's conductors are at work."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Somebody else told the process to end: its conductors put their jobs down, and nothing more is asked of it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A process cannot do what its order says, for a reason in one line; ``code`` is the command line's exit code."""

    line: str
    code: int


@dataclass(frozen=True, slots=True)
class News:
    """All conductors of a process as they are, and what happened since the last news."""

    workers: tuple[Worker, ...]
    events: tuple[FleetEvent, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """To an :class:`Ask`: why not, in one line, if not; of ``stop``: the names of those that would not end."""

    number: int
    refusal: str | None = None
    stuck: tuple[str, ...] = ()


Message = Order | Ask | Ready | Leaving | Refused | News | Answer


def encode(message: Message) -> bytes:
    """:raises NotAMessage: it holds what is no plain data."""
    body = {name: getattr(message, name) for name in message.__dataclass_fields__}
    try:
        return json.dumps({"version": VERSION, "what": type(message).__name__, **body}, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise NotAMessage(f"a worker process can only be told plain data: {error}") from error


def decode(raw: bytes) -> Message:
    """The inverse of :func:`encode`. :raises NotAMessage: for anything else."""
    try:
        told = json.loads(raw)
        version, what = told.pop("version"), told.pop("what")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise NotAMessage("a worker process and its parent do not understand each other") from error
    if version != VERSION:
        raise NotAMessage("a worker process and its parent are of different versions: start the command anew")
    try:
        return _READERS[what](told)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAMessage("a worker process and its parent do not understand each other") from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if dataclasses.is_dataclass(value):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    raise TypeError(f"{type(value).__name__} is none")


def _policy(told: Any) -> AnyPolicy | None:
    if told is None or "default" not in told:
        return None if told is None else Policy(**told)
    return Policies(Policy(**told["default"]), tuple((pattern, Policy(**rule)) for pattern, rule in told["rules"]))


def _order(told: dict[str, Any]) -> Order:
    names = {key: tuple(told[key]) for key in ("paused", "drained", "path")}
    return Order(**{**told, **names, "policy": _policy(told["policy"])})


def _ask(told: dict[str, Any]) -> Ask:
    if told["verb"] not in VERBS:
        raise ValueError(told["verb"])
    return Ask(**told)


def _news(told: dict[str, Any]) -> News:
    workers = [
        Worker(**{**one, "jobs": tuple(one["jobs"]), "since": from_iso(one["since"])}) for one in told.pop("workers")
    ]
    events = [
        FleetEvent(**{**one, "at": from_iso(one["at"]), "cause": Cause(**one["cause"]) if one["cause"] else None})
        for one in told.pop("events")
    ]
    return News(tuple(workers), tuple(events), **told)


def _answer(told: dict[str, Any]) -> Answer:
    return Answer(**{**told, "stuck": tuple(told["stuck"])})


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Message]]] = {
    "Order": _order,
    "Ask": _ask,
    "Ready": lambda told: Ready(**told),
    "Leaving": lambda told: Leaving(**told),
    "Refused": lambda told: Refused(**told),
    "News": _news,
    "Answer": _answer,
}


class Channel:
    """One end of a connected stream socket. Any thread may send, one reads.

    :param going: asked whether the other end lives, where nothing came for as long as the socket's timeout: somebody
        else (a process that a flow forked) may keep a dead one's end open.
    """

    def __init__(self, link: socket.socket, going: Callable[[], bool] = lambda: True) -> None:
        self._link = link
        self._going = going
        self._sending = threading.Lock()
        self._came = bytearray()

    def send(self, message: Message) -> None:
        """:raises OSError: the other end is gone, or takes nothing. :raises NotAMessage: see :func:`encode`."""
        raw = encode(message)
        with self._sending:
            self._link.sendall(len(raw).to_bytes(4, "big") + raw)

    def read(self) -> Message | None:
        """The next message; None when the other end is gone. :raises NotAMessage: what came is none."""
        head = self._take(4)
        if head is None:
            return None
        size = int.from_bytes(head, "big")
        if size > LARGEST:
            raise NotAMessage("a worker process and its parent do not understand each other")
        raw = self._take(size)
        return None if raw is None else decode(raw)

    def _take(self, size: int) -> bytes | None:
        while len(self._came) < size:
            try:
                some = self._link.recv(65536)
            except TimeoutError:
                if self._going():
                    continue
                return None
            except OSError:
                return None
            if not some:
                return None
            self._came += some
        taken = bytes(self._came[:size])
        del self._came[:size]
        return taken

    def close(self) -> None:
        self._link.close()
