"""Where a flow that runs is now: ``attach-vip, step 8 of 11``. Asked of the store on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from taskflow import states

from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Seconds for which an answer is good, and for which a flow nobody asks about is followed.
FRESH: Final = 1.0
_UNDER_WAY: Final = frozenset({states.RUNNING, states.REVERTING, states.RETRYING})
_OVER: Final = frozenset({states.SUCCESS, states.FAILURE, states.REVERTED, states.REVERT_FAILURE, states.IGNORE})


def step(atoms: Sequence[tuple[str, str | None]]) -> str:
    """One clean line on a flow whose atoms (name, state) are these; empty where none is under way."""
    under_way = [(name, state) for name, state in atoms if state in _UNDER_WAY]
    if not under_way:
        return ""
    name, state = under_way[0]
    more = f" and {len(under_way) - 1} more" if len(under_way) > 1 else ""
    if state == states.REVERTING:
        return f"{visible(name, 80)}{more}, reverting"
    number = sum(1 for _, state in atoms if state in _OVER) + 1
    return f"{visible(name, 80)}{more}, step {number} of {len(atoms)}"


class Steps:
    """Follows the one flow that is looked at; asking never waits.

    :param store: a store of ours, or anything else: then nothing is ever known.
    """

    def __init__(self, store: Any) -> None:
        self._ask: Any = getattr(store, "flow_steps", None)
        self._wanted = threading.Event()
        self._stopping = False
        self._flow = ""
        self._known: tuple[str, str] = ("", "")
        self._until = 0.0
        self._thread: threading.Thread | None = None

    def of(self, flow_uuid: str) -> str:
        """The step as it was last known, at most a second or two old; empty where it is not known yet."""
        if self._ask is None or self._stopping:
            return ""
        self._flow = flow_uuid
        if self._known[0] != flow_uuid or time.monotonic() >= self._until:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="observatory-steps", daemon=True)
                self._thread.start()
            self._wanted.set()
        flow, line = self._known
        return line if flow == flow_uuid else ""

    def stop(self, timeout: float = 5.0) -> None:
        """Ends the thread, if there is one, within ``timeout`` seconds."""
        self._stopping = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            flow = self._flow
            try:
                line = step(self._ask(flow))
            except Exception as error:  # a store that does not answer is told elsewhere; here it is just not known
                LOG.debug("the steps of flow %s are not known: %s", visible(flow), visible(str(error), 300))
                line = ""
            self._known = (flow, line)
            self._until = time.monotonic() + FRESH if flow == self._flow else 0.0
