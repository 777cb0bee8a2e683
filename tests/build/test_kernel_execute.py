"""execute() of the C extension: the program, what it is given, and what is left when it cannot be executed."""

import builtins
import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from extension import Extension

from run.signals import BLOCKED, KILL, STOP, signal_set

MESS = """
signal.signal(signal.SIGTERM, lambda *_: None)
_kernel.set_ignored(signal.SIGHUP, True)
_kernel.set_ignored(signal.SIGUSR2, False)
_kernel.set_ignored(64, True)
_kernel.set_mask(1 << signal.SIGINT - 1 | 1 << 39)
"""
"""Code that changes dispositions and the mask after the start."""

STATUS = "_kernel.execute(b'/bin/cat', [b'cat', b'/proc/self/status'], [])"


def sets(status: str) -> dict[str, int]:
    """The signal sets in the text of a /proc/PID/status."""
    lines = [line.split() for line in status.splitlines()]
    return {words[0].strip(":"): int(words[1], 16) for words in lines if words[0] in ("SigBlk:", "SigIgn:", "SigCgt:")}


def test_arguments_and_environment_arrive_to_the_byte(extension: Extension, tmp_path: Path) -> None:
    script = 'import sys; print([open(f"/proc/self/{name}", "rb").read() for name in ("cmdline", "environ")])'
    words = [b"any name", b"-S", b"-c", script.encode(), b"", b"\xff\xfe", b"a b\nc", b"last"]
    variables = [b"B=1", b"A=\xff", b"B=2", b"no equals sign", b"LC_ALL=C.UTF-8"]
    found = extension.value(f"_kernel.execute({sys.executable.encode()!r}, {words!r}, {variables!r})")
    assert found == [b"".join(word + b"\0" for word in words), b"".join(entry + b"\0" for entry in variables)]


def test_an_empty_environment_is_possible(extension: Extension) -> None:
    assert extension.output("_kernel.execute(b'/usr/bin/env', [b'env'], [])") == ""


def test_the_process_is_the_same(extension: Extension) -> None:
    code = "print(os.getpid(), flush=True); _kernel.execute(b'/bin/sh', [b'sh', b'-c', b'echo $$'], [])"
    before, after = extension.output(code).split()
    assert before == after


def test_mask_and_dispositions_are_those_of_the_start(extension: Extension) -> None:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, signal.SIGSEGV, 64])
        for signum in (signal.SIGUSR2, signal.SIGCHLD, signal.SIGRTMIN):
            signal.signal(signum, signal.SIG_IGN)

    ignored = extension.value("print(_kernel.started_with()[1])", preexec_fn=prepare)
    found = sets(extension.output(MESS + STATUS, preexec_fn=prepare))
    assert found["SigBlk"] == signal_set(signal.SIGUSR1, signal.SIGSEGV, 64)
    assert found["SigIgn"] == ignored
    assert ignored & signal_set(signal.SIGUSR2, signal.SIGCHLD, signal.SIGRTMIN, signal.SIGHUP, 64) == signal_set(
        signal.SIGUSR2, signal.SIGCHLD, signal.SIGRTMIN
    )
    assert found["SigCgt"] == 0


def test_a_pending_signal_waits_for_a_command_that_was_started_with_it_blocked(extension: Extension) -> None:
    code = "os.kill(os.getpid(), signal.SIGUSR1); _kernel.execute(b'/bin/cat', [b'cat', b'/proc/self/status'], [])"
    out = extension.output(code, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1]))
    pending = [int(line.split()[1], 16) for line in out.splitlines() if line.startswith("ShdPnd")]
    assert pending == [signal_set(signal.SIGUSR1)]


def files(folder: Path) -> dict[str, bytes]:
    """Paths that execve(2) refuses, by the name of the errno."""
    for name, mode, text in (
        ("plain", 0o644, "#!/bin/sh\n"),
        ("text", 0o755, "true\n"),
        ("script", 0o755, "#!/nowhere\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "loop").symlink_to("loop")
    return {
        "ENOENT": os.fsencode(folder / "script"),
        "EACCES": os.fsencode(folder / "plain"),
        "ENOEXEC": os.fsencode(folder / "text"),
        "ENOTDIR": os.fsencode(folder / "text" / "below"),
        "ELOOP": os.fsencode(folder / "loop"),
        "ENAMETOOLONG": b"/" + b"x" * 5000,
    }


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP", "ENAMETOOLONG"])
def test_what_cannot_be_executed_raises_oserror_with_the_errno(extension: Extension, tmp_path: Path, name: str) -> None:
    kind, number = extension.error(f"_kernel.execute({files(tmp_path)[name]!r}, [b'x'], [])")
    assert number == getattr(errno, name)
    assert issubclass(getattr(builtins, kind), OSError)


def test_arguments_that_are_too_long_raise_e2big(extension: Extension) -> None:
    assert extension.error("_kernel.execute(b'/bin/true', [b'true', b'x' * (1 << 20)], [])") == ("OSError", errno.E2BIG)


def test_after_a_failure_the_signals_are_blocked_again(extension: Extension) -> None:
    code = """
try:
    _kernel.execute(b'/nowhere', [b'nowhere'], [])
except FileNotFoundError:
    os.kill(os.getpid(), signal.SIGTERM)
    event = _kernel.wait_signal(1 << signal.SIGTERM - 1, 0)
    print((_kernel.set_mask(0), event[0]))
"""
    mask, signum = extension.value(code, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []))
    assert mask == BLOCKED & ~signal_set(KILL, STOP)
    assert signum == signal.SIGTERM


def test_after_a_failure_the_mask_is_the_one_from_before(extension: Extension) -> None:
    code = """
_kernel.set_mask(1 << 39)
try:
    _kernel.execute(b'/nowhere', [b'nowhere'], [])
except FileNotFoundError:
    print(_kernel.set_mask(0))
"""
    assert extension.value(code) == 1 << 39


def test_it_can_be_tried_again_as_a_search_in_path_does(extension: Extension) -> None:
    code = """
for _ in range(1000):
    try:
        _kernel.execute(b'/nowhere', [b'echo', b'found'], [b'A=1'])
    except FileNotFoundError:
        pass
_kernel.execute(b'/bin/echo', [b'echo', b'found'], [b'A=1'])
"""
    assert extension.output(code) == "found\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("", "TypeError"),
        ("b'/bin/true', [b'true']", "TypeError"),
        ("'/bin/true', [b'true'], []", "TypeError"),
        ("b'/bin/true', (b'true',), []", "TypeError"),
        ("b'/bin/true', [b'true'], {}", "TypeError"),
        ("b'/bin/true', ['true'], []", "TypeError"),
        ("b'/bin/true', [b'true'], [b'A=1', None]", "TypeError"),
        ("b'/bin/t\\0rue', [b'true'], []", "ValueError"),
        ("b'/bin/true', [b't\\0rue'], []", "ValueError"),
        ("b'/bin/true', [b'true'], [b'A=\\0']", "ValueError"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_has_changed(extension: Extension, arguments: str, error: str) -> None:
    code = f"""
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
try:
    _kernel.execute({arguments})
except (TypeError, ValueError) as error:
    print((type(error).__name__, _kernel.set_mask(0), signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN))
"""
    found = extension.value(code, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []))
    assert found == (error, BLOCKED & ~signal_set(KILL, STOP), True)


def test_no_function_keeps_memory(extension: Extension) -> None:
    code = """
import tracemalloc
def attempt(function, *arguments):
    try:
        function(*arguments)
    except (OSError, TypeError, ValueError, OverflowError):
        pass
def all_of_them():
    for arguments in (
        (b'/nowhere', [b'word'] * 9, [b'A=1'] * 9),
        (b'/nowhere', [b'word', None], []),
        (b'/nowhere', [b'word'], [None]),
    ):
        attempt(_kernel.execute, *arguments)
    for mask in (1 << 63, -1, 'x'):
        attempt(_kernel.set_mask, mask)
    for arguments in ((1 << 33, 0), (1, -1), (1, 'x')):
        attempt(_kernel.wait_signal, *arguments)
    for arguments in ((10, True), (10, False), (99, True)):
        attempt(_kernel.set_ignored, *arguments)
    for arguments in ((900, 901), (2, 1)):
        attempt(_kernel.close_fds, *arguments)
    for signum in (0, 99, 'x'):
        attempt(_kernel.set_parent_death_signal, signum)
    _kernel.set_mask((1 << 64) - 1)
    os.kill(os.getpid(), 40)
    _kernel.wait_signal(1 << 39, 0)
    _kernel.started_with(), _kernel.environment(), _kernel.monotonic(), _kernel.set_child_subreaper()
_kernel.set_mask((1 << 64) - 1)
for _ in range(10):
    all_of_them()
tracemalloc.start()
all_of_them()
before = tracemalloc.get_traced_memory()[0]
for _ in range(200):
    all_of_them()
print(tracemalloc.get_traced_memory()[0] - before)
"""
    assert extension.value(code) < 200 * 16, "less than one small object for each round"
