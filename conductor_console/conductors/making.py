"""From a job to its flow: which one it is, the values it starts with, and its factory called, within a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, Final

from taskflow import engines, task
from taskflow import exceptions as excp
from taskflow import flow as taskflow_flow
from taskflow.jobs.base import Job

from conductor_console.conductors.factories import factory_of
from conductor_console.conductors.pool import HELPERS
from conductor_console.text import plural, visible

#: Seconds that importing and calling a factory may take.
FACTORY_SECONDS: Final = 60.0


class Stopping(Exception):
    """The conductor is to stop, and the flow was not made yet."""


class NoThread(excp.ExecutionFailure):
    """There is no thread to be had: no fault of any job."""


def flow_detail_of(job: Job) -> Any:
    """The flow that a job is about: the one that its details name, else its logbook's only one.

    :raises NotFound, MultipleChoices: and why it is none, in the words of whoever posted it.
    """
    book = job.book
    if book is None:
        raise excp.NotFound("the job has no logbook: post it with the logbook that holds its flow")
    details = job.details if isinstance(job.details, Mapping) else {}
    if "flow_uuid" in details:
        wanted = details["flow_uuid"]
        if not isinstance(wanted, str):
            raise excp.NotFound(f"the job's flow_uuid is {_kind(wanted)}, not a text")
        found = book.find(wanted)
        if found is None:
            raise excp.NotFound(f"the job's logbook has no flow {visible(wanted, 80)}")
        return found
    flows = list(book)
    if not flows:
        raise excp.NotFound("the job's logbook has no flow")
    if len(flows) > 1:
        told = plural(len(flows), "flow")
        raise excp.MultipleChoices(f"the job's logbook has {told}: name one in the job's details, as flow_uuid")
    return flows[0]


def values_of(detail: Any, job: Job) -> dict[str, Any]:
    """What the flow starts with: what its meta keeps, and what the job brings, which goes before.

    :raises TypeError: when either is no object.
    """
    values: dict[str, Any] = {}
    for whose, holder in (("flow's", detail.meta), ("job's", job.details)):
        store = holder.get("store") if isinstance(holder, Mapping) else None
        if store is None:
            continue
        if not isinstance(store, Mapping):
            raise TypeError(f"the {whose} store is {_kind(store)}, not an object of names and values")
        values.update(store)
    return values


def flow_of(detail: Any, seconds: float, stopping: futures.Future[None]) -> Any:
    """The flow, as its factory makes it.

    The factory is somebody's code: it is imported and called in a thread that can be left behind.

    :param stopping: done when nothing is to be waited for any more.
    :raises Stopping: and the flow was not made.
    :raises TimeoutError: it took longer than ``seconds``; its thread cannot be ended.
    :raises BaseException: whatever the factory raises, ``SystemExit`` included.
    """
    _check_factory(detail)
    with HELPERS.used() as pool:
        try:
            making = pool.submit(engines.flow_from_detail, detail)
        except RuntimeError as error:
            raise NoThread(f"no thread for the factory: {error}") from error
        futures.wait([making, stopping], seconds, futures.FIRST_COMPLETED)
    name = visible(factory_of(detail) or "", 200)
    if not making.done():
        if stopping.done():
            raise Stopping
        raise TimeoutError(f"the factory {name} did not return within {seconds:g} s")
    raised = making.exception()
    if raised is not None:
        raise raised
    flow = making.result()
    if not isinstance(flow, (taskflow_flow.Flow, task.Task)):
        raise TypeError(f"the factory {name} returned {_kind(flow)}, not a flow")
    return flow


def _check_factory(detail: Any) -> None:
    """:raises ValueError: what the flow tells of its factory is nothing that could be called."""
    if factory_of(detail) is None:
        raise ValueError(f"the flow {visible(detail.name, 80)} names no factory: save it with save_factory_details()")
    told = detail.meta["factory"]
    args, kwargs = told.get("args", ()), told.get("kwargs", {})
    if not isinstance(args, Sequence) or isinstance(args, str):
        raise ValueError(f"the arguments of the flow's factory are {_kind(args)}, not a list")
    if not isinstance(kwargs, Mapping):
        raise ValueError(f"the keyword arguments of the flow's factory are {_kind(kwargs)}, not an object")


def _kind(value: Any) -> str:
    """What a value is, in JSON's words where it has one."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {visible(type(value).__name__, 80)}")
