"""Values as JSON, as TaskFlow writes them, and beside it a note of what JSON does not tell.

TaskFlow stores a tuple as an array, a key that is a number as a text, a time as a text, and reads them back as just
that. What we write reads the same there; our own readers make of it, by the note, what it was.
"""

from __future__ import annotations

import decimal
import hashlib
import ipaddress
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

from conductor_console.text import visible

#: How deep arrays and objects may be nested: whoever reads a value, however deep in calls of its own, can do so.
DEEPEST: Final = 200
#: In a row's meta: by column, a digest of the column's JSON and the note about it. TaskFlow carries it along unread.
KEY: Final = "cc_kinds"

#: What JSON does not tell of a value: nothing, its kind, or its kind, the notes of what is in it, and its keys' kinds.
Note = str | list[Any] | None
_Path = tuple[object, ...]

#: Kinds that JSON has as a text, and how they are made of it again.
_OF_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "bytes": str.encode,
    "date": date.fromisoformat,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}
_TO_TEXT: Final[tuple[tuple[type, str], ...]] = (
    (uuid.UUID, "uuid"),
    (decimal.Decimal, "decimal"),
    (ipaddress.IPv4Address, "ipv4"),
    (ipaddress.IPv6Address, "ipv6"),
)
_OF_ITEMS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_OF_KEY: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "float": float,
    "bool": {"true": True, "false": False}.__getitem__,
    "none": {"null": None}.__getitem__,
}
_SPLIT_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class NotStorable(ValueError):
    """A value that JSON cannot tell, or not so that it could be had back. The message says where and why, never what
    it is: values may be secret.
    """

    def __init__(self, why: str, path: _Path = ()) -> None:
        place = "".join(f"[{_shown(step)}]" for step in path[:8]) + ("…" if len(path) > 8 else "")
        super().__init__(f"{why}, at {place}" if place else why)


def _shown(step: object) -> str:
    # Only of what is plain is the repr known to say what it is, and not to fail.
    return visible(repr(step), 40) if type(step) in (str, int, float, bool) else visible(type(step).__name__, 40)


def pack(value: object, *, nan: bool = True) -> tuple[str, Note]:
    """A value's JSON text and the note that :func:`unpack` wants.

    Of a class that is derived from a plain one (a named tuple, an ``OrderedDict``, an ``IntEnum``) it is the plain
    value, which is equal, that is had back.

    :param nan: whether NaN and infinities are taken; they are no JSON, though all of Python reads them.
    :raises NotStorable: and why.
    """
    try:
        if _is_plain(value) or (type(value) is dict and _is_flat(value)):
            return json.dumps(value), None
        text = json.dumps(value, allow_nan=nan)
        # Almost every value is plain, which this finds out without a step of Python's.
        decoded = json.loads(text)
        if decoded == value and not _too_deep(decoded):
            return text, None
    except Exception:  # a value's own comparison may raise anything; why it cannot be stored is found below
        pass
    try:
        plain, note = _flat(value, (), nan)
        return json.dumps(plain, allow_nan=nan), note
    except NotStorable:
        raise
    except Exception as error:  # a value's own methods
        raise NotStorable(f"it cannot be looked into ({visible(type(error).__name__, 80)})") from error


def _is_plain(value: object) -> bool:
    """Whether JSON tells it as it is. A text beyond ASCII may have halves of a character in it that JSON joins."""
    kind = type(value)
    if kind is str:
        return value.isascii()  # type: ignore[attr-defined]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    return value is None or kind is int or kind is bool


def _is_flat(value: dict[Any, Any]) -> bool:
    """Whether it is an object as most are that TaskFlow keeps of an atom: nothing more needs to be asked of it."""
    return all(type(key) is str and key.isascii() and _is_plain(item) for key, item in value.items())


def unpack(plain: Any, note: Note) -> Any:
    """The value of its decoded JSON and its note.

    :raises ValueError: (or a TypeError, LookupError, ArithmeticError) when the note is not about such a value.
    """
    if note is None:
        return plain
    kind, inner, keys = note if isinstance(note, list) else (note, {}, {})
    if kind in _OF_TEXT:
        return _OF_TEXT[kind](plain)
    if kind.startswith("datetime"):
        zone, _, fold = kind.removeprefix("datetime").partition("/")
        return datetime.fromisoformat(plain + zone).replace(fold=1 if fold else 0)
    if kind in _OF_ITEMS:
        return _OF_ITEMS[kind]([unpack(item, _of(inner, str(index))) for index, item in enumerate(plain)])
    if kind != "dict":
        raise ValueError(f"no such kind of value: {kind}")
    return {
        _OF_KEY[made](key) if (made := _of(keys, key)) is not None else key: unpack(item, _of(inner, key))
        for key, item in plain.items()
    }


def whole(text: str) -> str:
    """The text with characters that are there as two halves in a row made one, as JSON would read them."""
    return _SPLIT_PAIR.sub(lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text)


def digest(text: str) -> str:
    """By which a note's value is known again: TaskFlow may have changed the value, and left the note."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_notes(meta: Any) -> Any:
    """A row's decoded meta as whoever wrote it meant it."""
    if isinstance(meta, Mapping) and KEY in meta:
        return {key: value for key, value in meta.items() if key != KEY}
    return meta


# -- taking apart ----------------------------------------------------------------------------------------------------
def _flat(value: Any, path: _Path, nan: bool) -> tuple[Any, Note]:
    if value is None or isinstance(value, bool):
        return value, None
    if isinstance(value, str):
        _check_text(value, path)
        return value, None
    if isinstance(value, int):
        try:
            int.__repr__(value)
        except ValueError as error:
            raise NotStorable("it has a number with more digits than Python reads", path) from error
        return value, None
    if isinstance(value, float):
        if not nan and not math.isfinite(value):
            raise NotStorable(f"it has {float.__repr__(value)}, which this database's JSON does not know", path)
        return value, None
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if len(path) >= DEEPEST:
            raise NotStorable(f"it is nested more than {DEEPEST} deep, or holds itself")
        return _flat_dict(value, path, nan) if isinstance(value, dict) else _flat_items(value, path, nan)
    return _flat_text(value, path)


def _flat_items(value: Any, path: _Path, nan: bool) -> tuple[Any, Note]:
    kind = next(name for name, made in _OF_ITEMS.items() if isinstance(value, made))  # type: ignore[arg-type]
    # What is in a set has no place of its own that could be named.
    steps = (lambda index: index) if isinstance(value, (list, tuple)) else (lambda _: _Element())
    pairs = [_flat(item, (*path, steps(index)), nan) for index, item in enumerate(value)]
    inner = _together({str(index): note for index, (_, note) in enumerate(pairs)})
    plain = [item for item, _ in pairs]
    if inner:
        return plain, [kind, inner, {}]
    return plain, None if kind == "list" else kind


class _Element:
    """The place of what is in a set."""


def _flat_dict(value: dict[Any, Any], path: _Path, nan: bool) -> tuple[Any, Note]:
    plain: dict[str, Any] = {}
    notes: dict[str, Note] = {}
    kinds: dict[str, Note] = {}
    for key, item in value.items():
        text, kind = _key(key, path)
        if text in plain:
            raise NotStorable(f"it has two keys that are both {_shown(text)} in JSON", path)
        plain[text], notes[text] = _flat(item, (*path, text), nan)
        kinds[text] = kind
    inner, keys = _together(notes), _together(kinds)
    return plain, ["dict", inner, keys] if inner or keys else None


def _key(key: Any, path: _Path) -> tuple[str, Note]:
    """A key as JSON has it, and its kind where that is no text."""
    if isinstance(key, str):
        _check_text(key, path)
        return str.__str__(key), None
    kind = {int: "int", bool: "bool", type(None): "none", float: "float"}.get(type(key))
    if kind is None and isinstance(key, (int, float)):
        kind = "int" if isinstance(key, int) else "float"
    if kind is None:
        raise NotStorable(f"it has a key that is {_a(key)}; keys are texts or numbers", path)
    return json.dumps(key), kind


def _flat_text(value: Any, path: _Path) -> tuple[str, Note]:
    if isinstance(value, bytes):
        try:
            return value.decode(), "bytes"
        except UnicodeDecodeError as error:
            raise NotStorable("it has bytes that are not UTF-8", path) from error
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        zone = value.isoformat(timespec="microseconds")[len(text) :]
        if zone and datetime.fromisoformat(text + zone).utcoffset() != value.utcoffset():
            raise NotStorable("it has a time of a zone with parts of seconds", path)
        return text, f"datetime{zone}{'/1' if value.fold else ''}"
    if isinstance(value, date):
        return value.isoformat(), "date"
    for made, kind in _TO_TEXT:
        if isinstance(value, made):
            return str(value), kind
    raise NotStorable(f"it has {_a(value)}", path)


def _check_text(text: str, path: _Path) -> None:
    # The halves of such a pair, escaped one by one, are read as the one character that they are halves of.
    if _SPLIT_PAIR.search(text):
        raise NotStorable("it has a text with half characters (surrogates) in a row", path)


def _a(value: object) -> str:
    name = visible(type(value).__name__, 80)
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# -- notes -----------------------------------------------------------------------------------------------------------
def _together(notes: dict[str, Note]) -> Any:
    """Notes by place in short: a list of one where all are the same, only those that are there otherwise."""
    if not any(notes.values()):
        return {}
    first, *rest = notes.values()
    if first is not None and all(note == first for note in rest):
        return [first]
    return {place: note for place, note in notes.items() if note is not None}


def _of(notes: Any, place: str) -> Any:
    return notes[0] if isinstance(notes, list) else notes.get(place)


def _too_deep(decoded: Any) -> bool:
    level = [decoded]
    for _ in range(DEEPEST + 1):
        held = (each.values() if type(each) is dict else each for each in level if type(each) in (dict, list))
        level = [item for items in held for item in items]
        if not level:
            return False
    return True
