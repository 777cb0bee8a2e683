"""The manifests of docker/examples, as people will copy them, in the engines that they are for."""

import os
import re
import shlex
import tempfile
from pathlib import Path

from boxes import GRACE, call, must
from clients import ClientBox, ClientEngine
from harness import DEADLINE, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "docker" / "examples"
OURS = Path(__file__).resolve().parents[2] / ".work" / "quadlet" / "quadlet"
"""What quadlet.sh makes."""
QUADLET = next(filter(os.path.exists, ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet", str(OURS))), "")
"""podman's generator of units, which it has from version 4.4 on."""

PORTS = re.compile(r"^ +ports:\n(?: +- \{.*\n)+", re.MULTILINE)
IMAGE = re.compile(r"^( +)image: .*$", re.MULTILINE)


def changed(name: str, image: str, *words: str) -> str:
    """A manifest of a pod for the image of the cases, with words for `run`; without ports, which take a network."""
    arguments = ", ".join(words)
    return IMAGE.sub(rf"\1image: {image}\n\1args: [{arguments}]", PORTS.sub("", (EXAMPLES / name).read_text()))


def healthy(box: ClientBox) -> bool:
    """Whether all of its services are well."""
    return box.execute("/bin/run", "-c", "health")[0] == 0


def play(on: ClientEngine, name: str, words: list[str], containers: list[str]) -> None:
    """Let podman play a manifest: its containers run, hardened, and end by TERM when the pod is stopped."""
    with tempfile.TemporaryDirectory(prefix="run-play-") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "pod.yaml"
        file.write_text(changed(name, f"localhost/{on.image}", *words))
        file.chmod(0o644)
        must([*on.client, "kube", "play", "--network", "none", str(file)])
        try:
            boxes = [ClientBox(on.client, container, 0) for container in containers]
            for box in boxes:
                wait_until(lambda box=box: healthy(box), f"{box.name} is healthy")  # type: ignore[misc]
                told = box.look(".Config.User"), box.look(".HostConfig.ReadonlyRootfs"), box.look(".EffectiveCaps")
                assert told == ("1000:1000", "true", "[]"), told
            must([*on.client, "pod", "stop", "--time", f"{GRACE}", *[box.look(".Pod") for box in boxes]])
            for box in boxes:
                assert box.exit_code() == 0, box.log()
                assert box.log().count("killed by TERM (15); stopped") == 2, box.log()
        finally:
            call([*on.client, "kube", "down", str(file)])


def pod(on: ClientEngine) -> None:
    """docker/examples/podman/pod.yaml."""
    play(on, "podman/pod.yaml", ["-t", '"100"', "-f", "/etc/two.toml"], ["two-services-app"])


def deployment(on: ClientEngine) -> None:
    """docker/examples/kubernetes/deployment.yaml, which podman plays as well, its ConfigMap included."""
    names = [f"two-services-pod-{number}-two-services" for number in range(2)]
    play(on, "kubernetes/deployment.yaml", ["-t", '"100"', "-f", "/etc/run/services.toml"], names)


class Stack:
    """docker/examples/swarm/stack.yml, deployed for the image of the cases to a swarm of one node."""

    def __init__(self, on: ClientEngine, folder: str) -> None:
        """Write what is changed: the node's network, which is all there is here, and what the image has to be told.

        Times after which the engine loses patience are longer: a shared machine may stand still.
        """
        self._on = on
        self._file = Path(folder) / "changes.yml"

    def deploy(self, services: str, mark: str) -> None:
        """Deploy it with this file of services, and a mark by which it differs from what is there."""
        self._file.write_text(
            f'version: "3.8"\nservices:\n  app:\n    command: [-t, "100", -f, /etc/{services}.toml]\n'
            f"    stop_grace_period: {GRACE}s\n    healthcheck: {{timeout: {GRACE}s}}\n"
            f"    environment: {{MARK: {mark}}}\n    networks: [node]\n"
            "networks:\n  node:\n    external: true\n    name: host\n"
        )
        files = ["--compose-file", str(EXAMPLES / "swarm/stack.yml"), "--compose-file", str(self._file)]
        must(
            [
                "env",
                f"IMAGE={self._on.image}",
                *self._on.client,
                "stack",
                "deploy",
                *files,
                "--resolve-image=never",
                "e",
            ]
        )

    def tasks(self, mark: str) -> list[ClientBox]:
        """The containers that run with this mark and are healthy, as the engine says."""
        filters = ["--filter", "name=^e_app\\.", "--filter", "health=healthy", "--quiet"]
        boxes = [ClientBox(self._on.client, name, 0) for name in must([*self._on.client, "ps", *filters]).split()]
        return [box for box in boxes if f"MARK={mark} " in box.look(".Config.Env").replace("]", " ")]

    def wait(self, mark: str) -> list[ClientBox]:
        """Wait until both tasks have this mark."""
        wait_until(lambda: len(self.tasks(mark)) == 2, f"two tasks with {mark}")
        return self.tasks(mark)

    def state(self) -> str:
        """How its update goes."""
        what = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}"
        return must([*self._on.client, "service", "inspect", "--format", what, "e_app"]).strip()

    def remove(self) -> None:
        """Remove it."""
        call([*self._on.client, "stack", "rm", "e"])


def stack(on: ClientEngine) -> None:
    """docker/examples/swarm: a rolling update, a rollback, one that is never healthy, a task that is replaced."""
    with tempfile.TemporaryDirectory() as folder:
        example = Stack(on, folder)
        try:
            example.deploy("two", "one")
            first = example.wait("one")
            example.deploy("two", "two")
            example.wait("two")
            for box in first:
                assert box.exit_code() == 0 and "KILL" not in box.log(), box.log()
            must([*on.client, "service", "rollback", "--detach", "e_app"])
            wait_until(lambda: example.state() == "rollback_completed", "it has rolled back")
            example.wait("one")
            example.deploy("ill", "three")
            wait_until(lambda: example.state() == "rollback_completed" and len(example.tasks("one")) == 2, "it is back")
            ill = example.wait("one")[0]
            assert ill.execute("/bin/run", "-c", "stop", "db") == (0, "")
            assert ill.exit_code() == 0
            wait_until(lambda: ill.name not in [box.name for box in example.wait("one")], "another task is there")
        finally:
            example.remove()


def without_systemd(words: list[str], folder: str, image: str) -> list[str]:
    """A command of quadlet's unit for the image of the cases: no network, no cgroups and specifiers of systemd's."""
    taken = {"--cgroups=split", "--sdnotify=conmon"}
    kept = [word.replace("%t", folder).replace("%N", "two-services") for word in words[1:] if word not in taken]
    while "--publish" in kept:
        at = kept.index("--publish")
        del kept[at : at + 2]
    if kept[0] == "run":
        assert kept[-1] == "localhost/two-services", kept
        log = f"path={folder}/log"  # which stays when the container is removed
        kept[1:] = ["--network", "none", "--log-opt", log, *kept[1:-1], f"localhost/{image}", "-f", "/etc/two.toml"]
    return kept


def quadlet(on: ClientEngine) -> None:
    """docker/examples/podman/two-services.container: podman's generator makes a unit of it, whose commands do."""
    made = must(["env", f"QUADLET_UNIT_DIRS={EXAMPLES / 'podman'}", QUADLET, "-dryrun"])
    commands = {name: shlex.split(words) for name, words in re.findall(r"^(ExecSt\w+)=-?(.*)$", made, re.MULTILINE)}
    assert {"ExecStart", "ExecStop"} <= set(commands), made
    with tempfile.TemporaryDirectory(prefix="run-quadlet-") as folder:
        Path(folder).chmod(0o777)  # podman without root writes to it, too
        try:
            must([*on.client, *without_systemd(commands["ExecStart"], folder, on.image)])
            box = ClientBox(on.client, "two-services", 0)
            probe = [*on.client, "healthcheck", "run", box.name]
            wait_until(lambda: call(probe)[0] == 0, "its HealthCmd succeeds", DEADLINE / 3)
            told = box.look(".HostConfig.ReadonlyRootfs"), box.look(".EffectiveCaps"), box.look(".Config.StopTimeout")
            assert told == ("true", "[]", "15"), told
            must([*on.client, *without_systemd(commands["ExecStop"], folder, on.image)])
            log = must([*on.client[:-1], "cat", f"{folder}/log"])
            assert log.count("killed by TERM (15); stopped") == 2 and "exiting with code 0" in log, log
        finally:
            call([*on.client, "rm", "--force", "two-services"])
