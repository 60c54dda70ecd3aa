"""Where boards and stores are: URLs read into what the libraries want, and shown without their secrets.

* :func:`board_conf`: ``zk://h1:2181,h2:2181/path``, ``zks://`` (TLS), ``sqlite:///file.db``, ``redis://``, ``etcd://``
* :func:`store_conf`: an SQLAlchemy URL, with the driver that is installed
* :func:`masked`, :func:`short_board`: for people; they never raise and never show a password
* :func:`profile`: a board, its store and what is done there with jobs that fail, under a name of its own

What cannot be meant is a :class:`UsageError` in one line, with an example.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote

import platformdirs

from conductor_console.errors import UsageError
from conductor_console.masking import masked_url as masked
from conductor_console.text import visible

__all__ = [
    "DEFAULT_PATH",
    "DEFAULT_PORT",
    "PROFILES",
    "Profile",
    "board_conf",
    "masked",
    "profile",
    "short_board",
    "store_conf",
]

#: The environment's variable that names another file of profiles than the one in the user's configuration folder.
PROFILES: Final = "CONDUCTOR_CONSOLE_PROFILES"

DEFAULT_PORT: Final = 2181
DEFAULT_PATH: Final = "/taskflow/jobs"

_BOARDS: Final = "zk://h1:2181,h2:2181/taskflow/jobs or sqlite:////srv/board.db"
_STORES: Final = "sqlite:////srv/flows.db, postgresql://user@host/flows or mysql://user@host/flows"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)([^?]*)(?:\?(.*))?", re.DOTALL)
#: Drivers in the order of preference: (what SQLAlchemy calls it, the module to look for).
_DRIVERS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
    "mariadb": (("pymysql", "pymysql"), ("mysqldb", "MySQLdb")),
}


def _bad(what: str, url: object, example: str) -> NoReturn:
    raise UsageError(f"{what}: {visible(masked(url), 200)} (example: {example})")


def _split(url: object, example: str, kind: str) -> tuple[str, str, str, dict[str, str]]:
    """Scheme, authority, path and parameters; the authority may hold a password with a @ in it."""
    if not isinstance(url, str) or not url.strip():
        raise UsageError(f"No {kind} given (example: {example})")
    found = _URL.fullmatch(url.strip())
    if found is None:
        _bad(f"Not a {kind} URL", url, example)
    scheme, authority, path, query = found.groups()
    if authority and "@" in f"{path}{query}":
        _bad("Write / and ? in a password as %2F and %3F, @ in a path as %40", url, example)
    try:
        pairs = parse_qsl(query or "", keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        _bad("Parameters must read name=value&name=value", url, example)
    return scheme.lower(), authority, path, dict(pairs)


def board_conf(url: str) -> dict[str, Any]:
    """The conf of the board at ``url``; its ``board`` key names the kind, the rest is what that kind's class takes.

    ZooKeeper: ``hosts`` ("h1:2181,h2:2181"), ``path``, and where given ``auth_data`` (digest), ``timeout`` (s) and
    TLS options. SQLite: ``path``. Any other scheme is handed on for TaskFlow's boards.

    :raises UsageError: one line with an example.
    """
    scheme, authority, path, query = _split(url, _BOARDS, "board")
    if scheme in ("zk", "zookeeper", "zks"):
        return _zookeeper(url, authority, path, query, tls=scheme == "zks")
    if scheme == "sqlite":
        return _sqlite_board(url, authority, path, query)
    return _other_board(url, scheme, authority, path, query)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86400:
        raise ValueError(text)
    return value


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


_ZOOKEEPER: Final[Mapping[str, Callable[[str], Any]]] = {
    "timeout": _seconds,
    "randomize_hosts": _switch,
    "keyfile": str,
    "keyfile_password": str,
    "certfile": str,
    "ca": str,
    "verify_certs": _switch,
}
_SQLITE: Final[Mapping[str, Callable[[str], Any]]] = {"timeout": _seconds}


def _parameters(
    url: str, query: Mapping[str, str], known: Mapping[str, Callable[[str], Any]], example: str
) -> dict[str, Any]:
    conf = {}
    for name, text in query.items():
        if name not in known:
            _bad(f"Unknown parameter {visible(name, 40)!r}, known are {', '.join(sorted(known))}", url, example)
        try:
            conf[name] = known[name](text)
        except ValueError:
            wanted = "a number of seconds" if known[name] is _seconds else "true or false"
            _bad(f"Parameter {name!r} must be {wanted}", url, example)
    return conf


def _zookeeper(url: str, authority: str, path: str, query: Mapping[str, str], *, tls: bool) -> dict[str, Any]:
    example = "zk://h1:2181,h2:2181/taskflow/jobs?timeout=10"
    conf: dict[str, Any] = {"board": "zookeeper"}
    userinfo, at, hosts = authority.rpartition("@")
    if at:
        user, colon, password = userinfo.partition(":")
        if not user or not colon:
            _bad("Credentials must read user:password before the @", url, "zk://user:password@h1:2181/taskflow/jobs")
        conf["auth_data"] = [("digest", f"{unquote(user)}:{unquote(password)}")]
    conf["hosts"] = ",".join(_host(url, host, example) for host in hosts.split(","))
    conf["path"] = _znode(url, unquote(path), example)
    conf |= _parameters(url, query, _ZOOKEEPER, example)
    if tls:
        conf["use_ssl"] = True
    return conf


def _host(url: str, text: str, example: str) -> str:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]/]+)(?::(\d{1,5}))?", text.strip())
    if found is None:
        _bad("A host is missing or is not one", url, example if "[" not in text else "zk://[::1]:2181/taskflow/jobs")
    port = int(found[2] or DEFAULT_PORT)
    if not 0 < port < 65536:
        _bad("A port is a number from 1 to 65535", url, example)
    return f"{found[1]}:{port}"


def _znode(url: str, path: str, example: str) -> str:
    path = path.rstrip("/")
    if not path:
        return DEFAULT_PATH
    parts = path.split("/")[1:]
    if any(not part or part in (".", "..") or not part.isprintable() for part in parts) or parts == ["zookeeper"]:
        _bad("Not a ZooKeeper path", url, example)
    return path


def _sqlite_board(url: str, authority: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    conf = {"board": "sqlite", "path": _file(url, authority, path, "board", "sqlite:////srv/board.db")}
    return conf | _parameters(url, query, _SQLITE, "sqlite:////srv/board.db?timeout=5")


def _file(url: str, authority: str, path: str, kind: str, example: str) -> str:
    if authority:
        _bad("A SQLite URL has three slashes before a relative path, four before an absolute one", url, example)
    name = path[1:]
    if not name or name.endswith("/") or "\0" in name:
        _bad("No file named", url, example)
    if name == ":memory:" or name.startswith("file:"):
        _bad(f"A {kind} in memory cannot be shared, name a file", url, example)
    return name


def _other_board(url: str, scheme: str, authority: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """For TaskFlow's own boards, under the names their classes take (redis: ``host``, ``port``, ``db`` …)."""
    conf: dict[str, Any] = {"board": scheme}
    userinfo, _, hosts = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    if hosts:
        host, _, port = _host(url, hosts if ":" in hosts else f"{hosts}:1", f"{scheme}://host/").rpartition(":")
        conf["host"] = host.strip("[]")
        if ":" in hosts:
            conf["port"] = int(port)
    conf |= {name: unquote(text) for name, text in (("username", user), ("password", password)) if text}
    if scheme.startswith("redis"):
        database = path.strip("/")
        if database and not database.isdigit():
            _bad("A redis path is a database number", url, "redis://host:6379/0?namespace=taskflow")
        conf |= {"db": int(database)} if database else {}
    elif path.strip("/"):
        conf["path"] = path
    return conf | dict(query)


def store_conf(url: str) -> dict[str, Any]:
    """The conf of the store at ``url``: ``connection`` is an SQLAlchemy URL whose driver is installed.

    :raises UsageError: one line with an example, or with what to install.
    """
    scheme, authority, path, _ = _split(url, _STORES, "store")
    kind, plus, driver = scheme.partition("+")
    kind = "postgresql" if kind == "postgres" else kind
    rest = url.strip().partition("://")[2]
    if kind == "sqlite":
        _file(url, authority, path, "store", "sqlite:////srv/flows.db")
    elif kind in _DRIVERS:
        example = f"{kind}://user@host/flows"
        if not path.strip("/"):
            _bad("No database named", url, example)
        if not plus:
            driver = _driver(kind)
    return {"connection": f"{kind}+{driver}://{rest}" if driver else f"{kind}://{rest}"}


def _driver(kind: str) -> str:
    for driver, module in _DRIVERS[kind]:
        if importlib.util.find_spec(module) is not None:
            return driver
    extra = "postgresql" if kind == "postgresql" else "mysql"
    raise UsageError(f"{kind} needs a driver: pip install 'conductor-console[{extra}]'")


def short_board(url: str) -> str:
    """How a header names the board: ``zk1,zk2,zk3/octavia_jobboard``, ``board.db``. Never raises.

    Ports are told only where they are not the usual one; two boards on one host must not read the same.
    """
    try:
        conf = board_conf(url)
    except UsageError:
        return visible(masked(url), 80)
    if conf["board"] == "sqlite":
        return visible(str(conf["path"]).rpartition("/")[2], 80)
    if conf["board"] == "zookeeper":
        hosts = ",".join(host.removesuffix(f":{DEFAULT_PORT}") for host in conf["hosts"].split(","))
        return visible(hosts + conf["path"], 80)
    where = f"{conf.get('host', '')}{conf.get('path') or '/' + str(conf.get('db', conf.get('namespace', '')))}"
    return visible(f"{conf['board']} {where}".strip(), 80)


def short_store(url: str) -> str:
    """How a header names the store: ``flows.db``, ``db1/taskflow``. Never raises.

    :param url: fit to show already, i.e. without a password.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return visible(url, 80)
    if scheme.partition("+")[0] == "sqlite":
        return visible(rest.partition("?")[0].rpartition("/")[2] or "a store in memory", 80)
    return visible(rest.rpartition("@")[2].partition("?")[0], 80)


@dataclass(frozen=True, slots=True)
class Profile:
    """A board under a name of its own; its URLs may hold passwords, so they are in no repr.

    :ivar policy: what is done with jobs that fail, as ``jobboards.policies.from_table`` reads it.
    """

    name: str
    board: str = field(repr=False)
    store: str | None = field(default=None, repr=False)
    policy: Mapping[str, Any] = field(default_factory=dict)


def profiles_file() -> Path:
    """Where profiles are: ``profiles.toml`` in the user's configuration folder, unless the environment names it."""
    named = os.environ.get(PROFILES)
    return Path(named) if named else platformdirs.user_config_path("conductor-console") / "profiles.toml"


def profile(name: str) -> Profile:
    """The profile of that name.

    :raises UsageError: there is none, or the file cannot be read; one line that says what to do.
    """
    path = profiles_file()
    shown = visible(str(path), 200)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{visible(name, 80)!r} is neither a URL ({_BOARDS}) nor a profile: there is no file {shown}"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the profiles in {shown}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"the profiles in {shown} are not TOML: {visible(error, 120)}") from error
    if not isinstance(tables.get(name), dict):
        known = ", ".join(visible(known, 40) for known in tables) or "none"
        raise UsageError(f"there is no profile {visible(name, 80)!r} in {shown}; there are: {known}")
    return _profile(name, dict(tables[name]), shown)


def _profile(name: str, table: dict[str, Any], shown: str) -> Profile:
    board, store, policy = table.pop("board", None), table.pop("store", None), table.pop("policy", {})
    where = f"the profile {visible(name, 80)} in {shown}"
    if not isinstance(board, str):
        raise UsageError(f'{where} names no board (example: board = "zk://zk1:2181/taskflow/jobs")')
    if store is not None and not isinstance(store, str):
        raise UsageError(f'{where}: store is a URL (example: store = "sqlite:////srv/flows.db")')
    if not isinstance(policy, dict):
        raise UsageError(f"{where}: policy is a table (example: [{visible(name, 40)}.policy])")
    if table:
        raise UsageError(f"{where} has no {visible(next(iter(table)), 40)!r}: there are board, store, policy")
    return Profile(name, board, store, policy)
