"""The probe: a program that writes down what it was given, started directly and through `run`, to be compared.

Starting it takes an execve(2) of our own: subprocess cannot give an environment with duplicates, nor a signal mask.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness import DEADLINE, compile_c

Report = dict[str, bytes]

SOURCE = Path(__file__).with_name("probe.c")

VOLATILE = (
    "Pid",
    "Tgid",
    "PPid",
    "NSpid",
    "NStgid",
    "NSpgid",
    "FDSize",
    "State",
    "SigQ",
    "Rss",
    "Vm",
    "Hugetlb",
    "ctxt",
)
"""Fields of /proc/PID/status, by a part of their name, that differ from one start to the next."""

_libc = ctypes.CDLL(None, use_errno=True)
RT_SIGACTION, RT_SIGPROCMASK = {"x86_64": (13, 14), "aarch64": (134, 135)}[os.uname().machine]
SIG_SETMASK = 2


def signal_mask(signums: Iterable[int]) -> int:
    """A set of signals as the kernel writes it."""
    return sum(1 << (n - 1) for n in set(signums))


def set_blocked(signums: Iterable[int]) -> None:
    """Replace the signal mask by a system call, since the C library leaves 32 and 33 out."""
    mask = ctypes.c_uint64(signal_mask(signums))
    _libc.syscall(RT_SIGPROCMASK, SIG_SETMASK, ctypes.byref(mask), None, 8)


def ignore(signums: Iterable[int]) -> None:
    """Ignore signals by a system call, since the C library leaves 32 and 33 out."""
    action = (ctypes.c_uint64 * 4)(signal.SIG_IGN)
    for signum in signums:
        if _libc.syscall(RT_SIGACTION, signum, ctypes.byref(action), None, 8) != 0:
            raise OSError(ctypes.get_errno(), f"signal {signum} cannot be ignored")


def _strings(values: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def execute(words: Sequence[bytes], environment: Sequence[bytes]) -> None:
    """Become another program: execve(2) with any bytes at all. Raises OSError."""
    _libc.execve(words[0], _strings(words), _strings(environment))
    raise OSError(ctypes.get_errno(), "execve")


def nothing() -> None:
    """Change nothing before the start."""


class Probe:
    """The compiled probe, and the two ways to start it."""

    def __init__(self, folder: Path, binary: str) -> None:
        """Compile it into the folder."""
        self.path = compile_c(SOURCE.read_text(), folder / "probe")
        self._binary = binary
        self._report = folder / "report"

    def words(self, *more: bytes) -> list[bytes]:
        """The probe's own command line."""
        return [os.fsencode(self.path), os.fsencode(self._report), *more]

    def run(
        self, words: Sequence[bytes], setup: Callable[[], object] = nothing, env: Sequence[bytes] | None = None
    ) -> Report:
        """Execute these words, which end in a start of the probe, after the setup; return what the probe wrote down."""
        environment = [b"%s=%s" % entry for entry in os.environb.items()] if env is None else env
        self._report.unlink(missing_ok=True)

        def become() -> None:
            setup()
            execute(words, environment)

        ended = subprocess.run(["the setup"], preexec_fn=become, close_fds=False, timeout=DEADLINE, check=False)
        assert ended.returncode == 0, f"{words[:3]!r} ended with {ended.returncode}"
        return self.last()

    def last(self) -> Report:
        """What the probe wrote down the last time that it was started."""
        lines = self._report.read_text().splitlines()
        return {name: bytes.fromhex(value) for name, _, value in (line.partition(" ") for line in lines)}

    def both(
        self, *more: bytes, setup: Callable[[], object] = nothing, env: Sequence[bytes] | None = None
    ) -> tuple[Report, Report]:
        """What the probe sees when it is started directly, and when it is started through `run -qq`."""
        words = self.words(*more)
        return self.run(words, setup, env), self.run([os.fsencode(self._binary), b"-qq", *words], setup, env)

    def difference(
        self, *more: bytes, setup: Callable[[], object] = nothing, env: Sequence[bytes] | None = None
    ) -> dict[str, tuple[bytes | None, bytes | None]]:
        """What differs between the two starts, but for what the contract says that `run` changes."""
        direct, through = (_comparable(report) for report in self.both(*more, setup=setup, env=env))
        return {
            name: (direct.get(name), through.get(name))
            for name in direct.keys() | through.keys()
            if direct.get(name) != through.get(name)
        }


def _comparable(report: Report) -> Report:
    left = {name: value for name, value in report.items() if name not in ("death-signal", "leads-its-group", "status")}
    for line in report["status"].splitlines():
        name, _, value = line.partition(b":")
        if not any(part in name.decode() for part in VOLATILE):
            left[f"status.{name.decode()}"] = value
    return left
