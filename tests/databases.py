"""Real PostgreSQL and MariaDB servers for tests: started in a folder of their own, ended by their own handle."""

from __future__ import annotations

import abc
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pymysql
import pytest

from tests.servers import free_port
from tests.support import eventually, freeze

USER: Final = "console"
PASSWORD: Final = "hunter2"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
#: Where Debian keeps what it does not put on everybody's path.
_SBIN: Final = "/usr/sbin:/usr/local/sbin"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def _postgresql_programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def missing(kind: str) -> str | None:
    """Why no server of this kind can be started here, with the way to install it; None where it can."""
    if kind == "postgresql":
        if _postgresql_programs() is None:
            return "no PostgreSQL on this machine: apt-get install postgresql"
        if os.geteuid() == 0 and (_program("setpriv") is None or _unprivileged() is None):
            return "PostgreSQL does not run as root, and there is no setpriv or no user 'nobody' to run it as"
        return None
    if _program("mariadbd") is None or _program("mariadb-install-db") is None:
        return "no MariaDB on this machine: apt-get install mariadb-server"
    return None


def need(kind: str) -> None:
    """Skips the test where there is no such server to start; fails it where ``CI=true`` says that there must be."""
    reason = missing(kind)
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _unprivileged() -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("nobody")
    return None


class Database(abc.ABC):
    """A database server on 127.0.0.1 with data that is gone at the end.

    :param folder: where everything of it goes; its path is short, since a socket's is limited.

    ``start``, ``stop``, ``kill``, ``restart``, ``pause`` and ``resume`` may be called in any sensible order; data and
    port survive. Start it on a thread that lives as long as the server is wanted: it dies with that thread.
    """

    kind: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        self._names = itertools.count(1)

    # -- its life ----------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Starts the server and returns when a client can work with it.

        :raises RuntimeError: when it ends at once; the message has the last lines of its log.
        """
        assert self._process is None, "already started"
        if not self._data.exists():
            self._own(self.folder)
            self._initialise()
        for attempt in range(5):
            try:
                self._launch()
                return
            except RuntimeError as error:
                if attempt == 4 or "in use" not in str(error):
                    raise
                # Somebody took the port between our probe and the server's bind.
                self.port = free_port()

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user(pdeathsig=True), *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        try:
            eventually(self._answers, timeout=START_SECONDS, what=f"{self.kind} on port {self.port}")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-30:]
            raise RuntimeError(f"{self.kind} ended at once:\n" + "\n".join(tail))
        try:
            self.execute("SELECT 1")
        except (psycopg.OperationalError, pymysql.OperationalError):
            return False
        return True

    def stop(self) -> None:
        """Ends the server in order, whoever is connected; its data stays. Nothing happens where it is not running."""
        self.resume()
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(self._stop_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process = process
            self.kill()

    def kill(self) -> None:
        """Ends every process of the server at once, as a crash would; its data is as the crash leaves it."""
        process, self._process = self._process, None
        if process is None:
            return
        self._paused = []
        pids = _family(process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        eventually(lambda: not any(_alive(pid) for pid in pids), what=f"every process of {self.kind} to be gone")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Stops and starts it again, on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes every process of the server: connections stay open, nothing is answered."""
        assert self._process is not None
        # The parent first, or it starts more of them.
        for _ in range(2):
            self._paused = _family(self._process.pid)
            for pid in self._paused:
                freeze(pid)

    def resume(self) -> None:
        """Lets a paused server go on."""
        paused, self._paused = self._paused, []
        for pid in paused:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # -- its contents ------------------------------------------------------------------------------------------------
    def database(self, options: str = "") -> str:
        """Makes a database of one's own. Returns its name.

        :param options: what is added to the statement, e.g. a character set.
        """
        name = f"flows{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return name

    def url(self, database: str) -> str:
        """The store's URL, its driver left open."""
        return f"{self.kind}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @abc.abstractmethod
    def connect(self, database: str | None = None, *, timeout: int = 10) -> Any:
        """A connection of the driver's own, without the store; close it. ``timeout`` (s) is for connecting."""

    @abc.abstractmethod
    def kick(self, database: str) -> int:
        """Ends every connection to the database from the server's side. Returns how many."""

    @abc.abstractmethod
    def waiting(self, database: str) -> int:
        """How many statements wait for a lock that another transaction holds."""

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Runs one statement in a connection of its own, committed; returns the rows, if it has any."""
        with contextlib.closing(self.connect(database, timeout=2)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description is not None else []

    # -- what differs ------------------------------------------------------------------------------------------------
    _stop_signal: signal.Signals = signal.SIGTERM

    @abc.abstractmethod
    def _initialise(self) -> None:
        """Makes the data folder."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """What runs the server in the foreground."""

    def _as_user(self, *, pdeathsig: bool = False) -> list[str]:
        """What goes before a command of the server's: an unprivileged user, and the end with our own."""
        setpriv = _program("setpriv")
        if setpriv is None:
            return []
        words = [setpriv]
        user = _unprivileged()
        if os.geteuid() == 0 and user is not None:
            words += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        if pdeathsig:
            words += ["--pdeathsig", "KILL"]
        return words if len(words) > 1 else []

    def _own(self, path: Path) -> None:
        user = _unprivileged()
        if os.geteuid() == 0 and user is not None and _program("setpriv") is not None:
            os.chown(path, user.pw_uid, user.pw_gid)

    def _run(self, *command: str) -> None:
        result = subprocess.run(
            [*self._as_user(), *command], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if result.returncode != 0:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


class PostgreSQL(Database):
    """PostgreSQL. Fsync is off, which only the machine's own crash would show; a killed server loses no commit."""

    kind = "postgresql"
    _stop_signal = signal.SIGINT  # "fast": whoever is connected is sent away

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        self._own(password)
        programs = _postgresql_programs()
        assert programs is not None
        self._run(
            str(programs / "initdb"),
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            f"--username={USER}",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            f"--pgdata={self._data}",
        )

    def _command(self) -> list[str]:
        programs = _postgresql_programs()
        assert programs is not None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 60,
            "shared_buffers": "32MB",
            "deadlock_timeout": "100ms",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(programs / "postgres"), "-D", str(self._data), *options]

    def connect(self, database: str | None = None, *, timeout: int = 10) -> Any:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database or "postgres",
            connect_timeout=timeout,
            autocommit=True,
        )

    def kick(self, database: str) -> int:
        return len(self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"))

    def waiting(self, database: str) -> int:
        query = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
        return len(self.execute(query))


class MariaDB(Database):
    """MariaDB. A commit reaches the system's cache at once, so that a killed server loses none."""

    kind = "mysql"

    def _initialise(self) -> None:
        program = _program("mariadb-install-db")
        assert program is not None
        self._run(
            program,
            "--no-defaults",
            f"--datadir={self._data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
        first = self.folder / "first.sql"
        first.write_text(
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
        )
        self._own(first)

    def _command(self) -> list[str]:
        program = _program("mariadbd")
        assert program is not None
        settings = {
            "datadir": self._data,
            "bind-address": "127.0.0.1",
            "port": self.port,
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "init-file": self.folder / "first.sql",
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "64M",
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-flush-method": "nosync",
            "performance-schema": "OFF",
            "character-set-server": "utf8mb4",
        }
        words = [program, "--no-defaults", *(f"--{key}={value}" for key, value in settings.items())]
        # MariaDB can be told to run as root, where there is no one else.
        words.append("--skip-name-resolve")
        return words if self._as_user() or os.geteuid() != 0 else [*words, "--user=root"]

    def connect(self, database: str | None = None, *, timeout: int = 10) -> Any:
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            database=database,
            connect_timeout=timeout,
            read_timeout=60,
            autocommit=True,
        )

    def kick(self, database: str) -> int:
        kicked = 0
        for (number,) in self.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'"):
            with contextlib.suppress(pymysql.OperationalError):  # it went by itself
                self.execute(f"KILL CONNECTION {number}")
                kicked += 1
        return kicked

    def waiting(self, database: str) -> int:
        # One for the whole server, but fresh: the table of transactions is not renewed while it is read often.
        status = self.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
        return int(status[0][1])


_SERVERS: Final[dict[str, type[Database]]] = {"postgresql": PostgreSQL, "mysql": MariaDB}
KINDS: Final = tuple(_SERVERS)


@contextlib.contextmanager
def running(kind: str) -> Iterator[Database]:
    """A server of one's own (fault tests stop and pause it), gone on leaving; skips where none can be started."""
    need(kind)
    with tempfile.TemporaryDirectory(prefix="db-", ignore_cleanup_errors=True) as folder:
        server = _SERVERS[kind](Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _family(pid: int) -> list[int]:
    """A process and all it started."""
    family = [pid]
    for member in family:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
    return family
