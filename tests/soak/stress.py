"""One `run` under load: phases of full speed, and after each a pause in which everything must add up."""

import select
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from journal import Journal
from subject import REAL_TIME, Made, Subject, ViolationError, Vitals, read, set_capacity, wait_until

FAST, SLOW, NOT_AT_ALL = PHASES = ("fast", "slowly", "not at all")
"""How standard error is read."""

STANDARD = (1, 2, 3, 10, 12, 14, 15, 16, 23, 24, 25, 26, 27, 28, 29, 30, 18)
"""The standard signals that are forwarded: signal(7). Of each only one can be pending."""
TERM = 15

WINDOW = 100
"""Real-time signals on the way at once."""
DAEMON_MARK = 128
ORDERS = b"bgrrr"
"""What the load is told to do, over and over: a burst, a gathering, rounds. A phase has all of it at least once."""
BURST = 3000
LARGE, SMALL = 1 << 20, 1 << 16
"""Bytes that the pipe of stderr holds.

The large one takes all lines of the two orders and the signals that are on the way at most, so that no line is dropped
however long the reader has to wait for a processor: 4000 lines of up to 64 bytes for orphans, and for each signal one
of up to 4096, a page. The small one is of the usual size; the lines of one burst do not fit.
"""
SIP, SIP_SECONDS = 2048, 0.05
"""How stderr is read slowly: 40 kB/s."""


@dataclass
class Tally:
    """What the phases of one kind have had."""

    seconds: float = 0
    orphans: int = 0
    signals: int = 0
    lines: int = 0
    dropped: int = 0
    slowest: float = 0
    """Seconds from a standard signal to its second answer, the longest."""


@dataclass
class Result:
    """What has been done, and what was wrong."""

    made: Made = field(default_factory=Made)
    sent: Counter[int] = field(default_factory=Counter)
    tallies: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in PHASES})
    warm_up: Vitals | None = None
    """The highest of each, over all looks in the warm-up."""
    at_end: Vitals | None = None
    flooded: Tally = field(default_factory=Tally)
    fds: set[int] = field(default_factory=set)
    """Numbers of open descriptors that were seen in the pauses."""
    exit_code: int | None = None
    seconds: float = 0
    violations: list[str] = field(default_factory=list)


class Stress:
    """Sends signals and orders, reads the answers, and holds all counts against each other."""

    def __init__(self, subject: Subject, patience: float) -> None:
        """Take a `run` that was just started, and the seconds after which something that does not come is lost."""
        self.result = Result()
        self.kind = FAST
        self._subject = subject
        self._patience = patience
        self._received: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self._sent_at: dict[int, float] = {}
        self._queued = 0
        self._orders = 0
        self._reports = b""
        self._finishing = False
        self._journal = Journal()
        self._tally = self.result.flooded
        self._next_sip = 0.0

    def start(self) -> None:
        """Wait for the load. Raises ViolationError."""
        set_capacity(self._subject.log, LARGE)
        self._wait(lambda: all(received[0] for received in self._received), lambda: "the load has started")
        self._subject.find()
        for received in self._received:
            del received[0]

    def phase(self, kind: str, seconds: float) -> None:
        """Full speed for some seconds, with stderr read in this way; then pause and check. Raises ViolationError."""
        started, first_order = time.monotonic(), self._orders

        def work() -> None:
            while time.monotonic() < started + seconds or self._orders < first_order + len(ORDERS):
                self._give_order(self._orders - first_order)
                self._send_signals()
                self._turn()
                if time.monotonic() > started + seconds + self._patience:
                    raise ViolationError(f"not within {seconds + self._patience:g} s: {self._missing()}")

        tally = self.result.tallies[kind]
        self._checked(kind, tally, work)
        tally.seconds += time.monotonic() - started

    def flood(self) -> Vitals:
        """Stop `run`, have a burst of orphans and every signal wait for it, and let it go on. Raises ViolationError.

        It then has as many children at once as it ever has here. How much memory a process keeps for later use depends
        on what it has freed last, so this is what it has done last whenever one looks.
        """

        def work() -> None:
            self._subject.stop()
            self._subject.order(b"b")
            self._orders += 1
            children = self._subject.children
            self._wait(lambda: len(children()) == 2 + BURST, lambda: "orphans wait for run, which is stopped")
            self._send_signals()

        return self._checked(FAST, self.result.flooded, work)

    def end(self) -> None:
        """Nobody is left but what the subject ends."""

    def progress(self) -> str:
        """What was done so far."""
        return f"{self.result.made.orphans} orphans, {self.result.sent.total()} signals, stderr read {self.kind}"

    def _checked(self, kind: str, tally: Tally, work: Callable[[], None]) -> Vitals:
        """Do this, with stderr read in this way; then pause and check. Raises ViolationError."""
        self.kind, self._tally = kind, tally
        before, sent = self.result.made, self.result.sent.copy()
        self._journal = Journal()
        set_capacity(self._subject.log, LARGE if kind == FAST else SMALL)
        work()
        self._pause()
        vitals = self._subject.vitals()
        self._check_rest(vitals)
        while self._read_log():
            pass
        self._check_log(before, self.result.sent - sent, tally)
        return vitals

    def finish(self) -> None:
        """End the load with a TERM, as `docker stop` would, and check the exit code. Raises ViolationError."""
        self.kind = FAST
        self._journal = Journal()
        self._subject.end_orders()
        self._wait(lambda: self.result.made.complete, lambda: "the load stops making processes")
        self._finishing = True
        self._send(TERM)
        process = self._subject.process
        self._wait(lambda: process.poll() is not None, lambda: "the command, the daemon and run end upon TERM")
        self._take_answers()
        self._check_signals()
        while self._read_log():
            pass
        if self._journal.ended != {0: 2} or self._journal.forwarded != {TERM: 1}:
            self._violated("the log does not end with a TERM and the ends of the command and the daemon")
        self.result.exit_code = process.returncode
        expected = max(code for code, count in enumerate(self.result.made.ended) if count)
        if process.returncode != expected:
            self._violated(f"exit code {process.returncode}, though the highest that was reaped is {expected}")

    def _give_order(self, number: int) -> None:
        """Keep one order ahead of the load."""
        if self._orders - self.result.made.orders < 2:
            at = number % len(ORDERS)
            self._subject.order(ORDERS[at : at + 1])
            self._orders += 1

    def _send_signals(self) -> None:
        """A window of real-time signals, and each standard signal whose last one was answered; CONT is the last."""
        answered = min(sum(received[n] for n in REAL_TIME) for received in self._received)
        while self._queued - answered < WINDOW:
            self._send(REAL_TIME[self._queued % len(REAL_TIME)])
            self._queued += 1
        for signum in STANDARD:
            if signum not in self._sent_at:
                self._sent_at[signum] = time.monotonic()
                self._send(signum)

    def _send(self, signum: int) -> None:
        self.result.sent[signum] += 1
        self._subject.send(signum, self.result.sent[signum])

    def _turn(self) -> None:
        """Wait for something to read, for a moment at most, and take it."""
        subject = self._subject
        poll = select.poll()
        for fd in (subject.answers, subject.reports, subject.log)[: 3 if self.kind == FAST else 2]:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(SIP_SECONDS * 1000)}
        if subject.answers in ready:
            self._take_answers()
        if subject.reports in ready:
            self._take_reports()
        if self.kind == FAST:
            self._read_log()
        elif self.kind == SLOW and time.monotonic() >= self._next_sip:
            self._next_sip = time.monotonic() + SIP_SECONDS
            self._read_log(SIP)
        if subject.process.poll() is not None and not self._finishing:
            raise ViolationError(f"run ended before its command, with exit code {subject.process.returncode}")

    def _take_answers(self) -> None:
        for byte, count in Counter(read(self._subject.answers)).items():
            self._received[byte >= DAEMON_MARK][byte % DAEMON_MARK] += count
        now = time.monotonic()
        for signum, sent_at in list(self._sent_at.items()):
            if min(received[signum] for received in self._received) >= self.result.sent[signum]:
                self._tally.slowest = max(self._tally.slowest, now - sent_at)
                del self._sent_at[signum]

    def _take_reports(self) -> None:
        self._reports += read(self._subject.reports)
        size = struct.calcsize(Made.FORMAT)
        whole = len(self._reports) // size * size
        if whole:
            self.result.made = Made.unpacked(self._reports[whole - size : whole])
            self._reports = self._reports[whole:]

    def _read_log(self, size: int = LARGE) -> bool:
        """Take what there is of the log, up to a size; say whether there was anything."""
        data = read(self._subject.log, size)
        self._journal.add(data)
        return bool(data)

    def _pause(self) -> None:
        """No more signals and orders: wait until all were answered, and `run` sleeps, with stderr read as before."""
        self._wait(lambda: not self._missing(), self._missing)
        self._wait(self._subject.at_rest, lambda: "run goes to sleep when there is nothing to do")
        self._turn()  # were there one answer too many, it would be there by now
        self._check_signals()

    def _wait(self, condition: Callable[[], object], what: Callable[[], str]) -> None:
        def met() -> bool:
            if condition():
                return True
            self._turn()
            return False

        wait_until(met, self._patience, what)

    def _missing(self) -> str:
        """What has not come yet, or nothing."""
        made, missing = self.result.made, []
        if made.orders < self._orders:
            left = len(self._subject.children()) - 2
            missing.append(f"{self._orders - made.orders} orders are not carried out ({left} orphans are left)")
        for who, received in zip(("the command", "the daemon"), self._received, strict=True):
            for signum, sent in self.result.sent.items():
                if received[signum] < sent:
                    missing.append(f"signal {signum} was sent {sent} times, {who} received {received[signum]}")
        return "; ".join(missing)

    def _check_signals(self) -> None:
        for who, received in zip(("the command", "the daemon"), self._received, strict=True):
            if received != self.result.sent:
                wrong = {n: (self.result.sent[n], received[n]) for n in received if received[n] != self.result.sent[n]}
                self._violated(f"{who} received other signals than were sent; number: (sent, received): {wrong}")

    def _check_rest(self, vitals: Vitals) -> None:
        """Hold what is seen of `run` in a pause against what must be, and what has been."""
        children = len(self._subject.children())
        if children != 2:
            self._violated(f"run has {children} children, not 2; {vitals.zombies} of them are zombies")
        self.result.fds.add(vitals.fds)
        if len(self.result.fds) > 1:
            self._violated(f"run does not always have as many open descriptors: {sorted(self.result.fds)}")

    def _check_log(self, before: Made, sent: Counter[int], tally: Tally) -> None:
        """Hold the log of a phase against what was made and sent in it."""
        made, journal = self.result.made, self._journal
        ended = Counter(dict(enumerate(made.ended))) - Counter(dict(enumerate(before.ended)))
        tally.orphans += ended.total()
        tally.signals += sent.total()
        tally.lines += journal.lines
        tally.dropped += ended.total() + sent.total() - journal.ended.total() - journal.forwarded.total()
        if journal.strange:
            self._violated(f"{len(journal.strange)} lines of the log are not as they should be: {journal.strange[0]!r}")
        if self.kind == FAST:
            for what, expected, logged in (("ended", ended, journal.ended), ("signals", sent, journal.forwarded)):
                if logged != expected:
                    wrong = {n: (expected[n], logged[n]) for n in expected | logged if logged[n] != expected[n]}
                    self._violated(f"the log counts other {what} than there were; number: (were, logged): {wrong}")
        elif not journal.ended <= ended or not journal.forwarded <= sent:
            self._violated("the log tells of more than there was")
        elif self.kind == NOT_AT_ALL and journal.ended.total() + journal.forwarded.total() == (ended + sent).total():
            self._violated("stderr took every line, though it was not read: there was no back-pressure")
        if journal.stopped > made.stops - before.stops:
            self._violated(f"the log tells of {journal.stopped} stops, {made.stops - before.stops} were made")

    def _violated(self, what: str) -> None:
        self.result.violations.append(f"{what} (stderr read {self.kind})")
