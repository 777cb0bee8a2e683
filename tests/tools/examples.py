"""What the tests of docker/examples share: building them with the binary under test, and looking into them."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from engine import BUILDKIT, GRACE, KILLED, Container, Images, docker
from harness import wait_until

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker" / "examples"

REDIS = 6379
"""The port of redis."""


TIMES = re.compile(r'((?:"-t", "|start_period = |worker_shutdown_timeout |stop_grace_period = ))\d+')
"""What the examples give as the longest times, in seconds."""


STAYS = re.compile(r"^\[services\.\w+\]\n(?!(?:.+\n)*oneshot)", re.MULTILINE)
"""The head of a service in an example's file, unless it is a oneshot; a blank line ends a service."""


def build(name: str, images: Images, bare_image: str, kit: str = BUILDKIT, more: str = "") -> str:
    """The image of an example, with the binary under test as its `run`, and times for a machine that stands still.

    more are lines of the file for each service that stays.
    """
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(FOLDER / name, copy, dirs_exist_ok=True)
        for file in Path(copy).iterdir():
            text = TIMES.sub(rf"\g<1>{GRACE}", file.read_text())
            file.write_text(STAYS.sub(rf"\g<0>{more}", text) if more else text)
        return images.build(kit, "--build-arg", f"RUN={bare_image}", copy)


def load_image(images: Images) -> str:
    """An image with clients: wrk, and tests/containers/load/client.py."""
    return images.build(BUILDKIT, str(ROOT / "tests" / "containers" / "load"))


def wrk(connections: int, seconds: int, port: int) -> list[str]:
    """The words that start wrk, which fetches the first page again and again."""
    load = ["--threads", "1", "--connections", str(connections), "--duration", str(seconds)]
    return ["wrk", *load, f"http://127.0.0.1:{port}/"]


def fetch_pages(images: Images, container: Container, seconds: int, port: int = 80) -> None:
    """Fetch pages for so long, with wrk. Fails unless all were answered."""
    network = ("--network", f"container:{container.name}")
    report = docker("run", "--rm", *network, load_image(images), *wrk(8, seconds, port))
    served = re.search(r"(\d+) requests in", report)
    assert served and int(served[1]) > 0, report
    errors = re.search(r"Socket errors: (.*), timeout", report)  # a late answer (2 s) is an answer
    assert (not errors or errors[1] == "connect 0, read 0, write 0") and "Non-2xx" not in report, report


def execute(container: Container, *words: str) -> str:
    """What a command that is executed in the container prints."""
    return docker("exec", container.name, *words)


def answers(container: Container, *words: str) -> bool:
    """Whether a command that is executed in the container succeeds."""
    try:
        execute(container, *words)
    except AssertionError:
        return False
    return True


def wait_for(container: Container, *ports: int) -> None:
    """Wait until services take connections at these ports.

    If redis is one of them, it has read its data then.
    """
    script = "".join(f": </dev/tcp/127.0.0.1/{port}; " for port in ports)
    if REDIS in ports:
        script += "redis-cli ping | grep -q PONG"
    wait_until(lambda: answers(container, "bash", "-ec", script), f"answers at {ports}")


def run_log(container: Container) -> list[str]:
    """The lines that `run` has written, without the level."""
    return re.findall(r"^run: \[\w+\] (.*)$", container.logs(), re.MULTILINE)


def steps(container: Container) -> list[str]:
    """The same without the first line and the pids: what happened to its services, in order."""
    return [re.sub(r" \(pid \d+\)", "", line) for line in run_log(container)[1:]]


def story(container: Container) -> list[str]:
    """The steps without what depends on how fast the machine is."""
    return [re.sub(r"ready, .*", "ready", step) for step in steps(container) if "not ready yet" not in step]


def wait_ready(container: Container, service: str) -> None:
    """Wait until the log says that a service with a healthcheck is ready."""
    wait_until(lambda: any(step.startswith(f"{service}: ready, ") for step in steps(container)), f"{service} is ready")


def wait_healthy(container: Container) -> None:
    """Wait until the engine says so, which it learns from the image's HEALTHCHECK."""
    wait_until(lambda: container.inspect(".State.Health.Status") == "healthy", "the container is healthy")


def plan(image: str) -> list[str]:
    """The services of an example's file in order of start, as `run -n` numbers them."""
    text = docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/run", image, "-nf", "/etc/services.toml")
    return re.findall(r"^ *(\d+\. .*)$", text, re.MULTILINE)


class Inside(NamedTuple):
    """A process as the container itself sees it."""

    pid: int
    name: str
    parent: int
    group: int
    session: int


def inside(container: Container) -> list[Inside]:
    """All processes of the container, but not those that look."""
    text = execute(container, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; :")
    found = []
    for line in text.splitlines():
        # proc(5): "pid (comm) state ppid pgrp session ...", where comm may hold blanks and parentheses
        pid, name, rest = re.findall(r"^(\d+) \((.*)\) (.*)$", line)[0]
        parent, group, session = (int(word) for word in rest.split()[1:4])
        found.append(Inside(int(pid), name, parent, group, session))
    return [process for process in found if process.parent != 0 or process.pid == 1]


def users(container: Container) -> set[tuple[str, str]]:
    """The names of all processes of the container, each with its user."""
    processes = inside(container)
    found = execute(container, "stat", "--format", "%U", *(f"/proc/{process.pid}" for process in processes)).split()
    return {(process.name, user) for process, user in zip(processes, found, strict=True)}


def first(container: Container, name: str) -> Inside:
    """The process of this name that was there first, such as nginx's master."""
    return min(process for process in inside(container) if process.name == name)


def kill_inside(container: Container, name: str, *pids: int) -> None:
    """Send processes of the container, one after the other, a signal by name."""
    docker("exec", container.name, "sh", "-c", f"kill -{name} {' '.join(map(str, pids))}", codes=KILLED)
