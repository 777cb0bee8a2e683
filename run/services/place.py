"""The place where the `run` of a container is found: abstract sockets named after its mount namespace and pid.

Containers that share a network namespace share such names; the mount namespace tells them apart. Source: unix(7),
contract, "Control".
"""

import os

from run import proc

LISTENS = "00010000"
"""The flags of a listening socket in /proc/net/unix: proc(5)."""


def prefix() -> str:
    """The beginning of the names in this mount namespace; without /proc nobody can tell which that is."""
    try:
        number = os.readlink("/proc/self/ns/mnt").removeprefix("mnt:[").removesuffix("]")  # namespaces(7)
        return f"run/{number}"
    except OSError:
        return "run/0"


def own() -> str:
    """The name of this process's place."""
    return f"{prefix()}/{os.getpid()}"


def pids() -> list[int]:
    """The processes in this mount namespace that listen at their place, as far as /proc tells; else PID 1."""
    beginning = f"@{prefix()}/"
    try:
        table = proc.read("/proc/net/unix").decode("utf-8", "surrogateescape")
    except OSError:
        return [1]
    rows = [line.split(maxsplit=7) for line in table.split("\n")]
    names = [row[7] for row in rows if len(row) == 8 and row[3] == LISTENS]
    numbers = [name.removeprefix(beginning) for name in names if name.startswith(beginning)]
    return sorted({int(number) for number in numbers if number.isdecimal()})
