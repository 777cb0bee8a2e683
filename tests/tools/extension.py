"""The C extension built for the tests, plain or with sanitizers, and an interpreter that has loaded it."""

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from harness import DEADLINE

ROOT = Path(__file__).resolve().parents[2]

SOURCES = ("_kernel.c", "_spawn.c", "_services.c", "_start.c")

WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

SANITIZER_OPTIONS = {
    # CPython itself keeps memory until the process ends, so leaks are looked for by a test of their own instead.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",  # CPython's own allocator would hide from the sanitizer where a block ends
}


def compile_files(target: Path, *words: str | Path) -> Path:
    """Compile and link with gcc; every warning is an error."""
    result = subprocess.run(["gcc", *WARNINGS, "-o", target, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return target


class Extension:
    """A package `run` that has only the extension, and interpreters that import it."""

    def __init__(self, folder: Path, sanitized: bool) -> None:
        """Build it in the folder."""
        self._folder = folder
        self.variables: dict[str, str] = {"LC_ALL": "C.UTF-8"}
        package = folder / "run"
        package.mkdir()
        (package / "__init__.py").touch()
        flags = ["-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", *(SANITIZERS if sanitized else ())]
        compile_files(package / "_kernel.so", *flags, *(ROOT / "run" / name for name in SOURCES))
        if sanitized:
            # The interpreter is not sanitized, so the sanitizer's library must be loaded ahead of all others.
            found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
            self.variables |= SANITIZER_OPTIONS | {"LD_PRELOAD": os.path.realpath(found.stdout.strip())}

    def argv(self, code: str) -> list[str]:
        """The command line of an interpreter that loads the extension and runs this code."""
        modules = "import errno, os, signal, sys, time"
        load = f"sys.path.insert(0, {str(self._folder)!r}); from run import _kernel"
        return [sys.executable, "-S", "-B", "-c", f"{modules}; {load}\n{code}"]

    def start(self, code: str, **options: Any) -> subprocess.Popen[str]:
        """Start such an interpreter, with pipes."""
        options.setdefault("env", self.variables)
        pipe = subprocess.PIPE
        return subprocess.Popen(self.argv(code), stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)

    def output(self, code: str, **options: Any) -> str:
        """What the code prints. Fails if it does not end well, or if anything is on stderr, as sanitizers report."""
        with self.start(code, **options) as process:
            try:
                out, err = process.communicate(timeout=DEADLINE)
            finally:
                process.kill()
        assert (process.returncode, err) == (0, "")
        return out

    def value(self, code: str, **options: Any) -> Any:
        """The one value that the code prints, such as `print((1, 2))`."""
        return ast.literal_eval(self.output(code, **options))

    def error(self, call: str) -> tuple[str, int | None]:
        """The name of the exception that this call raises, and its errno if it has one."""
        code = f"""
try:
    {call}
except Exception as error:
    print((type(error).__name__, getattr(error, "errno", None)))
else:
    print(("nothing", None))
"""
        name, number = self.value(code)
        return name, number


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def extension(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Extension:
    """The extension, built in both ways."""
    return Extension(tmp_path_factory.mktemp("extension"), request.param == "sanitized")


def spawn_code(path: str, words: list[str] | list[bytes], environment: list[bytes], options: str = "") -> str:
    """Code that calls spawn() with this path, with the mask and dispositions that the process was started with."""
    arguments = [os.fsencode(word) for word in words]
    given = "death_signal=15, mask=_kernel.started_with()[0], ignored=_kernel.started_with()[1]"
    return (
        f"_kernel.spawn([{os.fsencode(path)!r}], {arguments!r}, {environment!r}, b'/bin/sh', bytes([2, 13]), "
        f"{given}{', ' if options else ''}{options})"
    )
