"""Start the program as PID 1 of other kernels and machines: Debian's kernel in qemu. Called by `make boots`.

    python tests/build/boots.py --binary dist/run

The kernel is the one that Debian's archive has; the root is an initramfs with the program and busybox in it. Without
KVM this takes a quarter of a minute a machine. It exits with 0 if all is well on each.
"""

import argparse
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

MACHINES = {
    "the oldest processor": ("Nehalem", "tcg"),
    "four levels of page tables": ("max,la57=off", "tcg"),
    "five levels of page tables": ("max,la57=on", "tcg"),
}
"""What is emulated: a processor of qemu, and how."""

CHECK = """\
set -e
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo "kernel $(uname -r), levels $(grep -q la57 /proc/cpuinfo && echo 5 || echo 4)"
for pages in always never; do
    echo $pages >/sys/kernel/mm/transparent_hugepage/enabled
    for stack in 64 8192 unlimited; do
        (ulimit -s $stack; run -q run -v)
    done
done
run -q -s TERM -t 5 sh -c '(trap "exit 4" TERM; while :; do sleep 0.1; done) & sleep 0.5; exit 3' || echo "code $?"
echo all is well
poweroff -f
"""
EXPECTED = ("kernel ", *6 * ["run "], "code 4", "all is well")
"""How the lines begin that it says."""

SECONDS = 600.0


def entry(name: str, mode: int, content: bytes, inode: int) -> bytes:
    """A file of an initramfs: cpio(5), "newc"."""
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def initramfs(binary: Path) -> bytes:
    """The program, busybox, and what is to be done."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    folders = "dev", "proc", "sys", "bin"
    parts = [entry(name, stat.S_IFDIR | 0o755, b"", number) for number, name in enumerate(folders, 1)]
    files = {"bin/run": binary.read_bytes(), "bin/busybox": busybox.read_bytes(), "check": CHECK.encode()}
    parts += [entry(name, stat.S_IFREG | 0o755, data, number) for number, (name, data) in enumerate(files.items(), 10)]
    links = [name for name in applets if name != "busybox"]
    parts += [entry(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox", 20 + i) for i, name in enumerate(links)]
    return b"".join([*parts, entry("TRAILER!!!", 0, b"", 0)])


def kernel(folder: Path) -> Path:
    """Debian's kernel, out of its package."""
    asked = ["apt-cache", "depends", "linux-image-amd64"]
    depends = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    package = re.findall(r"Depends: (linux-image-\S+)", depends)[0]
    subprocess.run(["apt-get", "-qq", "download", package], cwd=folder, check=True)
    subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder / "kernel"], check=True)
    return next((folder / "kernel" / "boot").glob("vmlinuz-*"))


def boot(image: Path, root: Path, processor: str, accelerator: str) -> list[str]:
    """What the machine says, line by line, until it is off."""
    command = [
        *("qemu-system-x86_64", "-machine", f"accel={accelerator}", "-cpu", processor, "-m", "512", "-nographic"),
        *("-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(root), "-append"),
        "console=ttyS0 quiet panic=-1 rdinit=/bin/run -- -q /bin/sh /check",
    ]
    said = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=SECONDS
    ).stdout
    return said.decode(errors="replace").replace("\r", "").splitlines()


def main() -> int:
    """Try each machine, and say what it said."""
    parser = argparse.ArgumentParser(description="Start the program as PID 1 of other kernels and machines.")
    parser.add_argument("--binary", type=Path, default=Path("dist/run"))
    binary = parser.parse_args().binary.absolute()
    failed = False
    with tempfile.TemporaryDirectory(prefix="boots-") as name:
        folder = Path(name)
        image, root = kernel(folder), folder / "root"
        root.write_bytes(initramfs(binary))
        for title, (processor, accelerator) in MACHINES.items():
            lines = list(boot(image, root, processor, accelerator))
            told = re.findall(r"(?:kernel|run|code) [\d.]+.*|all is well", "\n".join(lines))
            fine = len(told) == len(EXPECTED) and all(map(str.startswith, told, EXPECTED))
            print(f"{title} ({processor}): {told[0] if told else 'no kernel'}, {'all is well' if fine else 'FAILED'}")
            if not fine:
                print("\n".join(lines))
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
