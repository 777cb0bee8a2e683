"""Contract, "Starting the command": open files: all that `run` was given, none that it made or keeps."""

import fcntl
import itertools
import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from harness import DEADLINE, Starter, wait_until
from probe import Probe, Report

STDIO = (0, 1, 2)


def fds(report: Report) -> dict[int, bytes]:
    """The open file descriptors that the probe saw."""
    return {int(name.removeprefix("fd.")): value for name, value in report.items() if name.startswith("fd.")}


def with_fds(files: dict[int, str], closed: Iterable[int] = ()) -> Callable[[], None]:
    """A setup after which exactly 0 to 2, without those closed, and these files are open, and inherited by all."""

    def setup() -> None:
        os.closerange(3, 2000)
        for fd, path in files.items():
            made = os.open(path, os.O_RDWR)
            os.dup2(made, fd)
            if made != fd:
                os.close(made)
            os.set_inheritable(fd, True)
        for fd in closed:
            os.close(fd)

    return setup


@pytest.mark.parametrize("closed", [c for n in range(4) for c in itertools.combinations(STDIO, n)], ids=str)
@pytest.mark.parametrize(
    "extra", [{}, {3: "/dev/null"}, {5: "/dev/zero", 100: "/dev/null"}], ids=["none", "3", "5,100"]
)
def test_exactly_the_open_files_that_run_was_given(
    probe: Probe, closed: tuple[int, ...], extra: dict[int, str]
) -> None:
    direct, through = probe.both(setup=with_fds(extra, closed))
    assert fds(direct).keys() == set(STDIO) - set(closed) | extra.keys()
    assert fds(through) == fds(direct)


@pytest.mark.parametrize("closed", [c for n in range(4) for c in itertools.combinations(STDIO, n)], ids=str)
@pytest.mark.parametrize("kind", ["pipe", "file", "socket", "/dev/null"])
def test_whatever_stderr_is_and_the_log_says(
    probe: Probe, binary: str, tmp_path: Path, closed: tuple[int, ...], kind: str
) -> None:
    """With the log at work, which may open what it writes to once more."""
    pair = socket.socketpair()
    reader, writer = os.pipe()

    def setup() -> None:
        if kind == "socket":
            os.dup2(pair[0].fileno(), 2)
        else:
            os.dup2(
                writer
                if kind == "pipe"
                else os.open(tmp_path / "log" if kind == "file" else kind, os.O_RDWR | os.O_CREAT),
                2,
            )
        with_fds({}, closed)()

    direct = probe.run(probe.words(), setup)
    through = probe.run([os.fsencode(binary), *probe.words()], setup)
    os.close(reader)
    os.close(writer)
    for end in pair:
        end.close()
    assert fds(through) == fds(direct)


def test_thousands_of_open_files(probe: Probe) -> None:
    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
        with_fds(dict.fromkeys(range(3, 1500), "/dev/null"))()

    direct, through = probe.both(setup=setup)
    assert len(fds(direct)) == 1500
    assert fds(through) == fds(direct)


def test_an_open_file_above_the_limit(probe: Probe) -> None:
    def setup() -> None:
        with_fds({900: "/dev/null"})()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))

    direct, through = probe.both(setup=setup)
    assert 900 in fds(direct)
    assert fds(through) == fds(direct)


def test_close_on_exec_of_run_is_not_given_on(probe: Probe) -> None:
    def setup() -> None:
        with_fds({7: "/dev/null", 8: "/dev/null"})()
        os.set_inheritable(7, False)

    through = probe.both(setup=setup)[1]
    assert fds(through).keys() == {0, 1, 2, 8}


@pytest.mark.parametrize("flag", [os.O_NONBLOCK, os.O_APPEND])
@pytest.mark.parametrize("fd", STDIO)
def test_the_flags_of_an_open_file_are_left_alone(probe: Probe, binary: str, flag: int, fd: int) -> None:
    ours, theirs = os.pipe()

    def setup() -> None:
        os.dup2(ours if fd == 0 else theirs, fd)
        fcntl.fcntl(fd, fcntl.F_SETFL, flag)
        with_fds({})()

    direct = probe.run(probe.words(), setup)
    through = probe.run([os.fsencode(binary), *probe.words()], setup)
    os.close(ours)
    os.close(theirs)
    assert fds(through) == fds(direct)


def test_stdin_is_not_read_by_run(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("one\ntwo\nthree\n")
    with (tmp_path / "in").open() as stdin:
        code, out, _ = start.result("head", "-n", "3", stdin=stdin)
        assert (code, out) == (0, "one\ntwo\nthree\n")


def open_in(pid: int) -> dict[int, str]:
    """The open file descriptors of a process, with what they are."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def read_to_the_end(fd: int) -> bytes:
    """All that comes out of a pipe, until all who could write have closed it."""
    content = b""
    while True:
        assert select.select([fd], [], [], DEADLINE)[0], f"no end-of-file within {DEADLINE} s after {content!r}"
        part = os.read(fd, 65536)
        if not part:
            return content
        content += part


@pytest.mark.parametrize("also", [(), (3,), (3, 4, 1000)], ids=["1", "1,3", "1,3,4,1000"])
def test_a_reader_of_the_command_s_stdout_sees_end_of_file_while_run_still_lives(
    start: Starter, also: tuple[int, ...]
) -> None:
    reader, writer = os.pipe()

    def setup() -> None:
        for fd in (1, *also):
            os.dup2(writer, fd)

    closing = "".join(f"os.close({fd});" for fd in also)
    script = f"import os, time; os.write(1, b'out'); os.close(1); {closing} time.sleep(1000)"
    started = start("python3", "-c", script, preexec_fn=setup, close_fds=False, stdout=subprocess.DEVNULL)
    os.close(writer)
    assert read_to_the_end(reader) == b"out"
    os.close(reader)
    assert started.process.poll() is None
    started.send(signal.SIGTERM)
    assert started.wait() == 128 + signal.SIGTERM


def test_a_writer_to_the_command_s_stdin_sees_that_nobody_reads(start: Starter) -> None:
    reader, writer = os.pipe()
    started = start("sh", "-c", "exec <&-; echo closed; exec sleep 1000", stdin=reader)
    os.close(reader)
    started.wait_out("closed")

    def broken() -> bool:
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            return True
        return False

    wait_until(broken, "the pipe is broken")
    os.close(writer)
    started.send(signal.SIGTERM)
    started.wait()


def test_run_holds_stderr_alone_once_the_command_is_started(start: Starter) -> None:
    started = start("sleep", "1000")
    started.wait_log("started")
    log = os.readlink(f"/proc/{started.pid}/fd/2")
    wait_until(lambda: open_in(started.pid).keys().isdisjoint({0, 1}), "run has closed stdin and stdout")
    assert set(open_in(started.pid).values()) == {log}
    started.send(signal.SIGTERM)
    started.wait()


@pytest.mark.static_only("the dynamic loader opens files")
@pytest.mark.parametrize("limit", [4, 5, 10])
def test_with_few_open_files_allowed(start: Starter, limit: int) -> None:
    code, _, log = start.result("true", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    assert code == 0, log
