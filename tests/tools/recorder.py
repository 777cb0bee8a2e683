"""A command of the tests that writes down each signal it gets; signal_notes.py reads the notes.

`recorder.py NAME [GROUP]` blocks every signal, joins the process group if one is given, prints `NAME ready PID`, and
then `NAME got NUMBER` for each signal that is delivered, queued real-time signals one by one. Only KILL ends it, or
ten minutes without a signal.
"""

import ctypes
import errno
import os
import sys

LIFETIME = 600

# The C library's own functions leave signals 32 and 33 out: rt_sigprocmask(2), rt_sigtimedwait(2).
SIGPROCMASK, SIGTIMEDWAIT = {"x86_64": (14, 128), "aarch64": (135, 137)}[os.uname().machine]
SIG_BLOCK = 0


def main() -> None:
    """Record until killed."""
    name = sys.argv[1]
    libc = ctypes.CDLL(None, use_errno=True)
    everything = ctypes.c_uint64(2**64 - 1)
    limit = (ctypes.c_long * 2)(LIFETIME, 0)
    libc.syscall(SIGPROCMASK, SIG_BLOCK, ctypes.byref(everything), None, 8)
    if len(sys.argv) > 2:
        os.setpgid(0, int(sys.argv[2]))
    os.write(1, f"{name} ready {os.getpid()}\n".encode())
    while True:
        signum = libc.syscall(SIGTIMEDWAIT, ctypes.byref(everything), None, limit, 8)
        if signum > 0:
            os.write(1, f"{name} got {signum}\n".encode())
        elif ctypes.get_errno() != errno.EINTR:
            return


if __name__ == "__main__":
    main()
