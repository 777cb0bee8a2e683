"""Health: when a service is to be probed, and what follows, decided. No system call in here.

    starting    since a life has begun: probed each start_interval, until the first success within start_period
    healthy     from the first success on: probed each interval
    unhealthy   after `retries` failures in a row, until a success

Source: contract, "Ready and healthy". Times are seconds of one steady clock.
"""

from run.services.healthcheck import Healthcheck
from run.services.life import LATE, SUCCEEDED, UNHEALTHY

NONE, STARTING, HEALTHY, SICK = "", "starting", "healthy", "unhealthy"

PROBE = "probe it now"
GIVE_UP = "the probe that is under way takes too long"
RECOVERED = "it is healthy again"
NOTHING = ""


class Health:
    """One service's health."""

    def __init__(self, check: Healthcheck) -> None:
        """Take what the file says; there is no life yet."""
        self.check = check
        self.state = NONE
        self.reason = ""
        """Why the last probe has failed; empty after a success."""
        self.failures = 0
        """In a row."""
        self._next_probe: float | None = None
        self._ready_by: float | None = None
        self._give_up_at: float | None = None

    def began(self, now: float) -> None:
        """A life has begun: the first probe comes at once, unless the service itself tells."""
        self.state, self.reason, self.failures = STARTING, "", 0
        self._next_probe = None if self.check.way == "notify" else now
        self._ready_by = now + self.check.start_period
        self._give_up_at = None

    def ended(self) -> None:
        """The life is over, or is to be."""
        self.state, self.reason = NONE, ""
        self._next_probe = self._ready_by = self._give_up_at = None

    def due(self, now: float) -> str:
        """What is due: PROBE, GIVE_UP, LATE or nothing."""
        if self._ready_by is not None and now >= self._ready_by:
            self._ready_by = None
            return LATE
        if self._give_up_at is not None:
            return GIVE_UP if now >= self._give_up_at else NOTHING
        if self._next_probe is not None and now >= self._next_probe:
            self._next_probe = now + (self.check.start_interval if self.state == STARTING else self.check.interval)
            self._give_up_at = now + self.check.timeout
            return PROBE
        return NOTHING

    def next_time(self) -> float | None:
        """When something is due, if it ever is."""
        probe = self._next_probe if self._give_up_at is None else self._give_up_at
        times = [time for time in (self._ready_by, probe) if time is not None]
        return min(times, default=None)

    def succeeded(self, now: float) -> str:
        """A probe has succeeded, or the service has told: SUCCEEDED the first time, RECOVERED, or nothing."""
        before, self.state = self.state, HEALTHY
        self.reason, self.failures = "", 0
        self._give_up_at = self._ready_by = None
        if before == STARTING:
            if self._next_probe is not None:
                self._next_probe = now + self.check.interval
            return SUCCEEDED
        return RECOVERED if before == SICK else NOTHING

    def failed(self, reason: str) -> str:
        """A probe has failed: UNHEALTHY when that were too many in a row, or nothing."""
        self.reason = reason
        self._give_up_at = None
        self.failures += 1
        if self.state == HEALTHY and self.failures >= self.check.retries:
            self.state = SICK
            return UNHEALTHY
        return NOTHING
