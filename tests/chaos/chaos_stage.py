"""The stage of the chaos tests: the real `run` and real processes, the puppets of chaos_puppet.c, and what they say."""

import array
import os
import re
import signal
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

from chaos_model import MOST_NODES
from chaos_node import CATCH, IGNORE, KERNEL, OUTSIDE, RUN, Words
from chaos_world import Setup
from harness import DEADLINE, Starter, children, status

ORDER_SIZE = 32
EVENT_SIZE = 64
CREDENTIALS = struct.calcsize("3i")

ENDED = re.compile(r"\] pid (\d+): (?:exited with code (\d+)|killed by (?:signal |.*\()(\d+)\)?)$", re.MULTILINE)
LONG = 0.5
"""Seconds after which what has not moved is at rest, where the kernel does not tell more."""

SIGNAL_NAMES = {number: number.name[3:] for number in signal.Signals}


class Seen(NamedTuple):
    """A process as /proc shows it: where it sleeps ("0" if it does not), and how often it did, tell whether it moves.

    Its state alone does not tell: it is S as soon as a process makes ready to sleep, as wait(2) does in passing.
    """

    state: str
    parent: int
    group: int
    session: int
    sleeps: str
    switches: str

    def is_asleep(self) -> bool:
        """Whether it is sure that it sleeps, has stopped or ended."""
        return self.state == "Z" or self.sleeps != "0"


class Stage:
    """One `run` with its puppets."""

    patience = DEADLINE
    """Seconds to wait for what must come. Once that was in vain, a smaller example should not take as long to fail."""

    def __init__(self, start: Starter, puppet: Path, setup: Setup) -> None:
        """Start `run`, and wait until the command, puppet 0, is there."""
        self.setup = setup
        self.story: list[str] = []
        self.pids: dict[int, int] = {}
        self.inner_pids: dict[int, int] = {}
        self.seen: dict[int, Seen] = {}
        self.got: dict[int, list[tuple[int, int]]] = {}
        self._events, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._pipes = [os.pipe() for _ in range(MOST_NODES)]
        given = [theirs.fileno(), *(read for read, _ in self._pipes)]
        with theirs:
            words = map(str, (*options(setup), puppet, *given))
            self.started = start(*words, pid_1=setup.pid_1, pass_fds=given, process_group=0)
        self.run_pid = 0
        try:
            self._hear(self.patience)
        except (TimeoutError, EOFError):
            self.close()
            raise self.too_late("the command does not start") from None
        self.run_pid = self.started.pid
        self.inner_pids |= {RUN: 1 if setup.pid_1 else self.run_pid, KERNEL: 0}
        self.inner_pids[OUTSIDE] = 0 if setup.pid_1 else os.getpid()

    # -- Telling ------------------------------------------------------------------------------------------------------

    def tell(self, number: int, order: Words) -> None:
        """Give a puppet an order."""
        os.write(self._pipes[number][1], " ".join(map(str, self._spelled(order))).encode().ljust(ORDER_SIZE))

    def signal(self, pid: int, signum: int) -> None:
        """Send a signal to a process that may have ended, or -pid to a group."""
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass

    def _spelled(self, order: Words) -> Words:
        """An order in the words of chaos_puppet.c."""
        verb, *words = order
        if verb == "setpgid":
            return verb, self.inner_pids[words[0]]
        if verb == "kill":
            kind, number, signum = words
            pid = self.inner_pids[number]
            return verb, -pid if kind == "group" else pid, signum
        if verb == "action":
            signum, action = words
            verbs = {None: "default", IGNORE: "ignore", CATCH: "catch"}
            return (verbs[action], signum) if action in verbs else ("leave", signum, action)
        return order

    # -- Seeing -------------------------------------------------------------------------------------------------------

    def _hear(self, seconds: float) -> bool:
        """Take note of one event; say whether there is one. Raises EOFError when nobody is left who could say more."""
        self._events.settimeout(seconds)
        try:
            message, ancillary, _, _ = self._events.recvmsg(EVENT_SIZE, socket.CMSG_SPACE(CREDENTIALS))
        except BlockingIOError:
            return False
        if not message:
            raise EOFError
        number, what, first, second = message.decode().split()
        if what == "up":
            # The kernel gives the sender's pid as it is here; it has said what it is in its own pid namespace.
            self.pids[int(number)] = array.array("i", ancillary[0][2])[0]
            self.inner_pids[int(number)] = int(first)
        else:
            assert what == "got", message
            self.got.setdefault(int(number), []).append((int(first), int(second)))
        return True

    def hear_all(self) -> bool:
        """Take note of all events that there are; say whether there were any."""
        news = False
        try:
            while self._hear(0):
                news = True
        except EOFError:
            pass
        return news

    def wait_for_silence(self) -> None:
        """After the end of `run` nobody may be left who holds the socket."""
        try:
            while self._hear(self.patience):
                pass
        except EOFError:
            return
        except TimeoutError:
            raise self.too_late("run has ended, but somebody has survived") from None

    def look(self) -> dict[int, Seen]:
        """`run` and all its descendants."""
        seen = {}
        ahead = [self.run_pid]
        while ahead:
            pid = ahead.pop()
            if fields := status(pid):
                parent, group, session = (int(fields[name].split()[0]) for name in ("PPid", "NSpgid", "NSsid"))
                switches = fields["voluntary_ctxt_switches"] + " " + fields["nonvoluntary_ctxt_switches"]
                seen[pid] = Seen(fields["State"][0], parent, group, session, place_of_sleep(pid), switches)
                ahead += children(pid)
        return seen

    def wait_for_peace(self) -> None:
        """Wait until nothing moves, or `run` has ended and nobody is left."""
        end = time.monotonic() + self.patience
        before: dict[int, Seen] = {}
        since = 0.0
        while True:
            news = self.hear_all()
            if self.started.process.poll() is not None:
                self.seen = {}
                self.wait_for_silence()
                return
            self.seen = self.look()
            now = time.monotonic()
            if self.seen != before or news:
                since = now
            elif not self.moves() and (now > since + LONG or all(map(Seen.is_asleep, self.seen.values()))):
                return
            before = self.seen
            if now > end:
                raise self.too_late("it does not come to rest")
            time.sleep(0.0005)

    def moves(self) -> bool:
        """Whether anybody is about to do something, or `run` to end."""
        run = self.seen.get(self.run_pid)
        return run is None or run.state == "Z" or any(seen.state not in ("S", "T", "Z") for seen in self.seen.values())

    # -- The end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill whoever is left."""
        left = list(self.look()) if self.run_pid and self.started.process.poll() is None else []
        for pid in left:
            self.signal(pid, signal.SIGKILL)
        self.started.process.kill()
        self.started.process.wait()
        self._events.close()
        for pipe in self._pipes:
            for fd in pipe:
                os.close(fd)

    def too_late(self, what: str) -> AssertionError:
        """What did not come in time. From now on less time is given, for smaller examples will be tried."""
        Stage.patience = min(Stage.patience, 5.0)
        return self.failure(what)

    def failure(self, what: str) -> AssertionError:
        """What is wrong, what has happened so far, and how things are now."""
        seen = {pid: tuple(seen) for pid, seen in self.look().items()} if self.run_pid else {}
        story = "\n".join(f"  {number}. {deeds}" for number, deeds in enumerate(self.story))
        known = ", ".join(f"{number}={pid}" for number, pid in self.pids.items())
        words = " ".join(options(self.setup))
        mode = "PID 1" if self.setup.pid_1 else "subreaper"
        return AssertionError(
            f"{what}\nrun {words} (as {mode})\n{story}\npids: {known}\n"
            f"processes now (state, parent, group, session): {seen}\nlog:\n{self.started.log()}"
        )


def place_of_sleep(pid: int) -> str:
    """What a process waits for, "0" if it is not certain that it waits: /proc/PID/wchan."""
    try:
        return Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return "0"


def options(setup: Setup) -> list[str]:
    """The options of `run`."""
    words = ["-d"] * setup.daemon
    words += [] if setup.stop_with is None else ["-s", SIGNAL_NAMES[signal.Signals(setup.stop_with)]]
    return words + ([] if setup.grace is None else ["-t", str(setup.grace)])


def told(deed: Words) -> str:
    """A deed as a failure report shows it."""
    verb, *words = deed
    if verb == "tell":
        number, (order, *values) = words
        return f"{number}: {order} {' '.join(map(str, values))}".rstrip()
    kind, number, signum = words
    names = {int(known): name for known, name in SIGNAL_NAMES.items()}
    return f"{names.get(signum, signum)} to {'run' if number == RUN else f'{kind} {number}'}"
