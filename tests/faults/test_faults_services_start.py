"""Contract, "Bad days" and "Many services": system calls that fail before services are started, or at the start of one.

Before the start it is one clear line and 125, and nothing was started; or `run` does without, and all is as ever.
"""

import errno
import os
import re

import pytest
from faults import ALWAYS, FORK, ONCE, Trace, Traced, assert_clear, every_errno
from serving import PYTHON, Server, Services

USER = "54399:54398"

SERVICES: Services = {
    "web": {"command": "echo started; exit 7"},
    "other": {"command": "echo other; exec sleep 1000", "user": USER},
}


def started(serve: Server, trace: Trace, calls: str, error: str, when: str, **options: object) -> Traced:
    """Start the services where these calls fail."""
    return trace(calls, error, when, "-q", "-f", str(serve.file(SERVICES)), **options).finish()


def assert_as_ever(traced: Traced) -> None:
    """All ran, and nothing had to be said, but what the end of one means."""
    assert traced.code == 7
    assert sorted(traced.out.splitlines()) == ["other | other", "web   | started"] or traced.out == "web   | started\n"
    assert re.fullmatch(r"run: \[warn\] web \(pid \d+\): exited with code 7; failed\n", traced.log), traced.log


@every_errno("epoll_create", ONCE, ALWAYS)
def test_without_an_epoll_nothing_is_started(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_refused(started(serve, trace, "?epoll_create,?epoll_create1", error, when), error)


@every_errno("signalfd", ONCE, ALWAYS)
def test_without_a_signalfd_nothing_is_started(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_refused(started(serve, trace, "?signalfd,signalfd4", error, when), error)


@every_errno("pipe", ONCE, "4", ALWAYS, drawn=2, calls=4)
def test_without_the_pipes_nothing_is_started(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_refused(started(serve, trace, "?pipe,pipe2", error, when), error)


@every_errno("epoll_ctl", ONCE, "5", ALWAYS, drawn=2, calls=5)
def test_what_cannot_be_waited_for_is_not_started(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_refused(started(serve, trace, "epoll_ctl", error, when), error)


@every_errno("fcntl", ONCE, "3", ALWAYS, drawn=2, calls=5)
def test_pipes_that_cannot_be_made_not_to_block(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_refused_or_as_ever(started(serve, trace, "fcntl", error, when), error)


@every_errno("setfsuid", ONCE, ALWAYS, drawn=2, calls=6)
def test_pipes_that_cannot_be_made_a_users_own(trace: Trace, serve: Server, error: str, when: str) -> None:
    """The call itself says nothing; another one asks what has become of it."""
    traced = started(serve, trace, "setfsuid", error, when)
    assert_refused_or_as_ever(traced, "EPERM")


@every_errno("setfsgid", ONCE, ALWAYS, drawn=2, calls=6)
def test_pipes_that_cannot_be_made_a_groups_own(trace: Trace, serve: Server, error: str, when: str) -> None:
    traced = started(serve, trace, "setfsgid", error, when)
    assert_refused_or_as_ever(traced, "EPERM")


@every_errno("capget", ONCE, ALWAYS)
def test_where_capabilities_are_not_told_it_is_tried(trace: Trace, serve: Server, error: str, when: str) -> None:
    traced = started(serve, trace, "capget", error, when)
    assert_as_ever(traced)


@every_errno("open", ONCE, ALWAYS)
def test_a_dev_null_that_cannot_be_opened(trace: Trace, serve: Server, error: str, when: str) -> None:
    """A pipe is in its place: as in an image that has none, on a file system without devices, in a sandbox."""
    traced = started(serve, trace, "?open,openat", error, when, paths=("/dev/null",))
    if error in ("EMFILE", "ENFILE"):
        assert_refused(traced, error)
    else:
        assert_as_ever(traced)


@every_errno("open", ONCE, ALWAYS)
@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/group"])
def test_a_database_of_users_that_cannot_be_read(trace: Trace, serve: Server, error: str, when: str, path: str) -> None:
    """It may be missing, or not ours to read, where numbers are given; in any other case that is said."""
    traced = started(serve, trace, "?open,openat", error, when, paths=(path,))
    if error in ("ENOENT", "ENOTDIR", "EACCES", "EPERM") or traced.code == 7:
        assert_as_ever(traced)
    else:
        assert_refused(traced, error)
        assert path in traced.log


@every_errno("open", ALWAYS)
def test_a_file_that_vanishes_or_cannot_be_opened(trace: Trace, serve: Server, error: str, when: str) -> None:
    file = str(serve.file(SERVICES))
    traced = trace("?open,openat", error, when, "-qf", file, paths=(file,)).finish()
    if traced.code == 7:
        assert error == "EINTR"
    else:
        assert_refused(traced, error)
        assert file in traced.log


@every_errno("read", ONCE, "2", ALWAYS)
def test_a_file_that_cannot_be_read_to_its_end(trace: Trace, serve: Server, error: str, when: str) -> None:
    file = str(serve.file(SERVICES))
    traced = trace("read", error, when, "-qf", file, paths=(file,)).finish()
    if error == "EINTR":  # it is tried again
        assert_as_ever(traced)
    else:
        assert_refused(traced, error)
        assert file in traced.log


@pytest.mark.static_only("the dynamic loader asks, too")
@every_errno("stat", ONCE, ALWAYS, drawn=2, calls=8)
def test_files_that_nothing_can_be_said_of(trace: Trace, serve: Server, error: str, when: str) -> None:
    """What `run` was given is not written to where nobody knows whether that would block: not a line, perhaps."""
    traced = started(serve, trace, "?stat,?fstat,?newfstatat", error, when)
    assert "internal" not in traced.log and "Traceback" not in traced.log
    assert traced.code in (7, 125)
    if traced.code == 125:
        assert re.fullmatch(r"(run: \[error\] [^\n]+\n)?", traced.log), traced.log
        assert traced.out == ""


@pytest.mark.static_only("what unpacks it calls prctl, too")
@every_errno("prctl", ONCE)
def test_without_a_subreaper_nothing_is_started(trace: Trace, serve: Server, error: str, when: str) -> None:
    traced = started(serve, trace, "prctl", error, when)
    assert "SUBREAPER" in traced.failed[0]
    assert_refused(traced, error)


def assert_refused(traced: Traced, error: str) -> None:
    """One line, 125, nothing was started, and the fault has happened."""
    assert (traced.code, traced.out) == (125, ""), traced.log
    assert_clear(traced.log, error)


def assert_refused_or_as_ever(traced: Traced, error: str) -> None:
    """Either of both, and the fault has happened."""
    if traced.code == 7:
        assert_as_ever(traced)
    else:
        assert_refused(traced, error)


# -- At the start of one -----------------------------------------------------------------------------------------------


def in_the_child(serve: Server, trace: Trace, call: str, error: str, **keys: object) -> Traced:
    """Start one service of another user, where this call fails in it."""
    services = {"web": {"command": "echo started", "user": USER, **keys}}
    return trace(call, error, ONCE, "-q", "-f", str(serve.file(services)), children=True).finish()


@every_errno("setsid", ONCE)
def test_a_session_that_cannot_be_made(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_step(in_the_child(serve, trace, "setsid", error), error, "make a session")


@every_errno("setgroups", ONCE)
def test_groups_that_cannot_be_set(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_step(in_the_child(serve, trace, "setgroups", error), error, "set the supplementary groups")


@every_errno("setresuid", ONCE)
@pytest.mark.parametrize(("call", "what"), [("setresgid", "become the group"), ("setresuid", "become the user")])
def test_a_user_that_one_cannot_become(  # noqa: PLR0917
    trace: Trace, serve: Server, error: str, when: str, call: str, what: str
) -> None:
    assert_step(in_the_child(serve, trace, call, error), error, what)


@every_errno("dup", ONCE)
def test_files_that_cannot_be_put_in_their_place(trace: Trace, serve: Server, error: str, when: str) -> None:
    assert_step(in_the_child(serve, trace, "?dup2,?dup3", error), error, "open the standard streams")


@every_errno("chdir", ONCE)
def test_a_directory_that_cannot_be_entered_is_126(trace: Trace, serve: Server, error: str, when: str) -> None:
    traced = in_the_child(serve, trace, "chdir", error, working_dir="/")
    assert (traced.code, traced.out) == (126, "")
    assert_clear(traced.log, error)
    assert "cannot enter the directory /" in traced.log


def assert_step(traced: Traced, error: str, what: str) -> None:
    """A step of the start has failed: the service has failed for good, with 125."""
    assert (traced.code, traced.out) == (125, ""), traced.log
    assert_clear(traced.log, error)
    assert f"web: cannot {what}: " in traced.log


@every_errno("fork", ONCE, ALWAYS)
def test_a_fork_that_is_refused(trace: Trace, serve: Server, error: str, when: str) -> None:
    """It is a failed life; the other service is not started, or stopped."""
    traced = started(serve, trace, FORK, error, when)
    assert traced.code == 125
    assert "web" not in traced.out
    assert re.match(r"run: \[error\] web: cannot start /bin/sh [^\n]+: fork: [^\n]+; failed\n", traced.log), traced.log
    assert os.strerror(getattr(errno, error)) in traced.log and "internal" not in traced.log


def test_the_errors_of_all_services_that_cannot_be_started_are_told(trace: Trace, serve: Server) -> None:
    services = {f"s{n}": {"command": [*PYTHON, "pass"], "essential": False} for n in range(5)}
    traced = trace(FORK, "EAGAIN", ALWAYS, "-q", "-f", str(serve.file(services))).finish()
    assert len(traced.failed) == 5 and traced.code == 125
    assert len(re.findall(r"^run: \[error\] s\d: cannot start ", traced.log, re.MULTILINE)) == 5


@pytest.mark.parametrize("error", ["EINVAL", "ENOMEM", "ENOSYS", "EPERM"])
def test_where_descriptors_cannot_be_shared_until_the_exec_all_are_copied(
    trace: Trace, serve: Server, error: str
) -> None:
    """As before Linux 5.9, or in a sandbox."""
    every = " ".join(map(str, range(3, 70)))
    script = f"for fd in {every}; do [ ! -e /proc/$$/fd/$fd ] || echo open; done; echo out; echo err >&2"
    services = {f"s{n}": {"command": ["/bin/sh", "-c", script], "oneshot": True} for n in range(9)}
    file = str(serve.file(services))
    traced = trace("close_range", error, ALWAYS, "-q", "-f", file, children=True).finish()
    assert len(traced.failed) >= 9
    assert traced.code == 0, traced.log
    lines = traced.out.splitlines() + traced.log.splitlines()
    assert sorted(lines) == sorted(f"s{n} | {what}" for n in range(9) for what in ("err", "out"))
