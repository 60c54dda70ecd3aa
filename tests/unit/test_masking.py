"""Secrets in details, stores and URLs: hidden by name and by value; what is no secret stays readable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.masking import masked, masked_url, secret_name

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "name",
    ["password", "admin_password", "adminPass", "DB-PASSWD", "auth_token", "tokens", "X-Auth-Token", "serverPem",
     "server_pem", "private_key", "apiKey", "API_KEY", "ssh-keys", "credentials", "tls_passphrase", "AWSSecretKey"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["name", "author", "key", "key_name", "keyboard", "member_id", "loadbalancer_id", "compass", "passive", "monkey"],
)
def test_plain_names(name: str) -> None:
    assert not secret_name(name)


def test_details() -> None:
    details: dict[str, Any] = {
        "flow_uuid": "1f0c",
        "store": {"password": "x" * 3277, "count": 3, "keys": ["a", {"token": "t"}], "auth": None, "secret": True},
        "server_pem": b"abc",
        "cert": PEM,
        "note": f"sent {JWT}",
        "line": "use password=hunter2 there",
        "callback": "see https://me:hunter2@h/x for it",
        "pin_token": 0,
        "nested_secret": {"a": ["b"]},
    }
    shown = masked(details)
    assert shown == {
        "flow_uuid": "1f0c",
        "store": {
            "password": "masked, 3.2 KB",
            "count": 3,
            "keys": ["a", {"token": "masked, 1 byte"}],
            "auth": None,
            "secret": True,
        },
        "server_pem": "masked, 3 bytes",
        "cert": f"masked, {len(PEM)} bytes",
        "note": f"masked, {len(JWT) + 5} bytes",
        "line": "masked, 26 bytes",
        "callback": "see https://me:***@h/x for it",
        "pin_token": "masked, 1 byte",
        "nested_secret": "masked, 12 bytes",
    }
    assert details["store"]["password"] == "x" * 3277


def test_deep_data_ends_in_a_note() -> None:
    deep: dict[str, Any] = {"password": "hunter2"}
    for _ in range(500):
        deep = {"a": deep}
    shown = json.dumps(masked(deep))
    assert "nested deeper" in shown
    assert "hunter2" not in shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=12), json_values, max_size=4))
def test_any_json_is_masked_to_json(details: dict[str, Any]) -> None:
    assert json.dumps(masked(details)) == json.dumps(masked(json.loads(json.dumps(details))))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("zk://u:pw@h1,h2/p", "zk://u:***@h1,h2/p"),
        ("zk://u:p@w@h1/p", "zk://u:***@h1/p"),
        ("zk://u:p/w@h1/p", "zk://u:***@h1/p"),
        ("zk://u:p?w@h1/p", "zk://u:***@h1/p"),
        ("redis://:pw@h", "redis://:***@h"),
        ("zk://h1:1,h2:2/p?timeout=3", "zk://h1:1,h2:2/p?timeout=3"),
        ("zk://h1?token=x&timeout=3", "zk://h1?token=***&timeout=3"),
        ("sqlite:////srv/a@b.db", "sqlite:////srv/a@b.db"),
        ("postgresql://h/x?pass%77ord=a&sslmode=on", "postgresql://h/x?pass%77ord=***&sslmode=on"),
        ("mssql://?odbc_connect=UID%3Dme%3BPWD%3Dx", "mssql://?odbc_connect=***"),
        ("host=db password='a b' user=me", "host=db password=*** user=me"),
        (None, "None"),
    ],
)
def test_urls(url: object, shown: str) -> None:
    assert masked_url(url) == shown
