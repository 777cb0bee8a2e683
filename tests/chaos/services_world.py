"""One service in the model of the chaos tests of services: what it is made of, and what was seen of it so far."""

import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

WAITING, STARTING, READY, LINGERING, RESTARTING = "waiting", "starting", "ready", "lingering", "restarting"
STOPPING = "stopping"
DONE, ENDED, FAILED = "done", "ended", "failed"
FINAL = (DONE, ENDED, FAILED)
LIVING = (STARTING, READY, LINGERING, STOPPING)
"""What a service is where nothing moves. Lingering: its main process has ended well, others of its group have not.
Stopping: it does nothing upon its stop signal, and has no grace of its own."""

UP, DOWN, AGAIN = "start", "stop", "restart"

HANG, DEFAULT = -1, -2
"""What a process does upon its stop signal: nothing, or it has not caught it; else it exits with the code."""

SHORT = 0.2
"""Seconds of what comes before a test ends: the grace of who hangs, the start_period of who is never ready."""
NEVER = 3600
"""Seconds of what does not."""
COMMON = 1.5
"""Seconds of the common grace where who hangs has no other one: all others are gone before two thirds are over."""

LONGEST = 16 * 1024
"""Bytes after which a line goes on in another one."""

Words = tuple[Any, ...]


class Spec(NamedTuple):
    """What the file says of a service, and what its processes do upon its stop signal."""

    depends_on: tuple[str, ...] = ()
    oneshot: bool = False
    essential: bool = True
    restart: str = "no"
    limit: int | None = None
    delay: float = NEVER
    max_delay: float = NEVER
    stop_signal: int = 15
    how: int = 0
    kill_mode: str = "group"
    daemon: bool = False
    """Whether it puts itself into the background: its main process is what it has put there."""
    check: str = ""
    """Its healthcheck: "notify", "test" by a file, "late" for one that is never ready; or none."""
    on_unhealthy: str = "log"
    output: str = "named"


@dataclass
class Written:
    """What a service has written to one stream: whole lines, and the one that has begun."""

    lines: list[str] = field(default_factory=list)
    begun: str = ""
    goes_on: bool = False

    def add(self, text: str, longest: int) -> None:
        """It has written this."""
        *whole, begun = (self.begun + text).split("\n")
        for line in whole:
            self.begun = line
            self._cut(longest)
            self._end()
        self.begun = begun
        self._cut(longest)

    def finish(self) -> None:
        """A life has ended: so does the line that has begun."""
        if self.begun or self.goes_on:
            self._end()

    def _cut(self, longest: int) -> None:
        while len(self.begun) > longest:
            self.lines.append(("+" if self.goes_on else "|") + self.begun[:longest])
            self.begun, self.goes_on = self.begun[longest:], True

    def _end(self) -> None:
        self.lines.append(("+" if self.goes_on else "|") + self.begun)
        self.begun, self.goes_on = "", False


class Member(NamedTuple):
    """A process of a service: of which life, whether it is the "main" one, a "worker" or "apart", and which."""

    name: str
    life: int
    kind: str
    number: int = 0


@dataclass
class Seen:
    """What can be seen, and has to be what the model says."""

    log: list[str] = field(default_factory=list)
    """What is about no single service."""
    of: dict[str, list[str]] = field(default_factory=dict)
    """What the log says about each service."""
    alive: set[Member] = field(default_factory=set)
    got: dict[Member, list[int]] = field(default_factory=dict)
    lines: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """What each service has written to stdout (1) and stderr (2)."""
    code: int | None = None


@dataclass
class Orphans:
    """Processes that `run` has reaped, and which were no main process, by exit code."""

    sure: Counter[int] = field(default_factory=Counter)
    maybe: Counter[int] = field(default_factory=Counter)
    """Those whose main process may have been faster."""


class Service:
    """One service of the model."""

    def __init__(self, name: str, spec: Spec) -> None:
        """It waits."""
        self.name, self.spec = name, spec
        self.state = WAITING
        self.wanted = UP
        self.by_hand = False
        self.life = 0
        self.row = 0
        self.code: int | None = None
        self.end = 0
        """Of the last main process: its exit code, or -n for signal n. Of a daemon, of all that were reaped."""
        self.has_main = False
        self.workers: list[Member] = []
        """Of its group; of a daemon also those that are apart."""
        self.was_stopped = False
        self.failure = ""
        self.is_sick = False
        self.flag = False
        """Whether its healthcheck by a file succeeds."""

    @property
    def lives(self) -> bool:
        """Whether something of it runs."""
        return self.state in LIVING

    @property
    def main(self) -> Member:
        """The main process of its last life."""
        return Member(self.name, self.life, "main")

    @property
    def reached(self) -> list[Member]:
        """Whom a signal to the main process reaches; of a daemon the children of its keeper."""
        return [self.main] * self.has_main or self.workers * self.spec.daemon

    @property
    def members(self) -> list[Member]:
        """All processes of its life."""
        return [self.main] * self.has_main + self.workers

    def counted(self) -> int:
        """What a life that is over counts: contract, "The exit code of services"."""
        code = self.end if self.end >= 0 else 128 - self.end
        if self.was_stopped and code == 128 + self.spec.stop_signal:
            code = 0
        return code or (124 if self.failure else 0)

    def is_restarted(self, code: int) -> bool:
        """Whether there is another life after one that counts this."""
        spec = self.spec
        wants = spec.restart == "always" or (spec.restart == "on-failure" and code != 0) or self.failure == "unhealthy"
        return wants and (spec.limit is None or self.row < spec.limit)


def step_of(name: str, specs: Mapping[str, Spec]) -> int:
    """Its place in the order of start: behind all that it depends on; those of one place keep the file's order."""
    return max((step_of(other, specs) + 1 for other in specs[name].depends_on), default=0)


def described(end: int) -> str:
    """How the log says that a main process has ended."""
    return f"exited with code {end}" if end >= 0 else f"killed by {named(-end)}"


def named(signum: int) -> str:
    """How the log names a signal."""
    return f"{signal.Signals(signum).name[3:]} ({signum})"
