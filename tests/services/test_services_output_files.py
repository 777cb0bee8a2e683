"""Contract, "Output": whatever stdout and stderr are, every line arrives, and what `run` was given stays as it is."""

import errno
import fcntl
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bad_stderr import BAD, Kind
from harness import Starter, wait_until
from identity import as_user, without
from readers import KINDS, Ends, appended, file, pipe, reader, stream, tcp, terminal
from serving import FOREVER, NO_PROC, Journal, Server, Services

Made = Callable[[Path], Ends]

EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

COUNT = 2000
SCRIPT = f"i=0; while [ $((i += 1)) -le {COUNT} ]; do echo $0 $i; echo $0 err $i >&2; done; exit 0"
FLOOD: Services = {
    name: {"command": ["sh", "-c", SCRIPT.replace("$", "$$"), name], "oneshot": True} for name in ("a", "b")
}


def plain(lines: list[str]) -> list[str]:
    """The same without the colours that a terminal shows."""
    return [re.sub(r"\x1b\[\d*m", "", line) for line in lines]


def assert_whole(lines: list[str], what: str) -> None:
    """Fail unless these lines have all that the flood writes to a stream, in order."""
    for name in FLOOD:
        own = [line for line in plain(lines) if re.match(rf"{name} \| {name} {what}\d", line)]
        assert own == [f"{name} | {name} {what}{number}" for number in range(1, COUNT + 1)]


@EACH
@pytest.mark.parametrize("quiet", ["-q", "-n"], ids=["quiet", "with-the-log"])
def test_stdout_and_stderr_are_different(serve: Server, tmp_path: Path, kind: Made, quiet: str) -> None:
    with ExitStack() as stack:
        for name in ("out", "err"):
            (tmp_path / name).mkdir()
        out, stdout = stack.enter_context(reader(kind, tmp_path / "out"))
        err, stderr = stack.enter_context(reader(kind, tmp_path / "err"))
        for each in (out, err):
            if kind not in (file, appended):
                each.begin()
        started = serve(FLOOD, *(["-q"] if quiet == "-q" else []), stdout=stdout, stderr=stderr)
        assert started.wait() == 0
        os.close(stdout)
        os.close(stderr)
        for each in (out, err):
            if kind in (file, appended):
                each.begin()
            each.end()
        assert_whole(out.lines, "")
        assert_whole(err.lines, "err ")
        assert len(out.lines) == 2 * COUNT
        assert all(re.match(r"[ab] \| |run: \[info\] ", line) for line in plain(err.lines))


TWICE = [made for made in KINDS.values() if made not in (stream, tcp)]
"""Those that can be opened once more; sockets cannot."""


@pytest.mark.parametrize(("kind", "times"), [*((made, 1) for made in KINDS.values()), *((made, 2) for made in TWICE)])
def test_stdout_and_stderr_are_one_file(serve: Server, tmp_path: Path, kind: Made, times: int) -> None:
    """One descriptor, or one each. No line is cut by another one, neither by those of `run` itself."""
    with reader(kind, tmp_path) as (both, fd):
        if kind not in (file, appended):
            both.begin()
        other = fd if times == 1 else os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        started = serve(FLOOD, stdout=fd, stderr=other)
        assert started.wait() == 0
        for number in {fd, other}:
            os.close(number)
        if kind in (file, appended):
            both.begin()
        both.end()
        assert_whole(both.lines, "")
        assert_whole(both.lines, "err ")
        rest = [line for line in plain(both.lines) if not re.match(r"[ab] \| [ab] (err )?\d+$", line)]
        assert len(rest) == 7 and all(line.startswith("run: [info] ") for line in rest)


@EACH
def test_O_NONBLOCK_and_all_other_flags_of_what_run_was_given_are_left(
    serve: Server, tmp_path: Path, kind: Made
) -> None:
    for flag in (0, os.O_NONBLOCK):
        (tmp_path / str(flag)).mkdir()
        with reader(kind, tmp_path / str(flag)) as (out, fd):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | flag)
            before = fcntl.fcntl(fd, fcntl.F_GETFL)
            started = serve({"web": {"command": f"echo up; {FOREVER}"}}, "-q", stdout=fd, stdin=fd)
            line = wait_until(lambda fd=out.fd: os.read(fd, 100), "a line")  # type: ignore[misc]
            during = fcntl.fcntl(fd, fcntl.F_GETFL)
            started.process.terminate()
            assert started.wait() == 0
            assert before == during == fcntl.fcntl(fd, fcntl.F_GETFL)
            assert plain([line.decode()]) == ["web | up\n"]


def test_as_another_user_who_cannot_open_the_pipe_anew(copied: Starter, public: Path) -> None:
    """As in a container with USER, whose stdout belongs to root."""
    serve = Server(copied, public)
    with reader(pipe, public) as (both, fd):
        os.fchmod(fd, 0o600)
        both.begin()
        started = serve(FLOOD, stdout=fd, stderr=fd, **as_user(1234, 1234))
        assert started.wait() == 0
        os.close(fd)
        both.end()
        assert_whole(both.lines, "")
        assert_whole(both.lines, "err ")
        assert all(re.match(r"[ab] \| |run: \[info\] ", line) for line in both.lines)


def test_as_another_user_on_a_terminal_of_roots(copied: Starter, public: Path) -> None:
    serve = Server(copied, public)
    with reader(terminal, public) as (both, fd):
        both.begin()
        started = serve(FLOOD, "-q", stdout=fd, stderr=fd, **as_user(1234, 1234))
        assert started.wait() == 0
        os.close(fd)
        both.end()
        assert_whole(both.lines, "")
        assert_whole(both.lines, "err ")


@EACH
def test_without_proc_nothing_can_be_opened_anew_and_every_line_arrives(
    serve: Server, tmp_path: Path, kind: Made
) -> None:
    with reader(kind, tmp_path) as (both, fd):
        if kind not in (file, appended):
            both.begin()
        started = serve(FLOOD, "-q", stdout=fd, stderr=fd, prefix=NO_PROC)
        assert started.wait() == 0
        os.close(fd)
        if kind in (file, appended):
            both.begin()
        both.end()
        assert_whole(both.lines, "")
        assert_whole(both.lines, "err ")


def test_a_write_that_is_interrupted_before_the_first_byte_loses_nothing(
    serve: Server, binary: str, tmp_path: Path
) -> None:
    """As when `run` is held up between setting its timer and the write: a terminal cannot be asked not to wait.

    A bundle writes to memory first, where nothing is interrupted: as often as `run -v` writes, but once.
    """
    trace = tmp_path / "trace"
    strace = ("strace", "-qq", "-o", str(trace), "-e", "trace=write")
    subprocess.run([*strace, binary, "-v"], stdout=subprocess.DEVNULL, check=True)
    when = len(trace.read_text().splitlines()) + 2
    failing = ("-e", f"inject=write:error=EINTR:when={when}+5")
    with reader(terminal, tmp_path) as (both, fd):
        both.begin()
        started = serve(FLOOD, "-q", stdout=fd, stderr=fd, prefix=(*NO_PROC, *strace, *failing))
        assert started.wait() == 0
        os.close(fd)
        both.end()
    assert "EINTR (Interrupted system call) (INJECTED)" in trace.read_text()
    assert_whole(both.lines, "")
    assert_whole(both.lines, "err ")


# -- /dev/stdout -------------------------------------------------------------------------------------------------------

ANEW = "echo anew >/dev/stdout; echo err >/dev/stderr; echo again >>/proc/self/fd/1; echo tee | tee /dev/stdout"


@pytest.mark.parametrize("prefix", [(), without("chown"), without("chown", "fowner", "dac_override")], ids=str)
@pytest.mark.parametrize("user", ["65534:65534", "1000:100", "0:0", "0:77"])
def test_a_service_of_any_user_can_open_dev_stdout_anew(serve: Server, user: str, prefix: tuple[str, ...]) -> None:
    """Which takes no CAP_CHOWN: moby #31243."""
    reads, writes = os.pipe()
    started = serve({"web": {"command": ANEW, "user": user}}, "-q", stdout=writes, stderr=writes, prefix=prefix)
    os.close(writes)
    with os.fdopen(reads) as both:
        lines = both.read().splitlines()
    assert started.wait() == 0
    assert sorted(lines) == sorted([f"web | {word}" for word in ("anew", "err", "again", "tee", "tee")])


def test_it_can_where_the_kernel_has_no_setfsgid(serve: Server, refuse: str) -> None:
    """Such as gVisor's."""
    prefix = (refuse, "setfsgid", str(errno.ENOSYS))
    code, out, log = serve.result({"web": {"command": ANEW, "user": "1000:100"}}, "-q", prefix=prefix)
    assert (code, sorted(out.splitlines())) == (0, sorted(f"web | {word}" for word in ("anew", "again", "tee", "tee")))
    assert log == "web | err\n"


def test_without_root_its_own_services_can_too(copied: Starter, public: Path) -> None:
    code, out, log = Server(copied, public).result({"web": {"command": ANEW}}, "-q", **as_user(1234, 1234))
    assert (code, sorted(out.splitlines())) == (0, sorted(f"web | {word}" for word in ("anew", "again", "tee", "tee")))
    assert log == "web | err\n"


def test_the_pipes_belong_to_the_services_user_alone(serve: Server) -> None:
    script = "stat -L -c '%u:%g %a %F' /proc/$$/fd/1 /proc/$$/fd/2"
    users = {"a": "65534:65533", "b": "0:0", "c": "7:8"}
    services = {name: {"command": script, "user": user, "oneshot": True} for name, user in users.items()}
    _, out, _ = serve.result(services, "-q")
    assert sorted(out.splitlines()) == sorted(f"{name} | {user} 600 fifo" for name, user in users.items() for _ in "12")


def test_who_reads_from_its_own_dev_stdout_harms_itself_alone(serve: Server) -> None:
    """What it has taken away is lost; the end of its life is seen all the same, and others go on."""
    thief = "echo stolen; timeout 0.3 cat /dev/stdout >/dev/null; echo kept; printf half; exit 1"
    keys = {"command": thief, "restart": "always:2", "restart_delay": 0.01, "essential": False}
    code, out, _ = serve.result({"thief": keys, "other": {"command": "sleep 1; echo fine", "oneshot": True}}, "-q")
    lines = out.splitlines()
    assert code == 1
    assert lines.count("thief | half") == 3 and "other | fine" in lines
    assert set(lines) <= {"thief | half", "thief | kept", "thief | stolen", "other | fine"}


# -- Bad ones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
def test_where_nothing_can_be_written_services_run_and_end_as_ever(
    serve: Server, journal: Journal, kind: Kind, which: str
) -> None:
    """Closed on the other side, full, stopped, or nothing to write to."""
    script = f"echo out; echo err >&2; {journal.note('ran')}; exit 6"
    with kind() as fd:
        options: dict[str, Any] = {name: fd for name in ("stdout", "stderr") if which in (name, "both")}
        assert serve({"web": {"command": script, "restart": "on-failure:2"}}, "-t0.3", **options).wait() == 6
    assert journal.lines() == ["ran"] * 3


@pytest.mark.parametrize("kind", BAD)
def test_where_nothing_can_be_written_signals_are_passed_on(serve: Server, journal: Journal, kind: Kind) -> None:
    with kind() as fd:
        started = serve({"web": {"command": journal.told("web", "exit 7", by="USR1")}}, "-t0.3", stdout=fd, stderr=fd)
        journal.wait("web ready")
        started.process.send_signal(10)
        assert started.wait() == 7
