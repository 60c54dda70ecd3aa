"""The flows being worked on here: in whose name, what their rows hold, and what of them was lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskflow import exceptions as excp

from conductor_console.persistence.schema import Values


@dataclass(frozen=True, slots=True)
class FlowImage:
    """A flow's rows as they are committed (or will be, inside a transaction); ``atoms`` holds all of them, by uuid."""

    uuid: str
    values: Values
    atoms: Mapping[str, Values]


@dataclass(eq=False, slots=True)
class Binding:
    """One flow under one claim.

    :ivar image: None until its rows were read, or when they must be read anew.
    :ivar lost: why a write of it could not be stored. Nothing more of it is written then, until it is bound again.
    """

    flow_uuid: str
    job_uuid: str | None = None
    conductor: str | None = None
    attempt: int | None = None
    image: FlowImage | None = None
    atoms: set[str] = field(default_factory=set)
    lost: str | None = None


class Bound:
    """All bindings of a store. Thread safe; the images are written by the writer thread only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bindings: dict[str, Binding] = {}
        self._dropped: set[str] = set()
        self._flow_of: dict[str, str] = {}

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
        for atom_uuid in binding.atoms if binding is not None else ():
            self._flow_of.pop(atom_uuid, None)

    def get(self, flow_uuid: str) -> Binding | None:
        """The flow's binding, if it is bound."""
        with self._lock:
            return self._bindings.get(flow_uuid)

    def flow_of(self, atom_uuid: str) -> str | None:
        """The bound flow an atom is known to belong to."""
        with self._lock:
            return self._flow_of.get(atom_uuid)

    def allow(self, flow_uuid: str) -> None:
        """:raises StorageFailure: when the flow was dropped, or a write of it was lost since it was bound."""
        with self._lock:
            dropped = flow_uuid in self._dropped
            binding = self._bindings.get(flow_uuid)
        if dropped:
            raise excp.StorageFailure(f"flow {flow_uuid} is no longer ours to write: its claim was lost")
        if binding is not None and binding.lost is not None:
            raise excp.StorageFailure(f"flow {flow_uuid} is not wholly stored: {binding.lost}")

    def install(self, binding: Binding, image: FlowImage) -> None:
        """Keeps rows that were just committed, if the claim they were written under still stands."""
        with self._lock:
            if self._bindings.get(binding.flow_uuid) is not binding:
                return
            binding.image = image
            if len(binding.atoms) != len(image.atoms):
                binding.atoms.update(image.atoms)
                self._flow_of.update(dict.fromkeys(image.atoms, image.uuid))

    def forget(self, flow_uuid: str | None = None) -> None:
        """Makes a flow's rows (or everybody's) be read anew before they are next written."""
        with self._lock:
            chosen = list(self._bindings.values()) if flow_uuid is None else [self._bindings.get(flow_uuid)]
            for binding in chosen:
                if binding is not None:
                    binding.image = None

    def failed(self, flow_uuid: str, why: str) -> None:
        """Notes that a write of the flow was lost, if it is bound; the first such loss is what is told."""
        with self._lock:
            binding = self._bindings.get(flow_uuid)
            if binding is not None and binding.lost is None:
                binding.lost = why
