"""Who is alive: each board object that claims holds the lock (flock) of a file of its own beside the database.

The kernel lets the lock go when the process ends, however it ends, and keeps it while the process is merely stopped.
A session's file is locked before it gets its name, so a named file that nobody locks belongs to the dead, and so
does a session without a file. Names are never used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Final

from conductor_console.errors import BoardUnreachable
from conductor_console.text import visible

LOG: Final = logging.getLogger(__name__)

_NEW: Final = ".new-"
#: A file that is still not named after this many seconds was left by a process that died while making it.
_ABANDONED: Final = 3600.0

#: Descriptors of the sessions this process holds, by session. A child made by fork must not keep them open: the lock
#: belongs to the open file, which both share, and would outlive the parent.
_held: dict[str, int] = {}
_held_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _held_lock
    _held_lock = threading.Lock()  # another thread of the parent may have held it
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Sessions:
    """The lock files beside one database. Thread safe.

    :param folder: where they lie; made with the first session.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: A session that was seen dead stays dead.
        self._dead: set[str] = set()

    def begin(self) -> str:
        """Makes a session that lives until :meth:`end`, or until this process ends.

        :raises BoardUnreachable: when its file cannot be made.
        """
        session = secrets.token_hex(8)
        try:
            descriptor = self._make_file(session)
        except OSError as error:
            raise BoardUnreachable(
                f"cannot claim: no lock file can be made in {visible(self._folder)}: {error.strerror}"
            ) from error
        with _held_lock:
            _held[session] = descriptor
        self._sweep()
        return session

    def _make_file(self, session: str) -> int:
        while True:
            self._folder.mkdir(exist_ok=True)
            unnamed = self._folder / f"{_NEW}{session}"
            try:
                descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # the last session of another process took the folder away just now
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unnamed.rename(self._folder / session)
            except OSError:
                os.close(descriptor)
                raise
            return descriptor

    def end(self, session: str) -> None:
        """Lets go of a session of ours: its claims are free at once."""
        with _held_lock:
            descriptor = _held.pop(session, None)
        self._dead.add(session)
        if descriptor is None:
            return
        # Removed before it is unlocked: nobody ever sees a named file whose session is about to end.
        self._remove(session)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _intact(self, session: str) -> bool:
        """Whether a session of ours still is what others see: its file may have been removed under us."""
        with _held_lock:
            descriptor = _held.get(session)
            if descriptor is None:
                return False
            ours = os.fstat(descriptor)
        try:
            named = (self._folder / session).stat()
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)

    def alive(self, session: str | None) -> bool:
        """Whether the process of a session still runs; when that cannot be told, it does: a claim is never doubled."""
        if not session or session in self._dead or not _is_name(session):
            return False
        with _held_lock:
            ours = session in _held
        if ours:
            if not self._intact(session):
                LOG.warning("the lock file of this process, %s, was removed: its claims are lost", session)
                self.end(session)
            return session not in self._dead
        try:
            dead = self._free(session)
        except FileNotFoundError:
            dead = True
        except OSError as error:
            LOG.warning("cannot tell whether session %s is alive: %s", session, error)
            dead = False
        if dead:
            self._dead.add(session)
        return not dead

    def bury(self, session: str | None) -> None:
        """Removes the file of a session that was seen dead."""
        if session is not None and session in self._dead:
            self._remove(session)

    def _free(self, session: str) -> bool:
        descriptor = os.open(self._folder / session, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Shared: two that look at the same time do not take each other for the holder.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _remove(self, session: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / session).unlink()

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name.startswith(_NEW):
                    if time.time() - path.stat().st_mtime > _ABANDONED:
                        path.unlink()
                elif _is_name(path.name) and not self.alive(path.name):
                    self._remove(path.name)


def _is_name(session: str) -> bool:
    return len(session) == 16 and all(char in "0123456789abcdef" for char in session)
