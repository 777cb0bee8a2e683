"""The controlling terminal: who has it, lending it, stopping as a part of the job. run.one.job decides what follows.

Source: contract, "Starting the command" and "When a process ends"; tcsetpgrp(3). `run` ignores SIGTTOU, so that it may
move the foreground group from the background.
"""

import errno
import os

from run import _kernel
from run.descriptors import STDIN
from run.one.job import COMMAND, NOBODY, OTHERS, RUN
from run.signals import CONT, KILL, TSTP, signal_set

DEVICE = b"/dev/tty"

CONTINUED = "continued"
STOPPED = "stopped"
REFUSED = "refused"


def _foreground_group(fd: int) -> int:
    """The terminal's foreground group, or -1 if this is not the controlling terminal."""
    try:
        return os.tcgetpgrp(fd)
    except OSError:
        return -1


def _open(flags: int) -> int:
    """Open the controlling terminal, whatever stdin is: tty(4). -1 if there is none."""
    try:
        return os.open(DEVICE, flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1


def _may_read() -> bool:
    """Whether this process is in the foreground, where the numbers of the groups do not tell.

    Reading fails in the background where SIGTTIN is ignored (EIO of read(2)), even when it is no byte that is read.
    With O_NONBLOCK another reader of the terminal is not waited for.
    """
    fd = _open(os.O_RDONLY | os.O_NONBLOCK)
    if fd < 0:
        return False
    try:
        os.read(fd, 0)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return True


class Terminal:
    """The controlling terminal of the session, if it has one: on stdin, or else found when it is needed."""

    def __init__(self) -> None:
        """Look at stdin."""
        self._group = _foreground_group(STDIN)
        self.is_stdin = self._group >= 0

    def _use(self) -> int:
        return STDIN if self.is_stdin else _open(os.O_RDWR)

    def _release(self, fd: int) -> None:
        if fd > STDIN or (fd == STDIN and not self.is_stdin):
            os.close(fd)

    def foreground_at_start(self) -> str:
        """Who has the terminal on stdin, as it was when this was made."""
        return self._whose(self._group, 0) if self.is_stdin else NOBODY

    def foreground(self, lent_to: int) -> str:
        """Who has the terminal now; lent_to is the group that has it from `run`, 0 for none. A value of run.one.job."""
        fd = self._use()
        group = _foreground_group(fd)
        self._release(fd)
        return self._whose(group, lent_to)

    def _whose(self, group: int, lent_to: int) -> str:
        if group < 0:
            return NOBODY
        if group and group == lent_to:
            return COMMAND
        if group != os.getpgrp():
            return OTHERS
        # Both groups may be different ones of an outer pid namespace, which all look like 0.
        return RUN if group or _may_read() else OTHERS

    def give(self, group: int) -> bool:
        """Make this the foreground group, if that can be; say whether it could: tcsetpgrp(3)."""
        fd = self._use()
        try:
            os.tcsetpgrp(fd, group)
        except OSError:
            return False  # the terminal was hung up, or the group is gone
        finally:
            self._release(fd)
        return True

    def take_back(self) -> None:
        """Make the own group the foreground group, unless it is one of an outer pid namespace."""
        own = os.getpgrp()
        if own:
            self.give(own)


def suspend() -> str:
    """Stop as a part of the job, as the terminal would have stopped it.

    CONTINUED: this process was stopped, and somebody has continued it. REFUSED: the kernel has stopped nobody, for
    nobody could continue the job: its process group is orphaned (setpgid(2)), or this is PID 1. STOPPED: the job is
    stopped, but not this process; a CONT will come.
    """
    if os.getpgrp() == 0:
        return _suspend_outer_group()
    _kernel.set_ignored(TSTP, False)
    os.kill(0, TSTP)
    _kernel.set_mask(_kernel.BLOCKED & ~signal_set(TSTP))  # here `run` stops
    _kernel.set_mask(_kernel.BLOCKED)
    _kernel.set_ignored(TSTP, True)
    return CONTINUED if _kernel.wait_signal(signal_set(CONT), 0) is not None else REFUSED


def _suspend_outer_group() -> str:
    """Stop the process group 0, one of an outer pid namespace, in which PID 1 of this one cannot be stopped.

    Whether the kernel stops it shows by a child, which is in that group like everybody else: is it orphaned, the child
    just ends.
    """
    try:
        child = os.fork()
    except OSError:
        return REFUSED
    if child == 0:
        try:
            _kernel.set_ignored(TSTP, False)
            _kernel.set_mask(_kernel.BLOCKED & ~signal_set(TSTP))
            os.kill(0, TSTP)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return REFUSED
    os.kill(child, KILL)
    os.waitpid(child, 0)
    return STOPPED
