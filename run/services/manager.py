"""The manager: what follows for all services together, decided: order, the shutdown, the exit code. No system call.

Events come in as calls; what is to be done goes out of actions(), in order. A turn of the loop tells what has happened,
and then asks. Source: contract, "A service's life" and "Exit code".
"""

from collections import deque
from typing import NamedTuple

from run.recipients import next_look
from run.services import order
from run.services.life import (
    CANNOT_START,
    DONE,
    DOWN,
    ENDED,
    FAILED,
    FINAL,
    KILL,
    NOT_EXECUTED,
    NOT_FORKED,
    OVER,
    OVERDUE,
    READY,
    RESTARTING,
    RUN,
    START_DUE,
    STARTING,
    STOP,
    STOPPING,
    SUCCEEDED,
    UNWANTED,
    UP,
    WAITING,
    Life,
)
from run.services.plan import Plan
from run.signals import KILL as SIGKILL
from run.signals import TERM


class Start(NamedTuple):
    """Execute the service's command."""

    name: str


class Stop(NamedTuple):
    """Send the service's stop signal: to its process group, or to its main process alone."""

    name: str
    signum: int
    to_group: bool


class Kill(NamedTuple):
    """Send KILL to the process group of a service."""

    name: str


class StopRest(NamedTuple):
    """Send this signal to what belongs to no service, once; KILL again and again."""

    signum: int


class Say(NamedTuple):
    """Write a line of the log. It is put together when it is known to be shown."""

    level: str
    form: str
    values: tuple[str | int, ...]

    @property
    def message(self) -> str:
        """What to say."""
        return self.form % self.values


Action = Start | Stop | Kill | StopRest | Say

STOPS = 16
"""How many stops are decided before the first of them is done: services end while more is decided."""

LEADS_ON = (WAITING, STARTING, READY, RESTARTING)
"""What a service can be so that something may follow from what is wanted, or from what others are."""

LAST_THIRD = 2 / 3
"""The part of the common grace after which every service that is left gets its stop signal."""


class Manager:
    """All services. Times are seconds of one steady clock."""

    def __init__(self, plan: Plan, rest_signal: int = TERM, now: float = 0.0) -> None:
        """Take the plan; rest_signal is for what belongs to no service."""
        self.lives = {service.name: Life(service, now) for service in plan.services}
        self.is_stopping = False
        self.is_killing = False
        """Whether whatever is left is killed, as its grace is over."""
        self._is_cut_short = False
        """Whether that is so before it is over, since somebody wants it."""
        self._grace = plan.grace
        self._rest_signal = rest_signal
        graph = {service.name: service.depends_on for service in plan.services}
        self._dependencies = {name: [self.lives[other] for other in others] for name, others in graph.items()}
        self._dependents = self._reversed(self._dependencies)
        self._all_dependencies: dict[str, list[Life]] = {}
        self._all_dependents: dict[str, list[Life]] = {}
        self._may_be_killed: set[Life] = set()
        """Those whose group may have to be killed when the main process ends."""
        self._to_look_at = deque(self.lives.values())
        self._ring = deque(self.lives.values())
        """All of them, in the order in which they are asked whether they are final."""
        self._timed: set[Life] = set()
        """Those for whom something is due at a time of their own."""
        self._actions: list[Action] = []
        self._is_enough = False
        """Whether these actions are to be done before more is decided."""
        self._cause: Life | None = None
        self._last_third_at: float | None = None
        self._kill_at: float | None = None
        self._all_may_stop = False
        self._rest_to_look_at = False
        self._next_look = 0.0

    def actions(self, now: float) -> list[Action]:
        """What is to be done now, in order. There may be more afterwards: has_more.

        A start comes last: how it goes has to be told before more follows.
        """
        self._is_enough = False
        self._see_what_is_due(now)
        self._look_at_all(now)
        if self._all_are_final():
            if not self.is_stopping and not any(life.by_hand for life in self.lives.values()):
                self.stop_all("no service is left", now)
                self._look_at_all(now)
            if self.is_stopping:
                self._end_the_rest(now)
        actions, self._actions = self._actions, []
        return actions

    @property
    def has_more(self) -> bool:
        """Whether more is to be done at once."""
        return bool(self._to_look_at or self._actions)

    def timeout(self, now: float) -> float | None:
        """How many seconds from now something is due without an event; None: nothing ever is."""
        if self.has_more:
            return 0.0
        times = [life.next_start if life.state == RESTARTING else life.kill_at for life in self._timed]
        times += [self._last_third_at, None if self.is_killing else self._kill_at]
        if self._rest_to_look_at and not self.is_killing and self.is_over:
            times.append(self._next_look)
        due = [time for time in times if time is not None]
        return max(0.0, min(due) - now) if due else None

    def grace_left(self, now: float) -> float | None:
        """How many seconds of the common grace are left; None where it has no end, or has not begun."""
        return None if self._kill_at is None else max(0.0, self._kill_at - now)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be done any more, once no process is left."""
        return self.is_stopping and self._all_are_final() and not self._actions

    @property
    def looks_before_reaping(self) -> bool:
        """Whether the end of a main process may have to be known before it is reaped, so that its group is killed."""
        return bool(self._may_be_killed)

    @property
    def exit_code(self) -> int:
        """That of the service whose end has stopped all, if it is not 0, or else the highest among the last lives."""
        if self._cause and self._cause.code:
            return self._cause.code
        return max((life.code or 0 for life in self.lives.values()), default=0)

    # What has happened.

    def executed(self, name: str, pid: int, now: float) -> None:
        """A service's command was executed, by this process."""
        life = self.lives[name]
        life.executed(pid, now)
        self._may_be_killed.add(life)
        service = life.service
        if not (service.oneshot or service.daemon or service.healthcheck):
            self._tell(life, SUCCEEDED, now)

    def not_started(self, name: str, code: int, why: str, for_good: bool, now: float) -> None:
        """A service's command could not be executed, or, unless for_good, the fork was refused."""
        life = self.lives[name]
        self._may_be_killed.discard(life)
        life.not_started(code, why, NOT_EXECUTED if for_good else NOT_FORKED, now)
        after = "" if life.state == FAILED and for_good else f"; {life.verdict}"
        self._actions.append(Say("error", "%s: %s%s", (name, why, after)))
        self._changed(life, now)

    def main_ended(self, name: str, status: int, now: float) -> bool:
        """A main process is a zombie; say whether its group is to be killed before it is reaped."""
        self._may_be_killed.discard(self.lives[name])
        return self.lives[name].main_ended(status, now) == KILL

    def lingers(self, name: str) -> None:
        """A main process was reaped, and others of its process group live on: a word, unless they were told to end."""
        life = self.lives[name]
        if not life.is_stopping:
            form = "%s: %s; others of its process group are left"
            self._actions.append(Say("info", form, (life.title, life.ended)))

    def over(self, name: str, now: float) -> None:
        """A life is over: the main process and its group are gone, and what they have written was read."""
        life = self.lives[name]
        life.happens(OVER, now)
        level = "warn" if life.state == FAILED and not self.is_stopping else "info"
        self._actions.append(Say(level, "%s (pid %d): %s; %s", (name, life.pid, life.ended, life.verdict)))
        self._changed(life, now)

    def shown(self, name: str, event: str, now: float) -> None:
        """A service has shown to be ready (SUCCEEDED), or was not in time (LATE), or is UNHEALTHY."""
        if event == SUCCEEDED or not self.is_stopping:  # then all are stopped in order
            self._tell(self.lives[name], event, now)

    def orphan_ended(self) -> None:
        """A process that belongs to no service was reaped: it may have left others behind."""
        self._rest_to_look_at = True

    def rest_told(self, now: float, took: float) -> None:
        """What belongs to no service was looked at: the next look waits until this much processor time has paid off."""
        self._next_look = next_look(now, took)

    def stop_all(self, why: str, now: float) -> None:
        """All is to be stopped, in reverse order of dependencies, within the common grace."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._actions.append(Say("info", "shutdown, since %s", (why,)))
        if self._grace is not None:
            self._last_third_at, self._kill_at = now + self._grace * LAST_THIRD, now + self._grace
        graph = {name: [life.service.name for life in others] for name, others in self._dependencies.items()}
        for name, others in graph.items():
            needed = order.needed(graph, [name]) - {name} if others else ()
            self._all_dependencies[name] = [self.lives[other] for other in needed]
        self._all_dependents = self._reversed(self._all_dependencies)
        for life in self.lives.values():
            life.wanted = DOWN
            self._to_look_at.append(life)
        self._rest_to_look_at = True

    def kill_all(self, why: str, now: float) -> None:
        """All is to be killed, without a grace."""
        if self.is_stopping and not self.is_killing:
            self._actions.append(Say("info", "killing what is left, since %s", (why,)))
        self.stop_all(why, now)
        self._kill_at, self._is_cut_short = now, True

    def order(self, name: str, wanted: str, now: float) -> None:
        """A service is to be UP, DOWN, or AGAIN: down, and then up. Not while all is being stopped."""
        life = self.lives[name]
        life.order(wanted, now)
        self._to_look_at.append(life)

    # What follows.

    def _reversed(self, dependencies: dict[str, list[Life]]) -> dict[str, list[Life]]:
        """Of each service, who depends on it."""
        dependents: dict[str, list[Life]] = {name: [] for name in self.lives}
        for name, others in dependencies.items():
            for life in others:
                dependents[life.service.name].append(self.lives[name])
        return dependents

    def _all_are_final(self) -> bool:
        """Whether all are; who was not the last time is asked first, so that it takes no time that grows with them."""
        ring = self._ring
        for _ in self.lives:
            if ring[0].state not in FINAL:
                return False
            ring.rotate(-1)
        return True

    def _tell(self, life: Life, event: str, now: float) -> None:
        """Tell a service what has happened, and take up what is to be done."""
        before = life.state
        action = life.happens(event, now)
        if action == RUN:
            self._actions.append(Start(life.service.name))
            self._is_enough = True
        elif action == STOP:
            self._stop(life, now)
        elif action == KILL:
            self._kill(life)
        if life.state != before:
            self._changed(life, now)

    def _stop(self, life: Life, now: float) -> None:
        service = life.service
        grace = service.stop_grace_period
        if grace is None and not self.is_stopping:
            grace = self._grace
        if grace is not None and (self._kill_at is None or now + grace < self._kill_at):
            life.kill_at = now + grace
            self._timed.add(life)
        to_group = service.kill_mode == "group"
        if not (to_group or life.has_main):  # all of it is what that one has left
            self._actions.append(Kill(service.name))
            return
        if to_group:
            self._may_be_killed.discard(life)  # what is left of it has the signal, too
        self._actions.append(Stop(service.name, service.stop_signal, to_group))
        self._is_enough = len(self._actions) >= STOPS

    def _kill(self, life: Life) -> None:
        life.kill_at = None
        self._timed.discard(life)
        if life.has_main and not self._is_cut_short:
            self._actions.append(Say("warn", "%s: its grace is over", (life.title,)))
        self._actions.append(Kill(life.service.name))

    def _changed(self, life: Life, now: float) -> None:
        """A service is something else now: look at it again, and at those for whom that matters."""
        name = life.service.name
        if life.state in LEADS_ON:
            self._to_look_at.append(life)
        self._to_look_at.extend(self._dependents[name])
        if self.is_stopping:
            self._to_look_at.extend(self._all_dependencies[name])
        elif life.state in (ENDED, FAILED) and life.service.essential and not life.by_hand:
            self._cause = life
            self.stop_all(f"{name} has {'failed' if life.state == FAILED else 'ended'}", now)

    def _look_at_all(self, now: float) -> None:
        while self._to_look_at and not self._is_enough:
            self._look_at(self._to_look_at.popleft(), now)

    def _look_at(self, life: Life, now: float) -> None:
        """See whether what a service is, what is wanted of it, and what others are, lead on."""
        if life.state in (STARTING, READY):
            if life.wanted != UP and self._may_stop(life):
                self._tell(life, UNWANTED, now)
        elif life.state == RESTARTING:
            if life.wanted == DOWN:
                self._tell(life, UNWANTED, now)
            elif now >= life.next_start:
                self._tell(life, START_DUE, now)
            else:
                self._timed.add(life)
        elif life.state == WAITING:
            if life.wanted == DOWN:
                self._tell(life, UNWANTED, now)
            else:
                self._see_whether_it_may_start(life, now)

    def _see_whether_it_may_start(self, life: Life, now: float) -> None:
        dependencies = self._dependencies[life.service.name]
        if all(other.state in (READY, DONE) for other in dependencies):
            self._tell(life, START_DUE, now)
            return
        for other in dependencies:
            if other.state in (ENDED, FAILED) and not other.by_hand:
                life.code = other.code or 1
                life.ended, life.verdict = f"not started, since {other.service.name} has {other.state}", ""
                self._actions.append(Say("warn", "%s: %s", (life.service.name, life.ended)))
                self._tell(life, CANNOT_START, now)
                return

    def _may_stop(self, life: Life) -> bool:
        """Whether those that depend on it are gone, if all is being stopped: what is stopped by hand does not wait."""
        if not self.is_stopping or self._all_may_stop:
            return True
        dependents = self._all_dependents[life.service.name]
        return not dependents or not any(other.lives for other in dependents)

    def _see_what_is_due(self, now: float) -> None:
        for life in list(self._timed):  # no tuple: Python 3.11 keeps 2000 of those of twenty, and uses none again
            if life.state == STOPPING and life.kill_at is not None:
                if now >= life.kill_at:
                    self._tell(life, OVERDUE, now)
            elif life.state == RESTARTING:
                if now >= life.next_start:
                    self._timed.discard(life)
                    self._to_look_at.append(life)
            else:
                self._timed.discard(life)
        if self._last_third_at is not None and now >= self._last_third_at:
            self._last_third_at, self._all_may_stop = None, True
            self._to_look_at.extend(self.lives.values())
        if self._kill_at is not None and now >= self._kill_at and not self.is_killing:
            self._kill_what_is_left(now)

    def _kill_what_is_left(self, now: float) -> None:
        self.is_killing, self._last_third_at = True, None
        for life in self.lives.values():
            if life.lives:
                life.happens(UNWANTED, now)  # without its stop signal, if it has not got that
                self._tell(life, OVERDUE, now)

    def _end_the_rest(self, now: float) -> None:
        """What belongs to no service goes last; after KILL again and again, until nothing is left."""
        if self.is_killing:
            self._actions.append(StopRest(SIGKILL))
        elif self._rest_to_look_at and now >= self._next_look:
            self._rest_to_look_at = False
            self._actions.append(StopRest(self._rest_signal))
