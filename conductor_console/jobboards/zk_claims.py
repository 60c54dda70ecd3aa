"""The claims that this process has on a ZooKeeper board, through broken connections and lost sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import AttemptRecord, Outcome
from conductor_console.jobboards.base import Changed, JobEntry, Refused
from conductor_console.jobboards.zk_acts import ConductorActs, Held
from conductor_console.jobboards.zk_client import LOG, OutcomeUnknown, as_hex, session_of
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.text import visible

_TRIES = 3


class Claims:
    """Who of us holds what. Thread safe.

    A claim is ours until we end it, until its lock is seen gone or replaced, or until the session is over. While the
    connection is broken nobody can tell; after a session's time the claim is given up, and let go on the board
    should it turn out that the session lived on.

    :param session_seconds: the session's timeout.
    :param wait_connected: waits so many seconds for the connection; False when it did not come.
    :param released: is told of each claim that was lost; it returns at once.
    """

    def __init__(
        self,
        acts: ConductorActs,
        model: BoardModel,
        session_seconds: float,
        wait_connected: Callable[[float], bool],
        released: Callable[[JobEntry], None],
    ) -> None:
        self._acts = acts
        self._model = model
        self._session_seconds = session_seconds
        self._wait_connected = wait_connected
        self._released = released
        self._guard = threading.Lock()
        self._held: dict[str, Held] = {}
        self._by_job: WeakKeyDictionary[Job, int] = WeakKeyDictionary()
        self._given_up: dict[str, Held] = {}
        self._under_way: set[str] = set()
        self._doubtful: dict[str, str] = {}
        self._silent_since: float | None = None

    # -- a worker's calls ------------------------------------------------------------------------------------------
    def take(self, job: Job, entry: JobEntry, who: str, unless: Callable[[AttemptRecord], bool] | None) -> None:
        """Claims a job, ``entry`` being what is known of it; raises as ``claim`` does, and ``OutcomeUnknown``."""
        node = entry.node
        with self._guard:
            if node in self._under_way or node in self._held:
                raise excp.UnclaimableJob(f"job {visible(entry.key)} is claimed already, by this process")
            self._under_way.add(node)
        try:
            held = self._acts.claim(entry, who, unless)
            with self._guard:
                if session_of(self._acts.client) not in (held.session, None):
                    raise BoardUnreachable(f"cannot claim job {visible(entry.key)}: the session expired meanwhile")
                self._held[node] = held
                self._by_job[job] = held.czxid
        except OutcomeUnknown:
            # Should it have become ours, it is let go when the connection stands again.
            with self._guard:
                self._doubtful[node] = who
            raise
        finally:
            with self._guard:
                self._under_way.discard(node)

    def held(self, job: Job) -> Held | None:
        """The claim on a job: the very one that was made with this job object, where it was made with it."""
        with self._guard:
            held = self._held.get(job.entry.node)
            if held is None or self._by_job.get(job, held.czxid) != held.czxid:
                return None
            return held

    def holds(self, job: Job) -> bool:
        """Whether the claim on the job stands, as far as is known here."""
        if self._give_up():
            return False
        held = self.held(job)
        return held is not None and (self._silent_since is not None or self._stands(held))

    def _current(self, held: Held) -> bool:
        with self._guard:
            return self._held.get(held.entry.node) is held

    def finish(self, held: Held, act: str, commit: Callable[[], None]) -> None:
        """Ends a claim; where the connection broke, finds out whether it was ended, and if not does it again.

        :raises NotFound: the claim was lost. :raises BoardUnreachable: it is not known.
        """
        try:
            self._finish(held, act, commit)
        except excp.NotFound:
            self._forget(held)
            raise
        self._forget(held)

    def _finish(self, held: Held, act: str, commit: Callable[[], None]) -> None:
        what = f"{act} job {visible(held.entry.key)}"
        for _ in range(_TRIES):
            if session_of(self._acts.client) not in (held.session, None):
                raise excp.NotFound(f"cannot {what}: the claim was lost with its session")
            try:
                return commit()
            except OutcomeUnknown as error:
                if not self._wait_connected(self._session_seconds):
                    raise BoardUnreachable(
                        f"the connection went while trying to {what}: look whether it is done"
                    ) from error
                lock = self._acts.read_lock(held.entry.node)
                if not self._current(held):
                    # The session is over: another may have the job, whatever came of our request.
                    raise excp.NotFound(f"cannot {what}: the claim was lost") from error
                if lock is None or lock.czxid != held.czxid:
                    return None
        raise BoardUnreachable(f"cannot {what}: the connection keeps breaking")

    def _forget(self, held: Held) -> None:
        with self._guard:
            if self._held.get(held.entry.node) is held:
                del self._held[held.entry.node]

    # -- what the board's threads tell -----------------------------------------------------------------------------
    def session_over(self) -> None:
        """The session expired, and each claim with it. Returns at once."""
        with self._guard:
            lost, self._held = self._held, {}
            self._given_up.clear()
            self._doubtful.clear()
            self._silent_since = None
        for held in lost.values():
            self._released(held.entry)

    def silence(self) -> None:
        """There is no connection (told about once a second)."""
        with self._guard:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
        self._give_up()

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
            self._silent_since = None
            self._held = {node: held for node, held in self._held.items() if self._stands(held)}
            given_up, self._given_up = self._given_up, {}
            doubtful = {node: who for node, who in self._doubtful.items() if node not in self._under_way}
            for node in doubtful:
                del self._doubtful[node]
        for held in given_up.values():
            if self._stands(held):
                self._let_go(held, "crashed")
        for node, who in doubtful.items():
            found = self._doubted(node, who)
            if found is not None:
                self._let_go(found, "released")

    def _doubted(self, node: str, who: str) -> Held | None:
        """A claim that became ours although the answer was lost."""
        lock, entry = self._model.lock(node), self._model.entry_at(node)
        session = session_of(self._acts.client)
        if lock is None or entry is None or session is None or node in self._held:
            return None
        if lock.claim.session != as_hex(session) or lock.claim.owner != who:
            return None
        return Held(entry, who, lock.czxid, session, lock.claim.version, self._model.ledger(entry.key))

    def _stands(self, held: Held) -> bool:
        lock = self._model.lock(held.entry.node)
        return lock is not None and lock.czxid == held.czxid

    def _silent_too_long(self) -> bool:
        since = self._silent_since
        return since is not None and time.monotonic() - since >= self._session_seconds

    def _let_go(self, held: Held, outcome: Outcome) -> None:
        try:
            self._acts.abandon(held, outcome, None, 0.0)
        except (excp.NotFound, Changed, Refused, BoardUnreachable, OutcomeUnknown) as error:
            LOG.info("a lost claim on %s was not let go: %s", visible(held.entry.key), error)
