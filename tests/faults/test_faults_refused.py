"""Contract, "Bad days": system calls that a container engine refuses for ever, to all processes: seccomp(2).

Nothing is traced here. Some filters tell calls of the same number apart, as strace(1) does not.
"""

import errno
import signal

import pytest
from faults import GOING_ON, assert_clear, assert_told, errnos, went_on
from harness import AS_PID_1, DEADLINE, Starter, children, state, wait_until
from terminal_session import Session, session

SANDBOX = ("EPERM", "ENOSYS")
HELD = ("/bin/sh", "-c", "echo started; read _; exit 7")


def each(call: str, page: str, *, all_errnos: bool = False) -> list[object]:
    """A call to refuse, by its name for refuse.c and that of the table, with what a sandbox answers, or every errno."""
    errors = errnos(page) if all_errnos else SANDBOX
    return [pytest.param(call, error, id=f"{call}-{error}", marks=pytest.mark.fault(page, error)) for error in errors]


def refused(refuse: str, call: str, error: str, pid_1: bool) -> tuple[str, ...]:
    """The words that start the binary without this call."""
    return (*(AS_PID_1 if pid_1 else ()), refuse, call, str(getattr(errno, error)))


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
@pytest.mark.parametrize(
    ("call", "error"),
    [*each("fork", "fork"), *each("pdeathsig", "prctl", all_errnos=True), *each("setpgid", "setpgid")],
)
def test_nothing_is_started_without(start: Starter, refuse: str, call: str, error: str, pid_1: bool) -> None:
    code, out, log = start.result("-q", "/bin/echo", "started", prefix=refused(refuse, call, error, pid_1))
    assert (code, out) == (125, ""), log
    assert_clear(log, error)


@pytest.mark.parametrize(("call", "error"), each("subreaper", "prctl", all_errnos=True))
def test_only_PID_1_can_do_without_being_a_subreaper(start: Starter, refuse: str, call: str, error: str) -> None:
    script = "echo started; ( (exit 9) & ); exit 7"
    code, out, log = start.result("-q", "/bin/sh", "-c", script, prefix=refused(refuse, call, error, pid_1=False))
    assert (code, out) == (125, ""), log
    assert_clear(log, error)
    result = start.result("-q", "/bin/sh", "-c", script, prefix=refused(refuse, call, error, pid_1=True))
    assert result == (9, "started\n", "")


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
@pytest.mark.parametrize(("call", "error"), each("sigtimedwait", "sigwaitinfo"))
def test_without_waiting_for_signals_the_command_runs(
    start: Starter, refuse: str, call: str, error: str, pid_1: bool
) -> None:
    started = start("-q", *HELD, stdin=-1, prefix=refused(refuse, call, error, pid_1))
    started.wait_log(went_on("signals", error))
    started.wait_out("started\n")
    started.close_stdin()
    assert (started.wait(), started.log()) == (7, went_on("signals", error))


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
@pytest.mark.parametrize(("call", "error"), each("wait4", "waitid"))
def test_without_waiting_for_processes_the_command_runs_and_it_is_125(
    start: Starter, refuse: str, call: str, error: str, pid_1: bool
) -> None:
    """Its end is seen, but not how it ended."""
    started = start("-q", *HELD, stdin=-1, prefix=refused(refuse, call, error, pid_1))
    started.wait_log(went_on("processes", error))
    started.wait_out("started\n")
    started.send(signal.SIGURG)
    assert len(children(started.pid)) == 1
    started.close_stdin()
    last = went_on("processes", error).replace(GOING_ON, "")
    assert (started.wait(), started.log()) == (125, went_on("processes", error) + last)


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
@pytest.mark.parametrize(("call", "error"), each("kill", "kill"))
def test_without_signals_the_command_runs(start: Starter, refuse: str, call: str, error: str, pid_1: bool) -> None:
    words = ("-q", "-s", "TERM", "/bin/sh", "-c", "exec 3<&0; echo started; cat <&3 & exit 7")
    started = start(*words, stdin=-1, prefix=refused(refuse, call, error, pid_1))
    started.wait_log("[warn]")
    started.close_stdin()
    assert (started.wait(), started.out()) == (7, "started\n")
    assert_told(started.log(), error, ["TERM"])


# -- tcsetpgrp ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error"), each("tcsetpgrp", "tcsetpgrp", all_errnos=True))
def test_a_terminal_that_cannot_be_lent_is_still_there_to_write_to(
    binary: str, refuse: str, call: str, error: str
) -> None:
    """The command's own group is not the terminal's foreground group then: fields 5 and 8 of proc(5)'s stat."""
    script = (
        "read pid comm state ppid group session tty foreground rest </proc/self/stat; echo $((group == foreground))."
    )
    words = (refuse, call, str(getattr(errno, error)), binary, "sh", "-c", f"echo started; {script}; exit 7")
    with session(*words) as terminal:
        shown = terminal.expect("exiting with code 7")
        assert terminal.leader.wait(DEADLINE) == 7
        assert "started\r\n" in shown and "\n0.\r\n" in shown
        assert "[error]" not in shown


@pytest.mark.parametrize(("call", "error"), each("tcsetpgrp", "tcsetpgrp", all_errnos=True))
def test_a_command_that_cannot_get_the_terminal_is_stopped_once_when_it_reads(
    binary: str, refuse: str, call: str, error: str
) -> None:
    """Reading in the background is what stops it, and to continue it would change nothing: tcsetpgrp(3), termios(3)."""
    with session(refuse, call, str(getattr(errno, error)), binary, "sh", "-c", "echo started; read x") as terminal:
        terminal.expect("stopped by TTIN")
        stops = wait_until(
            lambda: 1 if stays_stopped(terminal) else stopped_again(terminal), "the command stays stopped"
        )
        assert stops == 1, "stopped and continued again and again"


def stays_stopped(terminal: Session) -> bool:
    """Whether the command is stopped, and `run` asleep, whenever one looks."""
    for _ in range(50):
        command = children(terminal.pid)
        if not command or (state(terminal.pid), state(command[0])) != ("S", "T"):
            return False
    return True


def stopped_again(terminal: Session) -> int:
    """Wait for two more stops, for one may be on its way; say how many, or 0 if they do not come at once."""
    try:
        terminal.expect("stopped by TTIN", 1)
        terminal.expect("stopped by TTIN", 1)
    except AssertionError:
        return 0
    return 3
