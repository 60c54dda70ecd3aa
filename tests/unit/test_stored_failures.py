"""Failures as they are stored: whatever the exception holds, and never without bounds."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from taskflow.types.failure import Failure

from conductor_console.persistence import failures
from conductor_console.persistence.kinds import pack, unpack
from tests.flows import Broken
from tests.valuables import Chained, Raise, Rude, Wordy


def failure_of(raising: Any) -> Failure:
    with pytest.raises(Broken) as caught:
        raising()
    return Failure.from_exception(caught.value)


def stored(failure: Failure) -> Failure:
    text, note = pack(failures.told(failure))
    return Failure.from_dict(unpack(json.loads(text), note))


def test_one_that_is_storable_is_told_as_taskflow_tells_it() -> None:
    def raising() -> None:
        try:
            raise ValueError("first", 1)
        except ValueError as error:
            raise Broken("second", None) from error

    failure = failure_of(raising)
    assert json.loads(json.dumps(failures.told(failure))) == json.loads(json.dumps(failure.to_dict()))
    assert stored(failure).matches(Failure.from_dict(failure.to_dict()))


def test_arguments_that_cannot_be_stored_are_there_as_their_repr() -> None:
    failure = failure_of(Raise(size=20 * 2**20).execute)
    read = stored(failure)
    text, pair, rude, lock, octets, long = read.exception_args
    assert (text, pair) == ("bad", (1, 2))
    assert rude == "(a Rude, which cannot be shown)"
    assert lock.startswith("<unlocked _thread.lock object")
    assert octets == r"b'\xff'"
    assert len(long) < 70_000
    assert "characters left out" in long
    assert "in execute" in (read.traceback_str or "")
    assert read.check(Broken)
    assert read.causes == ()


def test_a_text_keeps_the_end_of_a_traceback() -> None:
    failure = Failure(exception_str="x", exc_type_names=["a"], traceback_str="first" + "y" * 10**6 + "last")
    cut = stored(failure).traceback_str or ""
    assert cut.startswith("first")
    assert cut.endswith("last")
    assert len(cut) < 70_000


def test_many_errors_in_a_row_are_told_once_each() -> None:
    """TaskFlow's own form doubles with each of them: sixteen take it seconds and megabytes."""
    told = failures.told(failure_of(Chained().execute))
    assert len(told["causes"]) == failures.CAUSES
    assert len(json.dumps(told)) < 100_000


def test_many_arguments_are_bounded() -> None:
    failure = Failure.from_exception(Wordy(*range(1000), Rude(), threading.Lock()))
    assert stored(failure).exception_args[-1] == "(952 more)"
