"""Job control: lending the terminal to the command, taking it back, and stopping together with the command.

Source: SPEC.md, "Starting the command" and "When a process ends"; tcsetpgrp(3); "Job Control" in the manual of the GNU
C library. `run` ignores SIGTTOU, so that it may move the foreground group from the background.
"""

import posix

from run import _kernel
from run.signals import BLOCKED, CONT, TERMINAL_STOPS, TSTP, contains, signal_set

STDIN = 0


def _is_terminal() -> bool:
    """Whether stdin is the terminal that controls this session."""
    try:
        posix.tcgetpgrp(STDIN)
    except OSError:
        return False
    return True


def is_foreground() -> bool:
    """Whether stdin is a terminal and the process group of `run` is its foreground group."""
    try:
        group = posix.getpgrp()
        if posix.tcgetpgrp(STDIN) != group:
            return False
        if group == 0:
            # Both groups may be different ones of an outer pid namespace, which all look like 0. Reading fails
            # in the background where SIGTTIN is ignored (EIO of read(2)), even when it is no byte that is read.
            posix.read(STDIN, 0)
    except OSError:
        return False
    return True


def make_foreground(group: int) -> bool:
    """Make this the terminal's foreground group, if that can be; say whether it could: tcsetpgrp(3)."""
    try:
        posix.tcsetpgrp(STDIN, group)
    except OSError:
        return False  # the terminal was hung up, or the group is gone
    return True


class Terminal:
    """The terminal on stdin, if there is one, and whether the command has it now."""

    def __init__(self) -> None:
        """Look at stdin."""
        self.exists = _is_terminal()
        self.lent = self.exists and is_foreground()
        self.stop_typed = False
        """Whether Ctrl-Z came to `run` itself, which a terminal on stdin is not needed for: `a | run b`."""

    def lend(self, group: int) -> None:
        """Make the command's group the foreground group, if the shell has put `run` there: after `fg`."""
        if self.exists and not self.lent and is_foreground():
            self.lent = make_foreground(group)

    def take_back(self) -> None:
        """Make the own group the foreground group again, if the command had the terminal."""
        own = posix.getpgrp()
        if self.lent and own != 0:
            make_foreground(own)
        self.lent = False

    def stop_with_command(self, stopped_by: int, group: int) -> bool:
        """Stop as the command, in this group, was stopped, so that the shell sees its job stopped.

        Say whether to continue the command now. Only for the stops of a terminal: a command stopped by SIGSTOP is
        somebody else's doing. The whole job stops, as the terminal would have stopped it.
        """
        if not (self.exists or self.stop_typed) or not contains(TERMINAL_STOPS, stopped_by):
            return False
        self.stop_typed = False
        if stopped_by != TSTP and is_foreground():
            # The shell has brought a running job to the foreground, which it tells nobody: now the command needs it.
            self.lent = make_foreground(group)
            if self.lent:
                return True
        _kernel.set_ignored(TSTP, False)
        posix.kill(0, TSTP)
        _kernel.set_mask(BLOCKED & ~signal_set(TSTP))  # here `run` stops
        _kernel.set_mask(BLOCKED)
        _kernel.set_ignored(TSTP, True)
        was_continued = _kernel.wait_signal(signal_set(CONT), 0) is not None
        if was_continued or posix.getpgrp() == 0:
            # In group 0 it is processes of an outer pid namespace that stop, and get a CONT later, as `run` does.
            self.lent = False
            return was_continued
        # Nobody could continue the job, so the kernel has not stopped it: its process group is orphaned (setpgid(2)),
        # or this is PID 1. Then Ctrl-Z has no effect on the command either.
        return stopped_by == TSTP
