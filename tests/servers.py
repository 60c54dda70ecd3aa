"""A real ZooKeeper for tests: found on the machine, started in a folder of its own, ended by its own handle."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from tests.support import eventually, freeze

JARS = Path("/usr/share/java")
HOW_TO_INSTALL = "apt-get install libzookeeper-java default-jre-headless"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_START_TRIES = 5

# kazoo tells of every lost connection; tests that pause and stop servers make plenty of those.
_QUIET = logging.getLogger("tests.kazoo")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


def missing_zookeeper() -> str | None:
    """Why no ZooKeeper can be started here, with the way to install it; None where it can."""
    if shutil.which("java") is None:
        return f"no java on this machine: {HOW_TO_INSTALL}"
    if not (JARS / "zookeeper.jar").exists():
        return f"no {JARS / 'zookeeper.jar'} on this machine: {HOW_TO_INSTALL}"
    return None


def need_zookeeper() -> None:
    """Skips the test where there is no ZooKeeper to start; fails it where ``CI=true`` says that there must be."""
    reason = missing_zookeeper()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _first_outgoing_port() -> int:
    """The lowest port that the kernel gives to outgoing connections."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago.

    None that the kernel gives to outgoing connections: one of those would take it while its server is down.
    """
    ports = range(10000, _first_outgoing_port())
    while True:
        port = random.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_client(hosts: str, timeout: float = 10.0, **options: Any) -> KazooClient:
    """A kazoo client, not yet started, whose ``stop`` returns soon; end it with :func:`end_client`.

    :param timeout: the session's, in seconds.
    """
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5)
    return KazooClient(hosts, timeout=timeout, connection_retry=retry, logger=_QUIET, **options)


def end_client(client: KazooClient) -> None:
    """Stops a client and closes its sockets; one that never started as well."""
    client.stop()
    client.close()


@contextlib.contextmanager
def kazoo(hosts: str, timeout: float = 10.0, **options: Any) -> Iterator[KazooClient]:
    """A started kazoo client, ended on leaving."""
    client = make_client(hosts, timeout, **options)
    try:
        client.start(timeout=START_SECONDS)
        yield client
    finally:
        end_client(client)


def expire_session(client: KazooClient, hosts: str) -> None:
    """Ends the session of a connected ``client`` on the server, as if it had timed out.

    Another connection takes the session over and closes it; the first one learns of it when it reconnects. It may do
    so in between, and take the session back: then it is done again, until nobody is given that session any more.
    """
    identity = eventually(lambda: client.client_id, what="the session to be connected")

    def over() -> bool:
        twin = make_client(hosts, client_id=identity)
        try:
            twin.start(timeout=START_SECONDS)
            given = twin.client_id
        except KazooTimeoutError:
            return False  # taken back as soon as it was given
        finally:
            end_client(twin)
        return given is not None and given[0] != identity[0]

    eventually(over, what="the session to be over")


class PortTaken(RuntimeError):
    """Somebody took a server's port between our probe and its bind."""


class Zookeeper:
    """A ZooKeeper server on 127.0.0.1.

    :param folder: where its data, configuration and log go; made when missing.
    :param four_letter_words: the whitelist to configure; None leaves the server's own (almost nothing).
    :param members: the lines of the configuration that tell of an ensemble's servers; none: it stands alone.

    ``start``, ``stop``, ``kill``, ``restart``, ``pause`` and ``resume`` may be called in any sensible order; data and
    port survive a restart. Start it on a thread that lives as long as the server is wanted: it dies with that thread.
    """

    def __init__(self, folder: Path, four_letter_words: str | None = None, members: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "zookeeper.log"
        self.members = members
        self._words = four_letter_words
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def hosts(self) -> str:
        """What a client connects to, e.g. ``127.0.0.1:40123``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not ended since (it may be paused)."""
        return self._process is not None

    def start(self) -> None:
        """Starts the server and returns when a client can work with it.

        :raises RuntimeError: when it ends at once; the message has the last lines of its log.
        """
        for attempt in range(_START_TRIES):
            try:
                self.launch()
                self.wait_ready()
                return
            except PortTaken:
                if attempt == _START_TRIES - 1 or self.members:
                    raise
                self.port = free_port()

    def launch(self) -> None:
        """Starts the server and returns at once: one of an ensemble answers nobody before others are there."""
        assert self._process is None, "already started"
        config = self.folder / "zoo.cfg"
        config.write_text(self._config())
        java = shutil.which("java")
        assert java is not None
        command = [
            java,
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.net.preferIPv4Stack=true",
            # Tests want speed; nobody pulls the plug on a temporary folder.
            "-Dzookeeper.forceSync=no",
            "-Dzookeeper.preAllocSize=1024",
            "-cp",
            f"{JARS / 'zookeeper.jar'}:{JARS / 'slf4j-simple.jar'}",
            "org.apache.zookeeper.server." + ("quorum.QuorumPeerMain" if self.members else "ZooKeeperServerMain"),
            str(config),
        ]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            # A test run that is killed takes its server with it.
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def wait_ready(self) -> None:
        """Returns when a client can work with a server that was launched; ends it where that does not come about.

        :raises RuntimeError: it ended by itself; PortTaken where somebody took its port between our probe and its bind.
        """
        try:
            eventually(self._answers, timeout=START_SECONDS, what=f"ZooKeeper on {self.hosts}")
        except BaseException:
            self.stop()
            raise

    def _config(self) -> str:
        lines = [
            "tickTime=500",
            "minSessionTimeout=1000",
            "maxSessionTimeout=60000",
            f"dataDir={self.folder / 'data'}",
            "clientPortAddress=127.0.0.1",
            f"clientPort={self.port}",
            "maxClientCnxns=0",
            "admin.enableServer=false",
            *self.members,
        ]
        if self._words is not None:
            lines.append(f"4lw.commands.whitelist={self._words}")
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
            raise (PortTaken if "BindException" in tail else RuntimeError)(f"ZooKeeper ended at once:\n{tail}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        # A server that is still starting takes connections and lets them wait: a short session's client gives up soon.
        client = make_client(self.hosts, timeout=1.0)
        try:
            client.start(timeout=2)
            client.get_children("/")
        except (KazooException, KazooTimeoutError):
            return False
        finally:
            end_client(client)
        return True

    def stop(self) -> None:
        """Ends the server (a paused one too); its data stays. Nothing happens where it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends the server as a crash does: it writes nothing more, and tells nobody."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Stops and starts it again, on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the server: connections stay open, nothing is answered."""
        assert self._process is not None
        freeze(self._process.pid)

    def resume(self) -> None:
        """Lets a paused server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kazoo(self, timeout: float = 10.0, **options: Any) -> contextlib.AbstractContextManager[KazooClient]:
        """A started client of this server, ended on leaving."""
        return kazoo(self.hosts, timeout, **options)


@contextlib.contextmanager
def running_zookeeper(four_letter_words: str | None = None) -> Iterator[Zookeeper]:
    """A server of one's own (fault tests stop and pause it), gone on leaving; skips where none can be started."""
    need_zookeeper()
    with tempfile.TemporaryDirectory(prefix="zookeeper-", ignore_cleanup_errors=True) as folder:
        server = Zookeeper(Path(folder), four_letter_words)
        try:
            server.start()
            yield server
        finally:
            server.stop()
