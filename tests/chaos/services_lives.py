"""What follows in the model of the chaos tests of services: starts, ends and restarts, until nothing moves.

Source: contract, "A service's life", "The exit code of services" and "Output". No system call in here.
"""

import signal
from collections.abc import Iterable, Mapping
from dataclasses import replace

from services_world import (
    AGAIN,
    COMMON,
    DEFAULT,
    DONE,
    DOWN,
    ENDED,
    FAILED,
    FINAL,
    HANG,
    LINGERING,
    NEVER,
    READY,
    RESTARTING,
    SHORT,
    STARTING,
    STOPPING,
    UP,
    WAITING,
    Member,
    Orphans,
    Seen,
    Service,
    Spec,
    Written,
    described,
    named,
    step_of,
)

KILLED = -9
"""Ends are exit codes, or -n for signal n."""
NOT_STARTED = "not started, since "
USR1, TERM = int(signal.SIGUSR1), int(signal.SIGTERM)


class Lives:
    """All services, and what has to be seen of them so far."""

    def __init__(self, specs: Mapping[str, Spec], grace: float = NEVER) -> None:
        """Start them; grace is the common one, in seconds: NEVER, or COMMON, and then who hangs has no other."""
        self.grace = grace
        in_order = sorted(specs, key=lambda name: step_of(name, specs))
        self.services = {name: Service(name, specs[name]) for name in in_order}
        self.seen = Seen(of={name: [] for name in specs})
        self.orphans = Orphans()
        self.written = {(name, stream): Written() for name in specs for stream in (1, 2)}
        self.apart: list[Member] = []
        self.open: set[str] = set()
        """Those who have failed with the one that has stopped all, or were too late for that: who is first is open."""
        self.stopping = False
        self.may_all_stop = False
        """Whether two thirds of the grace are over, so that nobody waits for those that depend on it."""
        self.is_killing = False
        """Whether all of it is."""
        self.killed: list[Member] = []
        """Who was left then."""
        self.cause: Service | None = None
        self._settle()

    # -- What follows --------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        everybody = self.services.values()
        while any(map(self._step, everybody)) or self._is_late() or self._grace_passes() or self._ends():
            pass
        self.seen.lines = {key: written.lines for key, written in self.written.items()}

    def _step(self, service: Service) -> bool:
        """Do what follows for a service; say whether something did."""
        before = service.state, service.life
        if service.state == RESTARTING:
            if service.wanted == DOWN:
                service.state = ENDED
            elif self._delay(service) < NEVER:
                service.state = WAITING
        elif service.state == WAITING:
            if service.wanted == DOWN:
                service.state = ENDED
            else:
                self._start_or_fail(service)
        elif service.lives and service.state != STOPPING and service.wanted != UP and not self._is_needed(service):
            self._stop(service, "")
        return before != (service.state, service.life)

    def _is_late(self) -> bool:
        """Whether a service is not ready in time; there is one at most that never is."""
        for service in self.services.values():
            if service.spec.check == "late" and service.state == STARTING:
                self._say(service, f"not ready within {SHORT:g} s")
                self._stop(service, "late")
                return True
        return False

    def _grace_passes(self) -> bool:
        """Whether something happens as two thirds of the common grace are over, or all of it."""
        left = [service for service in self.services.values() if service.lives]
        if not self.stopping or not left or self.grace == NEVER:
            return False
        if self.may_all_stop:
            self.is_killing = True
            self.killed = [member for service in left for member in service.members]
            for service in left:
                self._kill(service)
        self.may_all_stop = True
        return True

    def _start_or_fail(self, service: Service) -> None:
        needed = [self.services[name] for name in service.spec.depends_on]
        if all(other.state in (READY, LINGERING, DONE) for other in needed):
            self._start(service)
            return
        for other in needed:
            if other.state in (ENDED, FAILED) and not other.by_hand:
                service.code, service.state = other.code or 1, FAILED
                self._say(service, f"{NOT_STARTED}{other.name} has {other.state}")
                was_stopping = self.stopping
                self._ended(service)
                if self.stopping and not was_stopping:
                    self.open = {s.name for s in self.services.values() if s.state == WAITING or self._is_in_vain(s)}
                return

    def _is_in_vain(self, service: Service) -> bool:
        return service.state == FAILED and self.seen.of[service.name][-1].startswith(NOT_STARTED)

    def settled(self, seen: Seen) -> Seen:
        """What is seen, without what is open."""
        of = {
            n: [x for x in lines if n not in self.open or not x.startswith(NOT_STARTED)] for n, lines in seen.of.items()
        }
        log = ["shutdown" if self.open and line.startswith("shutdown") else line for line in seen.log]
        return replace(seen, of=of, log=log)

    def _is_needed(self, service: Service) -> bool:
        """Whether somebody lives that depends on it, however far, where all are stopped in order."""
        return self.stopping and not self.may_all_stop and any(other.lives for other in self.dependents(service))

    def dependents(self, service: Service) -> list[Service]:
        """Who depends on a service, however far."""
        direct = [other for other in self.services.values() if service.name in other.spec.depends_on]
        return direct + [far for other in direct for far in self.dependents(other)]

    def _ends(self) -> bool:
        """Whether all is over, or is going to be; then do what is left to do."""
        everybody = self.services.values()
        if self.seen.code is not None or not all(service.state in FINAL for service in everybody):
            return False
        if not self.stopping:
            if any(service.by_hand for service in everybody):
                return False
            self._stop_all("no service is left")
            return True
        for member in tuple(self.apart):
            self._gone(member, KILLED if self.is_killing else -TERM, is_orphan=True)
        code = self.cause.code if self.cause and self.cause.code else max(service.code or 0 for service in everybody)
        self.seen.code = code
        self.seen.log.append(f"no process is left: exiting with code {code}")
        return True

    def _stop_all(self, why: str) -> None:
        self.stopping = True
        self.seen.log.append(f"shutdown, since {why}")
        for service in self.services.values():
            service.wanted = DOWN

    # -- One life ------------------------------------------------------------------------------------------------------

    def _start(self, service: Service) -> None:
        service.life += 1
        service.end = 0
        service.has_main, service.was_stopped, service.failure, service.is_sick = True, False, "", False
        self._is_there(service.main)
        self._say(service, "started")
        service.state = STARTING if service.spec.oneshot or service.spec.check else READY
        if service.spec.check == "test" and service.flag:
            self._succeeds(service)

    def _succeeds(self, service: Service) -> None:
        if service.state == STARTING:
            service.state = READY
            self._say(service, "ready")
        elif service.state == READY and service.is_sick:
            service.is_sick = False
            self._say(service, "healthy again")

    def _stop(self, service: Service, why: str) -> None:
        """Stop signal, grace, KILL."""
        spec = service.spec
        service.was_stopped, service.failure = True, why
        whom = service.reached if spec.kill_mode == "mixed" else service.members
        if whom:
            self._say(service, f"sending {named(spec.stop_signal)}")
        for member in [member for member in whom if member.kind != "apart"]:
            if spec.how != DEFAULT:
                self.seen.got[member].append(spec.stop_signal)
            if spec.how != HANG:
                code = -spec.stop_signal if spec.how == DEFAULT else spec.how
                self._group_ends(service, [member], code)
        if not service.has_main:  # its keeper gets those that are apart as children, and sends it to them as well
            self._group_ends(service, [m for m in service.workers if m.kind == "apart"], -spec.stop_signal)
        if self.stopping and self.grace == COMMON and service.members and spec.how == HANG:
            service.state = STOPPING
        else:
            self._kill(service)

    def _kill(self, service: Service) -> None:
        """Its grace is over, or it has none: KILL to what is left of it."""
        has_main = service.has_main or (service.spec.daemon and service.members)
        if has_main or (service.workers and service.spec.kill_mode == "group"):
            if has_main:
                self._say(service, "its grace is over")
            self._say(service, "sending KILL (9)")
        self._group_ends(service, service.members, KILLED)
        self._over(service)

    def _group_ends(self, service: Service, members: Iterable[Member], code: int) -> None:
        """Some of a group have been sent the same signal: who is first is not known."""
        for member in tuple(members):
            if member == service.main:
                service.has_main, service.end = False, self._end_of(service, code)
            self._gone(member, code, is_orphan=None)

    def _end_of(self, service: Service, code: int) -> int:
        """What the end of a main process is; of a daemon, what its keeper knows of it."""
        return max(service.end, code if code >= 0 else 128 - code) if service.spec.daemon else code

    def _end_main(self, service: Service, code: int) -> None:
        service.has_main, service.end = False, self._end_of(service, code)
        self._gone(service.main, code, is_orphan=False)
        if service.spec.daemon:
            pass  # it lives until the last one has ended
        elif code:
            for member in tuple(service.workers):
                self._gone(member, KILLED, is_orphan=True)
        elif service.workers:
            service.state = LINGERING if service.state == READY else service.state
            self._say(service, "exited with code 0; others of its process group are left")
        self._see_whether_over(service)

    def _see_whether_over(self, service: Service) -> None:
        if service.lives and not service.members:
            self._over(service)

    def _over(self, service: Service) -> None:
        """A life is over: contract, "restart", "The exit code of services"."""
        code = service.code = service.counted()
        for stream in (1, 2):
            self.written[service.name, stream].finish()
        how = described(service.end)
        if service.wanted == AGAIN:
            service.wanted, service.state, verdict = UP, WAITING, "to be started again"
        elif service.wanted == UP and service.is_restarted(code):
            service.row += 1
            service.state = RESTARTING
            of = "" if service.spec.limit is None else f" of {service.spec.limit}"
            verdict = f"next start in {self._delay(service):g} s, restart {service.row}{of}"
        elif code:
            after = f" after {service.row} restart{'s' * (service.row > 1)}" if service.row else ""
            service.state, verdict = FAILED, f"failed{after}"
        elif service.was_stopped:
            service.state, verdict = ENDED, "stopped"
        else:
            service.state, verdict = (DONE, "done") if service.spec.oneshot else (ENDED, "ended")
        self._say(service, f"{how}; {verdict}")
        self._ended(service)

    def _ended(self, service: Service) -> None:
        ends_all = service.state in (ENDED, FAILED) and service.spec.essential and not service.by_hand
        if ends_all and not self.stopping:
            self.cause = service
            self._stop_all(f"{service.name} has {service.state}")

    def _delay(self, service: Service) -> float:
        """Seconds before the restart that is counted last."""
        return min(service.spec.delay * 2.0 ** (service.row - 1), service.spec.max_delay)

    # -- What is seen --------------------------------------------------------------------------------------------------

    def _say(self, service: Service, line: str) -> None:
        self.seen.of[service.name].append(line)

    def _is_there(self, member: Member) -> None:
        self.seen.alive.add(member)
        self.seen.got[member] = []

    def _gone(self, member: Member, code: int, is_orphan: bool | None) -> None:
        """A process has ended; is_orphan: `run` reaps it, and it is no main process; None: maybe."""
        self.seen.alive.discard(member)
        if member in self.apart:
            self.apart.remove(member)
        service = self.services[member.name]
        if member in service.workers:
            service.workers.remove(member)
            if service.spec.daemon and not service.has_main:
                service.end = self._end_of(service, code)
        if member.kind != "main" and is_orphan is not False and not service.spec.daemon:
            (self.orphans.maybe if is_orphan is None else self.orphans.sure)[code if code >= 0 else 128 - code] += 1
