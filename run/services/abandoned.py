"""What killed keepers leave: `run` adopts it, and it must not outlive the life that it belongs to.

A keeper tells which children it has. Once it was killed they are children of `run` like all other orphans, and are
known by their pids and the times they were started at, or by their sessions. Source: contract, "The file", `daemon`.
"""

import os
from collections.abc import Iterable

from run import children, proc
from run.children import Delivery
from run.signals import KILL

START_TIME = 19
"""Its place among the fields of /proc/pid/stat of proc(5) after the name."""


class Abandoned:
    """Of each service with a keeper: what that one has kept."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._kept: dict[str, dict[int, bytes]] = {}
        """The keepers' children, when each was started."""
        self._left: dict[str, dict[int, bytes]] = {}
        """The same of those whose keeper was killed, and of all that descends from them."""
        self._sessions: dict[str, set[int]] = {}

    def keeps(self, name: str, pids: Iterable[int]) -> None:
        """A keeper has these children now."""
        self._kept[name] = {pid: begin for pid in pids if (begin := _begin(pid))}

    def keeper_ended(self, name: str, was_killed: bool) -> None:
        """A keeper has ended: by itself once it has no child, or it was killed."""
        kept = self._kept.pop(name, None)
        if was_killed and kept:
            self._left[name] = kept
            self._sessions[name] = {session for pid in kept if (session := _session(pid))}

    def kill(self, name: str) -> bool:
        """Kill what is left; whether there was anything, so that it is to be called again until there is not."""
        known = self._left.get(name)
        if known is None:
            return False
        left = self._find(known, self._sessions[name])
        for pid in left:
            for child in _descendants(pid):
                if begin := _begin(child):
                    known[child] = begin
        Delivery(KILL).to(left)
        if not left:
            del self._left[name], self._sessions[name]
        return bool(left)

    def _find(self, known: dict[int, bytes], sessions: set[int]) -> list[int]:
        try:
            found = children.find_recipients()
        except MemoryError:
            return []
        pids = found.pids() if found is not None else set()
        return [pid for pid in pids if (pid in known and known[pid] == _begin(pid)) or _session(pid) in sessions]


def _begin(pid: int) -> bytes:
    """When a process was started, or nothing if it is gone."""
    try:
        return proc.stat(pid)[START_TIME]
    except (OSError, IndexError):
        return b""


def _session(pid: int) -> int:
    """The session of a process, 0 if it is gone or that one is not ours."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _descendants(pid: int) -> list[int]:
    found = children.of(pid)
    for one in found:
        found += children.of(one)
    return found
