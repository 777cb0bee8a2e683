"""The processes whose parent is `run`: which they are, reaping them, and sending them signals."""

import posix

from run.policy import recipients
from run.signals import TSTP

_buffer = bytearray(16384)
"""What is read from /proc: one and the same memory for ever, so that none is lost to fragmentation in months of use."""


def _read_once(path: str) -> int:
    """Read the beginning of a file under /proc into the buffer; return how many bytes. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.readv(fd, [_buffer])
    finally:
        posix.close(fd)


def _read_numbers(path: str) -> list[int]:
    """All the numbers in a file under /proc, which may be longer than the buffer. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        numbers: list[int] = []
        begun = b""
        while count := posix.readv(fd, [_buffer]):
            *whole, begun = (begun + _buffer[:count]).split(b" ")
            numbers += map(int, whole)
        return numbers + ([int(begun)] if begun else [])
    finally:
        posix.close(fd)


def _proc_is_ours() -> bool:
    """Whether /proc shows the pid namespace that `run` is in: then NSpid of proc(5) has one number, our own.

    After unshare(2) of a pid namespace the old /proc stays mounted, with numbers that mean other processes here.
    """
    count = _read_once("/proc/self/status")
    begin = _buffer.find(b"\nNSpid:", 0, count)
    if begin < 0:
        return posix.readlink("/proc/self") == str(posix.getpid())
    return _buffer[begin : _buffer.find(b"\n", begin + 1, count)].split()[1:] == [b"%d" % posix.getpid()]


def _scan_for_children() -> list[int]:
    """List the children from every process's parent, on a kernel without CONFIG_PROC_CHILDREN. Raises OSError."""
    me = b"%d" % posix.getpid()
    children = []
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                count = _read_once(f"/proc/{name}/stat")
            except OSError:
                continue
            # proc(5): "pid (comm) state ppid ...", where comm may hold blanks and parentheses
            if _buffer[:count].rpartition(b") ")[2].split()[1] == me:
                children.append(int(name))
    return children


def list_children() -> list[int] | None:
    """The pids of all children, zombies included, or None where /proc does not tell.

    Source: /proc/pid/task/tid/children of proc(5). It may miss some while others go away, but only `run` itself, by
    reaping, makes a child of its own go away.
    """
    try:
        if not _proc_is_ours():
            return None
        try:
            return _read_numbers("/proc/thread-self/children")
        except FileNotFoundError:
            return _scan_for_children()
    except OSError:
        return None


def open_fds() -> list[int]:
    """The open file descriptors of `run` itself, or none where /proc does not tell."""
    try:
        return [int(name) for name in posix.listdir("/proc/self/fd")]
    except OSError:
        return []


def reap() -> tuple[int, int] | None:
    """Collect what has happened to one child, without waiting: its pid and wait status, or None if nothing has.

    Stopped children are reported too (WUNTRACED of waitpid(2)). Raises ChildProcessError once no child is left.
    """
    pid, status = posix.waitpid(-1, posix.WNOHANG | posix.WUNTRACED)
    return (pid, status) if pid else None


def send(signum: int, main_group: int) -> tuple[str, str]:
    """Send a signal to those that SPEC.md, "Signals", names; say to whom, and to whom it was not permitted.

    Where the children cannot be listed, PID 1 signals all of its namespace, and any other `run` the main group.
    """
    children = list_children()
    if children is None:
        if posix.getpid() == 1:
            return _send_each(signum, [(-1, "all processes")])
        return _send_each(signum, [(-main_group, f"group {main_group}")] if _has_child_in(main_group) else [])
    placed = []
    for pid in children:
        try:
            placed.append((pid, posix.getpgid(pid)))
        except ProcessLookupError:
            pass
    groups, alone = recipients(placed, posix.getpgrp())
    return _send_each(signum, [(-g, f"group {g}") for g in groups] + [(p, f"pid {p}") for p in alone])


def stop_group(group: int) -> None:
    """Stop a process group as the terminal does for Ctrl-Z, if this user may."""
    try:
        posix.killpg(group, TSTP)
    except OSError:
        pass


def _has_child_in(group: int) -> bool:
    """Whether a child is in this process group. If not, its number may stand for another group by now: waitid(2)."""
    try:
        posix.waitid(posix.P_PGID, group, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _send_each(signum: int, targets: list[tuple[int, str]]) -> tuple[str, str]:
    """kill(2) each target; name those that were reached, and those that may not be signalled by this user."""
    reached, refused = [], []
    for target, name in targets:
        try:
            posix.kill(target, signum)
            reached.append(name)
        except ProcessLookupError:
            pass
        except PermissionError:
            refused.append(name)
    return ", ".join(reached), ", ".join(refused)
