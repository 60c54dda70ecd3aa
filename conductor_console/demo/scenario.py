"""What the demo does: posts the samples, a trickle or a batch, and keeps a killer's process going."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from conductor_console.demo import flows, poison
from conductor_console.demo.steps import Sample
from conductor_console.errors import ConsoleError
from conductor_console.jobboards.attempts import Policy
from conductor_console.operations import Operations, PostRequest
from conductor_console.text import plural

LOG = logging.getLogger(__name__)

#: Small holds: a newcomer sees failures rise, jobs held back and binned within half a minute.
POLICY: Final = Policy(max_attempts=5, base=0.5, cap=20.0)
#: What the demo's own conductors may run: everything but the killer.
ALLOWED: Final = tuple(sample.factory for sample in (*flows.SAMPLES, *poison.SAMPLES))
KILLER: Final = poison.KILLER.factory
#: With so many jobs on the board the trickle pauses.
CROWDED: Final = 60
#: Seconds between two posts of the trickle, and healthy jobs between two poisoned ones.
BETWEEN: Final = 0.4
HEALTHY_BETWEEN: Final = 6


class Poster:
    """Posts samples, drawn by a seed: two demos post the same jobs in the same order.

    :ivar posted: what was posted, by the job's uuid.
    """

    def __init__(self, operations: Operations, seed: int = 7) -> None:
        self._operations = operations
        self._random = Random(seed)
        self.posted: dict[str, Sample] = {}

    def post(self, sample: Sample) -> None:
        """:raises ConsoleError: when the board or the store does not take it."""
        request = PostRequest(
            factory=sample.factory,
            name=f"{sample.name}-{self._random.getrandbits(32):08x}",
            kwargs=sample.arguments(self._random),
            priority=sample.priority,
        )
        for uuid in self._operations.post(request):
            self.posted[uuid] = sample

    def batch(self, samples: Sequence[Sample]) -> None:
        """Posts one job of each. :raises ConsoleError: as :meth:`post`."""
        for sample in samples:
            self.post(sample)

    def trickle(self, stop: threading.Event, on_board: Callable[[], int]) -> None:
        """Posts one job after the other until ``stop``; what cannot be posted is logged and left out.

        :param on_board: how many jobs are on the board now.
        """
        for sample in self._endless():
            if stop.wait(BETWEEN * self._random.uniform(0.5, 1.5)):
                return
            if on_board() >= CROWDED:
                continue
            try:
                self.post(sample)
            except ConsoleError as error:
                LOG.warning("the demo could not post: %s", error)

    def _endless(self) -> Iterator[Sample]:
        while True:
            for _ in range(HEALTHY_BETWEEN):
                yield self._random.choice(flows.SAMPLES)
            yield self._random.choice((*poison.SAMPLES, poison.STORAGE, poison.KILLER))


def first_batch() -> tuple[Sample, ...]:
    """What is on the board from the start: one of each sample, and another that cycles."""
    return (*poison.SAMPLES, poison.KILLER, poison.STORAGE, *flows.SAMPLES)


def second_batch() -> tuple[Sample, ...]:
    """What comes half way through a bounded run: its sick jobs are still cycling when it ends."""
    return (poison.STORAGE, *poison.SAMPLES, *flows.SAMPLES)


class KeptAlive:
    """A child process that is started again whenever it dies, at most ``limit`` times; it ends with this process.

    The child must end when its standard input does. That pipe closes whichever way this process goes.

    :ivar deaths: how often it died of a signal.
    """

    def __init__(self, command: Sequence[str], log: Path, limit: int = 50, pause: float = 0.1) -> None:
        self._command = list(command)
        self._log = log
        self._limit = limit
        self._pause = pause
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="demo-child", daemon=True)
        self.deaths = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Lets the child end by itself, by force after ``timeout`` seconds."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        for _ in range(self._limit):
            process = self._spawn()
            if process is None:
                return
            code = process.wait()
            if self._stopping.is_set():
                return
            if process.stdin is not None:
                process.stdin.close()
            if code < 0:
                self.deaths += 1
            else:
                LOG.warning("the demo's child ended with %d; its log is %s", code, self._log)
            if self._stopping.wait(self._pause):
                return
        LOG.warning("the demo's child is not started again: it ended %s", plural(self._limit, "time"))

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock, self._log.open("ab") as log:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)
            return self._process
