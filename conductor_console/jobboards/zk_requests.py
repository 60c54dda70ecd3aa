"""Single questions and answers on one board, and what ZooKeeper's refusals mean to the one who acts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import postings
from conductor_console.jobboards.base import Changed, Gone, JobEntry, Refused
from conductor_console.jobboards.zk_client import (
    NO_RIGHTS,
    UNKNOWN_OUTCOME,
    Multi,
    OutcomeUnknown,
    StepFailed,
    answer,
    describe,
    need_connection,
)
from conductor_console.jobboards.zk_listing import listing
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import Lock, read_lock
from conductor_console.jobboards.zk_paths import LAST_NUMBER, BoardPaths, created
from conductor_console.text import visible

#: A step met these when what it was made for has changed meanwhile.
CONFLICTS: Final = (k_exceptions.BadVersionError, k_exceptions.NodeExistsError, k_exceptions.NoNodeError)


def called(job: Job) -> str:
    """A job's uuid, which may be any text, for messages."""
    return visible(job.uuid, 80)


@contextlib.contextmanager
def talking(act: str, doubt: str = "look whether it was done") -> Iterator[None]:
    """Whatever ZooKeeper or the connection raise, as the one line that TaskFlow and people expect."""
    try:
        yield
    except (OutcomeUnknown, *UNKNOWN_OUTCOME) as error:
        raise BoardUnreachable(f"cannot {act}: {describe(error)}; {doubt}") from error
    except NO_RIGHTS as error:
        raise Refused(f"cannot {act}: no rights") from error
    except k_exceptions.KazooException as error:
        raise BoardUnreachable(f"cannot {act}: {describe(error)}") from error


#: What a transaction's step touches, in words.
_TOUCHED: Final[Mapping[str, str]] = {
    "job": "its posting",
    "next": "the board",
    "board": "the board",
    **dict.fromkeys(("lock", "mark", "free", "freed", "touched", "touched again"), "its lock"),
    **dict.fromkeys(("bin", "binned"), "the bin"),
    **dict.fromkeys(("record", "no record"), "the record of its attempts"),
}


class Requests:
    """What every act needs. Thread safe; each call waits for ZooKeeper's answer.

    Where nothing else is said, ``BoardUnreachable`` is raised when it does not come.
    """

    def __init__(self, client: KazooClient, paths: BoardPaths, model: BoardModel) -> None:
        self.client = client
        self.paths = paths
        self.model = model

    def ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """One request. ZooKeeper's own errors (no node, no rights …) are the caller's."""
        need_connection(self.client)
        try:
            return answer(call, *args, **options)
        except UNKNOWN_OUTCOME as error:
            raise BoardUnreachable(f"ZooKeeper does not answer: {describe(error)}; it is tried again") from error

    def multi(self) -> Multi:
        return Multi(self.client)

    def ensure_folder(self, path: str) -> None:
        """Makes a folder and its parents where they are missing. :raises NoAuthError: there are no rights."""
        if self.ask(self.client.exists_async, path) is None:
            self.ask(self.client.ensure_path_async, path)

    def need_board(self, hosts: str) -> None:
        """:raises BoardUnreachable: there is no board."""
        with talking("look for the board"):
            if self.ask(self.client.exists_async, self.paths.board) is None:
                raise BoardUnreachable(
                    f"there is no board at {self.paths.board} on {hosts}: check the path, or make one with "
                    "`conductor-console init` (`conductor-console run` makes it too)"
                )

    def make_board(self, hosts: str) -> None:
        """Makes the board's folders where they are missing. :raises BoardUnreachable: there are no rights."""
        with talking(f"make the board at {self.paths.board} on {hosts}"):
            try:
                self.ensure_folder(self.paths.board)
                self.ensure_folder(self.paths.trash)
            except NO_RIGHTS as error:
                raise BoardUnreachable(f"no rights to make the board at {self.paths.board} on {hosts}") from error
            with contextlib.suppress(*NO_RIGHTS):
                # Without it all works, uncounted.
                self.ensure_folder(self.paths.attempts)

    def children(self, path: str) -> list[str]:
        """A folder's children; none where it is missing."""
        try:
            names: list[str] = self.ask(listing, self.client, path)[0]
        except k_exceptions.NoNodeError:
            return []
        return names

    def need_job(self, entry: JobEntry) -> None:
        """Makes sure that the posting is there. :raises NotFound: it is not."""
        if self.ask(self.client.exists_async, self.paths.job(entry.node)) is None:
            raise excp.NotFound(f"job {visible(entry.key)} is gone")

    def catch_up(self) -> None:
        """Returns when the server that we are connected to knows all that was done before, by whomever.

        A transaction that changes nothing: ``sync`` alone is answered, too, by a leader that has a successor already.

        :raises BoardUnreachable, OutcomeUnknown: that is not known.
        """
        try:
            self.multi().check("board", self.paths.board, -1).commit()
        except StepFailed as failed:
            # What the board's own node is like does not matter; that it was looked at does.
            if failed.step != "board":
                raise BoardUnreachable(f"ZooKeeper does not answer: {describe(failed.error)}") from failed

    def read_lock(self, node: str) -> Lock | None:
        """Who holds the job at ``node`` now."""
        try:
            raw, stat = self.ask(self.client.get_async, self.paths.lock(node))
            # None is what a node made without data holds.
            return read_lock(raw or b"", stat)
        except k_exceptions.NoNodeError:
            return None
        except NO_RIGHTS:
            stat = self.ask(self.client.exists_async, self.paths.lock(node))
            return None if stat is None else read_lock(None, stat)

    # -- pieces of transactions --------------------------------------------------------------------------------------
    def while_free(self, multi: Multi, entry: JobEntry) -> Multi:
        """Two steps that fail while anybody holds the job."""
        lock = self.paths.lock(entry.node)
        return multi.create("free", lock, b"{}", ephemeral=True).delete("freed", lock, 0)

    def posting(self, entry: JobEntry) -> tuple[bytes, Any]:
        """The posting's bytes, and its rights, which it keeps in the bin; makes the bin's folder where it is missing.

        :raises Gone, Changed, Refused: it is not what ``entry`` shows, or may not be read.
        """
        path = self.paths.job(entry.node)
        need_connection(self.client)
        # Asked at once: a job that cycles is free for a few milliseconds at a time.
        rights, folder = self.client.get_acls_async(path), self.client.exists_async(self.paths.trash)
        try:
            raw, _stat = self.ask(self.client.get_async, path)
            self.need_same(raw, entry)
            acl = self.acl(lambda: rights)
            if self.ask(lambda: folder) is None:
                self.ensure_folder(self.paths.trash)
        except k_exceptions.NoNodeError as error:
            raise Gone(f"job {visible(entry.name, 80)} is gone") from error
        except NO_RIGHTS as error:
            raise Refused(f"no rights to move job {visible(entry.name, 80)} to the bin") from error
        return raw, acl

    def need_same(self, raw: bytes, entry: JobEntry) -> None:
        """:raises Changed: these bytes are not the posting of the job that was seen."""
        if postings.parse(raw, entry.node).uuid != entry.uuid:
            raise Changed(f"job {visible(entry.name, 80)} changed under you: another is in its place")

    def acl(self, call: Callable[..., Any], *args: Any) -> Any:
        """A node's rights, to be given to its copy; None (the client's default) where they may not be read.

        :param call: kazoo's, for the rights.
        """
        try:
            return self.ask(call, *args)[0] or None
        except (k_exceptions.NoNodeError, *NO_RIGHTS):
            return None

    def bin_name(self, entry: JobEntry) -> str:
        """The node's own name in the bin; boards of one parent share it, so a name that is taken gets a suffix."""
        if self.ask(self.client.exists_async, self.paths.binned(entry.node)) is None:
            return entry.node
        return f"{entry.node}-{time.time_ns():x}"

    # -- what failures mean ----------------------------------------------------------------------------------------
    def refused(self, failed: StepFailed, act: str, name: str) -> Exception:
        """What a step that failed means to the one who acts on the job called ``name``."""
        job, error = visible(name, 80), failed.error
        if isinstance(error, NO_RIGHTS):
            return Refused(f"no rights to {act} job {job} ({_TOUCHED.get(failed.step, 'it')} may not be changed)")
        if failed.step in ("job", "binned") and isinstance(error, k_exceptions.NoNodeError):
            return Gone(f"job {job} is gone")
        if failed.step == "next" and isinstance(error, k_exceptions.NodeExistsError):
            return self.next_taken(act)
        if isinstance(error, CONFLICTS):
            what = "it is claimed now" if failed.step == "free" else "it is not as it was seen"
            return Changed(f"job {job} changed under you: {what}")
        if isinstance(error, k_exceptions.NotEmptyError):
            return Refused(f"cannot {act} job {job}: its node has children, which TaskFlow never makes")
        return Refused(f"cannot {act} job {job}: {describe(error)}")

    def next_taken(self, act: str) -> Refused:
        """Nothing can be posted: the name that the board's sequence gives next is taken."""
        stat = self.ask(self.client.exists_async, self.paths.board)
        number = created(stat) if stat is not None else 0
        if number < LAST_NUMBER:
            return Refused(f"cannot {act}: the next number is {number}, and job{number:010d} is there: bin it first")
        return Refused(
            f"cannot {act}: the numbers of the board at {self.paths.board} are used up: "
            "delete its node when it is empty, or use another path"
        )

    def unknown(self, act: str, name: str) -> BoardUnreachable:
        """The connection went during an act."""
        job = visible(name, 80)
        return BoardUnreachable(
            f"the connection went while trying to {act} job {job}: look whether it was done, then try again"
        )
