"""Recipients: who gets a signal, as plain values. Source: contract, "Signals"."""


class Recipients:
    """Who gets a signal: process groups, each once, and single processes. Source: contract, "Signals"."""

    def __init__(self, not_as_group: set[int]) -> None:
        """Take the process groups whose members get it alone."""
        self.members: dict[int, int] = {}
        """Of each process that gets it by its group: which that is."""
        self._groups: dict[int, None] = {}  # as targets of kill(2), negative
        self._alone: list[int] = []
        self._not_as_group = not_as_group

    def add(self, pid: int, group: int) -> None:
        """Add a process whose parent is `run`, and its process group."""
        if group in self._not_as_group:
            self._alone.append(pid)
        else:
            self.members[pid] = group
            self._groups[-group] = None

    def pids(self) -> set[int]:
        """All of them."""
        return self.members.keys() | set(self._alone)

    def targets(self) -> list[int]:
        """For kill(2): -group or pid."""
        return [*self._groups, *self._alone]

    def missed(self, moved: dict[int, int]) -> list[int]:
        """More targets, for the sake of members that are in another group by now: which that is of each.

        What was sent to the group that they left may have come too late for them. The group that they are in now gets
        it, or they alone if that has got it already.
        """
        others = Recipients(self._not_as_group | {-group for group in self._groups})
        for pid, group in moved.items():
            others.add(pid, group)
        return others.targets()


class Served:
    """Who has got the signal of `-s`, so that who is re-parented to `run` later gets it too, each group once.

    Source: contract, "When a process ends".
    """

    def __init__(self) -> None:
        """Nobody yet."""
        self._pids: set[int] = set()
        self.groups: set[int] = set()

    def newcomers(self, found: Recipients, not_as_group: set[int]) -> Recipients:
        """Those who have not got it, neither by their group nor alone. From now on they have."""
        new = Recipients(not_as_group | self.groups)
        for pid in found.pids() - self._pids:
            group = found.members.get(pid)
            if group is None or group not in self.groups:
                new.add(pid, group or 0)
            self._pids.add(pid)
        self.groups |= set(new.members.values())
        return new

    def ended(self, pid: int) -> None:
        """Forget a process: its number may mean another one from now on."""
        self._pids.discard(pid)

    def group_ended(self, group: int) -> None:
        """Forget a process group that is gone: its number may mean another one."""
        self.groups.discard(group)


PAUSE = 4.0
"""After a look for newcomers there is none for that many times the processor time that it took."""


def next_look(began: float, took: float) -> float:
    """When to look for newcomers again, by the clock: so that looking takes a fixed part of the processor's time.

    What counts is the work, which grows with the number of children, and not for how long `run` stood still meanwhile.
    """
    return began + took * (1 + PAUSE)
