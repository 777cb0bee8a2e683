"""docker/examples/daemons: what put itself in the background is reached by `docker stop`, and taken along."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Containers, Images
from examples import REDIS, build, execute, fetch_pages, first, inside, kill_inside, run_log, wait_for

PORTS = (80, REDIS, 8888)
"""Those of nginx, redis and tinyproxy."""


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("daemons", images, bare_image)


def test_docker_stop_reaches_all_daemons(containers: Containers, example: str, images: Images) -> None:
    container = containers(example)
    wait_for(container, *PORTS)
    with ThreadPoolExecutor() as pool:
        pages = pool.submit(fetch_pages, images, container, 2)
        execute(container, "redis-benchmark", "-q", "-t", "set", "-n", "10000")
    pages.result()
    execute(container, "redis-cli", "set", "key", "value")
    daemons = [process for process in inside(container) if process.parent == 1]
    assert sorted(process.name for process in daemons) == ["nginx", "redis-server", "tinyproxy"]
    groups = {process.group for process in daemons}
    assert len(groups) == 3 and 1 not in groups
    before = run_log(container)
    # own pid, the start, the shell's end, and that of the process between, which tinyproxy leaves when it forks twice
    assert len(before) == 4, "something else has ended"
    assert sum("exited with code 0" in line for line in before) == 2

    assert container.stop() == 0

    after = run_log(container)[len(before) :]
    assert after[0].startswith("forwarding TERM (15) to ")
    assert set(after[0].partition(" to ")[2].split(", ")) == {f"group {group}" for group in groups}
    assert {f"pid {process.pid}: exited with code 0" for process in daemons} <= set(after)
    container.start_again()
    wait_for(container, REDIS)
    assert execute(container, "redis-cli", "get", "key") == "value\n"  # which redis has saved, for it was not killed


@pytest.mark.parametrize("name", ["nginx", "redis-server", "tinyproxy"])
def test_a_daemon_that_ends_takes_the_others_with_it(name: str, containers: Containers, example: str) -> None:
    container = containers(example)
    wait_for(container, *PORTS)
    kill_inside(container, "KILL", first(container, name).pid)
    assert container.exit_code() == 137
    assert sum("killed by" in line for line in run_log(container)) <= 1  # the others have caught TERM
