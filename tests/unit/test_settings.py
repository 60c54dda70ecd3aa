"""URLs of boards and stores: what they become, and what a bad one is answered."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.errors import UsageError
from conductor_console.settings import board_conf, masked, short_board, short_store, store_conf


@pytest.mark.parametrize(
    ("url", "hosts", "path"),
    [
        ("zk://h1/p", "h1:2181", "/p"),
        ("zookeeper://h1:2182,h2/p/q/", "h1:2182,h2:2181", "/p/q"),
        ("ZK://h1:2181", "h1:2181", "/taskflow/jobs"),
        ("zk://h1:2181/", "h1:2181", "/taskflow/jobs"),
        ("zk://[::1],[fe80::2]:2999/p", "[::1]:2181,[fe80::2]:2999", "/p"),
        ("zk://h/a%40b", "h:2181", "/a@b"),
    ],
)
def test_zookeeper(url: str, hosts: str, path: str) -> None:
    assert board_conf(url) == {"board": "zookeeper", "hosts": hosts, "path": path}


def test_zookeeper_credentials_parameters_and_tls() -> None:
    conf = board_conf("zks://ops:p%40ss%2F@h1,h2/p?timeout=7.5&ca=/etc/ca.pem&verify_certs=no")
    assert conf["auth_data"] == [("digest", "ops:p@ss/")]
    assert conf["timeout"] == 7.5
    assert conf["ca"] == "/etc/ca.pem"
    assert conf["verify_certs"] is False
    assert conf["use_ssl"] is True


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///board.db", "board.db"), ("sqlite:////srv/a b@c.db", "/srv/a b@c.db")]
)
def test_sqlite_board(url: str, path: str) -> None:
    assert board_conf(url) == {"board": "sqlite", "path": path}
    assert board_conf(f"{url}?timeout=2") == {"board": "sqlite", "path": path, "timeout": 2.0}


def test_other_boards_are_handed_on_to_taskflow() -> None:
    assert board_conf("redis://me:s3@h:6380/2?namespace=jobs") == {
        "board": "redis",
        "host": "h",
        "port": 6380,
        "username": "me",
        "password": "s3",
        "db": 2,
        "namespace": "jobs",
    }
    assert board_conf("etcd://h:2379/taskflow/jobs") == {
        "board": "etcd",
        "host": "h",
        "port": 2379,
        "path": "/taskflow/jobs",
    }


BAD_BOARDS: list[Any] = [
    "",
    "  ",
    None,
    "h1:2181",
    "zk:/h1/p",
    "zk://",
    "zk:///p",
    "zk://h1,,h2/p",
    "zk://h1:port/p",
    "zk://h1:0/p",
    "zk://h1:65536/p",
    "zk://[::1/p",
    "zk://::1/p",
    "zk://h1//p",
    "zk://h1/p/../q",
    "zk://h1/zookeeper",
    "zk://user@h1/p",
    "zk://:s3cret@h1/p",
    "zk://ops:s3cret/x@h1/p",
    "zk://ops:s3cret?x@h1/p?timeout=z",
    "zk://h1/p?tmeout=1",
    "zk://h1/p?timeout=soon",
    "zk://h1/p?timeout=-1",
    "zk://h1/p?timeout=nan",
    "zk://h1/p?timeout",
    "zk://h1/p?verify_certs=maybe",
    "zk://h1/p\x1b[2J",
    "sqlite://board.db",
    "sqlite://",
    "sqlite:///",
    "sqlite:////srv/",
    "sqlite:///:memory:",
    "sqlite:///x.db?mode=ro",
    "redis://h/notanumber",
]


@pytest.mark.parametrize("url", BAD_BOARDS)
def test_a_bad_board_is_one_line_with_an_example_and_no_secret(url: Any) -> None:
    with pytest.raises(UsageError) as raised:
        board_conf(url)
    line = str(raised.value)
    assert "\n" not in line
    assert "example" in line
    assert "s3cret" not in line
    assert "\x1b" not in line
    assert "s3cret" not in short_board(url)


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("sqlite:////srv/x.db?timeout=3", "sqlite:////srv/x.db?timeout=3"),
        ("mysql+mysqldb://u:p@h/flows", "mysql+mysqldb://u:p@h/flows"),
        ("memory://", "memory://"),
    ],
)
def test_store(url: str, connection: str) -> None:
    assert store_conf(url) == {"connection": connection}


@pytest.mark.parametrize(
    ("installed", "url", "connection"),
    [
        ("psycopg", "postgresql://u:p%40@h:5432/flows", "postgresql+psycopg://u:p%40@h:5432/flows"),
        ("psycopg2", "postgres://h/flows?sslmode=require", "postgresql+psycopg2://h/flows?sslmode=require"),
        ("pymysql", "mysql://u@h/flows", "mysql+pymysql://u@h/flows"),
        ("MySQLdb", "mariadb://u@h/flows", "mariadb+mysqldb://u@h/flows"),
    ],
)
def test_a_store_gets_the_driver_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: str, url: str, connection: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == installed else None)
    assert store_conf(url) == {"connection": connection}


def test_a_missing_driver_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'conductor-console\[mysql\]'"):
        store_conf("mysql://u@h/flows")


@pytest.mark.parametrize(
    "url",
    ["", "flows.db", "sqlite://flows.db", "sqlite:///", "sqlite:///:memory:", "mysql://h", "postgresql://u:s3cret@h/"],
)
def test_a_bad_store_is_one_line_with_an_example_and_no_secret(url: str) -> None:
    with pytest.raises(UsageError, match="example") as raised:
        store_conf(url)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "short"),
    [
        ("zk://zk1:2181,zk2:2181,zk3/octavia_jobboard", "zk1,zk2,zk3/octavia_jobboard"),
        ("zk://ops:s3cret@127.0.0.1:4711/p", "127.0.0.1:4711/p"),
        ("sqlite:////srv/taskflow/board.db", "board.db"),
        ("redis://:s3cret@h/1", "redis h/1"),
        ("nonsense \x1b[0m", "nonsense \\x1b[0m"),
    ],
)
def test_short_board(url: str, short: str) -> None:
    assert short_board(url) == short


@given(st.text())
def test_for_people_nothing_raises(url: str) -> None:
    assert isinstance(masked(url), str)
    assert short_board(url).isprintable()


@given(
    st.sampled_from(["zk", "mysql", "redis", "postgresql+psycopg"]),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S"))),
    st.sampled_from(["/p", "", "/p?timeout=4", "?a=b@c"]),
)
def test_no_password_is_ever_shown(scheme: str, noise: str, rest: str) -> None:
    secret = f"qQ7{noise}Zz9"
    url = f"{scheme}://user:{secret}@host{rest}"
    for shown in (masked(url), short_board(url)):
        assert "qQ7" not in shown
        assert "Zz9" not in shown


@pytest.mark.parametrize(
    ("url", "short"),
    [
        ("sqlite:////srv/taskflow/flows.db", "flows.db"),
        ("sqlite:///flows.db?timeout=3", "flows.db"),
        ("sqlite+pysqlite:////srv/flows.db", "flows.db"),
        ("sqlite://", "a store in memory"),
        ("mysql+pymysql://taskflow:***@db1:3307/octavia?charset=utf8", "db1:3307/octavia"),
        ("flows.db", "flows.db"),
        ("", ""),
        ("sqlite:////srv/\x1b[2J.db", "\\x1b[2J.db"),
    ],
)
def test_short_store(url: str, short: str) -> None:
    assert short_store(url) == short
