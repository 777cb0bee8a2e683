"""Contract, "No signal is lost": what is pending when `run` is executed reaches the command as with a direct start."""

import os
import signal
import subprocess
import sys

import pytest
from harness import DEADLINE
from probe import ignore, set_blocked

SHOW = "import os; os.write(1, next(l for l in open('/proc/self/status', 'rb') if l.startswith(b'ShdPnd')))"
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

    command = [sys.executable, "-I", "-S", "-c", SHOW]

    def shown(*prefix: str) -> bytes:
        return subprocess.run(
            [*prefix, *command], preexec_fn=setup, stdout=subprocess.PIPE, timeout=DEADLINE, check=True
        ).stdout

    direct = shown()
    assert int(direct.split()[1], 16) == sum(1 << (n - 1) for n in pending)
    assert [shown(binary, "-qq") for _ in range(TRIES)].count(direct) == TRIES
