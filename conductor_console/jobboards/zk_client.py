"""Talking to ZooKeeper: the client, and transactions whose every result is looked at."""

from __future__ import annotations

import logging
import math
import select
from collections.abc import Callable, Mapping
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.handlers.utils import fileobj_to_fd
from kazoo.retry import KazooRetry
from oslo_utils import strutils

from conductor_console.errors import BoardUnreachable, UsageError
from conductor_console.jobboards.base import Refused
from conductor_console.text import visible

# kazoo tells of each lost connection at WARNING; without a handler Python would print that on the screen.
LOG: Final = logging.getLogger("conductor_console.zookeeper")
LOG.addHandler(logging.NullHandler())

DEFAULT_TIMEOUT: Final = 10.0
#: A request that was sent is answered, or its connection is found dead, long before this many seconds.
ANSWER_SECONDS: Final = 60.0
#: A server drops the connection of a request above 1 MiB (``jute.maxbuffer``), which would look like an outage.
LARGEST_REQUEST: Final = 0xFFFFF - 1024
#: What we post leaves room for what else is in the request that moves it to the bin.
LARGEST_POSTING: Final = LARGEST_REQUEST - 4096
_PER_STEP: Final = 64
_SWITCHES: Final = {"read_only": False, "randomize_hosts": True, "use_ssl": False, "verify_certs": True}

#: The connection broke, so nobody knows yet whether it was done.
UNKNOWN_OUTCOME: Final = (
    k_exceptions.ConnectionLoss,
    k_exceptions.OperationTimeoutError,
    k_exceptions.SessionExpiredError,
    KazooTimeoutError,
)
NO_RIGHTS: Final = (k_exceptions.NoAuthError, k_exceptions.InvalidACLError)
_ECHOES: Final = (k_exceptions.RolledBackError, k_exceptions.RuntimeInconsistency)


class OutcomeUnknown(Exception):
    """The connection went while a transaction was under way: it was done, or it was not."""


class StepFailed(Exception):
    """A transaction was refused, and nothing of it done: ``step`` names what did not fit, ``error`` says why."""

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__(f"{step}: {type(error).__name__}")
        self.step = step
        self.error = error


class Handler(SequentialThreadingHandler):
    """kazoo's own, waiting for sockets by one system call where that makes five, several times for each message."""

    def select(self, rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None) -> tuple[list[Any], ...]:  # noqa: ARG002
        """As ``select.select``, whatever the number of the file; ``xlist`` is taken to be empty, as by kazoo's.

        :raises TypeError: a socket is closed. :raises ValueError: its file is another's, or nobody's, by now.
        """
        wanted: dict[int, int] = {}
        for event, sockets in ((select.POLLIN, rlist), (select.POLLOUT, wlist)):
            for one in sockets:
                number = fileobj_to_fd(one)
                wanted[number] = wanted.get(number, 0) | event
        poll = select.poll()
        for number, events in wanted.items():
            poll.register(number, events)
        ready = dict(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))
        if any(events & select.POLLNVAL for events in ready.values()):
            raise ValueError("a socket was closed while it was waited for")
        # What hung up can be read and written: that tells how.
        over = select.POLLHUP | select.POLLERR
        readable = [one for one in rlist if ready.get(fileobj_to_fd(one), 0) & (select.POLLIN | over)]
        writable = [one for one in wlist if ready.get(fileobj_to_fd(one), 0) & (select.POLLOUT | over)]
        return readable, writable, []


def hosts_of(conf: Mapping[str, Any]) -> str:
    """The hosts of TaskFlow's conf (text, list, or a mapping of host to port) as kazoo takes them.

    :raises UsageError: when there are none, or they are of another kind.
    """
    hosts = conf.get("hosts", "localhost:2181")
    if isinstance(hosts, Mapping):
        hosts = [f"{host}:{port}" for host, port in hosts.items()]
    if isinstance(hosts, list | tuple | set | frozenset):
        hosts = ",".join(str(host) for host in hosts)
    if not isinstance(hosts, str) or not hosts.strip():
        raise UsageError("a ZooKeeper board needs hosts, such as zk1:2181,zk2:2181")
    return hosts.strip()


def make_client(conf: Mapping[str, Any]) -> KazooClient:
    """A client, not yet started, by TaskFlow's conf.

    Taken: hosts, timeout (seconds), auth_data, read_only, randomize_hosts, keyfile, keyfile_password, certfile, ca,
    use_ssl, verify_certs, command_retry, connection_retry, handler.
    """
    options: dict[str, Any] = {
        key: strutils.bool_from_string(conf[key], default=default) for key, default in _SWITCHES.items() if key in conf
    }
    for key in ("keyfile", "keyfile_password", "certfile", "ca", "handler"):
        if conf.get(key) is not None:
            options[key] = conf[key]
    options.setdefault("handler", Handler())
    if conf.get("auth_data"):
        options["auth_data"] = {(str(scheme), str(credential)) for scheme, credential in conf["auth_data"]}
    return KazooClient(
        hosts_of(conf),
        timeout=float(conf.get("timeout", DEFAULT_TIMEOUT)),
        logger=LOG,
        connection_retry=conf.get("connection_retry") or KazooRetry(max_tries=-1, delay=0.1, max_delay=2.0),
        command_retry=conf.get("command_retry") or KazooRetry(max_tries=5, delay=0.1, max_delay=2.0),
        **options,
    )


def start_client(client: KazooClient, hosts: str, timeout: float) -> None:
    """Connects within ``timeout`` seconds; nothing happens where it is connected already.

    Not kazoo's own start(): that warns on the screen where the part of the hosts behind the slash is not there.

    :raises BoardUnreachable: no answer; the client is ended.
    """
    if not client.start_async().wait(timeout) or not client.connected:
        end_client(client)
        raise BoardUnreachable(
            f"cannot reach ZooKeeper at {hosts} within {timeout:g} s: is it running, is the address right?"
        )


def end_client(client: KazooClient) -> None:
    """Ends a client's session and threads, and closes its sockets; may be called at any time, more than once."""
    try:
        client.stop()
        client.close()
    except Exception as error:  # kazoo raises plain Exceptions for a connection that would not end in time
        LOG.warning("the ZooKeeper client did not end cleanly: %s", describe(error))


def session_of(client: KazooClient) -> int | None:
    """The id of the session that is connected now, as a lock's ``ephemeralOwner`` shows it."""
    identity = client.client_id
    return None if identity is None else identity[0]


def as_hex(number: int) -> str:
    """A session or transaction id as ZooKeeper's own tools write it."""
    return hex(number & 0xFFFFFFFFFFFFFFFF)


def answer(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The answer to one asynchronous call of kazoo's, waited for.

    :raises KazooException: as the server or the connection has it. :raises KazooTimeoutError: after a minute.
    """
    return call(*args, **options).get(timeout=ANSWER_SECONDS)


class Multi:
    """One transaction, each step named, so that what did not fit can be told.

    A step's name may serve once. :meth:`commit` gives each step's own result: kazoo's ``commit`` does not raise
    when the server refuses.
    """

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self._transaction = client.transaction()
        self._steps: list[str] = []
        self._size = 0

    def check(self, step: str, path: str, version: int) -> Multi:
        self._transaction.check(path, version)
        return self._added(step, path)

    def create(
        self,
        step: str,
        path: str,
        value: bytes,
        *,
        acl: Any = None,
        ephemeral: bool = False,
        sequence: bool = False,
    ) -> Multi:
        self._transaction.create(path, value, acl=acl, ephemeral=ephemeral, sequence=sequence)
        return self._added(step, path, value)

    def write(self, step: str, path: str, value: bytes, version: int) -> Multi:
        self._transaction.set_data(path, value, version)
        return self._added(step, path, value)

    def delete(self, step: str, path: str, version: int) -> Multi:
        self._transaction.delete(path, version)
        return self._added(step, path)

    def room(self, path: str) -> int:
        """How many bytes one step more, at ``path``, may write."""
        return LARGEST_REQUEST - self._size - len(path) - _PER_STEP

    def _added(self, step: str, path: str, value: bytes = b"") -> Multi:
        self._steps.append(step)
        self._size += len(path) + len(value) + _PER_STEP
        return self

    def commit(self) -> dict[str, Any]:
        """Does all of it or nothing.

        :returns: for each step kazoo's result: the path of a create, the stat of a write, True.
        :raises StepFailed: nothing was done. :raises OutcomeUnknown: the connection broke.
        :raises BoardUnreachable: there is no connection, nothing was done. :raises Refused: it is too big.
        """
        return self.outcome(self.send())

    def send(self) -> Any:
        """Sends it, and gives kazoo's promise of its results, for :meth:`outcome`.

        :raises BoardUnreachable: there is no connection, nothing was done. :raises Refused: it is too big.
        """
        if self._size > LARGEST_REQUEST:
            raise Refused(f"too big for ZooKeeper: {self._size:,} bytes, where one request takes {LARGEST_REQUEST:,}")
        need_connection(self._client)
        return self._transaction.commit_async()

    def outcome(self, sent: Any) -> dict[str, Any]:
        """What became of it, waited for; returns and raises as :meth:`commit` does."""
        try:
            results = sent.get(timeout=ANSWER_SECONDS)
        except k_exceptions.ConnectionClosedError as error:
            raise BoardUnreachable("the connection to ZooKeeper is closed") from error
        except UNKNOWN_OUTCOME as error:
            raise OutcomeUnknown(type(error).__name__) from error
        except k_exceptions.KazooException as error:
            raise StepFailed("", error) from error
        for step, result in zip(self._steps, results, strict=False):
            if isinstance(result, Exception) and not isinstance(result, _ECHOES):
                raise StepFailed(step, result)
        if len(results) != len(self._steps) or any(isinstance(result, Exception) for result in results):
            raise StepFailed("", k_exceptions.SystemZookeeperError())
        return dict(zip(self._steps, results, strict=True))


def need_connection(client: KazooClient) -> None:
    """Refuses to start anything while there is no connection: kazoo would keep it, and do it some time later.

    :raises BoardUnreachable: when the client is not connected.
    """
    if not client.connected:
        raise BoardUnreachable("there is no connection to ZooKeeper now: it is being tried again, try later")


def describe(error: Exception) -> str:
    """Why a call failed, in a few clean words."""
    if isinstance(error, NO_RIGHTS):
        return "no rights"
    if isinstance(error, KazooTimeoutError):
        return "timed out"
    if isinstance(error, OutcomeUnknown | k_exceptions.ConnectionLoss):
        return "connection lost"
    if isinstance(error, k_exceptions.SessionExpiredError):
        return "session expired"
    return visible(f"{type(error).__name__} {error}".strip(), 200)
