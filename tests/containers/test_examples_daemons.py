"""docker/examples/daemons: what put itself in the background is reached by `docker stop`, and taken along."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Container, Containers, Images
from examples import REDIS, Inside, build, execute, fetch_pages, inside, kill_inside, plan, run_log, wait_for
from harness import wait_until

PORTS = (80, REDIS, 8888)
"""Those of nginx, redis and tinyproxy."""

NAMES = ["nginx", "redis-server", "tinyproxy"]
"""Those of their processes."""


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("daemons", images, bare_image)


def daemons(container: Container) -> list[Inside]:
    """What the three keepers, which are children of `run` and forks of it, have adopted, once that is all there is."""

    def look() -> list[Inside]:
        processes = inside(container)
        keepers = {process.pid for process in processes if process.parent == 1}
        found = [process for process in processes if process.parent in keepers]
        is_settled = len(keepers) == 3 and sorted(process.name for process in found) == NAMES
        return found if is_settled else []

    return wait_until(look, "three keepers, each with a daemon")


def test_docker_stop_reaches_all_daemons(containers: Containers, example: str, images: Images) -> None:
    container = containers(example)
    wait_for(container, *PORTS)
    with ThreadPoolExecutor() as pool:
        pages = pool.submit(fetch_pages, images, container, 2)
        execute(container, "redis-benchmark", "-q", "-t", "set", "-n", "10000")
    pages.result()
    execute(container, "redis-cli", "set", "key", "value")
    found = daemons(container)
    groups = {process.group for process in found}
    assert len(groups) == 3 and 1 not in groups
    assert not groups & {process.parent for process in found}
    before = run_log(container)
    assert len(before) == 4, "something else than its own pid and three starts"
    keepers = re.findall(r"^(\w+) \(pid (\d+)\): started ", "\n".join(before), re.MULTILINE)
    assert {int(pid) for _, pid in keepers} == {process.parent for process in found}
    assert sorted(name for name, _ in keepers) == ["nginx", "redis", "tinyproxy"]

    assert container.stop() == 0

    after = run_log(container)[len(before) :]
    assert after[0] == "shutdown, since TERM (15) has come"
    assert set(after[1:4]) == {f"sending TERM (15) to {name} (pid {pid})" for name, pid in keepers}
    assert {f"{name} (pid {pid}): exited with code 0; stopped" for name, pid in keepers} <= set(after)
    container.start_again()
    wait_for(container, REDIS)
    assert execute(container, "redis-cli", "get", "key") == "value\n"  # which redis has saved, for it was not killed


@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_that_ends_takes_the_others_with_it(name: str, containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for(container, *PORTS)
    daemons(container)
    # nginx's workers, too, which outlive their master
    kill_inside(container, "KILL", *sorted(process.pid for process in inside(container) if process.name == name))
    assert container.exit_code() == 137
    log = run_log(container)
    service = name.removesuffix("-server")
    assert f"shutdown, since {service} has failed" in log
    assert sum("exited with code 0; stopped" in line for line in log) == 2  # the others have caught TERM


def test_the_plan_is_in_the_files_order(example: str) -> None:
    assert plan(example) == ["1. nginx", "2. redis", "3. tinyproxy"]
