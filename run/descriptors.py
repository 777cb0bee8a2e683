"""The open file descriptors of `run` itself."""

import errno
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


def reserve_low(source: int) -> tuple[int, ...]:
    """Open descriptors, so that no child copies those that are opened later: low of _kernel.spawn(). Raises OSError."""
    spares = [os.dup(source) for _ in range(3)]
    return max(spares), source, *spares


def fill_standard_streams() -> set[int]:
    """Open something as stdin, stdout and stderr where they are closed, so that nothing else is; return which."""
    closed = set()
    for fd in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            opened = _null(os.O_RDWR)
            if opened != fd:  # it is an end of a pipe, whose other end had this number
                os.dup2(opened, fd, inheritable=False)
                os.close(opened)
    return closed


def above_stderr(fd: int) -> int:
    """Move a descriptor out of 0 to 2, which are others' even when they were closed. Raises OSError."""
    taken = []
    try:
        while fd <= STDERR:
            taken.append(fd)
            fd = os.dup(fd)
        return fd
    finally:
        for low in taken:
            os.close(low)


def _null(flags: int) -> int:
    """/dev/null, or where there is none one end of a pipe whose other end is closed. Raises OSError."""
    null = open_null(flags)
    if null is not None:
        return null
    reads, writes = os.pipe()
    if flags == os.O_RDONLY:
        os.close(writes)
        return reads
    os.close(reads)
    return writes


def open_null(flags: int) -> int | None:
    """/dev/null, or None where there is none that can be opened. Raises OSError for too few descriptors."""
    try:
        return os.open(b"/dev/null", flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None


def open_empty() -> int:
    """What is empty to read from. Raises OSError."""
    return _null(os.O_RDONLY)


def are_same_file(one: int, other: int) -> bool:
    """Whether two descriptors are one file, as far as fstat(2) tells."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino, first.st_rdev) == (second.st_dev, second.st_ino, second.st_rdev)
