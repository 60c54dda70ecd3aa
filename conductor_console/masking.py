"""Secrets kept out of sight: in job details, stores, exports, logs and URLs.

Pure functions. They err on the side of hiding: what only looks like a secret is masked as well.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from conductor_console.text import size

#: Deeper than this nothing is walked; foreign data may nest as deep as a parser lets it.
DEPTH: Final = 40
HIDDEN: Final = "***"

_WORDS: Final = frozenset(
    {"password", "passwd", "passphrase", "pwd", "pass", "secret", "token", "credential", "cred", "pem", "auth"}
    | {"authorization", "cookie", "jwt", "apikey", "privatekey", "secretkey", "accesskey", "keyfile"}
)
#: A key is a name for many things; with one of these before it, it is a secret.
_KEYS: Final = frozenset(
    {"private", "api", "access", "secret", "ssh", "encryption", "signing", "master", "shared", "fernet"}
    | {"tls", "ssl", "client", "host"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VALUES = re.compile(
    r"-----BEGIN [A-Z0-9 ]*(?:PRIVATE KEY|CERTIFICATE)"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JSON web tokens
    r"|\bgAAAAA[\w-]{40,}"  # Fernet
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_\w{20,}"
    r"|\b(?:Bearer|Basic)\s+[\w+/=.~-]{12,}"
    r"|(?i:\b\w*(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key)\w*\s*[=:]\s*[^\s,;&]+)"
)
_URL_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s\"'<>]*@[^\s\"'<>]*")
_URL = re.compile(r"([A-Za-z][\w+.-]*://)([^/]*)(.*)", re.DOTALL)


@functools.lru_cache(maxsize=1024)
def secret_name(name: str) -> bool:
    """Whether a key of this name usually holds a secret: ``admin_password``, ``serverPem``, ``private-key``."""
    words = [word.lower() for word in _WORD.findall(name)]
    words += [word[:-1] for word in words if word.endswith("s")]
    if not _WORDS.isdisjoint(words):
        return True
    return not {"key", "keys"}.isdisjoint(words) and not _KEYS.isdisjoint(words)


def secret_value(value: str) -> bool:
    """Whether a text holds what looks like a secret, under whatever name: a PEM block, a token, ``password=``."""
    return _VALUES.search(value) is not None


def masked(details: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``details`` in which what looks secret reads ``masked, 3.2 KB``; safe to show, export and log.

    Names decide first, then values. None, booleans and empty values are kept: they give nothing away. What nests
    deeper than ``DEPTH`` is replaced by a note.
    """
    return _mapping(details, 0)


def _mapping(details: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {str(key): _value(value, depth + 1, secret_name(str(key))) for key, value in details.items()}


def _value(value: Any, depth: int, secret: bool) -> Any:
    if value is None or isinstance(value, bool) or (not value and not isinstance(value, int | float)):
        return value
    if secret:
        return f"masked, {size(_octets(value))}"
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    if isinstance(value, str):
        if secret_value(value):
            return f"masked, {size(_octets(value))}"
        return _URL_IN_TEXT.sub(lambda found: masked_url(found.group()), value)
    if depth > DEPTH:
        return f"not shown, nested deeper than {DEPTH}" if isinstance(value, Mapping | Sequence) else value
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, Sequence | set | frozenset):
        return [_value(item, depth + 1, False) for item in value]
    return value


def _octets(value: Any) -> int:
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    try:
        return len(json.dumps(value, default=str))
    except (ValueError, TypeError, RecursionError):
        return len(str(type(value)))


def masked_url(url: object) -> str:
    """``url`` without its password, wherever it stands (also in query parameters). Never raises.

    A URL that is not well formed loses more rather than less: ``zk://u:p/w@h`` reads ``zk://u:***@h``.
    """
    text = url if isinstance(url, str) else str(url)
    found = _URL.fullmatch(text)
    if found is None:
        return _assignments(text)
    scheme, authority, rest = found.groups()
    path, mark, query = rest.partition("?")
    if "@" in rest and (":" in authority or "@" in authority):
        # Maybe a password with an unescaped slash or question mark: everything up to the last @ is taken for it.
        head, _, tail = (authority + rest).rpartition("@")
        path, mark, query = tail.partition("?")
        authority = f"{head}@"
    elif not mark and "@" not in authority:
        authority, mark, query = authority.partition("?")
    userinfo, at, hosts = authority.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        authority = f"{user}{colon}{HIDDEN if colon else ''}@{hosts}"
    return scheme + authority + path + mark + _query(query)


def _query(query: str) -> str:
    return "&".join(_parameter(pair) for pair in query.split("&"))


def _parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals or not value:
        return pair
    clear = unquote_plus(value)
    if secret_name(unquote_plus(name)) or secret_value(clear) or _URL_IN_TEXT.search(clear):
        return f"{name}={HIDDEN}"
    return pair


def _assignments(text: str) -> str:
    """What is no URL (``host=db password=x``), every secret-looking assignment hidden."""
    shown = re.sub(
        r"([\w-]+)(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&;]+)",
        lambda found: f"{found[1]}{found[2]}{HIDDEN}" if secret_name(found[1]) else found[0],
        text,
    )
    return re.sub(r":[^:@\s/]*@", f":{HIDDEN}@", shown)
