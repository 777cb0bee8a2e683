"""Contract, "A service's life": by what all is stopped, in whatever state the services are then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import DEADLINE, Starter, children, state, wait_until
from serving import AWAKE, FOREVER, PID_1, Journal, Server, events, log_lines, pids, wait_pid
from terminal_session import INTERRUPT, QUIT, SUSPEND, descendant, session


@PID_1
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_TERM_INT_and_QUIT_from_outside_stop_all(serve: Server, signum: signal.Signals, pid_1: bool) -> None:
    """By the stop signal of each, and not by the one that has come."""
    services = {"web": {"command": FOREVER, "stop_signal": "USR1"}, "db": {"command": FOREVER}}
    started = serve(services, "-t3600", pid_1=pid_1)
    wait_pid(started, "db")
    started.send(signum)
    assert started.wait() == 0
    assert (
        sum(line.startswith(f"shutdown, since {signum.name[3:]} ({signum:d}) has come") for line in log_lines(started))
        == 1
    )
    assert [events(started, name)[-1] for name in ("web", "db")] == [
        "killed by USR1 (10); stopped",
        "killed by TERM (15); stopped",
    ]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_one_changes_nothing(serve: Server, journal: Journal, signum: int) -> None:
    wait = f"until [ -e {journal.path}.go ]; do sleep 0.01; done; exit 0"
    started = serve({"web": {"command": journal.told("web", wait)}}, "-t3600")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    journal.wait("web told")
    for _ in range(3):
        started.send(signum)
    Path(f"{journal.path}.go").touch()
    assert started.wait() == 0
    assert started.log().count("shutdown") == started.log().count("sending") == 1


@PID_1
def test_INT_a_second_time_kills_all(serve: Server, journal: Journal, pid_1: bool) -> None:
    deaf = f"trap '' TERM INT; {journal.note('ready')}; {FOREVER}"
    orphan = f'(setsid sh -c "{deaf}" &)'
    services = {
        "db": {"command": deaf, "stop_grace_period": 3600},
        "web": {"command": f"{orphan}; {deaf}", "depends_on": ["db"], "restart": "always"},
    }
    started = serve(services, "-t7200", pid_1=pid_1)
    journal.wait("ready", 3)
    started.send(signal.SIGINT)
    started.wait_log("sending TERM (15) to web")
    assert "KILL" not in started.log()
    started.send(signal.SIGINT)
    assert started.wait() == 137
    for name in "web", "db":
        assert events(started, name)[1:] == ["killed by KILL (9); failed"]  # and no word of a grace that is over
    assert sum(line.startswith("killing what is left, since INT (2) has come") for line in log_lines(started)) == 1


def test_INT_after_TERM_is_not_the_second_INT(serve: Server, journal: Journal) -> None:
    wait = f"until [ -e {journal.path}.go ]; do sleep 0.01; done; exit 0"
    started = serve({"web": {"command": journal.told("web", wait)}}, "-t3600")
    journal.wait("web ready")
    started.send(signal.SIGTERM)
    journal.wait("web told")
    started.send(signal.SIGINT)
    Path(f"{journal.path}.go").touch()
    assert started.wait() == 0


# -- Terminals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "name"), [(INTERRUPT, "INT (2)"), (QUIT, "QUIT (3)")])
def test_the_terminals_keys_stop_all(binary: str, serve: Server, key: str, name: str) -> None:
    """Nobody but `run` is in the terminal's session, so that the keys reach `run` alone."""
    file = serve.file({"web": {"command": f"trap 'exit 77' INT QUIT; echo ready; {AWAKE}"}})
    with session(binary, "-f", str(file)) as terminal:
        terminal.expect("ready")
        terminal.type(key)
        terminal.expect(f"shutdown, since {name} has come")
        terminal.expect("exiting with code 0")
        assert terminal.leader.wait(DEADLINE) == 0


def test_the_terminals_hangup_stops_all(binary: str, serve: Server, journal: Journal) -> None:
    """The HUP of the kernel; one that a process sends is passed on."""
    traps = f"trap '{journal.note('hup')}' HUP; trap '{journal.note('term')}; exit 0' TERM"
    file = serve.file({"web": {"command": f"{traps}; {journal.note('ready')}; {AWAKE}", "output": "null"}})
    with session(binary, "-f", str(file)) as terminal:
        journal.wait("ready")
        terminal.hang_up()
        assert terminal.leader.wait(DEADLINE) == 0
    assert journal.lines() == ["ready", "term"]


def test_ctrl_z_stops_run_and_not_the_services(serve: Server, binary: str, journal: Journal) -> None:
    """They have no terminal, and go on; the shell sees its job stopped, and `fg` continues it."""
    file = serve.file({"web": {"command": f"while :; do {journal.note('tick')}; sleep 0.05; done", "output": "null"}})
    with session() as shell:
        shell.line(f"{binary} -f {file}")
        run = descendant(shell.pid, "run")
        journal.wait("tick")
        shell.type(SUSPEND)
        shell.expect("Stopped")
        assert state(run) == "T"
        journal.wait("tick", len(journal.lines()) + 3)
        shell.line("fg")
        wait_until(lambda: state(run) != "T", "run goes on")
        shell.type(INTERRUPT)
        shell.expect("exiting with code 0")


# -- In whatever state -------------------------------------------------------------------------------------------------


@PID_1
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_before_anything_was_started_it_is_0_and_nothing_is(
    serve: Server, journal: Journal, signum: signal.Signals, pid_1: bool
) -> None:
    """A signal that is pending when `run` is executed."""
    services = {"web": {"command": journal.note("web")}, "later": {"command": journal.note("later")}}

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
        os.kill(os.getpid(), signum)

    if pid_1:
        # PID 1's own: the shell that becomes `run` sends it to itself, where it is blocked and stays pending.
        program = f"import os, signal, sys; signal.pthread_sigmask(0, [{signum:d}]); os.kill(os.getpid(), {signum:d}); "
        program += "os.execv(sys.argv[1], sys.argv[1:])"
        prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", sys.executable, "-c", program)
        started = serve(services, prefix=prefix)
    else:
        started = serve(services, preexec_fn=setup)
    assert started.wait() == 0
    assert journal.lines() == []
    assert log_lines(started)[1:] == [
        *(
            line
            for line in log_lines(started)
            if line.startswith(f"shutdown, since {signum.name[3:]} ({signum:d}) has come")
        ),
        "no process is left: exiting with code 0",
    ]


def test_who_was_not_started_yet_is_not_started_any_more(serve: Server, journal: Journal, tmp_path: Path) -> None:
    """The oneshot succeeds after all, upon the signal."""
    services = {
        "migrate": {"command": journal.told("migrate"), "oneshot": True},
        "web": {"command": journal.note("web"), "depends_on": ["migrate"]},
    }
    started = serve(services, "-t3600")
    journal.wait("migrate ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines() == ["migrate ready", "migrate told"]


def test_in_the_middle_of_two_hundred_starts(serve: Server, journal: Journal) -> None:
    """Each is started once or not at all, and each that was is stopped."""
    services = {f"s{number}": {"command": f"{journal.note('up')}; {FOREVER}"} for number in range(200)}
    started = serve(services, "-t3600")
    journal.wait("up")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    counts = [len(pids(started, name)) for name in services]
    assert set(counts) <= {0, 1}
    assert started.log().count("; stopped") == sum(counts)


def test_who_restarts_all_the_time_is_not_started_again(serve: Server, journal: Journal) -> None:
    keys = {"command": f"{journal.note('life')}; exit 1", "restart": "always", "restart_delay": 0.001}
    started = serve({f"s{number}": keys for number in range(10)}, "-t3600")
    journal.wait("life", 30)
    started.send(signal.SIGTERM)
    assert started.wait() in (0, 1), "by the moments at which they were stopped"
    after = started.log().partition("shutdown")[2]
    assert after and "): started" not in after


@PID_1
def test_a_service_that_is_stopped_by_STOP_is_killed_when_the_grace_is_over(serve: Server, pid_1: bool) -> None:
    started = serve({"web": {"command": FOREVER}}, "-t0.5", pid_1=pid_1)
    os.kill(wait_pid(started, "web"), signal.SIGSTOP)
    started.wait_log("stopped by STOP (19)")
    started.send(signal.SIGTERM)
    assert started.wait() == 137


def test_of_two_essential_services_that_end_together_the_shutdown_is_one(serve: Server) -> None:
    started = serve({name: {"command": "exit 0"} for name in ("a", "b", "c")}, "-t3600")
    assert started.wait() == 0
    assert started.log().count("shutdown") == 1


def test_when_run_is_killed_its_services_get_their_stop_signal(serve: Server, journal: Journal) -> None:
    """Each one's parent-death signal is its stop signal."""
    services = {
        name: {"command": journal.told(name, by=name), "stop_signal": name, "output": "null"}
        for name in ("TERM", "USR1", "INT")
    }
    started = serve(services)
    for name in services:
        journal.wait(f"{name} ready")
    started.process.kill()
    for name in services:
        journal.wait(f"{name} told")
    assert started.wait() == -signal.SIGKILL


@pytest.mark.parametrize("user", ["0:0", "65534:65534", "0:77"])
def test_when_the_parent_of_run_dies_whose_signal_run_gets_all_is_stopped(
    start: Starter, serve: Server, journal: Journal, user: str
) -> None:
    """A `run` within another one, also where services are other users': it gets TERM, as its parent-death signal."""
    file = serve.file({"web": {"command": journal.told("web"), "user": user}})
    outer = start("-qq", start.binary, "-f", str(file))
    journal.wait("web ready")
    outer.process.kill()
    journal.wait("web told")


def test_docker_stop_by_way_of_a_shell_that_becomes_run(serve: Server, binary: str) -> None:
    """`exec run` in a script that PID 1 was: the same process, with children from before."""
    file = serve.file({"web": {"command": FOREVER}})
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c"]
    process = subprocess.Popen([*words, 'sleep 1000 & exec "$@"', "sh", binary, "-qf", str(file)])
    try:
        [run] = wait_until(lambda: children(process.pid), "run is there")
        wait_until(lambda: len(children(run)) == 2, "both are its children")
        os.kill(run, signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
