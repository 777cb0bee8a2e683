"""The keeper of a service that puts itself into the background: a fork of `run` that adopts what the service leaves.

It lives until the last descendant has ended, passes signals on to the process groups of its children, and tells `run`
through a pipe how the start went, and what it keeps: lines, each a word and what belongs to it. Source: contract, "The
file", `daemon`.
"""

import os

from run import _kernel, children, descriptors, start
from run.children import Delivery
from run.descriptors import STDERR, STDIN, STDOUT
from run.log import Log
from run.loop import Charge, Loop, RunError, Signal, become_reaper
from run.recipients import Recipients, Served
from run.services.plan import Service
from run.services.users import switch
from run.signals import CHLD, FORWARDED, KILL, PIPE, TERM, signal_set
from run.wait_status import exit_code, stop_signal

STOP_ALL = TERM
"""What `run` sends to a keeper that is to pass on the stop signal, which may be one that a keeper would not get."""

KILL_ALL = PIPE
"""What `run` sends to a keeper that is to kill all: a signal that is never passed on, and KILL would be its own end."""

WAITED_FOR = FORWARDED | signal_set(CHLD, KILL_ALL)

STARTED, NOT_EXECUTED, NOT_FORKED, ENDED = b"started", b"not-executed", b"not-forked", b"ended"
"""What a keeper tells: with the pid, with exit code and reason (twice), and with the first process's exit code."""

KEEPS = b"keeps"
"""What it tells whenever it sees that this has changed: with the pids of its children, for the day it is killed."""


class _LeftError(RunError):
    """What is left cannot be seen, nor sent a signal: `run` ends it with the rest."""


def keep(service: Service, files: tuple[int, int, int], tells: int) -> int:
    """Fork a keeper, which starts the service with these files, and tells how that went; return its pid.

    Raises OSError when that is refused.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = start.CANNOT_RUN
        try:
            code = Keeper(service, tells).run(files, parent)
        except BaseException as error:
            Log().error(f"internal error: {type(error).__name__}: {error}")
        finally:
            os._exit(code)
    return pid


class Keeper(Charge):
    """Serves one service, in a process of its own."""

    def __init__(self, service: Service, tells: int) -> None:
        """Take the service, and the descriptor that is told how the start went."""
        self._service = service
        self._tells = tells
        self._log = Log(quiet=2)
        self._first = 0
        self._code = 0
        self._is_killing = False
        self._served: Served | None = None
        """Who has got the stop signal, once it has come."""
        self._is_told = False
        """Whether it was told to stop all, or to kill."""
        self._has_crashed = False
        self._kept: set[int] = set()
        """The children that it has told of."""

    def run(self, files: tuple[int, int, int], parent: int) -> int:
        """Start the service, and return the highest exit code once all that descends from it has ended."""
        os.setsid()
        children.begin()
        for place, fd in enumerate(files):
            if fd >= 0:
                os.dup2(fd, place)
        descriptors.keep_only({STDIN, STDOUT, STDERR, self._tells})
        _kernel.set_death_signal(STOP_ALL)
        if os.getppid() != parent:
            return start.CANNOT_RUN  # it died before it could be noticed
        try:
            become_reaper()
        except RunError as error:
            self._tell(NOT_FORKED, f"{start.CANNOT_RUN} {error}")
            return start.CANNOT_RUN
        try:
            self._start()
            Loop(self, self._log).run()
        except _LeftError:
            return self._code
        except RunError as error:
            self._log.error(str(error))
            return start.CANNOT_RUN
        return self._code

    def _start(self) -> None:
        service = self._service
        try:
            self._first = start.start(
                service.command,
                service.stop_signal,
                environment=service.environment,
                session=True,
                directory=service.working_dir,
                umask=-1 if service.umask is None else service.umask,
                user=switch(service.identity) if service.identity else None,
            )
        except start.StartError as error:
            self._code = error.code
            self._tell(NOT_EXECUTED, f"{error.code} {error}")
        except OSError as error:
            self._code = start.CANNOT_RUN
            self._tell(NOT_FORKED, f"{start.CANNOT_RUN} fork: {error.strerror}")
        else:
            self._tell(STARTED, str(self._first))

    def _tell(self, what: bytes, more: str) -> None:
        try:
            os.write(self._tells, what + b" " + more.encode("utf-8", "surrogateescape") + b"\n")
        except OSError:
            pass  # nobody listens any more

    # The charge of the loop.

    def has_child(self) -> bool:
        """The service's first process is one until it was reaped."""
        return bool(self._first)

    def lives(self) -> bool:
        """Whether a child is seen to live."""
        return children.any_lives()

    def is_over(self) -> bool:
        """Without a child all is done."""
        return True

    def reap(self) -> bool:
        """Reap one child; the first process's end is told."""
        changed = children.reap()
        if changed is None:
            return False
        pid, status = changed
        if stop_signal(status):
            return True
        if self._served:
            self._served.ended(pid)
        code = exit_code(status)
        if not self._has_crashed:
            self._code = max(self._code, code)
        if pid == self._first:
            self._first = 0
            self._has_crashed = code != 0  # what is left goes, too, and counts for nothing
            self._is_killing = self._is_killing or self._has_crashed
            self._tell(ENDED, str(code))
        return True

    def act(self, now: float) -> None:
        """Kill what is left, if that is wanted, again and again; stop who was not there before; tell of new children.

        What becomes one when a child's child ends is seen when the next signal comes: nobody tells of that. Without
        /proc nothing is seen but the first process: the others it leaves to `run`, which tells all, as PID 1.
        """
        found = children.find_recipients()
        if self._is_killing:
            self._send(KILL, found)
        if found is None:
            if self._is_told and not self._first:
                raise _LeftError
            return
        if self._served and not self._is_killing:
            Delivery(self._service.stop_signal).to_all(children.newcomers(found, self._served))
        if found.pids() != self._kept:
            self._kept = found.pids()
            self._tell(KEEPS, " ".join(map(str, self._kept)))

    def timeout(self, now: float) -> float | None:
        """Nothing is ever due."""
        return None

    def wait(self, timeout: float | None) -> list[Signal]:
        """Wait for a signal."""
        signal = _kernel.wait_signal(WAITED_FOR, timeout)
        return [] if signal is None else [signal]

    def signalled(self, signum: int, code: int, sender: int, uid: int, value: int) -> None:
        """Pass a signal on, stop all, or begin to kill."""
        self._is_told = self._is_told or signum in (KILL_ALL, STOP_ALL)
        if signum == KILL_ALL:
            self._is_killing = True
        elif signum != CHLD:
            found = children.find_recipients()
            self._send(self._service.stop_signal if signum == STOP_ALL else signum, found)
            if signum == STOP_ALL:
                self._served = Served()
                if found is not None:
                    children.newcomers(found, self._served)

    def _send(self, signum: int, found: Recipients | None) -> None:
        """Send a signal to all children, or to the first one where they cannot be listed."""
        if found is not None:
            Delivery(signum).to_all(found)
        elif self._first:
            Delivery(signum).to([-self._first])
