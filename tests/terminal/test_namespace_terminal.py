"""Contract, "Starting the command" and "When a process ends": a terminal in a pid namespace.

Its process groups may belong to the outer namespace: getpgrp(2) and tcgetpgrp(3) then show 0 for all of them.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DEADLINE, alive, state, wait_until
from terminal_session import END_OF_FILE, INTERRUPT, READER, READING, SUSPEND, Session, descendant, only_child, session

UNSHARE = "unshare --pid --fork --kill-child=KILL"


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell, outside of the namespace."""
    with session() as started:
        yield started


@pytest.mark.parametrize("unshare", [UNSHARE, f"{UNSHARE} --mount-proc"], ids=["outer_proc", "own_proc"])
def test_in_the_foreground_the_command_reads_the_terminal(bash: Session, binary: str, unshare: str) -> None:
    bash.line(f"{unshare} {binary} -q cat; echo code=$?")
    cat = descendant(bash.pid, "cat")
    bash.wait_foreground(os.getpgid(cat))
    for word in ("something", "more"):
        bash.line(word)
        bash.expect(word)
        bash.expect(word)
    bash.type(END_OF_FILE)
    bash.expect("code=0")
    bash.expect_prompt()


def test_in_the_foreground_interrupt_acts_on_the_command(bash: Session, binary: str) -> None:
    bash.line(f"{UNSHARE} {binary} -q sleep 600; echo code=$?")
    sleep = descendant(bash.pid, "sleep")
    bash.wait_foreground(os.getpgid(sleep))
    bash.type(INTERRUPT)
    bash.expect("code=130")
    bash.expect_prompt()
    assert not alive(sleep)


def test_in_the_background_the_terminal_is_not_stolen(bash: Session, binary: str) -> None:
    bash.line(f"{UNSHARE} {binary} -q sleep 600 &")
    sleep = descendant(bash.pid, "sleep")
    bash.expect_prompt()
    assert alive(sleep)
    os.kill(sleep, 15)
    bash.line("wait %1; echo code=$?")
    bash.expect("code=143")
    bash.expect_prompt()


def test_a_command_in_the_background_that_reads_waits_for_fg(bash: Session, binary: str) -> None:
    bash.line(f"{UNSHARE} {binary} -q cat &")
    cat = descendant(bash.pid, "cat")
    wait_until(lambda: state(cat) == "T", "cat is stopped")
    job = only_child(bash.pid)
    wait_until(lambda: state(job) == "T", "and so is the job, which fg would not continue otherwise")
    bash.expect_prompt()
    bash.line("fg")
    bash.wait_foreground(os.getpgid(cat))
    bash.line("something")
    bash.expect("something")
    bash.expect("something")
    bash.type(END_OF_FILE)
    bash.expect_prompt()


def test_suspended_and_continued_by_fg_the_command_reads_the_terminal(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    script = tmp_path / "reader.py"
    script.write_text(READER)
    bash.line(f"{UNSHARE} {binary} -q {sys.executable} -I -S {script}")
    bash.expect("ready")
    for word in ("one", "two"):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        bash.line("fg")
        bash.expect("continued")
        bash.line(word)
        bash.expect(f"got={word}")
    bash.type(END_OF_FILE)
    bash.expect_prompt()


def test_PID_1_that_leads_the_session_continues_a_suspended_command(binary: str) -> None:
    # As in a container that is given a terminal. setsid(1) takes it from the session of unshare.
    prefix = f"{UNSHARE} --mount-proc setsid --ctty".split()
    with session(*prefix, binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        for word in ("one", "two"):
            terminal.type(SUSPEND)
            terminal.expect("continued")
            terminal.line(word)
            terminal.expect(f"got={word}")
        terminal.type(INTERRUPT)
        assert terminal.leader.wait(DEADLINE) == 130


def test_PID_1_that_leads_the_session_runs_an_interactive_shell(binary: str) -> None:
    prefix = f"{UNSHARE} --mount-proc setsid --ctty".split()
    with session(*prefix, binary, "-q", "bash", "--norc", "--noprofile", "-i") as terminal:
        assert "no job control" not in terminal.expect("<1> ")
        terminal.line("sleep 600")
        sleep = descendant(terminal.pid, "sleep")
        terminal.wait_foreground(os.getpgid(sleep))
        terminal.type(SUSPEND)
        terminal.expect("Stopped")
        terminal.expect("<2> ")
        terminal.line("fg")
        terminal.wait_foreground(os.getpgid(sleep))
        terminal.type(INTERRUPT)
        terminal.expect("<3> ")
        terminal.line("exit 5")
        assert terminal.leader.wait(DEADLINE) == 5


def test_in_the_foreground_an_interactive_shell_has_job_control(bash: Session, binary: str) -> None:
    bash.line(f"{UNSHARE} --mount-proc {binary} -q env PS1='in ' bash --norc --noprofile -i; echo code=$?")
    bash.expect("code=$?")
    assert "no job control" not in bash.expect("in ")
    bash.line("sleep 600")
    sleep = descendant(bash.pid, "sleep")
    bash.wait_foreground(os.getpgid(sleep))
    bash.type(INTERRUPT)
    bash.expect("in ")
    bash.line("exit 5")
    bash.expect("code=5")
    bash.expect_prompt()
