"""The reaper loop: wait for a signal, reap or forward, decide, act."""

import posix

from run import _kernel, children, command
from run.cli import Options
from run.log import STDERR, Log, printable
from run.policy import Policy, exit_code, stop_signal
from run.signals import CHLD, CONT, FORWARDED, TERM, TSTP, TTIN, TTOU, XFSZ, describe, signal_set
from run.terminal import STDIN, Terminal

WAITED_FOR = FORWARDED | signal_set(CHLD, TSTP)

BATCH = 1000
"""How many processes are reaped before signals are looked at again, so that neither can starve the other."""

KERNEL = -1
"""The sender of a signal that no process has sent."""


class RunError(Exception):
    """`run` itself failed: a message for the user."""


class Reaper:
    """One command, and all that descends from it."""

    def __init__(self, options: Options, log: Log) -> None:
        """Take the command line; nothing is started yet."""
        self._log = log
        self._policy = Policy(options.signal, options.daemon, options.grace)
        self._words = options.command
        self._death_signal = options.signal or TERM
        self._terminal = Terminal()
        self._main = 0
        self._main_lives = False

    def run(self) -> int:
        """Start the command, and return the exit code once no process is left. Raises RunError."""
        self._become_reaper()
        self._start()
        while True:
            try:
                more = self._reap()
            except ChildProcessError as error:
                if self._main_lives:
                    raise RunError(f"cannot wait for pid {self._main}: {error.strerror}") from None
                self._log.info(f"no process is left: exiting with code {self._policy.exit_code}")
                return self._policy.exit_code
            except OSError as error:
                raise RunError(f"cannot wait for processes: {error.strerror}") from None
            now = _kernel.monotonic()
            due = self._policy.signal_due(now)
            if due is not None:
                self._send(f"sending {describe(due)}", due)
            try:
                event = _kernel.wait_signal(WAITED_FOR, 0 if more else self._policy.timeout(now))
            except OSError as error:
                raise RunError(f"cannot wait for signals: {error.strerror}") from None
            if event is not None:
                self._signalled(*event)

    def _become_reaper(self) -> None:
        """Be the one to whom orphans are re-parented, and see every child's end: prctl(2), wait(2)."""
        if posix.getpid() != 1:
            try:
                _kernel.set_child_subreaper()
            except OSError as error:
                raise RunError(f"cannot become a child subreaper: {error.strerror}") from None
        _kernel.set_ignored(CHLD, False)  # were it ignored, as it may be inherited, the kernel would reap
        for signum in (TSTP, TTIN, TTOU):
            _kernel.set_ignored(signum, True)

    def _start(self) -> None:
        shown = " ".join(printable(word) for word in self._words)
        self._log.info(f"own pid is {posix.getpid()}")
        try:
            self._main = command.start(self._words, self._death_signal, self._terminal, self._log)
        except OSError as error:
            raise RunError(f"cannot start {shown}: fork: {error.strerror}") from None
        self._main_lives = True
        self._log.info(f"pid {self._main}: started {shown}")
        release_files(keep_stdin=self._terminal.exists, log_fd=self._log.fd)

    def _reap(self) -> bool:
        """Reap all zombies, or a batch; say whether there may be more. Raises ChildProcessError when none is left."""
        for _ in range(BATCH):
            changed = children.reap()
            if changed is None:
                return False
            self._child_changed(*changed)
        return True

    def _child_changed(self, pid: int, status: int) -> None:
        """A child has ended, or was stopped."""
        is_main = self._main_lives and pid == self._main
        stopped_by = stop_signal(status)
        if stopped_by:
            self._log.info(f"pid {pid}: stopped by {describe(stopped_by)}")
            if is_main and self._terminal.stop_with_command(stopped_by, posix.getpgid(pid)):
                self._forward(CONT, KERNEL)
            return
        code = exit_code(status)
        killed = posix.WIFSIGNALED(status)
        ended = f"killed by {describe(posix.WTERMSIG(status))}" if killed else f"exited with code {code}"
        self._log.info(f"pid {pid}: {ended}")
        if is_main:
            self._main_lives = False
            self._terminal.take_back()
        if self._policy.process_ended(code, is_main):
            self._log.info(f"shutdown, since pid {pid} has ended")

    def _signalled(self, signum: int, sender: int) -> None:
        """A signal has come: for `run` itself, or to be passed on."""
        if signum == TSTP:
            # Ignored, unless it is Ctrl-Z typed while the terminal is not lent: it is meant for the whole job.
            if sender == KERNEL and self._main_lives:
                self._terminal.stop_typed = True
                children.stop_group(posix.getpgid(self._main))
        elif signum == XFSZ and sender == posix.getpid():
            pass  # the log may not grow: setrlimit(2)
        elif signum != CHLD:
            self._forward(signum, sender)

    def _forward(self, signum: int, sender: int) -> None:
        """Pass a signal on. After a CONT, the command gets the terminal if the shell has given it to `run`."""
        if signum == CONT and self._main_lives:
            self._terminal.lend(posix.getpgid(self._main))
        self._send(f"forwarding {describe(signum)}{f' from pid {sender}' if sender > 0 else ''}", signum)

    def _send(self, why: str, signum: int) -> None:
        reached, refused = children.send(signum, self._main)
        if reached:
            self._log.info(f"{why} to {reached}")
        for reason, targets in refused.items():
            self._log.warn(f"cannot send {describe(signum)} to {targets}: {reason}")


def release_files(keep_stdin: bool, log_fd: int | None) -> None:
    """Close what the command has inherited and `run` does not need, so that others see end-of-file when it ends.

    Kept are stdin if it is the terminal, stderr, and the log's own descriptor.
    """
    kept = [STDERR] + [STDIN] * keep_stdin + ([] if log_fd is None else [log_fd])
    try:
        first = 0
        for fd in sorted(kept):
            if fd > first:
                _kernel.close_fds(first, fd - 1)
            first = fd + 1
        _kernel.close_fds(first, 0xFFFFFFFF)
    except OSError:  # before Linux 5.9: ENOSYS
        for fd in children.open_fds():
            if fd not in kept:
                try:
                    posix.close(fd)
                except OSError:
                    pass  # it was the one that listed the others
