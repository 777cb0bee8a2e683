"""Lingering: services whose main process was reaped, and whose process group is not gone: when to look at it again.

Nobody tells `run` when the last one leaves a group, or is reaped by a parent of its own. No system call in here.
Source: contract, "A service's life". Times are seconds of one steady clock.
"""

from run.recipients import next_look

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 10.0
"""Seconds between two looks, which become twice as long each time: an idle `run` hardly wakes up."""

LONGEST_WHILE_STOPPING = 0.4


class Lingering:
    """Who lingers."""

    def __init__(self) -> None:
        """Nobody."""
        self._due: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def names(self) -> list[str]:
        """All of them."""
        return list(self._due)

    def begins(self, name: str, now: float) -> bool:
        """A service lingers; whether that is new."""
        if name in self._due:
            return False
        self.hurry(name, now)
        return True

    def hurry(self, name: str, now: float) -> None:
        """It was sent a signal, so that it may be gone soon."""
        self._due[name], self._pauses[name] = now + FIRST_PAUSE, FIRST_PAUSE

    def ends(self, name: str) -> None:
        """It does not linger any more."""
        self._due.pop(name, None)
        self._pauses.pop(name, None)

    def due(self, now: float) -> list[str]:
        """Whom it is time to look at."""
        return [name for name, due in self._due.items() if now >= due]

    def looked(self, name: str, is_stopping: bool, now: float) -> None:
        """It is being looked at."""
        longest = LONGEST_WHILE_STOPPING if is_stopping else LONGEST_PAUSE
        pause = self._pauses[name] = min(2 * self._pauses[name], longest)
        self._due[name] = now + pause

    def took(self, seconds: float, now: float) -> None:
        """To look at them has taken so much processor time: nobody is looked at before that has paid off."""
        not_before = next_look(now, seconds)
        for name, due in self._due.items():
            self._due[name] = max(due, not_before)

    def next_time(self) -> float | None:
        """When somebody is to be looked at, if ever."""
        return min(self._due.values(), default=None)
