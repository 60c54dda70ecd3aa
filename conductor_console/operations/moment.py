"""Acting on a job that cycles: its claim changes faster than a person can read, so the act waits for its moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from conductor_console.jobboards.base import BoardEvent, Changed, Gone, JobEntry, LedgerBoard
from conductor_console.text import visible


def between_claims(board: LedgerBoard, seen: JobEntry, act: Callable[[JobEntry], None], deadline: float) -> None:
    """Does ``act`` to the job as it was seen; one that was seen claimed, or failing, also between two later claims.

    A job that cycles is let go and claimed again while its question is still on the screen. The posting is the same,
    and a moment in which nobody holds it is milder than what was seen, so that moment is waited for. A claim that
    was not seen is never broken, and a job that was seen free of claims and failures is not waited for.

    :param deadline: ``time.monotonic()`` at which to give up.
    :raises Changed, Gone, Refused, BoardUnreachable: and nothing was done.
    """
    moved = threading.Event()

    def hear(event: BoardEvent) -> None:
        if event.key == seen.key:
            moved.set()

    unsubscribe = board.subscribe(hear)
    try:
        try:
            act(seen)
            return
        except Changed:
            if not _cycles(seen):
                raise
        while True:
            # Cleared before the look: what happens from here on is seen by it or by the next.
            moved.clear()
            entry = board.listing().jobs.get(seen.key)
            if entry is None:
                # It was there a moment ago: a listing may trail one that was binned and restored.
                board.refresh()
                entry = board.listing().jobs.get(seen.key)
            if entry is None:
                raise Gone(f"job {visible(seen.name)} is no longer on the board")
            if (entry.node, entry.version) != (seen.node, seen.version):
                raise Changed(f"job {visible(seen.name)} was posted anew")
            if entry.claim is None:
                try:
                    act(entry)
                    return
                except Changed:
                    pass  # somebody was quicker: the next moment will come
            left = deadline - time.monotonic()
            if left <= 0 or (not moved.wait(left) and entry.claim is not None):
                owner = visible(entry.claim.owner) if entry.claim is not None else "a conductor"
                raise Changed(f"{owner} holds it now, by a claim that was not seen; nothing was done")
    finally:
        unsubscribe()


def _cycles(seen: JobEntry) -> bool:
    return seen.claim is not None or (seen.record is not None and seen.record.failures > 0)
