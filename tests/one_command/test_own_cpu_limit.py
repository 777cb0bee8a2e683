"""Contract, "Signals": what the kernel tells `run` of its own CPU limit is not the command's business."""

import os
import resource
import signal

from harness import Starter
from signal_notes import RECORDER, got, wait_got, wait_ready

XCPU = signal.SIGXCPU


def cpu_seconds(pid: int) -> float:
    """What a process has used of its limit."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_its_own_XCPU_is_not_forwarded_and_another_s_is(start: Starter) -> None:
    started = start("-qq", *RECORDER, "main")
    wait_ready(started, "main")
    resource.prlimit(started.pid, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
    while cpu_seconds(started.pid) < 2.2:  # the kernel tells it each second
        started.send(signal.SIGURG)
    started.send(signal.SIGUSR1)
    wait_got(started, "main", signal.SIGUSR1)
    assert got(started, "main").count(XCPU) == 0
    started.send(XCPU)
    wait_got(started, "main", XCPU)
