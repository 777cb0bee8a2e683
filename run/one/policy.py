"""Decided: what follows from what has happened to one command. Plain Python over plain values, no system call."""

from run.recipients import next_look
from run.signals import KILL

RETRY = 0.05
"""Seconds after which looking for newcomers is tried again when it has failed."""


class Policy:
    """What an ended process means: the exit code of `run`, and which signal it owes the remaining ones, and when.

    Source: contract, "Exit code" and "When a process ends". Times are seconds of one steady clock.
    """

    def __init__(self, stop_with: int | None, daemon: bool, grace: float | None) -> None:
        """Take `-s` (None if absent), `-d` and `-t` (seconds, None if absent)."""
        self.exit_code = 0
        self._stop_with = stop_with
        self._daemon = daemon
        self._grace = grace
        self._due: int | None = None
        self._stopping = False
        self._kill_at: float | None = None
        self._killing = False
        self._look_at: float | None = None
        self._next_look = 0.0

    @property
    def awaits_first_end(self) -> bool:
        """Whether the next end may be the one that begins the shutdown."""
        return self._stop_with is not None and not self._stopping

    @property
    def sees_steps(self) -> bool:
        """Whether a daemon's step into the background is no end."""
        return self._daemon

    def process_ended(self, code: int, is_main: bool, is_step: bool = False, is_outsider: bool = False) -> bool:
        """Take note of an exit code; say whether this is the exit that begins the shutdown.

        is_step: with code 0, it led a session in which a child of `run` lives on; is_outsider: it was an orphan of a
        session whose living leader came from outside of the pid namespace.
        """
        self.exit_code = max(self.exit_code, code)
        if self._stopping:
            self._look_at = self._next_look  # it may have left somebody behind
            return False
        is_no_end = self._daemon and code == 0 and (is_main or is_step)
        if self._stop_with is None or is_no_end or (is_outsider and not is_main):
            return False
        self._stopping = True
        self._due = self._stop_with
        return True

    def signal_due(self, now: float) -> int | None:
        """The signal to send to all that remain, now, if any.

        The `-s` signal is due once. KILL, once its time has come, is due again whenever this is asked: what a killed
        process leaves behind is re-parented to `run`, and must go too.
        """
        due = self._due
        if due is not None:
            self._due = None
            if self._grace is not None:
                self._kill_at = now + self._grace
            if due == KILL:
                self._killing = True
            return due
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._killing = True
        return KILL if self._killing else None

    def newcomers_due(self, now: float) -> int | None:
        """The signal that who was re-parented to `run` after it was sent is to get, if it is time to look for such."""
        if self._look_at is None or now < self._look_at or self._killing:
            return None
        self._look_at = None
        return self._stop_with

    def looked(self, now: float, took: float) -> None:
        """Take note of how much processor time it took to look: the next look comes not before that has paid off."""
        self._next_look = next_look(now, took)

    def could_not_look(self, now: float) -> None:
        """Take note that looking has failed: it is tried again."""
        self._look_at = now + RETRY

    def timeout(self, now: float) -> float | None:
        """How many seconds from now something is due without an event, or None: sleep until one comes."""
        times = [time for time in (self._kill_at, None if self._killing else self._look_at) if time is not None]
        return max(0.0, min(times) - now) if times else None
