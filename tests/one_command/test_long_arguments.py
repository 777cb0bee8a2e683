"""Contract, "Log" and "Cost": of a long command line no more is formatted and kept than a line of the log holds."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import Starter, state, wait_until

WORD = "x\n" * 60_000
COUNT = 16
SIZE = COUNT * len(WORD)
"""1.9 MB, near the most that the kernel takes: execve(2)."""
SCRIPT = "echo ready; read _"


def private_dirty(pid: int) -> int:
    """Bytes of memory that are a process's own, and were written to: /proc/PID/smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty")


def stack(pid: int) -> int:
    """Bytes of its stack that are its own, where the kernel puts the arguments: /proc/PID/smaps."""
    rest = Path(f"/proc/{pid}/smaps").read_text().partition("[stack]")[2]
    return int(rest.partition("Private_Dirty:")[2].split()[0]) * 1024


@pytest.mark.parametrize("quiet", ["-q", "-qq"])
def test_the_copies_of_long_arguments_are_not_kept(start: Starter, quiet: str) -> None:
    used = []
    for words in ([], [WORD] * COUNT):
        started = start(quiet, "sh", "-c", SCRIPT, "sh", *words, stdin=-1)
        started.wait_out("ready\n")
        wait_until(lambda started=started: state(started.pid) == "S", "run is idle")  # type: ignore[misc]
        used.append(private_dirty(started.pid) - stack(started.pid))
        started.close_stdin()
        started.wait()
    short, long = used
    assert long - short < SIZE / 4, used


def user_time(words: list[str]) -> float:
    """Seconds of user time that a program and what it started take: the least of three runs."""
    times = []
    for _ in range(3):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        assert process.returncode == 0
        times.append(usage.ru_utime)
    return min(times)


@pytest.mark.parametrize("quiet", ["-qq", "-q"])
def test_newlines_in_long_arguments_cost_no_more_than_letters(binary: str, quiet: str) -> None:
    true = shutil.which("true") or "true"
    plain = user_time([binary, quiet, true, *["xx" * 60_000] * COUNT])
    assert user_time([binary, quiet, true, *[WORD] * COUNT]) < 3 * plain + 0.03
