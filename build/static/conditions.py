"""What makes a process another, in all that it can see: the surroundings in which prove.py makes the snapshot again.

Each is a function that changes the process that calls it; it may raise OSError where that is not permitted.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534
ADDR_NO_RANDOMIZE = 0x0040000  # <sys/personality.h>
CLONE_NEWNS, CLONE_NEWUTS = 0x00020000, 0x04000000  # <sched.h>
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18  # <sys/mount.h>

libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: object) -> None:
    """Call a function of the C library that returns -1 when it fails."""
    if getattr(libc, function)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), function)


def be_nobody() -> None:
    """Another user and group."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def have_another_host_name() -> None:
    """In a namespace of its own."""
    call("unshare", CLONE_NEWUTS)
    socket.sethostname("elsewhere")


def have_another_time_zone() -> None:
    """The file /etc/localtime says so, a file of tzfile(5) with one time, in a mount namespace of its own."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"none", b"/etc", b"tmpfs", 0, None)
    zone = b"TZif2" + bytes(15) + struct.pack(">6llBB4s", 0, 0, 0, 0, 1, 4, 19800, 0, 0, b"XXX")
    Path("/etc/localtime").write_bytes(2 * zone + b"\nXXX-5:30\n")


def have_a_small_stack() -> None:
    """A limit on the stack also moves where the kernel maps other things."""
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def have_other_descriptors() -> None:
    """No stdin; something else at the other end of what else is there; fewer allowed."""
    os.close(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def be_last_in_line() -> None:
    """One processor, a low priority, another file mode creation mask, a session of its own, all signals ignored."""
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    os.nice(5)
    os.umask(0o777)
    os.setsid()
    for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_IGN)


def have_another_environment() -> None:
    """A large one moves the stack; where C code looks at variables, it finds others."""
    os.environ.clear()
    os.environ.update(HOME="/elsewhere", TZ="Asia/Kolkata", LC_ALL="C", PYTHONHASHSEED="1", X="x" * 9999)


CONDITIONS: dict[str, Callable[[], object]] = {
    "once more": lambda: None,  # another pid, other addresses, later
    "with another environment": have_another_environment,
    "in another folder": lambda: os.chdir("/"),
    "with a small stack": have_a_small_stack,
    "without address randomization": lambda: call("personality", ADDR_NO_RANDOMIZE),
    "by another user": be_nobody,
    "on a host of another name": have_another_host_name,
    "in another time zone": have_another_time_zone,
    "with other descriptors": have_other_descriptors,
    "with other processors, priority, session and signals": be_last_in_line,
}
TAKES_RIGHTS = (
    *("without address randomization", "by another user", "on a host of another name", "in another time zone"),
)
"""What a container's rules, or not being root, may forbid: then the others have to do."""
