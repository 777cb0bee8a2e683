"""Contract, "Starting the command" and "When a process ends": the terminal is taken back only from the command.

A shell gives the terminal and takes it without a word, and nobody may take it from the shell: who has it is asked of
the kernel.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import alive, children, open_gate, state, wait_until
from terminal_session import INTERRUPT, SUSPEND, Session, descendant, only_child, session


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell on a terminal of its own."""
    with session() as started:
        yield started


def wait_state(pid: int, letter: str) -> None:
    """Wait until a process is in this state, a letter of proc(5)."""
    wait_until(lambda: state(pid) == letter, f"{pid} is in state {letter}")


def stop_run(bash: Session) -> int:
    """Stop `run` itself while the command has the terminal, so that the shell takes it; return the pid of `run`."""
    run = only_child(bash.pid)
    os.kill(run, signal.SIGSTOP)
    bash.expect("Stopped")
    bash.expect_prompt()
    return run


def assert_usable(bash: Session) -> None:
    """The shell, which has shown its prompt before, lives, has the terminal, and can read."""
    bash.wait_foreground(bash.pid)
    bash.line("echo us$((40 + 2))able")
    bash.expect("us42able")
    bash.expect("> ")
    assert alive(bash.pid)


def started_in_the_foreground(bash: Session, name: str) -> int:
    """Wait until a command of this name has the terminal; return its pid."""
    pid = descendant(bash.pid, name)
    bash.wait_foreground(os.getpgid(pid))
    return pid


# -- run is stopped, and continued in the background ------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_the_shell_keeps_the_terminal_when_run_was_stopped_and_ends_in_the_background(
    bash: Session, binary: str, signum: int
) -> None:
    bash.line(f"{binary} -q sleep 600")
    sleep = started_in_the_foreground(bash, "sleep")
    run = stop_run(bash)
    bash.line("bg")
    wait_state(run, "S")
    bash.expect_prompt()
    os.kill(sleep, signum)
    wait_until(lambda: not alive(run), "run ends")
    assert_usable(bash)


def test_the_shell_keeps_the_terminal_when_the_command_of_a_stopped_run_ends_and_run_goes_on(
    bash: Session, binary: str
) -> None:
    bash.line(f"{binary} -q -d -s TERM sh -c 'setsid -f sleep 601; exec sleep 600'")
    run = only_child(bash.pid)
    wait_until(lambda: len(children(run)) == 2, "the daemon is adopted")
    main = next(pid for pid in children(run) if os.getpgid(pid) == bash.foreground)
    stop_run(bash)
    bash.line("bg")
    wait_state(run, "S")
    os.kill(main, signal.SIGINT)  # it ends with 130, so that the daemon has to end, too
    wait_until(lambda: not alive(run), "run ends")
    assert_usable(bash)


def test_fg_gives_the_command_the_terminal_again_when_run_was_stopped(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600; echo code=$?")
    sleep = started_in_the_foreground(bash, "sleep")
    for _ in range(2):
        stop_run(bash)
        bash.line("fg")
        bash.wait_foreground(os.getpgid(sleep))
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)


def test_fg_after_bg_gives_the_command_the_terminal_again_when_run_was_stopped(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bash.line(f"{binary} -q sh -c 'read open < {gate}; read word; echo got=$word; exec sleep 600'")
    sh = started_in_the_foreground(bash, "sh")
    run = stop_run(bash)
    bash.line("bg")
    wait_state(run, "S")
    bash.expect_prompt()
    bash.line("fg")
    bash.wait_lent(run, os.getpgid(sh))
    open_gate(gate)
    bash.line("something")
    bash.expect("got=something")
    assert bash.foreground == os.getpgid(sh)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("fg")
    bash.wait_foreground(os.getpgid(sh))
    wait_state(sh, "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sh)


# -- The script that started run is killed ----------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_the_shell_keeps_the_terminal_when_the_script_was_killed_and_the_command_ends(
    bash: Session, binary: str, tmp_path: Path, signum: int
) -> None:
    script = tmp_path / "script.sh"
    script.write_text(f"{binary} -q sleep 600\necho after\n")
    bash.line(f"bash {script}")
    sleep = started_in_the_foreground(bash, "sleep")
    killed = only_child(bash.pid)
    run = only_child(killed)
    os.kill(killed, signal.SIGKILL)
    bash.expect("Killed")
    bash.expect_prompt()
    os.kill(sleep, signum)
    wait_until(lambda: not alive(run), "run ends")
    assert_usable(bash)
    assert not alive(sleep)
