"""The loop: reap, act, wait for what happens next, take it. One loop serves one command and many services.

Whom it serves is a charge: what is waited for, and what follows from what happens, is the charge's business.
"""

import os

from run import _kernel
from run.log import Log
from run.signals import CHLD, TSTP, TTIN, TTOU, signal_set

BATCH = 1000
"""How many processes are reaped before signals are looked at again, so that neither can starve the other."""

PATIENCE = 0.05
"""Seconds to wait after a failure of what the loop waits with, before it is tried again."""

ATTEMPTS = 20
"""How often waiting for processes may fail in a row, where none lives, before `run` gives up."""

SI_QUEUE = -1
CLD_CODES = range(1, 7)
"""Why a signal came, si_code of sigaction(2): sent with a value; sent by the kernel for a change of a child."""

Signal = tuple[int, int, int, int, int]
"""A signal that has come: as _kernel.wait_signal() returns it."""


class RunError(Exception):
    """`run` itself failed: a message for the user."""


class Charge:
    """What the loop serves: Command, Supervisor or Keeper, in run.one and run.services."""

    def reap(self) -> bool:
        """Reap one child, or see that one was stopped, and take note of it; say whether there was any.

        Raises OSError: ChildProcessError where there is no child at all.
        """
        raise NotImplementedError

    def has_child(self) -> bool:
        """Whether there must be a child, whatever the kernel says."""
        raise NotImplementedError

    def lives(self) -> bool:
        """Whether a child is seen to live, where waiting for it fails."""
        raise NotImplementedError

    def is_over(self) -> bool:
        """Whether all is done, now that there is no child."""
        raise NotImplementedError

    def act(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def timeout(self, now: float) -> float | None:
        """How many seconds from now something is due without an event; None: sleep until one comes."""
        raise NotImplementedError

    def wait(self, timeout: float | None) -> list[Signal]:
        """Sleep until something happens; return the signals that have come. Raises OSError."""
        raise NotImplementedError

    def signalled(self, signum: int, code: int, sender: int, uid: int, value: int) -> None:
        """Take note of a signal."""
        raise NotImplementedError


class Loop:
    """Serves a charge until that is over."""

    def __init__(self, charge: Charge, log: Log) -> None:
        """Take both."""
        self._charge = charge
        self._log = log
        self._failures = 0

    def run(self) -> None:
        """Go round until all is over. Raises RunError, where processes cannot be waited for; nothing else ends it."""
        while True:
            try:
                if not self._turn():
                    return
            except RunError:
                raise
            except Exception as error:  # whatever it is, it does not end PID 1, nor keep it busy
                self._log.complain(f"internal error: {type(error).__name__}: {error}")
                pause()

    def _turn(self) -> bool:
        """One turn of the loop; say whether there is to be another one."""
        more = failed = is_childless = False
        try:
            more = self._reap()
            self._failures = 0
        except OSError as error:
            # ECHILD: no process is left, unless the kernel is mistaken
            if not isinstance(error, ChildProcessError) or self._charge.has_child():
                failed = True
                self._cannot_reap(error)
            elif self._charge.is_over():
                return False
            else:
                is_childless = True
        now = _kernel.monotonic()
        self._charge.act(now)
        if is_childless and not self._charge.has_child() and self._charge.is_over():
            return False
        timeout = 0.0 if more else self._charge.timeout(now)
        if failed:
            timeout = PATIENCE if timeout is None else min(timeout, PATIENCE)
        try:
            signals = self._charge.wait(timeout)
        except OSError as error:
            self._log.complain(f"cannot wait for signals: {error.strerror}")
            pause()
            return True
        for signal in signals:
            self._charge.signalled(*signal)
        return True

    def _reap(self) -> bool:
        """Reap all zombies, or a batch; say whether there may be more. Raises OSError."""
        for _ in range(BATCH):  # noqa: SIM110 - all() would be slower
            if not self._charge.reap():
                return False
        return True

    def _cannot_reap(self, error: OSError) -> None:
        """Waiting for processes has failed: it is tried again while one lives, and some more. Raises RunError."""
        self._log.complain(f"cannot wait for processes: {error.strerror}")
        if self._charge.lives():
            self._failures = 0
            return
        self._failures += 1
        if self._failures > ATTEMPTS:
            raise RunError(f"cannot wait for processes: {error.strerror}") from None
        pause()


def become_reaper() -> None:
    """Be the one to whom orphans are re-parented, and see every child's end: prctl(2), wait(2). Raises RunError."""
    if os.getpid() != 1:
        try:
            _kernel.set_child_subreaper()
        except OSError as error:
            raise RunError(f"cannot become a child subreaper: {error.strerror}") from None
    if _kernel.started_with()[1] & signal_set(CHLD):
        _kernel.set_ignored(CHLD, False)  # else the kernel would reap
    for signum in (TSTP, TTIN, TTOU):
        _kernel.set_ignored(signum, True)


def pause() -> None:
    """Let a moment go by, where waiting for an event has failed."""
    import select  # noqa: PLC0415 - it is hardly ever needed

    select.select([], [], [], PATIENCE)
