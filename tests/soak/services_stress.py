"""`run` with many services under load: phases of full speed, and after each a pause in which everything must add up."""

import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lines import Lines
from services_journal import ServicesJournal
from services_subject import COUNT, KILLED, STEADY, STOPPED, Counts, Services, kind_of, names
from steering import BY_HAND, ORDERS, QUESTIONS, Steering
from stress import FAST, LARGE, PHASES, SIP, SIP_SECONDS, SLOW, SMALL
from subject import ViolationError, Vitals, read, set_capacity, wait_until

REAL_TIME = range(34, 62)
"""Signals that are queued, and passed on to the services that never end."""

WINDOW = 20
"""Of these, on the way at once."""

ASKING = 12
"""Clients that wait while `run` stands still."""


@dataclass
class ServicesResult:
    """What has been done, and what was wrong."""

    lives: int = 0
    ended: Counter[int] = field(default_factory=Counter)
    orphans: int = 0
    probes: int = 0
    lines: int = 0
    log_lines: int = 0
    dropped: int = 0
    sent: Counter[int] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Seconds of each way to read."""
    warm_up: Vitals | None = None
    """The highest of each, over all looks in the warm-up."""
    at_end: Vitals | None = None
    fds: set[int] = field(default_factory=set)
    exit_code: int | None = None
    seconds: float = 0
    violations: list[str] = field(default_factory=list)


class Totals:
    """What all services have counted together."""

    def __init__(self, counts: list[Counts]) -> None:
        """Take what each has."""
        self.starts = sum(c.starts for c in counts)
        self.ended: Counter[int] = sum((c.ended for c in counts), Counter())
        self.orphans: Counter[int] = sum((c.orphans for c in counts), Counter())


class ServicesStress:
    """Lets services run wild, steers them, and holds all counts against each other."""

    def __init__(self, services: Services, patience: float) -> None:
        """Take a `run` that was just started, and the seconds after which something that does not come is lost."""
        self.result = ServicesResult()
        self.kind = FAST
        self._services = services
        self._patience = patience
        self._steering = Steering(services)
        self._outputs = [Lines(0, COUNT), Lines(1, COUNT)]
        self._journal = ServicesJournal()
        self._next_sip = 0.0
        self._expected_orders: Counter[str] = Counter()
        self._is_ending = False

    def start(self) -> None:
        """Wait for the services. Raises ViolationError."""
        for fd in self._services.outputs:
            set_capacity(fd, LARGE)
        self._wait(self._services.find, lambda: "run has started")
        # Until then nobody listens for those who ask, and the first services may not catch signals.
        self._wait(lambda: not self._unsettled(), lambda: f"all services begin: {self._unsettled()}")
        self._checked(FAST, Totals([]), lambda: None)

    def phase(self, kind: str, seconds: float) -> None:
        """Full speed for some seconds, with what is written read in this way; then pause and check."""
        started = time.monotonic()

        def work() -> None:
            self._services.pause(False)
            while time.monotonic() < started + seconds:
                self._steering.steer()
                self._send_signals()
                self._turn()

        self._checked(kind, Totals(self._services.counts()), work)
        self.result.tallies[kind] += time.monotonic() - started

    def flood(self) -> Vitals:
        """Stop `run`, have all services crash, and many ask, and let it go on. Raises ViolationError.

        It has never more to do at once: so that is what it has done last whenever one looks.
        """

        def work() -> None:
            self._services.stop()
            self._services.crash_all()
            for number in range(ASKING):
                self._steering.ask(QUESTIONS[number % 2])
            self._wait(lambda: self._services.living() == STEADY, lambda: "all services crash")
            self._services.send(signal.SIGCONT, 0)
            self._send_signals()

        return self._checked(FAST, Totals(self._services.counts()), work)

    def finish(self) -> None:
        """End it with a TERM, as `docker stop` would, and check the exit code. Raises ViolationError."""
        self.kind = FAST
        before = Totals(self._services.counts())
        self._is_ending = True
        self._services.send(signal.SIGTERM, 0)
        process = self._services.process
        self._wait(lambda: process.poll() is not None, lambda: "the services and run end upon TERM")
        while self._read():
            pass
        hanging = sum(kind_of(number) == "hanging" for number in range(COUNT))
        ended = Totals(self._services.counts()).ended - before.ended + Counter({KILLED: hanging})
        if self._journal.ended != ended:
            self._violated(f"in the end these lives ended: {ended}, but the log tells of {self._journal.ended}")
        self._check_lines()
        self.result.exit_code = process.returncode
        if process.returncode != KILLED:
            self._violated(f"exit code {process.returncode}, though what hangs was killed: {KILLED}")

    def end(self) -> None:
        """Leave no client behind."""
        self._steering.end()

    def progress(self) -> str:
        """What was done so far."""
        counts = f"{self.result.lives} lives, {sum(output.count for output in self._outputs)} lines"
        return f"{counts}, {self._steering.answered.total()} answers, output read {self.kind}"

    # -- Doing --------------------------------------------------------------------------------------------------------

    def _checked(self, kind: str, before: Totals, work: Callable[[], None]) -> Vitals:
        """Do this, with what is written read in this way; then pause and check. Raises ViolationError."""
        self.kind = kind
        asked, stops = self._steering.asked.copy(), self._steering.stops
        for fd in self._services.outputs:
            set_capacity(fd, LARGE if kind == FAST else SMALL)
        work()
        self._services.pause(True)
        self._wait(lambda: not self._steering.waiting, lambda: f"not answered: {self._steering.waiting}")
        self._start_all()
        was_fast, self.kind = kind == FAST, FAST
        self._wait(lambda: not self._unsettled(), lambda: f"services that do not come to rest: {self._unsettled()}")
        self._wait(lambda: not self._missing(), self._missing)
        looks: list[Vitals] = []
        self._wait(lambda: self._has_looked(looks), lambda: "run goes to sleep when there is nothing to do")
        while self._read():
            pass
        self.kind, vitals = kind, looks[0]
        self._check(was_fast, before, self._steering.asked - asked, self._steering.stops - stops, vitals)
        self._journal = ServicesJournal()
        return vitals

    def _start_all(self) -> None:
        """Have all services run."""
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            self._steering.ask("start", *names())
            self._wait(lambda: not self._steering.waiting, lambda: "start is answered")
            if self._steering.last_code == 0:
                return
        raise ViolationError("the services cannot be started, though none of them ends any more")

    def _send_signals(self) -> None:
        """A window of real-time signals."""
        answered = min(sum(c.got[n] for n in REAL_TIME) for c in self._services.counts()[:STEADY])
        for number in range(answered + WINDOW - self.result.sent.total()):
            signum = REAL_TIME[self.result.sent.total() % len(REAL_TIME)]
            self.result.sent[signum] += 1
            self._services.send(signum, number)

    def _turn(self) -> None:
        """Wait for something to read, for a moment at most, and take it; see who was answered."""
        if self.kind == FAST:
            poll = select.poll()
            for fd in self._services.outputs:
                poll.register(fd, select.POLLIN)
            poll.poll(SIP_SECONDS * 1000)
            self._read()
        else:
            time.sleep(SIP_SECONDS / 5)
            if self.kind == SLOW and time.monotonic() >= self._next_sip:
                self._next_sip = time.monotonic() + SIP_SECONDS
                self._read(SIP)
        self._steering.take()
        if self._services.process.poll() is not None and not self._is_ending:
            raise ViolationError(f"run ended before its services, with exit code {self._services.process.returncode}")

    def _read(self, size: int = LARGE) -> bool:
        """Take what was written, up to a size; say whether there was anything."""
        news = False
        for fd, lines in zip(self._services.outputs, self._outputs, strict=True):
            data = read(fd, size)
            self._journal.add(lines.add(data))
            news = news or bool(data)
        return news

    def _wait(self, condition: Callable[[], object], what: Callable[[], str]) -> None:
        def met() -> bool:
            if condition():
                return True
            self._turn()
            return False

        wait_until(met, self._patience, what)

    # -- What is missing, or wrong ------------------------------------------------------------------------------------

    def _has_looked(self, looks: list[Vitals]) -> bool:
        """Look at `run` while it sleeps and has no child but the services: no probe is under way."""
        before = self._services.switches()
        if not self._services.at_rest() or len(self._services.children()) != COUNT:
            return False
        vitals = self._services.vitals()
        if self._services.switches() != before:
            return False
        looks.append(vitals)
        return True

    def _unsettled(self) -> list[str]:
        """The services that do not pause yet."""
        counts = self._services.counts()
        return [name for name, c in zip(names(), counts, strict=True) if not c.starts or c.settled != c.starts]

    def _missing(self) -> str:
        """What has not come yet, or nothing."""
        missing: list[str] = []
        if any(output.strange for output in self._outputs):
            return ""  # what is wrong already is said at once
        for number, counts in enumerate(self._services.counts()):
            for what, output, line in zip(("stdout", "stderr"), self._outputs, counts.lines, strict=True):
                if output.streams[number].number < line or not output.is_whole:
                    missing.append(f"line {line} of {what} of n{number:02}")
        for number, counts in enumerate(self._services.counts()[:STEADY]):
            late = [n for n in REAL_TIME if counts.got[n] < self.result.sent[n]]
            missing += [f"n{number:02} has not got signal {late[0]} {self.result.sent[late[0]]} times"] if late else []
        return "; ".join(missing[:3])

    def _check(self, was_fast: bool, before: Totals, asked: Counter[str], stops: int, vitals: Vitals) -> None:
        """Hold all counts against each other, now that nothing moves."""
        now, journal, result = Totals(self._services.counts()), self._journal, self.result
        self._check_lines()
        self._check_signals()
        self.result.violations += self._steering.wrong
        if vitals.zombies:
            self._violated(f"{vitals.zombies} zombies")
        result.fds.add(vitals.fds)
        if len(result.fds) > 1:
            self._violated(f"run does not always have as many open descriptors: {sorted(result.fds)}")
        if journal.strange:
            self._violated(f"{len(journal.strange)} lines are not as they should be: {journal.strange[0]!r}")
        orders = Counter({action: asked[action] for action in ORDERS if asked[action]})
        orphans, ended = now.orphans - before.orphans, now.ended - before.ended
        starts = now.starts - before.starts
        # TERM may come before the first instruction of a program, which counts nothing then.
        uncounted = min(stops, max(0, journal.started - starts, journal.ended[STOPPED] - ended[STOPPED]))
        starts, ended = starts + uncounted, ended + Counter({STOPPED: uncounted})
        result.lives, result.orphans, result.ended = now.starts, now.orphans.total(), now.ended
        result.probes = sum(c.probes for c in self._services.counts())
        result.lines, result.answered = sum(output.count for output in self._outputs), self._steering.answered
        result.log_lines += journal.lines
        logged = (journal.started, journal.ended, journal.orphans, journal.orders)
        were = (starts, ended, orphans, orders)
        result.dropped += starts + ended.total() - journal.started - journal.ended.total()
        for what, wanted, told in zip(("starts", "ends", "orphans", "orders"), were, logged, strict=True):
            is_right = told == wanted if was_fast else told <= wanted  # type: ignore[operator]
            if not is_right:
                self._violated(f"there were these {what}: {wanted}, but the log tells of {told}")

    def _check_lines(self) -> None:
        for stream, (what, output) in enumerate(zip(("stdout", "stderr"), self._outputs, strict=True)):
            if output.strange:
                self._violated(f"{len(output.strange)} lines of {what} are wrong: {output.strange[0][:200]!r}")
            for number, counts in enumerate(self._services.counts()):
                wrote = counts.lines[stream], counts.lengths[stream]
                read_so_far = output.streams[number].number, output.streams[number].length
                if wrote != read_so_far:
                    self._violated(f"n{number:02} wrote (lines, bytes) {wrote} to {what}, and {read_so_far} came")

    def _check_signals(self) -> None:
        for number, counts in enumerate(self._services.counts()[:STEADY]):
            expected = self.result.sent.copy()
            if number == 0 and self._steering.answered["signal"]:
                expected[BY_HAND] = self._steering.answered["signal"]
            if counts.got != expected:
                self._violated(f"n{number:02} received other signals than were sent: {counts.got}, not {expected}")

    def _violated(self, what: str) -> None:
        self.result.violations.append(f"{what} (output read {self.kind})")
