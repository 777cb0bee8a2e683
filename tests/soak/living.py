"""Objects that are alive in another process: what Python's own allocator has given out there, seen from outside.

Pages tell less: one that was written to once counts for ever, though nothing on it is used any more. Source: struct
pool_header of CPython's obmalloc.c, which is the same from 3.10 to 3.14.
"""

import os
from pathlib import Path
from struct import Struct

POOL = 16 * 1024
GRAIN = 16
"""What sizes are multiples of."""

CLASSES = 512 // GRAIN
HEADER = Struct("@I4xPPPIIII")
"""Blocks in use, free block, next and previous pool, arena, class of size, begin of the unused part and its maximum."""


def living_bytes(pid: int) -> int:
    """The bytes of all objects of at most 512 bytes that are alive in a process. Raises OSError."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sum(_in_pool(os.pread(memory, HEADER.size, at)) for at in _places(pid))
    finally:
        os.close(memory)


def _places(pid: int) -> list[int]:
    """Where pools may be: where memory can be written to."""
    places: list[int] = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if " rw-p " in line and not line.endswith(("[stack]", "[heap]")):
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            places += range(-(-begin // POOL) * POOL, end - POOL + 1, POOL)
    return places


def _in_pool(header: bytes) -> int:
    """The bytes in use of a pool, or 0 if this is the beginning of none."""
    count, _, _, _, _, size_class, unused, last = HEADER.unpack(header)
    size = (size_class + 1) * GRAIN
    is_pool = size_class < CLASSES and last == POOL - size and HEADER.size <= unused <= POOL
    return count * size if is_pool and count <= POOL // size else 0
