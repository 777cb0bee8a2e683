"""Podman: as root, with runc and with crun; and as a user."""

import os
import pwd
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from boxes import How, MissingError, call, mounts_without, must
from clients import ClientBox, ClientEngine
from engine import unique_name
from manifests import QUADLET, deployment, pod, quadlet

HYBRID = "/sys/fs/cgroup/unified"
"""Where cgroups of version 2 are beside those of version 1: crun refuses that."""

CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{runtime}"
"""
"""Without systemd; with limits that a root without CAP_SYS_RESOURCE may set."""

STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/root"
runroot = "{folder}/runroot"
"""

PROBE = '["/bin/run","-c","health"]'


class PodmanBox(ClientBox):
    """A container of podman."""

    def health(self) -> str:
        """Ask for a probe: podman leaves it to timers of systemd when one is due."""
        call([*self._client, "healthcheck", "run", self.name])
        return self.look(".State.Health.Status")


class Podman(ClientEngine):
    """Podman as root."""

    name = "podman-crun"
    runtime: ClassVar[str] = "crun"
    packages = "podman crun uidmap catatonit"
    run_options: ClassVar[tuple[str, ...]] = ("--network", "none")
    box = PodmanBox
    examples: ClassVar[dict[str, Any]] = {
        "examples/podman/pod.yaml": pod,
        "examples/kubernetes, played": deployment,
    }
    alone: ClassVar[dict[str, Any]] = {"examples/podman, quadlet": quadlet}  # whose name is that of the pod
    lacks: ClassVar[dict[str, str]] = (
        {} if QUADLET else {"examples/podman, quadlet": "there is none: it comes with podman 4.4"}
    )

    def open(self, layer: bytes) -> None:
        """Make a folder for all that it keeps, with its configuration."""
        for name in "podman", self.runtime:
            if shutil.which(name) is None:
                raise MissingError(f"there is no {name}")
        self._stack = ExitStack()
        self._inside = self._stack.enter_context(mounts_without(HYBRID))
        self._folder = Path(tempfile.mkdtemp(prefix="run-podman-"))
        self._folder.chmod(0o755)
        self.client = [*self._inside, *self.configured(self._folder), "podman"]
        self.load(layer)

    def configured(self, folder: Path) -> list[str]:
        """Write the configuration; the words before a command that is to have it."""
        (folder / "containers.conf").write_text(CONTAINERS.format(runtime=self.runtime))
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder, driver="overlay"))
        files = [f"CONTAINERS_CONF={folder}/containers.conf", f"CONTAINERS_STORAGE_CONF={folder}/storage.conf"]
        return ["env", *files, "DISABLE_HC_SYSTEMD=true"]

    def version(self) -> str:
        """Podman's version, and its runtime's."""
        runtime = must([self.runtime, "--version"]).split()[2]
        return f"podman {must(['podman', '--version']).split()[2]}, {self.runtime} {runtime}"

    def with_probe(self) -> str:
        """An option gives it: images of the OCI's format have none."""
        return self.image

    def options(self, how: How) -> list[str]:
        """Options of `run` for a container."""
        options = super().options(how)
        if how.ids:
            options += ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
        if how.health:
            options += ["--health-cmd", PROBE, "--health-retries", "1"]
        return options

    def close(self) -> None:
        """Remove all that it keeps."""
        call([*self.client, "system", "reset", "--force"])
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class PodmanRunc(Podman):
    """Podman as root, with runc."""

    name = "podman-runc"
    runtime = "runc"
    packages = "podman runc uidmap catatonit"


class PodmanRootless(Podman):
    """Podman as a user, who is made for it."""

    name = "podman-rootless"

    def open(self, layer: bytes) -> None:
        """Make a user."""
        self._user = unique_name()
        if shutil.which("newuidmap") is None:
            raise MissingError("there is no newuidmap (Debian's package uidmap)")
        must(["useradd", "--create-home", "--home-dir", f"/tmp/{self._user}", "--shell", "/bin/sh", self._user])
        super().open(layer)

    def configured(self, folder: Path) -> list[str]:
        """Write the configuration; become the user."""
        entry = pwd.getpwnam(self._user)
        for path in "xdg", "data":
            (folder / path).mkdir(mode=0o700)
            os.chown(folder / path, entry.pw_uid, entry.pw_gid)
        words = super().configured(folder)
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder / "data", driver="overlay"))
        become = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
        return [
            *(*become, "env", "-i", f"HOME={entry.pw_dir}", f"USER={self._user}", f"PATH={os.environ['PATH']}"),
            *(f"XDG_RUNTIME_DIR={folder}/xdg", *words),
        ]

    def version(self) -> str:
        """The same, without root."""
        return f"{super().version()}, rootless"

    def options(self, how: How) -> list[str]:
        """Options of `run`: there is always a user namespace."""
        return super().options(replace(how, ids=False))

    def close(self) -> None:
        """Remove the user, too."""
        super().close()
        pause = self._folder / "xdg/libpod/tmp/pause.pid"
        if pause.exists():
            call(["kill", pause.read_text()])
        call(["userdel", "--remove", self._user])
