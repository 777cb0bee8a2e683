"""Bundle a program and the shared libraries that it needs into one archive, with staticx.

    bundle.py PROGRAM LOADER FOLDERS OBJECT

LOADER is the program's dynamic loader. OBJECT is an empty object file, which gets the archive as a section, for the
launcher to be linked with: it takes the place of staticx's bootloader, and reads the same archive. The libraries are
found by ldd, as staticx does it, in FOLDERS first: "first:second". LD_LIBRARY_PATH would act on strip and objcopy too,
which may need others of the same names.
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
from staticx.elf import get_prog_interp, get_shobj_deps, strip_elf, tool_objcopy
from staticx.utils import copy_to_tempfile

SECTION = "staticx_archive"
SEAL_SECTION = "run_seal"
"""Names of which the linker makes symbols, for the launcher."""

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
    """staticx's generator, which adds its archive to an object file."""

    def __init__(self, program: str, loader: str, target: str) -> None:
        """Take the paths of all."""
        super().__init__(program, strip=True, compress=False)
        self._loader = Path(loader)
        self._target = target
        self.sxar.tar.tarinfo = PlainTarInfo

    def _get_bootloader(self) -> None:
        self.tmpoutput = copy_to_tempfile(self._target, delete=False).name

    def _fixup_prog(self) -> None:
        """Leave the program as it is: the launcher writes the paths of the loader and the libraries into it."""
        strip_elf(self.tmpprog)

    def add_library(self, libpath: str, exist_ok: bool = False) -> None:
        """Add a library, the dynamic loader among them."""
        if Path(libpath).name != self._loader.name:
            super().add_library(libpath, exist_ok)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, self._loader.name)
            copy.write_bytes(Path(libpath).read_bytes().replace(PRELOAD, bytes(len(PRELOAD))))
            super().add_library(str(copy), exist_ok)


def libraries(program: str, loader: str, folders: str) -> list[str]:
    """Return the paths of all that ldd finds; musl's calls the loader by the program's name for it, a placeholder."""
    placeholder = get_prog_interp(program)
    return [loader if path == placeholder else path for path in get_shobj_deps(program, folders.split(":"))]


def seal(path: str) -> None:
    """Make the archive a part of the memory of what is linked with it, and add its size and checksum."""
    with Path(path).open("rb") as file:
        content = ELFFile(file).get_section_by_name(ARCHIVE_SECTION).data()
    flags = "alloc,load,readonly,data,contents"
    with tempfile.NamedTemporaryFile() as section:
        section.write(len(content).to_bytes(8, sys.byteorder) + checksum(content).to_bytes(8, sys.byteorder))
        section.flush()
        tool_objcopy.run_check(f"--add-section={SEAL_SECTION}={section.name}", path)
    for name, new_name in ((ARCHIVE_SECTION, SECTION), (SEAL_SECTION, SEAL_SECTION)):
        tool_objcopy.run_check(
            f"--rename-section={name}={new_name},{flags}", f"--set-section-alignment={new_name}=64", path
        )


def main(program: str, loader: str, folders: str, target: str) -> None:
    """Put the archive into the object file target."""
    staticx.hooks.hooks.clear()  # they look into PyInstaller's archives, and for name services, which are not used
    staticx.api.remove_rpath = remove_rpath  # instead of patchelf, a program that would have to be installed
    staticx.api.get_prog_interp = lambda _: loader  # the program names a placeholder
    staticx.api.get_shobj_deps = lambda path: libraries(path, loader, folders)
    with Bundle(program, loader, target) as bundle:
        bundle.generate(target)
    seal(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
