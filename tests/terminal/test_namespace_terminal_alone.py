"""Contract, "Starting the command" and "When a process ends": process group 0, one of an outer pid namespace.

There is nobody who could continue it, or somebody else in it reads the terminal. With a shell outside:
test_namespace_terminal.py.
"""

import os
import shlex
import signal
from pathlib import Path

import pytest
from harness import DEADLINE, alive, children, open_gate, state, wait_until
from terminal_session import (
    END_OF_FILE,
    INTERRUPT,
    QUIT,
    READING,
    READING_BESIDE,
    SUSPEND,
    Session,
    descendant,
    session,
)

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child=KILL"]
LEADING = {"outer_proc": UNSHARE, "own_proc": [*UNSHARE, "--mount-proc"]}


@pytest.fixture(params=list(LEADING.values()), ids=list(LEADING))
def unshare(request: pytest.FixtureRequest) -> list[str]:
    """The words that start what leads the session, as a terminal emulator starts it: nobody can continue its group."""
    found: list[str] = request.param
    return found


def test_suspend_has_no_lasting_effect_where_the_group_is_orphaned(binary: str, unshare: list[str]) -> None:
    with session(*unshare, binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        for word in ("one", "two", "three"):
            terminal.type(SUSPEND)
            terminal.expect("continued")
            terminal.line(word)
            terminal.expect(f"got={word}")
        terminal.type(END_OF_FILE)
        assert terminal.leader.wait(DEADLINE) == 0


@pytest.mark.parametrize(("typed", "code"), [(INTERRUPT, 130), (QUIT, 131)], ids=["interrupt", "quit"])
def test_interrupt_and_quit_act_on_the_command_after_suspend_where_the_group_is_orphaned(
    binary: str, unshare: list[str], typed: str, code: int
) -> None:
    with session(*unshare, binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        terminal.type(SUSPEND)
        terminal.expect("continued")
        terminal.type(typed)
        assert terminal.leader.wait(DEADLINE) == code


def test_suspend_has_no_lasting_effect_on_cat_where_the_group_is_orphaned(binary: str, unshare: list[str]) -> None:
    with session(*unshare, binary, "-q", "cat") as terminal:
        cat = descendant(terminal.pid, "cat")
        terminal.wait_foreground(os.getpgid(cat))
        terminal.type(SUSPEND)
        terminal.line("something")
        terminal.expect("something")
        terminal.expect("something")
        wait_until(lambda: state(cat) == "S", "it waits for more, and is not stopped")
        terminal.type(END_OF_FILE)
        assert terminal.leader.wait(DEADLINE) == 0


# -- Another reader of the same terminal ------------------------------------------------------------------------------


def reads_the_terminal(pid: int) -> bool:
    """Whether a process is in read(2) of its descriptor 0, as proc(5) shows it in syscall, and sleeps there."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    number = {"x86_64": "0", "aarch64": "63"}[os.uname().machine]
    return call[:2] == [number, "0x0"] and state(pid) == "S"


def started_beside_a_reader(bash: Session, folder: Path, words: str) -> int:
    """Start a job in which first another reads the terminal, and then, while it does, these words are started."""
    gate = folder / "gate"
    os.mkfifo(gate)
    script = folder / "script.sh"
    reader = shlex.join(READING_BESIDE)
    script.write_text(f"exec 3<&0\n{reader} <&3 3<&- &\nread open < {gate}\nexec {words}\n")
    bash.line(f"sh {script}; echo code=$?")
    beside = descendant(bash.pid, "beside")
    wait_until(lambda: reads_the_terminal(beside), "another reads the terminal")
    open_gate(gate)
    return beside


def test_the_command_starts_at_once_while_somebody_else_reads_the_terminal(
    binary: str, unshare: list[str], tmp_path: Path
) -> None:
    with session() as bash:
        beside = started_beside_a_reader(bash, tmp_path, f"{' '.join(unshare)} {binary} -q echo started")
        bash.expect("started")
        bash.expect("code=0")
        assert alive(beside), "it has read the terminal all the time"
        os.kill(beside, signal.SIGKILL)
        wait_until(lambda: not alive(beside), "it is gone, and what is typed is not for it")
        bash.expect_prompt()


def test_interrupt_acts_on_a_command_that_was_started_while_somebody_else_read_the_terminal(
    binary: str, unshare: list[str], tmp_path: Path
) -> None:
    with session() as bash:
        beside = started_beside_a_reader(bash, tmp_path, f"{' '.join(unshare)} {binary} -q sleep 600")
        sleep = descendant(bash.pid, "sleep")
        bash.wait_foreground(os.getpgid(sleep))
        os.kill(beside, signal.SIGKILL)
        wait_until(lambda: not alive(beside), "it is gone, and what is typed is not for it")
        bash.type(INTERRUPT)
        bash.expect("code=130")
        bash.expect_prompt()
        assert not alive(sleep) and not children(sleep)
