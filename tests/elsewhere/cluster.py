"""A whole Kubernetes in namespaces of its own, with all that it keeps in one folder: one node, or more if asked for."""

import json
import shutil
import tempfile
from pathlib import Path

from boxes import MissingError, call, must
from harness import wait_until
from node import BINARIES, SERVICES, Node

TOOLS = "etcd containerd ctr runc kubectl openssl ip iptables"

IMAGE = "localhost/run:1"
"""That of the cases."""


class Cluster:
    """The control plane, which is on the first node, and the nodes."""

    def __init__(self) -> None:
        """See whether all is there. Raises MissingError."""
        missing = [name for name in TOOLS.split() if shutil.which(name) is None]
        if missing or not (BINARIES / "kube-proxy").exists():
            raise MissingError(
                f"there is no {' '.join(missing) or 'Kubernetes: tests/elsewhere/kubernetes.sh makes it'}"
            )
        self._images: list[bytes] = []
        self.nodes: list[Node] = []
        self.folder = Path(tempfile.mkdtemp(prefix="run-kubernetes-"))
        self._kubeconfig = self.folder / "kubeconfig"

    def start(self, images: list[bytes]) -> None:
        """Start all of it, with these images."""
        self._images = images
        self.nodes.append(Node(self.folder, 1))
        self.inside = self.nodes[0].inside
        self.kubectl = [*self.inside, "kubectl", "--kubeconfig", str(self._kubeconfig)]
        self._configure()
        self._start_control_plane()
        self._start(self.nodes[0])

    def _configure(self) -> None:
        folder = self.folder
        must(["openssl", "genrsa", "-out", f"{folder}/sa.key", "2048"])
        (folder / "tokens").write_text("secret,admin,admin,system:masters\n")
        server = {"server": f"https://{self.nodes[0].address}:6443", "insecure-skip-tls-verify": True}
        self._kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": server}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )

    def _start_control_plane(self) -> None:
        folder, node = self.folder, self.nodes[0]
        node.spawn("etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync")
        node.spawn(
            "kube-apiserver",
            *("--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", f"--advertise-address={node.address}"),
            *(f"--cert-dir={folder}/certs", f"--token-auth-file={folder}/tokens"),
            *(f"--service-cluster-ip-range={SERVICES}", "--kubelet-preferred-address-types=InternalIP"),
            *("--authorization-mode=AlwaysAllow", "--disable-admission-plugins=ServiceAccount"),
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key"),
        )
        wait_until(lambda: call([*self.kubectl, "get", "--raw", "/readyz"])[0] == 0, "the API server is ready")
        for name in "kube-controller-manager", "kube-scheduler":
            node.spawn(name, f"--kubeconfig={self._kubeconfig}", f"--cert-dir={folder}/certs", "--leader-elect=false")

    def _start(self, node: Node) -> None:
        node.start_containerd(self._images)
        node.start_kubelet(self._kubeconfig, owns_cgroups=node is self.nodes[0])
        listing = [*self.kubectl, "get", "nodes", node.name]
        wait_until(lambda: " Ready" in call(listing)[1], f"{node.name} is ready")

    def add_node(self) -> Node:
        """Start another one."""
        node = Node(self.folder, len(self.nodes) + 1)
        self.nodes.append(node)
        node.link(self.nodes[0])
        self._start(node)
        return node

    def stop(self) -> None:
        """Stop all of it, and what is mounted."""
        for node in reversed(self.nodes):
            node.stop()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            call(["umount", "--lazy", mount])
        shutil.rmtree(self.folder, ignore_errors=True)
