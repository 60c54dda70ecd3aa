"""The conductors that this process registers on a ZooKeeper board, for as long as its session lives."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from oslo_serialization import jsonutils
from taskflow import exceptions as excp

from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_requests import Requests

#: TaskFlow's kind of the only entities it registers (``Conductor.ENTITY_KIND``; importing that loads all engines).
_CONDUCTOR: Final = "conductor"


class Entities:
    """Registers them, and again in each session that follows. Thread safe; raises as :class:`Requests` does."""

    def __init__(self, requests: Requests, model: BoardModel) -> None:
        self._requests = requests
        self._model = model
        self._guard = threading.Lock()
        self._ours: dict[str, Any] = {}

    @staticmethod
    def check(entity: Any) -> None:
        """:raises NotImplementedError: (TaskFlow's) for any but conductors."""
        if entity.kind != _CONDUCTOR:
            raise excp.NotImplementedError(f"cannot register entities of kind {entity.kind!r}")

    def register(self, entity: Any) -> None:
        self._create(entity)
        with self._guard:
            self._ours[entity.name] = entity

    def in_step(self) -> None:
        """All that moved was read: what is not there any more is registered anew."""
        with self._guard:
            ours = list(self._ours.values())
        for entity in ours:
            if not self._model.is_registered(entity.name):
                self._create(entity)

    def clear(self) -> None:
        """The session is over for good."""
        with self._guard:
            self._ours.clear()

    def _create(self, entity: Any) -> None:
        requests = self._requests
        requests.ensure_folder(requests.paths.conductors)
        value = jsonutils.dumps(entity.to_dict()).encode()
        with contextlib.suppress(k_exceptions.NodeExistsError):
            path = requests.paths.conductor(entity.name)
            requests.ask(requests.client.create_async, path, value, ephemeral=True)
