"""Contract, "When a process ends": a job is stopped as a whole, and only what Ctrl-Z has stopped is continued.

That concerns `run` with services, whose main command may have ended, and with daemons.
"""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from harness import alive, children, state, wait_until
from terminal_session import INTERRUPT, READING, SUSPEND, Session, only_child, session

UNSHARE = "unshare --pid --fork --kill-child=KILL --mount-proc"

WITHOUT_A_SHELL = {"leader": [], "PID_1": [*UNSHARE.split(), "setsid", "--ctty"]}
"""Words before those of `run`, which then leads its session: Ctrl-Z has no lasting effect."""


@pytest.fixture
def bash() -> Iterator[Session]:
    """An interactive shell on a terminal of its own."""
    with session() as started:
        yield started


def wait_states(pids: list[int], letter: str) -> None:
    """Wait until all are in this state, a letter of proc(5)."""
    wait_until(lambda: {state(pid) for pid in pids} == {letter}, f"{pids} are in state {letter}")


def named(run: int, name: str) -> list[int]:
    """The children of `run` of this name."""
    found = []
    for pid in children(run):
        with open(f"/proc/{pid}/comm") as file:
            if file.read() == name + "\n":
                found.append(pid)
    return found


# -- After the main command -------------------------------------------------------------------------------------------

SLEEP = "env --default-signal=INT sleep 600 &"
"""A service that INT ends: without job control a shell makes INT ignored for what it starts with &."""

SERVICES = {
    "in_the_commands_group": f"sh -ec '{SLEEP} {SLEEP}'",
    "in_groups_of_their_own": f"bash -ec 'set -m; {SLEEP} {SLEEP}'",
}


@pytest.mark.parametrize("command", SERVICES.values(), ids=SERVICES)
def test_suspend_stops_all_services_fg_continues_them_and_interrupt_ends_them_after_the_main_command(
    bash: Session, binary: str, command: str
) -> None:
    bash.line(f"{binary} -q -ds TERM {command}; echo code=$?")
    run = only_child(bash.pid)
    services = wait_until(lambda: len(found := named(run, "sleep")) == len(children(run)) == 2 and found, "both run")
    assert services
    bash.wait_foreground(run)
    for _ in range(2):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        wait_states(services, "T")
        bash.line("fg")
        bash.wait_foreground(run)
        wait_states(services, "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not any(map(alive, services))


def test_bg_continues_all_services_after_the_main_command(bash: Session, binary: str) -> None:
    bash.line(f"{binary} -q -ds TERM {SERVICES['in_the_commands_group']}")
    run = only_child(bash.pid)
    services = wait_until(lambda: len(found := named(run, "sleep")) == len(children(run)) == 2 and found, "both run")
    assert services
    bash.wait_foreground(run)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    wait_states(services, "T")
    bash.line("bg")
    wait_states([run, *services], "S")
    bash.expect_prompt()


# -- A daemon that was stopped on purpose -----------------------------------------------------------------------------

DAEMONS = {
    "in_a_session_of_its_own": "setsid -f sleep 600",
    "in_a_group_of_its_own": "bash -c 'set -m; sleep 600 &'",
}


@pytest.fixture(params=list(DAEMONS.values()), ids=list(DAEMONS))
def daemon(request: pytest.FixtureRequest) -> str:
    """A command that leaves `sleep` behind."""
    return str(request.param)


def stopped_daemon(run: int) -> int:
    """Stop the daemon of `run` on purpose; return its pid."""
    (pid,) = wait_until(lambda: named(run, "sleep"), "the daemon is adopted")
    os.kill(pid, signal.SIGSTOP)
    wait_states([pid], "T")
    return pid


def forwarded(terminal: Session, run: int, signum: signal.Signals) -> str:
    """Send `run` a signal until its log shows it; return what the terminal has shown until then.

    The kernel refuses a line (EAGAIN) while the command itself is writing to the terminal: then it is dropped.
    """

    def shows() -> str:
        os.kill(run, signum)
        try:
            return terminal.expect(f"forwarding {signum.name.removeprefix('SIG')} ({signum:d}) ", 1)
        except AssertionError:
            return ""

    return wait_until(shows, f"the log shows {signum.name}")


def handled(terminal: Session, run: int) -> str:
    """Wait until `run` has handled all that came before; return what the terminal has shown until then."""
    return forwarded(terminal, run, signal.SIGURG)  # it is ignored by default: signal(7)


def reader(daemon: str) -> list[str]:
    """A command that starts the daemon and becomes READING."""
    return ["sh", "-c", f'{daemon}; exec "$@"', "sh", *READING]


def quoted(words: list[str]) -> str:
    """For a shell's command line; each on one line."""
    return " ".join("$'" + re.sub(r"(['\\])", r"\\\1", word).replace("\n", "\\n") + "'" for word in words)


def test_suspend_and_fg_leave_a_daemon_stopped_that_was_stopped_on_purpose(
    bash: Session, binary: str, daemon: str
) -> None:
    bash.line(f"{binary} -s TERM {quoted(reader(daemon))}")
    bash.expect("\nready")
    run = only_child(bash.pid)
    pid = stopped_daemon(run)
    for word in ("one", "two"):
        bash.type(SUSPEND)
        bash.expect("Stopped")
        bash.expect_prompt()
        bash.line("fg")
        bash.expect("continued")
        bash.line(word)
        bash.expect(f"got={word}")
        handled(bash, run)
        assert state(pid) == "T"


@pytest.mark.parametrize("prefix", WITHOUT_A_SHELL.values(), ids=WITHOUT_A_SHELL)
def test_suspend_without_a_shell_leaves_a_daemon_stopped_that_was_stopped_on_purpose(
    binary: str, prefix: list[str], daemon: str
) -> None:
    with session(*prefix, binary, *reader(daemon)) as terminal:
        terminal.expect("\nready")
        run = leader(terminal)
        pid = stopped_daemon(run)
        for _ in range(2):
            terminal.type(SUSPEND)
            terminal.expect("continued")
            handled(terminal, run)
            assert state(pid) == "T"


@pytest.mark.parametrize("prefix", WITHOUT_A_SHELL.values(), ids=WITHOUT_A_SHELL)
def test_the_log_does_not_say_that_a_CONT_is_forwarded_which_nobody_has_sent(binary: str, prefix: list[str]) -> None:
    with session(*prefix, binary, *READING) as terminal:
        terminal.expect("\nready")
        run = leader(terminal)
        terminal.type(SUSPEND)
        shown = terminal.expect("continued")
        assert "forwarding CONT" not in shown + handled(terminal, run)
        forwarded(terminal, run, signal.SIGCONT)


def leader(terminal: Session) -> int:
    """The pid of `run`, which leads its session: what was started, or the child of unshare(1)."""
    with open(f"/proc/{terminal.pid}/comm") as file:
        return only_child(terminal.pid) if file.read() == "unshare\n" else terminal.pid


def test_a_CONT_that_a_process_sends_to_run_continues_a_daemon_that_was_stopped_on_purpose(
    bash: Session, binary: str, daemon: str
) -> None:
    bash.line(f"{binary} -s TERM {quoted(reader(daemon))}")
    bash.expect("\nready")
    run = only_child(bash.pid)
    pid = stopped_daemon(run)
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    bash.line("fg")
    bash.expect("continued")
    handled(bash, run)
    forwarded(bash, run, signal.SIGCONT)
    wait_states([pid], "S")
    bash.type(INTERRUPT)
    bash.expect_prompt()
    assert not alive(pid)


def test_suspend_does_nothing_to_a_daemon_in_a_session_of_its_own_after_the_main_command(
    bash: Session, binary: str
) -> None:
    bash.line(f"{binary} -ds TERM sh -ec 'setsid -f sleep 600; {SLEEP}'")
    run = only_child(bash.pid)
    both = wait_until(lambda: len(found := named(run, "sleep")) == len(children(run)) == 2 and found, "both run")
    assert both
    bash.wait_foreground(run)
    bash.expect("exited with code 0")
    bash.type(SUSPEND)
    bash.expect("Stopped")
    bash.expect_prompt()
    wait_until(lambda: sorted(map(state, both)) == ["S", "T"], "one of them is stopped")
    bash.line("fg")
    wait_states(both, "S")
    bash.type(INTERRUPT)
    bash.expect("exiting with code")
    bash.expect_prompt()
    assert not any(map(alive, both))
