"""A real ensemble of three ZooKeeper servers, for tests that kill its leader or pause a follower."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kazoo.client import KazooClient

from tests import servers
from tests.servers import PortTaken, Zookeeper, free_port, need_zookeeper
from tests.support import eventually

SIZE = 3
_START_TRIES = 5
_TALK_SECONDS = 2.0


class Ensemble:
    """Three servers that make one service, on 127.0.0.1.

    :param folder: where each gets a folder of its own.
    :ivar servers: the members, in order; ``members[i]`` is ``server.i+1`` to the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Zookeeper] = []

    @property
    def hosts(self) -> str:
        """All three, as a client's connection string."""
        return self.hosts_from(0)

    def hosts_from(self, first: int) -> str:
        """All three, beginning with one: where a client goes that does not shuffle them."""
        return ",".join(self.servers[(first + i) % SIZE].hosts for i in range(SIZE))

    def start(self) -> None:
        """Starts all three and returns when a client can work with each of them."""
        for attempt in range(_START_TRIES):
            self._make(self.folder / str(attempt))
            try:
                for server in self.servers:
                    server.launch()
                for server in self.servers:
                    server.wait_ready()
                return
            except PortTaken:
                self.stop()
                if attempt == _START_TRIES - 1:
                    raise
            except BaseException:
                self.stop()
                raise

    def _make(self, folder: Path) -> None:
        members = [
            # Generous, so that a loaded machine, or a server that is paused for a while, does not end the ensemble.
            "initLimit=40",
            "syncLimit=20",
            *(f"server.{i + 1}=127.0.0.1:{free_port()}:{free_port()}" for i in range(SIZE)),
        ]
        self.servers = [Zookeeper(folder / f"server{i + 1}", "srvr", members) for i in range(SIZE)]
        for i, server in enumerate(self.servers):
            data = server.folder / "data"
            data.mkdir()
            (data / "myid").write_text(f"{i + 1}\n")

    def stop(self) -> None:
        """Ends all that run, paused ones too."""
        for server in self.servers:
            server.stop()

    def leader(self) -> Zookeeper:
        """The server that leads, as soon as one does."""
        return eventually(lambda: next((s for s in self.servers if self._mode(s) == "leader"), None), what="a leader")

    def followers(self) -> list[Zookeeper]:
        """The servers that follow now."""
        return [server for server in self.servers if self._mode(server) == "follower"]

    def whole(self) -> None:
        """Waits until one leads and two follow."""
        eventually(
            lambda: sorted(str(self._mode(s)) for s in self.servers) == ["follower", "follower", "leader"],
            timeout=servers.START_SECONDS,
            what="a leader and two followers",
        )

    def _mode(self, server: Zookeeper) -> str | None:
        """What a server is, by itself; None where it does not answer, or looks for a leader."""
        if not server.running:
            return None
        try:
            with socket.create_connection(("127.0.0.1", server.port), _TALK_SECONDS) as talk:
                talk.settimeout(_TALK_SECONDS)
                talk.sendall(b"srvr")
                with talk.makefile("rb") as answer:
                    told = answer.read().decode(errors="replace")
        except OSError:
            return None
        return next((line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("Mode:")), None)

    def serving(self, client: KazooClient) -> Zookeeper | None:
        """The server that a client is connected to now; None: to none."""
        connection = client._connection._socket
        try:
            port = None if connection is None else connection.getpeername()[1]
        except OSError:
            return None
        return next((server for server in self.servers if server.port == port), None) if client.connected else None

    def kazoo(self, timeout: float = 10.0) -> contextlib.AbstractContextManager[KazooClient]:
        """A started client of the whole ensemble, ended on leaving."""
        return servers.kazoo(self.hosts, timeout)


@contextlib.contextmanager
def running_ensemble() -> Iterator[Ensemble]:
    """An ensemble of one's own, gone on leaving; skips where none can be started."""
    need_zookeeper()
    with tempfile.TemporaryDirectory(prefix="ensemble-", ignore_cleanup_errors=True) as folder:
        ensemble = Ensemble(Path(folder))
        try:
            ensemble.start()
            yield ensemble
        finally:
            ensemble.stop()
