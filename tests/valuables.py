"""Values of every kind, and flows that make, raise and look at them."""

from __future__ import annotations

import collections
import enum
import ipaddress
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from taskflow import retry, task
from taskflow.patterns import linear_flow
from taskflow.types.failure import Failure

from tests.flows import Broken, Die, Mark, Want, append, lines

#: Values that come back as they were, type included.
FAITHFUL: Final[Mapping[str, Any]] = {
    "plain": {"texts": ["", "ä\N{PILE OF POO}", "nul\x00", 'quote"\\'], "numbers": [0, -1, 1.5, -0.0, True, None]},
    "tuple": (1, (2, ("three",)), [(), [(4,)]]),
    "rows": [(each, str(each)) for each in range(2000)],
    "keys": {7: "one", 2.5: {"deep": (1,)}, True: "yes", None: "none", "2": "text"},
    "int_keys": {each: {each: each} for each in range(50)},
    "set": {1, "two", (3, 4), frozenset({5})},
    "bytes": [b"plain", "ä".encode(), b""],
    "times": [datetime(2026, 1, 2, 3, 4, 5, 6), datetime(1, 1, 1), date(2026, 1, 2)],
    "aware": (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1)))),
    "odds": [uuid.UUID(int=7), Decimal("1.10"), ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")],
    "big": [2**64, -(2**200), 10**4000],
    "half": "a lone half \ud800 and \udfff",
    "deep": [[[[[[[[[["ten"]]]]]]]]]],
    "cc_kinds": {"cc_kinds": (1,)},
}


class Rude:
    """Says nothing of itself, and is no good for anything."""

    def __repr__(self) -> str:
        raise Broken("no repr")

    __str__ = __repr__


class RudeList(list[Any]):
    """Cannot be looked into."""

    def __iter__(self) -> Any:
        raise Broken("no looking")

    def __eq__(self, other: object) -> bool:
        raise Broken("no comparing")

    __hash__ = None


class RudeError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise Broken("no words")


class Wordy(Broken):
    """Can be shown whatever its arguments are."""

    def __str__(self) -> str:
        return "bad"


Point = collections.namedtuple("Point", "x y")


class Level(enum.IntEnum):
    HIGH = 3


#: Values of classes derived from plain ones, and what is had back: the plain value, which is equal.
DERIVED: Final[Mapping[str, tuple[Any, Any]]] = {
    "named tuple": (Point(1, (2,)), (1, (2,))),
    "ordered": (collections.OrderedDict(b=1, a=(2,)), {"b": 1, "a": (2,)}),
    "enum": ([Level.HIGH, {Level.HIGH: 1}], [3, {3: 1}]),
}


def _nested() -> Any:
    made: list[Any] = []
    for _ in range(5000):
        made = [made]
    return made


def _circle() -> Any:
    made: dict[str, Any] = {}
    made["again"] = made
    return made


#: Values that no store keeps, and what is told of each.
REFUSED: Final[Mapping[str, tuple[Callable[[], Any], str]]] = {
    "lock": (lambda: {"items": [1, {"it": threading.Lock()}]}, "it has a lock, at ['items'][1]['it']"),
    "object": (object, "it has an object"),
    "rude": (lambda: [Rude()], "it has a Rude, at [0]"),
    "rude list": (lambda: {"a": RudeList([1])}, "it cannot be looked into (Broken)"),
    "generator": (lambda: (each for each in "abc"), "it has a generator"),
    "class": (lambda: Broken, "it has a type"),
    "exception": (lambda: Broken("no"), "it has a Broken"),
    "bytes": (lambda: {"key": b"\xff\xfe"}, "it has bytes that are not UTF-8, at ['key']"),
    "twins": (lambda: {"a": {1: "x", "1": "y"}}, "it has two keys that are both '1' in JSON, at ['a']"),
    "key": (lambda: {(1, 2): "x"}, "it has a key that is a tuple; keys are texts or numbers"),
    "deep": (_nested, "it is nested more than 200 deep, or holds itself"),
    "circle": (_circle, "it is nested more than 200 deep, or holds itself"),
    "halves": (lambda: "\ud83d" + "\ude00", "it has a text with half characters (surrogates) in a row"),
    "digits": (lambda: 10**5000, "it has a number with more digits than Python reads"),
}


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal all through, types included, and NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        keys = zip(one, other, strict=False)
        return (
            len(one) == len(other)
            and all(same(*pair) for pair in keys)
            and all(map(same, one.values(), other.values()))
        )
    if isinstance(one, (set, frozenset)):
        return one == other and sorted(map(repr, map(type, one))) == sorted(map(repr, map(type, other)))
    return (repr(one) == repr(other) and one == other) or (one != one and other != other)


# -- flows -----------------------------------------------------------------------------------------------------------
class Make(task.Task):
    """Returns the refused value of a name; leaves a mark when it is undone."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__("make", provides="made")
        self._what = what
        self._path = path

    def execute(self) -> Any:
        return REFUSED[self._what][0]()

    def revert(self, result: Any, **_kwargs: Any) -> None:
        append(self._path, f"make-reverted {isinstance(result, Failure)}")


class MakeSized(task.Task):
    """Returns a text of so many octets."""

    def __init__(self, size: int) -> None:
        super().__init__("sized", provides="text")
        self._size = size

    def execute(self) -> str:
        return "x" * self._size


class Measure(task.Task):
    def __init__(self, path: str) -> None:
        super().__init__("measure")
        self._path = path

    def execute(self, text: str) -> None:
        append(self._path, str(len(text)))


class MakeNumber(task.Task):
    """Returns what is no number."""

    def execute(self) -> Any:
        return {"rate": float("nan")}


class RevertsTo(task.Task):
    """When it is undone, it returns the refused value of a name."""

    def __init__(self, what: str) -> None:
        super().__init__("undone")
        self._what = what

    def execute(self) -> None:
        """Nothing to do."""

    def revert(self, **_kwargs: Any) -> Any:
        return REFUSED[self._what][0]()


class Raise(task.Task):
    """Raises an error with arguments of every sort, after another that cannot be shown."""

    def __init__(self, size: int = 0, *, rude: bool = False) -> None:
        super().__init__("raise")
        self._size = size
        self._rude = rude

    def execute(self) -> None:
        if self._rude:
            raise Broken("bad", Rude())
        try:
            raise RudeError
        except RudeError as error:
            raise Wordy("bad", (1, 2), Rude(), threading.Lock(), b"\xff", "x" * self._size) from error


class Chained(task.Task):
    """Raises an error that so many others came before."""

    def execute(self) -> None:
        error: BaseException | None = None
        for number in range(40):
            try:
                raise Broken(number) from error
            except Broken as raised:
                error = raised
        assert error is not None
        raise error


class Careless(task.Task):
    """Tells of its progress what cannot be stored."""

    def execute(self) -> str:
        self.notifier.notify(task.EVENT_UPDATE_PROGRESS, {"progress": 0.5, "at": threading.Lock()})
        return "done"


class Provide(task.Task):
    """Returns two values in a tuple, one of them all that is faithful."""

    default_provides = ("everything", "two")

    def execute(self) -> tuple[Any, int]:
        return dict(FAITHFUL), 2


class Look(task.Task):
    """Tells which of the values that it is given are as they were."""

    def __init__(self, path: str) -> None:
        super().__init__("look")
        self._path = path

    def execute(self, everything: dict[str, Any], two: int) -> None:
        kept = [name for name, value in FAITHFUL.items() if same(value, everything[name])]
        append(self._path, f"kept {' '.join(kept)} and {two}")


class Tries(retry.Retry):
    """Five tries, each with a tuple; tells its history at each, and in which process."""

    def __init__(self, path: str) -> None:
        super().__init__("tries", provides=("number", "name"))
        self._path = path

    def execute(self, history: Any, **_kwargs: Any) -> tuple[int, str]:
        told = [
            f"{made!r}:{','.join(f'{name}={failure.exception_args!r}' for name, failure in failures.items())}"
            for made, failures in history
        ]
        append(self._path, f"history {os.getpid()} {' '.join(told)}")
        return len(history), "n"

    def on_failure(self, history: Any, **_kwargs: Any) -> str:
        return str(retry.RETRY) if len(history) < 5 else str(retry.REVERT)


class Try(task.Task):
    """Fails in these tries, with an argument that cannot be stored and one that can."""

    def __init__(self, name: str, path: str, *fails: int) -> None:
        super().__init__(name)
        self._path = path
        self._fails = fails

    def execute(self, number: int, name: str) -> None:
        append(self._path, f"try {number} {name}")
        if number in self._fails:
            raise Broken((number, "again"), Bare())


class Bare:
    def __repr__(self) -> str:
        return "<bare>"


class RetriesWith(retry.Times):
    """Returns the refused value of a name as what it provides."""

    def __init__(self, what: str) -> None:
        super().__init__(3, "retries")
        self._what = what

    def execute(self, *_args: Any, **_kwargs: Any) -> Any:
        return REFUSED[self._what][0]()


def _flow(*atoms: Any, controller: retry.Retry | None = None) -> linear_flow.Flow:
    return linear_flow.Flow("flow", retry=controller).add(*atoms)


def makes(what: str, path: str) -> linear_flow.Flow:
    return _flow(Mark("one", path), Make(what, path), Mark("never", path))


def makes_sized(size: int, path: str) -> linear_flow.Flow:
    return _flow(MakeSized(size), Measure(path))


def makes_no_number() -> linear_flow.Flow:
    return _flow(MakeNumber("nan"))


def reverts_to(what: str) -> linear_flow.Flow:
    return _flow(RevertsTo(what), Raise())


def raises(size: int, rude: bool) -> linear_flow.Flow:
    return _flow(Raise(size, rude=rude))


def chained() -> linear_flow.Flow:
    return _flow(Chained("chained"))


def injects() -> linear_flow.Flow:
    """Has a value of its own for one of its tasks, which cannot be stored."""
    return _flow(Want("want", inject={"wanted": object()}))


def careless() -> linear_flow.Flow:
    return _flow(Careless("careless"))


def provides(path: str) -> linear_flow.Flow:
    """Has its process killed between the making of the values and the looking at them."""
    return _flow(Provide(), Die(path), Look(path))


def tries(path: str) -> linear_flow.Flow:
    """Fails twice under a retry, has its process killed, and fails once more."""
    return _flow(Try("twice", path, 0, 1), Die(path), Try("once", path, 2), controller=Tries(path))


def retries_with(what: str, path: str) -> linear_flow.Flow:
    return _flow(Mark("never", path), controller=RetriesWith(what))


def told(path: str | Path, first: str) -> list[str]:
    """The lines that begin so."""
    return [line for line in lines(path) if line.startswith(first)]
