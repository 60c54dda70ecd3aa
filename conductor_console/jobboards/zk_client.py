"""Talking to ZooKeeper: the client, and transactions whose every result is looked at."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Delete,
    SetData,
    Transaction,
    int_struct,
    multiheader_struct,
    read_string,
    stat_struct,
    write_string,
)
from kazoo.protocol.states import ZnodeStat
from kazoo.retry import KazooRetry
from kazoo.security import OPEN_ACL_UNSAFE
from oslo_utils import strutils

from conductor_console.errors import BoardUnreachable, UsageError
from conductor_console.jobboards import zk_connection
from conductor_console.jobboards.base import Refused
from conductor_console.jobboards.zk_sockets import Handler
from conductor_console.promise import Promise
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
    client = KazooClient(
        hosts_of(conf),
        timeout=float(conf.get("timeout", DEFAULT_TIMEOUT)),
        logger=LOG,
        connection_retry=conf.get("connection_retry") or KazooRetry(max_tries=-1, delay=0.1, max_delay=2.0),
        command_retry=conf.get("command_retry") or KazooRetry(max_tries=5, delay=0.1, max_delay=2.0),
        **options,
    )
    zk_connection.use(client)
    return client


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


class Answer(Promise):
    """What kazoo's connection has to tell of one request: kazoo's own costs as much as a request does."""

    __slots__ = ()

    def get(self, timeout: float | None = None) -> Any:
        """The answer, or raises what was met. :raises KazooTimeoutError: there was none in time."""
        if not self.wait(timeout):
            raise KazooTimeoutError
        return super().get()


def sent(client: KazooClient, request: Any) -> Answer:
    """The answer to come to a request of our own making, on the way of every request of kazoo's."""
    promise = Answer()
    client._call(request, promise)
    return promise


class _Transaction:
    """A transaction as it travels; kazoo's own is put together far slower.

    :param octets: the steps, each with its header.
    """

    type: Final = Transaction.type

    def __init__(self, octets: bytearray) -> None:
        self._octets = octets

    def serialize(self) -> bytearray:
        return self._octets + _END

    def deserialize(self, octets: bytes, offset: int) -> list[Any]:
        """For each step its result, as kazoo's has it."""
        results: list[Any] = []
        while True:
            kind, done, _ = multiheader_struct.unpack_from(octets, offset)
            offset += multiheader_struct.size
            if done:
                return results
            result: Any = True
            if kind == Create.type:
                result, offset = read_string(octets, offset)
            elif kind == SetData.type:
                result = ZnodeStat._make(stat_struct.unpack_from(octets, offset))
                offset += stat_struct.size
            elif kind < 0:
                result = k_exceptions.EXCEPTIONS[int_struct.unpack_from(octets, offset)[0]]()
                offset += int_struct.size
            results.append(result)


_HEAD: Final = {
    step.type: multiheader_struct.pack(step.type, False, -1) for step in (Create, Delete, SetData, CheckVersion)
}
_END: Final = multiheader_struct.pack(-1, True, -1)


@functools.lru_cache(maxsize=64)
def _rights(acl: tuple[Any, ...]) -> bytes:
    octets = int_struct.pack(len(acl))
    for one in acl:
        octets += int_struct.pack(one.perms) + write_string(one.id.scheme) + write_string(one.id.id)
    return octets


class Multi:
    """One transaction, each step named, so that what did not fit can be told.

    A step's name may serve once. :meth:`commit` gives each step's own result: kazoo's ``commit`` does not raise
    when the server refuses.
    """

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self._chroot: str = client.chroot
        self._octets = bytearray()
        self._steps: list[str] = []

    def check(self, step: str, path: str, version: int) -> Multi:
        self._step(step, CheckVersion.type, path)
        self._octets += int_struct.pack(version)
        return self

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
        self._step(step, Create.type, path)
        self._octets += int_struct.pack(len(value))
        self._octets += value
        self._octets += _rights(tuple(acl or self._client.default_acl or OPEN_ACL_UNSAFE))
        self._octets += int_struct.pack(ephemeral + 2 * sequence)
        return self

    def write(self, step: str, path: str, value: bytes, version: int) -> Multi:
        self._step(step, SetData.type, path)
        self._octets += int_struct.pack(len(value))
        self._octets += value
        self._octets += int_struct.pack(version)
        return self

    def delete(self, step: str, path: str, version: int) -> Multi:
        self._step(step, Delete.type, path)
        self._octets += int_struct.pack(version)
        return self

    def _step(self, step: str, kind: int, path: str) -> None:
        self._steps.append(step)
        self._octets += _HEAD[kind]
        self._octets += write_string(self._chroot + path)

    def room(self, path: str) -> int:
        """How many bytes one step more, at ``path``, may write."""
        return LARGEST_REQUEST - len(self._octets) - len(path) - _PER_STEP

    def commit(self) -> dict[str, Any]:
        """Does all of it or nothing.

        :returns: for each step kazoo's result: the path of a create, the stat of a write, True.
        :raises StepFailed: nothing was done. :raises OutcomeUnknown: the connection broke.
        :raises BoardUnreachable: there is no connection, nothing was done. :raises Refused: it is too big.
        """
        return self.outcome(self.send())

    def send(self) -> Answer:
        """Sends it, and gives the promise of its results, for :meth:`outcome`.

        :raises BoardUnreachable: there is no connection, nothing was done. :raises Refused: it is too big.
        """
        size = len(self._octets)
        if size > LARGEST_REQUEST:
            raise Refused(f"too big for ZooKeeper: {size:,} bytes, where one request takes {LARGEST_REQUEST:,}")
        need_connection(self._client)
        return sent(self._client, _Transaction(self._octets))

    def outcome(self, promise: Answer) -> dict[str, Any]:
        """What became of it, waited for; returns and raises as :meth:`commit` does."""
        try:
            results = promise.get(timeout=ANSWER_SECONDS)
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
