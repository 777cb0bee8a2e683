"""Contract, "Bad days": hostile files beside the binary and as working directory, and odd ways to the binary itself."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import Starter

import run

NAMES = [
    "os",
    "sys",
    "docopt",
    "signal",
    "select",
    "errno",
    "stat",
    "codecs",
    "enum",
    "re",
    "site",
    "sitecustomize",
    "usercustomize",
]
PACKAGES = ["run", "encodings", "importlib", "collections", "json", "lib", "_pyi_rth_utils", "PyInstaller"]
OTHERS = [
    "base_library.zip", "pyvenv.cfg", "pybuilddir.txt", "python311._pth", "python3._pth", "run._pth",
    "python311.zip", "libpython3.11.so.1.0", "libz.so.1", "libdl.so.2", "Modules/Setup.local",
    "lib/python3.11/os.py", "lib/python311.zip", "run.pkg", "_internal/os.py",
]  # fmt: skip
HOSTILE = "import posix\nposix.write(1, b'hostile')\nposix._exit(66)\n"
ORPHANS = ("sh", "-c", "( (exit 5) & ); exit 3")


def make_hostile(folder: Path) -> None:
    """Fill a folder with files that look like what Python could load."""
    for name in NAMES:
        (folder / f"{name}.py").write_text(HOSTILE)
        (folder / f"{name}.so").write_bytes(b"\x7fELF hostile")
        (folder / f"{name}.cpython-311-{os.uname().machine}-linux-gnu.so").write_bytes(b"\x7fELF hostile")
        (folder / f"{name}.pyc").write_bytes(b"hostile")
    for name in PACKAGES:
        (folder / name).mkdir(exist_ok=True)
        for module in ("__init__", "__main__", "cli", "log", "utf_8", "_kernel", "abc"):
            (folder / name / f"{module}.py").write_text(HOSTILE)
    for name in OTHERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("home = /nowhere\n")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A hostile folder."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    make_hostile(folder)
    return folder


@pytest.fixture
def beside(binary: str, tmp_path: Path) -> Path:
    """A copy of the binary under another name in a hostile folder: `run` is a package there."""
    folder = tmp_path / "beside"
    folder.mkdir()
    make_hostile(folder)
    shutil.copy(binary, folder / "the-binary")
    return folder / "the-binary"


def every_variable(folder: Path) -> dict[str, str]:
    """An environment that leads Python and the C library into a folder."""
    paths = (
        "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "LD_LIBRARY_PATH",
        "LOCPATH", "NLSPATH", "GCONV_PATH", "TZDIR", "_MEIPASS2", "_PYI_APPLICATION_HOME_DIR",
        "_PYI_ARCHIVE_FILE", "TMPDIR", "HOME",
    )  # fmt: skip
    return {"PATH": "/bin:/usr/bin", "PYTHONINSPECT": "1", "LC_ALL": "xx_XX", **dict.fromkeys(paths, str(folder))}


def check(starter: Starter, folder: Path, **options: Any) -> None:
    """All goes as ever: help, an error, a command, a non-UTF-8 word."""
    assert starter.result("-v", **options) == (0, f"run {run.VERSION}\n", "")
    code, out, log = starter.result("-x", **options)
    assert (code, out) == (125, "")
    assert re.fullmatch(r"run: \[error\] [^\n]*\n", log)
    code, out, log = starter.result("-s", "term", "-t", "5", "echo", b"\xff", **options)
    assert (code, out) == (0, "\ufffd\n")
    assert "error" not in log
    assert not list(folder.rglob("__pycache__"))


def test_as_working_directory(start: Starter, hostile: Path) -> None:
    check(start, hostile, cwd=hostile)


def test_beside_the_binary(beside: Path, tmp_path: Path) -> None:
    check(Starter(str(beside), tmp_path), beside.parent, cwd=tmp_path)


def test_both_and_in_every_variable(beside: Path, tmp_path: Path) -> None:
    check(Starter("./the-binary", tmp_path), beside.parent, cwd=beside.parent, env=every_variable(beside.parent))


@pytest.mark.parametrize(
    "words", [("-v",), ("-x",), ("-s", "TERM", "-t", "5", "sh", "-c", "sleep 100 & exit 3"), ("echo", b"\xff\n")]
)
def test_no_file_is_opened_but_proc_and_what_the_command_needs(
    beside: Path, tmp_path: Path, words: tuple[str | bytes, ...]
) -> None:
    """Nor looked for: strace(1) of `run` alone, without the child that becomes the command."""
    trace = tmp_path / "trace"
    tracer = Starter("strace", tmp_path)
    options = ["-qq", "-e", "trace=%file", "-o", str(trace)]
    variables = [f"-E{name}={value}" for name, value in every_variable(beside.parent).items()]  # not for strace itself
    tracer.result(*options, *variables, str(beside), *words, cwd=beside.parent)
    calls = trace.read_text().splitlines()
    if any("memfd" in call or "execve(" in call for call in calls[1:]):
        pytest.skip("a bundle that unpacks itself: what it opens is its own")
    used = [name for call in calls[1:] for name in re.findall(r'"([^"]+)"', call)[:1]]
    allowed = re.compile(r"/proc/(self|thread-self|\d+)(/.*)?|/dev/null")
    assert [name for name in used if not allowed.fullmatch(name)] in ([], [str(beside)])


def test_no_hostile_file_is_opened_even_by_the_child(beside: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options = ["-f", "-qq", "-e", "trace=%file", "-o", str(trace)]
    code = Starter("strace", tmp_path)(*options, str(beside), *ORPHANS, cwd=beside.parent).wait()
    assert code == 5
    names = re.findall(r'"([^"]*)"', trace.read_text())
    assert [
        name for name in names if name.startswith(str(beside.parent)) and name not in (str(beside), str(beside.parent))
    ] == []


def test_a_file_named_like_the_command_is_not_looked_for_by_run(start: Starter, hostile: Path) -> None:
    (hostile / "echo").write_text("#!/bin/sh\necho hostile\n")
    (hostile / "echo").chmod(0o755)
    assert start.result("-q", "echo", "harmless", cwd=hostile)[1] == "harmless\n"


def test_through_a_symbolic_link(binary: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(binary)
    (tmp_path / "second").symlink_to("link")
    for name in ("link", "second"):
        (tmp_path / f"{name}-logs").mkdir()
        check(Starter(str(tmp_path / name), tmp_path / f"{name}-logs"), tmp_path)


def test_with_a_wrong_name_for_itself(binary: str) -> None:
    for name in ("run", "/nowhere/run", "-x", "\udcff", "os.py", "x" * 5000):
        assert os.spawnve(os.P_WAIT, binary, [name, "-q", "sh", "-c", "exit 4"], {"PATH": "/bin"}) == 4


def test_through_a_file_descriptor_and_from_memory(binary: str, tmp_path: Path) -> None:
    fd = os.memfd_create("run")
    os.write(fd, Path(binary).read_bytes())
    starter = Starter(f"/proc/self/fd/{fd}", tmp_path)
    code, _, log = starter.result("-q", *ORPHANS, pass_fds=[fd])
    assert (code, log) == (5, "")
    os.close(fd)


def test_through_fexecve_without_proc(binary: str, tmp_path: Path) -> None:
    fd = os.open(binary, os.O_RDONLY)
    os.set_inheritable(fd, True)
    program = f"import os, sys; os.execve({fd}, ['run', '-q', *sys.argv[1:]], {{'PATH': '/bin:/usr/bin'}})"
    code, _, log = Starter(sys.executable, tmp_path).result("-c", program, *ORPHANS, pass_fds=[fd])
    assert (code, log) == (5, "")
    os.close(fd)


def test_with_the_binary_deleted_while_it_runs(binary: str, tmp_path: Path) -> None:
    copy = tmp_path / "gone"
    shutil.copy(binary, copy)
    started = Starter(str(copy), tmp_path)("-s", "TERM", "sh", "-c", f"rm {copy}; ( (exit 5) & ); sleep 1000 & exit 3")
    assert started.wait() == 143
    assert not copy.exists()
    assert "error" not in started.log()


def test_with_the_working_directory_deleted(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "gone"

    def setup() -> None:
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()

    code, out, log = start.result("-q", "echo", "as ever", preexec_fn=setup)
    assert (code, out, log) == (0, "as ever\n", "")


def test_in_a_working_directory_that_may_not_be_read(binary: str, public: Path) -> None:
    shutil.copy(binary, public / "run")
    (public / "closed").mkdir(mode=0o700)

    def setup() -> None:
        os.chdir(public / "closed")
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    code, out, log = Starter(str(public / "run"), public).result("-q", "echo", "as ever", preexec_fn=setup)
    assert (code, out, log) == (0, "as ever\n", "")


def test_an_LD_PRELOAD_that_is_not_there_is_the_command_s_business(start: Starter) -> None:
    environment = {
        "PATH": "/bin:/usr/bin",
        "LD_PRELOAD": "/no/such.so",
        "LD_LIBRARY_PATH": "/nowhere",
        "LD_AUDIT": "/no/such.so",
    }
    code, out, _ = start.result("-q", "printenv", "LD_PRELOAD", env=environment)
    assert (code, out) == (0, "/no/such.so\n")
