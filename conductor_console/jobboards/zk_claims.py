"""The claims that this process has on a ZooKeeper board, through broken connections and lost sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kazoo import exceptions as k_exceptions
from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import AttemptRecord, Outcome
from conductor_console.jobboards.base import Changed, JobEntry, Refused
from conductor_console.jobboards.zk_acts import ConductorActs, Held
from conductor_console.jobboards.zk_client import LOG, NO_RIGHTS, OutcomeUnknown, as_hex, session_of
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import Lock
from conductor_console.text import visible

_TRIES = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Doubt:
    """A claim whose answer was lost: it was made, or it was not."""

    node: str
    who: str


class Claims:
    """Who of us holds what. Thread safe.

    A claim is ours until we end it, until its lock is seen gone or replaced, or until the session is over. While the
    connection is broken nobody can tell; after a session's time the claim is given up, and let go on the board
    should it turn out that the session lived on.

    An answer that was lost leaves a doubt, which lasts until the server was asked for the truth: a claim that we may
    have made is let go, an end that we asked for is told by the next call that asks for it.

    :param session_seconds: the session's timeout.
    :param wait_connected: waits so many seconds for the connection; False when it did not come.
    :param look_again: has :meth:`in_step` called soon; it returns at once.
    :param released: is told of each claim that was lost; it returns at once.
    """

    def __init__(
        self,
        acts: ConductorActs,
        model: BoardModel,
        session_seconds: float,
        wait_connected: Callable[[float], bool],
        look_again: Callable[[], None],
        released: Callable[[JobEntry], None],
    ) -> None:
        self._acts = acts
        self._model = model
        self._session_seconds = session_seconds
        self._wait_connected = wait_connected
        self._look_again = look_again
        self._released = released
        self._guard = threading.Lock()
        self._held: dict[str, Held] = {}
        self._by_job: WeakKeyDictionary[Job, int] = WeakKeyDictionary()
        self._given_up: dict[str, Held] = {}
        self._under_way: set[str] = set()
        self._doubts: set[_Doubt] = set()
        #: Claims that we asked to end, and had no answer.
        self._ending: dict[str, Held] = {}
        self._silent_since: float | None = None

    # -- a worker's calls ------------------------------------------------------------------------------------------
    def take(self, job: Job, entry: JobEntry, who: str, unless: Callable[[AttemptRecord], bool] | None) -> Held:
        """Claims a job, ``entry`` being what is known of it; raises as ``claim`` does, and ``OutcomeUnknown``."""
        node = entry.node
        with self._guard:
            # A claim that we have here may be lost without our knowing yet: the server tells.
            if node in self._under_way:
                raise excp.UnclaimableJob(f"job {visible(entry.key)} is being claimed already, by this process")
            self._under_way.add(node)
        try:
            held = self._acts.claim(entry, who, unless)
            with self._guard:
                if session_of(self._acts.client) not in (held.session, None):
                    raise BoardUnreachable(f"cannot claim job {visible(entry.key)}: the session expired meanwhile")
                self._held[node] = held
                self._by_job[job] = held.czxid
                self._ending.pop(node, None)
            return held
        except OutcomeUnknown:
            # Should it have become ours, it is let go when the connection stands again.
            with self._guard:
                self._doubts.add(_Doubt(node, who))
            raise
        finally:
            with self._guard:
                self._under_way.discard(node)
                doubted = any(doubt.node == node for doubt in self._doubts)
            if doubted:
                # The connection may stand again already, and nothing else happen on the board.
                self._look_again()

    def held(self, job: Job) -> Held | None:
        """The claim on a job: the very one that was made with this job object, where it was made with it."""
        with self._guard:
            for claims in (self._held, self._ending):
                held = claims.get(job.entry.node)
                if held is not None and self._by_job.get(job, held.czxid) == held.czxid:
                    return held
            return None

    def holds(self, job: Job) -> bool:
        """Whether the claim on the job stands, as far as is known here; one that we asked to end may."""
        if self._give_up():
            return False
        held = self.held(job)
        if held is None:
            return False
        return self._silent_since is not None or self._stands(held) or self._is_ending(held)

    def confirm(self, job: Job) -> bool:
        """Whether the claim stands, asked of the server. :raises BoardUnreachable, OutcomeUnknown: nobody knows."""
        held = self.held(job)
        return held is not None and self._stands_there(held) and self._same_session(held)

    def _is_ending(self, held: Held) -> bool:
        with self._guard:
            return self._ending.get(held.entry.node) is held

    def finish(self, held: Held, act: str, commit: Callable[[], None], outcome: Outcome | None = None) -> None:
        """Ends a claim; where the connection broke, finds out whether it was ended, and if not does it again.

        :param outcome: what the attempt is closed with; None: it goes with its job.
        :raises NotFound: the claim was lost. :raises BoardUnreachable: it is not known; to be called again.
        """
        try:
            self._finish(held, act, commit, outcome)
        except excp.NotFound:
            self._forget(held)
            raise
        self._forget(held)

    def _finish(self, held: Held, act: str, commit: Callable[[], None], outcome: Outcome | None) -> None:
        what, asked = f"{act} job {visible(held.entry.key)}", ""
        for _ in range(_TRIES):
            try:
                stands = not self._is_ending(held) or self._stands_there(held)
                # In another session than the claim's nobody can tell what came of our request.
                if not self._same_session(held):
                    raise excp.NotFound(f"cannot {what}: the claim was lost with its session{asked}")
                if stands:
                    return commit()
                if not self._was_ours(held, act, outcome):
                    raise excp.NotFound(f"cannot {what}: the claim was lost")
                return None
            except OutcomeUnknown as error:
                asked = "; whether it was done before, nobody can tell"
                with self._guard:
                    self._ending[held.entry.node] = held
                if not self._wait_connected(self._session_seconds):
                    raise BoardUnreachable(
                        f"the connection went while trying to {what}: look whether it is done"
                    ) from error
        raise BoardUnreachable(f"cannot {what}: the connection keeps breaking")

    def _same_session(self, held: Held) -> bool:
        """Whether the claim's session is not known to be over."""
        return session_of(self._acts.client) in (held.session, None)

    def _stands_there(self, held: Held) -> bool:
        """Whether the claim stands on the server, now."""
        # The server that we came to may be behind the one that did what we asked for.
        self._acts.catch_up()
        lock = self._acts.read_lock(held.entry.node)
        return lock is not None and lock.czxid == held.czxid

    def _was_ours(self, held: Held, act: str, outcome: Outcome | None) -> bool:
        """Whether a claim that is no more, its session being alive, was ended by what we asked for; not by an operator.

        True where nothing tells.
        """
        acts, entry = self._acts, held.entry
        if act != "abandon" and acts.ask(acts.client.exists_async, acts.paths.job(entry.node)) is not None:
            return False
        if held.ledger is None:
            return True
        try:
            ledger = acts.read_ledger(entry.key)
        except NO_RIGHTS:
            return True
        if outcome is None:
            return ledger.version is None
        attempt = next((one for one in ledger.record.history if one.claim == held.id), None)
        return attempt is None or attempt.outcome == outcome

    def _forget(self, held: Held) -> None:
        with self._guard:
            for claims in (self._held, self._ending):
                if claims.get(held.entry.node) is held:
                    del claims[held.entry.node]

    # -- what the board's threads tell -----------------------------------------------------------------------------
    def session_over(self) -> None:
        """The session expired, and each claim with it. Returns at once."""
        with self._guard:
            lost, self._held = self._held, {}
            self._given_up.clear()
            self._doubts.clear()
            self._ending.clear()
            self._silent_since = None
        for held in lost.values():
            self._released(held.entry)

    def connection_lost(self) -> None:
        """The connection went, the session may live on. Returns at once.

        The time runs from here, whatever the board's thread is waiting for just now.
        """
        with self._guard:
            if self._silent_since is None:
                self._silent_since = time.monotonic()

    def silence(self) -> bool:
        """There is no connection (told about once a second). True when the session's time is over since."""
        self.connection_lost()
        return self._give_up()

    def _give_up(self) -> bool:
        """Gives all claims up where the silence lasted for a session's time, and says whether it did.

        Whoever is told so stops its work for good. It must not depend on who asks first, a worker or the board's
        thread: a claim that nobody works on has to be among those that are let go should the session live on.
        """
        with self._guard:
            if not self._silent_too_long():
                return False
            lost, self._held = self._held, {}
            self._given_up.update(lost)
        for held in lost.values():
            self._released(held.entry)
        return True

    def in_step(self) -> None:
        """All that moved was read: claims that are gone are dropped, those that nobody wants are let go."""
        with self._guard:
            if self._acts.client.connected:
                self._silent_since = None
            self._held = {node: held for node, held in self._held.items() if self._stands(held)}
            given_up = list(self._given_up.values())
            doubts = [doubt for doubt in self._doubts if doubt.node not in self._under_way]
        for held in given_up:
            if not self._stands(held) or self._let_go(held, "crashed"):
                with self._guard:
                    if self._given_up.get(held.entry.node) is held:
                        del self._given_up[held.entry.node]
        if doubts:
            self._settle(doubts)

    def _settle(self, doubts: list[_Doubt]) -> None:
        """Finds out which claims became ours although their answers were lost, and lets them go."""
        try:
            self._acts.catch_up()
            for doubt in doubts:
                lock = self._acts.read_lock(doubt.node)
                with self._guard:
                    if doubt.node in self._under_way:
                        continue  # it is asked again when that is over
                    held = self._held.get(doubt.node)
                if lock is not None and (held is None or held.czxid != lock.czxid) and self._is_ours(lock, doubt.who):
                    entry = self._model.entry_at(doubt.node)
                    if entry is None or not self._let_go(self._as_held(entry, lock), "released"):
                        continue
                with self._guard:
                    self._doubts.discard(doubt)
        except (k_exceptions.KazooException, BoardUnreachable, OutcomeUnknown) as error:
            # The connection went again: there is another round when it stands.
            LOG.info("it is not known yet which claims were made: %s", error)

    def _is_ours(self, lock: Lock, who: str) -> bool:
        session = session_of(self._acts.client)
        return session is not None and lock.claim.session == as_hex(session) and lock.claim.owner == who

    def _as_held(self, entry: JobEntry, lock: Lock) -> Held:
        session = int(lock.claim.session or "0", 16)
        return Held(entry, lock.claim.owner, lock.czxid, session, lock.claim.version, self._model.ledger(entry.key))

    def _stands(self, held: Held) -> bool:
        lock = self._model.lock(held.entry.node)
        return lock is not None and lock.czxid == held.czxid

    def _silent_too_long(self) -> bool:
        since = self._silent_since
        return since is not None and time.monotonic() - since >= self._session_seconds

    def _let_go(self, held: Held, outcome: Outcome) -> bool:
        """False: the connection went, and it has to be done again."""
        try:
            self._acts.abandon(held, outcome, None, 0.0)
        except (BoardUnreachable, OutcomeUnknown) as error:
            LOG.info("a lost claim on %s is not let go yet: %s", visible(held.entry.key), error)
            return False
        except (excp.NotFound, Changed, Refused) as error:
            LOG.info("a lost claim on %s was not let go: %s", visible(held.entry.key), error)
        return True
