"""The measurements: each takes peers, measures them in turn within each round, and returns a list of values per name.

Nothing is measured alone, since the machine's speed changes between a run and the next.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from peers import Peer
from processes import (
    ENVIRONMENT,
    Init,
    MeasureError,
    all_started,
    context_switches,
    cpu_ns,
    private_dirty,
    started,
    wait_until,
)

Values = dict[str, list[float]]

IDLE_SECONDS = 3.0
SLOW_SECONDS = 0.3
SLOW_ROUNDS = 4


def start_to_end(peers: Sequence[Peer], command: str, python: str, rounds: int) -> Values:
    """Seconds from the start of each init with /bin/true to its end, and of an interpreter that does nothing.

    What does not end with its command: seconds until the command runs. What is slow takes part now and then.
    """
    values: Values = {name: [] for name in [*(peer.name for peer in peers), "python"]}
    slow: set[str] = set()
    for round_number in range(rounds + 3):  # the first few fill the caches
        now = [peer for peer in peers if round_number % SLOW_ROUNDS == 0 or peer.name not in slow]
        seconds = {p.name: _start(p.words("/bin/true")) if p.ends else _until_ready(p, command) for p in now}
        slow |= {name for name, value in seconds.items() if value > SLOW_SECONDS}
        seconds["python"] = _start([python, "-I", "-S", "-c", "pass"])
        if round_number >= 3:
            for name, value in seconds.items():
                values[name].append(value)
    return values


def _start(words: list[str]) -> float:
    actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    begin = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, ENVIRONMENT, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise MeasureError(f"{' '.join(words)}: wait status {status}")
    return seconds


def _until_ready(peer: Peer, command: str) -> float:
    begin = time.perf_counter()
    with started(peer, command, "wait"):
        return time.perf_counter() - begin


def idle(peers: Sequence[Peer], command: str, rounds: int) -> dict[str, Values]:
    """Of each init, while it waits for one child: its processes, their private memory, and their context switches."""
    found: dict[str, Values] = {what: {peer.name: [] for peer in peers} for what in ("memory", "processes", "switches")}
    # Pages of a file that was written just now are dirty until they are on the disk, and count as the process's own.
    os.sync()
    for _ in range(rounds):
        with all_started(peers, command, "wait") as inits:
            before = {init.peer.name: _switches(init) for init in inits}
            time.sleep(IDLE_SECONDS)
            for init in inits:
                name = init.peer.name
                found["switches"][name].append(_switches(init) - before[name])
                found["memory"][name].append(sum(map(private_dirty, init.processes())))
                found["processes"][name].append(len(init.processes()))
    return found


def _switches(init: Init) -> float:
    return sum(map(context_switches, init.processes()))


def instructions(peers: Sequence[Peer]) -> Values:
    """Instructions in user space of each init that starts /bin/true, which is not counted: by callgrind of valgrind(1).

    Of what executes itself again, as a bundle does, they cannot be counted, and nothing where there is no valgrind.
    """
    values: Values = {peer.name: [] for peer in peers}
    for peer in peers if shutil.which("valgrind") else ():
        words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}", *peer.words("/bin/true")]
        process = subprocess.Popen(words, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = process.communicate()[1]
        found = re.findall(rf"^=={process.pid}== Collected : (\d+)$", said, re.MULTILINE)
        values[peer.name] += map(float, found)
    return values


def cgroup_memory(peers: Sequence[Peer], command: str, count: int, is_cold: bool = False) -> Values:
    """Bytes that the memory cgroup of each of some containers of one image is charged with, command included.

    The pages of the file, as far as it is read from the disk, are charged to the first one that needs them if it is
    cold, else to nobody: as after an image was pulled. Nothing is measured where no cgroup can be made.
    """
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    parent = Path("/sys/fs/cgroup") if unified else Path("/sys/fs/cgroup/memory")
    usage = "memory.current" if unified else "memory.usage_in_bytes"
    values: Values = {peer.name: [] for peer in peers}
    enter = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"')
    for peer in peers:
        with ExitStack() as stack:
            try:
                folders = [stack.enter_context(_cgroup(parent / f"bench-{os.getpid()}-{i}")) for i in range(count)]
            except OSError:
                return {}
            if not (folders[0] / usage).exists():
                return {}
            if is_cold:
                _forget_pages(peer.file)
            inits = [
                stack.enter_context(started(peer, command, "wait", prefix=(*enter, str(folder)))) for folder in folders
            ]
            for init in inits:
                init.wait_idle()
            values[peer.name].append(sum(float((folder / usage).read_text()) for folder in folders) / count)
    return values


def _forget_pages(path: str) -> None:
    """Let the kernel forget what it has read of a file: posix_fadvise(2)."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _cgroup(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup is empty")
    finally:
        folder.rmdir()


def orphans(peers: Sequence[Peer], command: str, count: int, rounds: int, pid_1: bool = False) -> tuple[Values, Values]:
    """Seconds from the start until that many orphans are reaped; CPU seconds of the init for each of them."""
    seconds: Values = {peer.name: [] for peer in peers}
    cpu: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            begin = time.perf_counter()
            with started(peer, command, "orphans", str(count), pid_1=pid_1) as init:
                ready = time.perf_counter()
                before = init.cpu_ns()
                go = time.perf_counter()
                init.write_byte()
                init.read_byte()
                seconds[peer.name].append(time.perf_counter() - go + ready - begin)
                cpu[peer.name].append((init.cpu_ns() - before) / 1e9 / count)
    return seconds, cpu


def exit_cpu(peers: Sequence[Peer], command: str, rounds: int) -> Values:
    """CPU seconds of the init from the end of its last child to its own, its tear-down by the kernel included.

    Until then it sleeps, so whatever its clock shows more at the end is spent after the child's exit.
    """
    values: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        with all_started(peers, command, "wait") as inits:
            for init in inits:
                if len(init.processes()) == 1:
                    before = init.cpu_ns()
                    init.end_input()
                    init.become_zombie()
                    values[init.peer.name].append((cpu_ns(init.pid) - before) / 1e9)
                    if init.wait():
                        raise MeasureError(f"{init.peer.name} ended with exit code {init.wait()}")
    return values


def signal_latency(peers: Sequence[Peer], command: str, count: int) -> Values:
    """Seconds from sending INT to the init until the command's answer is read."""
    values: Values = {peer.name: [] for peer in peers}
    with all_started(peers, command, "echo") as inits:
        for _ in range(count):
            for init in inits:
                begin = time.perf_counter()
                os.kill(init.pid, signal.SIGINT)
                init.read_byte()
                values[init.peer.name].append(time.perf_counter() - begin)
    return values


def services(peers: Sequence[Peer], command: str, count: int, rounds: int) -> Values:
    """Seconds from the start of the init, with a shell that starts so many services, until TERM has ended them."""
    values: Values = {peer.name: [] for peer in peers}
    script = f'i=0; while [ $i -lt {count} ]; do "$0" service & i=$((i + 1)); done; wait'
    for _ in range(rounds):
        for peer in peers:
            begin = time.perf_counter()
            with started(peer, "sh", "-c", script, command, copies=count) as init:
                os.kill(init.pid, signal.SIGTERM)
                while init.read_byte():
                    pass
                init.become_zombie()
                values[peer.name].append(time.perf_counter() - begin)
    return values


def shutdown(peers: Sequence[Peer], command: str, services: int, rounds: int) -> Values:
    """Seconds from sending TERM to the init until it and all services have ended."""
    values: Values = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            each = ("0", services) if peer.from_file else (str(services), 1)
            with started(peer, command, "services", each[0], copies=each[1]) as init:
                init.wait_idle()
                begin = time.perf_counter()
                os.kill(init.pid, signal.SIGTERM)
                while init.read_byte():
                    pass
                init.become_zombie()
                values[peer.name].append(time.perf_counter() - begin)
    return values
