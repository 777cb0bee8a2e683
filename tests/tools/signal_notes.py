"""What the tests of signals share: which signals are forwarded, and the notes of recorder.py."""

import shlex
import sys
from functools import partial
from pathlib import Path

from harness import Started, wait_until

FAULT_SIGNALS = {4, 5, 6, 7, 8, 11, 31}  # ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS
FORWARDED = sorted(set(range(1, 65)) - FAULT_SIGNALS - {9, 19} - {17, 13, 20, 21, 22})
"""All but KILL and STOP, which nobody catches, and the contract's exceptions: CHLD, PIPE, TSTP, TTIN, TTOU, faults."""

RECORDER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("recorder.py"))]
"""The words that start a recorder; its name follows."""

RECORD = shlex.join(RECORDER)
"""The same for a shell script: `exec {RECORD} main`."""


def _notes(started: Started, name: str, what: str) -> list[int]:
    """The numbers in the complete lines `NAME what NUMBER` of the output."""
    lines = [line.split() for line in started.out().rpartition("\n")[0].splitlines()]
    return [int(line[2]) for line in lines if line[:2] == [name, what]]


def got(started: Started, name: str) -> list[int]:
    """The signals that the recorder of this name has got so far, in order."""
    return _notes(started, name, "got")


def wait_ready(started: Started, *names: str) -> list[int]:
    """Wait until these recorders record; return their pids, as they themselves see them."""
    for name in names:
        started.wait_out(f"{name} ready")
        wait_until(partial(_notes, started, name, "ready"), f"{name} is ready")
    return [_notes(started, name, "ready")[0] for name in names]


def wait_got(started: Started, name: str, signum: int, count: int = 1) -> None:
    """Wait until the recorder has got the signal so many times."""
    wait_until(lambda: got(started, name).count(signum) >= count, f"{name} got {signum} {count} times")
