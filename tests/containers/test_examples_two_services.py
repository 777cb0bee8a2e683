"""docker/examples/two-services, as people will copy it: no shell; both services answer, and both end together."""

import subprocess
from collections.abc import Sequence

import pytest
from engine import KILLED, Container, Containers, Images, docker
from examples import build, wait_healthy
from harness import DEADLINE, wait_until

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def example(kit: str, images: Images, bare_image: str) -> str:
    """The image of the example, with the binary under test as its `run`."""
    return build("two-services", images, bare_image, kit)


def beside(container: Container, image: str, *words: str, codes: Sequence[int] = (0,)) -> str:
    """What busybox prints in a container of its own that shares network and processes with this one."""
    shared = [f"--{what}=container:{container.name}" for what in ("network", "pid")]
    run = ["run", "--rm", *shared, "--user", "1000", "--entrypoint", "/bin/busybox", image]
    return docker(*run, *words, codes=codes)


def ask(container: Container, image: str, *words: str) -> str:
    """What a client gets for an answer, once the service is up."""

    def answer() -> str:
        try:
            return beside(container, image, *words)
        except AssertionError:
            return ""

    return wait_until(answer, f"an answer to {words}").strip()


def wait_for_both(container: Container, image: str) -> None:
    """Wait until both services answer."""
    assert ask(container, image, "wget", "-qO-", "http://127.0.0.1:8080/") == "Hello from the first service"
    assert "UTC" in ask(container, image, "nc", "127.0.0.1", "1300")


@pytest.mark.parametrize("options", [(), HARDENED], ids=["default", "hardened"])
def test_both_services_answer_and_docker_stop_ends_them_by_TERM(
    options: tuple[str, ...], containers: Containers, example: str, image: str
) -> None:
    container = containers(example, options=options)
    wait_for_both(container, image)
    wait_healthy(container)
    wait_until(lambda: len(container.processes()) == 3, "the client's process is gone")
    assert container.stop() == 0
    assert container.logs().count("killed by TERM (15); stopped") == 2


@pytest.mark.parametrize("service", ["httpd", "nc"])
def test_a_service_that_ends_takes_the_other_with_it(
    service: str, containers: Containers, example: str, image: str
) -> None:
    container = containers(example)
    wait_for_both(container, image)
    beside(container, image, "killall", "-KILL", service, codes=KILLED)
    assert container.exit_code() == 137
    assert container.logs().count("killed by KILL (9); failed") == 1
    assert container.logs().count("killed by TERM (15); stopped") == 1
    assert f"shutdown, since {service} has failed" in container.logs()


def test_what_a_service_writes_is_behind_its_name(containers: Containers, example: str, image: str) -> None:
    container = containers(example)
    wait_for_both(container, image)
    container.wait_log("response:200")
    lines = [line for line in container.logs().splitlines() if not line.startswith("run: ")]
    assert lines and all(line.startswith("httpd | ") for line in lines)


def test_there_is_no_shell(containers: Containers, example: str, image: str) -> None:
    container = containers(example)
    wait_for_both(container, image)
    for shell in "sh", "/bin/sh", "/bin/busybox":
        done = subprocess.run(
            ["docker", "exec", container.name, shell], capture_output=True, timeout=DEADLINE, check=False
        )
        assert done.returncode in (126, 127), done
