"""Run a command while each processor stands still for moments, as those of a shared machine do.

    stalls.py COMMAND [ARGUMENT...]

It finds who takes it that another process has come so far meanwhile. A processor stands still for all but what runs
under a real-time policy, which takes precedence: sched(7). That takes root, or CAP_SYS_NICE.
"""

import os
import random
import signal
import subprocess
import sys
import time

STANDS = (0.01, 0.08)
GOES = (0.01, 0.05)
"""Seconds, from and to."""


def stall(processor: int) -> None:
    """Have this processor stand still, again and again, as long as our parent lives. Raises OSError."""
    parent = os.getppid()
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    while os.getppid() == parent:
        end = time.monotonic() + random.uniform(*STANDS)
        while time.monotonic() < end:
            pass
        time.sleep(random.uniform(*GOES))


def main(words: list[str]) -> int:
    """Run a command; return its exit code."""
    children = []
    for processor in sorted(os.sched_getaffinity(0)):
        child = os.fork()
        if child == 0:
            try:
                stall(processor)
            except PermissionError as error:
                print(f"stalls: processor {processor} goes on: {error.strerror}", file=sys.stderr)
            finally:
                os._exit(0)
        children.append(child)
    try:
        return subprocess.run(words, check=False).returncode
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
