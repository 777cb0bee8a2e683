"""The stage of the chaos tests: the real `run` and real processes, the puppets of chaos_puppet.c, and what is seen."""

import array
import os
import re
import signal
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

from chaos_model import MOST_NODES, View, after, beginning, view
from chaos_world import CATCH, IGNORE, KERNEL, OUTSIDE, RUN, Setup, Words, World
from harness import Starter, children, status

ORDER_SIZE = 32
EVENT_SIZE = 64
CREDENTIALS = struct.calcsize("3i")
PATIENCE = 20.0
"""Seconds after which a world that is still moving is a failure; the machine may be slow."""

ENDED = re.compile(r"\] pid (\d+): (?:exited with code (\d+)|killed by .*\((\d+)\))$", re.MULTILINE)
NAMES = {n: signal.Signals(n).name[3:] for n in range(1, 65) if n in signal.valid_signals() and n in list(signal.Signals)}


class Seen(NamedTuple):
    """A process as /proc/PID/status shows it, with how often it has waited, which tells whether it has moved."""

    state: str
    parent: int
    group: int
    session: int
    switches: str


class Stage:
    """One `run` with its puppets, and the worlds in which they may be by now."""

    def __init__(self, start: Starter, puppet: Path, setup: Setup) -> None:
        """Start `run`, and wait until the command, puppet 0, is there."""
        self.setup = setup
        self.story: list[str] = []
        self._pids: dict[int, int] = {}
        self._inner_pids: dict[int, int] = {}
        self._log_read = 0
        self._seen: dict[int, Seen] = {}
        self._got: dict[int, list[tuple[int, int]]] = {}
        self._events, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._events.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._pipes = [os.pipe() for _ in range(MOST_NODES)]
        given = [theirs.fileno(), *(read for read, _ in self._pipes)]
        with theirs:
            words = (*options(setup), puppet, *map(str, given))
            self.started = start(*map(str, words), pid_1=setup.pid_1, pass_fds=given, process_group=0)
        self._wait_event()
        self.run_pid = self.started.pid
        self._inner_pids |= {RUN: 1 if setup.pid_1 else self.run_pid, KERNEL: 0}
        self._inner_pids[OUTSIDE] = 0 if setup.pid_1 else os.getpid()
        self.worlds = [beginning(setup)]
        self.do(())

    # -- Doing --------------------------------------------------------------------------------------------------------

    def do(self, deeds: tuple[Words, ...]) -> None:
        """Do all this without waiting in between, then wait for peace, and compare what is seen with the model."""
        deeds = tuple(deed for deed in deeds if self._can_do(deed))
        expected = {world: None for before in self.worlds for world in after(before, deeds)}
        self._got = {}
        self.story.append("; ".join(map(told, deeds)) or "start")
        for deed in deeds:
            self._do(deed)
        self._wait_for_peace()
        seen = self._view()
        self.worlds = [world for world in expected if view(world, self._inner_pids) == seen]
        if not self.worlds:
            possible = "\n".join(f"  or {view(world, self._inner_pids)}" for world in list(expected)[:8])
            raise AssertionError(self.report(f"the model foresees\n     {possible[5:]}\nbut there is\n     {seen}"))

    def _can_do(self, deed: Words) -> bool:
        """Whether all processes are there, or have been, whose pids are needed."""
        verb, *words = deed
        if verb == "tell":
            number, (order, *values) = words
            needed = [number, *(values[:1] if order == "setpgid" else values[1:2] if order == "kill" else [])]
        else:
            needed = [words[1]]
        return all(number in self._inner_pids for number in needed)

    def _do(self, deed: Words) -> None:
        verb, *words = deed
        if verb == "tell":
            order = self._order(words[1])
            os.write(self._pipes[words[0]][1], " ".join(map(str, order)).encode().ljust(ORDER_SIZE))
            return
        kind, number, signum = words
        pid = self.run_pid if number == RUN else self._pids[number]
        there = any(seen.group == pid for seen in self._seen.values()) if kind == "group" else pid in self._seen
        if there:
            try:
                os.kill(-pid if kind == "group" else pid, signum)
            except ProcessLookupError:
                pass

    def _order(self, order: Words) -> Words:
        """An order in the words of chaos_puppet.c."""
        verb, *words = order
        if verb == "setpgid":
            return verb, self._inner_pids[words[0]]
        if verb == "kill":
            kind, number, signum = words
            pid = self._inner_pids[number]
            return verb, -pid if kind == "group" else pid, signum
        if verb == "action":
            signum, action = words
            verbs = {None: "default", IGNORE: "ignore", CATCH: "catch"}
            return (verbs[action], signum) if action in verbs else ("leave", signum, action)
        return order

    # -- Seeing -------------------------------------------------------------------------------------------------------

    def _wait_event(self) -> None:
        try:
            self._hear(PATIENCE)
        except TimeoutError:
            raise AssertionError(self.report("the command does not start")) from None

    def _hear(self, seconds: float = 0) -> bool:
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
            self._pids[int(number)] = array.array("i", ancillary[0][2])[0]
            self._inner_pids[int(number)] = int(first)
        else:
            assert what == "got", message
            self._got.setdefault(int(number), []).append((int(first), int(second)))
        return True

    def _wait_for_peace(self) -> None:
        """Wait until nothing moves, or `run` has ended and nobody is left."""
        end = time.monotonic() + PATIENCE
        before: dict[int, Seen] = {}
        while True:
            news = self._hear_all()
            if self.started.process.poll() is not None:
                self._wait_for_silence()
                return
            self._seen = self._look()
            if self._seen == before and not news and not self._moves():
                return
            before = self._seen
            if time.monotonic() > end:
                raise AssertionError(self.report("it does not come to rest"))
            time.sleep(0.0005)

    def _hear_all(self) -> int:
        count = 0
        try:
            while self._hear():
                count += 1
        except EOFError:
            pass
        return count

    def _wait_for_silence(self) -> None:
        """After the end of `run` nobody may be left who holds the socket."""
        self._seen = {}
        try:
            while self._hear(PATIENCE):
                pass
        except EOFError:
            return
        except TimeoutError:
            raise AssertionError(self.report("run has ended, but somebody has survived")) from None

    def _look(self) -> dict[int, Seen]:
        """All descendants, and `run` itself."""
        seen = {}
        ahead = [self.run_pid]
        while ahead:
            pid = ahead.pop()
            fields = status(pid)
            if fields:
                ids = [int(fields[name].split()[0]) for name in ("PPid", "NSpgid", "NSsid")]
                switches = fields["voluntary_ctxt_switches"] + " " + fields["nonvoluntary_ctxt_switches"]
                seen[pid] = Seen(fields["State"][0], *ids, switches)
                ahead += children(pid)
        return seen

    def _moves(self) -> bool:
        """Whether anybody is about to do something."""
        if any(seen.state not in ("S", "T", "Z") for seen in self._seen.values()):
            return True
        run = self._seen.get(self.run_pid)
        unknown = [seen for pid, seen in self._seen.items() if pid not in self._pids.values() and pid != self.run_pid]
        if run is None or run.state == "Z" or any(seen.state != "Z" for seen in unknown):
            return True
        return self.setup.kills_soon and "] shutdown" in self.started.log()

    def _view(self) -> View:
        log = self.started.log()
        ended = ENDED.findall(log, self._log_read)
        self._log_read = len(log)
        names = {pid: str(number) for number, pid in self._pids.items()}
        inner = {pid: str(number) for number, pid in self._inner_pids.items() if number >= 0}
        run = self._seen.get(self.run_pid)
        if run:
            names |= {self.run_pid: "run", run.group: "run", run.session: "run"}
        tree = []
        for pid, seen in self._seen.items():
            if pid != self.run_pid:
                relations = [names.get(other, "?") for other in (seen.parent, seen.group, seen.session)]
                tree.append((names.get(pid, "?"), seen.state, *relations))
        return View(
            tree=tuple(sorted(tree)),
            got=tuple((number, tuple(events)) for number, events in sorted(self._got.items())),
            reaped=tuple(sorted(f"{inner.get(int(pid), '?')}: {code or 128 + int(n)}" for pid, code, n in ended)),
            run_stopped=run is not None and run.state == "T",
            stopping="] shutdown" in log,
            ended=self.started.process.poll(),
        )

    # -- The end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill whoever is left."""
        for pid in self._look() if self.started.process.poll() is None else ():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.started.process.kill()
        self.started.process.wait()
        self._events.close()
        for pipe in self._pipes:
            for fd in pipe:
                os.close(fd)

    def report(self, what: str) -> str:
        """What has happened so far, and how things are now."""
        seen = {pid: tuple(seen) for pid, seen in self._look().items()} if hasattr(self, "run_pid") else {}
        story = "\n".join(f"  {number}. {deeds}" for number, deeds in enumerate(self.story))
        known = ", ".join(f"{number}={pid}" for number, pid in self._inner_pids.items() if number >= 0)
        words = " ".join(options(self.setup))
        mode = "PID 1" if self.setup.pid_1 else "subreaper"
        return (
            f"{what}\nrun {words} (as {mode})\n{story}\npids: {known}\n"
            f"processes now (state, parent, group, session): {seen}\nlog:\n{self.started.log()}"
        )


def options(setup: Setup) -> list[str]:
    """The options of `run`."""
    words = ["-d"] * setup.daemon
    words += [] if setup.stop_with is None else ["-s", NAMES[setup.stop_with]]
    return words + ([] if setup.grace is None else ["-t", str(setup.grace)])


def told(deed: Words) -> str:
    """A deed as a failure report shows it."""
    verb, *words = deed
    if verb == "tell":
        number, (order, *values) = words
        return f"{number}: {order} {' '.join(map(str, values))}".rstrip()
    kind, number, signum = words
    return f"{NAMES.get(signum, signum)} to {'run' if number == RUN else f'{kind} {number}'}"


def finish(stage: Stage, kill: bool) -> None:
    """End all puppets that are left, one after the other, by KILL or by telling them to exit: then `run` ends, too."""
    while not (world := stage.worlds[0]).run.ended:
        if world.run.stopped:
            stage.do((("signal", "run", RUN, signal.SIGCONT),))
            continue
        number = world.living()[0]
        stage.do((last_deed(world, number, kill),))


def last_deed(world: World, number: int, kill: bool) -> Words:
    """What ends a puppet."""
    if kill or world.node(number).stopped:
        return ("signal", "node", number, signal.SIGKILL)
    return ("tell", number, ("exit", number))
