"""docker/examples/two-services, as people will copy it: both services answer, and both end together."""

from pathlib import Path

import pytest
from engine import Container, Containers, Images, docker
from harness import wait_until

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "examples" / "two-services"

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def example(kit: str, images: Images, bare_image: str) -> str:
    """The image of the example, with the binary under test as its `run`."""
    return images.build(kit, "--build-arg", f"RUN={bare_image}", str(FOLDER))


def ask(container: Container, *words: str) -> str:
    """What a client in the container gets for an answer, once the service is up."""

    def answer() -> str:
        try:
            return docker("exec", container.name, "/bin/busybox", *words)
        except AssertionError:
            return ""

    return wait_until(answer, f"an answer to {words}").strip()


def wait_for_both(container: Container) -> None:
    """Wait until both services answer."""
    assert ask(container, "wget", "-qO-", "http://127.0.0.1:8080/") == "Hello from the first service"
    assert "UTC" in ask(container, "nc", "127.0.0.1", "1300")


@pytest.mark.parametrize("options", [(), HARDENED], ids=["default", "hardened"])
def test_both_services_answer_and_docker_stop_ends_them_by_TERM(
    options: tuple[str, ...], containers: Containers, example: str
) -> None:
    container = containers(example, options=options)
    wait_for_both(container)
    wait_until(lambda: len(container.processes()) == 3, "the client's process is gone")
    assert container.stop() == 143
    assert container.logs().count("killed by") == 2


@pytest.mark.parametrize("service", ["httpd", "nc"])
def test_a_service_that_ends_takes_the_other_with_it(service: str, containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for_both(container)
    docker("exec", container.name, "/bin/busybox", "killall", "-KILL", service)
    assert container.exit_code() == 143
    assert container.logs().count("killed by") == 2
