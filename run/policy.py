"""Deciding: what follows from what has happened so far. Plain Python over plain values, no system call in here."""

from run.signals import KILL


def exit_code(status: int) -> int:
    """The exit code of a process with this wait status: its own, or 128 + n when signal n killed it.

    Source: wait(2) for the encoding, SPEC.md "Exit code" for the rule.
    """
    killed_by = status & 0x7F
    return 128 + killed_by if killed_by else status >> 8 & 0xFF


def stop_signal(status: int) -> int:
    """The signal that stopped a process with this wait status, or 0 if it has ended. Source: wait(2)."""
    return status >> 8 & 0xFF if status & 0xFF == 0x7F else 0


class Recipients:
    """Who gets a signal: process groups, each once, and single processes. Source: SPEC.md, "Signals"."""

    def __init__(self, not_as_group: set[int]) -> None:
        """Take the process groups whose members get it alone."""
        self.members: dict[int, int] = {}
        """Of each process that gets it by its group: which that is."""
        self._groups: dict[int, None] = {}
        self._alone: list[int] = []
        self._not_as_group = not_as_group

    def add(self, pid: int, group: int) -> None:
        """Add a process whose parent is `run`, and its process group."""
        if group in self._not_as_group:
            self._alone.append(pid)
        else:
            self.members[pid] = group
            self._groups[group] = None

    def targets(self) -> list[int]:
        """For kill(2): -group or pid."""
        return [*(-group for group in self._groups), *self._alone]

    def missed(self, moved: dict[int, int]) -> list[int]:
        """More targets, for the sake of members that are in another group by now: which that is of each.

        What was sent to the group that they left may have come too late for them. The group that they are in now gets
        it, or they alone if that has got it already.
        """
        others = Recipients(self._not_as_group | self._groups.keys())
        for pid, group in moved.items():
            others.add(pid, group)
        return others.targets()


class Policy:
    """What an ended process means: the exit code of `run`, and which signal it owes the remaining ones, and when.

    Source: SPEC.md, "Exit code" and "When a process ends". Times are seconds of one steady clock.
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

    def process_ended(self, code: int, is_main: bool) -> bool:
        """Take note of an exit code; say whether this is the exit that begins the shutdown."""
        self.exit_code = max(self.exit_code, code)
        if self._stop_with is None or self._stopping or (self._daemon and is_main and code == 0):
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

    def timeout(self, now: float) -> float | None:
        """How many seconds from now something is due without an event, or None: sleep until one comes."""
        return None if self._kill_at is None else max(0.0, self._kill_at - now)
