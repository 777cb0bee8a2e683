"""Contract, "When a process ends": what comes at once is measured beside tini, in turn, in the same run."""

import shutil
import statistics
import subprocess
import time

import pytest
from harness import DEADLINE

ROUNDS = 25
TIMES = 15
"""How many times what tini takes is still at once: the machine is shared, and Python is not C."""

LAST_WORD = ["sh", "-c", "date +%s.%N"]
LEAVES_AN_ORPHAN = ["sh", "-c", "(sleep 0.05; date +%s.%N) & exit 0"]


def seconds_after_the_last_word(words: list[str]) -> float:
    """From what the last process said just before it ended to the end of these words."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DEADLINE, check=True)
    return time.time() - float(done.stdout)


@pytest.mark.parametrize("words", [LAST_WORD, LEAVES_AN_ORPHAN], ids=["the-command", "an-orphan"])
def test_run_ends_at_once_when_no_process_is_left(binary: str, words: list[str]) -> None:
    tini = shutil.which("tini")
    assert tini, "build/check.sh installs it"
    own, tinis = [], []
    for _ in range(ROUNDS):
        own.append(seconds_after_the_last_word([binary, "-q", *words]))
        # tini waits for its own command alone, so the orphan is waited for by a shell.
        beside = words if words is LAST_WORD else [*words[:2], words[2].replace("exit 0", "wait")]
        tinis.append(seconds_after_the_last_word([tini, "-s", "--", *beside]))
    assert statistics.median(own) <= TIMES * statistics.median(tinis)
