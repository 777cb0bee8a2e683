"""Contract, "When a process ends": under an interactive shell `run` is a well-behaved job."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import alive, open_gate, state, wait_until
from terminal_session import (
    END_OF_FILE,
    INTERRUPT,
    QUIT,
    SILENT_SHELL_WITH,
    SUSPEND,
    Session,
    descendant,
    only_child,
    session,
)


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell on a terminal of its own."""
    with session() as started:
        yield started


def wait_sleep(shell: Session) -> int:
    """Wait until `sleep` has the terminal; return its pid."""
    pid = descendant(shell.pid, "sleep")
    shell.wait_foreground(os.getpgid(pid))
    return pid


def wait_state(pid: int, letter: str) -> None:
    """Wait until a process is in this state, a letter of proc(5)."""
    wait_until(lambda: state(pid) == letter, f"{pid} is in state {letter}")


@pytest.mark.parametrize(("typed", "code"), [(INTERRUPT, 130), (QUIT, 131)], ids=["interrupt", "quit"])
def test_interrupt_and_quit_act_on_the_command(bash: Session, binary: str, typed: str, code: int) -> None:
    bash.line(f"{binary} -q sleep 600; echo code=$?")
    sleep = wait_sleep(bash)
    bash.type(typed)
    bash.expect(f"code={code}")
    bash.expect_prompt()
    assert not alive(sleep)


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("sh -c 'exit 7'", 7), ("sh -c 'kill -KILL $$'", 137), ("no-such-command", 127)],
    ids=["normally", "with_a_code", "killed", "not_started"],
)
def test_the_shell_gets_its_prompt_back_when_run_ends(bash: Session, binary: str, command: str, code: int) -> None:
    bash.line(f"{binary} {command}; echo code=$?")
    bash.expect(f"code={code}")
    bash.expect_prompt()


def test_suspend_gives_the_shell_its_prompt_back_and_fg_continues_the_command(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600; echo code=$?")
    sleep = wait_sleep(bash)
    for _ in range(3):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        assert state(sleep) == "T"
        bash.line("jobs")
        bash.expect("[1]+")
        bash.expect("Stopped")
        bash.line("fg")
        bash.wait_foreground(os.getpgid(sleep))
        wait_state(sleep, "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)


def test_bg_continues_the_command_without_the_terminal(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600")
    sleep = wait_sleep(bash)
    run = only_child(bash.pid)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect("> ")
    bash.line("bg")
    wait_state(sleep, "S")
    bash.expect_prompt()
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert alive(sleep)
    bash.line("fg")
    bash.wait_lent(run, os.getpgid(sleep))
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)


def test_a_command_in_the_background_that_reads_is_stopped_until_fg(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q cat &")
    cat = descendant(bash.pid, "cat")
    wait_state(cat, "T")
    bash.expect("> ")

    def is_stopped() -> bool:
        bash.line("jobs")
        return "Stopped" in bash.expect("> ")

    wait_until(is_stopped, "the shell sees its job stopped")
    bash.line("fg")
    bash.wait_foreground(os.getpgid(cat))
    bash.line("twice")
    bash.expect("twice")
    bash.expect("twice")
    bash.type(END_OF_FILE)
    bash.expect_prompt()


def test_a_command_that_was_brought_to_the_foreground_while_it_ran_reads_the_terminal(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bash.line(f"{binary} -q sh -c 'read open < {gate}; read word; echo got=$word' &")
    bash.expect("> ")
    run = only_child(bash.pid)
    sh = descendant(run, "sh")
    bash.line("fg")
    bash.wait_lent(run, os.getpgid(sh))
    open_gate(gate)
    bash.line("something")
    bash.expect("got=something")
    bash.expect_prompt()


def test_a_command_that_was_given_the_terminal_without_a_word_while_it_ran_reads_it(
    binary: str, tmp_path: Path
) -> None:
    # As by bash before 5.3, which sends no CONT to a job that runs: run learns of it only by the command's TTIN.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"echo started; read open < {gate}; read word; echo got=$word"
    with session(*SILENT_SHELL_WITH, binary, "-q", "sh", "-c", script) as shell:
        shell.expect("started")
        run = only_child(shell.pid)
        shell.line("give")
        shell.wait_foreground(run)
        open_gate(gate)
        shell.line("something")
        shell.expect("got=something")
        shell.expect("code=0")


def test_a_job_in_the_background_leaves_the_terminal_to_the_shell_when_it_ends(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600 &")
    sleep = descendant(bash.pid, "sleep")
    bash.expect_prompt()
    os.kill(sleep, 15)
    bash.line("wait %1; echo code=$?")
    bash.expect("code=143")
    bash.expect_prompt()


def test_with_daemons_left_the_terminal_is_runs_and_interrupt_reaches_them(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q -d -s TERM setsid -f sleep 600; echo code=$?")
    sleep = descendant(bash.pid, "sleep")
    run = only_child(bash.pid)
    bash.wait_foreground(run)
    bash.type(INTERRUPT)
    bash.expect("code=130")
    bash.expect_prompt()
    assert not alive(sleep)


def script(folder: Path, text: str) -> str:
    """The words that run a shell script."""
    path = folder / "script.sh"
    path.write_text(text)
    return f"bash {path}"


def test_in_a_script_the_whole_job_is_suspended_and_continued(bash: Session, binary: str, tmp_path: Path) -> None:
    bash.line(script(tmp_path, f"{binary} -q sleep 600\necho after=$?\n"))
    sleep = wait_sleep(bash)
    for _ in range(2):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        bash.line("fg")
        bash.wait_foreground(os.getpgid(sleep))
        wait_state(sleep, "S")
    bash.type(INTERRUPT)
    bash.expect("after=130")
    bash.expect_prompt()


def test_a_script_can_read_the_terminal_after_run_has_ended(bash: Session, binary: str, tmp_path: Path) -> None:
    bash.line(script(tmp_path, f"{binary} -q true\nread word\necho got=$word\n"))
    descendant(bash.pid, "bash")
    bash.line("something")
    bash.expect("got=something")
    bash.expect_prompt()


def test_a_pipeline_is_suspended_continued_and_interrupted(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sh -c 'echo st''arted; exec sleep 600' | cat")
    bash.expect("started")
    sleep = wait_sleep(bash)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("fg")
    bash.wait_foreground(os.getpgid(sleep))
    wait_state(sleep, "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)


def test_the_first_command_of_a_pipeline_reads_the_terminal(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q cat | tr a-z A-Z")
    cat = descendant(bash.pid, "cat")
    bash.wait_foreground(os.getpgid(cat))
    bash.line("hello")
    bash.type(END_OF_FILE)
    bash.expect("HELLO")
    bash.expect_prompt()


def test_interrupt_reaches_a_command_at_the_end_of_a_pipeline(bash: Session, binary: str) -> None:
    bash.line(f"true | {binary} -q sleep 600; echo code=$?")
    descendant(bash.pid, "sleep")
    bash.type(INTERRUPT)
    bash.expect("code=130")
    bash.expect_prompt()


def test_a_stop_that_the_terminal_did_not_send_is_not_runs_business(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600; echo code=$?")
    sleep = wait_sleep(bash)
    os.kill(sleep, 19)
    wait_state(sleep, "T")
    os.kill(sleep, 18)
    wait_state(sleep, "S")
    assert bash.foreground == os.getpgid(sleep)
    bash.type(INTERRUPT)
    bash.expect("code=130")
    bash.expect_prompt()


def test_the_shell_continues_a_job_with_kill(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q sleep 600")
    sleep = wait_sleep(bash)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("kill -CONT %1")
    wait_state(sleep, "S")
    bash.expect_prompt()
    bash.line("kill %1; wait; echo ended")
    bash.expect("ended")
    wait_until(lambda: not alive(sleep), "sleep ended")


@pytest.mark.parametrize("how", ["last of a pipeline", "brought to the foreground while it ran"])
def test_suspend_acts_on_the_command_where_runs_own_group_has_the_terminal(
    bash: Session, binary: str, how: str
) -> None:
    if how == "last of a pipeline":
        bash.line(f"true | {binary} -q sleep 600")
        sleep = descendant(bash.pid, "sleep")
    else:
        bash.line(f"{binary} -q sleep 600 &")
        sleep = descendant(bash.pid, "sleep")
        bash.expect("> ")
        bash.line("fg")
        bash.wait_lent(only_child(bash.pid), os.getpgid(sleep))
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    assert state(sleep) == "T"
    bash.line("fg")
    wait_state(sleep, "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(sleep)
