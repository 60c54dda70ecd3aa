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
import stat
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
#: So many sessions of others are remembered; what is known of one more can be found out again.
_REMEMBERED: Final = 1000

#: Descriptors of the sessions this process holds, by session. A child made by fork must not keep them open: the lock
#: belongs to the open file, which both share, and would outlive the parent.
_held: dict[str, int] = {}
_held_lock = threading.Lock()


def _after_fork_in_child() -> None:
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
    _held_lock.release()


# No fork while a session is being made: the child would keep a descriptor that it does not know of.
os.register_at_fork(before=_held_lock.acquire, after_in_parent=_held_lock.release, after_in_child=_after_fork_in_child)


def locks_of(path: str) -> Path:
    """The folder of the lock files of the database at ``path``."""
    return Path(f"{path}.locks")


def in_use(folder: Path) -> bool:
    """Whether any session of a lock folder lives."""
    sessions = Sessions(folder)
    with contextlib.suppress(OSError):
        return any(sessions.alive(path.name) for path in folder.iterdir())
    return False


class _Recent:
    """The newest of ever so many names. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}

    def add(self, name: str) -> bool:
        """Returns whether it is new."""
        with self._lock:
            new = name not in self._names
            self._names[name] = None
            while len(self._names) > _REMEMBERED:
                del self._names[next(iter(self._names))]
        return new

    def __contains__(self, name: object) -> bool:
        return name in self._names


class Sessions:
    """The lock files beside one database. Thread safe.

    :param folder: where they lie; made with the first session, for the same users as the database.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: A session that was seen dead stays dead.
        self._dead = _Recent()
        #: Sessions of which it was told that their life cannot be told.
        self._doubtful = _Recent()

    def begin(self) -> str:
        """Makes a session that lives until :meth:`end`, or until this process ends.

        :raises BoardUnreachable: when its file cannot be made.
        """
        session = secrets.token_hex(8)
        try:
            with _held_lock:
                _held[session] = self._make_file(session)
        except OSError as error:
            raise BoardUnreachable(
                f"cannot claim: no lock file can be made in {visible(self._folder)}: {error.strerror}"
            ) from error
        self._sweep()
        return session

    def _make_file(self, session: str) -> int:
        while True:
            self._make_folder()
            unnamed = self._folder / f"{_NEW}{session}"
            try:
                descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # the last session of another process took the folder away just now
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._share(unnamed)
                unnamed.rename(self._folder / session)
            except OSError:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    unnamed.unlink()
                raise
            return descriptor

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir()
        except FileExistsError:
            return
        self._share(self._folder)

    def _share(self, made: Path) -> None:
        """Who may use the database may use its lock files, as SQLite does with its own; whatever the umask says."""
        try:
            database = self._folder.with_suffix("").stat()
            mode = stat.S_IMODE(database.st_mode) & 0o666
            try:
                os.chown(made, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
            except OSError:
                mode &= ~0o060  # it would be another group's right
            # To look into a folder takes the right to enter it, too.
            made.chmod(mode | 0o700 | (mode & 0o444) >> 2 if made == self._folder else mode | 0o600)
        except OSError as error:
            LOG.warning("%s has the rights it was made with: %s", visible(made), error.strerror)

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
            if self._doubtful.add(session):
                LOG.warning("cannot tell whether session %s is alive, taken for alive: %s", session, error)
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


def _is_name(session: object) -> bool:
    return isinstance(session, str) and len(session) == 16 and all(char in "0123456789abcdef" for char in session)
