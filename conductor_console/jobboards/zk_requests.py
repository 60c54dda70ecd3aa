"""Single questions and answers on one board, and what ZooKeeper's refusals mean to the one who acts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from taskflow import exceptions as excp

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import postings
from conductor_console.jobboards.base import Changed, Gone, JobEntry, Refused
from conductor_console.jobboards.zk_client import (
    NO_RIGHTS,
    UNKNOWN_OUTCOME,
    Multi,
    StepFailed,
    answer,
    describe,
    need_connection,
)
from conductor_console.jobboards.zk_model import BoardModel, Lock, read_lock
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.text import visible

#: A step met these when what it was made for has changed meanwhile.
CONFLICTS: Final = (k_exceptions.BadVersionError, k_exceptions.NodeExistsError, k_exceptions.NoNodeError)


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

    def children(self, path: str) -> list[str]:
        """A folder's children; none where it is missing."""
        try:
            names: list[str] = self.ask(self.client.get_children_async, path)
        except k_exceptions.NoNodeError:
            return []
        return names

    def need_job(self, entry: JobEntry) -> None:
        """Makes sure that the posting is there. :raises NotFound: it is not."""
        if self.ask(self.client.exists_async, self.paths.job(entry.node)) is None:
            raise excp.NotFound(f"job {visible(entry.key)} is gone")

    def read_lock(self, node: str) -> Lock | None:
        """Who holds the job at ``node`` now."""
        try:
            return read_lock(*self.ask(self.client.get_async, self.paths.lock(node)))
        except k_exceptions.NoNodeError:
            return None

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
        try:
            raw, _stat = self.ask(self.client.get_async, path)
            if postings.parse(raw, entry.node).uuid != entry.uuid:
                raise Changed(f"job {visible(entry.name)} changed under you: another is in its place")
            acl = self.acl(path)
            self.ensure_folder(self.paths.trash)
        except k_exceptions.NoNodeError as error:
            raise Gone(f"job {visible(entry.name)} is gone") from error
        except NO_RIGHTS as error:
            raise Refused(f"no rights to move job {visible(entry.name)} to the bin") from error
        return raw, acl

    def acl(self, path: str) -> Any:
        """A node's rights, to be given to its copy; None (the client's default) where they may not be read."""
        try:
            return self.ask(self.client.get_acls_async, path)[0] or None
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
        job, error = visible(name), failed.error
        if isinstance(error, NO_RIGHTS):
            return Refused(f"no rights to {act} job {job} (the {failed.step or 'request'} was refused)")
        if failed.step in ("job", "binned") and isinstance(error, k_exceptions.NoNodeError):
            return Gone(f"job {job} is gone")
        if isinstance(error, CONFLICTS):
            what = "it is claimed now" if failed.step == "free" else "it is not as it was seen"
            return Changed(f"job {job} changed under you: {what}")
        if isinstance(error, k_exceptions.NotEmptyError):
            return Refused(f"cannot {act} job {job}: its node has children, which TaskFlow never makes")
        return Refused(f"cannot {act} job {job}: {describe(error)}")

    def unknown(self, act: str, name: str) -> BoardUnreachable:
        """The connection went during an act."""
        return BoardUnreachable(
            f"the connection went while trying to {act} job {visible(name)}: look whether it was done, then try again"
        )
