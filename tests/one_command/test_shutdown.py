"""Contract, "When a process ends": reaping, -s, -d, -t, and the end of `run` itself."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import Starter, alive, children, state, wait_until, waiting_for

# A daemon as in daemon(7): its parent has ended, and it has a session of its own. It writes its pid into a file, and
# each signal that it gets; some of them end it.
DAEMON = """
import os, signal, sys, time
path, deadly, code, depth = sys.argv[1], set(map(int, sys.argv[2].split(","))), int(sys.argv[3]), int(sys.argv[4])
every = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
ready, said = os.pipe()
for level in range(depth):
    child = os.fork()
    if child and level == 0:
        os.close(said)
        os.read(ready, 1)
        os._exit(0)
    if child:
        break
    os.setsid()
    os.write(file, b"pid %d\\n" % os.getpid())
else:
    os.write(said, b"x")
os.closerange(ready, said + 1)
while True:
    signum = signal.sigwait(every)
    os.write(file, b"signal %d\\n" % signum)
    if signum in deadly:
        os._exit(code)
"""


def daemon(path: Path, deadly: str = "0", code: int = 0, depth: int = 1) -> list[str]:
    """A command that leaves a daemon behind, which ends with the code upon one of the deadly signals only.

    With a depth of more than 1, that daemon has a child in a session of its own, which has one in turn, and so on.
    """
    return ["python3", "-S", "-c", DAEMON, str(path), deadly, str(code), str(depth)]


def pids(path: Path) -> list[int]:
    """The pids that the daemons have written down."""
    return [int(pid) for pid in re.findall(r"pid (\d+)", path.read_text() if path.exists() else "")]


def signals(path: Path) -> list[int]:
    """The signals that the daemons have taken note of."""
    return [int(signum) for signum in re.findall(r"signal (\d+)", path.read_text())]


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """The file of a daemon."""
    return tmp_path / "note"


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2"])
def test_with_s_the_signal_is_sent_to_all_that_remain_when_the_command_ends(
    start: Starter, note: Path, name: str
) -> None:
    signum = signal.Signals[f"SIG{name}"]
    code, _, log = start.result("-s", name, *daemon(note, str(int(signum)), 5))
    assert code == (137 if name == "KILL" else 5), log
    assert signals(note) == ([] if name == "KILL" else [signum])


def test_without_s_run_waits_for_what_remains(start: Starter, note: Path) -> None:
    started = start(*daemon(note, "15", 5))
    started.wait_log("exited with code 0")
    pid = wait_until(lambda: pids(note), "the daemon is there")[0]
    assert children(started.pid) == [pid]
    assert "sending" not in started.log()
    os.kill(pid, signal.SIGTERM)
    assert started.wait() == 5
    assert signals(note) == [signal.SIGTERM]


def test_with_s_the_end_of_a_re_parented_process_ends_the_command(start: Starter, note: Path) -> None:
    script = 'python3 -S -c "$1" "$2" 15 6 1; echo left; shift 2; exec "$@"'
    started = start("-s", "USR1", "sh", "-c", script, "sh", DAEMON, str(note), *waiting_for("USR1", 4))
    started.wait_out("ready")
    pid = wait_until(lambda: pids(note), "the daemon is there")[0]
    assert "shutdown" not in started.log()
    os.kill(pid, signal.SIGTERM)
    assert started.wait() == 6
    assert "sending USR1 (10)" in started.log()


def test_with_s_the_end_of_a_process_that_was_not_re_parented_is_its_parent_s_business(start: Starter) -> None:
    started = start(
        "-s", "TERM", "sh", "-c", 'true; (exit 9); sh -c "exit 3"; shift; exec "$@"', "sh", "", *waiting_for("USR1", 2)
    )
    started.wait_out("ready")
    started.send(signal.SIGUSR1)
    assert started.wait() == 2
    assert started.log().count("exited") == 1


def test_the_signal_is_sent_once(start: Starter, note: Path, tmp_path: Path) -> None:
    """However many processes end afterwards."""
    second = tmp_path / "second"
    script = 'python3 -S -c "$0" "$1" 12 1 1; python3 -S -c "$0" "$2" 10,12 2 1; exit 0'
    started = start("-s", "USR1", "sh", "-c", script, DAEMON, str(note), str(second))
    wait_until(lambda: second.exists() and signals(second), "the second has got the signal")
    wait_until(lambda: signals(note), "the first has got the signal")
    wait_until(lambda: started.log().count("exited with code 2"), "the end of the second was noticed")
    os.kill(pids(note)[0], signal.SIGUSR2)
    assert started.wait() == 2
    assert signals(note) == [signal.SIGUSR1, signal.SIGUSR2]
    assert signals(second) == [signal.SIGUSR1]
    assert started.log().count("sending") == 1


def test_with_d_the_command_s_exit_with_0_does_not_count(start: Starter, note: Path) -> None:
    started = start("-d", "-s", "TERM", *daemon(note, "10,15", 7))
    started.wait_log("exited with code 0")
    pid = wait_until(lambda: pids(note), "the daemon is there")[0]
    assert "sending" not in started.log()
    os.kill(pid, signal.SIGUSR1)
    assert started.wait() == 7
    assert signals(note) == [signal.SIGUSR1]


def test_with_d_any_other_exit_of_the_command_counts(start: Starter, note: Path) -> None:
    code, _, log = start.result("-ds", "TERM", "sh", "-c", '"$@"; exit 3', "sh", *daemon(note, "15", 7))
    assert code == 7, log
    assert signals(note) == [signal.SIGTERM]


def test_with_d_a_command_that_was_killed_counts(start: Starter, note: Path) -> None:
    assert start.result("-ds", "TERM", "sh", "-c", '"$@"; kill -KILL $$', "sh", *daemon(note, "15", 7))[0] == 137
    assert signals(note) == [signal.SIGTERM]


def test_with_d_the_end_of_a_daemon_counts_even_with_code_0(start: Starter, note: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    script = 'python3 -S -c "$0" "$1" 10 0 1; python3 -S -c "$0" "$2" 15 4 1; exit 0'
    started = start("-ds", "TERM", "sh", "-c", script, DAEMON, str(note), str(second))
    started.wait_log("exited with code 0")
    os.kill(wait_until(lambda: pids(note), "the first daemon is there")[0], signal.SIGUSR1)
    assert started.wait() == 4
    assert signals(second) == [signal.SIGTERM]


def test_with_t_KILL_follows_n_seconds_later(start: Starter, note: Path) -> None:
    began = time.monotonic()
    started = start("-s", "TERM", "-t", "1.5", *daemon(note))
    assert started.wait() == 137
    assert time.monotonic() - began >= 1.5
    assert signals(note) == [signal.SIGTERM]
    log = started.log()
    assert log.index("sending TERM (15)") < log.index("sending KILL (9)")


def test_with_t_nothing_is_waited_for_that_has_ended(start: Starter, note: Path) -> None:
    began = time.monotonic()
    assert start.result("-s", "TERM", "-t", "86400", *daemon(note, "15", 3))[0] == 3
    assert time.monotonic() - began < 3600


def test_without_t_no_KILL_is_ever_sent(start: Starter, note: Path) -> None:
    started = start("-s", "TERM", *daemon(note, "12", 3))
    wait_until(lambda: note.exists() and signals(note), "the signal has come")
    started.send(signal.SIGUSR2)
    assert started.wait() == 3
    assert "KILL (9)" not in started.log()


@pytest.mark.parametrize("pid_1", [False, True])
@pytest.mark.parametrize("depth", [2, 5, 20])
def test_KILL_is_repeated_for_what_is_re_parented_in_sessions_of_their_own(
    start: Starter, note: Path, depth: int, pid_1: bool
) -> None:
    """None of them takes TERM, and each becomes a child of `run` when its parent is killed only."""
    started = start("-s", "TERM", "-t", "0.2", *daemon(note, depth=depth), pid_1=pid_1)
    assert started.wait() == 137
    found = pids(note)
    assert len(found) == depth
    log = started.log()
    assert len(re.findall(r"pid \d+: killed by KILL \(9\)", log)) == depth
    if not pid_1:
        assert not [pid for pid in found if alive(pid)]


def test_s_KILL_is_repeated_likewise(start: Starter, note: Path) -> None:
    assert start.result("-s", "KILL", *daemon(note, depth=5))[0] == 137
    assert not [pid for pid in pids(note) if alive(pid)]


def test_KILL_also_ends_what_is_stopped(start: Starter, note: Path) -> None:
    started = start(
        "-s", "TERM", "-t", "0.2", "sh", "-c", "sleep 1000 & kill -STOP $!; read line; exit 0", stdin=subprocess.PIPE
    )
    sleeper = wait_until(
        lambda: [pid for child in children(started.pid) for pid in children(child)], "the sleeper is there"
    )[0]
    wait_until(lambda: state(sleeper) == "T", "it is stopped")
    started.process.communicate(b"go\n")
    assert started.wait() == 137


def test_the_signal_reaches_the_command_and_each_daemon_in_its_own_session_once(
    start: Starter, note: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    script = 'python3 -S -c "$0" "$1" 12 1 1; python3 -S -c "$0" "$2" 12 1 1; (exit 4) & wait; exit 0'
    started = start("-s", "USR1", "sh", "-c", script, DAEMON, str(note), str(second))
    wait_until(lambda: second.exists() and signals(note) and signals(second), "both have got the signal")
    started.send(signal.SIGUSR2)
    assert started.wait() == 1
    assert signals(note) == signals(second) == [signal.SIGUSR1, signal.SIGUSR2]


def test_zombies_are_reaped_at_once(start: Starter) -> None:
    script = "( (exit 1) & ); ( (exit 2) & ); ( (exit 3) & ); exec sleep 1000"
    started = start("sh", "-c", script)
    wait_until(lambda: started.log().count("exited with code") == 3, "all have ended")
    assert [state(child) for child in children(started.pid)] in (["S"], ["R"], ["D"])
    started.send(signal.SIGTERM)
    assert started.wait() == 143


@pytest.mark.parametrize("pid_1", [False, True])
def test_thousands_of_orphans_at_once(start: Starter, pid_1: bool) -> None:
    """All of them end at the same moment, when the pipe that they read is closed; then their parent goes on."""
    script = """
import os, sys
reader, writer = os.pipe()
middle = os.fork()
if middle == 0:
    for i in range(3000):
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(i % 100)
    os._exit(0)
os.waitpid(middle, 0)
os.close(writer)
print("all let go", flush=True)
os.read(0, 1)
os._exit(1)
"""
    reader, writer = os.pipe()
    started = start("-q", "python3", "-S", "-c", script, pid_1=pid_1, stdin=reader)
    os.close(reader)
    started.wait_out("all let go")
    wait_until(lambda: len(children(started.pid)) == 1, "all but the command are reaped")
    os.close(writer)
    assert started.wait() == 99
    assert started.log() == ""


def test_a_child_that_is_stopped_and_continued_has_not_ended(start: Starter) -> None:
    started = start("-s", "TERM", *waiting_for("USR1", 3))
    started.wait_out("ready")
    command = children(started.pid)[0]
    for _ in range(3):
        os.kill(command, signal.SIGSTOP)
        wait_until(lambda: state(command) == "T", "the command is stopped")
        os.kill(command, signal.SIGCONT)
        wait_until(lambda: state(command) == "S", "the command is continued")
    started.send(signal.SIGUSR1)
    assert started.wait() == 3
    assert started.log().count("sending") == 0


def test_children_that_run_had_before_it_was_executed_are_its_too(start: Starter, binary: str, tmp_path: Path) -> None:
    started = Starter("sh", tmp_path)("-c", f"(exit 8) & exec {binary} sh -c 'exit 2'")
    assert started.wait() == 8


def test_run_exits_when_no_process_is_left(start: Starter, note: Path) -> None:
    started = start(*daemon(note, "15", 0))
    pid = wait_until(lambda: pids(note), "the daemon is there")[0]
    started.wait_log("exited with code 0")
    assert started.process.poll() is None
    os.kill(pid, signal.SIGTERM)
    assert started.wait() == 0


def test_run_exits_at_once_without_an_interpreter_tear_down(binary: str, tmp_path: Path) -> None:
    """After the last line of the log there is exit_group(2), and nothing else."""
    trace = tmp_path / "trace"
    assert Starter("strace", tmp_path)("-qq", "-o", str(trace), binary, "sh", "-c", "exit 3").wait() == 3
    calls = [
        line.partition("(")[0] for line in trace.read_text().splitlines() if "(" in line and not line.startswith("---")
    ]
    assert calls[-2:] == ["write", "exit_group"]


def test_nothing_is_left_behind(start: Starter, note: Path) -> None:
    started = start("-s", "TERM", "-t", "0.1", *daemon(note, depth=3))
    own = started.pid
    started.wait()
    assert not alive(own)
    assert not [pid for pid in pids(note) if alive(pid)]
