"""Contract, "Ready and healthy": `notify`, with servers of Debian's that speak sd_notify(3), each in its own way."""

import json
from pathlib import Path
from typing import Any

import pytest
from engine import BUILDKIT, Container, Containers, Images
from examples import answers, execute, run_log
from harness import wait_until

FOLDER = Path(__file__).parent / "notify"

SERVERS = {
    "postgres": "pg_isready --quiet --host /tmp",
    "redis": "redis-cli ping | grep -q PONG",
    "gunicorn": ": </dev/tcp/127.0.0.1/8001",
    "haproxy": ": </dev/tcp/127.0.0.1/8080",
    "script": "true",
}
"""How a shell asks each whether it is ready."""


@pytest.fixture(scope="module")
def notifying(images: Images, bare_image: str) -> str:
    """An image with all of them, and the binary under test."""
    return images.build(BUILDKIT, "--build-arg", f"RUN={bare_image}", str(FOLDER))


def services(container: Container) -> dict[str, dict[str, Any]]:
    """What `json` tells, by name; nothing before it answers."""
    if not answers(container, "run", "-c", "json"):
        return {}
    return {
        service["name"]: service for service in map(json.loads, execute(container, "run", "-c", "json").splitlines())
    }


def wait_for(container: Container, *names: str) -> dict[str, dict[str, Any]]:
    """Wait until these are ready, and return what is told of all."""

    def found() -> dict[str, dict[str, Any]]:
        told = services(container)
        return told if told and all(told[name]["state"] == "ready" for name in names) else {}

    return wait_until(found, f"{names} are ready")


def test_each_tells_when_it_is_ready_and_is_asked_by_nobody(containers: Containers, notifying: str) -> None:
    container = containers(notifying)
    told = wait_for(container, *SERVERS, "after")
    for name, script in SERVERS.items():
        assert told[name]["health"] == "healthy"
        execute(container, "bash", "-ec", script)
    ready = {line.partition(" ")[0] for line in run_log(container) if ": ready, " in line}
    assert ready == set(SERVERS)
    log = run_log(container)
    begins = next(number for number, line in enumerate(log) if line.startswith("after (pid "))
    assert all(": ready, " not in line for line in log[begins:])
    assert told["script"]["status"] == "by a script"
    assert told["redis"]["status"] == "Ready to accept connections"
    assert told["gunicorn"]["status"] == "Gunicorn arbiter booted"
    assert container.stop() == 0


@pytest.mark.parametrize("name", SERVERS)
def test_each_tells_anew_when_it_is_restarted(name: str, containers: Containers, notifying: str) -> None:
    """And until then it is not ready: an order waits for that."""
    container = containers(notifying)
    before = wait_for(container, *SERVERS)
    execute(container, "run", "-c", "restart", name)
    execute(container, "bash", "-ec", SERVERS[name])
    after = services(container)
    assert after[name]["state"] == "ready" and after[name]["pid"] != before[name]["pid"]
    assert sum(line.startswith(f"{name} (pid ") and ": ready, " in line for line in run_log(container)) == 2
