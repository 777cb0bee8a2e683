"""Contract, "Control", in containers: `docker exec box run -c status` in one from scratch; HEALTHCHECK by /bin/run."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from engine import APPLETS, Container, Containers, Images
from harness import DEADLINE, wait_until
from serving import FOREVER, file_of
from test_containers import WRITABLE

HARDENED: tuple[str, ...] = (
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "12345:54321",
)
"""Options of a container with a root that cannot be written to, and a user that is not root."""

DONE = (0, "")

KINDS = pytest.mark.parametrize("options", [(), HARDENED], ids=["default", "hardened"])

PROBE = 'HEALTHCHECK --interval=1s --timeout=300s --retries=1 CMD ["/bin/run", "-c", "health"]'
"""What an image has that says itself how it is."""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of services."""
    path = tmp_path_factory.mktemp("services") / "services.toml"
    web = {"command": "/bin/sleep 1000", "depends_on": ["db"]}
    path.write_text(
        file_of({"web": web, "db": {"command": FOREVER}, "extra": {"command": FOREVER, "essential": False}})
    )
    return path


@pytest.fixture(scope="module")
def scratch(images: Images, binary: str, busybox: Path, services: Path) -> str:
    """An image from scratch with services and a HEALTHCHECK: no /tmp, no /run, no library, no curl."""
    files: dict[str, Path | str] = {"bin/run": Path(binary), "bin/busybox": busybox, "etc/services.toml": services}
    return images.make(files | {f"bin/{applet}": "busybox" for applet in APPLETS}, PROBE)


def ask(container: Container, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """What `docker exec CONTAINER /bin/run -c` ends with, and prints."""
    done = subprocess.run(
        ["docker", "exec", *options, container.name, "/bin/run", "-c", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def states(container: Container) -> dict[str, str]:
    """The states of the services."""
    code, out = ask(container, "json")
    assert code == 0, out
    return {service["name"]: service["state"] for service in map(json.loads, out.splitlines())}


def wait_until_up(container: Container) -> None:
    """Wait until all services are ready."""
    wait_until(lambda: ask(container, "health")[0] == 0, "it is healthy")
    wait_until(lambda: set(states(container).values()) == {"ready"}, "all are ready")


def wait_for_health(container: Container, status: str) -> dict[str, Any]:
    """Wait until the engine says so; return its last look."""

    def found() -> dict[str, Any]:
        health: dict[str, Any] = container.inspect(".State.Health")
        return health if health["Status"] == status else {}

    return dict(wait_until(found, f"the container is {status}")["Log"][-1])


@KINDS
def test_docker_inspect_shows_healthy_and_then_unhealthy(
    options: tuple[str, ...], containers: Containers, scratch: str, is_bundle: bool
) -> None:
    container = containers(scratch, "-f", "/etc/services.toml", options=options + WRITABLE * is_bundle)
    assert wait_for_health(container, "healthy")["ExitCode"] == 0
    assert ask(container, "stop", "extra") == DONE
    assert ask(container, "health") == DONE, "it is not essential"
    assert ask(container, "stop", "db") == DONE
    last = wait_for_health(container, "unhealthy")
    assert (last["ExitCode"], last["Output"]) == (1, "db is stopped\n")
    assert ask(container, "start", "db") == DONE
    assert wait_for_health(container, "healthy")["ExitCode"] == 0
    assert container.inspect(".State.Running")
    assert container.stop() == 0


@KINDS
def test_it_is_asked_and_steered_by_docker_exec(
    options: tuple[str, ...], containers: Containers, scratch: str, is_bundle: bool
) -> None:
    container = containers(scratch, "-f", "/etc/services.toml", options=options + WRITABLE * is_bundle)
    wait_until_up(container)
    code, table = ask(container, "status")
    assert code == 0
    rows = [line.split()[:2] for line in table.splitlines()]
    assert rows == [["NAME", "STATE"], ["db", "ready"], ["extra", "ready"], ["web", "ready"]]
    assert "cannot listen" not in container.logs()
    before = {line.split()[0]: line.split()[3] for line in table.splitlines()[1:]}
    assert ask(container, "restart", "web") == DONE
    after = {line.split()[0]: line.split()[3] for line in ask(container, "status")[1].splitlines()[1:]}
    assert after.pop("web") != before.pop("web") and after == before
    assert ask(container, "signal", "KILL", "extra") == DONE
    wait_until(lambda: states(container)["extra"] == "failed", "it is killed")
    assert container.stop() == 137, "its last life counts"


def test_the_client_leaves_nothing_behind(containers: Containers, scratch: str) -> None:
    """No file, no process."""
    container = containers(scratch, "-f", "/etc/services.toml")
    wait_until_up(container)
    for _ in range(5):
        assert ask(container, "status")[0] == 0
    wait_until(lambda: len(container.processes()) == 4, "the clients are gone")
    changed = subprocess.run(["docker", "diff", container.name], capture_output=True, check=True, timeout=DEADLINE)
    assert b"run/" not in changed.stdout and b"/tmp" not in changed.stdout, changed.stdout


def test_root_and_the_user_of_run_are_answered_and_no_other_user(containers: Containers, scratch: str) -> None:
    container = containers(scratch, "-f", "/etc/services.toml", options=("--user", "12345:54321"))
    wait_until_up(container)
    told = "run: [error] no answer: root, or the user of `run`, in the same pid namespace is accepted\n"
    assert ask(container, "health", options=("--user", "0")) == DONE
    assert ask(container, "health", options=("--user", "12345")) == DONE
    assert ask(container, "health", options=("--user", "777")) == (1, told)
    assert ask(container, "stop", "web", options=("--user", "777")) == (1, told)
    assert states(container)["web"] == "ready"


@pytest.mark.parametrize("shares", ["network", "pid", "both"])
def test_containers_that_share_namespaces_do_not_see_each_other(
    shares: str, containers: Containers, scratch: str, image: str
) -> None:
    """As those of one pod: each has its own services, and stops its own. In the second one `run` may not be PID 1."""
    first = containers(scratch, "-f", "/etc/services.toml")
    wait_until_up(first)
    what = ("network", "pid") if shares == "both" else (shares,)
    options = tuple(word for name in what for word in (f"--{name}", f"container:{first.name}"))
    second = containers(image, "-ms", "TERM", "sleep 1000", "sh -c 'exec sleep 1000'", options=options)
    wait_until(lambda: ask(second, "health")[0] == 0, "the second one is healthy")
    assert sorted(states(first)) == ["db", "extra", "web"]
    assert sorted(states(second)) == ["sh", "sleep"]
    assert ask(second, "stop", "sleep") == DONE
    assert ask(second, "health") == (1, "sleep is stopped\n")
    assert ask(second, "restart", "web")[0] == 1
    assert ask(first, "health") == DONE
    assert ask(first, "stop", "web") == DONE
    assert (states(first)["web"], states(second)["sh"]) == ("stopped", "ready")


def test_a_container_without_services_says_so(containers: Containers, image: str) -> None:
    container = containers(image, "sleep", "1000")
    container.wait_log("started sleep")
    nobody = (1, "run: [error] there is no `run` with services in this container\n")
    assert ask(container, "status") == ask(container, "health") == nobody
    assert containers(image, "-c", "status").exit_code() == 1, "PID 1 itself"
