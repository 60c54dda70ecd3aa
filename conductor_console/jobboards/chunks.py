"""Big maps and big sorted lists of which a reader gets a picture that stays as it is, at no cost that grows with them.

Both are kept in chunks. A picture shares the chunks; one that is shared is copied before it changes, by itself.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Final, Generic, TypeVar, overload

V = TypeVar("V")
K = TypeVar("K", bound=tuple[Any, ...])

#: Into so many parts a map is divided: a power of two.
_PARTS: Final = 256
#: A sorted list's parts hold so many items at most, and half of that when one was divided.
_LONGEST: Final = 512


class MapPicture(Mapping[str, V]):
    """A map as it was at one moment."""

    __slots__ = ("_length", "_parts")

    def __init__(self, parts: tuple[dict[str, V], ...], length: int) -> None:
        self._parts = parts
        self._length = length

    def __getitem__(self, key: str) -> V:
        return self._parts[hash(key) % _PARTS][key]

    def __contains__(self, key: object) -> bool:
        return key in self._parts[hash(key) % _PARTS]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def changes_since(self, old: MapPicture[V]) -> tuple[set[str], set[str]]:
        """The keys that hold another object now (or are new), and those that are gone. Shared parts are passed over."""
        changed: set[str] = set()
        gone: set[str] = set()
        for before, now in zip(old._parts, self._parts, strict=True):
            if before is not now:
                changed.update(key for key, value in now.items() if before.get(key) is not value)
                gone.update(before.keys() - now.keys())
        return changed, gone


class ChunkedMap(Generic[V]):
    """A map by text. Not thread safe; its pictures are."""

    def __init__(self) -> None:
        self._parts: list[dict[str, V]] = [{} for _ in range(_PARTS)]
        self._length = 0
        self._picture: MapPicture[V] | None = None
        #: Which parts are in no picture.
        self._own: set[int] = set(range(_PARTS))

    def get(self, key: str) -> V | None:
        return self._parts[hash(key) % _PARTS].get(key)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: str) -> bool:
        return key in self._parts[hash(key) % _PARTS]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def values(self) -> Iterator[V]:
        return chain.from_iterable(part.values() for part in self._parts)

    def __setitem__(self, key: str, value: V) -> None:
        part = self._changing(key)
        self._length += key not in part
        part[key] = value

    def pop(self, key: str) -> V | None:
        """Takes the key out; None, and nothing changes, where it is not there."""
        if key not in self:
            return None
        self._length -= 1
        return self._changing(key).pop(key)

    def picture(self) -> MapPicture[V]:
        """The map as it is; the very same object as before where nothing changed."""
        if self._picture is None:
            self._picture = MapPicture(tuple(self._parts), self._length)
            self._own.clear()
        return self._picture

    def _changing(self, key: str) -> dict[str, V]:
        number = hash(key) % _PARTS
        if number not in self._own:
            self._parts[number] = self._parts[number].copy()
            self._own.add(number)
        self._picture = None
        return self._parts[number]


def changes(old: Mapping[str, V], new: Mapping[str, V]) -> tuple[set[str], set[str]]:
    """The keys of ``new`` that hold another object than in ``old``, and those that it does not have any more."""
    if old is new:
        return set(), set()
    if isinstance(old, MapPicture) and isinstance(new, MapPicture):
        return new.changes_since(old)
    before = old.get
    return {key for key, value in new.items() if before(key) is not value}, set(old.keys() - new.keys())


class _Part(Generic[K, V]):
    """Keys in order, the values beside them; ``age`` is the number of pictures made before it."""

    __slots__ = ("age", "keys", "values")

    def __init__(self, keys: list[K], values: list[V], age: int) -> None:
        self.keys = keys
        self.values = values
        self.age = age


class ListPicture(Sequence[V]):
    """A sorted list's values as they were at one moment."""

    def __init__(self, parts: tuple[_Part[Any, V], ...]) -> None:
        self._parts = parts
        self._ends: list[int] | None = None

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(part.values for part in self._parts)

    def __len__(self) -> int:
        return self._counted()[-1] if self._parts else 0

    @overload
    def __getitem__(self, index: int) -> V: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[V]: ...

    def __getitem__(self, index: int | slice) -> V | Sequence[V]:
        if isinstance(index, slice):
            return tuple(self)[index]
        place = range(len(self))[index]
        number = bisect.bisect_right(self._counted(), place)
        return self._parts[number].values[place - self._ends_before(number)]

    def _counted(self) -> list[int]:
        """For each part how many values there are up to its end."""
        if self._ends is None:
            self._ends = list(accumulate(len(part.values) for part in self._parts))
        return self._ends

    def _ends_before(self, number: int) -> int:
        return self._counted()[number - 1] if number else 0


class SortedParts(Generic[K, V]):
    """Values in the order of their keys, each key once. Not thread safe; its pictures are.

    Putting in, taking out and making a picture cost next to nothing, whatever the length.
    """

    def __init__(self) -> None:
        self._parts: list[_Part[K, V]] = []
        #: The first key of each part, or what was before it was taken out.
        self._firsts: list[K] = []
        self._pictures = 0
        self._picture: Sequence[V] | None = None

    def put(self, key: K, value: V) -> None:
        """Puts a value in, or in the place of the one of the same key."""
        if not self._parts:
            self._parts.append(_Part([], [], self._pictures))
            self._firsts.append(key)
        number, part = self._changing(key)
        place = bisect.bisect_left(part.keys, key)
        if place < len(part.keys) and part.keys[place] == key:
            part.values[place] = value
            return
        part.keys.insert(place, key)
        part.values.insert(place, value)
        self._firsts[number] = part.keys[0]
        if len(part.keys) > _LONGEST:
            half = len(part.keys) // 2
            self._parts.insert(number + 1, _Part(part.keys[half:], part.values[half:], self._pictures))
            self._firsts.insert(number + 1, part.keys[half])
            del part.keys[half:], part.values[half:]

    def drop(self, key: K) -> None:
        """Takes out the value of a key that is there."""
        number, part = self._changing(key)
        place = bisect.bisect_left(part.keys, key)
        del part.keys[place], part.values[place]
        if not part.keys:
            del self._parts[number], self._firsts[number]

    def picture(self) -> Sequence[V]:
        """The values as they are; the very same object as before where nothing changed."""
        if self._picture is None:
            self._picture = ListPicture(tuple(self._parts)) if self._parts else ()
            self._pictures += 1
        return self._picture

    def _changing(self, key: K) -> tuple[int, _Part[K, V]]:
        number = max(0, bisect.bisect_right(self._firsts, key) - 1)
        part = self._parts[number]
        if part.age < self._pictures:
            part = self._parts[number] = _Part(part.keys.copy(), part.values.copy(), self._pictures)
        self._picture = None
        return number, part
