"""Contract, "Control": only root and the user of `run`, within its pid namespace, are answered; both sides look."""

import os
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from controlling import DONE, OTHER, STATUS, Box, Boxes, received, refused
from harness import Started, Starter, children, status, wait_until
from serving import FOREVER, PYTHON, Server, pids, wait_pid

NOT_ACCEPTED = refused("no answer: root, or the user of `run`, in the same pid namespace is accepted")

OWN, ANOTHER = "1234", "5678"


def as_user(uid: str) -> tuple[str, ...]:
    """The words that start a program as another user, without capabilities."""
    return ("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups")


@pytest.fixture
def public_box(copied: Starter, public: Path) -> Boxes:
    """Starts services from a file, and a `run`, that any user may read and execute."""
    return Boxes(Server(copied, public), copied)


def ask_raw(b: Box, uid: int) -> str:
    """What another user's process, in our own namespaces, is answered by the socket itself."""
    program = f"""
import socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("\\0{b.place}")
try:
    connection.sendall({STATUS!r})
    print(connection.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print("closed")
"""
    return subprocess.run([*PYTHON, program], user=uid, env={}, check=True, capture_output=True, text=True).stdout


# -- Which user --------------------------------------------------------------------------------------------------------


def test_to_a_run_of_root_only_root_is_accepted(public_box: Boxes) -> None:
    b = public_box({"web": OTHER})
    pid = wait_pid(b.started, "web")
    for words in (["status"], ["json"], ["health"], ["stop", "web"], ["restart", "web"], ["signal", "KILL", "web"]):
        assert b.ask(*words, within=as_user(ANOTHER)) == NOT_ACCEPTED
    assert ask_raw(b, int(ANOTHER)) in ("b''\n", "closed\n")
    assert b.ask("health") == DONE
    assert b.services()["web"]["pid"] == pid
    assert "order" not in b.started.log() and "[error]" not in b.started.log()


@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
def test_to_a_run_of_a_user_that_user_and_root_are_accepted(public_box: Boxes, pid_1: bool) -> None:
    b = public_box({"web": OTHER}, prefix=as_user(OWN), pid_1=pid_1)
    wait_pid(b.started, "web")
    assert b.ask("health") == DONE
    assert b.ask("health", within=as_user(OWN)) == DONE
    assert b.ask("health", within=as_user(ANOTHER)) == NOT_ACCEPTED
    assert b.ask("restart", "web", within=as_user(OWN)) == DONE
    assert b.ask("restart", "web") == DONE
    assert b.ask("restart", "web", within=as_user(ANOTHER)) == NOT_ACCEPTED
    assert len(pids(b.started, "web")) == 3


def test_a_service_of_another_user_cannot_ask(public_box: Boxes, copied: Starter, public: Path) -> None:
    """And one of the same user can: it may do to `run` whatever it likes anyway."""
    answer = public / "answer"
    answer.touch(0o666)
    answer.chmod(0o666)
    script = f"{copied.binary} -c health >{answer} 2>&1; echo $? >>{answer}; {FOREVER}"
    public_box({"web": {"command": script, "user": ANOTHER}})
    wait_until(lambda: answer.read_text().endswith("1\n"), "it has asked")
    assert answer.read_text() == NOT_ACCEPTED[2] + "1\n"
    answer.write_text("")
    public_box({"web": {"command": script}})
    wait_until(lambda: answer.read_text().endswith("\n"), "it has asked")
    assert answer.read_text() == "0\n"


# -- Which pid namespace -----------------------------------------------------------------------------------------------


def test_who_asks_from_a_pid_namespace_below_is_not_accepted(b: Box) -> None:
    for words in (["health"], ["stop", "web"]):
        told = "it is not the `run` of this container that answers, but pid 0 of uid 0"
        assert b.ask(*words, within=("unshare", "--pid", "--fork")) == refused(told)
    raw = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{b.place}')\n"
    send = f"s.sendall({STATUS!r}); print(s.recv(100))"
    answer = subprocess.run(["unshare", "--pid", "--fork", *PYTHON, raw + send], capture_output=True, check=False)
    assert answer.stdout in (b"b''\n", b"")
    assert b.ask("health") == DONE


def test_who_asks_from_a_pid_namespace_above_is_not_accepted(serve: Server, start: Starter) -> None:
    """A host's root sees the socket, if it shares the network; and sees by its pid that it is another one's.

    Here it shares the mount namespace, too. Who is within is accepted, though /proc tells of other processes.
    """
    started = serve({"web": OTHER}, prefix=("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"))
    b = Box(start, started, pid_1=True)
    b.started.wait_log("started")
    b.wait_until_it_listens()
    code, out, log = start.result("-c", "health", prefix=("nsenter", "--target", str(b.run), "--mount"))
    assert (code, out, log) == refused(f"it is not the `run` of this container that answers, but pid {b.run} of uid 0")
    with b.connect() as connection:
        with suppress(BrokenPipeError):
            connection.sendall(STATUS)
        assert received(connection) == b""
    assert b.ask("health") == DONE


# -- Who sits on the name ----------------------------------------------------------------------------------------------


class Late:
    """A `run` as PID 1, with namespaces of its own, that is executed once a test says so."""

    def __init__(self, start: Starter, serve: Server) -> None:
        """Make the namespaces."""
        file = serve.file({"web": OTHER})
        wait = (
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
            "sh",
            "-c",
            'read _; exec "$@"',
            "sh",
        )
        self.started: Started = start("-f", str(file), prefix=wait, stdin=subprocess.PIPE)
        self.box = Box(start, self.started, pid_1=True)
        wait_until(lambda: children(self.started.process.pid), "the shell is there")
        wait_until(
            lambda: os.readlink(f"/proc/{self.box.run}/ns/mnt") != os.readlink("/proc/self/ns/mnt"), "it is apart"
        )

    def squat(self) -> socket.socket:
        """Listen at its place, as another one does."""
        squatter = socket.socket(socket.AF_UNIX)
        squatter.bind(f"\0{self.box.place}")
        squatter.listen()
        squatter.settimeout(60)
        return squatter

    def go(self) -> None:
        """Let it be executed."""
        assert self.started.process.stdin
        self.started.process.stdin.write(b"\n")
        self.started.process.stdin.flush()


@pytest.fixture
def late(start: Starter, serve: Server) -> Late:
    """A `run` that waits to be executed."""
    return Late(start, serve)


def test_a_name_that_is_taken_is_a_warning_and_who_has_it_is_told_nothing(late: Late) -> None:
    with closing(late.squat()) as squatter:
        late.go()
        late.started.wait_log("started")
        place = late.box.place
        late.started.wait_log("cannot listen at")
        warning = f"run: [warn] cannot listen at @{place}: Address already in use: 'run -c' will not work\n"
        assert late.started.log().count(warning) == 1
        for words in (["status"], ["stop", "web"]):
            told = "it is not the `run` of this container that answers, but pid 0 of uid 0"
            assert late.box.ask(*words) == refused(told)
            with closing(squatter.accept()[0]) as connection:
                assert connection.recv(1) == b"", "what was to be asked is not said"
        late.started.send(15)
        assert late.started.wait() == 0


def test_a_name_that_was_taken_only_for_a_while_is_tried_again(late: Late) -> None:
    """As by a container that shares the network, and ends just now: its mount namespace is gone before its sockets."""
    with closing(late.squat()):
        late.go()
        late.started.wait_log("cannot listen at")
    late.started.wait_log(f"run: [info] listening at @{late.box.place}: 'run -c' works now\n")
    assert late.box.ask("health") == DONE
    assert late.started.log().count("cannot listen at") == 1


def test_a_name_that_stays_taken_is_not_tried_for_ever(late: Late) -> None:
    """It is tried each second, for ten seconds: then `run` sleeps, longer than between two tries."""
    with closing(late.squat()):
        late.go()
        wait_pid(late.started, "web")
        since: dict[str, float] = {}

        def sleeps() -> bool:
            begin = since.setdefault(status(late.box.run)["voluntary_ctxt_switches"], time.monotonic())
            return time.monotonic() - begin > 3

        wait_until(sleeps, "run sleeps for three seconds")
        assert len(since) >= 5
        assert late.started.log().count("cannot listen at") == 1


def test_a_name_cannot_be_taken_from_a_run_and_is_not_believed_after_it(late: Late) -> None:
    late.go()
    wait_pid(late.started, "web")
    late.box.wait_until_it_listens()
    with pytest.raises(OSError, match="in use"):
        late.squat()
    assert late.box.ask("health") == DONE


def test_who_answers_nonsense_at_the_name_of_its_own_pid_is_understood_by_nobody(
    start: Starter, tmp_path: Path
) -> None:
    """It is root, and has taken the name that a `run` with this pid would have."""
    answers = [b"[]\n", b"1\n", b"nonsense\n", b'{"code": "x"}\n', b'{"service": 1}\n{"code": 0, "errors": []}\n']
    program = f"""
import os, re, socket
namespace = re.sub("[^0-9]", "", os.readlink("/proc/self/ns/mnt"))
listening = socket.socket(socket.AF_UNIX)
listening.bind(f"\\0run/{{namespace}}/{{os.getpid()}}")
listening.listen()
print("ready", flush=True)
for answer in {answers!r} + [b'{{"accepted": true}}\\n']:
    connection, _ = listening.accept()
    connection.recv(1000)
    connection.sendall(answer)
    connection.close()
"""
    (tmp_path / "impostor").mkdir()
    impostor = Starter("unshare", tmp_path / "impostor")("--mount", *PYTHON, program)
    impostor.wait_out("ready\n")
    beside = ("nsenter", "--target", str(impostor.pid), "--mount")
    for _ in answers:
        assert start.result("-c", "status", prefix=beside) == refused("the answer cannot be understood")
    ended = "`run` has ended, or has no patience any more, before all was said"
    assert start.result("-c", "stop", "web", prefix=beside) == refused(ended)
