"""Kubernetes: each container is a pod of its own."""

import io
import json
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar

from boxes import USER, Box, Engine, How, must
from cluster import IMAGE, Cluster
from engine import layer_of, unique_name
from node import BINARIES
from pods import Pod
from workloads import ALONE, WORKLOADS

PROBE = {"exec": {"command": ["/bin/run", "-c", "health"]}, "periodSeconds": 1, "failureThreshold": 1}
HARDENED = {
    "runAsUser": USER,
    "runAsGroup": 54321,
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def archive(name: str, layer: bytes, entry: list[str]) -> bytes:
    """An image as `docker save` writes it."""
    digest = sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entry},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


class Kubernetes(Engine):
    """A whole cluster of one node, and of two for a drain."""

    name = "kubernetes"
    packages = (
        "containerd runc etcd-server containernetworking-plugins kubernetes-client golang-go openssl iproute2 iptables"
    )
    examples: ClassVar[dict[str, Any]] = WORKLOADS
    alone: ClassVar[dict[str, Any]] = ALONE
    lacks: ClassVar[dict[str, str]] = {
        "its own init before run": "the pause container is that, in a shared pid namespace",
        "a terminal": "kubectl is connected only after the start",
        "a user namespace": "this version has none",
    }

    def open(self, layer: bytes) -> None:
        """Start it."""
        self.cluster = Cluster()
        pause = layer_of({"pause": BINARIES / "pause"})
        images = ("localhost/pause:1", pause, ["/pause"]), (IMAGE, layer, ["/bin/run"])
        self.cluster.start([archive(*image) for image in images])

    def version(self) -> str:
        """That of the kubelet, and of containerd."""
        containerd = must(["containerd", "--version"]).split()[2].partition("~")[0]
        return f"Kubernetes {must([str(BINARIES / 'kubelet'), '--version']).split()[1]}, containerd {containerd}"

    def _start(self, words: Sequence[str], how: How) -> Box:
        escaped = [word.replace("$", "$$") for word in words]  # $(NAME) is for Kubernetes
        container: dict[str, Any] = {"name": "box", "image": IMAGE, "imagePullPolicy": "Never", "args": escaped}
        if how.hardened:
            container["securityContext"] = HARDENED
        if how.health:
            container["readinessProbe"] = PROBE
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": how.grace,
            "shareProcessNamespace": how.beside is not None,
            "containers": [container],
        }
        name = unique_name()
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        must([*self.cluster.kubectl, "create", "--filename", "-"], data=json.dumps(pod).encode())
        return Pod(self.cluster.kubectl, name, self.cluster.folder)

    def close(self) -> None:
        """Stop it."""
        self.cluster.stop()
