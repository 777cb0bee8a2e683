"""The processes whose parent is `run`: which they are, reaping them, and sending them signals."""

import os

from run import _kernel, proc
from run.recipients import Recipients, Served
from run.wait_status import from_siginfo

EVERY_PROCESS = -1
"""All processes of the pid namespace, as a target of kill(2)."""

WALL = 0x40000000
"""__WALL of waitpid(2): wait for all children, whatever their exit signal."""

THREADS = 17
"""The place of num_threads among the fields of /proc/pid/stat of proc(5) after the name."""

SHOWN = 20
"""How many of those that were sent a signal are named in the log."""


class _List:
    """The list of our children in /proc, as a file that stays open once it was found to be ours."""

    def __init__(self) -> None:
        self.fd = -1

    def open(self) -> None:
        """Open it, unless it is. Whatever is mounted at /proc later, it is ours. Raises OSError."""
        if self.fd < 0:
            self.fd = os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close it, if it is open."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass


_list = _List()


def begin() -> None:
    """Know nothing yet: at the start of a process that was forked, before its descriptors are sorted out."""
    _list.close()


def _proc_is_ours() -> bool:
    """Whether /proc shows the pid namespace that `run` is in: then NSpid of proc(5) has one number, our own.

    After unshare(2) of a pid namespace the old /proc stays mounted, with numbers that mean other processes here. Raises
    OSError.
    """
    own = os.getpid()
    if numbers := _nspid():
        return numbers == [b"%d" % own]
    return os.readlink("/proc/self") == str(own)


def _nspid() -> list[bytes]:
    """Our own numbers in each pid namespace, as /proc tells; none from a kernel that does not tell. Raises OSError."""
    _, _, rest = proc.read("/proc/self/status").partition(b"\nNSpid:")
    return rest.partition(b"\n")[0].split()


def group_of(pid: int) -> int:
    """The process group of a child, or its own number where the kernel does not tell. Raises ProcessLookupError."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        raise
    except OSError:  # a security module may refuse it
        return pid


def _add(found: Recipients, pid: int) -> None:
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return
    except OSError:
        group = 0  # not told: it gets the signal alone
    found.add(pid, group)


def moved(found: Recipients) -> dict[int, int]:
    """Those that have changed their process group since they were found, and which one they are in by now."""
    moved = {}
    for pid, group in found.members.items():
        try:
            now = os.getpgid(pid)
        except OSError:
            continue
        if now != group:
            moved[pid] = now
    return moved


def _scan_for_children(found: Recipients) -> None:
    """Find the children by every process's parent, on a kernel without CONFIG_PROC_CHILDREN. Raises OSError."""
    me = b"%d" % os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = proc.stat(int(name))[1]
            except OSError:
                continue
            if parent == me:
                _add(found, int(name))


def _read_children(found: Recipients) -> None:
    """Find all children, zombies included. Raises OSError.

    Source: /proc/pid/task/tid/children of proc(5). It may miss some while others go away, but only `run` itself, by
    reaping, makes a child of its own go away.
    """
    _list.open()
    for pid in proc.numbers(_list.fd):
        _add(found, pid)


def of(pid: int) -> list[int]:
    """The children of another process, which has one thread, as far as /proc tells."""
    try:
        if not _proc_is_ours():
            return []
        return list(map(int, proc.read(f"/proc/{pid}/task/{pid}/children").split()))
    except OSError:
        return []


def not_as_group() -> set[int]:
    """The process groups whose members get a signal alone."""
    return {os.getpgrp(), 0}


def find_recipients() -> Recipients | None:
    """Who gets a signal, or None where /proc does not tell. Raises MemoryError."""
    try:
        if _list.fd < 0 and not _proc_is_ours():
            return None
        # The own group must not get it as a whole; 0 is how getpgid(2) shows a group of an outer pid namespace.
        found = Recipients(not_as_group())
        try:
            _read_children(found)
        except FileNotFoundError:
            _scan_for_children(found)
        return found
    except OSError:
        _list.close()
        return None


def reap() -> tuple[int, int] | None:
    """Collect what has happened to one child, without waiting: its pid and wait status, or None if nothing has.

    Stopped children are reported too, and those whose exit signal is not CHLD (WUNTRACED, __WALL of waitpid(2)). Raises
    ChildProcessError once no child is left.
    """
    pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | WALL)
    return (pid, status) if pid else None


def next_to_reap() -> tuple[int, int] | None:
    """The same as reap(), but the child stays to be reaped: WNOWAIT of waitid(2)."""
    options = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT | WALL
    result = os.waitid(os.P_ALL, 0, options)
    return (result.si_pid, from_siginfo(result.si_code, result.si_status)) if result else None


def from_before() -> set[int]:
    """The children that this process has before it has made one: from before execve(2).

    {-1} where /proc does not tell.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
        found = find_recipients()
    except (OSError, MemoryError):
        return set()
    finally:
        _list.close()  # for the descriptors are not sorted out yet
    return {-1} if found is None else found.pids()


def reap_one(pid: int) -> tuple[int, int] | None:
    """The same as reap() for this child."""
    pid, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | WALL)
    return (pid, status) if pid else None


def leads_session(pid: int) -> bool:
    """Whether a child, ended or not, but not reaped yet, leads a session."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def session_lives(leader: int) -> bool:
    """Whether a child lives in the session of one that was just reaped.

    Mostly it is in the session's first process group, which the kernel tells without a list of all children: waitid(2).
    """
    try:
        if os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL) is None:
            return True
    except OSError:
        pass
    try:
        found = find_recipients()
    except MemoryError:
        return False
    return found is not None and any(_is_in_session(pid, leader) for pid in found.pids())


def _is_in_session(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session and proc.stat(pid)[0] not in (b"Z", b"X")
    except OSError:
        return False


def is_of_an_outer_session(pid: int) -> bool:
    """Whether the living leader of the session of a child, ended or not, came from outside of the pid namespace.

    Such a leader's parent is 0 here (pid_namespaces(7)): docker exec, nsenter(1). The session that `run` was started in
    is not meant.
    """
    try:
        session = os.getsid(pid)
        if session == os.getsid(0):
            return False
        if session == 0:
            return True
        state, parent = proc.stat(session)[:2]
        return parent == b"0" and state not in (b"Z", b"X")
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not a zombie, as far as /proc tells."""
    try:
        return proc.stat(pid)[0] not in (b"Z", b"X")
    except OSError:
        return False


def any_lives() -> bool:
    """Whether a child is there that is not a zombie, as far as /proc tells."""
    try:
        found = find_recipients()
    except MemoryError:
        return True
    return found is not None and any(is_alive(pid) for pid in found.pids())


def of_session(session: int) -> list[int]:
    """The children of `run` that are in this session, as far as can be told."""
    try:
        found = find_recipients()
    except MemoryError:
        return []
    return [pid for pid in found.pids() if _is_in_session(pid, session)] if found is not None else []


MOST_WALKS = 20
"""How often the way up is begun again."""


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process descends from another one, as far as /proc tells.

    A parent that ends on the way up leaves its child to another one, so that the way is another from its beginning on:
    exit_notify() of Linux.
    """
    for _ in range(MOST_WALKS):
        at = pid
        try:
            while at not in (0, 1, ancestor):
                at = int(proc.stat(at)[1])
        except OSError:
            if at == pid:
                return False  # it is gone itself, or nobody can tell
        else:
            return at == ancestor
    return False


def is_in_own_namespace(pid: int) -> bool:
    """Whether a process is in the same pid namespace, as far as the kernel and /proc tell: NSpid of proc(5)."""
    if not pid:
        return False
    try:
        if not _proc_is_ours():
            return True  # nobody can tell; pid is not 0: it is in this one, or in one below
        _, found, rest = proc.read(f"/proc/{pid}/status").partition(b"\nNSpid:")
    except OSError:
        return True
    return not found or len(rest.partition(b"\n")[0].split()) == 1


def job_groups() -> set[int]:
    """The process groups of the children that are in the session of `run`, without those that are stopped already."""
    try:
        found = find_recipients()
    except MemoryError:
        found = None
    if found is None:
        return set()
    session = os.getsid(0)
    groups: set[int] = set()
    stopped: set[int] = set()
    for pid, group in found.members.items():
        try:
            if os.getsid(pid) == session:
                (stopped if proc.stat(pid)[0] == b"T" else groups).add(group)
        except OSError:
            continue
    return groups - stopped


def _is_there(which: int, number: int) -> bool | None:
    """Whether a process or a group has a number, zombies included: kill(2), or where that is refused getpriority(2).

    which is that of getpriority(2). None if neither tells.
    """
    try:
        os.kill(-number if which == os.PRIO_PGRP else number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        try:
            os.getpriority(which, number)
        except ProcessLookupError:
            return False
        except OSError:
            return None
    return True


def group_is_gone(group: int) -> bool:
    """Whether nobody is left in a process group, zombies included."""
    return _is_there(os.PRIO_PGRP, group) is False


def left_group_is_gone(leader: int) -> bool:
    """Whether the process group is gone whose leader was reaped.

    Its number is nobody's as long as it is a group's: where a process has it, that is a new one.
    """
    return _is_there(os.PRIO_PROCESS, leader) is True or group_is_gone(leader)


def zombie_groups(groups: set[int]) -> set[int]:
    """Of these process groups, those of which only zombies are left that others have to reap; none if nobody knows.

    Twice the same, since who is seen to have ended may have forked before.
    """
    try:
        if not groups or not _proc_is_ours():
            return set()
        found = _zombie_groups(groups)
        return found and found & _zombie_groups(found)
    except (OSError, MemoryError):
        return set()


def _zombie_groups(groups: set[int]) -> set[int]:
    found: set[int] = set()
    living: set[int] = set()
    me = b"%d" % os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = proc.stat(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            group = int(fields[2])
            if group in groups:
                # A first thread alone may have ended; and whom run has to reap has told, or is about to.
                has_ended = fields[0] in (b"Z", b"X") and int(fields[THREADS]) <= 1 and fields[1] != me
                (found if has_ended else living).add(group)
    return found - living


def newcomers(found: Recipients, served: Served) -> Recipients:
    """Those of the children who have not got a signal yet; from now on they have.

    Process groups that are gone are forgotten first: their numbers may mean others by now.
    """
    for group in served.groups - set(found.members.values()):
        if group_is_gone(group):
            served.group_ended(group)
    return served.newcomers(found, not_as_group())


def everybody(main_group: int) -> list[int]:
    """Whom a signal goes to where the children cannot be listed: all of PID 1's namespace, or else the main group."""
    if os.getpid() == 1:
        return [EVERY_PROCESS]
    return [-main_group] if _has_child_in(main_group) else []


def _has_child_in(group: int) -> bool:
    """Whether a child is in this process group. If not, its number may stand for another group by now: waitid(2)."""
    try:
        os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Names:
    """What is sent to, for the log: the first ones by name, and how many more."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._targets: list[int] = []
        self._more = 0

    def add(self, target: int) -> None:
        """Add a target of kill(2)."""
        if len(self._targets) < SHOWN:
            self._targets.append(target)
        else:
            self._more += 1

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._targets)

    def __str__(self) -> str:
        """For the log."""
        return ", ".join(map(_name, self._targets)) + (f" and {self._more} more" if self._more else "")


def _name(target: int) -> str:
    if target == EVERY_PROCESS:
        return "all processes"
    return f"group {-target}" if target < 0 else f"pid {target}"


Queued = tuple[int, int, int]
"""What came with a signal that was queued: the sender's user and pid, and the value; sigqueue(3)."""


def _only_process_of(target: int, found: Recipients | None) -> int:
    """The one process that this target of kill(2) is, or 0 if there may be more."""
    if target > 0:
        return target
    members = [pid for pid, group in found.members.items() if group == -target] if found else []
    if len(members) != 1:
        return 0
    try:
        tasks = os.listdir(f"/proc/{members[0]}/task")
        childless = not any(proc.read(f"/proc/{members[0]}/task/{task}/children") for task in tasks)
    except OSError:
        return 0
    return members[0] if childless else 0


class Delivery:
    """A signal on its way: who was reached, and by reason who was not. Who is gone is neither."""

    def __init__(self, signum: int, found: Recipients | None = None, queued: Queued | None = None) -> None:
        """Nobody yet. What came with a queued signal is passed on where one process gets it."""
        self.signum = signum
        self.reached = Names()
        self.refused: dict[str, Names] = {}
        self._found = found
        self._queued = queued

    def to(self, targets: list[int]) -> "Delivery":
        """Send it to each target: kill(2)."""
        for target in targets:
            try:
                if self._queued:
                    self._queue(target, self._queued)
                else:
                    os.kill(target, self.signum)
                self.reached.add(target)
            except ProcessLookupError:
                pass
            except OSError as error:
                self.refused.setdefault(str(error.strerror), Names()).add(target)
        return self

    def to_all(self, found: Recipients) -> "Delivery":
        """Send it to all of them. By setsid(2) one may have left its group before it came; none may miss it."""
        self.to(found.targets())
        if left := moved(found):
            self.to(found.missed(left))
        return self

    def _queue(self, target: int, queued: Queued) -> None:
        one = _only_process_of(target, self._found)
        if one:
            _kernel.queue_signal(one, self.signum, *queued)
        else:
            os.kill(target, self.signum)


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal, as far as /proc tells: SigCgt of proc(5)."""
    try:
        if not _proc_is_ours():
            return False
        _, _, rest = proc.read(f"/proc/{pid}/status").partition(b"\nSigCgt:")
        return bool(int(rest.partition(b"\n")[0] or b"0", 16) >> (signum - 1) & 1)
    except (OSError, ValueError):
        return False
