"""Contract, "Control", where SO_PEERCRED tells who asks, and not who is at the other end, as in gVisor.

Both sides are traced, so that the kernel tells them themselves; then the credentials that come with a message count.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

import pytest
from controlling import APART, DONE, Answer
from faults import STRACE
from harness import DEADLINE, Started, Starter, status, wait_until
from serving import FOREVER, Server

FOLLOW = "import os, signal, sys; os.kill(os.getpid(), signal.SIGSTOP); os.execv(sys.argv[1], sys.argv[1:])"
"""A program that stops itself, and then becomes another one."""

Blind = Callable[[int], None]
Ask = Callable[..., Answer]


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Blind]:
    """Makes SO_PEERCRED tell a process itself."""
    tracers: list[tuple[subprocess.Popen[bytes], Path]] = []

    def attach(pid: int) -> None:
        trace = tmp_path / f"trace-{pid}"
        own = pack("iII", pid, 0, 0).hex()
        words = [STRACE, "-o", str(trace), "-e", "trace=getsockopt", "-p", str(pid)]
        words += ["-e", f"inject=getsockopt:poke_exit=@arg4={own}"]
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE)
        tracers.append((tracer, trace))
        assert tracer.stderr and b"attached" in tracer.stderr.readline()

    yield attach
    for tracer, trace in tracers:
        tracer.terminate()
        tracer.wait(DEADLINE)
        assert "SO_PEERCRED" in trace.read_text(), "nobody has asked"


def place(pid: int) -> str:
    """Where this process listens."""
    return f"run/{os.readlink(f'/proc/{pid}/ns/mnt')[5:-1]}/{pid}"


def wait_until_it_listens(pid: int) -> None:
    """Wait until it does."""
    wait_until(lambda: f"@{place(pid)}\n" in Path("/proc/net/unix").read_text(), "it listens")


@pytest.fixture
def blinded(serve: Server, blind: Blind) -> Started:
    """A `run` that is told of itself."""
    started = serve({"web": {"command": FOREVER}}, prefix=APART)
    started.wait_log("started")
    wait_until_it_listens(started.pid)
    blind(started.pid)
    return started


@pytest.fixture
def ask(binary: str, tmp_path: Path, blind: Blind) -> Ask:
    """Asks the `run` that a process may be, as one that is told of itself, too."""
    folder = tmp_path / "clients"
    folder.mkdir()
    client = Starter(sys.executable, folder)

    def asked(pid: int, *words: str) -> Answer:
        beside = ("nsenter", "--target", str(pid), "--mount")
        started = client("-c", FOLLOW, binary, "-c", *words, prefix=beside)
        wait_until(lambda: status(started.pid).get("State", "").startswith("T"), "it has stopped itself")
        blind(started.pid)
        os.kill(started.pid, signal.SIGCONT)
        return started.wait(), started.out(), started.log()

    return asked


def test_status_and_orders(blinded: Started, ask: Ask) -> None:
    code, table, log = ask(blinded.pid, "status")
    assert (code, log) == (0, "") and "web" in table and "ready" in table
    assert ask(blinded.pid, "stop", "web") == DONE
    assert ask(blinded.pid, "health") == (1, "web is stopped\n", "")
    assert "order from pid " in blinded.log() and f"order from pid {blinded.pid}" not in blinded.log()


def raw(started: Started, uid: int, *, with_credentials: bool) -> bytes:
    """What a process is answered that root has connected, and that says as this user who it is, or says nothing."""
    asker = """
import os, socket, struct, sys
uid, told = int(sys.argv[2]), []
asker = socket.socket(socket.AF_UNIX)
asker.connect("\\0" + sys.argv[1])
os.setresuid(uid, uid, uid)
if sys.argv[3] == "True":
    told = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", os.getpid(), uid, 0))]
try:
    asker.sendmsg([b'{"action": "health", "words": []}\\n'], told)
    print(asker.recv(100) or "closed")
except OSError:
    print("closed")
"""
    words = [sys.executable, "-c", asker, place(started.pid), str(uid), str(with_credentials)]
    return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout


def test_who_may_ask_is_known_by_the_credentials_of_the_request(blinded: Started) -> None:
    assert b'"code": 0' in raw(blinded, 0, with_credentials=True)
    assert raw(blinded, 12345, with_credentials=True) == b"closed\n"
    assert raw(blinded, 12345, with_credentials=False) == b"closed\n"


def test_who_answers_is_known_by_the_credentials_of_the_answer(tmp_path: Path, ask: Ask) -> None:
    """It is a child of the one that listens at its place."""
    script = """
import os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind(f"\\0run/{os.readlink('/proc/self/ns/mnt')[5:-1]}/{os.getpid()}")
listener.listen()
if os.fork() == 0:
    connection, _ = listener.accept()
    connection.recv(100)
    connection.sendall(b'{"code": 0, "errors": []}\\n')
    os._exit(0)
os.wait()
"""
    impostor = Starter(sys.executable, tmp_path)("-c", script, prefix=APART)
    wait_until_it_listens(impostor.pid)
    code, out, log = ask(impostor.pid, "health")
    assert (code, out) == (1, "")
    assert "it is not the `run` of this container that answers, but pid " in log and f"pid {impostor.pid} " not in log
    assert impostor.wait() == 0
