"""A root from scratch, read-only, in which `run` is PID 1: the binary, a static busybox, a file of services."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bundles import MARK
from harness import Started, Starter
from serving import Server, Services

APPLETS = ("sh", "sleep", "echo", "cat", "setsid", "readlink", "ls", "id", "true", "kill", "wc", "touch", "ps")

ENTER = """
root=$0; user=$1; mounts=$2; files=$3; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
for mount in $mounts; do
    case $mount in
        proc) mount -t proc none "$root/proc";;
        null) mount --bind /dev "$root/dev";;
        tmp) mount -t tmpfs none "$root/tmp"; chmod 1777 "$root/tmp";;
    esac
done
mount -o remount,ro,bind "$root"
cd /
eval "exec $files"
exec chroot --userspec="$user" --groups= "$root" /bin/run "$@"
"""


class Scratch:
    """Starts services in such a root: without /proc, /dev and a folder to write to unless they are asked for."""

    def __init__(self, binary: str, folder: Path, busybox: Path) -> None:
        """Make the root in a folder of its own."""
        self.root = folder / "root"
        for name in ("bin", "proc", "dev", "tmp"):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        shutil.copy(binary, self.root / "bin" / "run")
        shutil.copy(busybox, self.root / "bin" / "busybox")
        for applet in APPLETS:
            (self.root / "bin" / applet).symlink_to("busybox")
        self._needed = " tmp" if MARK in Path(binary).read_bytes() else ""
        """The mounts that a bundle needs: one to unpack itself."""
        self._start = Starter(binary, folder)
        self._write = Server(self._start, self.root)

    def __call__(self, services: Services, *options: str, top: Mapping[str, Any] | None = None, **more: str) -> Started:
        """Start these services there; more is as in run()."""
        file = self._write.file(services, **(top or {}))
        return self.run(*options, "-f", f"/{file.name}", **more)

    def run(self, *words: str, mounts: str = "", user: str = "0:0", files: str = "") -> Started:
        """Start the binary there with these words. mounts are words: proc, null (all of /dev), tmp.

        files are redirections of a shell, such as `0<&-`.
        """
        # The first of the words that follow is the binary itself, which is in the root, too.
        prefix = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-ec", ENTER, str(self.root))
        return self._start(
            *words, prefix=(*prefix, user, mounts + self._needed, files), env={"PATH": "/bin:/usr/bin:/sbin:/usr/sbin"}
        )


@pytest.fixture
def scratch(binary: str, public: Path, busybox: Path) -> Scratch:
    """A root from scratch."""
    return Scratch(binary, public, busybox)
