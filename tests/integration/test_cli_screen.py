"""The console in a terminal, as a process: it ends in good order by key or signal, also when the terminal is gone."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import eventually


class Terminal:
    """A pseudo-terminal of 120 by 36 with a demo in it; ``painted`` is all that was written to it."""

    def __init__(self, folder: Path) -> None:
        self.painted = b""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conductor_console.cli.main", "demo", "--workers", "2"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "TERM": "xterm-256color"},
        )
        os.close(slave)
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._master, 65536):
                self.painted += data

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def hang_up(self) -> None:
        """The terminal goes away, as when its window is closed."""
        if self._open:
            self._open = False
            # The reader holds the file as long as it reads: what the process writes next wakes it.
            os.close(self._master)
            self._reader.join(5)


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    found = Terminal(folder)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        found.hang_up()


def left(folder: Path) -> list[Path]:
    return list(folder.glob("conductor-console-*"))


def await_work(screen: Terminal) -> None:
    eventually(lambda: b"claimed" in screen.painted or screen.process.poll() is not None, what="the first screen")
    assert screen.process.poll() is None, screen.painted[-2000:]


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGHUP], ids=["q", "SIGTERM", "SIGHUP"])
def test_it_ends_in_good_order(tmp_path: Path, number: signal.Signals | None) -> None:
    with terminal(tmp_path) as screen:
        await_work(screen)
        assert len(left(tmp_path)) == 1
        if number is None:
            screen.type(b"q")
        else:
            screen.process.send_signal(number)
        assert screen.process.wait(60) == 0
    assert left(tmp_path) == []
    assert b"Traceback" not in screen.painted
    if number is not signal.SIGHUP:
        assert b"\x1b[?1049l" in screen.painted[-2000:], "the terminal is given back as it was"


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_it_ends_when_its_terminal_was_gone_before_the_signal_came(tmp_path: Path, seconds: float) -> None:
    with terminal(tmp_path) as screen:
        await_work(screen)
        screen.hang_up()
        # Nothing outside tells that what it writes has failed by now, and that the screen is stuck for it.
        with suppress(subprocess.TimeoutExpired):
            screen.process.wait(seconds)
        screen.process.send_signal(signal.SIGHUP)
        assert screen.process.wait(60) in (0, 1)
    assert left(tmp_path) == []
