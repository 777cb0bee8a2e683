"""Files under /proc: read without growing. Source: proc(5)."""

import os

_buffer = bytearray(4096)
_view = memoryview(_buffer)
"""What is read from /proc: the same memory every time. Whoever runs for months must not grow by fragmentation."""


def read(path: str) -> bytes:
    """Read a file under /proc, which may come in parts. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while count := os.readv(fd, [_buffer]):
            content += bytes(_view[:count])
        return content
    finally:
        os.close(fd)


def numbers(fd: int) -> list[int]:
    """The numbers in an open file under /proc by now, however many. Raises OSError."""
    numbers: list[int] = []
    begun = b""  # a number that goes on in what is read next
    os.lseek(fd, 0, os.SEEK_SET)
    while count := os.readv(fd, [_buffer]):
        *whole, begun = (begun + bytes(_view[:count])).split(b" ")
        numbers += map(int, whole)
    return [*numbers, int(begun)] if begun else numbers


def stat(pid: int) -> list[bytes]:
    """State, parent and so on: the fields of /proc/pid/stat of proc(5) after the name. Raises OSError."""
    # "pid (comm) state ppid ...", where comm may hold blanks and parentheses
    return read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
