"""What the tests of `run -c` share: services apart from every other `run` of the machine, and clients beside them."""

import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import AS_PID_1, DEADLINE, Started, Starter, status, wait_until
from serving import FOREVER, Journal, Server, Services, wait_pid

APART = ("unshare", "--mount")
"""The words before those of a `run` that has a mount namespace of its own, so that no other one is found there."""

Answer = tuple[int, str, str]
"""What a client has ended with: exit code, stdout, log."""


DONE: Answer = (0, "", "")
"""What it ends with when an order is done."""

OTHER = {"command": FOREVER}
"""A service beside those that a test is about."""

IN_AN_HOUR = {"restart": "always", "restart_delay": 3600, "restart_max_delay": 3600}
"""What a service has whose next life does not begin by itself while a test looks on."""


def refused(*reasons: str) -> Answer:
    """What a client ends with that is told these reasons."""
    return 1, "", "".join(f"run: [error] {reason}\n" for reason in reasons)


class Box:
    """A `run` with services, and what is asked of it."""

    def __init__(self, start: Starter, started: Started, pid_1: bool) -> None:
        """Take what starts clients, and the `run` that was started."""
        self._start = start
        self._namespaces = ("--mount", "--pid") if pid_1 else ("--mount",)
        self.started = started
        self._listens = False

    @property
    def run(self) -> int:
        """The pid of `run`, as seen from here."""
        return self.started.pid

    def beside(self, *words: str) -> tuple[str, ...]:
        """The words before those of a command that is to run in the box, in a session from outside: `docker exec`."""
        return ("nsenter", "--target", str(self.run), *self._namespaces, *words)

    def wait_until_it_listens(self) -> None:
        """Wait until its socket is in /proc/net/unix, or it has ended."""
        if not self._listens:
            table = Path("/proc/net/unix")

            def listens() -> bool:
                if self.started.process.poll() is not None:
                    raise AssertionError(f"run has ended before it could be asked:\n{self.started.log()}")
                return f" @{self.place}\n" in table.read_text(errors="replace")

            wait_until(listens, f"run listens at @{self.place}")
            self._listens = True

    def client(self, *words: str, within: Sequence[str] = (), **options: Any) -> Started:
        """Start `run -c` in the box, once it listens; within are words before it, such as those of setpriv(1)."""
        self.wait_until_it_listens()
        return self._start("-c", *words, prefix=self.beside(*within), **options)

    def ask(self, *words: str, within: Sequence[str] = (), **options: Any) -> Answer:
        """What `run -c` says."""
        client = self.client(*words, within=within, **options)
        return client.wait(), client.out(), client.log()

    def services(self) -> dict[str, dict[str, Any]]:
        """What `json` tells, by name."""
        code, out, log = self.ask("json")
        assert (code, log) == (0, "")
        return {service["name"]: service for service in map(json.loads, out.splitlines())}

    def wait_for(self, name: str, **values: Any) -> dict[str, Any]:
        """Wait until `json` has these values for a service; return all that it has."""

        def found() -> dict[str, Any]:
            service = self.services()[name]
            return service if values.items() <= service.items() else {}

        return wait_until(found, f"{name} with {values}")

    @property
    def place(self) -> str:
        """The name of the abstract socket, without its first byte."""
        run = self.run
        namespace = re.sub("[^0-9]", "", os.readlink(f"/proc/{run}/ns/mnt"))
        return f"run/{namespace}/{status(run)['NSpid'].split()[-1]}"

    def connect(self) -> socket.socket:
        """A connection of our own, once it listens; to a `run` that is not PID 1, for it has to be in our namespace."""
        self.wait_until_it_listens()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(f"\0{self.place}")
        connection.settimeout(DEADLINE)
        return connection

    def talk(self, request: object) -> list[dict[str, Any]]:
        """What a request of our own is answered with."""
        with self.connect() as connection:
            connection.sendall(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
            return [json.loads(line) for line in received(connection).splitlines()]

    def cpu_seconds(self) -> float:
        """What `run` itself has used of a processor so far: /proc/PID/schedstat, in nanoseconds."""
        return int(Path(f"/proc/{self.run}/schedstat").read_text().split()[0]) / 1e9

    def private_kilobytes(self) -> int:
        """The memory that `run` has written to, once it has answered: its private dirty pages."""
        self.services()
        rollup = Path(f"/proc/{self.run}/smaps_rollup").read_text()
        return int(re.findall(r"^Private_Dirty: +(\d+) kB$", rollup, re.MULTILINE)[0])

    def descriptors(self) -> int:
        """How many it has open, once it listens."""
        self.wait_until_it_listens()
        return len(os.listdir(f"/proc/{self.run}/fd"))

    def stop(self) -> int:
        """End it by TERM; return the exit code."""
        self.started.send(15)
        return self.started.wait()


def slowness() -> float:
    """How many times as long as usual this machine takes for some work, at least 1: an emulated one takes many times.

    For limits of processor time, which would say nothing of `run` there.
    """
    begin = time.thread_time()
    for _ in range(200):
        json.loads(json.dumps({"names": [f"n{number}" for number in range(100)]}))
    return max(1.0, (time.thread_time() - begin) / 0.005)


def received(connection: socket.socket) -> bytes:
    """All that comes, until the other side closes."""
    data = b""
    try:
        while more := connection.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


class Boxes:
    """Starts services, each time in a box of their own."""

    def __init__(self, serve: Server, start: Starter) -> None:
        """Take what starts services, and what starts clients."""
        self._serve = serve
        self._start = start

    def __call__(
        self, services: Services, *options: str, pid_1: bool = False, prefix: Sequence[str] = (), **more: Any
    ) -> Box:
        """Start these services: see Server; a prefix is what stands between the namespaces and `run`."""
        words = (*(AS_PID_1 if pid_1 else APART), *prefix)
        return Box(self._start, self._serve(services, *options, prefix=words, **more), pid_1)


@pytest.fixture
def box(serve: Server, start: Starter) -> Boxes:
    """Start services apart from every other `run`, and ask them by `run -c`."""
    return Boxes(serve, start)


def steadily(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition holds for so long: only for what would be wrong at once, if it ever was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.01)
    return True


def check(way: Mapping[str, object] | None = None, **times: object) -> dict[str, object]:
    """A healthcheck that asks often, and has all the time of a slow machine, unless it says otherwise."""
    often = {"interval": 0.02, "start_interval": 0.02, "timeout": DEADLINE, "start_period": DEADLINE}
    return {**(way or {}), **often, **times}


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """A file that is not there yet: a healthcheck may wait for it."""
    return tmp_path / "flag"


def until(flag: Path) -> dict[str, object]:
    """The healthcheck that fails until a file is there."""
    return check({"test": ["CMD-SHELL", f"[ -e {flag} ] || exit 1"]})


def probed(journal: Journal, failures: str) -> list[str]:
    """A test that notes each probe, and fails the probes of these numbers: a pattern of a shell, such as 1|2|3."""
    return ["CMD-SHELL", f"{journal.note('probe')}; case $(grep -c probe {journal.path}) in {failures}) exit 1;; esac"]


@pytest.fixture
def b(box: Boxes) -> Box:
    """A `run` with two services, ready to be asked."""
    made = box({"web": OTHER, "db": OTHER})
    wait_pid(made.started, "db")
    return made


STATUS = b'{"action": "status", "words": []}\n'
"""A request."""


def assert_served(b: Box) -> None:
    """Fail unless those who ask are answered, and nothing had to be said of others."""
    assert b.ask("health") == DONE
    assert set(b.services()) >= {"web", "db"}
    assert "internal" not in b.started.log() and "[error]" not in b.started.log()
