"""Flows of every kind, healthy and poisoned: factories that tests name, and the board and store to run them on.

What a flow did is told by files: a task appends one line to the file it was given, so that an effect that happened
twice shows, whichever process it happened in.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskflow import exceptions as excp
from taskflow import retry, task
from taskflow.jobs.base import JobPriority
from taskflow.patterns import linear_flow, unordered_flow
from taskflow.persistence import models

#: Seconds a gated task waits for its gate before it gives up: only reached when a test is broken.
GATE_SECONDS = 60.0


class Broken(Exception):
    """What a poisoned flow raises for a fault of its own."""


def append(path: str, line: str) -> None:
    """One line more, whole, whoever else writes."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def lines(path: str | Path) -> list[str]:
    """What was appended so far."""
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_text(encoding="utf-8").splitlines()
    return []


class Mark(task.Task):
    """Appends its name when it is executed, its name and ``-reverted`` when it is reverted."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path

    def execute(self) -> str:
        append(self._path, self.name)
        return self.name

    def revert(self, **_kwargs: Any) -> None:
        append(self._path, f"{self.name}-reverted")


class Fail(task.Task):
    """Raises; the first ``times`` executions only, where that is given (counted in a file)."""

    def __init__(self, error: BaseException, path: str | None = None, times: int | None = None) -> None:
        super().__init__("fail")
        self._error = error
        self._path = path
        self._times = times

    def execute(self) -> None:
        if self._path is not None:
            append(self._path, self.name)
            if self._times is not None and lines(self._path).count(self.name) > self._times:
                return
        raise self._error


class RefuseToRevert(task.Task):
    """Raises when it is reverted."""

    def execute(self) -> None:
        """Nothing to do."""

    def revert(self, **_kwargs: Any) -> None:
        raise Broken("cannot be undone")


class Gated(task.Task):
    """Says that it began, then waits until its gate (a file) is there."""

    def __init__(self, name: str, path: str, gate: str) -> None:
        super().__init__(name)
        self._path = path
        self._gate = gate

    def execute(self) -> None:
        append(self._path, f"{self.name}-began")
        pause = threading.Event()
        for _ in range(int(GATE_SECONDS / 0.02)):
            if Path(self._gate).exists():
                append(self._path, self.name)
                return
            pause.wait(0.02)
        raise Broken("nobody opened the gate")


class FailWhile(task.Task):
    """Raises an internal error as long as a file is there."""

    def __init__(self, cause: str) -> None:
        super().__init__("fail-while")
        self._cause = cause

    def execute(self) -> None:
        if Path(self._cause).exists():
            raise excp.StorageFailure("no room on 10.0.0.7")


class Die(task.Task):
    """Ends its process as ``kill -9`` does; once only, told by a file."""

    def __init__(self, path: str) -> None:
        super().__init__("die")
        self._path = path

    def execute(self) -> None:
        first = self.name not in lines(self._path)
        append(self._path, self.name)
        if first:
            os.kill(os.getpid(), signal.SIGKILL)


class Want(task.Task):
    """Needs a value."""

    def execute(self, wanted: Any) -> Any:
        return wanted


class Lapse(task.Task):
    """Says that it began, then waits for its gate, or until its process was stopped for a while and continued."""

    def __init__(self, name: str, path: str, gate: str) -> None:
        super().__init__(name)
        self._path = path
        self._gate = gate

    def execute(self) -> None:
        append(self._path, f"{self.name}-began {os.getpid()}")
        pause = threading.Event()
        looked = began = time.monotonic()
        while not Path(self._gate).exists() and looked - began < GATE_SECONDS:
            pause.wait(0.01)
            before, looked = looked, time.monotonic()
            if looked - before > 1.0:
                return


class Sign(task.Task):
    """Appends its name and its process."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._path = path

    def execute(self) -> None:
        append(self._path, f"{self.name} {os.getpid()}")


class Far(task.Task):
    """What a worker elsewhere can make by name alone: all it needs comes with the call."""

    def execute(self, path: str) -> int:
        append(path, f"{self.name} {os.getpid()}")
        return os.getpid()


class Chain(task.Task):
    """One of a row: tells what the one before it made, and makes something new each time."""

    def __init__(self, number: int, job: str, path: str, seconds: float) -> None:
        super().__init__(
            f"a{number}", provides=f"made{number}", rebind={"got": f"made{number - 1}" if number else "seed"}
        )
        self._number = number
        self._job = job
        self._path = path
        self._seconds = seconds

    def execute(self, got: str) -> str:
        made = uuid.uuid4().hex
        told = {"job": self._job, "atom": self._number, "got": got, "made": made, "pid": os.getpid(), "at": time.time()}
        append(self._path, json.dumps(told))
        threading.Event().wait(self._seconds)
        return made


class TryThrice(retry.Times):
    """Three tries."""

    def __init__(self) -> None:
        super().__init__(3, "thrice")


def _flow(*atoms: Any, controller: retry.Retry | None = None) -> linear_flow.Flow:
    return linear_flow.Flow("flow", retry=controller).add(*atoms)


def fine(path: str) -> linear_flow.Flow:
    return _flow(Mark("one", path), Mark("two", path))


def line(path: str, text: str) -> linear_flow.Flow:
    """One effect with a text of its own."""
    return _flow(Mark(text, path))


def fails(path: str) -> linear_flow.Flow:
    return _flow(Mark("one", path), Fail(Broken("out of spares"), path))


def fails_to_revert(path: str) -> linear_flow.Flow:
    return _flow(RefuseToRevert("stubborn"), Fail(Broken("out of spares"), path))


def fails_thrice(path: str) -> linear_flow.Flow:
    return _flow(Fail(Broken("out of spares"), path), controller=TryThrice())


def fails_first(path: str, times: int) -> linear_flow.Flow:
    """Fails by an internal error so many times, then goes well."""
    return _flow(Mark("one", path), Fail(excp.StorageFailure("no room on 10.0.0.7"), path, times))


def fails_while(path: str, cause: str) -> linear_flow.Flow:
    """Fails by an internal error as long as the file ``cause`` is there."""
    return _flow(FailWhile(cause), Mark("done", path))


def storage_failure(path: str) -> linear_flow.Flow:
    return _flow(Fail(excp.StorageFailure("no room on 10.0.0.7"), path))


def execution_failure(path: str) -> linear_flow.Flow:
    return _flow(Fail(excp.ExecutionFailure("worker gone"), path))


def exits(path: str) -> linear_flow.Flow:
    """Its task calls ``sys.exit``."""
    return _flow(Fail(SystemExit("enough"), path))


def gated(path: str, gate: str) -> linear_flow.Flow:
    return _flow(Mark("one", path), Gated("two", path, gate), Mark("three", path))


def wide(path: str, gate: str, number: int) -> unordered_flow.Flow:
    """So many tasks that may run at the same time."""
    return unordered_flow.Flow("wide").add(*(Gated(f"t{each}", path, gate) for each in range(number)))


def uneven(path: str, *gates: str) -> unordered_flow.Flow:
    """Tasks at the same time, each with a gate of its own."""
    return unordered_flow.Flow("uneven").add(*(Gated(f"t{each}", path, gate) for each, gate in enumerate(gates)))


def wide_exits(path: str) -> unordered_flow.Flow:
    return unordered_flow.Flow("wide").add(Mark("one", path), Fail(SystemExit("enough"), path))


def lapses(path: str, gate: str) -> linear_flow.Flow:
    return _flow(Sign("one", path), Lapse("two", path, gate), Sign("three", path))


def far() -> linear_flow.Flow:
    return _flow(Far("one"), Far("two"))


def chain(job: str, path: str, number: int, seconds: float) -> linear_flow.Flow:
    """So many tasks in a row, each with what the one before made; ``seed`` is the job's to bring."""
    return _flow(*(Chain(each, job, path, seconds) for each in range(number)))


def dies(path: str) -> linear_flow.Flow:
    return _flow(Mark("one", path), Die(path), Mark("three", path))


def wants() -> linear_flow.Flow:
    """Has a task whose argument nobody provides."""
    return _flow(Want("want"))


def factory_raises() -> linear_flow.Flow:
    raise Broken("no such amphora")


def factory_misses_a_module() -> linear_flow.Flow:
    return linear_flow.Flow(importlib.import_module("nowhere_to_be_found").NAME)


def factory_returns_nothing() -> None:
    """It forgot to."""


def factory_makes_twins() -> linear_flow.Flow:
    return _flow(Want("twin"), Want("twin"))


def factory_exits() -> linear_flow.Flow:
    sys.exit("factory")


def post(
    board: Any,
    persistence: Any,
    factory: str,
    *args: Any,
    name: str = "job",
    book: bool = True,
    details: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
    job_store: Mapping[str, Any] | None = None,
    flow_store: Mapping[str, Any] | None = None,
    priority: str = "NORMAL",
) -> tuple[Any, Any]:
    """Saves a flow of the named factory, imported or not, and posts a job for it.

    :param factory: a name in this module, or a full one with dots.
    :param book: False posts a job without a logbook.
    :param job_store: values that the job brings; ``flow_store``: those that the flow's detail keeps.
    :returns: the job and the flow's detail.
    """
    full = factory if "." in factory else f"{__name__}.{factory}"
    logbook = models.LogBook(name)
    detail = models.FlowDetail(name, models.uuidutils.generate_uuid())
    detail.meta = {"factory": {"name": full, "args": list(args), "kwargs": {}}} if meta is None else dict(meta)
    if flow_store is not None:
        detail.meta["store"] = dict(flow_store)
    logbook.add(detail)
    with contextlib.closing(persistence.get_connection()) as connection:
        connection.save_logbook(logbook)
    told: dict[str, Any] = {"flow_uuid": detail.uuid} if details is None else dict(details)
    if job_store is not None:
        told["store"] = dict(job_store)
    return board.post(name, book=logbook if book else None, details=told, priority=JobPriority(priority)), detail


def flow_state(persistence: Any, flow_uuid: str) -> str | None:
    """A flow's state as it is stored."""
    with contextlib.closing(persistence.get_connection()) as connection:
        state: str | None = connection.get_flow_details(flow_uuid).state
        return state
