"""What every engine can do: start a container, look at it, stop it. And what a case may ask for when it starts one."""

import os
import pty
import select
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from harness import DEADLINE, are_blocked_by_run, signals, wait_until

USER = 12345
"""The user of a hardened container."""

GRACE = 120
"""Seconds after which an engine kills, unless a case says otherwise: so many that it is a failure to come near."""


class MissingError(Exception):
    """An engine cannot be had here, and why."""


@dataclass(frozen=True)
class How:
    """How a container is to be started."""

    hardened: bool = False
    """With a root that cannot be written to, as a user that is not root, without capabilities."""
    grace: int = GRACE
    """Seconds from the engine's TERM to its KILL."""
    health: bool = False
    """With the engine's own health check, which is `/bin/run -c health`."""
    beside: "Box | None" = None
    """In the pid namespace of this one."""
    init: bool = False
    """With an init of the engine's own before `run`."""
    ids: bool = False
    """With user ids of its own, as far as the engine has that."""


PLAIN = How()


class Stopped(NamedTuple):
    """How a command ends that is stopped."""

    code: int
    signals: str
    """A pattern of those that may end it."""


def call(words: Sequence[str], *, data: bytes = b"", seconds: float = DEADLINE) -> tuple[int, str]:
    """Call a command: its exit code, and what it printed, stderr included."""
    done = subprocess.run(
        list(words), input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False
    )
    return done.returncode, done.stdout.decode(errors="replace")


def must(words: Sequence[str], *, data: bytes = b"", seconds: float = DEADLINE) -> str:
    """Call a command that has to succeed: what it printed, stderr included."""
    code, out = call(words, data=data, seconds=seconds)
    assert code == 0, f"{' '.join(words)} failed with {code}:\n{out}"
    return out


class Box(ABC):
    """A container that was started."""

    @abstractmethod
    def log(self) -> str:
        """What it has written so far."""

    def out(self) -> str:
        """What it has written to stdout, without what it has written to stderr, where that can be told."""
        return self.log()

    @abstractmethod
    def running(self) -> bool:
        """Whether it has not ended."""

    @abstractmethod
    def exit_code(self) -> int:
        """The exit code, once it has ended."""

    @abstractmethod
    def execute(self, *words: str) -> tuple[int, str]:
        """Execute a command in it: exit code and output."""

    @abstractmethod
    def kill(self, name: str) -> None:
        """Send `run` a signal."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Stop it as the engine does: TERM, and KILL after the grace."""

    @abstractmethod
    def remove(self) -> None:
        """Remove it, whatever its state."""

    def pid(self) -> int:
        """The pid of `run` as it is seen from here, or 0 where it is not."""
        return 0

    def health(self) -> str:
        """What the engine's health check says: healthy, unhealthy, or something else while it does not know."""
        raise NotImplementedError

    def stop(self) -> int:
        """Stop it; the exit code."""
        self.ask_to_stop()
        return self.exit_code()

    def wait_log(self, text: str) -> str:
        """Wait until the text is in the log; return the log."""

        def found() -> bool:
            return text in self.log() or not self.running()

        wait_until(found, f"{text!r} in the log")
        log = self.log()
        assert text in log, f"ended; {text!r} is not in the log:\n{log}"
        return log

    def wait_executed(self) -> None:
        """Wait until `run` is there to get a signal, at the first instant that can be seen from here."""

        def executed() -> bool:
            pid = self.pid()
            if pid and are_blocked_by_run(signals(pid, "SigBlk")):
                return True
            return "own pid is" in self.log() or not self.running()

        wait_until(executed, "run is executed")


class Engine(ABC):
    """Starts containers of one image, which has `run`, a busybox and files of services in it; see image.py."""

    name: ClassVar[str]
    """By which it is picked."""
    packages: ClassVar[str]
    """What has to be installed, for the message."""
    lacks: ClassVar[dict[str, str]] = {}
    """Cases for which it has nothing, and why."""
    examples: ClassVar[dict[str, Any]] = {}
    """More cases: the examples that are for this engine, each a function that takes it."""
    alone: ClassVar[dict[str, Any]] = {}
    """Cases that take the engine for themselves, after all others."""
    killed: ClassVar[int] = 137
    """The exit code that it tells of a container that it has killed."""
    stopped_by_init: ClassVar[Stopped] = Stopped(143, r"TERM \(15\)")
    """What comes of its stop where an init of its own is PID 1."""
    user: ClassVar[int] = USER
    """Who runs in a hardened container, as seen there."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._boxes: list[Box] = []
        self._undo = ExitStack()
        """What open() has to have undone: it notes each step, for it may fail at the next one."""

    @abstractmethod
    def open(self, layer: bytes) -> None:
        """Start it, and load the image: a tar file of its one layer. Raises MissingError."""

    @abstractmethod
    def version(self) -> str:
        """Its name and version, for the table."""

    @abstractmethod
    def _start(self, words: Sequence[str], how: How) -> Box:
        """Start a container with these words for /bin/run."""

    def close(self) -> None:
        """Stop it, and remove what it has left."""
        self._undo.close()

    def terminal(self, *words: str) -> list[str]:
        """The command that starts such a container at the terminal that it is itself started at."""
        raise NotImplementedError

    def __call__(self, *words: str, how: How = PLAIN) -> Box:
        """Start a container with these words for /bin/run."""
        box = self._start(words, how)
        self._boxes.append(box)
        return box

    def remove_boxes(self) -> None:
        """Remove all containers."""
        with ExitStack() as stack:  # all of them, even if one cannot be removed
            for box in self._boxes:
                stack.callback(box.remove)
        self._boxes.clear()


class Typist:
    """A command at a terminal of its own, at which somebody types."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it as the leader of a session, with the terminal as its controlling one."""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            try:
                os.execvp(words[0], list(words))
            finally:
                os._exit(127)
        self.out = ""

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 0.05)[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # nobody has it open any more
            return True
        self.out += data.decode(errors="replace")
        return not data

    def wait_out(self, text: str) -> None:
        """Wait until this was shown."""
        wait_until(lambda: (self._read(), text in self.out)[1], f"{text!r} is shown")

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._terminal, text.encode())

    def exit_code(self) -> int:
        """Read all that it shows, and return its exit code."""
        end = time.monotonic() + DEADLINE
        while not self._read():
            assert time.monotonic() < end, f"the terminal stays open:\n{self.out}"
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@contextmanager
def own_mounts(without: str, empty: Sequence[str]) -> Iterator[list[str]]:
    """The words before a command for which nothing is mounted at a folder, and others are its own, and empty.

    All such commands share their mounts.
    """
    script = """
    if mountpoint -q "$0"; then umount "$0"; fi
    for folder; do mkdir -p "$folder"; mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
    echo; exec sleep infinity
    """
    holder = subprocess.Popen(["unshare", "--mount", "sh", "-ec", script, without, *empty], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline(), "no mount namespace can be made"
        yield ["nsenter", "--target", str(holder.pid), "--mount", "env", "--chdir=/"]
    finally:
        holder.kill()
        holder.wait()
