"""Contract, "A service's life": signals that do not stop all are passed on to each main process that catches them."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Started, alive, children, signal_numbers, signals, wait_until
from serving import FOREVER, NO_PROC, PID_1, Journal, Server, log_lines, wait_pid
from signal_notes import FORWARDED
from terminal_session import session

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
PASSED_ON = [signum for signum in FORWARDED if signum not in STOPPING]


def got(started: Started, name: str) -> list[int]:
    """The signals that this catcher says it has got."""
    return [int(number) for number in re.findall(rf"^{name} +\| {name} got (\d+) from", started.out(), re.MULTILINE)]


def wait_got(started: Started, name: str, *signums: int) -> None:
    """Wait until this catcher has got as many signals, and these."""
    wait_until(lambda: len(got(started, name)) >= len(signums), f"{name} got {signums}: {started.out()}")
    assert got(started, name) == list(signums)


def wait_ready(started: Started, *names: str) -> None:
    """Wait until these catchers catch signals."""
    for name in names:
        started.wait_out(f"{name} ready")


@PID_1
def test_every_signal_is_passed_on_to_each_main_process_that_catches_it(
    serve: Server, catcher: str, pid_1: bool
) -> None:
    started = serve({name: {"command": [catcher, name]} for name in ("a", "b")}, pid_1=pid_1)
    wait_ready(started, "a", "b")
    for count, signum in enumerate(PASSED_ON, 1):
        started.send(signum)
        for name in ("a", "b"):
            wait_got(started, name, *PASSED_ON[:count])
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@PID_1
@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 2, signal.SIGPROF])
def test_who_does_not_catch_it_does_not_get_it(serve: Server, catcher: str, signum: int, pid_1: bool) -> None:
    """Each of these would be the end of a process without a handler."""
    started = serve({"plain": {"command": FOREVER}, "nginx": {"command": [catcher, "nginx"]}}, pid_1=pid_1)
    wait_ready(started, "nginx")
    plain = wait_pid(started, "plain")
    started.send(signum)
    wait_got(started, "nginx", signum)
    (line,) = [line for line in log_lines(started) if line.startswith("forwarding")]
    assert " to nginx (pid " in line and "plain" not in line
    started.send(signal.SIGURG)
    wait_got(started, "nginx", signum, signal.SIGURG)
    assert alive(plain)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_who_ignores_or_blocks_it_does_not_get_it_either(serve: Server, catcher: str) -> None:
    """SigCgt of proc(5) has those with a handler, and no others."""
    blocked = "import signal; signal.pthread_sigmask(0, [1]); print('ready', flush=True); signal.sigwait([1])"
    started = serve(
        {
            "deaf": {"command": f"trap '' HUP; echo ready; {FOREVER}"},
            "waits": {"command": [sys.executable, "-c", blocked]},
            "a": {"command": [catcher, "a"]},
        }
    )
    wait_ready(started, "a")
    started.wait_out("deaf  | ready")
    started.wait_out("waits | ready")
    started.send(signal.SIGHUP)
    wait_got(started, "a", signal.SIGHUP)
    assert not signals(wait_pid(started, "waits"), "ShdPnd")
    assert sum("forwarding HUP (1)" in line and " to a (pid " in line for line in log_lines(started)) == 1
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_where_nobody_catches_it_the_log_says_so(serve: Server) -> None:
    started = serve({"web": {"command": FOREVER}})
    pid = wait_pid(started, "web")
    started.send(signal.SIGHUP)
    started.wait_log(f"forwarding HUP (1) from pid {os.getpid()} to nobody, since no service catches it")
    assert alive(pid)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_a_main_process_gets_it_alone_and_not_its_group(serve: Server, catcher: str) -> None:
    started = serve({"main": {"command": f"{catcher} child & {catcher} away >/dev/null & exec {catcher} main"}})
    started.wait_out("main | child ready")
    wait_ready(started, "main")
    for signum in (signal.SIGHUP, signal.SIGUSR2):
        started.send(signum)
    wait_got(started, "main", signal.SIGHUP, signal.SIGUSR2)
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert re.findall(r"child got (\d+)", started.out()) == ["15"], "the stop signal alone"


@PID_1
def test_real_time_signals_are_passed_on_as_often_as_they_were_queued(serve: Server, catcher: str, pid_1: bool) -> None:
    started = serve({"a": {"command": [catcher, "a"]}}, "-q", pid_1=pid_1)
    wait_ready(started, "a")
    for _ in range(200):
        started.send(signal.SIGRTMIN + 5)
    wait_until(lambda: len(got(started, "a")) >= 200, "all have come")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert got(started, "a") == [signal.SIGRTMIN + 5] * 200 + [signal.SIGTERM]


def test_the_value_of_sigqueue_is_passed_on_in_the_name_of_its_sender(serve: Server, catcher: str) -> None:
    started = serve({"a": {"command": [catcher, "a"]}, "b": {"command": [catcher, "b"]}})
    wait_ready(started, "a", "b")
    libc = ctypes.CDLL(None, use_errno=True)
    for value in (5, -77, 1 << 30):
        assert libc.sigqueue(started.pid, signal.SIGUSR1, ctypes.c_void_p(value & 0xFFFFFFFFFFFFFFFF)) == 0
        for name in ("a", "b"):
            started.wait_out(f"{name} got 10 from {os.getpid()} value {value}\n")
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_services_that_are_not_running_are_skipped(serve: Server, catcher: str, journal: Journal) -> None:
    """Not begun, done, failed, waiting for the next life, and ended but for its group."""
    rest = f"trap '' HUP; {journal.note('rest')}; {FOREVER}"
    group = f'sh -c "{rest}" & until [ -s {journal.path} ]; do sleep 0.01; done; exit 0'
    started = serve(
        {
            "slow": {"command": FOREVER, "oneshot": True},
            "not-begun": {"command": "exit 1", "depends_on": ["slow"]},
            "done": {"command": "exit 0", "oneshot": True},
            "bad": {"command": "exit 1", "essential": False},
            "waiting": {"command": "exit 1", "restart": "always", "restart_delay": 60},
            "left": {"command": group},
            "a": {"command": [catcher, "a"]},
        },
        "-t1",
    )
    wait_ready(started, "a")
    for text in (
        "next start in 60 s",
        "exited with code 0; done",
        "exited with code 1; failed",
        "others of its process",
    ):
        started.wait_log(text)
    started.send(signal.SIGHUP)
    wait_got(started, "a", signal.SIGHUP)
    (line,) = [line for line in log_lines(started) if line.startswith("forwarding")]
    assert re.fullmatch(rf"forwarding HUP \(1\) from pid {os.getpid()} to a \(pid \d+\)", line)
    assert "[warn] cannot send" not in started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 1


def test_each_life_gets_those_of_its_own_time(serve: Server, catcher: str) -> None:
    started = serve({"a": {"command": [catcher, "a"], "restart": "always", "restart_delay": 0.01}})
    wait_ready(started, "a")
    started.send(signal.SIGHUP)
    wait_got(started, "a", signal.SIGHUP)
    os.kill(wait_pid(started, "a"), signal.SIGKILL)
    wait_pid(started, "a", 2)
    wait_until(lambda: started.out().count("a ready") == 2, "the second life is ready")
    started.send(signal.SIGUSR1)
    wait_got(started, "a", signal.SIGHUP, signal.SIGUSR1)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


@pytest.mark.parametrize("prefix", [NO_PROC, (*NO_PROC, "unshare", "--pid", "--fork", "--kill-child=KILL")])
def test_without_proc_a_signal_goes_to_nobody(serve: Server, catcher: str, prefix: tuple[str, ...]) -> None:
    """Who catches it cannot be known, and HUP would kill who does not. Those that stop all are heard as ever."""
    started = serve({"a": {"command": [catcher, "a"]}}, prefix=prefix)
    wait_ready(started, "a")
    started.send(signal.SIGHUP)
    started.wait_log(" to nobody, since no service catches it")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert got(started, "a") == [signal.SIGTERM]


def test_a_signal_that_no_process_has_sent_is_not_passed_on(binary: str, serve: Server, catcher: str) -> None:
    """The WINCH of a terminal: it is for those in the terminal's foreground, and comes from the kernel."""
    file = serve.file({"a": {"command": [catcher, "a"]}})
    with session(binary, "-f", str(file)) as terminal:
        terminal.expect("a ready")
        terminal.resize(33, 44)
        wait_until(lambda: signal.SIGWINCH not in signals(terminal.pid, "ShdPnd"), "run has taken it")
        os.kill(terminal.pid, signal.SIGURG)
        shown = terminal.expect("a got 23")
        assert "a got 28" not in shown and "WINCH" not in shown


@PID_1
def test_nobody_stops_run_by_a_terminal_stop_and_nobody_gets_it(serve: Server, catcher: str, pid_1: bool) -> None:
    started = serve({"a": {"command": [catcher, "a"]}}, pid_1=pid_1)
    wait_ready(started, "a")
    for signum in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGPIPE):
        started.send(signum)
    started.send(signal.SIGUSR1)
    wait_got(started, "a", signal.SIGUSR1)
    started.send(signal.SIGTERM)
    assert started.wait() == 0


# -- None is lost ------------------------------------------------------------------------------------------------------


@PID_1
def test_none_is_lost_in_a_storm_of_ends(serve: Server, catcher: str, pid_1: bool) -> None:
    """Orphans by the hundred, services that restart all the time, and each real-time signal comes exactly once."""
    started = serve(
        {
            "a": {"command": [catcher, "a"]},
            "storm": {"command": "while :; do (/bin/true &); (/bin/true &); done", "output": "null"},
            "shaky": {"command": "exit 1", "restart": "always", "restart_delay": 0.001, "restart_max_delay": 0.001},
        },
        "-q",
        pid_1=pid_1,
    )
    wait_ready(started, "a")
    for _ in range(10):
        for signum in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
            started.send(signum)
    wait_until(lambda: len(got(started, "a")) >= 310, "all have come")
    assert sorted(got(started, "a")) == sorted(list(range(signal.SIGRTMIN, signal.SIGRTMAX + 1)) * 10)
    wait_until(lambda: not [p for p in children(started.pid) if not alive(p)] or started.process.poll(), "no zombie")
    started.send(signal.SIGTERM)
    assert started.wait() in (0, 1), "by the moment at which the one that restarts was stopped"


def test_those_that_were_pending_when_run_was_executed_are_taken(serve: Server, tmp_path: Path, binary: str) -> None:
    """HUP has nobody to go to yet, and TERM that comes behind it stops all."""
    program = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [1, 15])\n"
        "os.kill(os.getpid(), 1); os.kill(os.getpid(), 15)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    file = serve.file({"web": {"command": FOREVER}})
    done = subprocess.run(
        [sys.executable, "-c", program, binary, "-f", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "shutdown, since TERM (15) has come" in done.stderr and "started" not in done.stderr


def test_a_proc_of_another_pid_namespace_does_not_tell_who_catches_a_signal(serve: Server, catcher: str) -> None:
    """A service has the number there of a process that catches HUP. It does not, and would die."""
    theirs = subprocess.Popen([catcher, "theirs"], stdout=subprocess.PIPE)
    try:
        wait_until(lambda: signal.SIGHUP in signals(theirs.pid, "SigCgt"), "it catches HUP")
        as_theirs = f'echo {theirs.pid - 1} >/proc/sys/kernel/ns_last_pid; exec "$@"'
        prefix = ("unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-ec", as_theirs, "sh")
        started = serve({"web": {"command": ["/bin/sleep", "1000"]}}, prefix=prefix)
        started.wait_log(f"web (pid {theirs.pid}): started")
        started.send(signal.SIGHUP)
        started.wait_log("forwarding HUP (1) to ")
        assert "forwarding HUP (1) to nobody" in started.log()
        started.send(signal.SIGTERM)
        assert started.wait() == 0
    finally:
        theirs.kill()
        theirs.communicate()


def test_the_services_get_the_signal_mask_and_dispositions_that_run_was_given(serve: Server, tmp_path: Path) -> None:
    """And none of those that `run` itself has changed."""

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGRTMIN + 9})
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    started = serve({"web": {"command": "exec cat /proc/self/status"}}, preexec_fn=setup)
    assert started.wait() == 0
    fields = dict(line.partition("| ")[2].split(":\t") for line in started.out().splitlines() if ":\t" in line)
    given = {name: signal_numbers(int(fields[name], 16)) for name in ("SigBlk", "SigIgn")}
    assert given["SigBlk"] == signals(os.getpid(), "SigBlk") | {signal.SIGUSR2, signal.SIGRTMIN + 9}
    assert given["SigIgn"] == signals(os.getpid(), "SigIgn") - {signal.SIGPIPE, signal.SIGXFSZ} | {signal.SIGALRM}
