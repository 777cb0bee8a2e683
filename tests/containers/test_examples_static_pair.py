"""docker/examples/static-pair: from scratch, read-only, without root; no order is lost, whoever is killed."""

import pytest
from engine import Container, Containers, Images, docker
from examples import build, plan, story, wait_healthy
from killing import Killer, Writer, check_lives, check_no_zombie, lines_of, wait_well

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("static-pair", images, bare_image)


def orders(container: Container, image: str) -> list[str]:
    """All orders that are on the disk."""
    shell = ("--volumes-from", container.name, "--entrypoint", "/bin/busybox", image)
    return docker("run", "--rm", "--network", "none", *shell, "cat", "/data/orders").splitlines()


def test_no_order_is_lost_that_was_taken_whoever_is_killed(
    containers: Containers, example: str, images: Images, image: str
) -> None:
    container = containers(example, options=HARDENED)
    wait_well(container)
    writer = Writer("orders", 8080, container, containers, images)
    killer = Killer(container, has_shell=False)
    killer.run()
    taken = writer.stop()
    wait_healthy(container)

    found = orders(container, image)
    assert len(found) == len(set(found))
    assert not set(taken) - set(found)
    check_lives(container, killer.killed)
    check_no_zombie(container)
    assert len(container.processes()) == 3
    for service in "web", "ledger":
        lines = lines_of(container, service)
        assert not {name for name in found if lines[f"order {name}"] != 1}, f"the last words of {service} are not there"
    assert container.stop() == 0
    container.start_again()
    wait_well(container)
    assert orders(container, image) == found
    assert container.stop() == 0


def test_they_start_and_stop_in_order(containers: Containers, example: str) -> None:
    container = containers(example, options=HARDENED)
    wait_healthy(container)
    assert container.stop() == 0
    assert story(container) == [
        "ledger: started ledger /data/orders",
        "ledger: ready",
        "web: started web",
        "web: ready",
        "shutdown, since TERM (15) has come",
        "sending TERM (15) to web",
        "web: killed by TERM (15); stopped",
        "sending TERM (15) to ledger",
        "ledger: killed by TERM (15); stopped",
        "no process is left: exiting with code 0",
    ]


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. ledger", "2. web"]
