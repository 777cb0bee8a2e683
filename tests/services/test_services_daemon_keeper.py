"""Contract, "The file", `daemon`: when somebody kills a keeper, nothing that it has kept outlives that life."""

import os
import signal
from pathlib import Path

import pytest
from daemonizing import daemon, keeper, wait_settled
from harness import alive, state, wait_until
from serving import AWAKE, PID_1, Journal, Server, descendants, log_lines, wait_pid

BOTH = [signal.SIGKILL, signal.SIGSEGV]


def deaf(journal: Journal) -> str:
    """A script of a daemon that TERM does not end, with a worker in a session of its own."""
    return f'trap "" TERM; setsid sleep 1000 & {journal.note("ready")}; {AWAKE}'


def with_worker(pids: list[int]) -> list[int]:
    """These, once a worker that sleeps for long is one of them."""
    return pids if any(b"1000" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if alive(pid)) else []


@PID_1
@pytest.mark.parametrize("signum", BOTH)
def test_what_a_killed_keeper_leaves_is_gone_before_the_next_life(
    serve: Server, journal: Journal, signum: signal.Signals, pid_1: bool
) -> None:
    started = serve({"daemon": daemon(deaf(journal), restart="always")}, pid_1=pid_1)
    journal.wait("ready")
    wait_settled(started)
    kept = keeper(started)
    left = wait_until(lambda: with_worker(descendants(kept)), "the daemon and its worker")
    os.kill(kept, signum)
    wait_pid(started, "daemon", 2)
    assert not any(map(state, left))
    journal.wait("ready", 2)


def test_the_orphans_of_others_stay(serve: Server, journal: Journal) -> None:
    """Only what the keeper has kept is killed."""
    orphan = f"setsid sh -c '{journal.note('orphan $$')}; exec sleep 1000' & exit 0"
    services = {
        "daemon": daemon(deaf(journal), restart="always"),
        "task": {"command": orphan, "oneshot": True},
    }
    started = serve(services)
    journal.wait("ready")
    found = wait_until(lambda: [line for line in journal.lines() if line.startswith("orphan")], "there is an orphan")
    os.kill(keeper(started), signal.SIGKILL)
    journal.wait("ready", 2)
    assert alive(int(found[0].split()[1]))


def test_without_a_restart_all_are_stopped_and_the_code_is_that_of_the_keeper(serve: Server, journal: Journal) -> None:
    started = serve({"daemon": daemon(deaf(journal))}, "-t3600")
    journal.wait("ready")
    wait_settled(started)
    os.kill(keeper(started), signal.SIGKILL)
    assert started.wait() == 137
    assert "shutdown, since daemon has failed" in log_lines(started)
