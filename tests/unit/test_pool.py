"""The threads that a nonblocking conductor runs its jobs in."""

from __future__ import annotations

import threading

import pytest

from conductor_console.conductors.pool import DaemonPool


def test_a_call_that_was_refused_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job was let go by then: another may be at it."""
    made: list[str] = []
    going = threading.Event()
    with DaemonPool(2, "pool") as pool:
        first = pool.submit(going.wait, 30)

        def no_more(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            with pytest.raises(RuntimeError, match="can't start"):
                pool.submit(made.append, "refused")
        going.set()
        assert first.result(30)
        pool.submit(made.append, "taken").result(30)
    assert made == ["taken"]
