"""Contract, "No signal is lost": what is pending when `run` is executed reaches the command as with a direct start."""

import os
import signal
import subprocess
import sys

import pytest
from harness import DEADLINE
from probe import ignore, set_blocked

SHOW = """
import os, sys, time
end = time.monotonic() + 60
while True:
    shown = next(line for line in open("/proc/self/status", "rb") if line.startswith(b"ShdPnd")).split()[1]
    if int(shown, 16) == int(sys.argv[1]) or time.monotonic() > end:
        os._exit(os.write(1, shown) and 0)
"""
"""Says what is pending, once that is all that was: `run` passes on one signal after the other."""

TRIES = 60


@pytest.mark.parametrize(
    ("pending", "ignored"),
    [({23}, set()), ({10}, {10}), ({10, 12, 23, 28, 35, 64}, {10, 12})],
    ids=["URG", "USR1-ignored", "several"],
)
def test_a_pending_signal_reaches_the_command(binary: str, pending: set[int], ignored: set[int]) -> None:
    def setup() -> None:
        ignore(ignored)
        set_blocked(pending)
        for signum in pending:
            os.kill(os.getpid(), signal.Signals(signum) if signum < 32 else signum)

    expected = sum(1 << (n - 1) for n in pending)
    command = [sys.executable, "-I", "-S", "-c", SHOW, str(expected)]

    def shown(*prefix: str) -> bytes:
        return subprocess.run(
            [*prefix, *command], preexec_fn=setup, stdout=subprocess.PIPE, timeout=DEADLINE, check=True
        ).stdout

    assert int(shown(), 16) == expected
    assert [int(shown(binary, "-qq"), 16) for _ in range(TRIES)] == [expected] * TRIES
