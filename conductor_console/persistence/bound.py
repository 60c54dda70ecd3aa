"""The flows being worked on here: in whose name, what their rows hold, and what of them was lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskflow import exceptions as excp

from conductor_console.errors import StoreUnreachable
from conductor_console.persistence.schema import Values
from conductor_console.promise import Promise


@dataclass(frozen=True, slots=True)
class FlowImage:
    """A flow's rows as they will be once all that is queued for it is stored; ``atoms`` holds all of them, by uuid."""

    uuid: str
    values: Values
    atoms: Mapping[str, Values]


@dataclass(eq=False, slots=True)
class Binding:
    """One flow under one claim, which is the only one that writes it.

    :ivar image: None until its rows were read, or when they must be read for each write.
    :ivar lost: why a write of it could not be stored. Nothing more of it is written then, until it is bound again.
    :ivar turn: held while a write is compared with the image and queued, so that both go in the same order.
    :ivar seen: the shapes of its atoms (:func:`.details.shape_of`) whose contents are in the image.
    :ivar last: the newest write that was queued; those of one flow are done in their order.
    """

    flow_uuid: str
    job_uuid: str | None = None
    conductor: str | None = None
    attempt: int | None = None
    image: FlowImage | None = None
    lost: Exception | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    seen: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    last: Promise | None = None


class Bound:
    """All bindings of a store. Thread safe; an image is changed only by who has its binding's turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bindings: dict[str, Binding] = {}
        self._dropped: set[str] = set()
        self._by_atom: dict[str, Binding] = {}

    def bind(self, binding: Binding) -> None:
        """Begins a claim's work on a flow: rows will be kept, and what an earlier claim lost is forgotten."""
        with self._lock:
            self._remove(binding.flow_uuid)
            self._dropped.discard(binding.flow_uuid)
            self._bindings[binding.flow_uuid] = binding

    def unbind(self, flow_uuid: str) -> None:
        """Ends it. A flow that was dropped stays dropped."""
        with self._lock:
            self._remove(flow_uuid)

    def drop(self, flow_uuid: str) -> None:
        """The claim is lost: whatever is still to be written of the flow is refused from now on."""
        with self._lock:
            self._dropped.add(flow_uuid)
            self._remove(flow_uuid)

    def _remove(self, flow_uuid: str) -> None:
        binding = self._bindings.pop(flow_uuid, None)
        if binding is not None and binding.image is not None:
            for atom_uuid in binding.image.atoms:
                self._by_atom.pop(atom_uuid, None)

    def get(self, flow_uuid: str) -> Binding | None:
        """The flow's binding, if it is bound."""
        with self._lock:
            return self._bindings.get(flow_uuid)

    def of_atom(self, atom_uuid: str) -> Binding | None:
        """The binding of the flow that an atom is known to belong to."""
        with self._lock:
            return self._by_atom.get(atom_uuid)

    def allow(self, flow_uuid: str) -> None:
        """:raises StorageFailure: when the flow was dropped, or a write of it was lost since it was bound."""
        with self._lock:
            self._allow(flow_uuid, self._bindings.get(flow_uuid))

    def allow_in_name_of(self, binding: Binding) -> None:
        """:raises StorageFailure: when that claim's work on its flow is over, or a write of it was lost."""
        with self._lock:
            if self._bindings.get(binding.flow_uuid) is not binding:
                raise _not_ours(binding.flow_uuid)
            self._allow(binding.flow_uuid, binding)

    def _allow(self, flow_uuid: str, binding: Binding | None) -> None:
        if flow_uuid in self._dropped:
            raise _not_ours(flow_uuid)
        if binding is not None and binding.lost is not None:
            kind = StoreUnreachable if isinstance(binding.lost, StoreUnreachable) else excp.StorageFailure
            raise kind(f"flow {flow_uuid} is not wholly stored: {binding.lost}")

    def keep(self, binding: Binding, image: FlowImage) -> None:
        """These will be the flow's rows; to be called by who has the binding's turn."""
        with self._lock:
            if self._bindings.get(binding.flow_uuid) is not binding:
                return
            known = () if binding.image is None else binding.image.atoms
            binding.image = image
            if len(known) != len(image.atoms):
                self._by_atom.update(dict.fromkeys(image.atoms, binding))

    def forget(self, flow_uuid: str | None = None) -> None:
        """Somebody else writes a flow's rows (or everybody's): they are read for each write from now on."""
        with self._lock:
            chosen = list(self._bindings.values()) if flow_uuid is None else [self._bindings.get(flow_uuid)]
        for binding in chosen:
            if binding is None:
                continue
            with binding.turn, self._lock:
                for atom_uuid in () if binding.image is None else binding.image.atoms:
                    self._by_atom.pop(atom_uuid, None)
                binding.image = None

    def failed(self, flow_uuid: str, why: Exception, binding: Binding | None = None) -> None:
        """Notes that a write of the flow was lost, if it is bound; the first such loss is what is told.

        :param binding: in whose name it was to be written, where that is known.
        """
        with self._lock:
            binding = binding or self._bindings.get(flow_uuid)
            if binding is not None and binding.lost is None:
                binding.lost = why


def _not_ours(flow_uuid: str) -> excp.StorageFailure:
    return excp.StorageFailure(f"flow {flow_uuid} is no longer ours to write: its claim was lost")
