"""The model of `run` with services in the chaos tests: what the contract says, one happening after the other.

After each happening everything follows that does not take long, until nothing moves: then what is seen has to be the
same. Source: contract, "A service's life", "Control" and "Output". No system call in here.
"""

from services_lives import TERM, USR1, Lives
from services_world import (
    AGAIN,
    DONE,
    DOWN,
    FINAL,
    LINGERING,
    LONGEST,
    READY,
    RESTARTING,
    UP,
    WAITING,
    Member,
    Service,
    named,
)

PLAIN = 1 << 20


class Model(Lives):
    """Services to which things happen."""

    # -- What happens --------------------------------------------------------------------------------------------------

    def ends(self, name: str, code: int) -> None:
        """The main process ends by itself, or by a signal."""
        self._end_main(self.services[name], code)
        self._settle()

    def has_worker(self, name: str, kind: str) -> Member:
        """The main process has got a child, in its group or apart."""
        service = self.services[name]
        there = service.workers if kind == "worker" or service.spec.daemon else self.apart
        others = [m.number for m in self.seen.alive | self.seen.got.keys() if (m.name, m.life) == (name, service.life)]
        member = Member(name, service.life, kind, max(others, default=0) + 1)
        there.append(member)
        self._is_there(member)
        return member

    def worker_ends(self, member: Member, code: int) -> None:
        """A worker, or what has left the group, ends by itself."""
        service = self.services[member.name]
        self._gone(member, code, is_orphan=not (service.has_main and service.life == member.life))
        self._see_whether_over(service)
        self._settle()

    def writes(self, name: str, stream: int, text: str) -> None:
        """Somebody of a service writes."""
        output = self.services[name].spec.output
        if output != "null":
            self.written[name, stream].add(text, LONGEST if output == "named" else PLAIN)

    def is_ready(self, name: str) -> None:
        """Its healthcheck succeeds."""
        service = self.services[name]
        service.flag = True
        self._succeeds(service)
        self._settle()

    def is_ill(self, name: str) -> None:
        """Its healthcheck, by a file, fails from now on."""
        service = self.services[name]
        service.flag = False
        if service.state == READY and not service.is_sick:
            service.is_sick = True
            restarts = service.spec.on_unhealthy == "restart"
            self._say(service, "unhealthy after 2 failures in a row" + "; to be restarted" * restarts)
            if restarts:
                self._stop(service, "unhealthy")
        self._settle()

    def is_sent(self, signum: int) -> None:
        """`run` gets USR1, which all main processes catch, USR2, which nobody does, or TERM."""
        title = named(signum)
        if signum == TERM:
            self._stop_all(f"{title} has come")
        else:
            reached = [m for s in self.services.values() for m in s.reached if m.kind != "apart" and signum == USR1]
            for member in reached:
                self.seen.got[member].append(signum)
            whom = ", ".join(dict.fromkeys(member.name for member in reached)) or "nobody, since no service catches it"
            self.seen.log.append(f"forwarding {title} to {whom}")
        self._settle()

    def is_ordered(self, action: str, names: tuple[str, ...]) -> int | None:
        """Somebody asks for it; the exit code, None if that is not known yet."""
        services = [self.services[name] for name in names]
        if action == "signal":
            return self._signal(services[0])
        lacks = [other for s in services for other in s.spec.depends_on if self._lacks(other, names)]
        if action != DOWN and lacks:
            return 1
        self.seen.log.append(f"order: {action} {' '.join(names)}")
        before = {service.name: service.life for service in services}
        for service in services:
            self._order(service, action)
        self._settle()
        outcomes = [self._outcome(service, action, before[service.name]) for service in services]
        return None if None in outcomes else max(code for code in outcomes if code is not None)

    # -- Orders --------------------------------------------------------------------------------------------------------

    def _signal(self, service: Service) -> int:
        if not service.reached:
            return 1
        self.seen.log.append(f"order: signal USR1 ({USR1}) {service.name}")
        for member in tuple(service.reached):
            if member.kind == "apart":
                self._gone(member, -USR1, is_orphan=False)
            else:
                self.seen.got[member].append(USR1)
        self._see_whether_over(service)
        self._settle()
        return 0

    def _lacks(self, other: str, names: tuple[str, ...]) -> bool:
        service = self.services[other]
        if other in names or service.state == DONE:
            return False
        further = service.spec.depends_on if service.state == WAITING else ()
        return service.by_hand or any(self._lacks(name, names) for name in further)

    def _order(self, service: Service, action: str) -> None:
        service.by_hand, service.row = action == DOWN, 0
        service.wanted = UP if action == AGAIN and not service.lives else action
        if service.wanted == UP and (service.state in FINAL or service.state == RESTARTING):
            service.state = WAITING

    def _outcome(self, service: Service, action: str, life: int) -> int | None:
        if action == DOWN:
            return 0 if service.state in FINAL else None
        if service.state == DONE or (service.state in (READY, LINGERING) and (action == UP or service.life > life)):
            return 0
        if service.state in FINAL or service.state == RESTARTING:
            return 1
        lacks = service.state == WAITING and any(self._lacks(other, ()) for other in service.spec.depends_on)
        return 1 if lacks else None
