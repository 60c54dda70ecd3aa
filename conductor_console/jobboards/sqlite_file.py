"""A SQLite board's file as the file system shows it: is it there, is it still the same, is it where it belongs?

SQLite keeps a log (``-wal``) and shared memory (``-shm``) beside the file's *name*, and we keep the lock files there.
Whoever reaches one database by two names, or puts another under the name in use, has two logs or the wrong one: jobs
would vanish, or run twice. So each act looks first whether all of it is what it was when the board was opened.

No file is ever opened here, not even to look: closing it would drop the locks SQLite holds on it in this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.sqlite_liveness import in_use, locks_of
from conductor_console.text import visible

LOG: Final = logging.getLogger(__name__)

#: What SQLite keeps beside the file while it is open, and needs there.
_LOG: Final = "-wal"
_SHARED: Final = "-shm"
#: A file system with less room than this, in bytes, is taken for full.
_ROOM: Final = 64 * 1024


class FileGone(BoardUnreachable):
    """The file that was opened is no longer the one at its path."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a board was when it was last made sure of: its file's real path and its number there (inode)."""

    path: str
    inode: int

    def quoted(self) -> str:
        """The path as it is written into the database: a path may hold bytes that are no text."""
        return quote(os.fsencode(self.path))


def unquoted(path: str) -> str:
    """The inverse of :meth:`Home.quoted`."""
    return os.fsdecode(unquote_to_bytes(path))


class BoardFile:
    """The file at ``path``, which is absolute and real (no links). Thread safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        #: By suffix, what was there when the board was opened: device and inode. The file itself comes first.
        self._opened: dict[str, tuple[int, int]] = {}

    @property
    def shown(self) -> str:
        return visible(self.path)

    @property
    def init(self) -> str:
        """What to do where there is no board."""
        return f"make it with `conductor-console init sqlite:///{self.shown}`"

    def uri(self, mode: str) -> str:
        return f"file:{quote(os.fsencode(self.path))}?mode={mode}"

    # -- is it there? --------------------------------------------------------------------------------------------------
    def need(self, *, making: bool = False) -> None:
        """Looks whether there is a file that may be opened.

        :param making: whether it may be missing, since it is about to be made.
        :raises BoardUnreachable: one line that says what is wrong.
        """
        try:
            there = self._stat_file()
        except OSError as error:
            raise BoardUnreachable(f"{visible(self.path, 300)} cannot be reached: {error.strerror}") from error
        if there is None:
            if making:
                return
            raise BoardUnreachable(f"{self.shown} is not there: {self.init}")
        if not stat.S_ISREG(there.st_mode):
            raise BoardUnreachable(f"{self.shown} is not a file")
        if there.st_nlink > 1:
            raise BoardUnreachable(
                f"{self.shown} has {there.st_nlink} names (hard links), and a board must have one: remove the others"
            )
        if not os.access(self.path, os.R_OK):
            raise BoardUnreachable(f"{self.shown} cannot be read: may this user read it?")

    def _stat_file(self) -> os.stat_result | None:
        if not stat.S_ISDIR(_mode(self.path.parent)):
            raise BoardUnreachable(f"the folder {visible(self.path.parent)} is not there: make it first")
        try:
            return self.path.stat()
        except FileNotFoundError:
            return None

    # -- is it the same? -----------------------------------------------------------------------------------------------
    def remember(self) -> None:
        """Notes what is there now that the database is open."""
        found = {suffix: _identity(self._name + suffix) for suffix in ("", _LOG, _SHARED)}
        # Without a log (another journal mode) there is none to lose.
        self._opened = {suffix: identity for suffix, identity in found.items() if identity is not None}

    def need_same(self) -> None:
        """Looks whether what was opened still is what others open; says nothing of a board that never was opened.

        :raises FileGone: when another file, or none, is at the path. :raises BoardUnreachable: when SQLite's files
            beside it are not those that are in use.
        """
        for suffix, opened in self._opened.items():
            now = _identity(self._name + suffix)
            if now == opened:
                continue
            if suffix:
                raise BoardUnreachable(
                    f"{self.shown}{suffix} was taken away while the board was in use: leave it to SQLite"
                )
            if now is None:
                raise FileGone(f"{self.shown} is no longer there")
            raise FileGone(f"{self.shown} was replaced by another file")

    def set_aside(self, read_only: bool) -> None:
        """Where another file took the place of the one that is open: renames the log and shared memory of the former.

        SQLite would take them for the new one's and overwrite it. To be called while the former still is open: only
        then do its files' numbers tell for certain that they are its own.

        :raises BoardUnreachable: when that cannot be done here.
        """
        if self._opened.get("") in (None, _identity(self._name)):
            return
        for suffix in (_SHARED, _LOG):
            beside = self._name + suffix
            if suffix not in self._opened or _identity(beside) != self._opened[suffix]:
                continue
            aside = f"{beside}.replaced-{self._opened[''][1]}"
            try:
                if read_only:
                    raise PermissionError
                os.rename(beside, aside)  # noqa: PTH104 - a name of any bytes
            except OSError as error:
                raise BoardUnreachable(
                    f"{self.shown} was replaced while in use, and {visible(beside)} belongs to the former: remove it"
                ) from error
            LOG.warning("%s was replaced while in use: what the former left is now %s", self.shown, visible(aside))

    # -- is it where it belongs? ---------------------------------------------------------------------------------------
    def here(self) -> Home:
        """:raises OSError: when the file is not there."""
        return Home(self._name, self.path.stat().st_ino)

    def need_home(self, home: Home | None) -> None:
        """Looks whether this is the board that was made at ``home``, or came from there safely.

        :raises BoardUnreachable: it is a copy of a board that is still there, or was moved while in use.
        """
        if home is None or home.path == self._name:
            return
        here, was = _identity(self._name), visible(home.path)
        try:
            there = _identity(home.path)
        except BoardUnreachable:
            return  # another user's folder: who may not look there cannot run jobs from there either
        if there is not None:
            if there == here and not self._beside(home.path):
                raise BoardUnreachable(f"{self.shown} is in another folder than {was}, its other name: use that one")
            if there != here and there[1] == home.inode:
                raise BoardUnreachable(
                    f"{self.shown} is a copy of the board {was}, which is still there, and its jobs would run twice: "
                    "use that one, or take it away first"
                )
            return
        if here is None or here[1] != home.inode:
            return
        if in_use(locks_of(home.path)):
            raise BoardUnreachable(f"{self.shown} was moved from {was} while processes work on it: end them first")
        if _size(home.path + _LOG) and not _size(self._name + _LOG):
            raise BoardUnreachable(
                f"{self.shown} was moved from {was} without its newest changes: move {was}{_LOG} to {self.shown}{_LOG}"
            )

    def _beside(self, other: str) -> bool:
        """Whether another path leads to the same name in the same folder: by way of a mount, then."""
        folder, name = os.path.split(other)
        return name == self.path.name and _identity(folder) == _identity(str(self.path.parent))

    # -- why does it fail? ---------------------------------------------------------------------------------------------
    def trouble(self) -> str | None:
        """What the file system tells of itself when the file cannot be used; None when nothing."""
        with contextlib.suppress(OSError):
            system = os.statvfs(self.path.parent)
            if system.f_flag & os.ST_RDONLY:
                return f"{self.shown} is on a file system mounted read-only: a copy elsewhere can be looked at"
            if system.f_bavail * system.f_frsize < _ROOM:
                return f"the disk of {self.shown} is full"
        return None


def _identity(name: str) -> tuple[int, int] | None:
    """Device and inode; None where nothing is there.

    :raises BoardUnreachable: when that cannot be told.
    """
    try:
        found = os.stat(name)  # noqa: PTH116 - asked with each act
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BoardUnreachable(f"{visible(name)} cannot be reached: {error.strerror}") from error
    return (found.st_dev, found.st_ino)


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size  # noqa: PTH116 - see above
    except OSError:
        return 0


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
