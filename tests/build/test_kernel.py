"""The C extension, function by function, in interpreters of their own; plain, and under the sanitizers."""

import os
import signal
import sys

import pytest
from extension import Extension, spawn_code
from harness import DEADLINE, state, wait_until

from run.signals import ALL_SIGNALS, FAULT_SIGNALS, RTMAX, signal_set

CATCHABLE = ALL_SIGNALS & ~signal_set(signal.SIGKILL, signal.SIGSTOP)
LIBRARY_SIGNALS = signal_set(32, 33)
"""Those that the C library keeps for itself, and leaves out of its own signal sets."""

BLOCKED_NOW = "int([x for x in open('/proc/self/status') if x.startswith('SigBlk')][0].split()[1], 16)"
IGNORED_NOW = "int([x for x in open('/proc/self/status') if x.startswith('SigIgn')][0].split()[1], 16)"


def block(*signums: int) -> None:
    """Before an interpreter starts: block these, and no others."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signums)


# --- started_with, and what loading does


def test_what_is_blocked_is_all_but_the_faults(extension: Extension) -> None:
    assert extension.value("print(_kernel.BLOCKED)") == ALL_SIGNALS & ~FAULT_SIGNALS


def test_loading_blocks_all_but_the_faults_and_keeps_what_was_blocked(extension: Extension) -> None:
    for given in ((), (signal.SIGUSR1, signal.SIGSEGV, signal.SIGRTMIN + 6)):
        found = extension.value(f"print({BLOCKED_NOW})", preexec_fn=lambda given=given: block(*given))
        assert found == ((ALL_SIGNALS & ~FAULT_SIGNALS) & CATCHABLE) | signal_set(*given)


def test_started_with_has_the_mask_from_before_loading(extension: Extension) -> None:
    code = "print(_kernel.started_with()[0])"
    assert extension.value(code, preexec_fn=block) == 0
    given = (signal.SIGHUP, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN, RTMAX)
    assert extension.value(code, preexec_fn=lambda: block(*given)) == signal_set(*given)


def test_started_with_has_the_signals_of_the_c_library_too(extension: Extension) -> None:
    inner = extension.argv("print(_kernel.started_with()[0])")
    outer = f"""
_kernel.set_mask({LIBRARY_SIGNALS})
os.execv({sys.executable!r}, {inner!r})
"""
    assert extension.value(outer) == LIBRARY_SIGNALS


def test_started_with_has_what_was_ignored(extension: Extension) -> None:
    def ignore() -> None:
        for signum in (signal.SIGHUP, signal.SIGCHLD, signal.SIGRTMAX):
            signal.signal(signum, signal.SIG_IGN)

    pythons_own = signal_set(signal.SIGPIPE, signal.SIGXFSZ)
    code = "print(_kernel.started_with()[1])"
    assert extension.value(code) & ~pythons_own == 0
    assert extension.value(code, preexec_fn=ignore) & ~pythons_own == signal_set(
        signal.SIGHUP, signal.SIGCHLD, signal.SIGRTMAX
    )


def test_started_with_does_not_change_later(extension: Extension) -> None:
    code = """
before = _kernel.started_with()
_kernel.set_mask(0)
_kernel.set_ignored(signal.SIGHUP, True)
print(_kernel.started_with() == before)
"""
    assert extension.value(code) is True


# --- environment


def test_environment_is_exact_with_bytes_doubles_and_order(extension: Extension) -> None:
    base = [f"{name}={value}".encode() for name, value in extension.variables.items()]
    given = [b"Z=1", b"A=\xff\xfe", b"A=2", b"no equals sign", b"=C:", b"EMPTY=", *base]
    inner = [word.encode() for word in extension.argv("print(_kernel.environment())")]
    outer = f"os.waitpid({spawn_code(sys.executable, inner, given)}, 0)"
    assert extension.value(outer) == given


@pytest.mark.parametrize("how", ["for name in list(os.environ): del os.environ[name]", "ctypes.CDLL(None).clearenv()"])
def test_environment_may_be_empty(extension: Extension, how: str) -> None:
    assert extension.value(f"import ctypes\n{how}\nprint(_kernel.environment())") == []


# --- set_mask


@pytest.mark.parametrize("mask", [0, 1, LIBRARY_SIGNALS, 1 << 63, CATCHABLE])
def test_set_mask_sets_every_signal_and_returns_the_old_mask(extension: Extension, mask: int) -> None:
    code = f"""
old = {BLOCKED_NOW}
returned = _kernel.set_mask({mask})
now = {BLOCKED_NOW}
print((returned == old, now, _kernel.set_mask(0)))
"""
    assert extension.value(code) == (True, mask, mask)


def test_set_mask_leaves_out_what_cannot_be_blocked(extension: Extension) -> None:
    assert extension.value(f"_kernel.set_mask({ALL_SIGNALS}); print(_kernel.set_mask({ALL_SIGNALS}))") == CATCHABLE


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("", "TypeError"),
        ("None", "TypeError"),
        ("'1'", "TypeError"),
        ("1.5", "TypeError"),
        ("-1", "OverflowError"),
        ("1 << 64", "OverflowError"),
    ],
)
def test_set_mask_refuses_what_is_not_a_signal_set(extension: Extension, argument: str, error: str) -> None:
    assert extension.error(f"_kernel.set_mask({argument})") == (error, None)


# --- set_ignored


def test_set_ignored_ignores_and_resets(extension: Extension) -> None:
    code = f"""
signal.signal(signal.SIGUSR1, lambda *_: None)
_kernel.set_ignored(signal.SIGUSR1, True)
_kernel.set_ignored(64, True)
first = {IGNORED_NOW}
_kernel.set_ignored(64, False)
print((first, {IGNORED_NOW}))
"""
    first, second = extension.value(code)
    assert first & ~second == signal_set(64)
    assert second & signal_set(signal.SIGUSR1)


def test_set_ignored_false_is_the_default_action(extension: Extension) -> None:
    code = """
signal.signal(signal.SIGUSR1, lambda *_: None)
_kernel.set_ignored(signal.SIGUSR1, False)
_kernel.set_mask(0)
os.kill(os.getpid(), signal.SIGUSR1)
"""
    with extension.start(code) as process:
        process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGUSR1


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP, 0, 65, -1])
def test_set_ignored_fails_with_einval_for_what_cannot_be_ignored(extension: Extension, signum: int) -> None:
    assert extension.error(f"_kernel.set_ignored({int(signum)}, True)") == ("OSError", 22)


@pytest.mark.parametrize("arguments", ["", "1", "'1', True", "1, True, 1"])
def test_set_ignored_refuses_wrong_arguments(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.set_ignored({arguments})") == ("TypeError", None)


# --- wait_signal


def test_wait_signal_takes_every_signal_that_can_be_blocked(extension: Extension) -> None:
    code = f"""
_kernel.set_mask({ALL_SIGNALS})
found = []
for signum in range(1, 65):
    if {CATCHABLE} >> (signum - 1) & 1:
        os.kill(os.getpid(), signum)
        found.append(_kernel.wait_signal({ALL_SIGNALS}, 0))
print((found, os.getpid()))
"""
    found, pid = extension.value(code)
    assert [(signum, sender) for signum, _, sender, _, _ in found] == [
        (signum, pid) for signum in range(1, 65) if signum not in (signal.SIGKILL, signal.SIGSTOP)
    ]


def test_wait_signal_takes_only_what_is_asked_for(extension: Extension) -> None:
    code = """
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR2)
usr2 = 1 << signal.SIGUSR2 - 1
print([event and event[0] for event in (_kernel.wait_signal(usr2, 0), _kernel.wait_signal(usr2, 0))])
"""
    assert extension.value(code) == [signal.SIGUSR2, None]


def test_wait_signal_takes_each_of_a_queue_of_real_time_signals(extension: Extension) -> None:
    code = """
for _ in range(3):
    os.kill(os.getpid(), 34)
print([bool(_kernel.wait_signal(1 << 33, 0)) for _ in range(4)])
"""
    assert extension.value(code) == [True, True, True, False]


def test_wait_signal_knows_the_sender_and_what_the_kernel_sent(extension: Extension) -> None:
    code = """
pid = os.fork()
if pid == 0:
    os.kill(os.getppid(), signal.SIGUSR1)
    os._exit(0)
child = _kernel.wait_signal(1 << signal.SIGUSR1 - 1, None)
chld = _kernel.wait_signal(1 << signal.SIGCHLD - 1, None)
signal.setitimer(signal.ITIMER_REAL, 0.001)
alrm = _kernel.wait_signal(1 << signal.SIGALRM - 1, None)
print((child[:4] == (signal.SIGUSR1, 0, pid, os.getuid()), chld[0], chld[1] > 0, alrm[0], alrm[1] > 0))
"""
    assert extension.value(code) == (True, signal.SIGCHLD, True, signal.SIGALRM, True)


def test_wait_signal_returns_none_when_the_time_is_over(extension: Extension) -> None:
    code = """
begin = time.monotonic()
events = [_kernel.wait_signal(1 << 33, timeout) for timeout in (0, 0.0, 0.25)]
print((events, time.monotonic() - begin))
"""
    events, seconds = extension.value(code)
    assert events == [None] * 3
    assert seconds >= 0.25


def test_wait_signal_without_timeout_sleeps_until_the_signal_comes(extension: Extension) -> None:
    with extension.start(
        f"print('ready', flush=True); print(_kernel.wait_signal({ALL_SIGNALS & ~FAULT_SIGNALS}, None))"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: state(process.pid) == "S", "it sleeps")
        os.kill(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
    assert (out, err, process.returncode) == (
        f"({int(signal.SIGTERM)}, 0, {os.getpid()}, {os.getuid()}, 0)\n",
        "",
        0,
    )


def test_wait_signal_returns_early_after_a_stop_and_continue(extension: Extension) -> None:
    with extension.start(
        f"print('ready', flush=True); print(_kernel.wait_signal(1 << 33, {DEADLINE * 10}))"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: state(process.pid) == "S", "it sleeps")
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: state(process.pid) == "T", "it is stopped")
        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (out, err, process.returncode) == ("None\n", "", 0)


@pytest.mark.parametrize("timeout", ["-1", "-1e-9", "float('nan')", "float('inf')", "1e9", "-(10 ** 30)"])
def test_wait_signal_refuses_a_timeout_out_of_range(extension: Extension, timeout: str) -> None:
    assert extension.error(f"_kernel.wait_signal(1, {timeout})") == ("ValueError", None)


@pytest.mark.parametrize("arguments", ["", "1", "'1', 0", "1, '0'", "1, b'0'", "1, 0, 0", "1.5, 0"])
def test_wait_signal_refuses_wrong_arguments(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.wait_signal({arguments})") == ("TypeError", None)


# --- monotonic


def test_monotonic_is_the_clock_of_that_name(extension: Extension) -> None:
    code = "times = time.monotonic(), _kernel.monotonic(), time.monotonic(); print(list(times) == sorted(times))"
    assert extension.value(code) is True


def test_cpu_time_counts_what_this_process_has_taken(extension: Extension) -> None:
    code = "clock = lambda: time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID); time.sleep(0.5); "
    code += "times = clock(), _kernel.cpu_time(), clock(); print(list(times) == sorted(times) and times[2] < 0.4)"
    assert extension.value(code) is True


# --- set_child_subreaper


def test_a_subreaper_adopts_orphans_and_nobody_else_does(extension: Extension) -> None:
    code = """
def orphan_is_ours():
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.read(read, 1)
            os._exit(7)
        os._exit(0)
    os.waitpid(middle, 0)
    os.write(write, b'x')
    try:
        return os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) == 7
    except ChildProcessError:
        return False
before = orphan_is_ours()
_kernel.set_child_subreaper()
print((before, orphan_is_ours()))
"""
    assert extension.value(code) == (False, True)


def test_set_child_subreaper_takes_no_argument(extension: Extension) -> None:
    assert extension.error("_kernel.set_child_subreaper(1)") == ("TypeError", None)


# --- queue_signal


@pytest.mark.parametrize("signum", [signal.SIGUSR1, 34, 64])
def test_queue_signal_sends_value_and_sender(extension: Extension, signum: int) -> None:
    code = f"""
for value in (7, 1 << 63, 0):
    _kernel.queue_signal(os.getpid(), {int(signum)}, 12, 34, value)
    print(_kernel.wait_signal(1 << {int(signum)} - 1, 0), end=", ")
"""
    expected = tuple((int(signum), -1, 34, 12, value) for value in (7, 1 << 63, 0))
    assert extension.value(code) == expected


def test_queue_signal_fails_for_nobody(extension: Extension) -> None:
    assert extension.error("_kernel.queue_signal(1 << 30, 10, 0, 0, 0)") == ("ProcessLookupError", 3)


@pytest.mark.parametrize("arguments", ["", "1", "1, 2, 3, 4, None", "'1', 2, 3, 4, 5"])
def test_queue_signal_refuses_wrong_arguments(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.queue_signal({arguments})") == ("TypeError", None)


# --- write_briefly


def test_write_briefly_writes_all_where_there_is_room(extension: Extension) -> None:
    assert extension.value(
        "read, write = os.pipe(); print((_kernel.write_briefly(write, b'abc'), os.read(read, 9)))"
    ) == (
        3,
        b"abc",
    )


def test_write_briefly_comes_back_where_there_is_none_and_leaves_signals_as_they_were(extension: Extension) -> None:
    code = f"""
read, write = os.pipe()
os.set_blocking(write, False)
filled = 0
while True:
    try:
        filled += os.write(write, bytes(4096))
    except BlockingIOError:
        break
os.read(read, 8192)
os.set_blocking(write, True)
mask = {BLOCKED_NOW}
written = _kernel.write_briefly(write, bytes(65536))
try:
    _kernel.write_briefly(write, b"x")
except InterruptedError:
    print((written, mask == {BLOCKED_NOW}, signal.getsignal(signal.SIGTTIN) == signal.SIG_DFL))
"""
    assert extension.value(code) == (8192, True, True)


def test_write_briefly_fails_as_write_does(extension: Extension) -> None:
    assert extension.error("_kernel.write_briefly(99, b'x')") == ("OSError", 9)


@pytest.mark.parametrize("arguments", ["", "1", "1, 'x'", "'1', b'x'"])
def test_write_briefly_refuses_wrong_arguments(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.write_briefly({arguments})") == ("TypeError", None)


# --- close_fds


def test_close_fds_closes_the_range_and_nothing_else(extension: Extension) -> None:
    code = """
for fd in range(50, 60):
    os.dup2(1, fd)
_kernel.close_fds(52, 55)
_kernel.close_fds(52, 55)
_kernel.close_fds(58, 0xFFFFFFFF)
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if 50 <= int(fd)))
"""
    assert extension.value(code) == [50, 51, 56, 57]


def test_close_fds_fails_with_einval_for_a_range_that_ends_before_it_begins(extension: Extension) -> None:
    assert extension.error("_kernel.close_fds(5, 4)") == ("OSError", 22)


@pytest.mark.parametrize("arguments", ["", "1", "'1', 2", "1, None", "1, 2, 3"])
def test_close_fds_refuses_wrong_arguments(extension: Extension, arguments: str) -> None:
    assert extension.error(f"_kernel.close_fds({arguments})") == ("TypeError", None)
