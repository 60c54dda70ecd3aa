"""What the keys do to the board and to our conductors: guarded here, done on other threads, told in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from conductor_console.console import questions
from conductor_console.console.background import run_aside
from conductor_console.console.frame import Progress
from conductor_console.console.screens.confirm import ConfirmScreen, Question
from conductor_console.console.screens.pager import PagerScreen
from conductor_console.console.words import jobs, result_lines, told, traceback_lines
from conductor_console.errors import ConsoleError, Unreachable
from conductor_console.jobboards.base import BinEntry, JobEntry
from conductor_console.observatory.snapshot import JobView
from conductor_console.operations import Course, Past, Result
from conductor_console.operations.breaking import Closing

if TYPE_CHECKING:
    from conductor_console.console.app import ConsoleApp
    from conductor_console.console.sources import Crew, Hand, OpenReplay
    from conductor_console.replay.tape import Tape

#: Seconds our conductors get to let their jobs go before the console leaves anyway.
STOP_TIMEOUT: Final = 10.0
#: From so many jobs on, it is shown how far an act is.
BULK: Final = 20
#: Seconds for which a key holds a job back.
HOLD: Final = 3600.0
#: So many jobs of a cause are asked for a traceback.
TRIED: Final = 5


class Acts:
    """The operator's hand, as the screens see it. Every method returns at once."""

    def __init__(self, app: ConsoleApp, hand: Hand, crew: Crew | None, open_replay: OpenReplay | None) -> None:
        self._app = app
        self._hand = hand
        self._crew = crew
        self._open_replay = open_replay
        self._leaving = False
        self._under_way: dict[Course, str] = {}
        self.results: list[Result] = []
        """What came of the last act, job by job."""

    # -- the board -------------------------------------------------------------------------------------------------
    def bin(self, targets: Sequence[JobView], hidden: int = 0, *, ask: bool = False) -> None:
        """To the bin: at once when nobody holds them and all are in sight, else (or with ``ask``) after a question."""
        if not self._may(targets):
            return
        if ask or hidden or any(job.owner is not None for job in targets):
            self._ask(questions.binning(targets, self._app.now(), hidden), {"bin": lambda: self._bin(targets)})
        else:
            self._bin(targets)

    def _bin(self, targets: Sequence[JobView]) -> None:
        entries = [job.entry for job in targets]
        self._do("bin", lambda course: self._hand.bin(entries, course=course))

    def delete(self, targets: Sequence[JobView], hidden: int = 0) -> None:
        """For good; always asks."""
        if self._may(targets):
            entries = [job.entry for job in targets]
            self._ask(
                questions.deletion(targets, self._app.now(), hidden),
                {
                    "delete": lambda: self._do("delete", lambda course: self._hand.delete(entries, course=course)),
                    "bin": lambda: self._bin(targets),
                },
            )

    def retry(self, targets: Sequence[JobView], *, ask: bool = False) -> None:
        """Ends the holds, with ``ask`` after a question."""
        if free := self._free(targets, "Claimed now: there is no hold to end"):
            entries = [job.entry for job in free]
            question = questions.retrying(free, self._app.now()) if ask else None
            self._perhaps(question, "retry", lambda course: self._hand.retry(entries, course=course))

    def hold(self, targets: Sequence[JobView], *, ask: bool = False) -> None:
        """Has our conductors leave them alone for an hour, with ``ask`` after a question."""
        if free := self._free(targets, "Claimed now: only a job that nobody holds can be held back"):
            entries = [job.entry for job in free]
            question = questions.holding(free, self._app.now()) if ask else None
            self._perhaps(question, "hold", lambda course: self._hand.hold(entries, HOLD, course=course))

    def release(self, targets: Sequence[JobView], hidden: int = 0) -> None:
        """Ends their claims; always asks: who holds them may be at work still."""
        if not self._may(targets):
            return
        held = [job for job in targets if job.owner is not None]
        if not held:
            self._app.say("Nobody holds it: there is no claim to release", "amber")
            return
        entries = [job.entry for job in held]
        question = questions.releasing(held, self._app.now(), hidden)
        self._perhaps(question, "release", lambda course: self._hand.release(entries, course=course))

    def _free(self, targets: Sequence[JobView], claimed: str) -> list[JobView]:
        """Those that nobody holds; ``claimed`` is said where somebody holds them all."""
        if not self._may(targets):
            return []
        free = [job for job in targets if job.owner is None]
        if not free:
            self._app.say(claimed, "amber")
        return free

    def _perhaps(self, question: Question | None, verb: str, work: Callable[[Course], list[Result]]) -> None:
        """Does it at once where there is nothing to ask, else when the answer is the verb."""
        if question is None:
            self._do(verb, work)
        else:
            self._ask(question, {verb: lambda: self._do(verb, work)})

    def restore(self, targets: Sequence[BinEntry], hidden: int = 0) -> None:
        """Back on the board; asks where a filter hides some of them."""
        if not self._may(targets):
            return

        def restore() -> None:
            self._do("restore", lambda course: self._hand.restore(targets, course=course))

        if hidden:
            self._ask(questions.restoring(targets, self._app.now(), hidden), {"restore": restore})
        else:
            restore()

    def purge(self, targets: Sequence[BinEntry], hidden: int = 0) -> None:
        """Out of the bin for good; always asks, for a typed word."""
        if self._may(targets):
            self._ask(
                questions.purging(targets, self._app.now(), hidden),
                {"purge": lambda: self._do("purge", lambda course: self._hand.delete(targets, course=course))},
            )

    def undo(self) -> None:
        """Takes the last act back; where nothing was done here yet, asks whether to undo a deletion of before."""
        if not self._may((None,)):
            return
        label = self._hand.can_undo
        if not label:
            run_aside(self._app, "deleted-before", self._hand.deleted_before, self._undo_earlier)
            return
        self._do("undo", lambda course: self._hand.undo(course), label)

    def _undo_earlier(self, pasts: list[Past]) -> None:
        """Asks whether to post again what was deleted before: only that against which nothing speaks."""
        free = [past for past in pasts if not past.cautions]
        if not free:
            more = f"; of {jobs(len(pasts))} deleted earlier, jobs post --again tells more" if pasts else ""
            self._app.say(f"Nothing to undo{more}", "soft")
            return
        question = questions.posting_again(free, self._app.now(), len(pasts) - len(free))
        self._perhaps(question, "again", lambda course: self._hand.post_again(free, course=course))

    def close_breaker(self) -> None:
        """Closes the circuit breaker; where it is open for the store, that is asked first."""
        if self._app.frame.snapshot.breaker is None:
            self._app.say("The circuit breaker is closed: there is nothing to close", "soft")
            return
        if not self._may((None,)):
            return

        def then(closing: Closing) -> None:
            done, line = closing
            self._app.say(line, "text" if done else "amber")

        run_aside(self._app, "close-breaker", self._hand.close_breaker, then)

    def _may(self, targets: Sequence[object]) -> bool:
        frame = self._app.frame
        if frame.read_only:
            self._app.say("This console is read-only: nothing is changed from here", "amber")
        elif frame.lost:
            self._app.say("Not done: the board cannot be reached, R d D wait for it", "amber")
        elif not targets:
            self._app.say("No job is chosen", "soft")
        else:
            return True
        return False

    def _ask(self, question: Question, answers: dict[str, Callable[[], None]]) -> None:
        def answered(choice: str | None) -> None:
            answers.get(choice or "cancel", lambda: None)()

        self._app.push(ConfirmScreen(question), answered)

    def _do(self, verb: str, work: Callable[[Course], list[Result]], label: str = "") -> None:
        """Does it on a thread of its own; the board's keys stay alive, and ``x`` stops it."""
        course = Course()
        self._under_way[course] = verb

        def whole() -> list[Result]:
            try:
                return work(course)
            finally:
                self._under_way.pop(course, None)

        def then(results: list[Result]) -> None:
            self.results = results
            self._app.after_act(results)
            self._app.say(*told(verb, results, label))
            if self._leaving and not self._under_way:
                self._leaving = False
                self.leave()

        run_aside(self._app, f"operation-{verb}", whole, then)

    # -- an act on many jobs -----------------------------------------------------------------------------------------
    def progress(self) -> Progress | None:
        """The act on many jobs that is under way; the one that began last, where there are several."""
        for course, verb in reversed(list(self._under_way.items())):
            if course.total >= BULK:
                return Progress(verb, course.done, course.total, course.stopped)
        return None

    def stop(self) -> None:
        """Begins nothing more of what is under way."""
        if not self._under_way:
            self._app.say("Nothing is under way that could be stopped", "soft")
            return
        for course in list(self._under_way):
            course.stop()
        self._app.deliver()

    def tell_results(self) -> None:
        """What came of each job of the last act."""
        if not self.results:
            self._app.say("Nothing was done yet", "soft")
            return
        self._app.push(PagerScreen(f"What came of {jobs(len(self.results))}", list(result_lines(self.results))))

    # -- causes ----------------------------------------------------------------------------------------------------
    def traceback(self, targets: Sequence[JobView]) -> None:
        """The full traceback of the first of some jobs of which the store has one."""
        looked = targets[:TRIED]

        def work() -> tuple[str, list[tuple[str, str]]]:
            for job in looked:
                if found := self._app.source.traceback(job.entry):
                    return job.name, found
            return "", []

        def then(found: tuple[str, list[tuple[str, str]]]) -> None:
            name, tracebacks = found
            if not tracebacks:
                self._app.say("No traceback is stored: it needs --store URL, and a flow whose task failed", "soft")
                return
            self._app.push(PagerScreen(f"{name}: tracebacks", list(traceback_lines(tracebacks))))

        run_aside(self._app, "traceback", work, then)

    # -- our conductors --------------------------------------------------------------------------------------------
    def scale(self, by: int) -> None:
        """More or fewer conductors."""
        crew = self._our_crew()
        if crew is None:
            return
        count = max(0, crew.size + by)
        if count == crew.size:
            self._app.say("There are no conductors of ours to take away", "soft")
            return
        self._app.say(f"Going to {count} conductor{'s' if count != 1 else ''}", "soft")

        def then(_: None) -> None:
            self._app.say(f"{count} conductor{'s' if count != 1 else ''} of ours", "text")

        run_aside(self._app, "scale", lambda: crew.scale(count), then)

    def pause(self, name: str | None = None) -> None:
        """Pauses or resumes one of our conductors, or all of them: resumes only when every one is paused."""
        crew = self._our_crew()
        if crew is None:
            return
        workers = [worker for worker in crew.workers() if name is None or worker.name == name]
        if not workers:
            self._app.say(f"{name} is not a conductor of this process", "amber")
            return
        resume = all(worker.state == "paused" for worker in workers)
        several = name is None and len(workers) > 1
        whom, claims = ("all our conductors", "claim") if several else (workers[0].name, "claims")

        def work() -> None:
            (crew.resume if resume else crew.pause)(name)

        def then(_: None) -> None:
            self._app.say(f"{whom} {claims} {'again' if resume else 'nothing more; P resumes'}", "text")

        run_aside(self._app, "pause", work, then)

    def drain(self, name: str) -> None:
        """Has one of our conductors finish what it runs and end; one that has ended starts anew."""
        crew = self._our_crew()
        if crew is None:
            return
        state = next((worker.state for worker in crew.workers() if worker.name == name), None)
        if state is None:
            self._app.say(f"{name} is not a conductor of this process", "amber")
        elif state == "draining":
            self._app.say(f"{name} is still finishing what it runs", "soft")
        elif state == "stopped":
            run_aside(self._app, "restart", lambda: crew.restart(name), lambda _: self._app.say(f"{name} starts anew"))
        else:
            said = f"{name} finishes what it runs and ends; N then starts it anew"
            run_aside(self._app, "drain", lambda: crew.drain(name), lambda _: self._app.say(said))

    def _our_crew(self) -> Crew | None:
        if self._crew is None:
            self._app.say("No conductors run in this process: it only watches", "soft")
        return self._crew

    # -- replay ----------------------------------------------------------------------------------------------------
    def replay(self, entry: JobEntry, name: str) -> None:
        """Loads what the store knows of a job, then shows it."""
        open_replay = self._open_replay
        # Of a job that only TaskFlow's conductors ran, the store knows no more than its flow.
        known = [uuid for uuid in (entry.uuid, entry.flow_uuid, entry.book_uuid) if uuid is not None]
        if open_replay is None:
            self._app.say("A replay needs the flows' store: start with --store URL", "amber")
        elif not known:
            self._app.say(f"{name} has no uuid, so no flow can be found", "amber")
        else:
            self._app.say(f"Loading the replay of {name}", "soft")
            run_aside(self._app, "replay", lambda: _first(open_replay, known), self._app.show_tape)

    # -- leaving ---------------------------------------------------------------------------------------------------
    def leave(self) -> None:
        """Stops what is being done to many jobs, and lets our conductors put their jobs down; again: leaves at once."""
        crew = self._crew
        if self._under_way and not self._leaving:
            self._leaving = True
            self.stop()
            self._app.say("Finishing what is under way, no more is begun; q again leaves at once", "amber", stays=True)
            return
        if self._leaving or crew is None or not crew.workers():
            self._app.exit()
            return
        self._leaving = True
        workers = crew.workers()
        held = sum(len(worker.jobs) for worker in workers)
        letting = f", which let {jobs(held)} go" if held else ""
        number = f"{len(workers)} conductor{'s' if len(workers) != 1 else ''}"
        self._app.say(f"Stopping {number}{letting}; q again leaves at once", "amber", stays=True)
        run_aside(self._app, "leave", lambda: crew.stop(STOP_TIMEOUT), lambda _: self._app.exit())


def _first(open_replay: OpenReplay, known: Sequence[str]) -> Tape:
    """The replay of the first of some uuids that the store knows. :raises ConsoleError: when it knows none."""
    for uuid in known[:-1]:
        try:
            return open_replay(uuid)
        except Unreachable:
            raise
        except ConsoleError:
            continue
    return open_replay(known[-1])
