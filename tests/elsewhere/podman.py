"""Podman: as root, with runc and with crun; and as a user."""

import os
import pwd
import shutil
import signal
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from boxes import How, MissingError, call, must, own_mounts
from clients import ClientBox, ClientEngine
from engine import unique_name
from harness import wait_until
from manifests import QUADLET, deployment, pod, quadlet

HYBRID = "/sys/fs/cgroup/unified"
"""Where cgroups of version 2 are beside those of version 1: crun refuses that."""

SHARED = ("/run/libpod", "/dev/shm")
"""Where every podman of a user has its state and its locks, whatever its configuration: `system reset` of one of them
would take them away from all."""

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
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/runroot"
"""

PROBE = '["/bin/run","-c","health"]'


PASSWD = "-u in an image without passwd"


def without_passwd(on: ClientEngine) -> None:
    """Podman makes /etc/passwd where an image has none and a user is named, for root alone: numbers do not need it."""
    run = [*on.client, "run", "--rm"]
    named = [*run, *on.options(How()), "--user", "1000:1000", on.image]
    unreadable = "[ -e /etc/passwd ] && ! (: </etc/passwd) 2>/dev/null && id -u"
    assert must([*named, "-q", "-u", "1000:1000", "sh", "-c", unreadable]) == "1000\n"
    code, said = call([*named, "-u", "app", "true"])
    assert (code, said) == (125, "run: [error] option '-u': /etc/passwd cannot be read: Permission denied\n"), said
    apart = [*run, *on.options(How(ids=True)), "--user", "0", on.image]
    assert must([*apart, "-q", "-u", "500:5", "id", "-u"]) == "500\n"
    code, said = call([*apart, "-u", "1999999999:5", "true"])
    assert code == 125 and said.count("\n") == 1 and "uid 1999999999 does not exist in this user namespace" in said, (
        said
    )


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
        PASSWD: without_passwd,
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
        folder = Path(tempfile.mkdtemp(prefix="run-podman-"))
        self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
        if must(["stat", "--file-system", "--format=%T", str(folder)]).strip() == "overlayfs":
            # In a container: layers cannot be overlays there, but in memory they can.
            must(["mount", "-t", "tmpfs", "tmpfs", str(folder)])
            self._undo.callback(call, ["umount", "--lazy", str(folder)])
        folder.chmod(0o755)
        inside = self._undo.enter_context(own_mounts(HYBRID, SHARED))
        self.client = [*inside, *self.configured(folder), "podman"]
        self._undo.callback(call, [*self.client, "system", "reset", "--force"])
        self.load(layer)

    def configured(self, folder: Path) -> list[str]:
        """Write the configuration; the words before a command that is to have it."""
        (folder / "containers.conf").write_text(CONTAINERS.format(runtime=self.runtime))
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
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
        must(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", self._user])
        self._undo.callback(self._remove_user)
        super().open(layer)

    def _remove_user(self) -> None:
        """Remove the user, whom userdel(8) keeps while there is a process, such as the one that holds its namespace."""
        wait_until(lambda: not self._end_processes(), f"no process of {self._user} is left")
        must(["userdel", self._user])

    def _end_processes(self) -> list[int]:
        """Kill all processes of the user, who was made for this; these were there."""
        uid, found = pwd.getpwnam(self._user).pw_uid, []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if folder.stat().st_uid == uid:
                    found.append(int(folder.name))
                    os.kill(found[-1], signal.SIGKILL)
        return found

    def configured(self, folder: Path) -> list[str]:
        """Write the configuration; become the user."""
        entry = pwd.getpwnam(self._user)
        for path in "xdg", "data", "home":
            (folder / path).mkdir(mode=0o700)
            os.chown(folder / path, entry.pw_uid, entry.pw_gid)
        words = super().configured(folder)
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder / "data"))
        become = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
        return [
            *(*become, "env", "-i", f"HOME={folder}/home", f"USER={self._user}", f"PATH={os.environ['PATH']}"),
            *(f"XDG_RUNTIME_DIR={folder}/xdg", *words),
        ]

    def version(self) -> str:
        """The same, without root."""
        return f"{super().version()}, rootless"

    def options(self, how: How) -> list[str]:
        """Options of `run`: there is always a user namespace."""
        return super().options(replace(how, ids=False))
