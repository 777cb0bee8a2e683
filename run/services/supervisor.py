"""The supervisor: many services, done: started, reaped, signalled, as run.services.manager decides.

A charge of the loop. Source: contract, "Many services".
"""

import os
import select
from collections import deque

from run import _kernel, children, descriptors, start
from run.children import Delivery, Queued
from run.descriptors import STDERR, STDIN, STDOUT
from run.log import Log
from run.loop import CLD_CODES, PATIENCE, SI_QUEUE, Charge, Loop, RunError, Signal, become_reaper
from run.one import terminal
from run.recipients import Served
from run.services.keeper import ENDED, KILL_ALL, NOT_EXECUTED, NOT_FORKED, STARTED, keep
from run.services.life import STARTING, SUCCEEDED
from run.services.manager import Action, Kill, Manager, Say, Start, Stop, StopRest
from run.services.plan import Plan, Service
from run.services.relay import Relay
from run.services.sink import SharedLog, Sink
from run.services.users import switch
from run.signals import CHLD, FORWARDED, HUP, INT, KILL, QUIT, TERM, TSTP, contains, describe, signal_set
from run.text import shown
from run.wait_status import described, stop_signal

WAITED_FOR = FORWARDED | signal_set(CHLD, TSTP)

STOPPING = signal_set(TERM, INT, QUIT)
"""What stops all, whoever sends it."""

STARTS = 16
"""How many services are started before signals, ends and output are looked at again."""

MOST_SIGNALS = 100
"""How many signals are taken before ends are looked at again."""

SPARE = 2
"""File descriptors that are needed now and then: for a file of /proc, for the pipe of a keeper that is started."""

LAST_WORDS = 2.0
"""Seconds that a reader who is stuck is waited for at the end, at most."""


class Supervisor(Charge):
    """Many services, and all that descends from them."""

    def __init__(self, plan: Plan, quiet: int, rest_signal: int = TERM) -> None:
        """Take the plan; nothing is opened or started yet. rest_signal is for what belongs to no service."""
        self._plan = plan
        self._services = {service.name: service for service in plan.services}
        self._manager = Manager(plan, rest_signal)
        self._log = Log(quiet)
        self._quiet = quiet
        self._actions: deque[Action] = deque()
        self._by_pid: dict[int, str] = {}
        """The services by their main processes."""
        self._lingering: dict[str, float] = {}
        """The services whose main process was reaped, and whose group is not gone; when to look again."""
        self._reports: dict[int, str] = {}
        """The services whose keepers tell how the start went, by the descriptor where they do."""
        self._not_started: dict[str, tuple[bool, str]] = {}
        """What they have told: whether that is for good, and exit code and reason."""
        self._may_reap = True
        self._is_childless = False
        self._interrupts = 0
        self._strangers: set[int] = set()
        self._served = Served()
        self._ready: list[int] = []

    def run(self) -> int:
        """Start the services, and return the exit code once no process is left. Raises RunError."""
        become_reaper()
        self._open()
        if self._log.shows_info:
            self._log.info(f"own pid is {os.getpid()}")
        self._strangers = children.from_before()
        while (signal := _kernel.wait_signal(STOPPING, 0)) is not None:  # before anything is started
            self.signalled(*signal)
        Loop(self, self._log).run()
        code = self._manager.exit_code
        self._end_output(f"no process is left: exiting with code {code}")
        return code

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
            following = children.next_to_reap()
        except ChildProcessError:
            self._is_childless = True
            raise
        if following is None:
            self._may_reap = False
            return False
        self._child_changed(*following)
        return True

    def act(self, now: float) -> None:
        """Do what the manager wants; then pass on what services have written."""
        self._look_at_lingering(now)
        ready, self._ready = self._ready, []
        for fd in ready:
            if fd in self._reports:
                self._read_report(fd, now)
        self._do(now)
        for fd in ready:
            self._relay.ready(fd)
        self._relay.settle()
        self._say_what_is_dropped()

    def timeout(self, now: float) -> float | None:
        """When the manager wants to be asked again, or one of those who linger is to be looked at."""
        if self._actions:
            return 0.0
        times = [
            time for time in (self._manager.timeout(now), PATIENCE if self._strangers else None) if time is not None
        ]
        times += [time - now for time in self._lingering.values() if time]
        return max(0.0, min(times)) if times else None

    def wait(self, timeout: float | None) -> list[Signal]:
        """Sleep until a signal comes, or there is something to read or to write."""
        self._ready = [fd for fd, _ in self._epoll.poll(timeout)]
        signals: list[Signal] = []
        if self._signal_fd in self._ready:
            self._ready.remove(self._signal_fd)
            while len(signals) < MOST_SIGNALS and (signal := _kernel.wait_signal(WAITED_FOR, 0)) is not None:
                signals.append(signal)
        return signals

    def signalled(self, signum: int, code: int, sender: int, uid: int, value: int) -> None:
        """A signal has come: to stop all, or to be passed on."""
        if signum == CHLD or (code > 0 and code in CLD_CODES):
            self._may_reap = True
            self._is_childless = False  # what docker exec(1) leaves becomes a child of PID 1
        elif signum == TSTP:
            if code > 0:
                terminal.suspend()  # Ctrl-Z: services have no terminal, and go on
        elif contains(STOPPING, signum) or (signum == HUP and code > 0):
            self._interrupts += signum == INT
            decide = self._manager.kill_all if self._interrupts > 1 else self._manager.stop_all
            decide(f"{describe(signum)} has come" + (f" from pid {sender}" if code <= 0 and sender else ""), _now())
        elif code <= 0:
            self._forward(signum, sender, (uid, sender, value) if code == SI_QUEUE else None)

    # What is opened.

    def _open(self) -> None:
        """Open all that the services need, for all their lives. Raises RunError."""
        descriptors.keep_only({STDIN, STDOUT, STDERR})
        closed = descriptors.fill_standard_streams()
        try:
            self._epoll = select.epoll()
            self._signal_fd = _kernel.signal_fd(WAITED_FOR)
            self._epoll.register(self._signal_fd, select.EPOLLIN)
            stdout = Sink(STDOUT, "standard output")
            stderr = stdout if descriptors.are_same_file(STDOUT, STDERR) else Sink(STDERR, "standard error")
            self._log = SharedLog(self._quiet, stderr)
            self._relay = Relay(self._epoll, stdout, stderr)
            self._null_in, self._null_out = descriptors.open_null()
            self._given = tuple(-1 if fd in closed else fd for fd in (STDOUT, STDERR))
            width = max((len(service.name) for service in self._plan.services if service.output == "named"), default=0)
            for number, service in enumerate(self._plan.services):
                if service.output in ("named", "plain"):
                    identity = service.identity
                    owner = (identity.uid, identity.gid) if identity else (os.geteuid(), os.getegid())
                    self._relay.add(service, width, number, owner)
            daemons = sum(service.daemon for service in self._plan.services)  # one descriptor for each, in its life
            for spare in [os.dup(self._null_in) for _ in range(SPARE + daemons)]:
                os.close(spare)
        except OSError as error:
            count = len(self._plan.services)
            raise RunError(f"cannot open what {count} services need, two pipes for each: {error.strerror}") from None

    def _files(self, service: Service) -> tuple[int, int, int]:
        """What a service gets as stdin, stdout and stderr."""
        if service.output == "null":
            return self._null_in, self._null_out, self._null_out
        out, err = self._given if service.output == "inherit" else self._relay.streams(service.name)
        return self._null_in, out, err

    def _say_what_is_dropped(self) -> None:
        for sink in self._relay.sinks:
            if sink.failure:
                self._log.complain(f"{sink.name}: {sink.failure}: what services write there is dropped")

    def _end_output(self, last_line: str) -> None:
        """Pass on the last words; a reader who is stuck is waited for, but not long."""
        left = self._manager.grace_left(_now())
        until = _now() + (LAST_WORDS if left is None else min(left, LAST_WORDS))
        self._relay.drain(until - _now())
        for sink in self._relay.sinks:
            if sink.dropped and not sink.failure:
                self._log.warn(f"{sink.name}: {sink.dropped} bytes were dropped, for nobody has read them in time")
        self._log.info(last_line)
        self._relay.drain(until - _now())

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
                self._actions.extend(self._manager.actions(now))

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case Say(level, message):
                getattr(self._log, level)(message)
            case Start(name):
                self._start(self._services[name], now)
            case Stop(name, signum, to_group):
                self._stop(name, signum, to_group)
            case Kill(name):
                self._stop(name, KILL, to_group=True)
                if name in self._lingering:
                    self._lingering[name] = now + PATIENCE
            case StopRest(signum):
                self._stop_rest(signum, now)

    def _start(self, service: Service, now: float) -> None:
        try:
            pid = (
                self._keep(service)
                if service.daemon
                else start.start(
                    service.command,
                    service.stop_signal,
                    environment=service.environment,
                    session=True,
                    files=self._files(service),
                    directory=service.working_dir,
                    umask=-1 if service.umask is None else service.umask,
                    user=switch(service.identity) if service.identity else None,
                )
            )
        except start.StartError as error:
            self._manager.not_started(service.name, error.code, str(error), True, now)
            return
        except OSError as error:
            why = f"cannot start {shown(service.command)}: fork: {error.strerror}"
            self._manager.not_started(service.name, start.CANNOT_RUN, why, False, now)
            return
        self._by_pid[pid] = service.name
        self._is_childless = False
        if not service.daemon:
            self._say_started(service, pid)
        self._manager.executed(service.name, pid, now)

    def _say_started(self, service: Service, pid: int) -> None:
        if self._log.shows_info:
            self._log.info(f"{service.name} (pid {pid}): started {shown(service.command)}")

    def _stop(self, name: str, signum: int, to_group: bool) -> None:
        """Send a service its stop signal, or KILL."""
        life = self._manager.lives[name]
        what = f"sending {describe(signum)} to {life.title}"
        if life.service.daemon:
            self._send(what, KILL_ALL if signum == KILL else signum, life.pid)
        else:
            self._send(what, signum, -life.pid if to_group else life.pid)

    def _keep(self, service: Service) -> int:
        """Start a service under a keeper; return that one's pid. Raises OSError."""
        pid, reads = keep(service, self._files(service))
        self._reports[reads] = service.name
        self._epoll.register(reads, select.EPOLLIN)
        return pid

    def _read_report(self, fd: int, now: float) -> None:
        """Read what a keeper tells of the start, as far as it has."""
        name = self._reports[fd]
        try:
            report = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        if not report:
            del self._reports[fd]
            self._epoll.unregister(fd)
            os.close(fd)
        for line in report.splitlines():
            word, _, rest = line.partition(b" ")
            if word in (NOT_EXECUTED, NOT_FORKED):
                self._not_started[name] = word == NOT_EXECUTED, rest.decode("utf-8", "surrogateescape")
            elif word == STARTED:
                self._say_started(self._services[name], self._manager.lives[name].pid)
            elif word == ENDED and rest == b"0" and not self._services[name].healthcheck:
                self._manager.shown(name, SUCCEEDED, now)

    def _send(self, why: str, signum: int, *targets: int) -> None:
        delivery = Delivery(signum).to(list(targets))
        if delivery.reached:
            self._log.info(why)
        for reason, who in delivery.refused.items():
            self._log.warn(f"cannot send {describe(signum)} to {who}: {reason}")

    def _forward(self, signum: int, sender: int, queued: Queued | None) -> None:
        """Pass a signal on to each main process that catches it."""
        reached = []
        for life in self._manager.lives.values():
            if life.has_main:
                pids = children.of(life.pid) if life.service.daemon else [life.pid]
                catching = [pid for pid in pids if children.catches(pid, signum)]
                if catching and Delivery(signum, queued=queued).to(catching).reached:
                    reached.append(life.title)
        origin = f" from pid {sender}" if sender else ""
        whom = ", ".join(reached) or "nobody, since no service catches it"
        self._log.info(f"forwarding {describe(signum)}{origin} to {whom}")

    def _stop_rest(self, signum: int, now: float) -> None:
        """Send a signal to what belongs to no service: each time to those who have not got it; KILL to all."""
        try:
            found = children.find_recipients()
        except MemoryError:
            found = None
        if found is None:
            self._send(
                f"sending {describe(signum)} to all", signum, *([children.EVERY_PROCESS] if os.getpid() == 1 else [])
            )
            return
        for group in children.gone(self._served.groups - set(found.members.values())):
            self._served.group_ended(group)
        whom = found if signum == KILL else self._served.newcomers(found, children.not_as_group())
        delivery = Delivery(signum).to(whom.targets())
        delivery.to(whom.missed(children.moved(whom)))
        self._manager.rest_told(len(found.pids()), now)
        if delivery.reached:
            self._log.info(f"sending {describe(signum)} to {delivery.reached}")
        for reason, who in delivery.refused.items():
            self._log.warn(f"cannot send {describe(signum)} to {who}: {reason}")

    # What has happened.

    def _child_changed(self, pid: int, status: int) -> None:
        """A child has ended, or was stopped, and is still to be reaped."""
        name = self._by_pid.get(pid)
        stopped_by = stop_signal(status)
        if stopped_by or name is None:
            children.reap_one(pid)
            title = self._manager.lives[name].title if name else f"pid {pid}"
            what = f"stopped by {describe(stopped_by)}" if stopped_by else described(status)
            self._log.info(f"{title}: {what}")
            if not stopped_by:
                self._orphan_ended(pid)
            return
        now = _now()
        for fd in [fd for fd, whose in self._reports.items() if whose == name]:
            self._read_report(fd, now)
        gave_up = self._not_started.pop(name, None)
        if gave_up and self._manager.lives[name].state == STARTING:
            self._keeper_gave_up(name, pid, *gave_up, now)
            return
        if self._manager.main_ended(name, status, now):
            Delivery(KILL).to([-pid])
            self._lingering[name] = now + PATIENCE
        children.reap_one(pid)
        del self._by_pid[pid]
        if not self._see_whether_over(name, now):
            self._lingering.setdefault(name, 0.0)
            if not self._lingering[name]:
                self._manager.lingers(name)

    def _keeper_gave_up(self, name: str, pid: int, for_good: bool, reason: str, now: float) -> None:
        """A keeper has ended that could not start its service."""
        children.reap_one(pid)
        del self._by_pid[pid]
        code, _, why = reason.partition(" ")
        self._manager.not_started(name, int(code), why, for_good, now)

    def _orphan_ended(self, pid: int) -> None:
        self._strangers.discard(pid)
        self._served.ended(pid)
        self._manager.orphan_ended()
        for name in tuple(self._lingering):
            self._see_whether_over(name, _now())

    def _see_whether_over(self, name: str, now: float) -> bool:
        """Whether the process group of a service is gone, whose main process was reaped."""
        if not children.group_is_gone(self._manager.lives[name].pid):
            return False
        self._lingering.pop(name, None)
        self._relay.life_ended(name)
        self._manager.over(name, now)
        return True

    def _look_at_lingering(self, now: float) -> None:
        """See to those who were killed, and are reaped by somebody else."""
        for name, due in tuple(self._lingering.items()):
            if due and now >= due and not self._see_whether_over(name, now):
                self._lingering[name] = now + PATIENCE


def _now() -> float:
    return _kernel.monotonic()
