"""Where the trials take place: containers of the Docker engine, or, where none answers, namespaces made by unshare(1).

Either way the root folder holds nothing but a few files of this machine, each under the path that it has here.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine import docker, make_image, remove_image, unique_name
from processes import children, wait_until

USER = 1000
SETPRIV = "/usr/bin/setpriv"
NOWHERE = "nowhere: there is no Docker engine, and no root"

Files = dict[str, Path | str]
"""What a root folder holds: where a file comes from, or, as str, what a symbolic link points to."""


@dataclass(frozen=True)
class Conditions:
    """What is different from a usual container: root's, with a root folder that can be written."""

    user: bool = False
    """Not root."""
    no_capabilities: bool = False
    read_only: bool = False
    tmp: bool = True
    """There is a /tmp that everybody may write to, and execute files of."""
    shm: bool = True
    """There is a /dev/shm that everybody may write to."""


class Docker:
    """Containers."""

    name = "containers of Docker"

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._images: list[str] = []

    def make(self, files: Files) -> str:
        """Make an image; return its name."""
        self._images.append(make_image({path.lstrip("/"): source for path, source in files.items()}))
        return self._images[-1]

    def words(self, image: str, name: str, conditions: Conditions, env: dict[str, str]) -> list[str]:
        """What starts a container, before the words of what is to be PID 1 in it."""
        words = ["docker", "run", "--rm", "--name", name, "--network", "none"]
        words += ["--user", f"{USER}:{USER}"] if conditions.user else []
        words += ["--cap-drop", "ALL"] if conditions.no_capabilities else []
        words += ["--read-only"] if conditions.read_only else []
        words += ["--tmpfs", "/tmp:exec,mode=1777"] if conditions.tmp else []
        words += [] if conditions.shm else ["--ipc", "none"]
        for key, value in env.items():
            words += ["--env", f"{key}={value}"]
        return [*words, "--entrypoint", "", image]

    def terminate(self, name: str, client: subprocess.Popen[bytes], signum: int = 15) -> None:
        """Send TERM, or another signal, to PID 1."""
        docker("kill", "--signal", str(signum), name)

    def end(self, name: str, client: subprocess.Popen[bytes]) -> None:
        """Kill whatever is left."""
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    def remove(self) -> None:
        """Remove all images."""
        for image in self._images:
            remove_image(image)


MAKE_ROOT = """set -e
mount --make-rprivate /
cp -al "${1%.*}" "$1"
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t tmpfs -o mode=755 dev dev
mknod -m 666 dev/null c 1 3
mkdir -m 1777 dev/shm
[ "$tmp" = False ] || { mkdir -p tmp; mount -t tmpfs -o mode=1777 tmp tmp; }
[ "$shm" = True ] || rmdir dev/shm
mount -o remount,ro,mode=755 dev
[ "$shm" = False ] || mount -t tmpfs -o mode=1777 shm dev/shm
[ "$read_only" = False ] || mount -o remount,bind,ro .
shift
exec env -i "$@"
"""


class Namespaces:
    """Folders, entered with chroot(1) in namespaces of their own."""

    name = "namespaces made by unshare"

    def __init__(self, folder: Path) -> None:
        """Take a folder to make them in."""
        self._folder = folder

    def make(self, files: Files) -> str:
        """Make a root folder; return its name."""
        root = self._folder / unique_name()
        for path in ("/proc/x", "/dev/x", *files):
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        for path, source in files.items():
            target = root / path.lstrip("/")
            if isinstance(source, str):
                target.symlink_to(source)
            else:
                shutil.copyfile(source, target)
                target.chmod(0o755)
        return str(root)

    def words(self, image: str, name: str, conditions: Conditions, env: dict[str, str]) -> list[str]:
        """What starts one, before the words of what is to be PID 1 in it."""
        drop = ["--bounding-set=-all", "--inh-caps=-all"] if conditions.no_capabilities else []
        drop += [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if conditions.user else []
        settings = [f"{key}={getattr(conditions, key)}" for key in ("tmp", "shm", "read_only")]
        root = f"{image}.{name}"
        spaces = ["--pid", "--fork", "--mount", "--net", "--ipc", "--kill-child=KILL"]
        return [
            *("env", *settings, "unshare", *spaces, "sh", "-c", MAKE_ROOT, name, root),
            *(f"{key}={value}" for key, value in {"PATH": os.defpath, **env}.items()),
            *(shutil.which("chroot") or "/usr/sbin/chroot", root),
            *([SETPRIV, *drop] if drop else []),
        ]

    def terminate(self, name: str, client: subprocess.Popen[bytes], signum: int = 15) -> None:
        """Send TERM, or another signal, to PID 1."""
        wait_until(lambda: children(client.pid), "unshare has started PID 1")
        os.kill(children(client.pid)[0], signum)

    def end(self, name: str, client: subprocess.Popen[bytes]) -> None:
        """Kill whatever is left: PID 1 itself, too, as who changes its user has no parent-death signal any more."""
        for pid in children(client.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        client.kill()

    def remove(self) -> None:
        """Nothing is left: the folder is removed by whoever made it."""


def place(folder: Path) -> Docker | Namespaces | None:
    """Where trials can take place; None where it takes an engine, or root, and neither is there."""
    if shutil.which("docker"):
        answer = subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False)
        if answer.returncode == 0:
            return Docker()
    return Namespaces(folder) if os.geteuid() == 0 else None


def libraries(programs: Sequence[str]) -> Files:
    """The shared libraries that these programs need."""
    files: Files = {}
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        files |= {word: Path(word) for word in done.stdout.split() if word.startswith("/") and Path(word).is_file()}
    return files
