"""Big maps and sorted lists: they are what a plain one is, and a picture stays as it was made."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.jobboards import chunks
from conductor_console.jobboards.chunks import ChunkedMap, MapPicture, SortedParts, changes

KEYS = st.text("abc", min_size=1, max_size=3)
#: A key to put (with a new value), a key to take out, or a picture to be made.
STEPS = st.lists(st.tuples(st.sampled_from(["put", "take"]), KEYS) | st.just(("picture", "")), max_size=60)


@given(STEPS)
def test_a_map_against_a_plain_one(steps: list[tuple[str, str]]) -> None:
    chunked: ChunkedMap[object] = ChunkedMap()
    plain: dict[str, object] = {}
    pictures: list[tuple[MapPicture[object], dict[str, object]]] = [(chunked.picture(), {})]
    for step, key in [*steps, ("picture", "")]:
        if step == "put":
            chunked[key] = plain[key] = object()
        elif step == "take":
            assert chunked.pop(key) is plain.pop(key, None)
        else:
            pictures.append((chunked.picture(), dict(plain)))
        assert chunked.get(key) is plain.get(key)
        assert (key in chunked, len(chunked)) == (key in plain, len(plain))
    assert sorted(chunked) == sorted(plain)
    assert set(chunked.values()) == set(plain.values())
    for picture, then in pictures:
        assert picture == then
        assert len(picture) == len(then)
        assert all(picture[key] is value and key in picture for key, value in then.items())
    for (old, before), (new, after) in itertools.pairwise(pictures):
        expected = {key for key in after if before.get(key) is not after[key]}, before.keys() - after.keys()
        assert changes(old, new) == expected
        assert changes(before, new) == expected


def test_a_map_that_did_not_change_gives_the_same_picture() -> None:
    chunked: ChunkedMap[int] = ChunkedMap()
    chunked["a"] = 1
    first = chunked.picture()
    assert chunked.pop("b") is None
    assert chunked.picture() is first
    chunked["a"] = 2
    assert chunked.picture() is not first
    assert changes(first, first) == (set(), set())
    with pytest.raises(KeyError):
        first["b"]


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()) | st.none(), max_size=120))
def test_a_sorted_list_against_a_plain_one(steps: list[tuple[int, bool] | None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_LONGEST", 4)
        parts: SortedParts[tuple[int], object] = SortedParts()
        plain: dict[tuple[int], object] = {}
        pictures = []
        for step in [*steps, None]:
            if step is None:
                pictures.append((parts.picture(), [plain[key] for key in sorted(plain)]))
                continue
            key = (step[0],)
            if step[1]:
                plain[key] = object()
                parts.put(key, plain[key])
            elif plain.pop(key, None) is not None:
                parts.drop(key)
        for picture, then in pictures:
            assert list(picture) == then
            assert len(picture) == len(then)
            assert [picture[index] for index in range(-len(then), len(then))] == then + then
            assert list(picture[1:3]) == then[1:3]


def test_beyond_the_end() -> None:
    parts: SortedParts[tuple[int], str] = SortedParts()
    parts.put((1,), "a")
    with pytest.raises(IndexError):
        parts.picture()[1]
    with pytest.raises(IndexError):
        parts.picture()[-2]


def test_a_change_copies_a_part_and_not_the_whole() -> None:
    chunked: ChunkedMap[int] = ChunkedMap()
    parts: SortedParts[tuple[int], int] = SortedParts()
    for number in range(20_000):
        chunked[str(number)] = number
        parts.put((number,), number)
    before: tuple[Any, Any] = (chunked.picture(), parts.picture())
    chunked["7"] = 8
    parts.put((7,), 8)
    after: tuple[Any, Any] = (chunked.picture(), parts.picture())
    for old, new in zip(before, after, strict=True):
        assert sum(one is not other for one, other in zip(old._parts, new._parts, strict=True)) == 1
    assert max(len(part.values) for part in after[1]._parts) <= chunks._LONGEST
    assert (before[1][7], after[1][7]) == (before[0]["7"], after[0]["7"]) == (7, 8)
