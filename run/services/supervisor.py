"""The supervisor: many services, done: started, reaped, signalled, as run.services.manager decides.

A charge of the loop. Source: contract, "Many services".
"""

import os
from collections import deque

from run import _kernel, children, descriptors
from run.children import Delivery
from run.descriptors import STDERR, STDIN, STDOUT
from run.loop import CLD_CODES, PATIENCE, SI_QUEUE, Charge, Loop, RunError, Signal, become_reaper
from run.one import terminal
from run.services.checks import Checks
from run.services.control import Control
from run.services.life import STARTING, Life
from run.services.lingering import Lingering
from run.services.manager import Action, Kill, Manager, Say, Start, Stop, StopRest
from run.services.messenger import Messenger
from run.services.plan import Plan
from run.services.starter import Starter
from run.services.surroundings import Surroundings
from run.services.watch import Watch
from run.signals import CHLD, FORWARDED, HUP, INT, KILL, QUIT, TERM, TSTP, contains, describe, signal_set
from run.wait_status import described, stop_signal

WAITED_FOR = FORWARDED | signal_set(CHLD, TSTP)

STOPPING = signal_set(TERM, INT, QUIT)
"""What stops all, whoever sends it."""

STARTS = 16
"""How many services are started before signals, ends and output are looked at again."""


class Supervisor(Charge):
    """Many services, and all that descends from them."""

    def __init__(self, plan: Plan, quiet: int, rest_signal: int = TERM) -> None:
        """Open all that the services need; nothing is started yet. Raises RunError.

        quiet counts `-q`; rest_signal is for what belongs to no service.
        """
        become_reaper()
        descriptors.keep_only({STDIN, STDOUT, STDERR})
        self._manager = Manager(plan, rest_signal, _now())
        try:
            closed = descriptors.fill_standard_streams()  # before anything else is opened
            self._watch = Watch(WAITED_FOR)
            self._surroundings = Surroundings(plan, self._watch, quiet, closed)
            self._log = self._surroundings.log
            self._checks = Checks(self._manager, self._watch, self._log, self._surroundings.null_in)
        except OSError as error:
            count = len(plan.services)
            raise RunError(f"cannot open what {count} services need, two pipes for each: {error.strerror}") from None
        self._starter = Starter(self._manager, self._checks, self._surroundings, self._watch)
        self._messenger = Messenger(self._manager, self._log)
        self._control = Control(self._manager, self._checks, self._watch, self._log, self._messenger.order)
        self._actions: deque[Action] = deque()
        self._by_pid: dict[int, str] = {}
        """The services by their main processes."""
        self._lingering = Lingering()
        self._may_reap = True
        self._is_childless = False
        self._interrupts = 0
        self._strangers: set[int] = set()
        self._unreaped: dict[int, str | None] = {}
        """What was noted to have ended, and whose it was: while it is being reaped, or if that has failed."""

    def run(self) -> int:
        """Start the services, and return the exit code once no process is left. Raises RunError."""
        if self._log.shows_info:
            self._log.info(f"own pid is {os.getpid()}")
        self._strangers = children.from_before()
        self._take_what_has_come()
        Loop(self, self._log).run()
        code = self._manager.exit_code
        self._surroundings.end(self._manager.grace_left(_now()), f"no process is left: exiting with code {code}")
        return code

    def _take_what_has_come(self) -> None:
        """Be stopped by what has come before anything is started."""
        try:
            while (signal := _kernel.wait_signal(STOPPING, 0)) is not None:
                self.signalled(*signal)
        except OSError as error:
            self._log.complain(f"cannot wait for signals: {error.strerror}")

    # The charge of the loop.

    def has_child(self) -> bool:
        """The main processes are children until they are reaped."""
        return bool(self._by_pid)

    def lives(self) -> bool:
        """Whether a child is seen to live."""
        return any(map(children.is_alive, self._by_pid)) or children.any_lives()

    def is_over(self) -> bool:
        """Whether no service runs or will."""
        return self._manager.is_over and not self._actions

    def reap(self) -> bool:
        """Reap one child, if one has told that there is something to be reaped."""
        if self._is_childless:
            raise ChildProcessError
        if not (self._may_reap or self._strangers):
            return False
        try:
            changed, is_zombie = self._next_changed()
        except ChildProcessError:
            self._is_childless = True
            raise
        if changed is None:
            self._may_reap = False
            return False
        self._child_changed(*changed, is_zombie)
        return True

    def _next_changed(self) -> tuple[tuple[int, int] | None, bool]:
        """What children.reap() returns, and whether that one is still to be reaped. Raises as that."""
        if self._manager.looks_before_reaping or self._checks.is_asking:
            try:
                return children.next_to_reap(), True
            except ChildProcessError:
                raise
            except OSError as error:
                self._log.complain(f"cannot look at processes before they are reaped: {error.strerror}")
        return children.reap(), False

    def act(self, now: float) -> None:
        """Do what is due; then pass on what services have written."""
        self._look_at_lingering(now)
        self._watch.serve()
        self._checks.act(now)
        self._do(now)
        self._control.act(now)
        self._watch.serve_late()
        self._surroundings.relay.settle()
        self._surroundings.say_what_is_dropped()

    def timeout(self, now: float) -> float | None:
        """When something is due: for the manager, a healthcheck, a client, or one of those who linger."""
        if self._actions:
            return 0.0
        wanted = [self._manager.timeout(now)]
        times = [
            self._checks.next_time(),
            self._control.next_time() if self._control else None,
            self._lingering.next_time(),
        ]
        wanted += [time - now for time in times if time]
        is_impatient = self._watch.is_impatient or self._surroundings.relay.is_impatient
        wanted += [PATIENCE] if self._strangers or is_impatient else []
        due = [seconds for seconds in wanted if seconds is not None]
        return max(0.0, min(due)) if due else None

    def wait(self, timeout: float | None) -> list[Signal]:
        """Sleep until a signal comes, or there is something to read or to write. Raises OSError."""
        try:
            return self._watch.wait(timeout)
        except OSError:
            self._may_reap, self._is_childless = True, False  # the signal that tells of an end may be there
            raise

    def signalled(self, signum: int, code: int, sender: int, uid: int, value: int) -> None:
        """A signal has come: to stop all, or to be passed on."""
        if signum == CHLD or (code > 0 and code in CLD_CODES):
            self._may_reap, self._is_childless = True, False  # what docker exec(1) leaves becomes a child of PID 1
        elif signum == TSTP:
            if code > 0:
                terminal.suspend()  # Ctrl-Z: services have no terminal, and go on
        elif contains(STOPPING, signum) or (signum == HUP and code > 0):
            self._interrupts += signum == INT
            decide = self._manager.kill_all if self._interrupts > 1 else self._manager.stop_all
            decide(f"{describe(signum)} has come" + (f" from pid {sender}" if code <= 0 and sender else ""), _now())
        elif code <= 0:
            self._messenger.forward(signum, sender, (uid, sender, value) if code == SI_QUEUE else None)

    # What is done.

    def _do(self, now: float) -> None:
        """Do what the manager wants, until it wants nothing more, or many services were started."""
        starts = 0
        self._actions.extend(self._manager.actions(now))
        while self._actions:
            action = self._actions.popleft()
            self._perform(action, now)
            if isinstance(action, Start):
                starts += 1
                if starts == STARTS:
                    return
            if not self._actions and self._manager.has_more:
                self._actions.extend(self._manager.actions(now))

    def _perform(self, action: Action, now: float) -> None:
        # A pattern of classes, `case Say(level)`, makes a string "__match_args__" each time, and thousands of them stay
        # in the cache of _PyType_Lookup().
        if isinstance(action, Say):
            if action.level != "info" or self._log.shows_info:
                getattr(self._log, action.level)(action.message)
        elif isinstance(action, Start):
            pid = self._starter.start(self._manager.lives[action.name].service, now)
            if pid is not None:
                self._by_pid[pid] = action.name
                self._is_childless = False
        elif isinstance(action, Stop):
            self._stop(self._manager.lives[action.name], action.signum, action.to_group, now)
        elif isinstance(action, Kill):
            self._stop(self._manager.lives[action.name], KILL, True, now)
        elif isinstance(action, StopRest) and not self._is_childless:
            self._messenger.stop_rest(action.signum, now)

    def _stop(self, life: Life, signum: int, to_group: bool, now: float) -> None:
        name = life.service.name
        self._checks.follow(life, now)
        if name in self._lingering.names() and not self._see_whether_over(name, now):
            self._lingering.hurry(name, now)
        # Else its number may mean another one by now: that of a group that is gone, or of a keeper that was reaped.
        if life.lives and (life.has_main or not life.service.daemon):
            self._messenger.stop(life, signum, to_group)

    # What has happened.

    def _child_changed(self, pid: int, status: int, is_zombie: bool) -> None:
        """A child has ended, or was stopped; is_zombie: it is still to be reaped."""
        name = self._by_pid.get(pid)
        stopped_by = stop_signal(status)
        if pid in self._unreaped and not stopped_by:
            name = self._unreaped.pop(pid)
        elif stopped_by:
            title = self._manager.lives[name].title if name else f"pid {pid}"
            self._log.info(f"{title}: stopped by {describe(stopped_by)}")
        elif name is None:
            self._orphan_ended(pid, status)
        else:
            self._main_ended(name, pid, status)
        if is_zombie:
            if not stopped_by:
                self._unreaped[pid] = name
            children.reap_one(pid)
            self._unreaped.pop(pid, None)
        if not stopped_by:
            self._was_reaped(name)

    def _was_reaped(self, name: str | None) -> None:
        """A child is gone: the main process of a service, or perhaps the last one of a service's process group."""
        now = _now()
        if name is None:
            for lingering in self._lingering.names():
                self._see_whether_over(lingering, now)
        elif self._manager.lives[name].lives:
            is_new = self._lingering.begins(name, now)
            if not self._see_whether_over(name, now) and is_new:
                self._manager.lingers(name)

    def _main_ended(self, name: str, pid: int, status: int) -> None:
        """The main process of a service has ended: kill what it has left, if it has crashed."""
        del self._by_pid[pid]
        now = _now()
        life = self._manager.lives[name]
        if life.service.daemon:
            failure = self._starter.failure(name)
            if failure and life.state == STARTING:
                self._manager.not_started(name, *failure, now)
                self._checks.follow(life, now)
                return
            self._starter.abandoned.keeper_ended(name, was_killed=os.WIFSIGNALED(status))
        kills = self._manager.main_ended(name, status, now)
        self._checks.follow(life, now)
        if kills:
            Delivery(KILL).to([-pid])

    def _orphan_ended(self, pid: int, status: int) -> None:
        """A process that belongs to no service has ended: a probe, or one that has lost its parent."""
        if self._checks.reaps(pid, status):
            return
        self._log.info(f"pid {pid}: {described(status)}")
        self._strangers.discard(pid)
        self._messenger.ended(pid)
        self._manager.orphan_ended()

    def _see_whether_over(self, name: str, now: float) -> bool:
        """Whether all that belongs to a service is gone, whose main process was reaped."""
        if self._starter.abandoned.kill(name) or not children.left_group_is_gone(self._manager.lives[name].pid):
            return False
        self._over(name, now)
        return True

    def _over(self, name: str, now: float) -> None:
        """A life is over."""
        self._lingering.ends(name)
        self._surroundings.relay.life_ended(name)
        self._manager.over(name, now)
        self._checks.follow(self._manager.lives[name], now)

    def _look_at_lingering(self, now: float) -> None:
        """See to those who may be gone without anybody telling it, or of whom zombies are left that others reap."""
        due = self._lingering.due(now)
        if not due:
            return
        before = _kernel.cpu_time()
        for name in due:
            self._lingering.looked(name, self._manager.lives[name].is_stopping, now)
        left = [self._manager.lives[name] for name in due if not self._see_whether_over(name, now)]
        groups = {life.pid: life.service.name for life in left if not life.service.daemon}
        for group in children.zombie_groups(set(groups)):
            self._over(groups[group], now)
        self._lingering.took(_kernel.cpu_time() - before, _now())


def _now() -> float:
    return _kernel.monotonic()
