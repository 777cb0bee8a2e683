"""Tools of the tests: start the binary, wait for conditions with a deadline, look at processes under /proc."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

DEADLINE = 300.0
"""Seconds after which a condition that did not come true is a failure: a shared machine may stand still meanwhile."""

AS_PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
"""The words before those of a command that make it PID 1 of a pid namespace of its own; they need root."""

WITHOUT_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
"""The words before those of a command for which there is no /proc; they need root."""


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Wait for a condition to come true, and return its value. Fails with what was waited for."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)
    return value


def open_gate(gate: Path) -> None:
    """Write a line into a named pipe, for whoever reads from it, or waits for its end. Fails if nobody comes to read.

    To open it waits for a reader, and would for ever if that one has died, but not with O_NONBLOCK: fifo(7).
    """

    def opened() -> list[int]:
        try:
            return [os.open(gate, os.O_WRONLY | os.O_NONBLOCK)]
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return []

    [fd] = wait_until(opened, f"somebody reads from {gate}")
    with suppress(BrokenPipeError):  # it may wait for the end alone, and has closed it
        os.write(fd, b"\n")
    os.close(fd)


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status, or nothing if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def state(pid: int) -> str:
    """The state of a process as one letter (R, S, T, Z, ...), or '' if it is gone."""
    return status(pid).get("State", "")[:1]


def alive(pid: int) -> bool:
    """Whether a process is there, and not a zombie."""
    return state(pid) not in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """The children of a process, zombies included."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def signals(pid: int, field: str) -> set[int]:
    """A signal set of /proc/PID/status (SigBlk, SigIgn, SigCgt, SigPnd, ShdPnd) as signal numbers."""
    return signal_numbers(int(status(pid).get(field, "0"), 16))


def are_blocked_by_run(signums: set[int]) -> bool:
    """Whether a process that shows these signals as blocked is a `run` that has begun.

    TTIN and TTOU tell: of the others, SigBlk leaves out those that rt_sigtimedwait(2) waits for, while it does.
    """
    return signums >= {signal.SIGTTIN, signal.SIGTTOU}


def signal_numbers(mask: int) -> set[int]:
    """The signals of a set that is written as a number, bit n - 1 for signal n, as the kernel does."""
    return {n for n in range(1, 65) if mask >> (n - 1) & 1}


def compile_c(source: str, target: Path, *flags: str) -> Path:
    """Compile a C program; return its path."""
    subprocess.run(
        ["gcc", "-x", "c", "-O1", "-Wall", "-o", str(target), *flags, "-"], input=source.encode(), check=True
    )
    return target


def waiting_for(name: str, code: int = 0) -> list[str]:
    """A command that writes "ready" to stdout, takes every signal without a word, and exits with code upon this one."""
    script = (
        "import os, signal; every = set(range(1, 65)) - {9, 19, 32, 33}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, every)\n"
        f"os.write(1, b'ready\\n')\nwhile signal.sigwait(every) != signal.SIG{name}: pass\nos._exit({code})"
    )
    return ["python3", "-S", "-c", script]


class Started:
    """A started `run`: its process, its log, its output."""

    def __init__(self, argv: Sequence[str | bytes], folder: Path, as_pid_1: bool, **options: Any) -> None:
        """Start argv; stdout and stderr go to files unless the options say otherwise."""
        self._log = folder / "stderr"
        self._out = folder / "stdout"
        options.setdefault("stdin", subprocess.DEVNULL)
        with self._log.open("wb") as log, self._out.open("wb") as out:
            options.setdefault("stderr", log)
            options.setdefault("stdout", out)
            self.process = subprocess.Popen(argv, **options)
        self._as_pid_1 = as_pid_1

    @property
    def pid(self) -> int:
        """The pid of `run` itself, as seen from here."""
        if not self._as_pid_1:
            return self.process.pid
        found = wait_until(lambda: children(self.process.pid), "unshare has started run")
        return found[0]

    def log(self) -> str:
        """What was written to stderr so far."""
        return self._log.read_text(errors="replace")

    def log_bytes(self) -> bytes:
        """What was written to stderr so far, to the byte."""
        return self._log.read_bytes()

    def out(self) -> str:
        """What was written to stdout so far."""
        return self._out.read_text(errors="replace")

    def wait_log(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until the text is in the log."""
        wait_until(lambda: text in self.log() or self.process.poll() is not None, f"{text!r} in the log", seconds)
        assert text in self.log(), f"run ended; {text!r} is not in its log:\n{self.log()}"

    def wait_out(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until the text is in the output."""
        wait_until(lambda: text in self.out() or self.process.poll() is not None, f"{text!r} in the output", seconds)
        assert text in self.out(), f"run ended; {text!r} is not in its output:\n{self.out()}\n{self.log()}"

    def close_stdin(self) -> None:
        """Close our side of its stdin, which was given as a pipe: whoever reads it sees end-of-file."""
        assert self.process.stdin
        self.process.stdin.close()

    def send(self, signum: int) -> None:
        """Send a signal to `run` itself, once it is there."""
        os.kill(self.pid, signum)

    def wait(self, seconds: float = DEADLINE) -> int:
        """The exit code; -n if `run` was itself killed by signal n. Fails after the deadline."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"run did not end within {seconds} s; its log:\n{self.log()}") from None


class Starter:
    """Starts the binary under test, each time with files of its own, and cleans up."""

    made: ClassVar[list["Starter"]] = []
    """Every one that the test has made, for the clean-up."""

    def __init__(self, binary: str, folder: Path) -> None:
        """Take the path of the binary and a folder for logs and outputs."""
        self.binary = binary
        self._folder = folder
        self._started: list[Started] = []
        Starter.made.append(self)

    def __call__(self, *words: str | bytes, pid_1: bool = False, prefix: Sequence[str] = (), **options: Any) -> Started:
        """Start the binary with these words; options are those of subprocess.Popen.

        With pid_1 it is PID 1 of a pid namespace of its own, with its own /proc (needs root). unshare(1) ends with its
        exit code. A signal for it goes to Started.pid. Or give other words that start the binary as prefix, where an
        unshare that forks is told so by --fork.
        """
        if pid_1:
            prefix = AS_PID_1
        folder = self._folder / f"started-{len(self._started)}"
        folder.mkdir()
        started = Started([*prefix, self.binary, *words], folder, "--fork" in prefix, **options)
        self._started.append(started)
        return started

    def result(self, *words: str | bytes, **options: Any) -> tuple[int, str, str]:
        """Start it and wait for its end: exit code, stdout, log."""
        started = self(*words, **options)
        code = started.wait()
        return code, started.out(), started.log()

    def kill_all(self) -> None:
        """Kill every `run` that is left, and with it (by the kernel) what descends from it."""
        for started in self._started:
            if started.process.poll() is None:
                left = _descendants(started.process.pid)
                started.process.kill()
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                started.process.wait(DEADLINE)


def _descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found[:]:
        found += _descendants(child)
    return found
