"""Contract, "When a process ends": an orphan of a session from outside does not count while its leader lives."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from engine import Container, Containers
from harness import Starter, children, wait_until

ORPHAN = '(setsid true; sh -c "exit $0" &); echo made; read line'
"""A shell that leaves an orphan, which ends with this code, and then waits: for as long as its stdin is open."""

LEAVER = '(sh -c "while kill -0 $$ 2>/dev/null; do sleep 0.1; done; exit $0" &); exit 0'
"""A shell that leaves an orphan, which ends with this code once the shell has ended and is no zombie any more."""

OPTIONS = pytest.mark.parametrize("options", ["-s", "-ds"])


class Session:
    """A session that came into a pid namespace from outside, in which an orphan ends with a code."""

    def __init__(self, words: list[str], code: int) -> None:
        """Start the shell by these words."""
        command = [*words, "sh", "-c", ORPHAN, str(code)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        """Let the leader end."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@OPTIONS
def test_an_orphan_of_docker_exec_counts_for_the_exit_code_alone(
    options: str, containers: Containers, image: str
) -> None:
    container = containers(image, options, "TERM", "sleep", "1000")
    container.wait_log("started")
    session = Session(["docker", "exec", "-i", container.name], 201)
    try:
        container.wait_log("exited with code 201")
        wait_until(lambda: "shutdown" in container.logs() or names(container) == ["run", "sh", "sleep"], "both live")
        assert "shutdown" not in container.logs(), container.logs()
        container.kill("USR1")
        assert container.exit_code() == 201
        assert main_has_begun_the_shutdown(container.logs())
    finally:
        session.process.kill()
        session.close()


def main_has_begun_the_shutdown(log: str) -> bool:
    """Whether the log says that it was the main command's end, and no other."""
    main = re.findall(r"pid (\d+): started", log)
    return re.findall(r"shutdown, since pid (\d+) has ended", log) == main


def names(container: Container) -> list[str]:
    """The names of all its processes."""
    return sorted(process.name for process in container.processes())


@OPTIONS
def test_once_the_leader_of_docker_exec_has_ended_an_orphan_counts(
    options: str, containers: Containers, image: str
) -> None:
    container = containers(image, options, "TERM", "sleep", "1000")
    container.wait_log("started")
    subprocess.run(["docker", "exec", container.name, "sh", "-c", LEAVER, "201"], check=True)
    assert container.exit_code() == 201
    assert "shutdown" in container.logs()


PID_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "setsid")
"""`run` is PID 1, and the leader of its own session."""


@pytest.fixture(params=["leader-inside", "leader-outside"])
def enter(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The words that enter a namespace: the session's leader comes from outside, or stays there and shows as 0."""
    yield ["setsid"] if request.param == "leader-inside" else []


@OPTIONS
def test_an_orphan_of_nsenter_counts_for_the_exit_code_alone(options: str, start: Starter, enter: list[str]) -> None:
    started = start(options, "TERM", "sleep", "1000", prefix=PID_1)
    started.wait_log("started")
    session = Session(["nsenter", "--target", str(started.pid), "--pid", "--mount", *enter], 201)
    try:
        wait_until(lambda: "exited with code 201" in started.log() or started.process.poll() is not None, "the orphan")
        assert "shutdown" not in started.log(), started.log()
        os.kill(children(started.pid)[0], signal.SIGUSR1)
        assert started.wait() == 201
        assert main_has_begun_the_shutdown(started.log()), started.log()
    finally:
        session.process.kill()
        session.close()


@OPTIONS
def test_once_the_leader_of_nsenter_has_ended_an_orphan_counts(options: str, start: Starter) -> None:
    started = start(options, "TERM", "sleep", "1000", prefix=PID_1)
    started.wait_log("started")
    words = ["nsenter", "--target", str(started.pid), "--pid", "--mount", "setsid"]
    subprocess.run([*words, "sh", "-c", LEAVER, "201"], check=True)
    assert started.wait() == 201
    assert "shutdown" in started.log()
