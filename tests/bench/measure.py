"""The measurements: each takes peers, measures them in turn within each round, and returns a list of values per name.

Nothing is measured alone, since the machine's speed changes between a run and the next.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from peers import Peer
from processes import ENVIRONMENT, Init, MeasureError, context_switches, cpu_ns, private_dirty, started, wait_until

Values = dict[str, list[float]]

IDLE_SECONDS = 3.0


def start_to_end(commands: dict[str, list[str]], rounds: int) -> Values:
    """Seconds from the start of each command to its end."""
    values: Values = {name: [] for name in commands}
    actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    for round_number in range(rounds + 3):  # the first few fill the caches
        for name, words in commands.items():
            begin = time.perf_counter()
            pid = os.posix_spawnp(words[0], words, ENVIRONMENT, file_actions=actions)
            _, status = os.waitpid(pid, 0)
            if status:
                raise MeasureError(f"{' '.join(words)}: wait status {status}")
            if round_number >= 3:
                values[name].append(time.perf_counter() - begin)
    return values


def idle_memory(peers: Sequence[Peer], command: str) -> Values:
    """Bytes of private dirty memory of the init, while it waits for one child."""
    # Pages of a file that was written just now are dirty until they are on the disk, and count as the process's own.
    os.sync()
    return {peer.name: [_idle(peer, command, private_dirty)] for peer in peers}


def idle_processes(peers: Sequence[Peer], command: str) -> Values:
    """Processes that the init consists of."""
    return {peer.name: [_idle(peer, command, lambda pid: 1)] for peer in peers}


def _idle(peer: Peer, command: str, what: Callable[[int], float]) -> float:
    with started(peer, command, "wait") as init:
        init.wait_idle()
        return sum(what(pid) for pid in init.processes())


def idle_switches(peers: Sequence[Peer], command: str) -> Values:
    """Context switches of the init in IDLE_SECONDS, while it waits for one child."""
    values: Values = {}
    for peer in peers:
        with started(peer, command, "wait") as init:
            init.wait_idle()
            before = sum(map(context_switches, init.processes()))
            time.sleep(IDLE_SECONDS)
            values[peer.name] = [sum(map(context_switches, init.processes())) - before]
    return values


def cgroup_memory(peers: Sequence[Peer], command: str) -> Values:
    """Bytes that a memory cgroup is charged with, command included; nothing where no cgroup can be made."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    parent = Path("/sys/fs/cgroup") if unified else Path("/sys/fs/cgroup/memory")
    usage = "memory.current" if unified else "memory.usage_in_bytes"
    values: Values = {}
    for peer in peers:
        folder = parent / f"bench-{os.getpid()}-{peer.name}"
        try:
            folder.mkdir()
        except OSError:
            return {}
        if (folder / usage).exists():
            values[peer.name] = [_usage_within(folder, usage, peer, command)]
        folder.rmdir()
    return values


def _usage_within(folder: Path, usage: str, peer: Peer, command: str) -> float:
    members = folder / "cgroup.procs"
    enter = ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(members))
    with started(Peer(peer.name, enter + peer.prefix, ends=peer.ends), command, "wait") as init:
        init.wait_idle()
        found = float((folder / usage).read_text())
    wait_until(lambda: not members.read_text(), "the cgroup is empty")
    return found


def orphans(peers: Sequence[Peer], command: str, count: int, rounds: int) -> tuple[Values, Values]:
    """Seconds for a command that ends once its orphans are reaped; CPU seconds of the init for each of them."""
    seconds: Values = {peer.name: [] for peer in peers}
    cpu: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            without = _until_zombie(peer, command, 0)
            with_orphans = _until_zombie(peer, command, count)
            seconds[peer.name].append(with_orphans[0])
            cpu[peer.name].append((with_orphans[1] - without[1]) / count)
    return seconds, cpu


def _until_zombie(peer: Peer, command: str, count: int) -> tuple[float, float]:
    begin = time.perf_counter()
    with started(peer, command, "orphans", str(count)) as init:
        init.become_zombie()
        seconds = time.perf_counter() - begin
        cpu = cpu_ns(init.pid) / 1e9
        _expect_success(init)
        return seconds, cpu


def _expect_success(init: Init) -> None:
    code = init.wait()
    if code:
        raise MeasureError(f"{init.peer.name} ended with exit code {code}")


def exit_cpu(peers: Sequence[Peer], command: str, rounds: int) -> Values:
    """CPU seconds of the init from the end of its last child to its own, its tear-down by the kernel included.

    Until then it sleeps, so whatever its clock shows more at the end is spent after the child's exit.
    """
    values: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            with started(peer, command, "wait") as init:
                init.wait_idle()
                if len(init.processes()) == 1:
                    before = init.cpu_ns()
                    init.end_input()
                    init.become_zombie()
                    values[peer.name].append((cpu_ns(init.pid) - before) / 1e9)
                    _expect_success(init)
    return values


def signal_latency(peers: Sequence[Peer], command: str, count: int, rounds: int) -> Values:
    """Seconds from sending USR1 to the init until the command's answer is read."""
    values: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            with started(peer, command, "echo") as init:
                init.read_byte()
                init.wait_idle()
                for _ in range(count):
                    begin = time.perf_counter()
                    os.kill(init.pid, signal.SIGUSR1)
                    init.read_byte()
                    values[peer.name].append(time.perf_counter() - begin)
                os.kill(init.pid, signal.SIGTERM)
                _expect_success(init)
    return values


def shutdown(peers: Sequence[Peer], command: str, services: int, rounds: int) -> Values:
    """Seconds from sending TERM to the init until it and all services have ended."""
    values: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            with started(peer, command, "services", str(services)) as init:
                init.read_byte()
                init.wait_idle()
                begin = time.perf_counter()
                os.kill(init.pid, signal.SIGTERM)
                while init.read_byte():
                    pass
                init.become_zombie()
                values[peer.name].append(time.perf_counter() - begin)
    return values
