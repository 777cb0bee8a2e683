"""Services of a container are killed at random while clients write to them; then all has to be there, and nobody else.

SECONDS_OF_KILLS says for how long: ten, unless the environment says otherwise.
"""

import json
import os
import random
import re
import time
from collections import Counter
from typing import Any, NamedTuple

from engine import Container, Containers, Images, docker
from examples import answers, execute, inside, load_image
from harness import wait_until

SECONDS = float(os.environ.get("SECONDS_OF_KILLS", "10"))

SIGNALS = ("SEGV", "KILL")

STARTED = re.compile(r"^run: \[info\] (\S+) \(pid (\d+)\): started ", re.MULTILINE)
END = re.compile(r"^run: \[\w+\] (\S+) \(pid (\d+)\): ((?:killed by|exited with code) .*)$", re.MULTILINE)


class Killed(NamedTuple):
    """Who was sent a signal by which it dies."""

    service: str
    pid: int
    signal: str
    is_main: bool


def services(container: Container) -> list[dict[str, Any]]:
    """What `run` tells of its services."""
    return [json.loads(line) for line in execute(container, "/bin/run", "-c", "json").splitlines()]


def wait_well(container: Container) -> None:
    """Wait until every service that is essential is ready and healthy."""

    def is_well() -> bool:
        if answers(container, "/bin/run", "-c", "health"):
            return True
        assert container.inspect(".State.Running"), f"ended:\n{container.logs()[-8192:]}"
        return False

    wait_until(is_well, "all are well")


def descendants(container: Container, pid: int) -> list[int]:
    """All that descend from a process, by /proc in the container, which has a shell."""
    parents = {process.pid: process.parent for process in inside(container)}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


class Killer:
    """Kills processes of services, and remembers whom."""

    def __init__(self, container: Container, has_shell: bool = True) -> None:
        """Take the container. Without a shell in it main processes alone are killed, by `run -c`."""
        self._container = container
        self._has_shell = has_shell
        self.seed = random.randrange(1 << 32)
        self._random = random.Random(self.seed)
        self.killed: list[Killed] = []

    def run(self, seconds: float = SECONDS) -> None:
        """Each service's main process takes each signal once; then it is all at random, until so long is over."""
        print(f"killing with seed {self.seed}")
        end = time.monotonic() + seconds
        names = [service["name"] for service in services(self._container) if not service["oneshot"]]
        begin = [(name, signal) for name in names for signal in SIGNALS]
        self._random.shuffle(begin)
        for name, signal in begin:
            wait_until(lambda: self._kill_main(name, signal), f"{name} dies by {signal}")  # noqa: B023
        while time.monotonic() < end:
            if self._random.random() < 0.5:
                wait_well(self._container)
            else:
                time.sleep(self._random.uniform(0, 1))
            self._kill_anybody(self._random.choice(names), self._random.choice(SIGNALS))
        wait_until(self._have_ended, "all who were killed have ended")  # redis writes a report of its crash first
        wait_well(self._container)

    def _have_ended(self) -> bool:
        return {(one.service, one.pid) for one in self.killed if one.is_main} <= set(ends(self._container))

    def _pid(self, name: str) -> int | None:
        pid: int | None = next(service["pid"] for service in services(self._container) if service["name"] == name)
        return pid

    def _kill_main(self, name: str, signal: str) -> bool:
        """Kill the main process of a service; whether it has ended by that, and not because its database had gone."""
        wait_well(self._container)
        pid = self._pid(name)
        if pid is None or not self._kill(Killed(name, pid, signal, True)):
            return False
        how = wait_until(lambda: ends(self._container).get((name, pid), ""), f"the end of {name}, pid {pid}")
        return how.startswith(f"killed by {signal} ")

    def _kill_anybody(self, name: str, signal: str) -> None:
        pid = self._pid(name)
        if pid is None:
            return
        workers = descendants(self._container, pid) if self._has_shell else []
        victim = self._random.choice([pid, *self._random.sample(workers, min(len(workers), 1))])
        self._kill(Killed(name, victim, signal, victim == pid))

    def _kill(self, whom: Killed) -> bool:
        """Kill a process. Whether it was there."""
        if self._has_shell:
            is_sent = answers(self._container, "sh", "-c", f"kill -{whom.signal} {whom.pid}")
        else:
            is_sent = answers(self._container, "/bin/run", "-c", "signal", whom.signal, whom.service)
        if is_sent:
            self.killed.append(whom)
        return is_sent


class Writer:
    """A client of its own container: see load/writer.py."""

    def __init__(self, what: str, port: int, container: Container, containers: Containers, images: Images) -> None:
        """Start it, and wait until something is acknowledged."""
        words = ("python3", "/writer.py", what, str(port))
        self._container = containers(load_image(images), *words, options=("--network", f"container:{container.name}"))
        self._container.wait_log("loaded")

    def stop(self) -> list[str]:
        """The names that were acknowledged, once it has stopped."""
        docker("kill", "--signal", "TERM", self._container.name)
        assert self._container.exit_code() == 0, self._container.logs()
        book = json.loads(self._container.logs().splitlines()[-1])
        names: list[str] = book["acknowledged"]
        print(f"{len(names)} acknowledged, {book['refused']} not")
        return names


def ends(container: Container) -> dict[tuple[str, int], str]:
    """How each life has ended, by service and pid."""
    return {(name, int(pid)): how for name, pid, how in END.findall(container.logs())}


def check_lives(container: Container, killed: list[Killed]) -> None:
    """Each life that began has ended exactly once, or goes on; and those that were killed have ended by that signal.

    Somebody may have ended for another reason just before: its database had gone.
    """
    log = container.logs()
    began = Counter((name, int(pid)) for name, pid in STARTED.findall(log))
    ended = Counter((name, int(pid)) for name, pid, _ in END.findall(log))
    living = {(service["name"], service["pid"]) for service in services(container) if service["pid"]}
    assert began == ended + Counter(living)
    how = ends(container)
    for one in (one for one in killed if one.is_main):
        signals = [other.signal for other in killed if other.pid == one.pid]
        assert how[one.service, one.pid].startswith((*(f"killed by {name} " for name in signals), "exited with code "))


def check_nobody_else(container: Container) -> None:
    """Every process belongs to a life that goes on, and there is no zombie."""

    def others() -> list[int]:
        mains = [service["pid"] for service in services(container) if service["pid"]]
        known = {1, *mains}.union(*(descendants(container, pid) for pid in mains))
        return [process.pid for process in inside(container) if process.pid not in known]

    wait_until(lambda: not others(), "nobody is left of a former life")
    check_no_zombie(container)


def check_no_zombie(container: Container) -> None:
    """No zombie stays."""
    wait_until(lambda: all(process.state[0] != "Z" for process in container.processes()), "no zombie")


def lines_of(container: Container, service: str) -> Counter[str]:
    """How often a service has written each line."""
    found = re.findall(rf"^{re.escape(service)} +\| (.*)$", container.logs(), re.MULTILINE)
    return Counter(found)
