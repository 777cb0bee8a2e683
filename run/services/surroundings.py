"""The surroundings of services: the descriptors that they get, and those that `run` needs for that. Opened once.

Source: contract, "Surroundings" and "Output".
"""

import os

from run import _kernel, descriptors
from run.descriptors import STDERR, STDOUT
from run.log import Log
from run.services.plan import Plan, Service
from run.services.relay import Relay
from run.services.sink import SharedLog, Sink
from run.services.watch import Watch

SPARE = 5
"""File descriptors that are needed now and then: for files of /proc, for a probe's pipe, for who asks by `run -c`."""

LAST_WORDS = 2.0
"""Seconds that a reader who is stuck is waited for at the end, at most."""


class Surroundings:
    """What is open for services, for all their lives."""

    def __init__(self, plan: Plan, watch: Watch, quiet: int, closed: set[int]) -> None:
        """Open it all; quiet counts `-q`; closed are the standard streams that `run` was not given.

        Raises OSError, for instance when there are too few descriptors.
        """
        stdout = Sink(STDOUT, "standard output", watch.signal_fd)
        is_one = descriptors.are_same_file(STDOUT, STDERR)
        stderr = stdout if is_one else Sink(STDERR, "standard error", watch.signal_fd)
        self.log: Log = SharedLog(quiet, stderr)
        self.null_in, self._null_out = descriptors.open_empty(), descriptors.open_null(os.O_WRONLY)
        # Where there is none, what it would have taken is read, and dropped.
        kinds = ("named", "plain") if self._null_out is not None else ("named", "plain", "null")
        relayed = [service for service in plan.services if service.output in kinds]
        self.relay = Relay(watch, stdout, stderr, 2 * len(relayed))
        self.low = descriptors.reserve_low(self.null_in)
        self._given = tuple(-1 if fd in closed else fd for fd in (STDOUT, STDERR))
        width = max((len(service.name) for service in relayed if service.output == "named"), default=0)
        for number, service in enumerate(relayed):
            self.relay.add(service, width, number, owner(service))
        # One for each keeper, in its life, and one for each probe that may be under way.
        more = sum(s.daemon + bool(s.healthcheck and s.healthcheck.way != "notify") for s in plan.services)
        for spare in [os.dup(self.null_in) for _ in range(SPARE + more)]:
            os.close(spare)

    def files(self, service: Service) -> tuple[int, int, int]:
        """What a service gets as stdin, stdout and stderr."""
        if service.output == "null" and self._null_out is not None:
            return self.null_in, self._null_out, self._null_out
        out, err = self._given if service.output == "inherit" else self.relay.streams(service.name)
        return self.null_in, out, err

    def say_what_is_dropped(self) -> None:
        """Say, once, that nobody takes what services write, or that it cannot be read."""
        for sink in self.relay.sinks:
            if sink.failure:
                self.log.complain(f"{sink.name}: {sink.failure}: what services write there is dropped")
        for failure in self.relay.failures:
            self.log.complain(f"cannot read what services write: {failure}")

    def end(self, grace_left: float | None, last_line: str) -> None:
        """Pass on the last words, and the log's last line; a reader who is stuck is waited for, but not long."""
        until = _kernel.monotonic() + (LAST_WORDS if grace_left is None else min(grace_left, LAST_WORDS))
        self.relay.drain(until)
        self.say_what_is_dropped()
        for sink in self.relay.sinks:
            if sink.dropped and not sink.failure:
                self.log.warn(f"{sink.name}: {sink.dropped} bytes were dropped, for nobody has read them in time")
        self.log.info(last_line)
        self.relay.flush(until)


def owner(service: Service) -> tuple[int, int]:
    """Whose a service's pipes are: uid and gid."""
    identity = service.identity
    return (identity.uid, identity.gid) if identity else (os.geteuid(), os.getegid())
