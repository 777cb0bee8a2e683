"""Recipients: who gets a signal, as plain values. Source: contract, "Signals"."""


class Recipients:
    """Who gets a signal: process groups, each once, and single processes. Source: contract, "Signals"."""

    def __init__(self, not_as_group: set[int]) -> None:
        """Take the process groups whose members get it alone."""
        self.members: dict[int, int] = {}
        """Of each process that gets it by its group: which that is."""
        self._groups: dict[int, None] = {}
        self._alone: list[int] = []
        self._not_as_group = not_as_group

    def add(self, pid: int, group: int) -> None:
        """Add a process whose parent is `run`, and its process group."""
        if group in self._not_as_group:
            self._alone.append(pid)
        else:
            self.members[pid] = group
            self._groups[group] = None

    def pids(self) -> set[int]:
        """All of them."""
        return self.members.keys() | set(self._alone)

    def targets(self) -> list[int]:
        """For kill(2): -group or pid."""
        return [*(-group for group in self._groups), *self._alone]

    def missed(self, moved: dict[int, int]) -> list[int]:
        """More targets, for the sake of members that are in another group by now: which that is of each.

        What was sent to the group that they left may have come too late for them. The group that they are in now gets
        it, or they alone if that has got it already.
        """
        others = Recipients(self._not_as_group | self._groups.keys())
        for pid, group in moved.items():
            others.add(pid, group)
        return others.targets()
