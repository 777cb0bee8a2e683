"""What docker/examples/kubernetes lives through in a cluster: updates, crashes, probes, jobs, a drain."""

import json
import re
from collections.abc import Callable
from typing import Any

from applied import Load, applied
from boxes import Engine, must
from cluster import Cluster
from harness import DEADLINE, wait_until
from node import Node
from pods import Pod

PROBES = 15
"""Probes that leave orphans behind."""
LEAVES = """
for seconds in 1 2 3; do
    (setsid sh -c "sleep $seconds; exit 3" >/dev/null 2>&1 &)
    (sh -c "sleep $seconds; exit 3" >/dev/null 2>&1 &)
done
exec /bin/run -c health
"""
"""What such a probe does: half of the orphans leave its session, all of them end badly."""


def ended_well(pods: list[Pod]) -> None:
    """These have ended by TERM, with 0: `run`'s own KILL is in the log, and the kubelet's gives another exit code."""
    for pod in pods:
        assert pod.exit_code() == 0, pod.log()
        assert pod.log().count("killed by TERM (15); stopped") == 2 and "KILL" not in pod.log(), pod.log()


def slow(objects: dict[str, Any]) -> None:
    """Let the web server take its time to start: requests that come too early fail."""
    data = objects["ConfigMap"]["data"]
    command = '"httpd -f -p 8080 -h /www"'
    assert command in data["services.toml"], data
    data["services.toml"] = data["services.toml"].replace(command, f"\"sh -c 'sleep 3; exec {command[1:-1]}'\"")


def update(cluster: Cluster) -> None:
    """A rolling update and the way back, under load: no request fails, the old pods end by TERM."""
    with applied(cluster, change=slow) as example:
        first = example.rolled()
        with Load(cluster, example) as load:
            labels = example.objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
            labels["release"] = "second"
            example.apply()
            second = example.rolled()
            load.more()
            must([*example.kubectl, "rollout", "undo", "deployment/two-services"])
            third = example.rolled()
            load.flawless("a rolling update and the way back")
        names = [pod.name for pods in (first, second, third) for pod in pods]
        assert len(set(names)) == 6, names
        ended_well(first + second)


def is_ready(pod: Pod) -> bool:
    """Whether the kubelet says so."""
    return pod.health() == "healthy"


def services_of(pod: Pod) -> dict[str, dict[str, Any]]:
    """What `run` tells of each service."""
    code, out = pod.execute("/bin/run", "-c", "json")
    assert code == 0, out
    return {service["name"]: service for service in map(json.loads, out.splitlines())}


def untouched(pod: Pod) -> None:
    """The container is the first one, and ready."""
    assert pod.look("{.status.containerStatuses[0].restartCount}") == "0", pod.log()
    assert pod.running() and is_ready(pod), pod.log()


def crash(cluster: Cluster) -> None:
    """A service that crashes is restarted inside: the other one, `run` and the pod stay, and it goes on answering."""
    with applied(cluster) as example:
        pod = example.rolled()[0]
        before = services_of(pod)
        with Load(cluster, example) as load:
            for restarts, number in enumerate((11, 9, 6), 1):
                assert pod.execute("/bin/run", "-c", "signal", str(number), "clock") == (0, "")
                wait_until(lambda n=restarts: services_of(pod)["clock"]["restarts"] == n, "it is restarted")  # type: ignore[misc]
                wait_until(lambda: pod.execute("/bin/run", "-c", "health")[0] == 0, "all are well again")
                assert services_of(pod)["clock"]["exit_code"] == 128 + number, services_of(pod)
            load.flawless("a service crashes beside the one that answers")
        assert services_of(pod)["web"]["pid"] == before["web"]["pid"]
        table = pod.execute("/bin/run", "-c", "status")[1]
        assert re.search(r"^clock +ready +healthy +\d+ +\S+ +3 +ABRT$", table, re.MULTILINE), table
        assert "killed by SEGV (11); next start in 0.1 s, restart 1 of 5" in pod.log(), pod.log()
        untouched(pod)


def given_up(cluster: Cluster) -> None:
    """One that crashes again and again ends the container, with its exit code, and the kubelet starts another."""
    with applied(cluster) as example:
        pod = example.rolled()[0]
        while pod.running():
            pod.execute("/bin/run", "-c", "signal", "SEGV", "web")
        assert pod.exit_code() == 139, pod.log()
        assert "restart 5 of 5" in pod.log() and "clock" in pod.log(), pod.log()
        # No look at lastState: it is gone as soon as the kubelet has removed the container that has ended.
        count = "{.status.containerStatuses[0].restartCount}"
        wait_until(lambda: pod.look(count) == "1" and is_ready(pod), "it is ready again")


def orphans(cluster: Cluster) -> None:
    """Probes that leave orphans behind do no harm: they are reaped, the pod stays ready, and ends well."""

    def change(objects: dict[str, Any]) -> None:
        container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        container["readinessProbe"] |= {"exec": {"command": ["/bin/sh", "-c", LEAVES]}, "periodSeconds": 1}

    with applied(cluster, change=change) as example:
        pod = example.rolled()[0]
        left = LEAVES.count("exit 3") * 3 * PROBES
        wait_until(lambda: pod.log().count("exited with code 3") >= left or not pod.running(), "many are reaped")
        untouched(pod)
        stats = ""

        def none_is_left() -> bool:
            nonlocal stats
            stats = pod.execute("sh", "-c", "cat /proc/[0-9]*/stat")[1]
            return not re.search(r"^\d+ \(.*\) Z 1 ", stats, re.MULTILINE)  # a zombie of another parent is its business

        wait_until(none_is_left, "there is no zombie of PID 1", DEADLINE / 10)
        assert len(stats.splitlines()) < left, stats  # those of the last seconds, and not of all
        assert pod.stop() == 0, pod.log()
        assert "KILL" not in pod.log(), pod.log()


def drained(cluster: Cluster, node: Node) -> None:
    """Drain a node: an eviction that would leave fewer pods than the budget says is asked for again."""
    must([*cluster.kubectl, "drain", node.name, "--force", "--ignore-daemonsets", "--timeout=280s"])


def drain(on: Engine) -> None:
    """A node is drained under load: no request fails; so is the last one: pods end by TERM, and wait for a node."""
    cluster: Cluster = on.cluster  # type: ignore[attr-defined]
    with applied(cluster) as example:
        first = example.rolled()
        on.remove_boxes()
        one, other = cluster.nodes[0], cluster.add_node()
        try:
            with Load(cluster, example) as load:
                drained(cluster, one)
                second = example.rolled()
                load.flawless("a drain")
            ended_well(first)
            assert {pod.look("{.spec.nodeName}") for pod in second} == {other.name}
            must([*example.kubectl, "delete", "poddisruptionbudget/two-services"])
            drained(cluster, other)
            ended_well(second)
            reason = '{.items[*].status.conditions[?(@.type=="PodScheduled")].reason}'
            wait_until(lambda: example.get("pods", reason).split() == ["Unschedulable"] * 2, "two wait for a node")
            assert not {pod.name for pod in first + second} & set(example.names())
        finally:
            must([*cluster.kubectl, "uncordon", one.name])
        example.rolled()
        with Load(cluster, example) as load:
            load.flawless("after a drain")


def job(cluster: Cluster) -> None:
    """The Job's oneshots are done in order; one that fails ends the pod with its exit code, and the Job tries again."""
    with applied(cluster, "job.yaml") as example:
        must([*example.kubectl, "wait", "--for=condition=complete", "--timeout=280s", "job/migrate"])
        log = must([*example.kubectl, "logs", "job/migrate"])
        assert re.search(r"migrate +\| the tables are there(?s:.*)index +\| they are indexed", log), log

    def change(objects: dict[str, Any]) -> None:
        data = objects["ConfigMap"]["data"]
        data["services.toml"] = data["services.toml"].replace("echo the tables are there", "sh -c 'exit 7'")
        objects["Job"]["spec"]["backoffLimit"] = 1

    with applied(cluster, "job.yaml", change) as example:
        must([*example.kubectl, "wait", "--for=condition=failed", "--timeout=280s", "job/migrate"])
        codes = "{.items[*].status.containerStatuses[0].state.terminated.exitCode}"
        assert example.get("pods", codes).split() == ["7", "7"], example.get("pods", codes)
        for name in example.get("pods", "{.items[*].metadata.name}").split():
            log = must([*example.kubectl, "logs", name])
            assert "exited with code 7" in log and "indexed" not in log, log


WORKLOADS: dict[str, Callable[[Any], None]] = {
    "examples/kubernetes: a rolling update under load": lambda on: update(on.cluster),
    "examples/kubernetes: a crash is mended inside": lambda on: crash(on.cluster),
    "examples/kubernetes: too many crashes": lambda on: given_up(on.cluster),
    "examples/kubernetes: probes that leave orphans behind": lambda on: orphans(on.cluster),
    "examples/kubernetes: jobs": lambda on: job(on.cluster),
}
ALONE: dict[str, Callable[[Any], None]] = {"examples/kubernetes: a drain": drain}
"""A drain is of a node, with all that is on it."""
