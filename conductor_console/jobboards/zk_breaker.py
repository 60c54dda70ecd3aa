"""The circuit breaker's state on a ZooKeeper board: a node of its own beside the ledger's folder."""

from __future__ import annotations

import threading
from typing import Any

from kazoo import exceptions as k_exceptions

from conductor_console.jobboards.breaker import CLOSED, Breaker, from_json, to_json
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.zk_client import NO_RIGHTS, answer
from conductor_console.jobboards.zk_requests import CONFLICTS, Requests


class BreakerNode:
    """Reads and writes it, and shows it in the picture. Thread safe; raises as :class:`Requests` does.

    :param in_memory: nothing is written: what is decided here is known to this board object alone.
    """

    def __init__(self, requests: Requests, picture: Picture, *, in_memory: bool) -> None:
        self._requests = requests
        self._picture = picture
        self._in_memory = in_memory
        self._guard = threading.Lock()
        #: What lies there, and its version (None: there is no node).
        self._known: tuple[Breaker, int | None] = (CLOSED, None)
        self._mzxid = 0

    def look(self, watch: Any = None, *, anew: bool = False) -> None:
        """Reads it. Where it may not be read it is as it was.

        :param watch: called when it changes, or comes.
        :param anew: what is known is no measure of what is found: the server's numbers may have begun anew.
        """
        if anew:
            with self._guard:
                self._mzxid = 0
        client, path = self._requests.client, self._requests.paths.breaker
        try:
            raw, stat = answer(client.get_async, path, watch=watch)
        except k_exceptions.NoNodeError:
            if answer(client.exists_async, path, watch=watch) is not None:
                # It came between the two.
                self.look(watch)
            else:
                self._show(CLOSED, None, 0)
        except NO_RIGHTS:
            return
        else:
            self._show(from_json(raw or b""), stat.version, stat.mzxid)

    def write(self, state: Breaker, expected: Breaker) -> bool:
        """Writes it if it is as expected. False where it is not; what it is then is shown."""
        with self._guard:
            known, version = self._known
        if self._in_memory or self._picture.breaker != known:
            # Somewhere between the two lies what could not be written: it is ours alone.
            self._picture.set_breaker(state)
            return True
        if known != expected:
            return False
        requests, path, value = self._requests, self._requests.paths.breaker, to_json(state)
        try:
            if version is None:
                requests.ensure_folder(path.rpartition("/")[0])
                _, stat = requests.ask(requests.client.create_async, path, value, include_data=True)
            else:
                stat = requests.ask(requests.client.set_async, path, value, version)
        except CONFLICTS:
            self.look()
            return False
        except NO_RIGHTS:
            self._picture.set_breaker(state)
            return True
        self._show(state, stat.version, stat.mzxid)
        return True

    def _show(self, state: Breaker, version: int | None, mzxid: int) -> None:
        with self._guard:
            if version is not None and mzxid < self._mzxid:
                # Read before what we wrote since.
                return
            self._known, self._mzxid = (state, version), mzxid
            self._picture.set_breaker(state)
