"""A program of TaskFlow alone: its blocking conductor on its ZooKeeper board, with its own store. Runs until killed."""

from __future__ import annotations

import sys

from kazoo.client import KazooClient
from taskflow.conductors import backends as conductors
from taskflow.jobs.backends import impl_zookeeper
from taskflow.persistence import backends as persistence


def main(hosts: str, path: str, session: str, connection: str) -> None:
    """:param session: seconds of silence after which ZooKeeper ends the session; ``connection``: the store's URL."""
    store = persistence.fetch({"connection": connection})
    client = KazooClient(hosts, timeout=float(session))
    client.start()
    conf = {"path": path, "check_compatible": False}
    board = impl_zookeeper.ZookeeperJobBoard("theirs", conf, client=client, persistence=store)
    board.connect()
    conductors.fetch("blocking", "theirs", board, persistence=store, wait_timeout=0.05).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
