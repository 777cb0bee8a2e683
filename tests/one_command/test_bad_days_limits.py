"""Contract, "Bad days": small resource limits, huge command lines, and system calls that fail."""

import re
import resource
from pathlib import Path

import pytest
from elf import loaded_size
from harness import Starter, wait_until

ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")
ORPHANS = ("sh", "-c", "( (exit 5) & ); exit 3")


def limited(kind: int, amount: int) -> None:
    """A setup: a limit of our own."""
    resource.setrlimit(kind, (amount, amount))


@pytest.mark.parametrize(
    "more", [*range(550_000, 4_000_000, 200_000), *range(4_000_000, 5_200_000, 50_000), 10_000_000]
)
def test_little_memory_is_enough_or_an_error_in_one_line(start: Starter, tmp_path: Path, more: int) -> None:
    """With less than what is mapped and half a megabyte, kernel or C library end it before it is `run`: with more.

    A bundle maps its file, too.
    """
    marker = tmp_path / "marker"
    script = f"echo >{marker}"
    amount = max(loaded_size(start.binary), Path(start.binary).stat().st_size) + more
    started = start("-q", "sh", "-c", script, preexec_fn=lambda: limited(resource.RLIMIT_AS, amount))
    code, log = started.wait(), started.log()
    if code == 125:
        assert ONE_ERROR.fullmatch(log)
        assert not marker.exists()
    else:
        assert (code, log, marker.exists()) == (0, "", True)


@pytest.mark.parametrize(
    "kind",
    [
        *("RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_MEMLOCK", "RLIMIT_SIGPENDING", "RLIMIT_CORE"),
        pytest.param("RLIMIT_FSIZE", marks=pytest.mark.static_only("what it unpacks is files to the kernel")),
    ],
)
def test_other_small_limits(start: Starter, kind: str) -> None:
    # A snapshot is data: 5 MB with Python 3.11, 6 MB with 3.12.
    amount = {"RLIMIT_DATA": 8_000_000, "RLIMIT_STACK": 200_000}.get(kind, 0)
    code, _, log = start.result(
        "-qq", "sh", "-c", "( (exit 5) & ); exit 3", preexec_fn=lambda: limited(getattr(resource, kind), amount)
    )
    assert (code, log) == (5, "")


@pytest.mark.static_only("the dynamic loader opens files")
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 8])
def test_few_open_files(start: Starter, limit: int, tmp_path: Path) -> None:
    """With fewer than 4 a dynamically linked command cannot start, but `run` can."""
    code, _, log = start.result("-v", preexec_fn=lambda: limited(resource.RLIMIT_NOFILE, limit))
    assert (code, log) == (0, "")
    if limit >= 4:
        setup = lambda: limited(resource.RLIMIT_NOFILE, limit)  # noqa: E731
        assert start.result("-s", "TERM", "sh", "-c", "setsid sleep 1000 & exit 0", preexec_fn=setup)[0] == 143
    else:
        code, _, log = start.result("-q", "/bin/true", preexec_fn=lambda: limited(resource.RLIMIT_NOFILE, limit))
        assert code in (0, 127)
        assert "run: " not in log


@pytest.mark.parametrize(
    "words", [["x" * 130_000] * 10, ["x"] * 100_000, [""] * 150_000], ids=["long", "many", "empty"]
)
def test_a_huge_list_of_arguments(start: Starter, words: list[str]) -> None:
    started = start("-q", "sh", "-c", "echo $#", "sh", *words)
    assert started.wait() == 0
    assert started.out() == f"{len(words)}\n"


def test_an_empty_list_of_arguments(start: Starter, binary: str, tmp_path: Path) -> None:
    """argv[0] itself missing: since Linux 5.18 the kernel makes it an empty string."""
    program = (
        "import ctypes, sys; n = (ctypes.c_char_p * 1)(None); ctypes.CDLL(None).execve(sys.argv[1].encode(), n, n)"
    )
    code, _, log = Starter("python3", tmp_path).result("-c", program, binary)
    assert code == 125
    assert ONE_ERROR.fullmatch(log)


FAILING_CALLS = [
    "prctl:error=EINVAL:when=1",
    "close_range:error=ENOSYS",
    "openat,open:error=EMFILE:when=1+",
    "openat,open:error=ENOENT:when=1+",
    "openat,open:error=EACCES:when=2+",
    "ioctl:error=ENOTTY",
    "ioctl:error=EIO",
    "fstat,newfstatat,stat:error=EACCES",
    "write:error=EINTR:when=1",
    "write:error=EAGAIN:when=1",
    "getrandom:error=ENOSYS",
    "readlink,readlinkat:error=ENOENT",
]
"""In `run` itself, not in the command; or in the dynamic loader that a bundle starts with."""


def injected(fault: str, trace: Path) -> list[str]:
    """The words of strace(1) that make system calls fail, where there are such, and write down which ones did."""
    calls = "?" + fault.partition(":")[0].replace(",", ",?")
    return ["-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault.partition(':')[2]}"]


@pytest.mark.parametrize("fault", FAILING_CALLS)
def test_a_system_call_that_fails_is_no_traceback_and_no_hang(
    binary: str, is_bundle: bool, tmp_path: Path, fault: str
) -> None:
    trace = tmp_path / "trace"
    words = ("-s", "TERM", "sh", "-c", "sleep 1000 & exit 5")
    code, _, log = Starter("strace", tmp_path).result("-qq", *injected(fault, trace), binary, *words)
    assert "(INJECTED)" in trace.read_text()
    assert "Traceback" not in log and "internal" not in log, log
    in_loader = is_bundle and code == 127 and "error while loading shared libraries" in log
    assert code == 143 or (code == 125 and "[error]" in log) or in_loader, log


def test_a_process_whose_group_is_not_found_is_gone(binary: str, tmp_path: Path) -> None:
    """So says ESRCH of getpgid(2): it gets no signal, and is waited for."""
    trace = tmp_path / "trace"
    words = ("-s", "TERM", "sh", "-c", "exec 3<&0; cat <&3 & exit 5")
    strace = ("-qq", *injected("getpgid:error=ESRCH", trace), binary)
    started = Starter("strace", tmp_path)(*strace, *words, stdin=-1)
    wait_until(lambda: trace.exists() and "(INJECTED)" in trace.read_text(), "getpgid fails")
    started.close_stdin()
    assert started.wait() == 5, started.log()
    assert "internal" not in started.log()


STARTS = [
    *[("mmap", when) for when in (1, 2, 3)],
    ("mprotect", 1),
    ("munmap", 1),
    *[("rt_sigaction", when) for when in (1, 2, 3, 5, 8)],
    ("rt_sigprocmask", 1),
    ("set_tid_address", 1),
]


@pytest.mark.parametrize(("call", "when"), STARTS)
def test_a_start_that_fails_is_no_traceback(binary: str, is_bundle: bool, tmp_path: Path, call: str, when: int) -> None:
    """Glibc's dynamic loader, which a bundle starts with, does not survive it when its first mmap(2) is refused."""
    trace = tmp_path / "trace"
    strace = ("-qq", *injected(f"{call}:error=ENOMEM:when={when}", trace), binary)
    code, _, log = Starter("strace", tmp_path).result(*strace, *ORPHANS)
    # The snapshot of the static build makes a start do with one mmap(2).
    assert "(INJECTED)" in trace.read_text() or (call == "mmap" and when > 1 and not is_bundle and code == 5)
    assert "Traceback" not in log, log
    assert code in (5, 125, 127) or (is_bundle and (call, code) == ("mmap", -11)), log
