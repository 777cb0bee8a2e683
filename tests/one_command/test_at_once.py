"""Contract, "When a process ends": what comes at once is measured beside tini, in turn, in the same run.

Or it shows in the system calls: nothing is waited for between an event and what follows.
"""

import os
import re
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from harness import DEADLINE, Starter, children, state, wait_until

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


WAIT = "rt_sigtimedwait"
NO_SIGNAL = "none"
OTHER_WAITS = {"select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "nanosleep", "clock_nanosleep"}
ORPHAN = "exec 3<&0; ( (read _ <&3; exit 4) & ); echo ready; exec sleep 1000"
"""A command that leaves an orphan, which ends when its stdin does."""


class Calls:
    """The system calls of a `run`, in their order, as strace(1) has written them down."""

    def __init__(self, trace: Path) -> None:
        """Read them. None may wait, but for a signal."""
        self._calls = trace.read_text().splitlines()
        names = {call.partition("(")[0] for call in self._calls}
        assert WAIT in names and not names & OTHER_WAITS, names

    def where(self, pattern: str) -> int:
        """Where the last call like this is."""
        return max(i for i, call in enumerate(self._calls) if re.match(pattern, call))

    def waited(self, where: int) -> int:
        """Where a signal was waited for last before this."""
        return max(i for i, call in enumerate(self._calls[:where]) if call.startswith(WAIT))

    def taken(self, where: int) -> str:
        """The signal that was taken last before this, if waiting has not ended without one."""
        found = re.search(r"= \d+ \((SIG\w+)\)$", self._calls[self.waited(where)])
        return found[1] if found else NO_SIGNAL


@pytest.mark.parametrize("options", [(), ("-s", "TERM")], ids=["without-s", "with-s"])
def test_nothing_is_waited_for_between_an_event_and_what_follows(
    binary: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """An orphan is reaped, a signal sent on, that of -s sent, and `run` ends, each in the turn in which it can be."""
    trace = tmp_path / "trace"
    started = Starter("strace", tmp_path)("-qq", "-o", str(trace), binary, *options, "sh", "-c", ORPHAN, stdin=-1)
    started.wait_out("ready\n")
    [run] = children(started.pid)
    wait_until(lambda: len(children(run)) == 2, "the orphan is adopted")
    wait_until(lambda: state(run) == "S", "run waits")
    main, orphan = children(run)
    started.close_stdin()
    if not options:
        started.wait_log("exited with code 4")
        os.kill(run, signal.SIGUSR1)
    assert started.wait() == (143 if options else 138)
    calls = Calls(trace)
    end_of_orphan = calls.where(rf"wait4\(.* = {orphan}$")
    assert calls.taken(end_of_orphan) == "SIGCHLD"
    if options:
        assert calls.waited(calls.where(rf"kill\(-{main}, SIGTERM\)")) < end_of_orphan
    else:
        assert calls.taken(calls.where(rf"kill\(-{main}, SIGUSR1\)")) == "SIGUSR1"
    end_of_main = calls.where(rf"wait4\(.* = {main}$")
    assert calls.taken(end_of_main) != NO_SIGNAL
    assert calls.waited(calls.where(r"exit_group\(")) < end_of_main
