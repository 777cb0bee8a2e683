"""The build finds out when the snapshot is not sound: the pipeline of LINK=static on copies of the sources.

Each has one fault in it (see build/static/prove.py).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from elf import section_of, version
from pipeline import UNSOUND, Pipeline

pytestmark = [
    pytest.mark.static_only("its libpython is relocated at each start"),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="of this Python no snapshot is made"),
]


def test_what_is_sound_is_built_and_has_nothing_of_the_builder_in_it(pipeline: Pipeline) -> None:
    marks = {"HOME": "/home-of-the-builder", "MARKER": "environment-of-the-builder", "LC_ALL": "C", "TZ": "UTC-7"}
    result = pipeline.build(analyse=True, **marks)
    assert result.returncode == 0, result.stderr
    assert version(pipeline.target).startswith("run ")
    assert section_of(pipeline.target)[2] > 1 << 20
    for text in (*list(marks.values())[:2], "UTC-7", str(pipeline.folder), pipeline.folder.name):
        assert text.encode() not in pipeline.target.read_bytes(), text


TAKES_RIGHTS = {
    "by another user": ("setpriv", "--reuid=65534", "--clear-groups", "true"),
    "on a host of another name": ("unshare", "--uts", "true"),
    "in another time zone": ("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/etc"),
}


def skip_without_rights(condition: str) -> None:
    """Skip where this process may not do what makes the condition."""
    if TAKES_RIGHTS.get(condition) and subprocess.run(TAKES_RIGHTS[condition], check=False).returncode:
        pytest.skip(f"to build {condition} takes rights")


SEEN_AT_IMPORT = {
    "once more": "posix.getpid()",
    "in another folder": "posix.getcwd()",
    "with other descriptors": "posix.open('/', posix.O_RDONLY)",
    "by another user": "posix.getuid()",
    "on a host of another name": "posix.uname()[1]",
    "": "int(time.time())",
}


@pytest.mark.parametrize("condition", SEEN_AT_IMPORT)
def test_a_module_that_sees_the_builder_when_it_is_imported_fails_the_build(pipeline: Pipeline, condition: str) -> None:
    skip_without_rights(condition)
    pipeline.append(f"import posix\nimport time\nSEEN = {SEEN_AT_IMPORT[condition]}\n")
    said = pipeline.complaint(analyse=False)
    assert said.startswith(f"build: the snapshot is another when it is made {condition}")
    assert " at 0x" in said or said.endswith(": the mould ends with 3")


def test_a_time_zone_that_is_the_builders_fails_the_build(pipeline: Pipeline) -> None:
    skip_without_rights("in another time zone")
    pipeline.edit("build/static/main.c", '"TZ=:"', '"ZT=:"')
    assert pipeline.complaint(analyse=False).startswith(f"{UNSOUND} is another when it is made in another time zone")


SEEN_IN_THE_PROGRAM = """
def error():
    try:
        b'\\xff'.decode()
    except ValueError as error:
        return type(error).__name__
class Answers:
    def __format__(self, _):
        import docopt
        import re
        import time
        own = [hasattr(module, 'compile') for module in (re, docopt.re)]
        return f'{re.search("b+", "abbc")[0]} {error()} {time.tzname} {own}'
VERSION = Answers()
"""


@pytest.mark.parametrize("snapshot", ["1", "0"])
def test_the_standard_library_is_pythons_own_but_for_docopts_re(pipeline: Pipeline, snapshot: str) -> None:
    pipeline.append(SEEN_IN_THE_PROGRAM)
    result = pipeline.build(analyse=False, SNAPSHOT=snapshot)
    assert result.returncode == 0, result.stderr
    expected = f"bb UnicodeDecodeError {('UTC', 'UTC')} {[True, snapshot == '1']}"
    assert version(pipeline.target) == f"run {expected}\n"


ABSENT = """
import _socket, math
def error(function, *arguments):
    try:
        return str(function(*arguments))
    except Exception as error:
        return type(error).__name__
class Answers:
    def __format__(self, _):
        calls = (math.cos, 0.0), (math.sqrt, 4.0), (_socket.getaddrinfo, b'host', 80), (eval, '1'), (exec, 'pass')
        return ' '.join(error(*call) for call in calls)
VERSION = Answers()
"""


def test_what_is_absent_fails_with_an_exception(pipeline: Pipeline) -> None:
    with (pipeline.folder / "run" / "__init__.py").open("a") as file:
        file.write(ABSENT)
    result = pipeline.build(analyse=True)
    assert result.returncode == 0, result.stderr
    assert version(pipeline.target) == "run ValueError 2.0 gaierror RuntimeError RuntimeError\n"


def test_what_is_imported_anywhere_in_the_package_is_in_the_program(pipeline: Pipeline) -> None:
    lazy = "def lazy() -> None:\n    import {0}\n    def lazier() -> None:\n        from {1} import {2}\n"
    with (pipeline.folder / "run" / "services" / "words.py").open("a") as file:
        file.write(lazy.format("colorsys", "binascii", "hexlify"))
    result = pipeline.build(analyse=True)
    assert result.returncode == 0, result.stderr
    frozen, in_c = re.findall(r"frozen: (.*); in C: (.*)", result.stdout)[0]
    assert {"colorsys", "run.services.words", "run.services.file", "tomllib", "re", "encodings"} <= set(frozen.split())
    assert {"binascii", "_datetime", "_socket", "select"} <= set(in_c.split())
    assert not {"_ctypes", "email", "calendar", "_pickle", "zlib"} & {*frozen.split(), *in_c.split()}


def test_what_cannot_be_imported_fails_the_build(pipeline: Pipeline) -> None:
    with (pipeline.folder / "run" / "services" / "words.py").open("a") as file:
        file.write("def lazy() -> None:\n    import _ctypes\n")
    result = pipeline.build(analyse=True)
    assert result.returncode != 0
    assert "build: _ctypes cannot be imported: this Python has no built-in module _ctypes" in result.stderr


EXCLUDED = "EXCLUDE_FILE(*/start.o "
FORGOTTEN = {
    "an object of the program": ("*/kernel.o ", r"lacks \.data\S* of kernel\.o"),
    "an object of Python": ("*libpython*:floatobject.o ", r"lacks \.\S+ of libpython\S+\(floatobject\.o\)"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_an_object_that_the_linker_script_forgets_fails_the_build(pipeline: Pipeline, what: str) -> None:
    words, expected = FORGOTTEN[what]
    pipeline.edit("build/static/snapshot.ld", EXCLUDED, EXCLUDED + words, 2)
    assert re.match(
        f"build: the snapshot {expected}, which the linker has put into ", pipeline.complaint(analyse=False)
    )


@pytest.mark.parametrize(
    ("old", "new", "count", "expected"),
    [
        (" .PyRuntime", "", 1, "lacks _PyRuntime"),
        ("*libc.a:* ", "", 2, "has in it what is new in each process: "),
        ("snapshot_begin = .;", "snapshot_begin = .; *(.igot.plt)", 1, "has in it the IRELATIVE slot 0x"),
    ],
)
def test_a_wrong_linker_script_fails_the_build(
    pipeline: Pipeline, old: str, new: str, count: int, expected: str
) -> None:
    pipeline.edit("build/static/snapshot.ld", old, new, count)
    assert pipeline.complaint(analyse=False).startswith(f"build: the snapshot {expected}")


CHECK = "static void check(PyStatus status)\n"


def keep(pipeline: Pipeline, value: str) -> None:
    """Have the mould keep a value, as a pointer."""
    first = "    PyGC_Disable();"
    pipeline.edit("build/static/main.c", first, f"    seen = {value};\n{first}")
    pipeline.edit("build/static/main.c", CHECK, f"void *__real_malloc(size_t size);\nvoid *seen;\n\n{CHECK}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stdout", r"points to \.data, which is not in it: 0x\w+ at 0x\w+, in \S+ of main\.o"),
        ("__builtin_frame_address(0)", r"points to \[stack\]: 0x[7f]"),
        ("__real_malloc(8)", "is another when it is made once more: 1 words differ, .* main.o"),
        ("__real_malloc(1 << 20)", r"points to mapped memory at \w+-\w+: 0x[7f]"),
    ],
)
def test_a_variable_that_points_outside_fails_the_build(pipeline: Pipeline, value: str, expected: str) -> None:
    keep(pipeline, value)
    assert re.match(f"build: the snapshot {expected}", pipeline.complaint(analyse=False))


def test_a_number_that_is_an_address_in_one_process_only_is_no_pointer(pipeline: Pipeline) -> None:
    """It is where the stack is, if addresses are not randomized; on arm64 dictionaries hold such numbers."""
    if Path("/proc/sys/kernel/randomize_va_space").read_text() == "0\n":
        pytest.skip("addresses are not randomized in any process")
    last = {"x86_64": "0x7fffffffe000", "aarch64": "0xffffffffe000"}[os.uname().machine]
    keep(pipeline, f"(void *){last}")
    result = pipeline.build(analyse=False)
    assert result.returncode == 0, result.stderr


def test_a_program_that_the_snapshot_is_not_in_fails_the_build(pipeline: Pipeline) -> None:
    pipeline.tool("objcopy", 'cp "${@: -2:1}" "${@: -1}"')
    assert (
        pipeline.complaint(analyse=False)
        == "build: the snapshot is not in the program: objcopy has done something else"
    )


def test_where_addresses_act_on_what_is_kept_a_better_plan_is_made(pipeline: Pipeline) -> None:
    pipeline.append("KEPT = [kept for i in range(40) if id(kept := bytes(100 + i)) >> 4 & 1]\n")
    result = pipeline.build(analyse=False)
    assert result.returncode == 0, result.stderr
    assert version(pipeline.target).startswith("run ")


USES_NEW_NAMES = """
    names = [f"name{i}" for i in range(3000)]
    for name in names[::10]:
        getattr(live, name, None)
    live(Services, LIVES)
"""


def test_the_plan_is_the_same_wherever_the_kernel_puts_new_memory(pipeline: Pipeline) -> None:
    """CPython's cache of attributes forgets some for others, by the addresses of names. That is touched again, then."""
    lives = "    live(Services, LIVES)\n"
    pipeline.edit("run/services/warmup.py", lives, lives + USES_NEW_NAMES.removeprefix("\n"))
    result = pipeline.build(analyse=True)
    assert result.returncode == 0, result.stderr
    work, plans = pipeline.folder / "work", set()
    for _ in range(8):
        words = [str(work / "mould"), "plan", str(work / "generated" / "modules"), str(work / "again")]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        plans.add((work / "again").read_bytes())
    assert len(plans) == 1


def test_a_kernel_that_does_not_tell_what_is_written_is_said(pipeline: Pipeline) -> None:
    pipeline.edit("build/static/pages.c", "EXCLUSIVE = 56", "EXCLUSIVE = 60")  # a bit that is never set
    result = pipeline.build(analyse=False)
    told = "build: this kernel does not tell which pages are written: processes will write to more\n"
    assert (result.returncode, result.stderr) == (0, told * 2)
    assert version(pipeline.target).startswith("run ")


NO_SNAPSHOT = "build: no snapshot, so that a start takes three times as long: "


@pytest.mark.parametrize(
    ("python_version", "linker", "variables", "said"),
    [
        ("", "bfd", {"SNAPSHOT": "0"}, []),
        ("3.14", "bfd", {}, [f"{NO_SNAPSHOT}it is known to work with Python 3.11 to 3.13 only"]),
        ("", "gold", {}, [f"{NO_SNAPSHOT}it takes the linker GNU ld"]),
    ],
)
def test_without_a_snapshot_it_is_built_the_old_way_and_says_so(
    pipeline: Pipeline, python_version: str, linker: str, variables: dict[str, str], said: list[str]
) -> None:
    if not shutil.which(f"ld.{linker}"):
        pytest.skip(f"there is no linker {linker}")
    pipeline.tool("gcc", f'exec {shutil.which("gcc")} -fuse-ld={linker} "$@"')
    result = pipeline.build(analyse=False, python_version=python_version, **variables)
    lines = [line for line in result.stderr.splitlines() if line.startswith("build: ")]  # other linkers warn
    assert (result.returncode, lines) == (0, said), result.stderr
    assert section_of(pipeline.target) == (0, 0, 0)
    assert version(pipeline.target).startswith("run ")


def test_where_pages_are_larger_it_is_built_without_a_snapshot(pipeline: Pipeline) -> None:
    """As on some arm64 machines."""
    pipeline.tool("getconf", "echo 16384")
    result = pipeline.build(analyse=False)
    lines = [line for line in result.stderr.splitlines() if line.startswith("build: ")]
    assert (result.returncode, lines) == (0, [f"{NO_SNAPSHOT}it is made where the kernel has pages of 4096 bytes only"])
    assert version(pipeline.target).startswith("run ")
