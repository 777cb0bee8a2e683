"""docker/examples/kubernetes, as people will copy it, applied to a cluster; and clients of its Service."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxes import call, must
from cluster import IMAGE, Cluster
from engine import unique_name
from harness import wait_until
from manifests import EXAMPLES
from pods import Pod

FILE = "/etc/run/services.toml"
NAME = "two-services"
MANY = 100
"""Requests after which a load is known to flow."""

Change = Callable[[dict[str, Any]], None]
"""What changes the objects of a manifest, by their kind."""


class Example:
    """A manifest of the example in a namespace of its own, for the image of the cases."""

    def __init__(self, cluster: Cluster, file: str) -> None:
        """Read it, and make the namespace."""
        self._cluster = cluster
        self.space = unique_name()
        must([*cluster.kubectl, "create", "namespace", self.space])
        self.kubectl = [*cluster.kubectl, "--namespace", self.space]
        text = (EXAMPLES / "kubernetes" / file).read_text().replace("policy/v1\n", "policy/v1beta1\n")  # before 1.21
        read = must(
            [*self.kubectl, "apply", "--dry-run=client", "--output=json", "--filename", "-"], data=text.encode()
        )
        self.objects = {item["kind"]: item for item in json.loads(read)["items"]}

    def container(self) -> dict[str, Any]:
        """The container of the pods."""
        spec = (self.objects.get("Deployment") or self.objects["Job"])["spec"]["template"]["spec"]
        container: dict[str, Any] = spec["containers"][0]
        return container

    def apply(self) -> None:
        """Apply the objects, which may have been changed, for the image of the cases."""
        self.container().update(image=IMAGE, args=["-f", FILE])
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(self.objects.values())})
        must([*self.kubectl, "apply", "--filename", "-"], data=text.encode())

    def names(self) -> list[str]:
        """The names of the pods that are there."""
        listing = [
            *self.kubectl,
            "get",
            "pods",
            f"--selector=app={NAME}",
            "--output=jsonpath={.items[*].metadata.name}",
        ]
        return must(listing).split()

    def rolled(self) -> list[Pod]:
        """Wait until the Deployment is as it was said to be, and nothing else is left; the pods."""
        must([*self.kubectl, "rollout", "status", "--timeout=280s", f"deployment/{NAME}"])
        wait_until(lambda: len(self.names()) == 2, "the old pods are gone")
        return [Pod(self.kubectl, name, self._cluster.folder, NAME) for name in self.names()]

    def get(self, what: str, path: str) -> str:
        """A part of what the API tells of an object."""
        return must([*self.kubectl, "get", what, "--output", f"jsonpath={path}"])

    def remove(self) -> None:
        """Remove the namespace and all in it."""
        call([*self._cluster.kubectl, "delete", "namespace", self.space, "--wait=false"])


@contextmanager
def applied(cluster: Cluster, file: str = "deployment.yaml", change: Change | None = None) -> Iterator[Example]:
    """The example, applied."""
    example = Example(cluster, file)
    try:
        if change:
            change(example.objects)
        example.apply()
        yield example
    finally:
        example.remove()


class Load:
    """Clients of the example's Service, on the node: kube-proxy leads them to a pod that is ready."""

    def __init__(self, cluster: Cluster, example: Example) -> None:
        """Start them, and wait until they are under way."""
        words = [sys.executable, str(Path(__file__).with_name("load.py"))]
        words += [example.get(f"service/{NAME}", "{.spec.clusterIP}"), "80"]
        self._process = subprocess.Popen(
            [*cluster.inside, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.more()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def told(self) -> dict[str, Any]:
        """How many requests there were, which have failed, the slowest."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def more(self) -> None:
        """Wait for many more requests."""
        until = self.told()["requests"] + MANY
        wait_until(lambda: self.told()["requests"] >= until, "many more requests")

    def flawless(self, what: str) -> None:
        """Say how many there were; none may have failed."""
        self.more()
        told = self.told()
        failed = told["failed"]
        print(
            f"elsewhere: kubernetes: {what}: {told['requests']} requests, {len(failed)} failed,"
            f" the slowest took {told['slowest']:.2f} s",
            flush=True,
        )
        assert not failed, f"{len(failed)} of {told['requests']} requests failed, the first: {failed[:3]}"
