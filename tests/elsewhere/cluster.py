"""A whole Kubernetes on one node, in a network and mount namespace of its own, with all that it keeps in one folder."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from boxes import MissingError, call, must
from harness import wait_until

BINARIES = Path(__file__).resolve().parents[2] / ".work" / "kubernetes"
"""What kubernetes.sh makes."""
TOOLS = "etcd containerd ctr runc kubectl openssl ip iptables"

IMAGE = "localhost/run:1"
"""That of the cases."""

NODE = "10.9.0.1"
PODS = "10.8.0.0/24"
SERVICES = "10.7.0.0/24"
CONNTRACK = ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")
"""What kube-proxy would set for the whole machine: 0 leaves it alone."""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": PODS}}],
}

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
ip link set lo up
ip addr add {NODE}/32 dev lo
ip route add {SERVICES} dev lo src {NODE}
echo
exec sleep infinity
"""
"""What is sent to a Service from the node takes some route, before kube-proxy's rules send it elsewhere."""


class Cluster:
    """The processes of it."""

    def __init__(self) -> None:
        """Start all of them. Raises MissingError."""
        missing = [name for name in TOOLS.split() if shutil.which(name) is None]
        if missing or not (BINARIES / "kube-proxy").exists():
            raise MissingError(
                f"there is no {' '.join(missing) or 'Kubernetes: tests/elsewhere/kubernetes.sh makes it'}"
            )
        self._processes: list[subprocess.Popen[bytes]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="run-kubernetes-"))
        holder = subprocess.Popen(["unshare", "--mount", "--net", "sh", "-ec", NAMESPACES], stdout=subprocess.PIPE)
        self._processes.append(holder)
        assert holder.stdout and holder.stdout.readline(), "no network namespace can be made"
        self.inside = ["nsenter", "--target", str(holder.pid), "--mount", "--net"]
        self.kubectl = [*self.inside, "kubectl", "--kubeconfig", f"{self.folder}/kubeconfig"]
        self._configure()
        self._start()

    def _configure(self) -> None:
        folder = self.folder
        must(["openssl", "genrsa", "-out", f"{folder}/sa.key", "2048"])
        (folder / "tokens").write_text("secret,admin,admin,system:masters\n")
        (folder / "kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"https://{NODE}:6443", "insecure-skip-tls-verify": True}}
                    ],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        (folder / "cni").mkdir()
        (folder / "cni/10-ptp.conflist").write_text(json.dumps(NETWORK))
        (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder))
        (folder / "kubelet.yaml").write_text(json.dumps(KUBELET))

    def _spawn(self, name: str, *options: str) -> None:
        """Start one of them, with a log."""
        path = str(BINARIES / name) if (BINARIES / name).exists() else name
        with (self.folder / f"{name}.log").open("wb") as log:
            words = [*self.inside, path, *options]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._processes.append(process)

    def _start(self) -> None:
        folder = self.folder
        self._spawn("etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync")
        self._spawn("containerd", f"--config={folder}/containerd.toml")
        self._spawn(
            "kube-apiserver",
            *("--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", f"--advertise-address={NODE}"),
            *(
                f"--cert-dir={folder}/certs",
                f"--service-cluster-ip-range={SERVICES}",
                f"--token-auth-file={folder}/tokens",
            ),
            *("--authorization-mode=AlwaysAllow", "--disable-admission-plugins=ServiceAccount"),
            *(
                "--service-account-issuer=https://kubernetes.default.svc",
                "--kubelet-preferred-address-types=InternalIP",
            ),
            *(f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key"),
        )
        wait_until(lambda: call([*self.kubectl, "get", "--raw", "/readyz"])[0] == 0, "the API server is ready")
        for name in "kube-controller-manager", "kube-scheduler":
            self._spawn(name, f"--kubeconfig={folder}/kubeconfig", f"--cert-dir={folder}/certs", "--leader-elect=false")
        wait_until(lambda: call([*self.ctr(), "version"])[0] == 0, "containerd answers")
        self._spawn(*self.ctr(), "events")

    def ctr(self) -> list[str]:
        """The client of containerd, which has the images."""
        return ["ctr", "--address", f"{self.folder}/containerd.sock", "--namespace", "k8s.io"]

    def start_kubelet(self) -> None:
        """Start the kubelet, once the images are there."""
        folder = self.folder
        self._spawn(
            "kubelet",
            *(f"--config={folder}/kubelet.yaml", f"--root-dir={folder}/kubelet", f"--cert-dir={folder}/pki"),
            *(f"--kubeconfig={folder}/kubeconfig", "--container-runtime=remote", "--hostname-override=node"),
            *(f"--container-runtime-endpoint=unix://{folder}/containerd.sock", f"--node-ip={NODE}"),
            f"--volume-plugin-dir={folder}/volumes",
        )
        self._spawn(
            "kube-proxy",
            *(f"--kubeconfig={folder}/kubeconfig", "--hostname-override=node", f"--cluster-cidr={PODS}"),
            *("--proxy-mode=iptables", "--healthz-bind-address=", "--metrics-bind-address="),
            *(f"--conntrack-{what}=0" for what in CONNTRACK),
        )
        wait_until(lambda: " Ready" in call([*self.kubectl, "get", "nodes"])[1], "the node is ready")

    def stop(self) -> None:
        """Stop all of them, and what they have mounted and started."""
        for process in reversed(self._processes[1:]):
            process.terminate()
            process.wait()
        tasks = call(["pgrep", "--full", f"containerd-shim.* -address {self.folder}/"])[1].split()
        call(["kill", *tasks])
        self._processes[0].kill()
        self._processes[0].wait()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            call(["umount", "--lazy", mount])
        shutil.rmtree(self.folder, ignore_errors=True)
