"""Bundle a program and the shared libraries that it needs into one file, with staticx.

    bundle.py PROGRAM LAUNCHER TARGET

The launcher, which reads the same archive, takes the place of staticx's bootloader. The libraries are found by ldd, as
staticx does it: LD_LIBRARY_PATH may say where they are.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc"

import array
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import staticx.api
import staticx.hooks
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from staticx.constants import ARCHIVE_SECTION
from staticx.elf import elf_add_section, get_prog_interp, strip_elf
from staticx.utils import copy_to_tempfile, make_executable

CHECKSUM_SECTION = ".run.checksum"
DT_DEBUG = 21
MASK = (1 << 64) - 1

PRELOAD = b"/etc/ld.so.preload\0"
"""A file that glibc's dynamic loader obeys as it does LD_PRELOAD: it is not meant for this program."""


def checksum(content: bytes) -> int:
    """What the launcher computes of the archive."""
    lanes = [len(content), 0, 0, 0]
    for index, word in enumerate(array.array("Q", content)):
        mixed = lanes[index % 4] ^ word
        lanes[index % 4] = (mixed << 29 & MASK | mixed >> 35) * 0x9E3779B97F4A7C15 & MASK
    return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3]


def remove_rpath(path: str) -> None:
    """Make a library's own search path, such as pyenv's Python has, a tag without a meaning: see ld.so(8)."""
    with Path(path).open("r+b") as file:
        section = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(section, DynamicSection)
        for index, tag in enumerate(section.iter_tags()):
            if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                file.seek(section["sh_offset"] + index * section["sh_entsize"])
                file.write(DT_DEBUG.to_bytes(8, sys.byteorder))


class PlainTarInfo(tarfile.TarInfo):
    """A member of the archive that tells nothing of where and when it was made."""

    def get_info(self) -> Any:
        """The fields of the header."""
        return {**super().get_info(), "mtime": 0, "mode": 0o755, "uid": 0, "gid": 0, "uname": "", "gname": ""}


class Bundle(staticx.api.StaticxGenerator):
    """staticx's generator, with a launcher of our own."""

    def __init__(self, program: str, launcher: str) -> None:
        """Take the paths of both."""
        super().__init__(program, strip=True, compress=False)
        self._launcher = launcher
        self.sxar.tar.tarinfo = PlainTarInfo

    def _get_bootloader(self) -> None:
        self.tmpoutput = copy_to_tempfile(self._launcher, delete=False).name

    def _fixup_prog(self) -> None:
        """Leave the program as it is: the launcher writes the dynamic loader's path into it."""
        strip_elf(self.tmpprog)

    def add_library(self, libpath: str, exist_ok: bool = False) -> None:
        """Add a library, the dynamic loader among them."""
        name = Path(libpath).name
        if name != Path(get_prog_interp(self.orig_prog)).name:
            super().add_library(libpath, exist_ok)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, name)
            copy.write_bytes(Path(libpath).read_bytes().replace(PRELOAD, bytes(len(PRELOAD))))
            super().add_library(str(copy), exist_ok)


def add_checksum(path: str) -> None:
    """Add the checksum of the archive, as a section of its own."""
    with Path(path).open("rb") as file:
        content = ELFFile(file).get_section_by_name(ARCHIVE_SECTION).data()
    with tempfile.NamedTemporaryFile() as section:
        section.write(checksum(content).to_bytes(8, sys.byteorder))
        section.flush()
        elf_add_section(path, CHECKSUM_SECTION, section.name)


def main(program: str, launcher: str, target: str) -> None:
    """Write the bundle to the path target."""
    staticx.hooks.hooks.clear()  # they look into PyInstaller's archives, and for name services, which are not used
    staticx.api.remove_rpath = remove_rpath  # instead of patchelf, a program that would have to be installed
    with Bundle(program, launcher) as bundle:
        bundle.generate(target)
    add_checksum(target)
    make_executable(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
