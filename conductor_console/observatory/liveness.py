"""Who works on the board: the worker threads of this process or of its own, and the conductors registered on it.

A claim's owner carries a conductor's name; the entity that a conductor registers is that name, ``@host:pid``.
"""

from __future__ import annotations

import functools
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from conductor_console.jobboards.base import Claim, EntityEntry
from conductor_console.observatory.snapshot import ConductorView
from conductor_console.text import visible

if TYPE_CHECKING:
    from conductor_console.conductors.fleet import Worker

#: What the note of a conductor says whose claims stand although it is not registered.
DEAD: Final = "holds claims, but is not registered on the board"

#: The owner of a claim that does not tell whose it is: no conductor's name.
NOBODY: Final = "?"


def names(entity: str) -> Iterator[str]:
    """The names under which the claims of an entity may stand: ``c2@ctl-b@h:9`` claims as ``c2@ctl-b``, or ``c2``."""
    yield entity
    for found in re.finditer("@", entity):
        yield entity[: found.start()]


class Claims:
    """Who holds what: an index of the claims that a listing shows."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[str, Claim]] = {}

    def add(self, key: str, claim: Claim) -> None:
        self._by_owner.setdefault(claim.owner, {})[key] = claim

    def drop(self, key: str, owner: str) -> None:
        held = self._by_owner.get(owner)
        if held is not None and held.pop(key, None) is not None and not held:
            del self._by_owner[owner]

    @property
    def owners(self) -> Collection[str]:
        return self._by_owner.keys()

    def of(self, owner: str) -> Mapping[str, Claim]:
        return self._by_owner.get(owner, {})


class Liveness:
    """Which owners live, and what the list of conductors says."""

    def __init__(self) -> None:
        self._entities: Mapping[str, EntityEntry] = {}
        self._registering = False
        self._live: frozenset[str] = frozenset()
        self._gone: dict[str, tuple[str, datetime]] = {}
        self._workers: Sequence[Worker] = ()
        self._ours: frozenset[str] = frozenset()
        self._once_ours: set[str] = set()
        self._pids = {os.getpid()}

    def update(self, entities: Mapping[str, EntityEntry], workers: Sequence[Worker], now: datetime) -> None:
        """Takes in what is registered, and this process's workers, at ``now`` (local clock)."""
        self._registering = self._registering or bool(entities)
        if entities is not self._entities:
            live = frozenset(name for entity in entities.values() for name in names(entity.name))
            for entity in self._entities.values():
                for name in names(entity.name):
                    if name not in live:
                        self._gone[name] = (_place(entity), now)
            for name in live & self._gone.keys():
                del self._gone[name]
            self._entities, self._live = entities, live
        if workers is not self._workers:
            self._workers = workers
            self._ours = frozenset(name for worker in workers for name in names(worker.name))
            self._once_ours |= self._ours
            self._pids.update(worker.pid for worker in workers if worker.pid is not None)

    def alive(self, owner: str) -> bool | None:
        """Whether a claim's owner lives; None where the board never knew of any conductor."""
        if owner in self._ours or owner in self._live:
            return True
        return False if self._registering else None

    def forget(self, claims: Claims) -> None:
        """Lets go of the gone who hold nothing any more."""
        for name in [name for name in self._gone if name not in claims.owners]:
            del self._gone[name]

    def views(self, claims: Claims) -> tuple[ConductorView, ...]:
        """All conductors: those of others, ours, then the dead that still hold claims."""
        held_here = {uuid for worker in self._workers for uuid in worker.jobs}
        views = [self._worker(worker) for worker in self._workers]
        views += [_remote(entity, claims, held_here) for entity in self._entities.values() if not self._is_ours(entity)]
        gone = [owner for owner in claims.owners if owner != NOBODY and self.alive(owner) is False]
        views += [self._dead(owner, claims.of(owner)) for owner in gone]
        return tuple(sorted(views, key=_order))

    def _is_ours(self, entity: EntityEntry) -> bool:
        # One that was scaled away stays registered for as long as our session lasts.
        if self._once_ours.isdisjoint(names(entity.name)):
            return False
        # Containers share pids (1), clusters share names: it takes all three.
        return entity.pid is None or (entity.pid in self._pids and (not entity.host or entity.host in _hosts()))

    @staticmethod
    def _worker(worker: Worker) -> ConductorView:
        return ConductorView(
            name=visible(worker.name),
            state=worker.state,
            place="here" if worker.pid is None else f"here:{worker.pid}",
            here=True,
            jobs=len(worker.jobs),
            since=worker.since,
            note=visible(worker.note, 200),
        )

    def _dead(self, owner: str, held: Mapping[str, Claim]) -> ConductorView:
        place, since = self._gone.get(owner, ("", min(claim.claimed_at for claim in held.values())))
        return ConductorView(visible(owner), "crashed", place, here=False, jobs=len(held), since=since, note=DEAD)


@functools.cache
def _hosts() -> frozenset[str]:
    """What this host is called; TaskFlow's conductors register under the full name, which costs a look-up."""
    return frozenset({socket.gethostname(), socket.getfqdn()})


def _remote(entity: EntityEntry, claims: Claims, held_here: Collection[str]) -> ConductorView:
    held = sum(
        1
        for name in names(entity.name)
        for key, claim in claims.of(name).items()
        if key not in held_here and (claim.session == entity.session or None in (claim.session, entity.session))
    )
    name = entity.name.rpartition("@")[0] or entity.name
    return ConductorView(visible(name), "running", _place(entity), here=False, jobs=held)


def _place(entity: EntityEntry) -> str:
    return visible(f"{entity.host}:{entity.pid}" if entity.pid is not None else entity.host)


def _order(view: ConductorView) -> tuple[bool, bool, list[tuple[int, int, str]], str]:
    """Others first, then ours, the dead last; by name, numbers in it as numbers."""
    # Names are foreign: a number of thousands of digits is not one.
    parts: list[tuple[str, str]] = re.findall(r"([0-9]{1,18})|([^0-9]+)", view.name)
    natural = [(0, int(digits), "") if digits else (1, 0, word) for digits, word in parts]
    return (view.state == "crashed" and not view.here, view.here, natural, view.place)
