"""Contract, "Log": stderr that is closed, broken, full or not being read never blocks, delays or ends `run`."""

import fcntl
import os
import pty
import resource
import shutil
import signal
import socket
from pathlib import Path

import pytest
from bad_stderr import BAD, Kind, fill, full_pipe, full_stream, full_tcp, stopped_terminal, unread_terminal
from harness import Starter, children, wait_until, waiting_for

COMMAND = ("sh", "-c", "( (exit 5) & ); ( (exit 6) & ); exit 3")
"""Leaves six lines or more, and the exit code 6."""


@pytest.mark.parametrize("kind", BAD)
def test_run_goes_on_and_ends_as_ever(start: Starter, kind: Kind) -> None:
    with kind() as fd:
        assert start(*COMMAND, stderr=fd).wait() == 6


@pytest.mark.parametrize("kind", BAD)
def test_without_proc_too(tmp_path: Path, binary: str, kind: Kind) -> None:
    """There the log cannot open stderr once more."""
    wrapper = Starter("unshare", tmp_path)
    script = 'mount -t tmpfs none /proc; exec "$@"'
    with kind() as fd:
        assert wrapper("--mount", "sh", "-c", f"({script}) 2>/dev/null", "sh", binary, *COMMAND).wait() == 6
        assert wrapper("--mount", "sh", "-c", script, "sh", binary, *COMMAND, stderr=fd).wait() == 6


@pytest.mark.parametrize("kind", [full_pipe, full_stream, unread_terminal, stopped_terminal])
def test_as_another_user_who_may_not_open_stderr_again(public: Path, binary: str, kind: Kind) -> None:
    shutil.copy(binary, public / "run")
    with kind() as fd:
        assert Starter(str(public / "run"), public)(*COMMAND, stderr=fd, user=65534, group=65534, cwd="/").wait() == 6


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("words", [("-x",), ("no-such-command",), ("-d", "true")])
def test_errors_and_warnings_do_not_block_either(start: Starter, kind: Kind, words: tuple[str, ...]) -> None:
    with kind() as fd:
        assert start(*words, stderr=fd).wait() == {"-x": 125, "no-such-command": 127, "-d": 0}[words[0]]


@pytest.mark.parametrize("kind", [full_pipe, full_stream, full_tcp, unread_terminal, stopped_terminal])
def test_signals_are_forwarded_and_processes_reaped_meanwhile(start: Starter, kind: Kind) -> None:
    with kind() as fd:
        started = start("sh", "-c", '(true &); (true &); exec "$@"', "sh", *waiting_for("USR1", 7), stderr=fd)
        started.wait_out("ready")
        wait_until(lambda: len(children(started.pid)) == 1, "the orphans are reaped")
        started.send(signal.SIGUSR1)
        assert started.wait() == 7


@pytest.mark.parametrize("words", [COMMAND, ("-x",), ("no-such-command",)])
def test_closed(start: Starter, words: tuple[str, ...]) -> None:
    expected = {"sh": 6, "-x": 125, "no-such-command": 127}[words[0]]
    assert start(*words, preexec_fn=lambda: os.close(2)).wait() == expected
    assert start(*words, preexec_fn=lambda: os.closerange(0, 3)).wait() == expected


@pytest.mark.parametrize("words", [COMMAND, ("-x",), ("no-such-command",)])
def test_with_stderr_closed_no_line_lands_in_another_file(
    start: Starter, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with (tmp_path / "other").open("w+") as other:
        started = start(*words, preexec_fn=lambda: os.close(2), stdin=other, pass_fds=[other.fileno()])
        started.wait()
    assert started.out() == (tmp_path / "other").read_text() == ""


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_O_NONBLOCK_is_not_set_on_the_stderr_that_the_command_shares(start: Starter, kind: str) -> None:
    if kind == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    else:
        ours, theirs = os.pipe() if kind == "pipe" else pty.openpty()
    started = start("sh", "-c", "echo ready; exec sleep 1000", stderr=theirs)
    started.wait_out("ready")
    assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
    assert os.read(ours, 5).startswith(b"run:")
    started.send(signal.SIGTERM)
    started.wait()
    assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(ours)
    os.close(theirs)


def test_a_command_may_block_on_the_stderr_that_run_does_not_block_on(start: Starter) -> None:
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) * 2
    started = start("-q", "sh", "-c", f"head -c {size} /dev/zero >&2", stderr=writer)
    os.close(writer)
    received = 0
    while part := os.read(reader, 65536):
        received += len(part)
    os.close(reader)
    assert (started.wait(), received) == (0, size)


def test_lines_are_written_again_once_the_reader_reads(start: Starter) -> None:
    reader, writer = os.pipe()
    fill(writer)
    started = start(*waiting_for("TERM", 9), stderr=writer)
    started.wait_out("ready")
    os.set_blocking(reader, False)
    os.close(writer)
    try:
        while os.read(reader, 65536):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(reader, True)
    started.send(signal.SIGTERM)
    assert started.wait() == 9
    rest = b""
    while part := os.read(reader, 65536):
        rest += part
    os.close(reader)
    log = rest.decode().splitlines()
    assert log[-1].endswith("exiting with code 9")
    assert all(line.startswith("run: [info] ") for line in log), "no line is cut"


@pytest.mark.parametrize("kind", ["pipe", "terminal", "stream", "datagrams", "file"])
def test_every_line_arrives_where_somebody_reads(start: Starter, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        ours, theirs = (
            os.open(tmp_path / "log", os.O_CREAT | os.O_RDONLY),
            os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND),
        )
    elif kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "terminal":
        ours, theirs = pty.openpty()
    else:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        ours, theirs = (end.detach() for end in pair)
    assert start(*COMMAND, stderr=theirs).wait() == 6
    os.set_blocking(ours, False)
    received = b""
    try:
        while part := os.read(ours, 65536):
            received += part
    except BlockingIOError:
        pass
    os.close(ours)
    os.close(theirs)
    assert received.count(b"run: [info] ") == received.count(b"\n") >= 6
    assert received.rstrip().endswith(b"exiting with code 6")


def test_a_file_system_that_is_full(start: Starter, binary: str, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=4096 none small && exec 2>small/log && head -c 9000 /dev/zero >&2; exec "$@"'
    assert Starter("unshare", tmp_path)("-m", "sh", "-c", script, "sh", binary, *COMMAND, cwd=tmp_path).wait() == 6


@pytest.mark.static_only("what it unpacks is files to the kernel")
def test_a_file_that_must_not_grow(start: Starter) -> None:
    """RLIMIT_FSIZE: the command is sent SIGXFSZ for its own writes, `run` is not ended by it."""
    assert start(*COMMAND, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))).wait() == 6


def test_a_reader_that_goes_away_while_run_lives(start: Starter) -> None:
    reader, writer = os.pipe()
    started = start(*waiting_for("TERM", 4), stderr=writer)
    os.close(writer)
    started.wait_out("ready")
    os.close(reader)
    started.send(signal.SIGTERM)
    assert started.wait() == 4


def test_the_terminal_as_stdin_and_stderr_stopped_by_ctrl_s(start: Starter) -> None:
    with stopped_terminal() as fd:
        assert (
            start("-s", "TERM", "sh", "-c", "sleep 1000 & exit 3", stdin=fd, stderr=fd, start_new_session=True).wait()
            == 143
        )
