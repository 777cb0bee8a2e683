"""An outlet: a descriptor that was given, such as stderr, and is written to without ever blocking.

Setting O_NONBLOCK on it would change it for all who share it: fcntl(2). So it is opened once more, where that can be.
"""

import errno
import os
from stat import S_ISCHR, S_ISFIFO, S_ISREG

from run.descriptors import above_stderr

RWF_NOWAIT = 8
"""Fail with EAGAIN rather than block: pwritev2(2)."""


class Outlet:
    """Writes to a descriptor, or says that this would block."""

    def __init__(self, given: int) -> None:
        """Take the descriptor; nothing is opened before something is written."""
        self.given = given
        self._own: int | None = None
        self._is_open = False

    @property
    def own(self) -> int | None:
        """The descriptor of our own that is written to, if one was opened; no command inherits it."""
        return self._own

    def open(self) -> int:
        """The descriptor that is written to, and that tells when it can be: the own one, or the given one."""
        if not self._is_open:
            self._is_open = True
            self._own = _opened_anew(self.given)
        return self.given if self._own is None else self._own

    def write(self, data: bytes) -> int:
        """Pass on what can be written at once; return how much, 0 for nothing. Raises OSError."""
        self.open()
        return self._write_given([data]) if self._own is None else os.write(self._own, data)

    def write_pieces(self, pieces: list[bytes | memoryview]) -> int:
        """The same for several pieces in one call: writev(2)."""
        self.open()
        return self._write_given(pieces) if self._own is None else os.writev(self._own, pieces)

    def _write_given(self, pieces: list[bytes | memoryview]) -> int:
        """Write to the given descriptor itself, unless it would block."""
        if S_ISREG(os.fstat(self.given).st_mode):
            return os.write(self.given, pieces[0]) if len(pieces) == 1 else os.writev(self.given, pieces)
        try:
            return os.pwritev(self.given, pieces, -1, RWF_NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM):
                raise
        # A kernel without it for this file, or a sandbox: ask first. poll(2) may say "writable" when one byte fits.
        import select  # noqa: PLC0415 - they are hardly ever needed

        from run import _kernel  # noqa: PLC0415

        poll = select.poll()
        poll.register(self.given, select.POLLOUT)
        if not poll.poll(0):
            return 0
        try:  # also where it says that the reader has gone: then it fails at once, and says how
            return _kernel.write_briefly(self.given, b"".join(pieces))
        except InterruptedError:  # not a byte in that time, or run was held up before the write
            return 0


def _opened_anew(given: int) -> int | None:
    """Open what a descriptor is once more, with O_NONBLOCK: open(2). None where that cannot be, or need not.

    A terminal of another user's, or without /proc, can be opened as the controlling terminal, if it is that. A regular
    file never blocks; a socket, or what may not be opened again, has to do without.
    """
    try:
        if not (S_ISFIFO(mode := os.fstat(given).st_mode) or S_ISCHR(mode)):
            return None
    except OSError:
        return None
    fd = _opened(b"/proc/self/fd/%d" % given)
    if fd is None and S_ISCHR(mode) and _is_controlling_terminal(given):
        fd = _opened(b"/dev/tty")
    try:
        return None if fd is None else above_stderr(fd)
    except OSError:
        return None


def _opened(path: bytes) -> int | None:
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
