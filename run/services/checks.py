"""The healthchecks of all services, done: probes are begun and ended as run.services.health decides."""

from run import _kernel
from run.log import Log
from run.loop import RunError
from run.services import health, place, probes
from run.services.health import Health
from run.services.life import LATE, SUCCEEDED, UNHEALTHY, Life
from run.services.manager import Manager
from run.services.notify import ENTRY, Notify
from run.services.plan import Service
from run.services.watch import Watch
from run.text import printable


class Checks:
    """Who is healthy, and who is being asked."""

    def __init__(self, manager: Manager, watch: Watch, log: Log, null: int) -> None:
        """Take what is needed; null is what commands read. Raises RunError."""
        self._manager = manager
        self._watch = watch
        self._log = log
        self._null = null
        services = [life.service for life in manager.lives.values()]
        self.health = {s.name: Health(s.healthcheck) for s in services if s.healthcheck}
        self.statuses: dict[str, str] = {}
        """What services tell of themselves: STATUS of sd_notify(3)."""
        self._probes: dict[str, probes.Probe] = {}
        self._alive: set[str] = set()
        """Those whose lives are followed."""
        self._entries: dict[str, bytes] = {}
        self._cancelled: set[int] = set()
        for service in services:
            if service.healthcheck and service.healthcheck.way == "notify":
                self._entries[service.name] = self._listen(service)

    def _listen(self, service: Service) -> bytes:
        life = self._manager.lives[service.name]
        name = f"{place.own()}/notify/{service.name}"
        # A main process that has ended is its session's number still, as long as the group lives; a keeper is not.
        main = lambda: life.pid if life.has_main or (life.lives and not service.daemon) else 0  # noqa: E731
        try:
            return Notify(name, self._watch, self._log, main, lambda message: self._told(life, message)).entry
        except OSError as error:
            raise RunError(f"{service.name}: cannot listen for what it tells ('notify'): {error.strerror}") from None

    def environment(self, service: Service) -> list[bytes]:
        """A service's environment, with the socket that it may tell."""
        if not self.may_tell(service):
            return service.environment
        others = (other for other in service.environment if not other.startswith(ENTRY))
        return [*others, self._entries[service.name]]

    def may_tell(self, service: Service) -> bool:
        """Whether a service may tell of itself, by sd_notify(3): even before its keeper says that it was executed."""
        return service.name in self._entries

    def follow(self, life: Life, now: float) -> None:
        """A service's life may have begun, ended, or be ending."""
        name = life.service.name
        if name not in self.health:
            return
        is_alive = life.lives and not life.is_stopping
        if is_alive and name not in self._alive:
            self._alive.add(name)
            self.statuses.pop(name, None)
            self.health[name].began(now)
        elif not is_alive and name in self._alive:
            self._alive.remove(name)
            self._cancel(name)
            self.health[name].ended()

    def act(self, now: float) -> None:
        """Begin and give up probes."""
        for name in list(self._alive):
            due = self.health[name].due(now)
            if due == health.PROBE:
                self._probe(name, now)
            elif due == health.GIVE_UP:
                self._cancel(name)
                self._failed(name, f"no end within {self.health[name].check.timeout:g} s")
            elif due == LATE:
                self._late(name, now)

    def next_time(self) -> float | None:
        """When something is due, if it ever is."""
        times = [self.health[name].next_time() for name in self._alive]
        return min((time for time in times if time is not None), default=None)

    @property
    def is_asking(self) -> bool:
        """Whether a probe is under way."""
        return bool(self._probes)

    def reaps(self, pid: int, status: int) -> bool:
        """Whether a child that has ended, and is a zombie still, is a probe: then that is over."""
        if pid in self._cancelled:
            self._cancelled.remove(pid)
            return True
        for probe in self._probes.values():
            if isinstance(probe, probes.Command) and probe.pid == pid:
                probe.ended(status)
                return True
        return False

    def _probe(self, name: str, now: float) -> None:
        service = self._manager.lives[name].service
        probe = probes.begin(service, self._null, self._watch, lambda reason: self._done(name, reason))
        if isinstance(probe, str):
            self._failed(name, probe)
        else:
            self._probes[name] = probe

    def _cancel(self, name: str) -> None:
        probe = self._probes.pop(name, None)
        if probe:
            probe.cancel()
            if isinstance(probe, probes.Command):
                self._cancelled.add(probe.pid)

    def _done(self, name: str, reason: str) -> None:
        """A probe is over."""
        del self._probes[name]
        if reason:
            self._failed(name, reason)
        else:
            self._succeeded(name, _kernel.monotonic())

    def _succeeded(self, name: str, now: float) -> None:
        event = self.health[name].succeeded(now)
        if event == SUCCEEDED:
            life = self._manager.lives[name]
            self._manager.shown(name, SUCCEEDED, now)
            self._log.info(f"{life.title}: ready, {now - life.started_at:.1f} s after its start")
        elif event == health.RECOVERED:
            self._log.info(f"{self._manager.lives[name].title}: healthy again")

    def _failed(self, name: str, reason: str) -> None:
        checked = self.health[name]
        title = self._manager.lives[name].title
        if checked.state != health.STARTING:
            self._log.warn(f"{title}: healthcheck failed: {reason}")
        elif reason != checked.reason:  # it is to be expected, and not said each time
            self._log.info(f"{title}: not ready yet: {reason}")
        event = checked.failed(reason)
        if event == UNHEALTHY:
            restarts = self._manager.lives[name].service.on_unhealthy == "restart"
            after = "; to be restarted" if restarts else ""
            row = f"{checked.failures} failure{'s' * (checked.failures > 1)} in a row"
            self._log.warn(f"{title}: unhealthy after {row}{after}")
            if restarts:
                self._manager.shown(name, UNHEALTHY, _kernel.monotonic())

    def _late(self, name: str, now: float) -> None:
        checked = self.health[name]
        reason = f": {checked.reason}" if checked.reason else ""
        within = f"{checked.check.start_period:g} s"
        self._log.warn(f"{self._manager.lives[name].title}: not ready within {within}{reason}")
        self._manager.shown(name, LATE, now)

    def _told(self, life: Life, message: bytes) -> None:
        """A service has told something: assignments, a line each, sd_notify(3)."""
        name = life.service.name
        if name not in self._alive:
            return
        for line in message.split(b"\n"):
            key, _, value = line.partition(b"=")
            if key == b"STATUS":
                self.statuses[name] = printable(value[:200])
            elif (key, value) == (b"READY", b"1"):
                self._succeeded(name, _kernel.monotonic())
