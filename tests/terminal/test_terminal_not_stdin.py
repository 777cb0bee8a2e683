"""Contract, "When a process ends": the controlling terminal is /dev/tty, whatever stdin is.

A command at the end of a pipeline that opens /dev/tty, as a pager does, reads it and changes its settings.
"""

import os
import shutil
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import alive, state, wait_until
from terminal_session import END_OF_FILE, INTERRUPT, QUIT, SUSPEND, Session, descendant, only_child, session

READER = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
tty = os.open("/dev/tty", os.O_RDWR)
os.write(tty, b"rea" b"dy\\n")
while line := os.read(tty, 100):
    os.write(tty, b"got=" + line)
"""

SETTER = """
import os, signal, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
tty = os.open("/dev/tty", os.O_RDWR)
settings = termios.tcgetattr(tty)
settings[3] &= ~termios.ECHO
termios.tcsetattr(tty, termios.TCSANOW, settings)
os.write(tty, b"se" b"t\\n")
signal.pause()
"""

STDIN = {
    "a_pipe": "true | {}",
    "a_file": "{} < /dev/null",
    "closed": "{} <&-",
}


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell on a terminal of its own."""
    with session() as started:
        yield started


@pytest.fixture(params=list(STDIN.values()), ids=list(STDIN))
def stdin(request: pytest.FixtureRequest) -> str:
    """A command line in which the command's stdin is not the terminal."""
    return str(request.param)


def python(folder: Path, text: str) -> str:
    """The words that run this, in a process of the name "command"."""
    link = folder / "command"
    link.symlink_to(os.path.realpath(sys.executable))
    script = folder / "script.py"
    script.write_text(text)
    return f"{link} -I -S {script}"


def read(bash: Session, word: str) -> None:
    """The command reads a line of the terminal."""
    bash.line(word)
    bash.expect(f"got={word}")


def test_the_command_reads_the_terminal(bash: Session, binary: str, stdin: str, tmp_path: Path) -> None:
    bash.line(stdin.format(f"{binary} -q {python(tmp_path, READER)}") + "; echo code=$?")
    bash.expect("ready")
    read(bash, "one")
    read(bash, "two")
    bash.type(END_OF_FILE)
    bash.expect("code=0")
    bash.expect_prompt()


def test_the_command_changes_the_terminals_settings(bash: Session, binary: str, stdin: str, tmp_path: Path) -> None:
    bash.line(stdin.format(f"{binary} -q {python(tmp_path, SETTER)}") + "; echo code=$?")
    bash.expect("set\r\n")
    command = descendant(bash.pid, "command")
    fd = os.open(f"/proc/{bash.pid}/fd/0", os.O_RDWR | os.O_NOCTTY)
    assert not termios.tcgetattr(fd)[3] & termios.ECHO
    os.close(fd)
    bash.type(INTERRUPT)
    bash.expect("code=130")
    bash.expect_prompt()
    assert not alive(command)


@pytest.mark.parametrize("typed", [INTERRUPT, QUIT], ids=["interrupt", "quit"])
def test_interrupt_and_quit_act_on_a_command_that_reads_the_terminal(
    bash: Session, binary: str, stdin: str, tmp_path: Path, typed: str
) -> None:
    bash.line(stdin.format(f"{binary} -q {python(tmp_path, READER)}") + "; echo code=$?")
    bash.expect("ready")
    read(bash, "one")
    command = descendant(bash.pid, "command")
    bash.type(typed)
    bash.expect(f"code={ {INTERRUPT: 130, QUIT: 131}[typed] }")
    bash.expect_prompt()
    assert not alive(command)


def test_suspend_acts_on_a_command_that_reads_the_terminal_and_fg_continues_it(
    bash: Session, binary: str, stdin: str, tmp_path: Path
) -> None:
    bash.line(stdin.format(f"{binary} -q {python(tmp_path, READER)}"))
    bash.expect("ready")
    command = descendant(bash.pid, "command")
    for word in ("one", "two"):
        read(bash, word)
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        assert state(command) == "T"
        bash.line("fg")
    read(bash, "three")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(command)


def test_a_command_in_the_background_that_reads_the_terminal_is_stopped_until_fg(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    bash.line(f"true | {binary} -q {python(tmp_path, READER)} &")
    command = descendant(bash.pid, "command")
    wait_until(lambda: state(command) == "T", "the command is stopped")

    def is_stopped() -> bool:
        bash.line("jobs")
        return "Stopped" in bash.expect("> ")

    wait_until(is_stopped, "the shell sees its job stopped")
    bash.line("fg")
    read(bash, "one")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(command)


def test_the_shell_has_the_terminal_when_the_command_that_had_it_is_killed(
    bash: Session, binary: str, tmp_path: Path
) -> None:
    bash.line(f"true | {binary} -q {python(tmp_path, READER)}; echo code=$?")
    bash.expect("ready")
    read(bash, "one")
    os.kill(descendant(bash.pid, "command"), signal.SIGKILL)
    bash.expect("code=137")
    bash.expect_prompt()


def test_a_script_can_read_the_terminal_after_a_command_that_had_it(bash: Session, binary: str, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(f"true | {binary} -q {python(tmp_path, READER)}\nread -r word < /dev/tty\necho word=$word\n")
    bash.line(f"bash {script}")
    bash.expect("ready")
    read(bash, "one")
    bash.type(END_OF_FILE)
    wait_until(lambda: bash.foreground == os.getpgid(only_child(bash.pid)), "the script has the terminal")
    bash.line("something")
    bash.expect("word=something")
    bash.expect_prompt()


def test_less_shows_a_pipe_and_takes_keys_suspend_fg_and_interrupt(bash: Session, binary: str) -> None:
    assert shutil.which("less"), "less(1) is needed"
    bash.line(f"seq 100000 100999 | TERM=vt100 LESSHISTFILE=- {binary} -q less; echo code=$?")
    bash.expect("100015")
    bash.type("G")
    bash.expect("100999")
    less = descendant(bash.pid, "less")
    bash.type("g")
    bash.expect("100000")
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect("code=")
    bash.expect_prompt()
    assert state(less) == "T"
    bash.line("fg")
    bash.expect("100000")
    bash.type("G")
    bash.expect("100999")
    bash.type(INTERRUPT)  # less goes on: it only ends what it does just now
    bash.type("g")
    bash.expect("100000")
    bash.type("q")
    bash.expect_prompt()
    assert not alive(less)
