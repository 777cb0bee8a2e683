"""Kubernetes: each container is a pod of its own."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from boxes import USER, Box, Engine, How, call, must
from cluster import BINARIES, Cluster
from engine import layer_of, unique_name
from harness import DEADLINE, wait_until
from manifests import applied

IMAGE = "localhost/run:1"
PROBE = {"exec": {"command": ["/bin/run", "-c", "health"]}, "periodSeconds": 1, "failureThreshold": 1}
EXIT = re.compile(r"/tasks/exit (\{.*\})")
"""An event of containerd."""

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


class Pod(Box):
    """A pod."""

    def __init__(self, kubectl: Sequence[str], name: str, folder: Path) -> None:
        """Take its name, and a folder for what it writes."""
        self._kubectl = list(kubectl)
        self.name = name
        self._path = folder / f"{name}.log"
        self._events = folder / "ctr.log"
        wait_until(self._has_begun, f"{name} is started")
        self._id = self.look("{.status.containerStatuses[0].containerID}").rpartition("/")[2]
        self._follow()

    def look(self, what: str) -> str:
        """A part of what the API tells."""
        return must([*self._kubectl, "get", "pod", self.name, "--output", f"jsonpath={what}"])

    def _has_begun(self) -> bool:
        state = self.look("{.status.containerStatuses[0].state}")
        return "running" in state or "terminated" in state

    def log(self) -> str:
        """What it has written so far: it is followed, for what a pod has written is gone when it was deleted."""
        if self._follows.poll() is not None and not self._path.stat().st_size:
            self._follow()
        return self._path.read_text(errors="replace")

    def _follow(self) -> None:
        """Begin to read what it writes."""
        with self._path.open("wb") as file:
            words = [*self._kubectl, "logs", "--follow", self.name, "--container", "box"]
            self._follows = subprocess.Popen(words, stdout=file, stderr=subprocess.DEVNULL)

    def _wait_log(self) -> None:
        """Wait until all is read that it has written."""
        try:
            self._follows.wait(DEADLINE / 10)
        except subprocess.TimeoutExpired:
            pass

    def _codes(self) -> list[int]:
        """The exit code, if it has ended: as containerd tells: a pod that was deleted may be gone before."""
        exits = map(json.loads, EXIT.findall(self._events.read_text()))
        return [exit.get("exit_status", 0) for exit in exits if exit["container_id"] == exit["id"] == self._id]

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._codes()

    def exit_code(self) -> int:
        """The exit code, once it has ended."""
        code = wait_until(self._codes, f"{self.name} has ended")[0]
        self._wait_log()
        return code

    def execute(self, *words: str) -> tuple[int, str]:
        """Execute a command in it."""
        return call([*self._kubectl, "exec", self.name, "--container", "box", "--", *words])

    def kill(self, name: str) -> None:
        """Send `run` a signal: from inside, since Kubernetes has no other way."""
        self.execute("kill", f"-{name}", "1")

    def ask_to_stop(self) -> None:
        """Delete it."""
        must([*self._kubectl, "delete", "pod", self.name, "--wait=false"])

    def health(self) -> str:
        """What comes of the readiness probe."""
        ready = self.look('{.status.conditions[?(@.type=="Ready")].status}')
        return {"True": "healthy", "False": "unhealthy"}.get(ready, ready)

    def remove(self) -> None:
        """Remove it."""
        self._follows.kill()
        self._follows.wait()
        call([*self._kubectl, "delete", "pod", self.name, "--grace-period=0", "--force", "--wait=false"])


class Kubernetes(Engine):
    """A whole cluster of one node."""

    name = "kubernetes"
    packages = "containerd runc etcd-server containernetworking-plugins kubernetes-client golang-go openssl iproute2"
    examples: ClassVar[dict[str, Any]] = {
        "examples/kubernetes": lambda on: applied(on.cluster.kubectl, IMAGE),
    }
    lacks: ClassVar[dict[str, str]] = {
        "its own init before run": "the pause container is that, in a shared pid namespace",
        "a terminal": "kubectl is connected only after the start",
        "a user namespace": "this version has none",
    }

    def open(self, layer: bytes) -> None:
        """Start it."""
        self.cluster = Cluster()
        pause = layer_of({"pause": BINARIES / "pause"})
        for name, data, entry in (("localhost/pause:1", pause, ["/pause"]), (IMAGE, layer, ["/bin/run"])):
            must([*self.cluster.ctr(), "image", "import", "-"], data=archive(name, data, entry))
        self.cluster.start_kubelet()

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
