"""Poisoned sample flows: every way in which a job can go wrong, for the demo to show."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from random import Random
from typing import Any, ClassVar, Final

from taskflow import exceptions as excp
from taskflow import flow as base_flow
from taskflow import task
from taskflow.patterns import linear_flow

from conductor_console.demo.steps import Sample, Step

_HERE: Final = __name__


class QuotaExceeded(Exception):
    """The flow's own fault, and final."""


class _NeverSaved(task.Task):
    """Every save is refused; TaskFlow takes such an error for one that may pass, so the job is tried again."""

    def execute(self) -> None:
        time.sleep(0.1)
        raise excp.StorageFailure("the quota table is locked by another transaction")


class _BackLater(task.Task):
    """A service that comes back after ``outages`` attempts at the same ``ticket``."""

    _seen: ClassVar[Counter[str]] = Counter()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, name: str, ticket: str, outages: int) -> None:
        super().__init__(name, inject={"ticket": ticket, "outages": outages})

    def execute(self, ticket: str, outages: int) -> str:
        with self._lock:
            self._seen[ticket] += 1
            attempt = self._seen[ticket]
        if attempt <= outages:
            raise excp.ExecutionFailure(f"image service answered 503 at attempt {attempt}")
        return f"image service is back at attempt {attempt}"


class _OverQuota(task.Task):
    def execute(self) -> None:
        raise QuotaExceeded("project 7c1e has 20 of 20 floating addresses")


class _KillsProcess(task.Task):
    """What a bug in a C library, or the kernel short of memory, does."""

    def execute(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def storage_failure(pace: float = 1.0) -> base_flow.Flow:
    """Fails at its store for ever: the endless cycle."""
    return linear_flow.Flow("update-quota").add(Step("read-usage", 0.1 * pace), _NeverSaved("save-quota"))


def fails_twice(ticket: str, pace: float = 1.0) -> base_flow.Flow:
    """Fails twice, then works. ``ticket`` tells one job from another."""
    return linear_flow.Flow("publish-image").add(
        Step("checksum", 0.2 * pace), _BackLater("upload", ticket, 2), Step("announce", 0.1 * pace)
    )


def wrong_arguments(subnet: str) -> base_flow.Flow:
    """Posted without its argument, as after a release that added one."""
    return linear_flow.Flow("attach-subnet").add(Step(f"attach-{subnet}", 0.1))


def over_quota(pace: float = 1.0) -> base_flow.Flow:
    """A task fails for good; what was done before it is reverted."""
    return linear_flow.Flow("assign-address").add(
        Step("reserve-port", 0.2 * pace), Step("update-dns", 0.2 * pace), _OverQuota("assign")
    )


def slow(minutes: float = 0.5, pace: float = 1.0) -> base_flow.Flow:
    """Works, and takes its time."""
    flow = linear_flow.Flow("scrub-pool")
    for number in range(1, max(2, round(minutes * 60)) + 1):
        flow.add(Step(f"scrub-{number}", 1.0 * pace))
    return flow


def kills_process() -> base_flow.Flow:
    """Kills the process that runs it; never allow it to one that is wanted."""
    return linear_flow.Flow("convert-firmware").add(Step("unpack", 0.1), _KillsProcess("convert"))


def _ticket(random: Random) -> dict[str, Any]:
    return {"ticket": f"{random.getrandbits(32):08x}"}


KILLER: Final = Sample(f"{_HERE}.kills_process", "convert-firmware", ends="binned")
STORAGE: Final = Sample(f"{_HERE}.storage_failure", "update-quota", ends="binned", priority="HIGH")
SAMPLES: Final[tuple[Sample, ...]] = (
    STORAGE,
    Sample(f"{_HERE}.fails_twice", "publish-image", arguments=_ticket),
    Sample(f"{_HERE}.moved_last_release", "sync-inventory", ends="binned"),
    Sample(f"{_HERE}.wrong_arguments", "attach-subnet", ends="binned"),
    Sample(f"{_HERE}.over_quota", "assign-address", ends="failed"),
    Sample(f"{_HERE}.slow", "scrub-pool", arguments=lambda _: {"minutes": 0.1}, priority="LOW"),
)
