"""A node of a cluster: a network and mount namespace, with containerd, a kubelet and kube-proxy in it."""

import json
import subprocess
from pathlib import Path

from boxes import call, must
from harness import wait_until

BINARIES = Path(__file__).resolve().parents[2] / ".work" / "kubernetes"
"""What kubernetes.sh makes."""
PODS = "10.8.0.0/16"
SERVICES = "10.7.0.0/24"
FOLDERS = "/var/log/pods /var/log/containers /var/lib/cni /var/lib/kubelet /run/netns"
"""What containerd and the kubelet keep at fixed places: each node has its own, and none is left behind."""
CONNTRACK = ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")
"""What kube-proxy would set for the whole machine: 0 leaves it alone."""

CONTAINERD = """
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""
"""Without CAP_SYS_RESOURCE nobody can lower the score."""

KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "0.0.0.0",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "enforceNodeAllocatable": [],
    "failSwapOn": False,
    "oomScoreAdj": 0,
    "makeIPTablesUtilChains": False,
    "resolvConf": "",
    "evictionHard": {
        "memory.available": "1Mi",
        "nodefs.available": "0%",
        "imagefs.available": "0%",
        "nodefs.inodesFree": "0%",
    },
    "imageGCHighThresholdPercent": 100,
}

NAMESPACES = f"""
for folder in {FOLDERS}; do mkdir -p $folder; mount -t tmpfs none $folder; done
ip link set lo up
ip addr add $0/32 dev lo
ip link add services type veth peer name nowhere
ip link set services up
ip link set nowhere up
ip route add {SERVICES} dev services src $0
echo
exec sleep infinity
"""
"""What is sent to a Service from a node takes some route, before kube-proxy's rules send it elsewhere.

By way of lo nobody would be told that a Service without a pod refuses him.
"""

LINK = """
ip link set link-$1 up
ip addr add $0/32 dev link-$1
ip route add $2/32 dev link-$1 src $0
ip route add $3 via $2 dev link-$1 onlink
"""


class Node:
    """The processes of one, and what they keep in a folder of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        """Make the namespaces; nothing runs there yet."""
        self.name = f"node-{number}"
        self.address = f"10.9.0.{number}"
        self._number = number
        self._pods = f"10.8.{number}.0/24"
        self._cluster = folder
        self._folder = folder / self.name
        (self._folder / "cni").mkdir(parents=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        words = ["unshare", "--mount", "--net", "sh", "-ec", NAMESPACES, self.address]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout and self._holder.stdout.readline(), "no network namespace can be made"
        self.inside = ["nsenter", "--target", str(self._holder.pid), "--mount", "--net"]
        self.ctr = ["ctr", "--address", f"{self._folder}/containerd.sock", "--namespace", "k8s.io"]

    def link(self, other: "Node") -> None:
        """Lay a cable to another node, and say which pods are behind it."""
        peer = ["peer", "name", f"link-{self._number}", "netns", str(other._holder.pid)]
        must([*self.inside, "ip", "link", "add", f"link-{other._number}", "type", "veth", *peer])
        for one, two in (self, other), (other, self):
            words = [one.address, str(two._number), two.address, two._pods]
            must([*one.inside, "sh", "-ec", LINK, *words])

    def spawn(self, name: str, *options: str) -> None:
        """Start one of the processes, with a log."""
        path = str(BINARIES / name) if (BINARIES / name).exists() else name
        # What containerd tells of all nodes is in one file.
        log = self._cluster / "ctr.log" if name == "ctr" else self._folder / f"{name}.log"
        with log.open("ab") as file:
            words = [*self.inside, path, *options]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        self._processes.append(process)

    def start_containerd(self, images: list[bytes]) -> None:
        """Start it, and load images."""
        folder = self._folder
        addresses = {"type": "host-local", "subnet": self._pods, "routes": [{"dst": "0.0.0.0/0"}]}
        network = {"type": "ptp", "ipam": addresses}
        conflist = {"cniVersion": "0.4.0", "name": "pods", "plugins": [network]}
        (folder / "cni/10-ptp.conflist").write_text(json.dumps(conflist))
        (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
        self.spawn("containerd", f"--config={folder}/containerd.toml")
        wait_until(lambda: call([*self.ctr, "version"])[0] == 0, "containerd answers")
        self.spawn(*self.ctr, "events")
        for image in images:
            must([*self.ctr, "image", "import", "-"], data=image)

    def start_kubelet(self, kubeconfig: Path, *, owns_cgroups: bool) -> None:
        """Start it and kube-proxy. Who owns the cgroups of pods ends those that it does not know: only one may."""
        folder = self._folder
        (folder / "kubelet.yaml").write_text(json.dumps(KUBELET | {"cgroupsPerQOS": owns_cgroups}))
        self.spawn(
            "kubelet",
            *(f"--config={folder}/kubelet.yaml", f"--root-dir={folder}/kubelet", f"--cert-dir={folder}/pki"),
            *(f"--kubeconfig={kubeconfig}", "--container-runtime=remote", f"--hostname-override={self.name}"),
            *(f"--container-runtime-endpoint=unix://{folder}/containerd.sock", f"--node-ip={self.address}"),
            f"--volume-plugin-dir={folder}/volumes",
        )
        self.spawn(
            "kube-proxy",
            *(f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}", f"--cluster-cidr={PODS}"),
            *("--proxy-mode=iptables", "--healthz-bind-address=", "--metrics-bind-address="),
            *(f"--conntrack-{what}=0" for what in CONNTRACK),
        )

    def stop(self) -> None:
        """Stop all of them, and the containers."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        call(["kill", *call(["pgrep", "--full", f"containerd-shim.* -address {self._folder}/"])[1].split()])
        self._holder.kill()
        self._holder.wait()
