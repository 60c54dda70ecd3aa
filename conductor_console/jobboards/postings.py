"""Postings: the JSON that TaskFlow puts on a board, made and read.

What others posted is read with suspicion: :func:`parse` never raises, it tells what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oslo_serialization import jsonutils
from taskflow.jobs import base as taskflow_base
from taskflow.jobs.base import JobPriority

from conductor_console.text import visible

#: What may name a ledger record: safe as one element of a path and as a line on a screen.
_SAFE_UUID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+=~-]{0,127}")
#: Node names are keys themselves (of postings without a usable uuid), and begin so: no uuid may pass for one.
_NODE_PREFIX: Final = "job"
_WRAPPED: Final = re.compile(r"job(-\d{9,10})")
_SHOWN: Final = 40
#: Objects and arrays within each other. What goes on with a posting (comparing, masking, showing) is recursive, and a
#: posting must not be able to end it.
DEPTH: Final = 100


@dataclass(frozen=True, slots=True)
class Posting:
    """The fields of a posting as far as they could be read; ``problem`` is None where all of it is well formed."""

    uuid: str | None
    name: str
    priority: JobPriority = JobPriority.NORMAL
    details: Mapping[str, Any] = field(default_factory=dict)
    book_uuid: str | None = None
    book_name: str | None = None
    problem: str | None = None


def parse(raw: bytes, fallback_name: str) -> Posting:
    """Reads a posting; whatever is wrong with it is told in ``problem`` (one clean line), never raised.

    :param fallback_name: the name of a posting that tells none (its node's).
    """
    if not raw:
        return Posting(None, fallback_name, problem="empty")
    try:
        # TaskFlow takes UTF-8 alone, where Python would guess.
        data = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return Posting(None, fallback_name, problem=f"not JSON: {visible(error, 120)}")
    if raw.count(b"{") + raw.count(b"[") > DEPTH and _deep(data):
        return Posting(None, fallback_name, problem=f"nested more than {DEPTH} deep")
    if not isinstance(data, dict):
        return Posting(None, fallback_name, problem=f"not a JSON object but {type(data).__name__}")
    problems: list[str] = []
    uuid = _text(data, "uuid", problems)
    name = _text(data, "name", problems)
    priority = JobPriority.NORMAL
    if "priority" in data:
        try:
            priority = JobPriority.convert(data["priority"])
        except ValueError:
            problems.append(f"unknown priority {visible(data['priority'], _SHOWN)}, taken as NORMAL")
    details = data.get("details")
    if details is not None and not isinstance(details, dict):
        problems.append(f"details is not an object but {type(details).__name__}")
        details = None
    book = data.get("book")
    if book is not None and not isinstance(book, dict):
        problems.append(f"book is not an object but {type(book).__name__}")
        book = None
    book = book or {}
    return Posting(
        uuid=uuid,
        name=name or fallback_name,
        priority=priority,
        details=details or {},
        book_uuid=book["uuid"] if isinstance(book.get("uuid"), str) else None,
        book_name=book["name"] if isinstance(book.get("name"), str) else None,
        problem="; ".join(problems) or None,
    )


def _deep(data: Any) -> bool:
    """Whether it nests deeper than ``DEPTH``; told level by level, not by recursion."""
    level = [data]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _text(data: Mapping[str, Any], field_name: str, problems: list[str]) -> str | None:
    value = data.get(field_name)
    if isinstance(value, str) and value:
        return value
    problems.append(f"no {field_name}" if value in (None, "") else f"{field_name} is not a string")
    return None


def key_of(uuid: str | None, node: str) -> str:
    """What identifies a job on its board and names its ledger record.

    That is its uuid; its node's name where the uuid is missing or not usable as a part of a path (slashes, control
    characters, ``.`` and ``..``, over 128 characters), or looks like a node's name.
    """
    if uuid is not None and _SAFE_UUID.fullmatch(uuid) and not uuid.startswith(_NODE_PREFIX):
        return uuid
    return node


def in_order(node: str) -> str:
    """What puts nodes in the order in which they were posted, as text.

    A sequence that went beyond 2**31 - 1 goes on below zero: ``job-2147483648`` comes after ``job2147483647``.
    """
    wrapped = _WRAPPED.fullmatch(node)
    return node if wrapped is None else f"{_NODE_PREFIX}{int(wrapped[1]) + (1 << 32)}"


def format_posting(
    uuid: str,
    name: str,
    book: Any = None,
    details: Mapping[str, Any] | None = None,
    priority: JobPriority = JobPriority.NORMAL,
) -> bytes:
    """A posting as TaskFlow writes it, UTF-8 JSON; ``book`` is a logbook (its name and uuid are what goes in)."""
    posting = taskflow_base.format_posting(uuid, name, details=details, book=book, priority=priority)
    text: str = jsonutils.dumps(posting)
    return text.encode()
