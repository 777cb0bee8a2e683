"""A session on a real pseudo-terminal: a program as its leader, what it shows, and what the test types. See pty(7)."""

import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness import DEADLINE, children, state, wait_until

INTERRUPT, QUIT, SUSPEND, END_OF_FILE, STOP_OUTPUT, START_OUTPUT = "\x03", "\x1c", "\x1a", "\x04", "\x13", "\x11"

READER = """
import os, signal
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"continued\\n"))
signal.signal(signal.SIGWINCH, lambda *_: print(*os.get_terminal_size(0)))
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.write(1, b"ready\\n")
while line := os.read(0, 100):
    os.write(1, b"got=" + line)
"""
READING = [sys.executable, "-I", "-S", "-u", "-c", READER]
"""A command that says what it reads, that it was continued, and the window's size when that changes."""

BESIDE = """
import os
open("/proc/self/comm", "w").write("beside")
os.read(0, 1)
"""
READING_BESIDE = [sys.executable, "-I", "-S", "-c", BESIDE]
"""Another reader of the terminal, named `beside`. It is in read(2): a newer `cat` may wait in splice(2) instead."""

SILENT_SHELL = """
import os, signal, subprocess, sys
job = subprocess.Popen(sys.argv[1:], process_group=0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
sys.stdin.readline()
os.tcsetpgrp(0, job.pid)
code = job.wait()
os.tcsetpgrp(0, os.getpgrp())
print(f"code={code}", flush=True)
"""
SILENT_SHELL_WITH = [sys.executable, "-I", "-S", "-u", "-c", SILENT_SHELL]
"""A leader that starts the words behind it in the background, and upon a line gives them the terminal silently."""


class Session:
    """A program that leads a session on a terminal of its own, and has it as stdin, stdout and stderr."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it."""
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self._shown = ""
        self._seen = 0

        def lead() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
                signal.signal(signum, signal.SIG_DFL)

        environment = os.environ | {
            **{"PS1": r"<\#> ", "PROMPT_COMMAND": "", "TERM": "dumb", "LC_ALL": "C.UTF-8"},
            **{"HISTFILE": "/dev/null", "INPUTRC": "/dev/null"},
        }
        # There are no threads here, which a preexec_fn could trip over.
        self.leader = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lead,  # noqa: PLW1509
            env=environment,
        )
        os.close(slave)

    @property
    def pid(self) -> int:
        """The pid of the session's leader."""
        return self.leader.pid

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._master, text.encode())

    def line(self, text: str) -> None:
        """Type a line."""
        self.type(text + "\n")

    def expect(self, text: str, seconds: float = DEADLINE) -> str:
        """Wait until the text is shown, after all that was expected before; return what came up to its end."""
        try:
            wait_until(lambda: self._read().find(text, self._seen) >= 0, f"{text!r} on the terminal", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe terminal shows:\n{self._shown}") from None
        end = self._shown.index(text, self._seen) + len(text)
        new, self._seen = self._shown[self._seen : end], end
        return new

    def expect_prompt(self) -> None:
        """Expect that the shell shows its prompt, has the terminal, and can read."""
        self.expect("> ")
        self.wait_foreground(self.pid)
        self.line("echo read$((40 + 2))able")
        self.expect("read42able")
        self.expect("> ")

    def _read(self) -> str:
        try:
            while data := os.read(self._master, 65536):
                self._shown += data.decode(errors="replace")
        except OSError:  # nothing to read now, or (EIO) nobody has the terminal open
            pass
        return self._shown

    @property
    def foreground(self) -> int:
        """The foreground process group."""
        return os.tcgetpgrp(self._master)

    def wait_foreground(self, group: int) -> None:
        """Wait until this is the foreground process group."""
        wait_until(lambda: self.foreground == group, f"{group} is the foreground group, not {self.foreground}")

    def wait_lent(self, *groups: int) -> None:
        """Wait until the terminal is no longer the leader's, but that of one of these process groups.

        Upon `fg` bash sends CONT since 5.3 also to a job that runs: `run` then gives its command the terminal at once.
        """
        wait_until(lambda: self.foreground in groups, f"one of {groups} is the foreground group, not {self.foreground}")

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size: TIOCSWINSZ of ioctl_tty(2)."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the terminal's other side."""
        os.close(self._master)
        self._master = -1

    def end(self) -> None:
        """Kill what is left of the session, and what descends from it, and hang up."""
        left = members(self.pid)
        for pid in left:
            left += [child for child in children(pid) if child not in left]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self._master >= 0:
            self.hang_up()
        self.leader.wait(DEADLINE)


@contextmanager
def session(*words: str) -> Iterator[Session]:
    """A session with this leader, by default an interactive shell that has shown its prompt."""
    started = Session(words or ("bash", "--norc", "--noprofile", "-i"))
    try:
        if not words:
            started.expect("<1> ")
        yield started
    finally:
        started.end()


def members(session_id: int) -> list[int]:
    """The processes of a session, zombies not included."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.getsid(int(name)) == session_id and state(int(name)) not in ("Z", ""):
                found.append(int(name))
        except ProcessLookupError:
            pass
    return found


def only_child(pid: int) -> int:
    """Wait until a process has a child; return its pid."""
    return wait_until(lambda: children(pid), f"{pid} has a child")[0]


def descendant(pid: int, name: str) -> int:
    """Wait until a process of this name descends from pid, and is not about to become another; return its pid."""
    return wait_until(lambda: _find(pid, name), f"{name} descends from {pid}")


def _find(pid: int, name: str) -> int:
    for child in children(pid):
        try:
            if Path(f"/proc/{child}/comm").read_text() == name + "\n":
                return child
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found := _find(child, name):
            return found
    return 0
