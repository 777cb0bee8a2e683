"""The processes whose parent is `run`: which they are, reaping them, and sending them signals."""

import posix

from run.policy import Recipients
from run.signals import TSTP

ALL = -1
"""All processes of the pid namespace, as a target of kill(2)."""

SHOWN = 20
"""How many of those that were sent a signal are named in the log."""

_buffer = bytearray(4096)
"""What is read from /proc: the same memory every time. Whoever runs for months must not grow by fragmentation."""


def _read(path: str) -> bytes:
    """Read a file under /proc, which may come in parts. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = b""
        while count := posix.readv(fd, [_buffer]):
            content += _buffer[:count]
        return content
    finally:
        posix.close(fd)


def _proc_is_ours() -> bool:
    """Whether /proc shows the pid namespace that `run` is in: then NSpid of proc(5) has one number, our own.

    After unshare(2) of a pid namespace the old /proc stays mounted, with numbers that mean other processes here.
    """
    _, found, rest = _read("/proc/self/status").partition(b"\nNSpid:")
    if not found:
        return posix.readlink("/proc/self") == str(posix.getpid())
    return rest.partition(b"\n")[0].split() == [b"%d" % posix.getpid()]


def _add(found: Recipients, pid: int) -> None:
    try:
        found.add(pid, posix.getpgid(pid))
    except ProcessLookupError:
        pass


def _moved(found: Recipients) -> dict[int, int]:
    """Those that have changed their process group since they were found, and which one they are in by now."""
    moved = {}
    for pid, group in found.members.items():
        try:
            now = posix.getpgid(pid)
        except OSError:
            continue
        if now != group:
            moved[pid] = now
    return moved


def _scan_for_children(found: Recipients) -> None:
    """Find the children by every process's parent, on a kernel without CONFIG_PROC_CHILDREN. Raises OSError."""
    me = b"%d" % posix.getpid()
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                stat = _read(f"/proc/{name}/stat")
            except OSError:
                continue
            # proc(5): "pid (comm) state ppid ...", where comm may hold blanks and parentheses
            if stat.rpartition(b") ")[2].split()[1] == me:
                _add(found, int(name))


def _read_children(found: Recipients) -> None:
    """Find all children, zombies included. Raises OSError.

    Source: /proc/pid/task/tid/children of proc(5). It may miss some while others go away, but only `run` itself, by
    reaping, makes a child of its own go away.
    """
    fd = posix.open("/proc/thread-self/children", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        begun = b""  # a number that goes on in what is read next
        while count := posix.readv(fd, [_buffer]):
            *whole, begun = (begun + _buffer[:count]).split(b" ")
            for number in whole:
                _add(found, int(number))
        if begun:
            _add(found, int(begun))
    finally:
        posix.close(fd)


def find_recipients() -> Recipients | None:
    """Who gets a signal, or None where /proc does not tell."""
    try:
        if not _proc_is_ours():
            return None
        # The own group must not get it as a whole; 0 is how getpgid(2) shows a group of an outer pid namespace.
        found = Recipients({posix.getpgrp(), 0})
        try:
            _read_children(found)
        except FileNotFoundError:
            _scan_for_children(found)
        return found
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


def send(signum: int, main_group: int) -> "tuple[Names, dict[str, Names]]":
    """Send a signal to those that SPEC.md, "Signals", names; say to whom, and why it could not be sent to others.

    Where the children cannot be listed, PID 1 signals all of its namespace, and any other `run` the main group.
    """
    reached = Names()
    refused: dict[str, Names] = {}
    found = find_recipients()
    if found is not None:
        _send_each(signum, found.targets(), reached, refused)
        # By setsid(2) one may have left its group before the signal came to it; none may miss that.
        moved = _moved(found)
        if moved:
            _send_each(signum, found.missed(moved), reached, refused)
    elif posix.getpid() == 1:
        _send_each(signum, [ALL], reached, refused)
    elif _has_child_in(main_group):
        _send_each(signum, [-main_group], reached, refused)
    return reached, refused


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


class Names:
    """What is sent to, for the log: the first ones by name, and how many more."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._names: list[str] = []
        self._more = 0

    def add(self, target: int) -> None:
        """Add a target of kill(2)."""
        if len(self._names) == SHOWN:
            self._more += 1
        elif target == ALL:
            self._names.append("all processes")
        else:
            self._names.append(f"group {-target}" if target < 0 else f"pid {target}")

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._names)

    def __str__(self) -> str:
        """For the log."""
        return ", ".join(self._names) + (f" and {self._more} more" if self._more else "")


def _send_each(signum: int, targets: list[int], reached: Names, refused: dict[str, Names]) -> None:
    """kill(2) each target; name those that were reached, and by reason those that were not. Who is gone is neither."""
    for target in targets:
        try:
            posix.kill(target, signum)
            reached.add(target)
        except ProcessLookupError:
            pass
        except OSError as error:
            refused.setdefault(str(error.strerror), Names()).add(target)
