"""The whole program under the address and undefined behaviour sanitizers, main.c included.

The extension alone is tested so in test_kernel.py and test_kernel_spawn.py, with the fixture `extension`. Here it is
linked as the static build does, but against the shared C library, since the sanitizers need that one; and without
RUN_ENTRY, since the sanitizers' own start-up has to come first.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from extension import ROOT, SANITIZER_OPTIONS, SANITIZERS, SOURCES, compile_files
from harness import DEADLINE, Starter

WORK = ROOT / ".work" / "static"
ASK = """
import json, sysconfig
names = sysconfig.get_config_vars()
library = f"{names['LIBPL']}/{names['LIBRARY']}"
print(json.dumps([sysconfig.get_path("include"), library, *(names["LIBS"] or "").split()]))
"""
ENVIRONMENT = {**os.environ, **SANITIZER_OPTIONS}

NO_MODULES = "#include <Python.h>\nconst struct _frozen run_frozen_modules[] = {{0}};\n"


def link_with_python(target: Path, *sources: Path) -> Path:
    """A program of these sources and the static library of Python, with sanitizers."""
    ask = [str(WORK / "venv" / "bin" / "python"), "-I", "-c", ASK]
    include, library, *more = json.loads(subprocess.run(ask, capture_output=True, check=True).stdout)
    flags = ["-fno-pie", "-no-pie", *SANITIZERS, f"-I{include}", f"-I{ROOT / 'build' / 'static'}"]
    return compile_files(target, *flags, *sources, WORK / "generated" / "inittab.c", library, *more, "-lm")


def link(target: Path, frozen: Path) -> Path:
    """The program with these frozen modules, from what the static build has generated."""
    sources = [*(ROOT / "run" / name for name in SOURCES), ROOT / "build" / "static" / "main.c"]
    return link_with_python(target, *sources, frozen)


NURSERY = r"""
#include "nursery.h"
#include <string.h>

enum { BLOCKS = 5000, ROUNDS = 2000000, LARGEST = 700 };

static unsigned random_number(void)
{
    static unsigned long state = 1;
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(state >> 33);
}

int main(void)
{
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    PyMemAllocatorEx raw;

    /* Python's own allocator takes an interpreter, from 3.12 on; this one does as well behind the nursery. */
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &raw);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &raw);
    nursery_open();
    for (int round = 0; round < ROUNDS; round++) {
        /* Few at first, so that the nursery suffices; then more than it can hold. */
        unsigned i = random_number() % (round < ROUNDS / 2 ? BLOCKS / 20 : BLOCKS);
        size_t size = random_number() % LARGEST, old = sizes[i], kept = old < size ? old : size;
        unsigned char mark = (unsigned char)i;

        for (size_t at = 0; at < old; at++)
            if (blocks[i][at] != mark)
                return 1; /* somebody else has written to it */
        switch (random_number() % 4) {
        case 0:
            PyObject_Free(blocks[i]);
            blocks[i] = NULL, sizes[i] = 0;
            continue;
        case 1:
            PyObject_Free(blocks[i]);
            blocks[i] = PyObject_Calloc(1, size);
            for (size_t at = 0; at < size; at++)
                if (blocks[i][at])
                    return 2;
            break;
        default:
            blocks[i] = PyObject_Realloc(blocks[i], size);
            for (size_t at = 0; at < kept; at++)
                if (blocks[i][at] != mark)
                    return 3;
        }
        if ((size_t)blocks[i] % 16)
            return 4;
        memset(blocks[i], mark, size);
        sizes[i] = size;
    }
    return 0;
}
"""


def test_no_block_of_the_nursery_is_given_out_twice_or_changed(tmp_path: Path) -> None:
    if not (WORK / "generated" / "frozen.c").exists():
        pytest.skip("not built with LINK=static")
    (tmp_path / "nursery-test.c").write_text(NURSERY)
    tested = link_with_python(tmp_path / "tested", tmp_path / "nursery-test.c", ROOT / "build" / "static" / "nursery.c")
    result = subprocess.run([tested], env=SANITIZER_OPTIONS, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with sanitizers."""
    if not (WORK / "generated" / "frozen.c").exists():
        pytest.skip("not built with LINK=static")
    return link(tmp_path_factory.mktemp("sanitized") / "run", WORK / "generated" / "frozen.c")


@pytest.fixture
def start_sanitized(program: Path, tmp_path: Path) -> Iterator[Starter]:
    """Start it, as harness.Starter does; at the end no log may have a sanitizer's report."""
    starter = Starter(str(program), tmp_path)
    yield starter
    starter.kill_all()
    for log in tmp_path.glob("started-*/stderr"):
        assert not any(word in log.read_text(errors="replace") for word in ("Sanitizer", "runtime error"))


MISTAKES = {
    "address": "char *p = malloc(4); p[argc + 3] = 1; return p[0];",
    "undefined": "int n = 0x7fffffff; return (n + argc) != 0 ? 0 : 1;",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sanitizers_find_a_mistake_when_there_is_one(tmp_path: Path, mistake: str) -> None:
    source = tmp_path / "mistake.c"
    source.write_text(f"#include <stdlib.h>\nint main(int argc, char **argv) {{ (void)argv; {MISTAKES[mistake]} }}\n")
    wrong = compile_files(tmp_path / "mistake", *SANITIZERS, source)
    result = subprocess.run([wrong], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "AddressSanitizer" in result.stderr or "runtime error" in result.stderr


def test_help_and_version(start_sanitized: Starter) -> None:
    code, out, log = start_sanitized.result("-v", env=ENVIRONMENT)
    assert (code, log) == (0, "")
    assert out.startswith("run ")
    code, out, log = start_sanitized.result("-h", env=ENVIRONMENT)
    assert (code, log) == (0, "")
    assert out.startswith("Usage:")


def test_a_wrong_command_line(start_sanitized: Starter) -> None:
    code, _, log = start_sanitized.result("-s", "NOPE", "true", env=ENVIRONMENT)
    assert code == 125
    assert log.startswith("run: [error]")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/nowhere"], 127),
        (["/etc"], 126),
    ],
)
def test_the_exit_code(start_sanitized: Starter, words: list[str], expected: int) -> None:
    assert start_sanitized.result("-q", *words, env=ENVIRONMENT)[0] == expected


def test_any_bytes_in_arguments(start_sanitized: Starter) -> None:
    words = [b"\xc3", b"", b"\xff\xfe", b"x" * 100_000]
    started = start_sanitized(
        b"-qq", b"sh", b"-c", b'printf "%s," "$@" | od -An -v -tx1', b"sh", *words, env=ENVIRONMENT
    )
    assert started.wait() == 0
    assert bytes.fromhex(started.out()) == b"".join(word + b"," for word in words)


def test_any_bytes_in_the_environment(start_sanitized: Starter) -> None:
    variables = {os.fsencode(name): os.fsencode(value) for name, value in ENVIRONMENT.items()} | {b"\xff": b"\xfe\n"}
    started = start_sanitized("-qq", "od", "-An", "-v", "-tx1", "/proc/self/environ", env=variables)
    assert started.wait() == 0
    entries = bytes.fromhex(started.out()).split(b"\0")
    assert entries == [b"=".join(entry) for entry in variables.items()] + [b""]


def test_a_shutdown_with_signal_and_kill_after_time(start_sanitized: Starter) -> None:
    stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    script = f"({stubborn}) & read -r line; exit 4"
    started = start_sanitized("-s", "TERM", "-t", "0.2", "sh", "-c", script, env=ENVIRONMENT, stdin=subprocess.PIPE)
    started.wait_out("up")
    started.close_stdin()
    assert started.wait() == 128 + signal.SIGKILL
    assert "sending TERM (15)" in started.log()
    assert "sending KILL (9)" in started.log()


def test_forwarded_signals(start_sanitized: Starter) -> None:
    caught = (signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN, signal.SIGRTMAX)
    traps = " ".join(f"trap 'echo got {int(signum)}' {int(signum)};" for signum in caught)
    started = start_sanitized("-q", "sh", "-c", f"{traps} echo up; while :; do sleep 0.05; done", env=ENVIRONMENT)
    started.wait_out("up")
    for signum in caught:
        started.send(signum)
        started.wait_out(f"got {int(signum)}")
    started.send(signal.SIGTERM)
    assert started.wait() == 128 + signal.SIGTERM


def test_many_orphans(start_sanitized: Starter) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (for j in 1 2 3 4 5 6 7 8 9 10; do (exit 7) & done) & done; wait"
    started = start_sanitized("sh", "-c", script, env=ENVIRONMENT)
    assert started.wait() == 7
    assert "exited with code 7" in started.log()


@pytest.fixture(scope="session")
def broken(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program without a single module of its own."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "frozen.c").write_text(NO_MODULES)
    return link(folder / "run", folder / "frozen.c")


def test_an_interpreter_that_lacks_its_modules_is_reported(broken: Path) -> None:
    result = subprocess.run([broken, "true"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 125
    first = "No module named 'docopt'", "Failed to import encodings module"  # the latter from Python 3.13 on
    assert result.stderr in [f"run: [error] cannot start the interpreter: {error}\n" for error in first]


def test_such_a_report_does_not_wait_for_a_full_stderr(broken: Path) -> None:
    read, write = os.pipe()
    try:
        os.set_blocking(write, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(write, b"x" * 65536)
        os.set_blocking(write, True)
        result = subprocess.run([broken, "true"], env=ENVIRONMENT, stderr=write, check=False, timeout=DEADLINE)
        assert result.returncode == 125
    finally:
        os.close(read)
        os.close(write)
