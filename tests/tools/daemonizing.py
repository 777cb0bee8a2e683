"""What the tests of `daemon = true` share: services that put themselves into the background, and their keeper."""

from pathlib import Path

from harness import Started, children, state, status, wait_until
from serving import Journal, Keys


def forking(script: str) -> str:
    """A script that forks twice, as daemons do, so that its first process ends with 0 while the inner script runs.

    What a shell without job control starts with & ignores INT and QUIT.
    """
    assert "'" not in script
    return f"setsid sh -c 'sh -c \"$0\" & exit 0' '{script}' & exit 0"


def daemon(script: str, **more: object) -> Keys:
    """The keys of a service that forks twice and then does this."""
    return {"command": forking(script), "daemon": True, **more}


def background(journal: Journal, name: str, by: str = "TERM") -> str:
    """A script without single quotes that notes when it is ready, and when a signal comes, which ends it."""
    return journal.told(name, by=by).replace("'", '"')


def keeper(started: Started) -> int:
    """The pid of the one keeper there is, once there is one."""

    def found() -> list[int]:
        return [pid for pid in children(started.pid) if status(pid).get("Name") == "run"]

    return wait_until(found, "there is a keeper")[0]


def is_a_step(pid: int) -> bool:
    """Whether this is a process that has forked, and is about to end."""
    return b"& exit 0" in Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_settled(started: Started, count: int = 1) -> list[int]:
    """Wait until the keeper's children are so many, of which none is about to end; return them.

    It sleeps before, so that its first child was executed, and afterwards, so that it has told of all of them.
    """

    def settled() -> list[int]:
        pid = keeper(started)
        if state(pid) != "S":
            return []
        found = children(pid)
        try:
            is_settled = len(found) == count and not any(map(is_a_step, found)) and state(pid) == "S"
        except FileNotFoundError:
            return []
        return found if is_settled else []

    return wait_until(settled, f"the keeper has {count} children")
