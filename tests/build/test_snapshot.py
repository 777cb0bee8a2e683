"""The snapshot of the interpreter: the program begins with it, whatever the machine and the tools are."""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elf import section_of, tool, version
from engine import unavailable
from harness import AS_PID_1, Starter

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.static_only("its libpython is relocated at each start")


@pytest.fixture(scope="module")
def program(binary: str, is_bundle: bool) -> Path:
    """The binary under test, which has a snapshot."""
    if is_bundle:
        pytest.skip("LINK=staticx has none")
    if os.environ.get("SNAPSHOT") == "0":
        pytest.skip("built with SNAPSHOT=0")
    if not any(section_of(binary)):
        unavailable("this build has no snapshot")
    return Path(binary)


@pytest.fixture
def altered(program: Path, tmp_path: Path) -> Callable[[Callable[[bytes], bytes]], Path]:
    """Make a copy of the program in which the snapshot is what a function makes of it."""

    def alter(change: Callable[[bytes], bytes]) -> Path:
        _, offset, size = section_of(program)
        data = bytearray(program.read_bytes())
        data[offset : offset + size] = change(bytes(data[offset : offset + size]))
        copy = tmp_path / "altered"
        copy.write_bytes(data)
        copy.chmod(0o755)
        return copy

    return alter


Alter = Callable[[Callable[[bytes], bytes]], Path]


def test_a_start_finds_its_objects_in_the_snapshot(program: Path, altered: Alter) -> None:
    shown = version(program).split()[1].encode()
    other = b"9" * len(shown)
    assert other != shown
    assert version(altered(lambda image: image.replace(shown, other))) == f"run {other.decode()}\n"


def test_without_its_snapshot_it_starts_nothing(altered: Alter) -> None:
    said = version(altered(lambda image: bytes(len(image))), code=125)
    assert said == "run: [error] cannot start the interpreter: this program makes a snapshot: see mould.c\n"


def test_a_process_changes_its_own_copy_only(program: Path, start: Starter) -> None:
    before = program.read_bytes()
    started = [start("-q", "sh", "-c", "echo up; read -r line", stdin=subprocess.PIPE) for _ in range(2)]
    address, _, size = section_of(program)
    memory = []
    for one in started:
        one.wait_out("up")
        with open(f"/proc/{one.pid}/mem", "rb") as file:
            file.seek(address)
            memory.append(file.read(size))
    assert memory[0] != memory[1], "each has written its own number of the thread, for one"
    image = before[section_of(program)[1] :][:size]
    pages = [any(data[at : at + 4096] != image[at : at + 4096] for data in memory) for at in range(0, size, 4096)]
    assert 0 < sum(pages) < len(pages) / 8, "nearly all of it is as it is in the file"
    for one in started:
        one.close_stdin()
        one.wait()
    assert program.read_bytes() == before


@pytest.mark.parametrize("words", [("-q", "true"), ("-v",), ("-h",), ("-x",), ("-q", "-s", "TERM", "nothing-there")])
def test_no_file_is_opened_but_stderr_for_the_log(program: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    trace = tmp_path / "trace"
    tool("strace", "-e", "trace=execve,?open,openat,?openat2", "-o", trace, program, *words, code=None)
    lines = trace.read_text().splitlines()
    assert lines[0].startswith("execve(")
    known = "+++ exited with ", "--- SIGCHLD ", 'openat(AT_FDCWD, "/proc/self/fd/2", '
    assert [line for line in lines[1:] if not line.startswith(known)] == []


def test_readelf_and_file_understand_it(program: Path) -> None:
    said = tool("readelf", "-W", "-a", program)
    assert "Warning" not in said
    assert "Error" not in said
    said = tool("file", program)
    assert re.search(r"ELF 64-bit .*statically linked", said), said


OF_ANY_STATIC_PROGRAM = (
    r"section \[ *\d+\] '\.(rela\.plt': relocation \d+: invalid (symbol index|type)|note\.stapsdt': unknown .*)"
)
"""What eu-elflint does not know: relocations that the program itself does at its start, and notes for SystemTap."""


def test_elflint_has_nothing_against_it(program: Path) -> None:
    said = tool("eu-elflint", "--gnu-ld", program, code=None)
    assert [line for line in said.splitlines() if not re.fullmatch(OF_ANY_STATIC_PROGRAM, line)] == []


def test_patchelf_sees_that_it_needs_no_loader(program: Path) -> None:
    said = tool("patchelf", "--print-interpreter", program, code=None)
    assert said == "patchelf: cannot find section '.interp'. The input file is most likely statically linked\n"


@pytest.mark.parametrize(
    "words",
    [
        *(("strip", "{program}", "-o", "{copy}"), ("strip", "--strip-all", "{program}", "-o", "{copy}")),
        *(("objcopy", "{program}", "{copy}"), ("objcopy", "--strip-debug", "{program}", "{copy}")),
        ("eu-strip", "{program}", "-o", "{copy}"),
    ],
    ids=" ".join,
)
def test_what_strip_and_objcopy_make_of_it_runs(program: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    copy = tmp_path / "copy"
    assert tool(*(word.format(program=program, copy=copy) for word in words)) == ""
    assert section_of(copy)[2] == section_of(program)[2]
    assert version(copy) == version(program)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the processors are of this kind")
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell", "max"])
def test_it_runs_on_other_processors(program: Path, processor: str) -> None:
    """The snapshot was made on the one that is here, and the C library chooses functions by what it finds."""
    emulated = shutil.which("qemu-x86_64-static") or "qemu-x86_64", "-cpu", processor, program
    assert tool(*emulated, "-v").splitlines()[-1] == tool(program, "-v").strip()
    if os.geteuid() == 0:  # as PID 1, since this emulator knows no subreapers
        tool(*AS_PID_1, *emulated, "-q", "sh", "-c", "(sleep 0.1; exit 2) & exit 3", code=3)


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(params=["always", "never"])
def huge_pages(request: pytest.FixtureRequest) -> Iterator[str]:
    """The setting of the machine, for a moment."""
    if not os.access(HUGE_PAGES, os.W_OK):
        unavailable(f"{HUGE_PAGES} cannot be written")
    before = re.findall(r"\[(\w+)\]", HUGE_PAGES.read_text())[0]
    HUGE_PAGES.write_text(request.param)
    yield request.param
    HUGE_PAGES.write_text(before)


def test_it_runs_with_huge_pages_and_without(program: Path, huge_pages: str) -> None:
    assert f"[{huge_pages}]" in HUGE_PAGES.read_text()
    assert version(program) == tool(program, "-v")


@pytest.mark.parametrize(
    "words",
    [
        ("setarch", os.uname().machine, "-R"),
        ("strace", "-f", "-o", os.devnull),
        ("valgrind", "-q", "--error-exitcode=9", "--undef-value-errors=no"),
        ("nice", "-n", "5"),
    ],
)
def test_it_starts_under_tools_that_lay_memory_out_otherwise(program: Path, words: tuple[str, ...]) -> None:
    assert version(*words, program).splitlines()[-1] == version(program).strip()


def limited(program: Path, kind: int, limit: int) -> tuple[int, str, str]:
    """Start it under a limit in bytes: exit code (-n when signal n has killed it), stdout, log."""

    def set_limit() -> None:
        resource.setrlimit(kind, (limit, limit))

    result = subprocess.run(
        [program, "-q", program, "-v"], preexec_fn=set_limit, capture_output=True, text=True, check=False
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_with_any_limit_on_its_memory_it_runs_or_says_why_not(program: Path, kind: str) -> None:
    segments = re.findall(r"LOAD +\w+ +0x(\w+) \w+ \w+ 0x(\w+) (RW|R)", tool("readelf", "-W", "-l", program))
    size = sum(int(length, 16) for _, length, flags in segments if kind == "RLIMIT_AS" or flags == "RW")
    outcomes = []
    for limit in range(size - (256 << 10), size + (4 << 20), 128 << 10):
        code, out, log = limited(program, getattr(resource, kind), limit)
        outcomes.append(code)
        if code in (-11, 127):  # by the kernel, which cannot map all, execve(2), or the C library
            assert limit < size + (512 << 10)
            assert code == -11 or log.endswith((": Cannot allocate memory\n", ": Cannot allocate TLS block\n"))
        elif code == 125:
            assert (out, log) == ("", "run: [error] cannot start the interpreter: not enough memory\n")
        else:
            assert (code, out.split()[0], log) == (0, "run", "")
    assert outcomes == sorted(outcomes, key=[-11, 127, 125, 0].index), "a higher limit is enough, too"
    assert outcomes[-1] == 0


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK"])
def test_it_runs_without_a_limit_on_its_memory(program: Path, kind: str) -> None:
    hard = resource.getrlimit(getattr(resource, kind))[1]
    assert limited(program, getattr(resource, kind), hard)[:2] == (0, version(program))


def test_it_runs_on_a_small_stack(program: Path) -> None:
    assert limited(program, resource.RLIMIT_STACK, 64 << 10)[:2] == (0, version(program))


def test_nothing_of_who_built_it_is_in_it(program: Path) -> None:
    data = program.read_bytes()
    for text in f"{ROOT}/", os.environ.get("HOME", "/nowhere") + "/", ".work/", "python3-venv", "/venv/":
        assert text.encode() not in data, text
