"""Contract, "Log", "Signals" and "Bad days": the log, and files under /proc, fail to be written and opened."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import ALWAYS, LISTS, ONCE, OPEN, ORDINARY, TWO_GROUPS, Trace, Traced, every_errno

LOGGED = ORDINARY[1:]
LINE = re.compile(
    r"run: \[info\] (own pid is \d+|pid \d+: started /bin/sh -c .*|pid \d+: exited with code [79]|"
    r"no process is left: exiting with code 9)"
)
LINES = 5
"""How many lines a log has of an ordinary command that leaves an orphan."""


def assert_ran_but_for(traced: Traced, log: str, lost: range) -> None:
    """Nothing changes but the log, of which so many lines are lost; the others are whole."""
    assert (traced.code, traced.out) == (9, "started\n"), log
    assert log.endswith("\n") or not log
    lines = log.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), log
    assert len(set(lines)) == len(lines) and LINES - len(lines) in lost, log


def at_most_lost(traced: Traced, error: str, retried: tuple[str, ...]) -> range:
    """A write that fails is a line that is dropped, unless trying again or in another way makes sense."""
    failed = len(traced.failed)
    return range(failed + 1) if error in retried else range(failed, failed + 1)


@every_errno("write", ONCE, "3", ALWAYS, drawn=2, calls=LINES)
def test_a_log_in_a_file_that_cannot_be_written(trace: Trace, tmp_path: Path, error: str, when: str) -> None:
    traced = trace("write", error, when, *LOGGED, paths=(tmp_path / "log",)).finish()
    assert_ran_but_for(traced, traced.log, at_most_lost(traced, error, ("EINTR",)))


@contextmanager
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe that has a name, and its only descriptor."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield path, fd
    finally:
        os.close(fd)


def content(fd: int) -> str:
    """What is in a pipe or socket now."""
    try:
        return os.read(fd, 65536).decode()
    except BlockingIOError:
        return ""


@every_errno("write", ONCE, ALWAYS, drawn=1, calls=LINES)
def test_a_log_in_a_pipe_that_cannot_be_written(trace: Trace, tmp_path: Path, error: str, when: str) -> None:
    with pipe(tmp_path) as (path, fd):
        traced = trace("write", error, when, *LOGGED, paths=(path,), stderr=fd).finish()
        assert_ran_but_for(traced, content(fd), at_most_lost(traced, error, ("EINTR",)))


@every_errno("pwritev2", ONCE, ALWAYS, drawn=1, calls=LINES)
def test_a_log_in_a_socket_that_cannot_be_written(trace: Trace, error: str, when: str) -> None:
    """Where the kernel does not know this call for a socket, or a sandbox refuses it, there is another way to write."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        traced = trace("pwritev2", error, when, *LOGGED, stderr=theirs).finish()
        retried = ("EINTR", "EINVAL", "ENOSYS", "EOPNOTSUPP", "EPERM")
        assert_ran_but_for(traced, content(ours.fileno()), at_most_lost(traced, error, retried))


@every_errno("write", ONCE, ALWAYS)
def test_a_version_that_cannot_be_printed_is_one_line_and_125(
    trace: Trace, tmp_path: Path, error: str, when: str
) -> None:
    with pipe(tmp_path) as (path, fd):
        traced = trace("write", error, when, "-v", paths=(path,), stdout=fd).finish()
        if error == "EINTR":
            assert re.fullmatch(r"run \S+\n", content(fd))
            assert (traced.code, traced.log) == (0, "")
        else:
            traced.assert_refused(error)
            assert content(fd) == ""


# -- open under /proc --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", LISTS)
@every_errno("open", ONCE)
def test_when_the_children_cannot_be_listed_once_TERM_gets_them_all(
    trace: Trace, tmp_path: Path, file: str, error: str, when: str
) -> None:
    """Then it goes to the main group, unless there is another way to list; the daemon gets it at the next end."""
    words = ("-s", "TERM", "-t3600", "/bin/sh", "-c", TWO_GROUPS, str(tmp_path / "told"))
    traced = trace(OPEN, error, when, *words, paths=(LISTS[file],)).finish()
    assert len(traced.failed) == 1
    assert traced.code == 143
    assert traced.log.count("killed by TERM (15)\n") == 2, traced.log


@pytest.mark.parametrize("file", LISTS)
@every_errno("open", ALWAYS)
def test_when_the_children_cannot_be_listed_the_main_group_is_signalled(
    trace: Trace, file: str, error: str, when: str
) -> None:
    script = "echo started; sleep 1000 & exit 7"
    traced = trace(OPEN, error, when, "-q", "-s", "TERM", "/bin/sh", "-c", script, paths=(LISTS[file],)).finish()
    traced.assert_ran(143)


@pytest.mark.fault("open", "ENOENT")
def test_when_no_list_of_processes_can_be_opened_the_main_group_is_signalled(trace: Trace) -> None:
    words = ("-q", "-s", "TERM", "/bin/sh", "-c", "echo started; sleep 1000 & exit 7")
    traced = trace(OPEN, "ENOENT", ALWAYS, *words, paths=("/proc/thread-self/children", "/proc")).finish()
    assert len(traced.failed) == 2
    traced.assert_ran(143)


@every_errno("open", ONCE, ALWAYS)
def test_a_log_in_a_pipe_that_cannot_be_opened_again_is_written_all_the_same(
    trace: Trace, tmp_path: Path, error: str, when: str
) -> None:
    with pipe(tmp_path) as (_, fd):
        traced = trace(OPEN, error, when, *LOGGED, paths=("/proc/self/fd/2",), stderr=fd).finish()
        assert_ran_but_for(traced, content(fd), range(1))


@every_errno("open", ALWAYS)
def test_without_a_list_of_open_files_the_command_runs(trace: Trace, refuse: str, error: str, when: str) -> None:
    """Which is read where close_range(2) is not known."""
    prefix = (refuse, "close_range", str(errno.ENOSYS))
    traced = trace(OPEN, error, when, *ORDINARY, paths=("/proc/self/fd",), prefix=prefix).finish()
    traced.assert_ran()
