"""Contract, "Starting the command": whose the terminal is, at a real shell that gives and takes it without a word."""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DEADLINE, alive, state, wait_until
from terminal_session import INTERRUPT, QUIT, SUSPEND, Session, descendant, only_child, session

ASKING = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import os; tty = os.open('/dev/tty', os.O_RDWR)\nwhile line := os.read(tty, 100): os.write(tty, b'asked=' + line)",
]
"""A command that reads /dev/tty, whatever its stdin is."""


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell on a terminal of its own."""
    with session() as started:
        yield started


def wait_state(pid: int, letter: str) -> None:
    """Wait until a process is in this state, a letter of proc(5)."""
    wait_until(lambda: state(pid) == letter, f"{pid} is in state {letter}")


def assert_lives(bash: Session) -> None:
    """The shell, which has shown its prompt, reads and answers."""
    bash.line("echo al$((40 + 2))ive")
    bash.expect("al42ive")
    bash.expect("> ")
    assert bash.leader.poll() is None


def wait_group(pid: int, bash: Session) -> None:
    """Wait until the process group of this process has the terminal."""
    bash.wait_foreground(os.getpgid(pid))


def test_run_stopped_by_another_and_continued_in_the_background_leaves_the_terminal_to_the_shell(
    bash: Session, binary: str
) -> None:
    bash.line(f"{binary} -q sleep 600")
    sleep = descendant(bash.pid, "sleep")
    wait_group(sleep, bash)
    run = only_child(bash.pid)
    os.kill(run, signal.SIGSTOP)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("bg")
    wait_state(run, "S")
    bash.expect_prompt()
    os.kill(sleep, signal.SIGTERM)
    wait_until(lambda: not alive(run), "run has ended")
    assert_lives(bash)


def test_after_such_a_bg_fg_gives_the_command_the_terminal(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600; echo code=$?")
    sleep = descendant(bash.pid, "sleep")
    wait_group(sleep, bash)
    run = only_child(bash.pid)
    os.kill(run, signal.SIGSTOP)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("fg")
    wait_group(sleep, bash)
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)


def test_when_the_script_that_started_run_is_killed_the_shell_keeps_the_terminal(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.sh"
    script.write_text(f"{binary} -q sleep 600\ntrue\n")
    bash.line(f"bash {script}")
    sleep = descendant(bash.pid, "sleep")
    wait_group(sleep, bash)
    middle = only_child(bash.pid)
    run = only_child(middle)
    os.kill(middle, signal.SIGKILL)
    bash.expect("Killed")
    bash.expect_prompt()
    os.kill(sleep, signal.SIGTERM)
    wait_until(lambda: not alive(run), "run has ended")
    assert_lives(bash)


def test_a_command_at_the_end_of_a_pipeline_reads_the_terminal_by_dev_tty(bash: Session, binary: str) -> None:
    bash.line(f"true | {binary} -q {shlex.join(ASKING)}")
    reader = descendant(bash.pid, Path(sys.executable).name[:15])
    wait_group(reader, bash)
    bash.line("something")
    bash.expect("asked=something")
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    assert state(reader) == "T"
    bash.line("fg")
    wait_group(reader, bash)
    bash.line("more")
    bash.expect("asked=more")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(reader)


def test_quit_acts_on_such_a_command(bash: Session, binary: str) -> None:
    bash.line(f"true | {binary} -q {shlex.join(ASKING)}; echo code=$?")
    reader = descendant(bash.pid, Path(sys.executable).name[:15])
    wait_group(reader, bash)
    bash.type(QUIT)
    bash.expect("code=131")
    bash.expect_prompt()


def test_once_the_command_has_ended_suspend_stops_the_whole_job(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -qds TERM sh -ec 'sleep 600 & exec sh -c \"sleep 601 & exit 0\"'; echo code=$?")
    run = only_child(bash.pid)
    first = descendant(bash.pid, "sleep")
    bash.wait_foreground(os.getpgid(run))
    for _ in range(2):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        wait_state(first, "T")
        bash.line("fg")
        wait_state(first, "S")
        wait_state(run, "S")
        bash.wait_foreground(os.getpgid(run))
    os.kill(run, signal.SIGTERM)  # what a shell has started with & ignores Ctrl-C
    bash.expect_prompt()
    assert not alive(first)


def test_what_was_stopped_on_purpose_stays_stopped_when_the_job_goes_on(bash: Session, binary: str) -> None:
    bash.line(f"{binary} sh -c 'setsid -f tail -f /dev/null; exec sleep 600'")
    sleep = descendant(bash.pid, "sleep")
    daemon = descendant(bash.pid, "tail")
    wait_group(sleep, bash)
    os.kill(daemon, signal.SIGSTOP)
    wait_state(daemon, "T")
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("fg")
    wait_state(sleep, "S")
    wait_group(sleep, bash)
    bash.expect("continuing group")
    assert state(daemon) == "T"
    os.kill(daemon, signal.SIGKILL)
    bash.type(INTERRUPT)
    assert "forwarding CONT" not in bash.expect("exiting with code")
    bash.expect_prompt()


def test_where_nobody_could_continue_the_job_suspend_has_no_effect_and_wakes_nobody_else(binary: str) -> None:
    prefix = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "setsid", "--ctty"]
    words = ["sh", "-c", "setsid -f tail -f /dev/null; exec sleep 600"]
    with session(*prefix, binary, *words) as terminal:
        sleep = descendant(terminal.pid, "sleep")
        daemon = descendant(terminal.pid, "tail")
        os.kill(daemon, signal.SIGSTOP)
        wait_state(daemon, "T")
        terminal.expect("started")
        terminal.type(SUSPEND)
        terminal.expect("continuing group")
        wait_state(sleep, "S")
        assert state(daemon) == "T"
        os.kill(daemon, signal.SIGKILL)
        terminal.type(INTERRUPT)
        assert "forwarding CONT" not in terminal.expect("exiting with code")
        terminal.leader.wait(DEADLINE)


UNSHARE = "unshare --pid --fork --kill-child=KILL"


def test_in_group_0_another_reader_of_the_terminal_is_not_waited_for(bash: Session, binary: str) -> None:
    bash.line(f"sh -c 'cat <&3 & exec {UNSHARE} {binary} -q echo st''arted' 3</dev/tty")
    bash.expect("started")


def test_in_an_orphaned_group_0_suspend_has_no_effect(binary: str) -> None:
    # As a terminal emulator starts it: unshare leads the session, and its parent is in another one.
    with session(*UNSHARE.split(), binary, "-q", "cat") as terminal:
        cat = descendant(terminal.pid, "cat")
        terminal.wait_foreground(os.getpgid(cat))
        terminal.line("before")
        terminal.expect("before\r\nbefore")
        for word in ("one", "two"):
            terminal.type(SUSPEND)
            terminal.line(word)
            terminal.expect(f"{word}\r\n{word}")
        terminal.type(INTERRUPT)
        assert terminal.leader.wait(DEADLINE) == 130


def test_in_group_0_of_a_shell_suspend_stops_the_job_and_fg_continues_it(bash: Session, binary: str) -> None:
    bash.line(f"{UNSHARE} {binary} -q cat; echo code=$?")
    cat = descendant(bash.pid, "cat")
    wait_group(cat, bash)
    for word in ("one", "two"):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        assert state(cat) == "T"
        bash.line("fg")
        wait_group(cat, bash)
        bash.line(word)
        bash.expect(f"{word}\r\n{word}")
    bash.type(INTERRUPT)
    bash.expect_prompt()


@pytest.mark.parametrize("pager", ["less"])
def test_a_pager_at_the_end_of_a_pipeline_takes_keys(bash: Session, binary: str, pager: str) -> None:
    assert shutil.which(pager), "build/check.sh installs it"
    bash.line(f"seq 1000 | TERM=dumb {binary} -q {pager} -d; echo code=$?")
    bash.expect("1\r\n2\r\n")
    wait_group(descendant(bash.pid, pager), bash)
    bash.type("q")
    bash.expect("code=0")
    bash.expect_prompt()
