"""Contract, "Starting the command": the terminal on stdin, lent to the command and taken back.

What an interactive shell makes of it is in test_job_control.py.
"""

import os
import signal
import termios
from pathlib import Path

from harness import DEADLINE, Starter, alive, children, state, wait_until
from signal_notes import RECORDER
from terminal_session import (
    END_OF_FILE,
    INTERRUPT,
    QUIT,
    READING,
    STOP_OUTPUT,
    SUSPEND,
    descendant,
    members,
    only_child,
    session,
)

# -- Foreground -------------------------------------------------------------------------------------------------------


def test_the_commands_group_is_the_foreground_group_from_its_first_instruction(binary: str) -> None:
    # Field 5 of proc(5)'s stat is the process group, field 8 the terminal's foreground group.
    script = "read pid comm state ppid group session tty foreground rest < /proc/self/stat; echo $group=$foreground."
    with session(binary, "-q", "sh", "-c", f"{script}; exec sleep 600") as terminal:
        group = only_child(terminal.pid)
        terminal.expect(f"{group}={group}.")
        assert terminal.foreground == os.getpgid(group) == group != terminal.pid


def test_run_takes_the_terminal_back_when_the_main_command_ends(binary: str) -> None:
    with session(binary, "-d", "-s", "TERM", "setsid", "-f", "sleep", "600") as terminal:
        sleep = descendant(terminal.pid, "sleep")
        terminal.expect("exited with code 0")
        terminal.wait_foreground(terminal.pid)
        assert alive(sleep)
        terminal.type(INTERRUPT)
        assert terminal.leader.wait(DEADLINE) == 130


def test_run_takes_the_terminal_back_when_the_main_command_is_killed(binary: str) -> None:
    with session(binary, "-q", "sh", "-c", "setsid -f sleep 600; kill -KILL $$") as terminal:
        descendant(terminal.pid, "sleep")
        terminal.wait_foreground(terminal.pid)
        terminal.type(QUIT)
        assert terminal.leader.wait(DEADLINE) == 137


def test_the_command_reads_the_terminal_and_interrupt_acts_on_it(binary: str) -> None:
    with session(binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        terminal.line("something")
        terminal.expect("got=something")
        terminal.type(INTERRUPT)
        assert terminal.leader.wait(DEADLINE) == 130


def test_without_a_shell_suspend_has_no_lasting_effect(binary: str) -> None:
    with session(binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        for word in ("one", "two", "three"):
            terminal.type(SUSPEND)
            terminal.expect("continued")
            terminal.line(word)
            terminal.expect(f"got={word}")
        terminal.type(END_OF_FILE)
        assert terminal.leader.wait(DEADLINE) == 0


def test_a_change_of_the_windows_size_reaches_the_command(binary: str) -> None:
    with session(binary, "-q", *READING) as terminal:
        terminal.expect("ready")
        terminal.resize(33, 77)
        terminal.expect("77 33")


def test_a_change_of_the_windows_size_reaches_a_daemon_after_the_main_command(binary: str) -> None:
    with session(binary, "-d", "-s", "TERM", "setsid", "-f", *RECORDER, "daemon") as terminal:
        terminal.expect("daemon ready")
        terminal.wait_foreground(terminal.pid)
        terminal.resize(33, 77)
        terminal.expect(f"daemon got {signal.SIGWINCH:d}")


# -- The terminal goes away -------------------------------------------------------------------------------------------


def test_everything_ends_when_the_terminal_of_a_session_led_by_run_is_hung_up(binary: str) -> None:
    with session(binary, "-q", "sh", "-c", "setsid -f sleep 600; exec sleep 601") as terminal:
        wait_until(lambda: len(children(terminal.pid)) == 2, "the daemon is adopted")
        pids = children(terminal.pid)
        wait_until(lambda: {Path(f"/proc/{pid}/comm").read_text() for pid in pids} == {"sleep\n"}, "both sleep")
        terminal.hang_up()
        assert terminal.leader.wait(DEADLINE) == 128 + signal.SIGHUP
        assert not any(map(alive, pids))


def test_everything_ends_when_the_terminal_of_an_interactive_shell_is_hung_up(binary: str) -> None:
    with session() as bash:
        bash.line(f"{binary} -q sh -c 'setsid -f sleep 600; exec sleep 601'")
        run = only_child(bash.pid)
        wait_until(lambda: len(children(run)) == 2, "the daemon is adopted")
        pids = children(run)
        wait_until(lambda: {Path(f"/proc/{pid}/comm").read_text() for pid in pids} == {"sleep\n"}, "both sleep")
        bash.hang_up()
        wait_until(lambda: not any(map(alive, [run, *pids])), "run and its processes end")
        bash.leader.wait(DEADLINE)
        assert members(bash.pid) == []


# -- Other terminals, other settings ----------------------------------------------------------------------------------


def test_a_terminal_that_is_not_the_controlling_one_is_an_ordinary_file(start: Starter) -> None:
    master, slave = os.openpty()
    try:
        started = start("cat", stdin=slave, start_new_session=True)
        os.write(master, b"something\n")
        started.wait_out("something")
        os.write(master, END_OF_FILE.encode())
        assert started.wait() == 0
    finally:
        os.close(master)
        os.close(slave)


def test_the_controlling_terminal_is_left_alone_when_stdin_is_another(binary: str) -> None:
    master, slave = os.openpty()
    try:
        with session() as bash:
            bash.line(f"{binary} -q cat < {os.ttyname(slave)}")
            run = only_child(bash.pid)
            cat = descendant(run, "cat")
            assert bash.foreground == run
            os.write(master, b"something\n")
            bash.expect("something")
            bash.type(INTERRUPT)
            bash.expect("> ")
            assert not alive(cat)
    finally:
        os.close(master)
        os.close(slave)


def test_the_log_is_written_and_run_ends_where_the_terminal_stops_writers_in_the_background(binary: str) -> None:
    with session() as bash:
        bash.line("stty tostop")
        bash.expect("> ")
        bash.line(f"{binary} sh -c 'echo wr''itten; setsid -f sleep 0.1'; echo code=$?")
        for text in ("started sh", "written", "exited with code 0", "exiting with code 0", "code=0", "> "):
            bash.expect(text)


def is_stopped(path: str) -> bool:
    """Whether a write to this terminal would block."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        os.write(fd, b".")
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_output_that_is_stopped_does_not_keep_run_from_ending(binary: str) -> None:
    with session(binary, "sleep", "600") as terminal:
        terminal.expect("started sleep")
        sleep = descendant(terminal.pid, "sleep")
        terminal.type(STOP_OUTPUT)
        wait_until(lambda: is_stopped(f"/proc/{terminal.pid}/fd/0"), "output is stopped")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.leader.wait(DEADLINE) == 143
        assert not alive(sleep)


def test_the_terminals_settings_are_left_as_they_are(binary: str) -> None:
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        with session() as bash:
            bash.line(f"{binary} -q true < {os.ttyname(slave)}; echo code=$?")
            bash.expect("code=0")
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


# -- An interactive shell as the command ------------------------------------------------------------------------------


def test_an_interactive_shell_as_the_command_has_its_own_job_control(binary: str) -> None:
    with session(binary, "-q", "bash", "--norc", "--noprofile", "-i") as terminal:
        shown = terminal.expect("<1> ")
        assert "no job control" not in shown
        terminal.line("sleep 600")
        sleep = descendant(terminal.pid, "sleep")
        terminal.wait_foreground(os.getpgid(sleep))
        terminal.type(SUSPEND)
        terminal.expect("Stopped")
        terminal.expect("<2> ")
        assert state(sleep) == "T"
        terminal.line("fg")
        terminal.wait_foreground(os.getpgid(sleep))
        terminal.type(INTERRUPT)
        terminal.expect("<3> ")
        terminal.line("exit 5")
        assert terminal.leader.wait(DEADLINE) == 5


def test_an_interactive_shell_under_run_under_an_interactive_shell(binary: str) -> None:
    with session() as outer:
        outer.line(f"{binary} -q bash --norc --noprofile -i; echo code=$?")
        inner = descendant(outer.pid, "bash")
        outer.expect("<1> ")
        outer.line("sleep 600")
        sleep = descendant(inner, "sleep")
        outer.wait_foreground(os.getpgid(sleep))
        outer.type(SUSPEND)
        outer.expect("Stopped")
        outer.expect("<2> ")
        outer.line("fg")
        outer.wait_foreground(os.getpgid(sleep))
        outer.type(INTERRUPT)
        outer.expect("<3> ")
        outer.line("exit 5")
        outer.expect("code=5")
        outer.expect("> ")
        outer.wait_foreground(outer.pid)
