"""A program with somebody else's package installed: it fetches each of its kinds by name, and runs a job on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from conductor_console import conductors, jobboards, persistence
from conductor_console.errors import UsageError
from tests import flows


def worked(kind: str, board_conf: Any, store_url: str, effects: str) -> list[str]:
    """What was fetched, and the state of a flow that was run on it."""
    store = persistence.fetch(store_url)
    store.get_connection().upgrade()
    board = jobboards.fetch(board_conf, persistence=store)
    try:
        if kind == "shelf":
            board.ensure()
        board.connect()
        conductor = conductors.fetch(kind, "c1", board, persistence=store)
        _, detail = flows.post(board, store, "line", effects, kind)

        def consumed(_event: str, details: Any) -> None:
            conductor.stop()

        # TaskFlow's does not return after so many dispatches, only when there is one more.
        conductor.notifier.register("job_consumed", consumed)
        conductor.run()
        made = [f"{type(each).__module__}.{type(each).__name__}" for each in (board, conductor, store)]
        return [*made, str(flows.flow_state(store, detail.uuid))]
    finally:
        board.close()
        store.close()


def refused(fetch: Callable[[], Any]) -> str:
    try:
        fetch()
    except UsageError as error:
        return str(error)
    return "nothing was refused"


def main(folder: str, hosts: str, path: str) -> None:
    plain = {"board": "plain-shelf", "hosts": hosts, "path": path, "check_compatible": False}
    effects = f"{folder}/effects"
    told = {
        "shelf": worked("shelf", f"shelf:///{folder}/board.db", f"shelf:///{folder}/flows.db", effects),
        "plain": worked("plain-shelf", plain, "plain-shelf://", effects),
        "effects": flows.lines(effects),
        "refused": [
            refused(lambda: jobboards.fetch({"board": "broken"})),
            *(refused(lambda kind=kind: conductors.fetch(kind, "c1", None)) for kind in ("broken", "wrong")),  # type: ignore[misc]
            refused(lambda: conductors.fetch("broken-plain", "c1", None)),
            refused(lambda: conductors.fetch("nobody's", "c1", None)),
            refused(lambda: jobboards.fetch({"board": "wrong"})),
            *(refused(lambda url=url: persistence.fetch(url)) for url in ("wrong://", "wrong-plain://")),  # type: ignore[misc]
        ],
    }
    print(json.dumps(told))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
