"""Prove that the snapshot is sound, or say in one line why it is not. Used by build.sh; see snapshot.c for what it is.

    prove.py MOULD MODULES PLAN IMAGE PROGRAM

MOULD is the program that makes the snapshot of MODULES after PLAN (see mould.c), with its link map beside it
(MOULD.map); IMAGE is what it has made, and PROGRAM the mould with the image in it. Nothing in the image may be of one
process only: it is made again where all is different that a process can see, and has to be the same to the byte; and it
may not point to what is outside.
"""

import os
import re
import struct
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from conditions import CONDITIONS, NOBODY, TAKES_RIGHTS
from layout import Layout, Piece, layout_of, read_map

WORD = 8  # bytes
C_LIBRARY = re.compile(r"(^|/)(libc|libm|libm-[\d.]+|libmvec|libgcc|libgcc_eh|libdl|libpthread|librt|libutil)\.a\(")
OWN_START = re.compile(r"(^|/)(crt\w*|start)\.o$")
"""What is new in each process: the C library's variables, and _start.c's, which are set before main."""

OF_THREADS = re.compile(r"libpython[\d.]+\.a\((pystate|obmalloc|import)\.o\)$")
"""Python 3.12 keeps the current thread's state in thread-local storage, and PyEval_RestoreThread() sets it. Python 3.13
has mimalloc's there, too, which is not used, and the name of a package while it is imported."""

ZEROS = ".snapshot_zeros"
"""What belongs to the snapshot, but is not in the file: the mould has checked that all of it is zeros."""


class UnsoundError(Exception):
    """Why the snapshot cannot be used, as what follows "the snapshot"."""


def check_objects(pieces: Iterable[Piece], variable: Iterable[str], section: str) -> None:
    """All variables of Python and of the program are in the section, none of the C library's is."""
    for piece in pieces:
        is_new = bool(C_LIBRARY.search(piece.object) or OWN_START.search(piece.object))
        what = f"{piece.input} of {Path(piece.object).name}"
        if piece.output == section and is_new:
            raise UnsoundError(f"has in it what is new in each process: {what}")
        of_thread = piece.output in (".tdata", ".tbss") and OF_THREADS.search(piece.object)
        if piece.output in variable and not is_new and not of_thread:
            raise UnsoundError(f"lacks {what}, which the linker has put into {piece.output}: see snapshot.ld")


def check_inside(section: range, layout: Layout, symbols: dict[str, int]) -> None:
    """The interpreter's state and the heap are in the section, and nothing that start code writes to."""
    for name in "_PyRuntime", "snapshot_heap":
        if symbols.get(name) not in section:
            raise UnsoundError(f"lacks {name}")
    if not symbols["snapshot_heap"] < symbols["snapshot_heap_end"] <= section.stop:
        raise UnsoundError("lacks the heap")
    if not layout.slots:
        raise UnsoundError(
            "cannot be proved sound: readelf shows no IRELATIVE relocation, which any static program has"
        )
    for slot in layout.slots:
        if slot in section:
            raise UnsoundError(f"has in it the IRELATIVE slot {slot:#x}, which is set anew in each process")


def check_pointers(image: bytes, start: int, forbidden: dict[str, range], where: Callable[[int], str]) -> None:
    """No word of the image is an address in a forbidden range, each given by what is there."""
    for index, word in enumerate(struct.unpack(f"<{len(image) // WORD}Q", image)):
        for what, addresses in forbidden.items():
            if word in addresses:
                raise UnsoundError(f"points to {what}: {word:#x} {where(start + index * WORD)}")


def describe(address: int, pieces: list[Piece], image: bytes, start: int) -> str:
    """Where in the section an address is: of which object, and the text that is near."""
    after = bisect_right([piece.addresses.start for piece in pieces], address)
    piece = pieces[after - 1] if after else None
    at = address - start
    text = b" ".join(re.findall(rb"[ -~]{4,}", image[max(at - 128, 0) : at + 128])).decode()
    place = f"{piece.input} of {Path(piece.object).name}" if piece and address in piece.addresses else "the heap"
    return f"at {address:#x}, in {place}, near {text!r}"


NOT_PERMITTED = 77  # the exit code of a process that could not change what it was to change


def dump(mould: Path, inputs: Sequence[Path], condition: str) -> tuple[bytes, str]:
    """What the mould makes of these, and its /proc/PID/maps meanwhile; nothing where the condition is not permitted."""
    program = os.open(mould, os.O_RDONLY | os.O_CLOEXEC)
    files = [os.open(path, os.O_RDONLY) for path in inputs]  # another user may not find their paths
    read, write = os.pipe()
    if condition == "by another user" and os.geteuid() == 0:
        os.fchown(write, NOBODY, -1)
    pid = os.fork()
    if pid == 0:
        try:
            for file in [*files, write]:
                os.set_inheritable(file, True)
            words = [condition, "image", *(f"/proc/self/fd/{file}" for file in [*files, write])]
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            CONDITIONS[condition]()
            try:
                os.execve(mould, words, os.environ)
            except PermissionError:  # another user may not find its path; an emulator may know no other way
                os.execve(program, words, os.environ)
        except OSError:
            os._exit(NOT_PERMITTED)
        finally:
            os._exit(1)
    for file in [*files, write, program]:
        os.close(file)
    with open(read, "rb") as pipe:
        image = pipe.read(1)  # more than the pipe holds is to follow, so the mould waits
        try:
            maps = Path(f"/proc/{pid}/maps").read_text() if image else ""
        except PermissionError:
            maps = ""  # another user's
        image += pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == NOT_PERMITTED and condition in TAKES_RIGHTS:
        return b"", ""
    if status:
        raise UnsoundError(f"is another when it is made {condition}: the mould ends with {status}")
    return image, maps


def changed(image: bytes, other: bytes) -> bytes:
    """The other snapshot, with zeros in the place of each word that is the same."""
    pairs = zip(*(struct.iter_unpack("<Q", data) for data in (image, other)), strict=False)
    return b"" if image == other else b"".join(struct.pack("<Q", b if a != b else 0) for (a,), (b,) in pairs)


def check_same(image: bytes, other: bytes, condition: str, start: int, where: Callable[[int, bytes], str]) -> None:
    """Two snapshots are the same to the byte."""
    if image == other:
        return
    if len(image) != len(other):
        raise UnsoundError(f"is another when it is made {condition}: {len(image)} bytes, {len(other)} bytes")
    words = [struct.unpack(f"<{len(data) // WORD}Q", data) for data in (image, other)]
    differ = [index for index, (one, two) in enumerate(zip(*words, strict=True)) if one != two]
    at = differ[0] * WORD
    raise UnsoundError(
        f"is another when it is made {condition}: {len(differ)} words differ, the first {where(start + at, image)}, "
        f"{image[at : at + WORD].hex()}, then {other[at : at + WORD].hex()}"
    )


def check_mapped(image: bytes, start: int, processes: Sequence[dict[str, range]], where: Callable[[int], str]) -> None:
    """No word is an address that is mapped in each of these processes, all of which had this same image.

    In one of them it may be by chance: on arm64 the stack may lie where addresses look like four small numbers, as the
    table of a dictionary has them: -1, -1, -1, 0.
    """
    words = struct.unpack(f"<{len(image) // WORD}Q", image)
    in_all = {word for word in set(words) if all(mapped_at(word, mapped) for mapped in processes)}
    for index, word in enumerate(words):
        if word in in_all:
            what = mapped_at(word, processes[0])
            raise UnsoundError(f"points to {what}: {word:#x} {where(start + index * WORD)}")


def mapped_at(address: int, mapped: dict[str, range]) -> str:
    """What is mapped at an address; empty if nothing is."""
    return next((what for what, addresses in mapped.items() if address in addresses), "")


def mappings(maps: str, own: Layout) -> dict[str, range]:
    """What /proc/PID/maps shows outside of the program: the heap, the stack, the vdso and what is mapped by mmap(2)."""
    last = max(s.addresses.stop for s in own.sections)
    found = {}
    for line in maps.splitlines():
        addresses, *fields = line.split()
        start, stop = (int(word, 16) for word in addresses.split("-"))
        if start >= last:
            found[fields[4] if len(fields) > 4 else f"mapped memory at {addresses}"] = range(start, stop)
    return found


def prove(mould: Path, inputs: Sequence[Path], image: bytes) -> None:
    """Raise UnsoundError unless an image that this mould has made holds in any process."""
    layout = layout_of(mould)
    try:
        section = layout.section(".snapshot")
    except KeyError as error:
        raise UnsoundError(f"is not in the program: it has no section {error}") from None
    start = section.addresses.start
    pieces, symbols = read_map(mould.with_name(mould.name + ".map").read_text())
    outside = [other for other in layout.variable() if other.name not in (section.name, ZEROS)]
    check_inside(section.addresses, layout, symbols)
    check_objects(pieces, {other.name for other in outside}, section.name)
    inside = sorted((p for p in pieces if p.output == section.name), key=lambda piece: piece.addresses.start)

    def where(address: int, data: bytes = image) -> str:
        return describe(address, inside, data, start)

    if len(image) != len(section.addresses):
        raise UnsoundError(f"has {len(image)} bytes, its section {len(section.addresses)}")
    forbidden = {f"{other.name}, which is not in it": other.addresses for other in outside}
    check_pointers(image, start, forbidden, where)
    heaps, processes = set(), list[dict[str, range]]()
    began = int(time.time())
    for condition in CONDITIONS:
        if condition == list(CONDITIONS)[-1] and int(time.time()) == began:
            time.sleep(began + 1 - time.time())  # so that a clock of whole seconds has gone on
        other, maps = dump(mould, inputs, condition)
        if other:
            mapped = mappings(maps, layout)
            heaps.add(mapped.pop("[heap]", range(0)))
            check_pointers(changed(image, other), start, mapped, where)
            check_same(image, other, condition, start, where)
            processes += [mapped] if maps else []
    # A pointer to what is mapped would differ each time, but where addresses do not move.
    check_mapped(image, start, processes, where)
    if len(heaps - {range(0)}) == 1:  # otherwise a pointer into it would have been another each time
        check_pointers(image, start, {"the C library's heap": max(heaps, key=len)}, where)


def check_program(mould: Path, image: bytes, program: Path) -> None:
    """The program is the mould with the image, and begins with that; the mould does not."""
    layout = layout_of(program)
    section = layout.section(".snapshot")
    expected = bytearray(mould.read_bytes())
    expected[section.offset : section.offset + len(image)] = image
    if layout != layout_of(mould) or program.read_bytes() != expected:
        raise UnsoundError("is not in the program: objcopy has done something else")
    for path, expected_code in (mould, 125), (program, 0):
        words = [str(path), "-q", str(program), "-v"]
        result = subprocess.run(words, capture_output=True, env={}, check=False)
        if result.returncode != expected_code:
            raise UnsoundError(
                f"is not what a start begins with: {path.name} ends with {result.returncode}: {result.stderr!r}"
            )


def main() -> NoReturn:
    """Exit with 0, or with 1 and one line that says why the build cannot go on."""
    mould, *inputs, image, program = (Path(word).absolute() for word in sys.argv[1:])
    try:
        prove(mould, inputs, image.read_bytes())
        check_program(mould, image.read_bytes(), program)
    except UnsoundError as error:
        sys.exit(f"build: the snapshot {error}")
    sys.exit()


if __name__ == "__main__":
    main()
