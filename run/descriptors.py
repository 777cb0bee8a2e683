"""The open file descriptors of `run` itself."""

import os

from run import _kernel

STDIN, STDOUT, STDERR = range(3)


def keep_only(kept: set[int]) -> None:
    """Close all descriptors but these, so that others see end-of-file where they should: close_range(2)."""
    try:
        first = 0
        for fd in sorted(kept):
            if fd > first:
                _kernel.close_fds(first, fd - 1)
            first = fd + 1
        _kernel.close_fds(first, 0xFFFFFFFF)
    except OSError:  # before Linux 5.9: ENOSYS
        for fd in {STDIN, STDOUT, *_open_fds()}:
            if fd not in kept:
                try:
                    os.close(fd)
                except OSError:
                    pass  # it was the one that listed the others


def _open_fds() -> list[int]:
    """The open file descriptors of `run` itself, or none where /proc does not tell."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []
