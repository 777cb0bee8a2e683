"""The starter: a life of a service begins: its command is executed, by itself or under a keeper.

Source: contract, "Surroundings", and "Starting the command".
"""

import os
from typing import NamedTuple

from run import _kernel, start
from run.log import Log
from run.services.abandoned import Abandoned
from run.services.checks import Checks
from run.services.keeper import ENDED, KEEPS, NOT_EXECUTED, NOT_FORKED, STARTED, keep
from run.services.life import SUCCEEDED
from run.services.manager import Manager
from run.services.plan import Service
from run.services.surroundings import Surroundings
from run.services.users import switch
from run.services.watch import Watch
from run.text import shown

LONGEST_REPORT = 1 << 16


class Failure(NamedTuple):
    """Why a service could not be started."""

    code: int
    reason: str
    for_good: bool
    """Whether it would fail again: it is not so where the fork was refused."""


class Starter:
    """Starts services, and tells the manager how it went."""

    def __init__(self, manager: Manager, checks: Checks, surroundings: Surroundings, watch: Watch) -> None:
        """Take what is needed."""
        self._manager = manager
        self._checks = checks
        self._surroundings = surroundings
        self._watch = watch
        self._log: Log = surroundings.log
        self._reports: dict[int, str] = {}
        """The services whose keepers tell how the start went, by the descriptor where they do."""
        self._failures: dict[str, Failure] = {}
        """What keepers have told."""
        self.abandoned = Abandoned()

    def start(self, service: Service, now: float) -> int | None:
        """Start a service; return the pid of its main process, which may be a keeper; None if it failed."""
        name = service.name
        try:
            pid = self._keep(service) if service.daemon else self._execute(service)
        except start.StartError as error:
            self._manager.not_started(name, error.code, str(error), True, now)
        except (OSError, MemoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not enough memory"
            why = f"cannot start {shown(service.command)}: fork: {reason}"
            self._manager.not_started(name, start.CANNOT_RUN, why, False, now)
        else:
            if not service.daemon:
                self._say_started(service, pid)
            self._manager.executed(name, pid, now)
            if not service.daemon or self._checks.may_tell(service):
                self._checks.follow(self._manager.lives[name], now)
            return pid
        return None

    def failure(self, name: str) -> Failure | None:
        """Why a keeper that has ended could not start its service; None if it could."""
        for fd in [fd for fd, whose in self._reports.items() if whose == name]:
            self._read_report(fd)
        return self._failures.pop(name, None)

    def _execute(self, service: Service) -> int:
        return start.start(
            service.command,
            service.stop_signal,
            environment=self._checks.environment(service),
            session=True,
            files=self._surroundings.files(service),
            low=self._surroundings.low,
            directory=service.working_dir,
            umask=-1 if service.umask is None else service.umask,
            user=switch(service.identity) if service.identity else None,
        )

    def _keep(self, service: Service) -> int:
        """Fork a keeper, which starts the service; return its pid. Raises OSError."""
        whole = service._replace(environment=self._checks.environment(service))
        files = self._surroundings.files(service)
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._watch.add(reads, self._read_report)
            pid = keep(whole, files, writes)
        except BaseException:
            self._watch.remove(reads)
            os.close(reads)
            raise
        finally:
            os.close(writes)
        self._reports[reads] = service.name
        return pid

    def _say_started(self, service: Service, pid: int) -> None:
        if self._log.shows_info:
            self._log.info(f"{service.name} (pid {pid}): started {shown(service.command)}")

    def _read_report(self, fd: int) -> None:
        """Read what a keeper tells of the start, as far as it has."""
        name = self._reports[fd]
        try:
            report = os.read(fd, LONGEST_REPORT)
        except OSError:
            self._watch.rest(fd)
            return
        if not report:
            del self._reports[fd]
            self._watch.remove(fd)
            os.close(fd)
        life = self._manager.lives[name]
        for line in report.splitlines():
            word, _, rest = line.partition(b" ")
            if word in (NOT_EXECUTED, NOT_FORKED):
                code, _, reason = rest.decode("utf-8", "surrogateescape").partition(" ")
                self._failures[name] = Failure(int(code), reason, word == NOT_EXECUTED)
            elif word == KEEPS:
                self.abandoned.keeps(name, map(int, rest.split()))
            elif word == STARTED:
                self._say_started(life.service, life.pid)
                self._checks.follow(life, _kernel.monotonic())
            elif word == ENDED and rest == b"0" and not life.service.healthcheck:
                self._manager.shown(name, SUCCEEDED, _kernel.monotonic())
