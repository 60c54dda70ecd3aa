"""A plain TaskFlow program on a board, a store and a conductor of conductor-console, each asked for by name.

    python plain_taskflow.py FOLDER

posts three jobs on a board in the folder and runs them. It imports TaskFlow alone: that conductor-console is installed
beside it is enough. Look at what it left with ``conductor-console attach``, as its last line says.
"""

import argparse
import contextlib

import greeting
from oslo_utils import uuidutils
from taskflow import engines
from taskflow.conductors import backends as conductors
from taskflow.jobs import backends as jobboards
from taskflow.jobs.base import JobBoard
from taskflow.persistence import backends as persistence
from taskflow.persistence import models
from taskflow.persistence.base import Backend

NAMES = ("Ada", "Grace", "Mary")


def main(folder: str) -> None:
    store_url = f"sqlite:///{folder}/flows.db"
    # Opened, its tables made, and closed in the end.
    with persistence.backend(f"cc-{store_url}") as store:
        conf = {"board": "cc-sqlite", "path": f"{folder}/board.db"}
        with contextlib.closing(jobboards.fetch("example", conf, persistence=store)) as board:
            # Our boards make nothing by being connected to.
            board.ensure()
            board.connect()
            flows = [post(board, store, name) for name in NAMES]

            conductor = conductors.fetch("cc-blocking", "c1", board, persistence=store, engine="serial")
            conductor.run(max_dispatches=len(flows))

            with contextlib.closing(store.get_connection()) as connection:
                for flow in flows:
                    detail = connection.get_flow_details(flow)
                    shout = next(atom.results for atom in detail if atom.name.endswith("Shout"))
                    print(f"{shout}: {detail.state}")  # noqa: T201
    print(f"conductor-console attach sqlite:///{folder}/board.db --store {store_url}")  # noqa: T201


def post(board: JobBoard, store: Backend, name: str) -> str:
    """Saves a flow in a logbook, then posts the job that is to run it; returns the flow's uuid."""
    book, flow = models.LogBook(f"greet {name}"), models.FlowDetail("greeting", uuidutils.generate_uuid())
    book.add(flow)
    with contextlib.closing(store.get_connection()) as connection:
        connection.save_logbook(book)
    engines.save_factory_details(flow, greeting.make_flow, [], {}, backend=store)
    board.post(book.name, book=book, details={"flow_uuid": flow.uuid, "store": {"name": name}})
    return flow.uuid


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Three greetings, by way of a jobboard.")
    parser.add_argument("folder", help="where board.db and flows.db are made")
    main(parser.parse_args().folder)
