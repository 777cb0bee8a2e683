"""The log: one line per event on stderr, each a single write(2), which never blocks `run`.

Source: contract, "Log". A line that cannot be written at once is dropped.
"""

import errno
import os
from stat import S_ISCHR, S_ISFIFO, S_ISREG

from run.descriptors import STDERR
from run.text import LONGEST

RWF_NOWAIT = 8
"""Fail with EAGAIN rather than block: pwritev2(2)."""


class Log:
    """Lines on stderr, from a level on."""

    def __init__(self, quiet: int = 0) -> None:
        """Count `-q` in quiet: 0 shows all, 1 drops info, more drops warnings too."""
        self._quiet = quiet
        self._fd: int | None = None
        self._opened = False
        self._was_cut = False
        self._complaints: set[str] = set()

    @property
    def fd(self) -> int | None:
        """The descriptor of our own that lines go to, if one was opened; the command does not inherit it."""
        return self._fd

    @property
    def shows_info(self) -> bool:
        """Whether lines of the lowest level are shown: where not, they need not be made."""
        return self._quiet < 1

    def info(self, message: str) -> None:
        """Say what happens."""
        if self._quiet < 1:
            self._write("info", message)

    def warn(self, message: str) -> None:
        """Say what a user should look at."""
        if self._quiet < 2:
            self._write("warn", message)

    def error(self, message: str) -> None:
        """Say why `run` or the command cannot start, or fails."""
        self._write("error", message)

    def complain(self, message: str) -> None:
        """Say what has failed and does not end `run`: once, since it may fail again and again."""
        if message not in self._complaints:
            self._complaints.add(message)
            self.error(f"{message}; going on as well as possible")

    def _write(self, level: str, message: str) -> None:
        line = f"run: [{level}] {message}\n".encode()
        if len(line) > LONGEST:
            whole = line[: LONGEST - 4].decode("utf-8", "ignore")  # no half of a character
            line = f"{whole}...\n".encode()
        if not self._opened:
            self._opened = True
            self._fd = _open_unblocking()
        if self._was_cut:
            line = b"\n" + line
        try:
            written = _write_unblocking(line) if self._fd is None else os.write(self._fd, line)
        except OSError:
            return  # closed, broken, full or not being read: the line is dropped
        if written:
            self._was_cut = written < len(line)


def _open_unblocking() -> int | None:
    """Open what stderr is once more, with O_NONBLOCK: open(2).

    Setting that flag on stderr itself would change it for the command too, which shares it. A terminal of another
    user's, or without /proc, can be opened as the controlling terminal, if it is that. A regular file never blocks; a
    socket, or a stderr that may not be opened again, has to do without: None.
    """
    try:
        if not (S_ISFIFO(mode := os.fstat(STDERR).st_mode) or S_ISCHR(mode)):
            return None
    except OSError:
        return None
    fd = _opened_anew(b"/proc/self/fd/2")
    if fd is None and S_ISCHR(mode) and _is_controlling_terminal(STDERR):
        fd = _opened_anew(b"/dev/tty")
    if fd is None:
        return None
    return _above_stderr(fd)


def _opened_anew(path: bytes) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def _is_controlling_terminal(fd: int) -> bool:
    """Whether this is the terminal that /dev/tty stands for: tcgetpgrp(3) fails for any other."""
    try:
        os.tcgetpgrp(fd)
    except OSError:
        return False
    return True


def _above_stderr(fd: int) -> int | None:
    """Move a descriptor out of 0 to 2, which are the command's even when they were closed."""
    taken = []
    try:
        while fd <= STDERR:
            taken.append(fd)
            fd = os.dup(fd)
        return fd
    except OSError:
        return None
    finally:
        for low in taken:
            os.close(low)


def _write_unblocking(line: bytes) -> int:
    """Write to stderr itself unless it would block; return how much. Raises OSError when the line is to be dropped."""
    if S_ISREG(os.fstat(STDERR).st_mode):
        return os.write(STDERR, line)
    try:
        return os.pwritev(STDERR, [line], -1, RWF_NOWAIT)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    # A kernel without it for this kind of file: ask first. poll(2) may say "writable" when a single byte fits.
    import select  # noqa: PLC0415 - they are hardly ever needed

    from run import _kernel  # noqa: PLC0415

    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    return _kernel.write_briefly(STDERR, line) if poll.poll(0) == [(STDERR, select.POLLOUT)] else 0
