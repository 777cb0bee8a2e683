"""A started `run` whose command is the load: the pipes to it, and what the kernel says about `run` itself."""

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from living import living_bytes

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")

REAL_TIME = range(32, 65)
"""Signals that are queued; 32 and 33 are of them to the kernel, though the C library keeps them for itself."""

_libc = ctypes.CDLL(None, use_errno=True)


class ViolationError(Exception):
    """Something that must hold does not, and there is no way to go on: a message for the user."""


def compile_program(name: str, folder: Path) -> Path:
    """Build load.c or service.c; return the path of the program. Static, since that makes its forks cheaper."""
    target = folder / f"soak-{name}"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", target, source], check=True)
    return target


@dataclass(frozen=True)
class Made:
    """What the load has made, all in all; `ended` holds the orphans by exit code, 128 + n for signal n."""

    complete: int = 0
    """Whether there will be nothing more."""
    orders: int = 0
    forks: int = 0
    stops: int = 0
    ended: tuple[int, ...] = (0,) * 256

    FORMAT = "=261Q"

    @property
    def orphans(self) -> int:
        """How many `run` had to reap."""
        return sum(self.ended)

    @classmethod
    def unpacked(cls, report: bytes) -> "Made":
        """From a report of the load. Raises ViolationError if it tells of an error."""
        error, complete, orders, forks, stops, *ended = struct.unpack(cls.FORMAT, report)
        if error:
            raise ViolationError(f"the load failed: {os.strerror(error)}")
        return cls(complete, orders, forks, stops, tuple(ended))


@dataclass(frozen=True)
class Vitals:
    """What must not grow: `run` at rest, with nothing to do."""

    zombies: int
    fds: int
    memory: int
    """Its own, in kB: Anonymous in smaps of proc(5). In Private_Dirty are pages of a new file, too."""
    objects: int
    """Of that: living small objects of Python, in kB."""

    def worst(self, other: "Vitals | None") -> "Vitals":
        """The highest of each."""
        if other is None:
            return self
        return Vitals(*map(max, astuple(self), astuple(other)))

    def lasting(self, others: "list[Vitals]") -> "Vitals":
        """The most zombies and descriptors of these looks, and the memory that was there in each of them."""
        zombies, fds, memory, objects = zip(*map(astuple, (self, *others)), strict=True)
        return Vitals(max(zombies), max(fds), min(memory), min(objects))

    def grown(self, since: "Vitals", slack: int = 0, pools: int = 0) -> list[str]:
        """What is more than it was, each as a clear line. Memory may be so many kB more, and pages so many more."""
        lines = [f"{self.zombies} zombies"] if self.zombies else []
        for name, now, then, allowed in (
            ("open descriptors", self.fds, since.fds, 0),
            ("kB of private memory", self.memory, since.memory, slack + pools),
            ("kB of living objects", self.objects, since.objects, slack),
        ):
            if now - then > allowed:
                lines.append(f"{now - then} {name} more than in the warm-up: {then}, then {now}")
        return lines


class Watched:
    """A started `run`, and what the kernel says about it."""

    process: subprocess.Popen[bytes]
    pid: int

    def stop(self) -> None:
        """Stop `run` until it is sent a CONT."""
        os.kill(self.pid, signal.SIGSTOP)

    def children(self) -> list[int]:
        """The children of `run`, zombies included."""
        return self.children_of(self.pid)

    def at_rest(self) -> bool:
        """Whether `run` sleeps, with no signal pending, and goes on sleeping for a moment."""
        before = self.switches()
        time.sleep(0.02)
        after = self.status()
        pending = int(after["SigPnd"], 16) | int(after["ShdPnd"], 16)
        return after["State"].startswith("S") and not pending and before == self.switches()

    def switches(self) -> str:
        """How often it has gone to sleep."""
        return self.status()["voluntary_ctxt_switches"]

    def zombies(self) -> int:
        """How many of its children have ended, and are not reaped."""
        return sum(self._is_zombie(pid) for pid in self.children())

    def _is_zombie(self, pid: int) -> bool:
        try:
            return self.status(pid)["State"].startswith("Z")
        except ViolationError:
            return False  # it was reaped meanwhile

    def living(self) -> int:
        """How many of them have not ended; while `run` is stopped none of those is reaped."""
        return len(self.children()) - self.zombies()

    def vitals(self) -> Vitals:
        """What must not grow, now."""
        fds = len(os.listdir(f"/proc/{self.pid}/fd"))
        return Vitals(self.zombies(), fds, self._memory(), living_bytes(self.pid) // 1024)

    def _memory(self) -> int:
        """But for the stack, which is as large as the deepest call so far."""
        kilobytes, is_stack = 0, False
        for line in Path(f"/proc/{self.pid}/smaps").read_text().splitlines():
            name, value = line.split(maxsplit=1)
            if not name.endswith(":"):  # a mapping begins
                is_stack = value.endswith("[stack]")
            elif name == "Anonymous:" and not is_stack:
                kilobytes += int(value.split()[0])
        return kilobytes

    def end(self) -> None:
        """Kill whatever is left."""
        if self.process.poll() is None:
            for pid in self._tree(self.process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.wait()

    def send(self, signum: int, number: int) -> None:
        """Send a signal to `run`: a real-time signal with a number, as sigqueue(3) queues it."""
        if signum < REAL_TIME[0]:
            try:
                os.kill(self.pid, signum)
            except ProcessLookupError:
                raise ViolationError("run has gone") from None
        elif _libc.sigqueue(self.pid, signum, ctypes.c_void_p(number)) != 0:
            raise ViolationError(f"cannot send signal {signum}: {os.strerror(ctypes.get_errno())}")

    def status(self, pid: int | None = None) -> dict[str, str]:
        """The fields of /proc/PID/status, of `run` itself or of another process. Raises ViolationError."""
        return self._fields(f"/proc/{pid or self.pid}/status")

    def _fields(self, path: str) -> dict[str, str]:
        try:
            text = Path(path).read_text()
        except (FileNotFoundError, ProcessLookupError):
            raise ViolationError(f"{path} has gone") from None
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

    def children_of(self, pid: int) -> list[int]:
        """The children of a process; none if it has gone."""
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def _tree(self, pid: int) -> list[int]:
        found = [pid]
        for child in self.children_of(pid):
            found += self._tree(child)
        return found


class Subject(Watched):
    """A started `run`, as PID 1 of a pid namespace of its own or as a child subreaper."""

    def __init__(self, binary: str, load: Path, as_pid_1: bool) -> None:
        """Start it, with the load as its command."""
        self.name = "as PID 1" if as_pid_1 else "as subreaper"
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.reports, reports = os.pipe()
        self.log, log = os.pipe()
        words: list[str] = [*(UNSHARE if as_pid_1 else ()), binary, str(load), str(reports)]
        self.process = subprocess.Popen(
            words, stdin=orders, stdout=answers, stderr=log, pass_fds=[reports], process_group=0
        )
        for fd in (orders, answers, reports, log):
            os.close(fd)
        for fd in (self.answers, self.reports, self.log):
            os.set_blocking(fd, False)
        self._as_pid_1 = as_pid_1
        self.pid = self.process.pid

    def find(self) -> None:
        """Note the pid of `run` itself, once the load has started."""
        if self._as_pid_1:
            self.pid = self.children_of(self.process.pid)[0]

    def order(self, what: bytes) -> None:
        """Have the load make something."""
        os.write(self.orders, what)

    def end_orders(self) -> None:
        """Have the load make no more processes, and end with the next TERM."""
        if self.orders >= 0:
            os.close(self.orders)
            self.orders = -1

    def end(self) -> None:
        """Kill whatever is left."""
        super().end()
        self.end_orders()
        for fd in (self.answers, self.reports, self.log):
            os.close(fd)


def wait_until(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait for a condition. Raises ViolationError, with what is still missing then."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ViolationError(f"not within {seconds:g} s: {what()}")


def read(fd: int, size: int = 1 << 20) -> bytes:
    """Whatever there is to read now; nothing also at the end."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return b""


def set_capacity(fd: int, size: int) -> None:
    """Make a pipe as large as this: fcntl(2). Raises ViolationError."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
    except OSError as error:
        raise ViolationError(f"cannot have a pipe of {size} bytes: {error.strerror}") from None
