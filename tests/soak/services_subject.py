"""A started `run` with the services of the soak: the file, what the services have counted, and clients."""

import json
import mmap
import os
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from subject import UNSHARE, ViolationError, Watched

COUNT, STEADY = 50, 2
"""Services, and those of them that are never steered, and never crash."""

KINDS = ("crashing", "flooding", "crashing", "hanging", "leaving", "flapping", "crashing", "leaving")
PATIENT = 300
"""Seconds of grace for who will end in time, also on a machine that stands still for a while."""

KILLED, STOPPED = 137, 143


class Counts(NamedTuple):
    """What a service has counted of itself: struct slot of service.c."""

    error: int
    starts: int
    settled: int
    probes: int
    lines: tuple[int, ...]
    lengths: tuple[int, ...]
    ended: Counter[int]
    orphans: Counter[int]
    got: Counter[int]


COUNTS = "=" + "Q" * (4 + 2 + 2 + 256 + 256 + 65)
"""Counts as they lie in the file."""


def names() -> list[str]:
    """All services."""
    return [f"n{number:02}" for number in range(COUNT)]


def kind_of(number: int) -> str:
    """What a service does: enum kind of service.c."""
    return "steady" if number < STEADY else KINDS[number % len(KINDS)]


def keys_of(number: int, program: Path, counts: Path) -> dict[str, object]:
    """The keys of a service in the file, but for healthcheck."""
    kind = kind_of(number)
    steered_only = number % 16 == 8  # it is started by hand, whenever it has ended
    return {
        "command": [str(program), str(counts), str(number), kind],
        "essential": False,
        "restart": "no" if steered_only else "on-failure:3" if number % 16 == 10 else "always",
        "restart_delay": 0.05,
        "restart_max_delay": 0.4,
        "stop_grace_period": 1 if kind == "hanging" else PATIENT,
        "output": "plain" if number % 7 == 3 else "named",
        "on_unhealthy": "restart",
    }


def healthcheck_of(number: int, program: Path, counts: Path) -> str:
    """The healthcheck of a service, as TOML has it; empty where there is none."""
    times = f"interval = 0.5, start_interval = 0.05, start_period = {PATIENT}, timeout = {PATIENT}, retries = 2"
    if number == 0:
        return "{ notify = true }"
    if number == 1:
        return f"{{ unix = {json.dumps(f'{counts}.1')}, {times} }}"
    test = json.dumps([str(program), str(counts), str(number), "probe"])
    return f"{{ test = {test}, {times} }}" if kind_of(number) == "flapping" else ""


def text_of_file(program: Path, counts: Path) -> str:
    """The file of `run -f`."""
    lines = []
    for number, name in enumerate(names()):
        lines.append(f"[services.{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys_of(number, program, counts).items()]
        if check := healthcheck_of(number, program, counts):
            lines.append(f"healthcheck = {check}")
    return "\n".join([*lines, ""])


class Services(Watched):
    """A started `run -f`, as PID 1 of a pid namespace of its own."""

    def __init__(self, binary: str, program: Path, folder: Path) -> None:
        """Start it; the services do nothing yet."""
        self.name = "many services, as PID 1"
        self._binary = binary
        counts = folder / "counts"
        self._slot = struct.calcsize(COUNTS)
        counts.write_bytes(bytes(16 + COUNT * self._slot))
        with counts.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self.pause(True)
        (folder / "services.toml").write_text(text_of_file(program, counts))
        outputs = [os.pipe(), os.pipe()]
        words = [*UNSHARE, binary, "-f", str(folder / "services.toml")]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=outputs[0][1], stderr=outputs[1][1], process_group=0
        )
        for reads, writes in outputs:
            os.close(writes)
            os.set_blocking(reads, False)
        self.outputs = outputs[0][0], outputs[1][0]
        self.pid = self.process.pid

    def find(self) -> bool:
        """Note the pid of `run` itself; say whether it is there."""
        found = self.children_of(self.process.pid)
        if found:
            self.pid = found[0]
        return bool(found)

    def pause(self, paused: bool) -> None:
        """Have the services do nothing, or go on."""
        self._shared[0:8] = struct.pack("=Q", paused)

    def crash_all(self) -> None:
        """Have every service crash at once that is not steady."""
        self._shared[8:16] = struct.pack("=Q", struct.unpack("=Q", self._shared[8:16])[0] + 1)

    def counts(self) -> list[Counts]:
        """What all services have counted. Raises ViolationError if one of them has failed."""
        found = [self._counts_of(number) for number in range(COUNT)]
        for number, counts in enumerate(found):
            if counts.error:
                raise ViolationError(f"service n{number:02} failed: {os.strerror(counts.error)}")
        return found

    def _counts_of(self, number: int) -> Counts:
        at = 16 + number * self._slot
        error, starts, settled, probes, *_ = values = struct.unpack(COUNTS, self._shared[at : at + self._slot])
        ended, orphans, got = (
            Counter({n: count for n, count in enumerate(values[begin : begin + size]) if count})
            for begin, size in ((8, 256), (264, 256), (520, 65))
        )
        if kind_of(number) == "hanging":
            # Who hangs is killed before it can count that. A life that goes on has not ended.
            ended[KILLED] += max(0, starts - 1 - ended.total())
        return Counts(error, starts, settled, probes, values[4:6], values[6:8], ended, orphans, got)

    def client(self, *words: str) -> "subprocess.Popen[str]":
        """Start `run -c` within the namespaces of `run`."""
        argv = ["nsenter", "--target", str(self.pid), "--mount", "--pid", self._binary, "-c", *words]
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )

    def end(self) -> None:
        """Kill whatever is left."""
        super().end()
        for fd in self.outputs:
            os.close(fd)
