"""Injecting faults: system calls that fail as their manual pages say, by strace(1) or seccomp(2); and their table.

Each errno is injected once, always, and at random calls. RUN_FAULTS_SEED repeats the random ones; the table shows it.
Whatever is injected must have been, or the test fails: a call that is never made would pass for one that may fail.
"""

import errno
import os
import random
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness import AS_PID_1, DEADLINE, compile_c, status, wait_until
from harness import children as children_of

LISTED = {
    "fork": "EAGAIN ENOMEM ENOSYS",
    "clone": "EACCES EAGAIN EBUSY EEXIST EINVAL ENOMEM ENOSPC EOPNOTSUPP EPERM EUSERS",
    "execve": "E2BIG EACCES EAGAIN EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG ENFILE ENOENT ENOEXEC "
    "ENOMEM ENOTDIR EPERM ETXTBSY",
    "waitid": "EAGAIN ECHILD EINTR EINVAL ESRCH",
    "kill": "EINVAL EPERM ESRCH",
    "write": "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE",
    "pwritev2": "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EOPNOTSUPP EPERM EPIPE ESPIPE",
    "sigwaitinfo": "EAGAIN EINTR EINVAL",
    "prctl": "EACCES EBADF EBUSY EFAULT EINVAL ENODEV ENXIO EOPNOTSUPP EPERM ERANGE",
    "tcsetpgrp": "EBADF EINVAL EIO ENOTTY EPERM",
    "setpgid": "EACCES EINVAL EPERM ESRCH",
    "open": "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE "
    "ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY EAGAIN",
    "socket": "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
    "bind": "EACCES EADDRINUSE EADDRNOTAVAIL EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR "
    "ENOTSOCK EROFS",
    "listen": "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP",
    "accept4": "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK EOPNOTSUPP EPERM "
    "EPROTO",
    "connect": "EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED EFAULT EINPROGRESS "
    "EINTR EISCONN ENETUNREACH ENOTSOCK EPERM EPROTOTYPE ETIMEDOUT",
    "recv": "EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK",
    "send": "EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN EMSGSIZE ENOBUFS ENOMEM "
    "ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE",
    "epoll_ctl": "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
    "poll": "EFAULT EINTR EINVAL ENOMEM",
    "getpeername": "EBADF EFAULT EINVAL ENOBUFS ENOTCONN ENOTSOCK",
    "getsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
    "epoll_create": "EINVAL EMFILE ENFILE ENOMEM",
    "epoll_wait": "EBADF EFAULT EINTR EINVAL",
    "signalfd": "EBADF EINVAL EMFILE ENFILE ENODEV ENOMEM",
    "pipe": "EFAULT EINVAL EMFILE ENFILE ENOPKG",
    "fcntl": "EACCES EAGAIN EBADF EBUSY EDEADLK EFAULT EINTR EINVAL EMFILE ENOLCK ENOENT ENOTDIR EPERM",
    "read": "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR",
    "ioctl": "EBADF EFAULT EINVAL ENOTTY",
    "setfsuid": "",
    "setfsgid": "",
    "capget": "EFAULT EINVAL EPERM ESRCH",
    "getpgid": "EPERM ESRCH",
    "setgroups": "EFAULT EINVAL ENOMEM EPERM",
    "setresuid": "EAGAIN EINVAL EPERM",
    "setsid": "EPERM",
    "dup": "EBADF EBUSY EINTR EMFILE EINVAL",
    "chdir": "EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
    "stat": "EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW",
}
"""What the ERRORS of the manual pages list. EWOULDBLOCK is EAGAIN; ERESTARTNOINTR never leaves the kernel."""

SANDBOX = ("ENOSYS", "EPERM")
"""What the seccomp filters of container engines answer, to any call."""

SECOND_PAGE = {"fork": "clone"}
"""The call that the C library makes instead has a page too."""

FORK = "?clone,?clone3,?fork,?vfork"
"""The calls that may make a process, as strace(1) wants them."""

STRACE = shutil.which("strace") or "strace"

ONCE, ALWAYS = "1", "1+"

SEED = os.environ.setdefault("RUN_FAULTS_SEED", str(random.SystemRandom().randrange(10**6)))
"""The same in all processes that pytest-xdist starts."""


def errnos(call: str) -> list[str]:
    """What a system call may fail with."""
    pages = [LISTED[call], LISTED.get(SECOND_PAGE.get(call, ""), "")]
    return sorted({*" ".join(pages).split(), *SANDBOX})


def interrupted(when: str) -> str:
    """The same, but 20 times at most: no kernel interrupts for ever where all signals are blocked.

    CPython tries again each time (PEP 475), and would do so for ever.
    """
    return re.sub(r"^(\d+)\+$", lambda first: f"{first[1]}..{int(first[1]) + 19}", when)


def draw(generator: random.Random, calls: int) -> str:
    """An expression for `when` of strace(1) that begins at one of so many calls."""
    first = generator.randint(1, calls)
    step, more = generator.randint(2, 4), generator.randint(0, 2)
    return generator.choice([f"{first}", f"{first}+", f"{first}+{step}", f"{first}..{first + more}"])


def every_errno(
    call: str, *whens: str, drawn: int = 0, calls: int = 1, but: tuple[str, ...] = ()
) -> pytest.MarkDecorator:
    """Run a test for each errno of a call, and each way to inject it, and count them in the table.

    Random ways are drawn in addition. They begin at one of so many calls, which are made for certain as long as none of
    them has failed.
    """
    names = {ONCE: "once", ALWAYS: "always"}
    parameters = []
    for error in errnos(call):
        if error in but:
            continue
        generator = random.Random(f"{SEED} {call} {error}")
        ways = [(when, names.get(when, f"at-{when}")) for when in whens]
        ways += [(when, f"at-random-{when}") for when in (draw(generator, calls) for _ in range(drawn))]
        for when, name in ways:
            mark = pytest.mark.fault(call, error)
            effective = interrupted(when) if error == "EINTR" and call != "sigwaitinfo" else when
            parameters.append(pytest.param(error, effective, id=f"{error}-{name}", marks=mark))
    return pytest.mark.parametrize(("error", "when"), parameters)


ORDINARY = ("-q", "/bin/sh", "-c", "echo started; ( (exit 9) & ); exit 7")
"""A command that writes "started", and leaves an orphan with the worst exit code."""

HELD = ("-q", "/bin/sh", "-c", "echo started; read _; ( (exit 9) & ); exit 7")
"""The same, where the command waits for the end of its stdin, a pipe."""

OPEN = "?open,openat"

LISTS = {"self": "/proc/self/status", "children": "/proc/thread-self/children"}
"""What is opened to list the children: whether /proc is that of the own pid namespace, and the list."""

TWO_GROUPS = 'mkfifo "$0"; setsid sh -c \'echo >"$1"; exec sleep 1000\' sh "$0" & read _ <"$0"; sleep 1000 & exit 7'
"""A script that leaves an orphan in its own process group, and a daemon in another one. $0 names a pipe to be made."""

# -- Runs of the binary ------------------------------------------------------------------------------------------------

TOO_LONG = 6_000_000
"""Bytes of a trace that only an endless loop can fill."""


class Traced:
    """`run` under strace(1), which makes system calls of it fail."""

    def __init__(self, folder: Path, argv: list[str], options: dict[str, Any]) -> None:
        """Start it: stdout is a pipe, stderr a file unless the options of Popen say otherwise."""
        self._trace = folder / "trace"
        self._log = folder / "log"
        self._mark = f"RUN_FAULT={folder}"
        environment = {**options.pop("env", os.environ), "RUN_FAULT": str(folder)}  # the mark
        with self._log.open("wb") as log:
            every: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": log, **options}
            self.process: subprocess.Popen[bytes] = subprocess.Popen(argv, bufsize=0, env=environment, **every)
        self.begin = time.monotonic()
        self._finished = False
        self.code = -1
        self.out = ""
        self.seen = ""
        """What a test has read of the output before the end."""

    @property
    def log(self) -> str:
        """What was written to stderr so far."""
        return self._log.read_text(errors="replace")

    @property
    def calls(self) -> list[str]:
        """The calls that strace has written down so far, in whole lines."""
        return traced_calls(self._trace)

    @property
    def failed(self) -> list[str]:
        """Those that were made to fail."""
        return failed(self.calls)

    @property
    def run(self) -> int:
        """The pid of the `run` that is traced, or 0 if it has ended."""
        found = children_of(self.process.pid)
        return found[0] if found else 0

    def wake_until_failed(self, count: int = 1) -> None:
        """Wake `run` by signals that the command ignores until so many calls have failed, and assert that it lives."""

        def wake() -> bool:
            if (run := self.run) and not self.failed[count - 1 :]:
                with suppress(ProcessLookupError):
                    os.kill(run, signal.SIGURG)
            return len(self.failed) >= count or self.process.poll() is not None

        wait_until(wake, f"{count} calls fail")
        assert self.process.poll() is None, f"run has ended before the command:\n{self.log}"

    def close_stdin(self) -> None:
        """Let a command go on that waits for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def line(self) -> str:
        """The next line that is written to stdout, once it is there, or nothing at its end."""
        stdout = self.process.stdout
        assert stdout is not None
        wait_until(lambda: select.select([stdout], [], [], 0)[0], "a line of output")
        return stdout.readline().decode()

    def finish(self) -> "Traced":
        """Wait for the end: of `run`, and of everything that it has started, which all has its stdout.

        Fails if nothing was made to fail.
        """
        try:
            wait_until(self._ended_or_endless, "run ends")
            assert self.process.poll() is not None, f"an endless loop:\n{self.log[:2000]}"
            out, _ = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"run has ended, but not what it started; its log:\n{self.log}") from None
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[:2000]}") from None
        self._finished = True
        self.code, self.out = self.process.returncode, (out or b"").decode()
        assert self.failed, f"no fault was injected:\n{self.calls}"
        return self

    def _ended_or_endless(self) -> bool:
        endless = self._trace.exists() and self._trace.stat().st_size > TOO_LONG
        return endless or self.process.poll() is not None

    def kill_all(self) -> None:
        """Kill whatever has our mark in its environment, unless all has ended by itself."""
        if self._finished:
            return
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if self._mark.encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue

    def assert_ran(self, code: int = 9, out: str = "started\n") -> None:
        """The command ran, and nothing had to be said."""
        assert (self.code, self.out, self.log) == (code, out, "")

    def assert_refused(self, error: str, out: str = "") -> None:
        """`run` said in one clear line why it cannot go on, and what it started is gone."""
        assert (self.code, self.out) == (125, out), self.log
        assert_clear(self.log, error)

    def assert_went_on(self, what: str, error: str, code: int = 9) -> None:
        """The command ran to its end, and `run` said once what it cannot wait for."""
        assert (self.code, self.out, self.log) == (code, "started\n", went_on(what, error))

    def assert_gave_up(self, error: str) -> None:
        """The command ran to its end, which `run` could not be told: it said so, perhaps twice."""
        assert (self.code, self.out) == (125, "started\n"), self.log
        last = went_on("processes", error).replace(GOING_ON, "")
        assert self.log in (last, went_on("processes", error) + last)


GOING_ON = "; going on as well as possible"


def went_on(what: str, error: str) -> str:
    """The line that `run` writes once when it cannot wait for this."""
    return f"run: [error] cannot wait for {what}: {os.strerror(getattr(errno, error))}{GOING_ON}\n"


def assert_clear(log: str, error: str) -> None:
    """Fail unless a log is one line that says to a user, not to a Python programmer, what failed and why."""
    assert re.fullmatch(r"run: \[error\] [^\n]+\n", log), log
    assert os.strerror(getattr(errno, error)) in log
    assert not re.search(r"internal|Errno|Error\b|Traceback", log), log


NOTHING_TO_SAY = ("ESRCH",)
"""The receiver has gone meanwhile."""


def assert_told(log: str, error: str, names: list[str]) -> None:
    """Fail unless the log has a warning for each of these signals that could not be sent, and nothing else."""
    lines = log.splitlines()
    assert all(line.startswith("run: [warn] ") and "internal" not in line for line in lines), log
    told = [name for line in lines for name in re.findall(r"\b([A-Z0-9+]+) \(\d+\)", line)]
    assert told == ([] if error in NOTHING_TO_SAY else names), log


Trace = Callable[..., Traced]


def traced_calls(trace: Path) -> list[str]:
    """The calls in a file of strace(1), as far as their lines are whole: not what it says of signals and the end."""
    lines = trace.read_text(errors="replace").rpartition("\n")[0].splitlines() if trace.exists() else []
    return [line for line in lines if not line.startswith(("--- ", "+++ "))]


def failed(calls: list[str]) -> list[str]:
    """Those that were made to fail."""
    return [call for call in calls if call.endswith("(INJECTED)")]


def injection(folder: Path, calls: str, error: str, when: str, paths: tuple[str | Path, ...] = ()) -> list[str]:
    """The words of strace(1) that make calls fail, and write down all calls of these."""
    words = [STRACE, "--quiet=all", "-o", str(folder / "trace"), "-e", f"trace={calls}"]
    words += ["-e", f"inject={calls}:error={error}:when={when}"]
    for path in paths:
        words += ["-P", str(path)]
    return words


@pytest.fixture
def trace(binary: str, tmp_path: Path) -> Iterator[Trace]:
    """Starts the binary under strace: the calls, the errno, when it is injected, and the words of the command line.

    With children the command and its children are traced too, each of which counts its calls anew. With paths only
    calls for these files fail. A prefix is other words that start the binary.
    """
    started: list[Traced] = []

    def start(
        calls: str,
        error: str,
        when: str,
        *words: str,
        children: bool = False,
        paths: tuple[str | Path, ...] = (),
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> Traced:
        argv = [*injection(tmp_path, calls, error, when, paths), *["-f"] * children]
        started.append(Traced(tmp_path, [*argv, *prefix, binary, *words], options))
        return started[-1]

    yield start
    for traced in started:
        traced.kill_all()


@pytest.fixture
def trace_pid_1(binary: str, tmp_path: Path) -> Iterator[Trace]:
    """Starts the binary as PID 1 of a pid namespace, under a strace outside of it. See trace.

    With children what it starts is traced too.
    """
    started: list[Traced] = []
    tracers: list[subprocess.Popen[bytes]] = []

    def start(
        calls: str, error: str, when: str, *words: str, children: bool = False, paths: tuple[str, ...] = ()
    ) -> Traced:
        # The shell is replaced by the binary once it is traced, which it is told through its standard input.
        argv = [*AS_PID_1, "sh", "-c", 'read _; exec "$@"', "sh", binary, *words]
        traced = Traced(tmp_path, argv, {"stdin": subprocess.PIPE})
        started.append(traced)
        shell = wait_until(lambda: children_of(traced.process.pid), "unshare has started the shell")[0]
        options = [*injection(tmp_path, calls, error, when, paths), *["-f"] * children]
        tracers.append(subprocess.Popen([*options, "-p", str(shell)]))
        wait_until(lambda: status(shell).get("TracerPid", "0") != "0", "strace has attached itself")
        assert traced.process.stdin is not None
        traced.process.stdin.write(b"\n")
        traced.process.stdin.flush()
        return traced

    yield start
    for traced in started:
        traced.kill_all()
    for tracer in tracers:
        tracer.kill()
        tracer.wait(DEADLINE)


@pytest.fixture(scope="session")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that starts another one to which a system call is always refused, as engines do by seccomp(2)."""
    source = Path(__file__).with_name("refuse.c").read_text()
    return str(compile_c(source, tmp_path_factory.mktemp("refuse") / "refuse", "-static"))


# -- The table ---------------------------------------------------------------------------------------------------------

TRIED: dict[str, dict[str, list[bool]]] = {}
"""Of each call and errno: whether `run` survived, for each combination that was tried."""


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker."""
    config.addinivalue_line("markers", "fault(call, errno): a combination that the table of faults counts")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count what was tried."""
    report = yield
    marker = item.get_closest_marker("fault")
    if marker and call.when == "call" and not report.skipped:
        report.user_properties.append(("fault", " ".join(marker.args)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count it: here, since the test may have run in another process."""
    for key, value in report.user_properties:
        if key == "fault" and report.when == "call":
            name, error = str(value).split()
            TRIED.setdefault(name, {}).setdefault(error, []).append(report.passed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not TRIED:
        return
    terminalreporter.section(f"faults: RUN_FAULTS_SEED={SEED} repeats the random ones")
    rows = [
        (name, len(errors), [ok for results in errors.values() for ok in results]) for name, errors in TRIED.items()
    ]
    rows.append(("total", sum(row[1] for row in rows), [ok for row in rows for ok in row[2]]))
    terminalreporter.line(f"{'call':20} {'errnos':>8} {'tried':>8} {'survived':>9}")
    for name, count, results in rows:
        terminalreporter.line(f"{name:20} {count:8} {len(results):8} {sum(results):9}")
