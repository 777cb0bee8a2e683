"""Life: what a service is, what happens to it, and what follows: one service, decided. No system call in here.

    waiting     nothing runs; it is started once all that it depends on are ready
    starting    it runs, and is not ready yet
    ready       it runs, and whoever depends on it may start
    stopping    it runs, and was sent its stop signal; or it has crashed, and what is left of it was killed
    restarting  nothing runs; it waits to restart, between two lives
    done        a oneshot that has succeeded
    ended       for good, without a failure; or stopped
    failed      for good

What is wanted of it is another value: that it is up, or down, or first down and then up again. An order changes what is
wanted, whenever it comes; run.services.manager sees what follows. Source: contract, "A service's life".
"""

from run.services.plan import Service
from run.wait_status import described, exit_code

WAITING, STARTING, READY, STOPPING, RESTARTING = "waiting", "starting", "ready", "stopping", "restarting"
DONE, ENDED, FAILED = "done", "ended", "failed"

LIVING = (STARTING, READY, STOPPING)
FINAL = (DONE, ENDED, FAILED)

UP, DOWN, AGAIN = "up", "down", "again"

START_DUE = "it may start"
CANNOT_START = "what it depends on will never be ready"
NOT_EXECUTED = "its command cannot be executed"
NOT_FORKED = "the fork was refused"
SUCCEEDED = "it has shown to be ready"
LATE = "it was not ready in time"
UNHEALTHY = "its healthcheck fails"
UNWANTED = "it is to be stopped"
CRASHED = "its main process has ended badly, unasked"
LEFT = "its main process has ended otherwise"
OVERDUE = "its grace is over"
OVER = "its main process and its process group are gone"
ORDERED = "it is to be started, by hand"

NOTHING, RUN, STOP, KILL = "nothing", "run", "stop", "kill"
"""What is to be done: to the kernel, by run.services.supervisor."""

AFTER_LIFE = "that depends: Life._after_life()"

TABLE = {
    # what it is   what happens       what it becomes  what is to be done
    (WAITING, START_DUE): (STARTING, RUN),
    (WAITING, CANNOT_START): (FAILED, NOTHING),
    (WAITING, UNWANTED): (ENDED, NOTHING),
    (STARTING, NOT_EXECUTED): (FAILED, NOTHING),
    (STARTING, NOT_FORKED): (AFTER_LIFE, NOTHING),
    (STARTING, SUCCEEDED): (READY, NOTHING),
    (STARTING, LATE): (STOPPING, STOP),
    (STARTING, UNWANTED): (STOPPING, STOP),
    (STARTING, CRASHED): (STOPPING, KILL),
    (STARTING, OVER): (AFTER_LIFE, NOTHING),
    (READY, UNHEALTHY): (STOPPING, STOP),
    (READY, UNWANTED): (STOPPING, STOP),
    (READY, CRASHED): (STOPPING, KILL),
    (READY, OVER): (AFTER_LIFE, NOTHING),
    (STOPPING, OVERDUE): (STOPPING, KILL),
    (STOPPING, OVER): (AFTER_LIFE, NOTHING),
    (RESTARTING, START_DUE): (WAITING, NOTHING),
    (RESTARTING, UNWANTED): (ENDED, NOTHING),
    (RESTARTING, ORDERED): (WAITING, NOTHING),
    (DONE, ORDERED): (WAITING, NOTHING),
    (ENDED, ORDERED): (WAITING, NOTHING),
    (FAILED, ORDERED): (WAITING, NOTHING),
}
"""What is not in here changes nothing, and nothing is to be done."""

LONG_LIFE = 10.0
"""Seconds after which the delay before a restart, and the count of restarts in a row, begin anew: Docker's rule."""

TIMED_OUT = 124
"""What a life counts that run had to end since it was not ready or not healthy, if it ended well: timeout(1)."""


class Life:
    """One service: its present life, or what is left of its last one. Times are seconds of one steady clock."""

    def __init__(self, service: Service, now: float = 0.0) -> None:
        """Take the service; it waits, and is wanted up."""
        self.service = service
        self.state = WAITING
        self.since = now
        self.wanted = UP
        self.by_hand = False
        """Whether somebody has stopped it by an order, so that its end ends nothing."""
        self.pid = 0
        """The main process, also when it has ended; 0 before the first life."""
        self.has_main = False
        """Whether the main process has not ended."""
        self.number = 0
        """How many lives there were, this one included."""
        self.started_at = 0.0
        self.kill_at: float | None = None
        self.next_start = 0.0
        self.restarts = 0
        """In a row."""
        self.all_restarts = 0
        self.code: int | None = None
        """What the last life counts for the exit code of `run`; None before there was one."""
        self.exit_code: int | None = None
        """How the main process of the last life has ended: its exit code, or 128 + the signal."""
        self.ended = ""
        """How the main process of the last life has ended, in words."""
        self.verdict = ""
        """What follows from the end of the last life, in words."""
        self._was_stopped = False
        self._failure = ""

    @property
    def lives(self) -> bool:
        """Whether something of it runs."""
        return self.state in LIVING

    @property
    def is_stopping(self) -> bool:
        """Whether it is being stopped."""
        return self.state == STOPPING

    @property
    def is_final(self) -> bool:
        """Whether nothing of it runs, or will unless somebody orders it."""
        return self.state in FINAL

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"{self.service.name} (pid {self.pid})"

    def happens(self, event: str, now: float) -> str:
        """Take note of an event; return what is to be done."""
        found = TABLE.get((self.state, event))
        if found is None:
            return NOTHING
        becomes, action = found
        if action == STOP:
            self._was_stopped = True
            self._failure = event if event in (LATE, UNHEALTHY) else ""
        if becomes == AFTER_LIFE:
            becomes = self._after_life(now)
        if becomes != self.state:
            self.state, self.since = becomes, now
        return action

    def executed(self, pid: int, now: float) -> None:
        """A life begins: its command was executed, by this process."""
        self.pid, self.has_main, self.started_at = pid, True, now
        self.number += 1
        self.kill_at, self._was_stopped, self._failure = None, False, ""

    def not_started(self, code: int, why: str, event: str, now: float) -> None:
        """A life has failed before it began: NOT_EXECUTED or NOT_FORKED."""
        self._was_stopped, self._failure, self.has_main = False, "", False
        self.number += 1
        self.verdict = ""
        self.code = self.exit_code = code
        self.ended, self.started_at = why, now
        self.happens(event, now)

    def main_ended(self, status: int, now: float) -> str:
        """The main process has ended, and is a zombie; return what is to be done before it is reaped."""
        self.has_main = False
        self.exit_code, self.ended = exit_code(status), described(status)
        if self.happens(CRASHED if self.exit_code else LEFT, now) == KILL:
            return KILL
        # What has the stop signal may go on until its grace is over, unless only the main process has got it.
        return KILL if self.state == STOPPING and self.service.kill_mode == "mixed" else NOTHING

    def order(self, wanted: str, now: float) -> None:
        """Somebody wants it UP, DOWN, or AGAIN; by hand."""
        self.by_hand = wanted == DOWN
        self.restarts = 0
        if wanted == AGAIN and not self.lives:
            wanted = UP
        elif wanted == UP and self.lives and (self.is_stopping or self.wanted == AGAIN):  # it may not have begun
            wanted = AGAIN
        self.wanted = wanted
        if wanted == UP:
            self.next_start = now
            self.happens(ORDERED, now)

    def _after_life(self, now: float) -> str:
        """What it becomes when a life is over: by what is wanted, how it has ended, and `restart`."""
        service = self.service
        code = self.exit_code or 0
        if self._was_stopped and code == 128 + service.stop_signal:
            code = 0
        if self._failure:
            code = code or TIMED_OUT
        self.code = code
        if self.wanted == AGAIN:
            self.wanted, self.next_start = UP, now
            self.verdict = "to be started again"
            return WAITING
        if self.wanted == UP and self._is_restarted(code, now):
            return self._to_restart(now)
        if code:
            after = f" after {self.restarts} restart{'s' * (self.restarts > 1)}" if self.restarts else ""
            self.verdict = f"failed{after}"
            return FAILED
        self.verdict = "stopped" if self._was_stopped else "done" if service.oneshot else "ended"
        return DONE if service.oneshot and not self._was_stopped else ENDED

    def _is_restarted(self, code: int, now: float) -> bool:
        """Whether `restart` wants another life after one that counts this, and its limit allows it."""
        if now - self.started_at >= LONG_LIFE:
            self.restarts = 0
        service = self.service
        wants = service.restart == "always" or (service.restart == "on-failure" and code != 0)
        if not (wants or self._failure == UNHEALTHY):  # which is restarted for its own sake: on_unhealthy
            return False
        return service.restart_limit is None or self.restarts < service.restart_limit

    def _to_restart(self, now: float) -> str:
        """Wait, twice as long as before the last restart."""
        service = self.service
        delay = min(service.restart_delay * 2.0 ** min(self.restarts, 64), service.restart_max_delay)
        self.restarts += 1
        self.all_restarts += 1
        self.next_start = now + delay
        of = f" of {service.restart_limit}" if service.restart_limit is not None else ""
        self.verdict = f"next start in {delay:g} s, restart {self.restarts}{of}"
        return RESTARTING
