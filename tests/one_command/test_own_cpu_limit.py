"""Contract, "Signals": what the kernel tells `run` of its own CPU limit is not the command's business."""

import os
import resource
import signal

from harness import Starter, signals, wait_until

WORK, MARKER = 40, 64
"""Real-time signals: one that the command ignores, so that only `run` works, and the one that is taken last of all."""

BATCH = 500
"""How many are queued at once."""

COMMAND = f"""
import os, signal
signal.signal({WORK}, signal.SIG_IGN)
waited = [signal.SIGXCPU, {MARKER}]
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
os.write(1, b"ready\\n")
while True: os.write(1, b"got %d\\n" % signal.sigwait(waited))
"""


def test_its_own_XCPU_is_not_forwarded_and_another_s_is(start: Starter) -> None:
    started = start("-qq", "python3", "-I", "-S", "-c", COMMAND)
    started.wait_out("ready\n")
    run = started.pid
    resource.prlimit(run, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))

    def was_told() -> bool:
        """Whether the kernel has sent XCPU, and added a second (posix-cpu-timers.c of Linux). Else let `run` work."""
        if resource.prlimit(run, resource.RLIMIT_CPU)[0] > 1:
            return True
        if WORK not in signals(run, "ShdPnd"):
            for _ in range(BATCH):
                os.kill(run, WORK)
        return False

    wait_until(was_told, "run has worked for a second")
    started.send(MARKER)
    started.wait_out(f"got {MARKER}\n")
    started.send(signal.SIGXCPU)
    started.wait_out(f"got {signal.SIGXCPU:d}\n")
    assert started.out() == f"ready\ngot {MARKER}\ngot {signal.SIGXCPU:d}\n"
