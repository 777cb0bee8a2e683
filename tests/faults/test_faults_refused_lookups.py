"""Contract, "Bad days": refused lookups of process groups, and close_range(2) refused where there is no /proc."""

import errno
import os
import signal
import subprocess

import pytest
from harness import AS_PID_1, DEADLINE, Starter, children, state, wait_until

EACCES = str(errno.EACCES)


@pytest.mark.fault("getpgid", "EACCES")
@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
def test_CONT_is_forwarded_where_getpgid_is_refused(start: Starter, refuse: str, pid_1: bool) -> None:
    prefix = (*(AS_PID_1 if pid_1 else ()), refuse, "getpgid", EACCES)
    started = start("-q", "sh", "-c", "trap 'exit 7' CONT; echo ready; while :; do sleep 0.01; done", prefix=prefix)
    started.wait_out("ready")
    started.send(signal.SIGCONT)
    assert started.wait() == 7, started.log()
    assert "internal" not in started.log()


@pytest.mark.fault("getpgid", "EACCES")
def test_a_stopped_command_is_waited_for_where_getpgid_is_refused(start: Starter, refuse: str) -> None:
    started = start("sh", "-c", "kill -STOP $$; exit 7", prefix=(refuse, "getpgid", EACCES))
    wait_until(lambda: "stopped by" in started.log() or started.process.poll() is not None, "the stop is logged")
    assert started.process.poll() is None, started.log()
    [command] = children(started.pid)
    wait_until(lambda: state(command) == "T", "the command is stopped")
    os.kill(command, signal.SIGCONT)
    assert started.wait() == 7, started.log()


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_stdout_is_closed_without_close_range_and_proc(binary: str, refuse: str, error: str) -> None:
    """The command closes its own, and waits for us to see the end of it."""
    script = 'mount -t tmpfs none /proc && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", refuse, "close_range", str(getattr(errno, error))]
    command = ["sh", "-c", "exec >&-; echo closed >&2; read _; exit 5"]
    process = subprocess.Popen(
        [*words, binary, "-q", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout and process.stderr and process.stdin
        assert process.stderr.readline() == b"closed\n"
        os.set_blocking(process.stdout.fileno(), False)
        stdout = process.stdout
        wait_until(lambda: stdout.read(1) == b"", "end-of-file", 30)
    finally:
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 5
