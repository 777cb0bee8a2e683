"""docker/examples/pod: in a shared pid namespace each `run` reaps and stops its own processes, and no other's."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Container, Containers, Images
from examples import Inside, build, fetch_pages, inside, run_log, wait_for
from harness import wait_until


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("pod", images, bare_image)


def wait_for_services(container: Container) -> None:
    """Wait until nginx answers, and the shell that starts it has ended."""
    wait_for(container, 80)
    container.wait_log("exited with code 0")


def own_pid(container: Container) -> int:
    """The pid of the container's `run`, which is not 1."""
    container.wait_log("own pid is")
    return int(run_log(container)[0].removeprefix("own pid is "))


def reaped(container: Container) -> set[int]:
    """The pids of the processes that the container's `run` has reaped."""
    return {int(pid) for pid in re.findall(r"pid (\d+): (?:exited|killed)", container.logs())}


def services(container: Container) -> list[Inside]:
    """The container's services with their workers, in the order of their pids; without what refresh has just forked."""
    own = own_pid(container)
    found = inside(container)
    masters = {min(p.pid for p in found if p.parent == own and p.name == name) for name in ("nginx", "refresh")}
    workers = {process.pid for process in found if process.parent in masters and process.name == "nginx"}
    return sorted(process for process in found if process.pid in masters | workers)


def wait_for_orphans(container: Container, count: int) -> set[int]:
    """Wait until the container's `run` has reaped so many more orphans; return all pids that it has reaped."""
    before = len(reaped(container))
    wait_until(lambda: len(reaped(container)) >= before + count, "orphans are reaped")
    return reaped(container)


def test_docker_stop_of_one_leaves_the_other_untouched(containers: Containers, example: str, images: Images) -> None:
    pod = containers(example, "sleep", "infinity")
    blue, green = (containers(example, options=("--pid", f"container:{pod.name}")) for _ in range(2))
    for container in blue, green:
        wait_for_services(container)
    assert len({1, own_pid(blue), own_pid(green)}) == 3
    with ThreadPoolExecutor() as pool:
        pages = pool.submit(fetch_pages, images, green, 3)
        fetch_pages(images, blue, 1)
        services_of_green = services(green)
        services_of_blue = services(blue)
        wait_for_orphans(blue, 2)
        assert blue.stop() == 143
        wait_for_orphans(green, 2)
    pages.result()

    assert {process.pid for process in services_of_blue if process.parent == own_pid(blue)} <= reaped(blue)
    assert not {process.pid for process in inside(green)} & {process.pid for process in services_of_blue}
    assert services(green) == services_of_green
    assert not [line for line in run_log(green) if line.startswith(("forwarding", "sending"))]
    assert not reaped(blue) & reaped(green)
    assert reaped(pod) == set()
    assert green.stop() == 143
    assert len(inside(pod)) == 2
    assert pod.stop() == 143


def test_when_PID_1_has_orphans_of_its_own_they_are_none_of_the_others_business(
    containers: Containers, example: str
) -> None:
    pod = containers(example)
    blue = containers(example, options=("--pid", f"container:{pod.name}"))
    wait_for_services(blue)
    of_pod, of_blue = (wait_for_orphans(container, 3) for container in (pod, blue))
    assert not of_pod & of_blue
    assert blue.stop() == 143
    wait_for_orphans(pod, 2)
    assert not reaped(pod) & reaped(blue)
    assert pod.stop() == 143
