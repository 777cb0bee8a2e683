"""The launcher of LINK=staticx on archives that are cut off, damaged or hostile: a clear line and 125, never a crash.

It is compiled with the address and undefined behaviour sanitizers here, and its bundle is a tiny one: a dynamic loader
that exits with 42, and a program that needs nothing but that. A hostile archive has the right checksum.
"""

import array
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from harness import DEADLINE
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SECTION = "staticx_archive"
CAPACITY = 1024 * 1024
"""Bytes for the archive in the bundles here: each is put into the same file."""

MASK = (1 << 64) - 1
BLOCK = 512

RAN = 42
SANITIZER_CODE = 99
SANITIZERS = {"ASAN_OPTIONS": f"exitcode={SANITIZER_CODE}", "UBSAN_OPTIONS": f"exitcode={SANITIZER_CODE}"}
REFUSAL = re.compile(rb"run: \[error\] cannot start: [ -~]+\n")
DAMAGED = b"its archive is damaged: "

EXIT = """
void _start(void)
{
    register long number __asm__("%s") = %d, code __asm__("%s") = 42;
    __asm__ volatile("%s" : : "r"(number), "r"(code));
    __builtin_unreachable();
}
"""
SYSTEM_CALLS = {"x86_64": ("rax", 231, "rdi", "syscall"), "aarch64": ("x8", 94, "x0", "svc #0")}

fuzz = settings(max_examples=60, database=None)


def checksum(archive: bytes) -> int:
    """What bundle.py writes beside an archive, written down once more."""
    lanes = [len(archive), 0, 0, 0]
    for index, word in enumerate(array.array("Q", archive[: len(archive) // 8 * 8])):
        lane = lanes[index % 4] ^ word
        lanes[index % 4] = ((lane << 29 | lane >> 35) & MASK) * 0x9E3779B97F4A7C15 & MASK
    return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3]


def seal(archive: bytes, expected: int | None = None) -> bytes:
    """What bundle.py adds to an archive: its size, and its checksum unless another one is given."""
    return struct.pack("=QQ", len(archive), checksum(archive) if expected is None else expected)


def gcc(source: str, target: Path, *flags: str) -> Path:
    """Compile a C program."""
    subprocess.run(["gcc", "-x", "c", "-O1", "-o", str(target), *flags, "-"], input=source.encode(), check=True)
    return target


class Fuzzer:
    """A sanitized launcher, and a sound archive to begin with."""

    def __init__(self, folder: Path) -> None:
        """Compile all; folder is for that, and for the bundles."""
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        code = EXIT % SYSTEM_CALLS[os.uname().machine]
        self.loader = gcc(code, folder / "loader", "-nostdlib", "-static-pie", "-fPIE").read_bytes()
        paths = [
            "/placeholder-of-the-dynamic-loader".ljust(1200, "/"),
            "/placeholder-of-the-libraries".ljust(1200, "/"),
        ]
        linked = [f"-Wl,--dynamic-linker={paths[0]}", f"-Wl,-rpath,{paths[1]}"]
        self.program = gcc(code, folder / "program", "-nostdlib", "-pie", "-fPIE", *linked).read_bytes()
        self.archive = self.make_archive(self.program)
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as tar:
            self.headers = [member.offset for member in tar]
        self._linked = self.link(self.archive.ljust(CAPACITY, b"\0")).read_bytes()
        self.start = self._linked.index(self.archive)
        self._seal = self._linked.index(seal(self.archive.ljust(CAPACITY, b"\0")))

    def link(self, archive: bytes) -> Path:
        """The sanitized launcher with an archive, linked as build.sh does."""
        (self.folder / "archive").write_bytes(archive)
        (self.folder / "seal").write_bytes(seal(archive))
        sections = "".join(
            f'.section {section}, "a"\n.balign 64\n.incbin "{self.folder / name}"\n'
            for section, name in ((SECTION, "archive"), ("run_seal", "seal"))
        )
        (self.folder / "sections.s").write_text(sections + '.section .note.GNU-stack, ""\n')
        sources = [ROOT / "build/staticx/launcher.c", ROOT / "run/_start.c", self.folder / "sections.s"]
        flags = ["-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined"]
        flags += ["-fno-sanitize-recover=all", f"-I{ROOT / 'run'}", f"-Wl,--section-start={SECTION}=0x10000000"]
        target = self.folder / "linked"
        subprocess.run(["gcc", *flags, "-o", target, *sources], check=True)
        return target

    def make_archive(self, program: bytes) -> bytes:
        """An archive as staticx writes it."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, data in (("program", program), ("loader.so.2", self.loader)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            for name, target in ((".staticx.prog", "program"), (".staticx.interp", "ld.so"), ("ld.so", "loader.so.2")):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, target
                tar.addfile(member)
        return content.getvalue()

    def bundle(self, archive: bytes, expected: int | None = None) -> Path:
        """A bundle with this archive, and with its checksum unless another one is given."""
        content = bytearray(self._linked)
        content[self.start : self.start + CAPACITY] = archive.ljust(CAPACITY, b"\0")
        content[self._seal : self._seal + 16] = seal(archive, expected)
        target = self.folder / "bundle"
        target.write_bytes(content)
        target.chmod(0o755)
        return target

    def run(self, bundle: Path, *words: str) -> tuple[int, bytes]:
        """Exit code and stderr; fails where a sanitizer has found something."""
        environment = {**SANITIZERS, "TMPDIR": str(self.temporary), "PATH": os.environ["PATH"]}
        done = subprocess.run([bundle, *words], env=environment, capture_output=True, timeout=DEADLINE, check=False)
        text = done.stderr.decode(errors="replace")
        assert done.returncode != SANITIZER_CODE, text
        assert "Sanitizer" not in text and "runtime error" not in text, text
        for left in self.temporary.iterdir():
            assert done.returncode != 125, f"left behind: {left}"
            shutil.rmtree(left)
        return done.returncode, done.stderr

    def assert_refused(self, bundle: Path) -> None:
        """It says in one line what is wrong, and exits with 125."""
        code, err = self.run(bundle)
        assert code == 125
        assert REFUSAL.fullmatch(err) and DAMAGED in err, err

    def assert_sane(self, bundle: Path) -> None:
        """It is refused, or becomes whatever the archive has as its program: that may be anything, and crash."""
        code, err = self.run(bundle)
        assert code < 0 or code == RAN or (code == 125 and REFUSAL.fullmatch(err)), (code, err)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    """A sanitized launcher."""
    if sys.byteorder != "little" or os.uname().machine not in SYSTEM_CALLS:
        pytest.skip("no tiny program for this machine")
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


def test_a_sound_archive_runs(fuzzer: Fuzzer) -> None:
    assert fuzzer.run(fuzzer.bundle(fuzzer.archive)) == (RAN, b"")


def test_without_an_archive(fuzzer: Fuzzer) -> None:
    fuzzer.assert_refused(fuzzer.bundle(b""))


@fuzz
@given(st.data())
def test_any_bit_that_is_flipped(fuzzer: Fuzzer, data: st.DataObject) -> None:
    damaged = bytearray(fuzzer.archive)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    fuzzer.assert_refused(fuzzer.bundle(bytes(damaged), checksum(fuzzer.archive)))


@fuzz
@given(st.data())
def test_any_bytes_that_are_changed(fuzzer: Fuzzer, data: st.DataObject) -> None:
    damaged = bytearray(fuzzer.archive)
    start = data.draw(st.integers(0, len(damaged) - 1))
    new = data.draw(st.binary(min_size=1, max_size=600))
    damaged[start : start + len(new)] = new
    if damaged != fuzzer.archive:
        fuzzer.assert_refused(fuzzer.bundle(bytes(damaged), checksum(fuzzer.archive)))


@fuzz
@given(st.data())
def test_a_file_that_is_cut_off_anywhere_after_the_launcher(fuzzer: Fuzzer, data: st.DataObject) -> None:
    """Or anywhere in its archive, but for zeros at the end, which are what the kernel fills up a page with."""
    whole = fuzzer.bundle(fuzzer.archive)
    end = len(fuzzer.archive.rstrip(b"\0"))
    os.truncate(whole, fuzzer.start + data.draw(st.integers(0, end - 1)))
    fuzzer.assert_refused(whole)


@fuzz
@given(st.data())
def test_an_archive_that_is_cut_off_anywhere(fuzzer: Fuzzer, data: st.DataObject) -> None:
    """Behind the last file are empty blocks only, which may well be missing."""
    end = len(fuzzer.archive.rstrip(b"\0")) // BLOCK * BLOCK
    fuzzer.assert_refused(fuzzer.bundle(fuzzer.archive[: data.draw(st.integers(0, end - 1))]))


@fuzz
@given(size=st.integers(0, MASK), expected=st.integers(0, MASK))
def test_any_size_and_checksum(fuzzer: Fuzzer, size: int, expected: int) -> None:
    bundle = fuzzer.bundle(fuzzer.archive)
    content = bundle.read_bytes().replace(seal(fuzzer.archive), struct.pack("=QQ", size, expected))
    bundle.write_bytes(content)
    fuzzer.assert_refused(bundle)


field = st.sampled_from([(0, 100), (100, 8), (124, 12), (156, 1), (157, 100), (257, 8)])
"""In the header of a tar archive: where the name, mode, size, type, target and magic number are, and how long."""

hostile_text = st.one_of(
    st.binary(max_size=100),
    st.sampled_from(
        [b"", b".", b"..", b"../x", b"/etc/x", b"x" * 100, b"program", b"ld.so", b".staticx.prog", b"%s%n"]
    ),
    st.sampled_from(
        [b"77777777777\0", b"777777777777", b"-1", b" 1", b"0x10", b"\x80" + b"\xff" * 11, b"9", b"00000000000 "]
    ),
)


@fuzz
@given(st.data())
def test_hostile_headers_with_the_right_checksum(fuzzer: Fuzzer, data: st.DataObject) -> None:
    archive = bytearray(fuzzer.archive)
    headers = fuzzer.headers
    for _ in range(data.draw(st.integers(1, 3))):
        start, size = data.draw(field)
        text = data.draw(hostile_text)[:size]
        at = data.draw(st.sampled_from(headers)) + start
        archive[at : at + size] = text.ljust(size, b"\0")
    fuzzer.assert_sane(fuzzer.bundle(bytes(archive)))


@pytest.mark.parametrize("name", [b".", b"..", b"a/b", b"/etc/passwd", b"../../x", b"n" * 100])
@pytest.mark.parametrize("start", [0, 157], ids=["name", "target"])
def test_a_name_that_leads_out_of_the_directory_is_refused(fuzzer: Fuzzer, name: bytes, start: int) -> None:
    archive = bytearray(fuzzer.archive)
    at = fuzzer.headers[-1] + start
    archive[at : at + 100] = name.ljust(100, b"\0")
    fuzzer.assert_refused(fuzzer.bundle(bytes(archive)))


def test_too_many_files_are_refused(fuzzer: Fuzzer) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for n in range(1000):
            member = tarfile.TarInfo(f"x{n}")
            member.type, member.linkname = tarfile.SYMTYPE, "program"
            tar.addfile(member)
    fuzzer.assert_refused(fuzzer.bundle(content.getvalue()))


@fuzz
@given(st.data())
def test_a_hostile_program_with_the_right_checksum(fuzzer: Fuzzer, data: st.DataObject) -> None:
    program = bytearray(fuzzer.program)
    (table,) = struct.unpack_from("=Q", program, 32)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.one_of(st.integers(4, 63), st.integers(table, table + 4 * 56)))
        program[start] = data.draw(st.integers(0, 255))
    fuzzer.assert_sane(fuzzer.bundle(fuzzer.make_archive(bytes(program))))


@fuzz
@given(st.binary(max_size=3000))
def test_any_bytes_at_all_as_archive(fuzzer: Fuzzer, content: bytes) -> None:
    fuzzer.assert_refused(fuzzer.bundle(content))


def test_the_sanitized_launcher_starts_the_real_program(fuzzer: Fuzzer, bundle: Path) -> None:
    archive = fuzzer.folder / "real"
    subprocess.run(["objcopy", "-Obinary", f"--only-section={SECTION}", bundle, archive], check=True)
    assert fuzzer.run(fuzzer.link(archive.read_bytes()), "-qq", "sh", "-c", "exit 7") == (7, b"")
