"""docker/examples/redis-worker: no job that redis has taken is lost, whoever is killed; the worker stops first."""

import re
from collections import Counter

import pytest
from engine import Container, Containers, Images
from examples import REDIS, build, execute, plan, story
from harness import wait_until
from killing import Killed, Killer, Writer, check_lives, check_nobody_else, lines_of, wait_well


@pytest.fixture(scope="module")
def example(images: Images, bare_image: str) -> str:
    """The image of the example."""
    return build("redis-worker", images, bare_image)


def redis(container: Container, *words: str) -> list[str]:
    """The lines that redis answers."""
    return execute(container, "redis-cli", *words).splitlines()


def results(container: Container) -> dict[str, str]:
    """What has come of the jobs."""
    lines = redis(container, "hgetall", "results")
    return dict(zip(lines[::2], lines[1::2], strict=True))


def test_no_job_is_lost_that_was_taken_whoever_is_killed(containers: Containers, example: str, images: Images) -> None:
    container = containers(example)
    wait_well(container)
    writer = Writer("jobs", REDIS, container, containers, images)
    killer = Killer(container)
    killer.run()
    taken = writer.stop()
    wait_well(container)
    wait_until(lambda: redis(container, "exists", "jobs", "begun") == ["0"], "all jobs are done")

    found = results(container)
    assert not set(taken) - set(found)
    assert all(result == job[::-1] for job, result in found.items())
    check_lives(container, killer.killed)
    check_nobody_else(container)
    lines = lines_of(container, "worker")
    assert not {job for job in found if not lines[f"job {job}"]}, "the last words of some life are not there"
    check_reports(container, killer.killed)
    assert container.stop() == 0
    container.start_again()
    wait_well(container)
    assert results(container) == found
    assert container.stop() == 0


def check_reports(container: Container, killed: list[Killed]) -> None:
    """Upon SEGV redis writes a report of many lines, its last words: all of it is in the log.

    Not so of a life that was killed again while it wrote.
    """
    unfinished, crashed = set(), ""
    for line in re.findall(r"^redis +\| (.*)$", container.logs(), re.MULTILINE):
        begin = re.match(r"(\d+):M .* crashed by signal", line)
        if begin:
            unfinished.add(begin[1])
            crashed = begin[1]
        elif "=== REDIS BUG REPORT END" in line:
            unfinished.discard(crashed)
    assert crashed
    hits = Counter(str(one.pid) for one in killed)
    assert not {pid for pid in unfinished if hits[pid] < 2}


def test_docker_stop_lets_the_worker_finish_its_job_before_redis_is_asked_to(
    containers: Containers, example: str, images: Images
) -> None:
    container = containers(example)
    wait_well(container)
    writer = Writer("jobs", REDIS, container, containers, images)
    wait_until(lambda: results(container), "a job is done")
    assert container.stop() == 0
    taken = writer.stop()
    redis_server = "redis-server --appendonly yes --appendfsync always --save  --supervised systemd"
    assert story(container) == [
        f"redis: started {redis_server}",
        "redis: ready",
        "worker: started worker",
        "shutdown, since TERM (15) has come",
        "sending TERM (15) to worker",
        "worker: exited with code 0; stopped",
        "sending TERM (15) to redis",
        "redis: exited with code 0; stopped",
        "no process is left: exiting with code 0",
    ]
    assert lines_of(container, "worker")["no job is left in the middle"] == 1
    container.start_again()
    wait_well(container)
    wait_until(lambda: redis(container, "exists", "jobs", "begun") == ["0"], "the next life does the others")
    assert not set(taken) - set(results(container))
    lines = lines_of(container, "worker")
    assert all(lines[f"job {job}"] == 1 for job in taken), "a job was done twice, though nobody was killed"
    assert container.stop() == 0


def test_the_plan_is_in_order_of_start(example: str) -> None:
    assert plan(example) == ["1. redis", "2. worker"]
