"""Healthy sample flows, as a cloud's control plane runs them: linear, graph and unordered, some with retries.

``pace`` stretches every step: 1 is what the demo shows, 0 runs at once.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any, Final

from taskflow import flow as base_flow
from taskflow import retry, task
from taskflow.patterns import graph_flow, linear_flow, unordered_flow

from conductor_console.demo.steps import Sample, Step

_HERE: Final = __name__


class NotReady(Exception):
    """What was asked for is not there yet; asking again helps."""


class _SlowToAnswer(task.Task):
    """Refuses until its retry has counted to ``tries``: an agent that is still booting."""

    def __init__(self, name: str, seconds: float, tries: int) -> None:
        super().__init__(name)
        self._seconds = seconds
        self._tries = tries

    def execute(self, attempt: int) -> str:
        time.sleep(self._seconds)
        if attempt < self._tries:
            raise NotReady(f"the agent on 10.0.0.{10 + attempt} does not answer yet")
        return f"answered at try {attempt}"


class _Sum(task.Task):
    """Adds up what the parts of a report brought."""

    def __init__(self, name: str, parts: list[str]) -> None:
        super().__init__(name, requires=parts)

    def execute(self, **parts: Any) -> int:
        return sum(len(str(part)) for part in parts.values())


def create_load_balancer(listeners: int = 2, pace: float = 1.0) -> base_flow.Flow:
    """Linear, its listeners side by side."""
    ports = unordered_flow.Flow("listeners")
    for number in range(1, listeners + 1):
        ports.add(Step(f"create-listener-{number}", 0.3 * pace, requires=["vip"]))
    return linear_flow.Flow("create-load-balancer").add(
        Step("allocate-vip", 0.2 * pace, provides="vip"),
        Step("boot-amphora", 0.9 * pace, provides="amphora"),
        Step("plug-vip", 0.4 * pace, requires=["vip", "amphora"]),
        ports,
        Step("mark-active", 0.05 * pace),
    )


def delete_load_balancer(pace: float = 1.0) -> base_flow.Flow:
    """Linear and short."""
    return linear_flow.Flow("delete-load-balancer").add(
        Step("mark-deleting", 0.05 * pace),
        Step("unplug-vip", 0.3 * pace),
        Step("delete-amphora", 0.4 * pace),
        Step("release-vip", 0.1 * pace),
    )


def failover_amphora(tries: int = 2, pace: float = 1.0) -> base_flow.Flow:
    """A retry that is needed: the new agent answers at the second or third try."""
    agent = linear_flow.Flow("wait-for-agent", retry=retry.Times(5, name="agent-retry", provides="attempt"))
    agent.add(_SlowToAnswer("ask-agent", 0.3 * pace, tries))
    return linear_flow.Flow("failover-amphora").add(
        Step("boot-spare", 0.8 * pace, provides="spare"),
        agent,
        Step("move-vip", 0.3 * pace, requires=["spare"]),
        Step("delete-failed", 0.2 * pace),
    )


def create_instance(pace: float = 1.0) -> base_flow.Flow:
    """A graph: network and volume side by side, the boot needs both."""
    return graph_flow.Flow("create-instance").add(
        Step("pick-host", 0.1 * pace, provides="host"),
        Step("create-port", 0.4 * pace, provides="port", requires=["host"]),
        Step("create-volume", 0.7 * pace, provides="volume", requires=["host"]),
        Step("boot", 0.9 * pace, requires=["host", "port", "volume"]),
    )


def migrate_instance(gigabytes: int = 4, pace: float = 1.0) -> base_flow.Flow:
    """A longer one: memory goes over in rounds."""
    flow = linear_flow.Flow("migrate-instance").add(Step("reserve-target", 0.3 * pace, provides="target"))
    for number in range(1, gigabytes + 1):
        flow.add(Step(f"copy-memory-{number}", 1.0 * pace, requires=["target"]))
    return flow.add(Step("switch-over", 0.5 * pace, requires=["target"]), Step("free-source", 0.2 * pace))


def resize_volume(gigabytes: int = 20, pace: float = 1.0) -> base_flow.Flow:
    """Linear, under a retry that is not needed."""
    return linear_flow.Flow("resize-volume", retry=retry.Times(3, name="resize-retry")).add(
        Step("lock-volume", 0.05 * pace),
        Step(f"grow-to-{gigabytes}-gb", 0.8 * pace, provides="grown"),
        Step("grow-filesystem", 0.4 * pace, requires=["grown"]),
        Step("unlock-volume", 0.05 * pace),
    )


def snapshot_volume(pace: float = 1.0) -> base_flow.Flow:
    """Linear."""
    return linear_flow.Flow("snapshot-volume").add(
        Step("freeze", 0.1 * pace), Step("copy-blocks", 1.5 * pace, provides="image"), Step("thaw", 0.1 * pace)
    )


def provision_network(subnets: int = 3, pace: float = 1.0) -> base_flow.Flow:
    """A graph: a network, its subnets, one router over all."""
    flow = graph_flow.Flow("provision-network").add(Step("create-network", 0.3 * pace, provides="network"))
    names = [f"subnet-{number}" for number in range(1, subnets + 1)]
    for name in names:
        flow.add(Step(f"create-{name}", 0.3 * pace, provides=name, requires=["network"]))
    return flow.add(Step("create-router", 0.4 * pace, requires=names))


def rotate_certificate(pace: float = 1.0) -> base_flow.Flow:
    """Linear, short."""
    return linear_flow.Flow("rotate-certificate").add(
        Step("issue", 0.3 * pace, provides="serial"),
        Step("push-to-amphorae", 0.6 * pace, requires=["serial"]),
        Step("revoke-old", 0.1 * pace),
    )


def nightly_report(regions: int = 5, pace: float = 1.0) -> base_flow.Flow:
    """Regions side by side, then a sum."""
    names = [f"region-{number}" for number in range(1, regions + 1)]
    parts = unordered_flow.Flow("regions")
    for name in names:
        parts.add(Step(f"read-{name}", 0.4 * pace, provides=name))
    return linear_flow.Flow("nightly-report").add(parts, _Sum("sum-up", names), Step("send", 0.1 * pace))


def rebuild_index(shards: int = 8, pace: float = 1.0) -> base_flow.Flow:
    """Unordered and wide."""
    flow = unordered_flow.Flow("rebuild-index")
    for number in range(1, shards + 1):
        flow.add(Step(f"shard-{number}", 0.25 * pace))
    return flow


def scale_out(members: int = 3, pace: float = 1.0) -> base_flow.Flow:
    """Members one after the other, each of two steps."""
    flow = linear_flow.Flow("scale-out")
    for number in range(1, members + 1):
        flow.add(
            linear_flow.Flow(f"member-{number}").add(
                Step(f"boot-member-{number}", 0.5 * pace, provides=f"member-{number}"),
                Step(f"join-pool-{number}", 0.2 * pace, requires=[f"member-{number}"]),
            )
        )
    return flow


def send_invoices(customers: int = 4, pace: float = 1.0) -> base_flow.Flow:
    """Unordered pairs after one reading."""
    flow = graph_flow.Flow("send-invoices").add(Step("read-usage", 0.5 * pace, provides="usage"))
    for number in range(1, customers + 1):
        flow.add(
            Step(f"bill-{number}", 0.2 * pace, provides=f"bill-{number}", requires=["usage"]),
            Step(f"mail-{number}", 0.1 * pace, requires=[f"bill-{number}"]),
        )
    return flow


def _some(name: str, low: int, high: int) -> Any:
    def drawn(random: Random) -> dict[str, int]:
        return {name: random.randint(low, high)}

    return drawn


SAMPLES: Final[tuple[Sample, ...]] = (
    Sample(f"{_HERE}.create_load_balancer", "create-load-balancer", arguments=_some("listeners", 1, 4)),
    Sample(f"{_HERE}.delete_load_balancer", "delete-load-balancer"),
    Sample(f"{_HERE}.failover_amphora", "failover-amphora", arguments=_some("tries", 2, 3), priority="HIGH"),
    Sample(f"{_HERE}.create_instance", "create-instance"),
    Sample(f"{_HERE}.migrate_instance", "migrate-instance", arguments=_some("gigabytes", 2, 5)),
    Sample(f"{_HERE}.resize_volume", "resize-volume", arguments=_some("gigabytes", 10, 90)),
    Sample(f"{_HERE}.snapshot_volume", "snapshot-volume"),
    Sample(f"{_HERE}.provision_network", "provision-network", arguments=_some("subnets", 1, 4)),
    Sample(f"{_HERE}.rotate_certificate", "rotate-certificate", priority="HIGH"),
    Sample(f"{_HERE}.nightly_report", "nightly-report", arguments=_some("regions", 2, 6), priority="LOW"),
    Sample(f"{_HERE}.rebuild_index", "rebuild-index", arguments=_some("shards", 4, 9), priority="LOW"),
    Sample(f"{_HERE}.scale_out", "scale-out", arguments=_some("members", 1, 4)),
    Sample(f"{_HERE}.send_invoices", "send-invoices", arguments=_some("customers", 2, 5), priority="VERY_LOW"),
)
