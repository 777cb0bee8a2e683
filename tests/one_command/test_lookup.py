"""Contract, "Starting the command": the command is looked up as execvp(3) does. The C library's own is the measure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import DEADLINE, Starter, compile_c
from hypothesis import given, settings
from hypothesis import strategies as st
from probe import SOURCE

REFERENCE = r"""
#include <errno.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    (void)argc;
    execvp(argv[1], argv + 1);
    return errno == ENOENT || errno == ENOTDIR ? 127 : 126;
}
"""

NOWHERE = ("missing", "file-in-the-way")
"""Where there is no command; the C library, unlike the contract, also calls a missing interpreter "not found"."""


def script(path: Path, first_line: str = "#!/bin/sh\n", mode: int = 0o755) -> None:
    path.write_text(f'{first_line}echo "{path.parent.name}|$0|$#|$1|$2"\n')
    path.chmod(mode)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders to be put into PATH, named after what `cmd` is in them, and the reference."""
    root = tmp_path_factory.mktemp("places")
    kinds = (
        "good",
        "good-too",
        "no-line",
        "not-executable",
        "directory",
        "no-interpreter",
        "loop",
        "dangling",
        "empty",
        "foreign",
    )
    for kind in kinds:
        (root / kind).mkdir()
    script(root / "good" / "cmd")
    script(root / "good-too" / "cmd")
    script(root / "no-line" / "cmd", "")
    script(root / "not-executable" / "cmd", mode=0o644)
    (root / "directory" / "cmd").mkdir()
    script(root / "no-interpreter" / "cmd", "#!/no/such/interpreter\n")
    (root / "loop" / "cmd").symlink_to("cmd")
    (root / "dangling" / "cmd").symlink_to("/no/such/file")
    (root / "empty" / "cmd").touch(0o755)
    (root / "foreign" / "cmd").write_bytes(b"\x7fELF\x01\x01\x01" + b"\0" * 100)
    (root / "foreign" / "cmd").chmod(0o755)
    (root / "file-in-the-way").touch()
    compile_c(REFERENCE, root / "execvp")
    return root


def outcome(words: list[str], path: str | None, folder: Path) -> tuple[int, bytes]:
    """Exit code and output of a start with this PATH (None: unset) in this working directory."""
    environment = {} if path is None else {"PATH": path}
    ended = subprocess.run(
        words, cwd=folder, env=environment, stdout=-1, stderr=subprocess.DEVNULL, timeout=DEADLINE, check=False
    )
    return ended.returncode, ended.stdout


def both(
    binary: str, places: Path, name: str, path: str | None, folder: str = "missing-too"
) -> list[tuple[int, bytes]]:
    where = places / folder if (places / folder).is_dir() else places
    return [outcome([starter, name, "a b", ""], path, where) for starter in (str(places / "execvp"), binary)]


KINDS = [
    "good",
    "good-too",
    "no-line",
    "not-executable",
    "directory",
    "loop",
    "dangling",
    "empty",
    "missing",
    "file-in-the-way",
    "",
]


@pytest.mark.parametrize("kind", [*KINDS, "foreign"])
def test_one_place_in_PATH(binary: str, places: Path, kind: str) -> None:
    reference, ours = both(binary, places, "cmd", str(places / kind))
    assert ours == reference


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOWHERE and kind] + ["foreign"])
@pytest.mark.parametrize("spelling", ["absolute", "relative", "dot"])
def test_a_name_with_a_slash_is_not_looked_up(binary: str, places: Path, kind: str, spelling: str) -> None:
    name = {"absolute": f"{places}/{kind}/cmd", "relative": f"{kind}/cmd", "dot": f"./{kind}/cmd"}[spelling]
    reference, ours = both(binary, places, name, "/nowhere")
    assert ours == reference


@settings(max_examples=80)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=5),
    folder=st.sampled_from(["good", "no-line", "not-executable", "dangling"]),
)
def test_any_PATH_with_empty_and_relative_elements(binary: str, places: Path, kinds: list[str], folder: str) -> None:
    """An empty element is the working directory."""
    path = ":".join(kind and str(places / kind) for kind in kinds)
    reference, ours = both(binary, places, "cmd", path, folder)
    assert ours == reference


@pytest.mark.parametrize(
    "path", ["", ":", "::", ".", ":/nowhere", "/nowhere:", "/nowhere::/nowhere", "../good", "/", "//", "good/.."]
)
@pytest.mark.parametrize("folder", ["good", "dangling"])
def test_an_odd_PATH(binary: str, places: Path, path: str, folder: str) -> None:
    reference, ours = both(binary, places, "cmd", path, folder)
    assert ours == reference


@pytest.mark.parametrize("name", ["sh", "cat", "cmd", "no-such-command"])
def test_an_unset_PATH_is_bin_and_usr_bin(binary: str, places: Path, name: str) -> None:
    reference, ours = both(binary, places, name, None, "good")
    assert ours == reference
    assert ours[0] == 127 or name != "cmd", "the working directory is not searched"


def test_an_unset_PATH_with_an_empty_environment(start: Starter) -> None:
    assert start.result("-q", "echo", "found", env={}) == (0, "found\n", "")


@pytest.mark.parametrize(
    "name", ["", "/", ".", "..", "cmd/", "./cmd/", "x" * 255, "x" * 256, "/" + "x" * 5000, "x" * 5000]
)
def test_an_odd_name(binary: str, places: Path, name: str) -> None:
    reference, ours = both(binary, places, name, f"{places}/good", "good")
    assert ours == reference


def test_a_place_that_may_not_be_searched_is_passed_over_and_remembered(
    binary: str, places: Path, public: Path
) -> None:
    (public / "closed").mkdir(mode=0o700)
    (public / "open").mkdir()
    script(public / "closed" / "cmd")
    script(public / "open" / "cmd")
    for name in ("run", "execvp"):
        shutil.copy(binary if name == "run" else places / "execvp", public / name)
    found = []
    for path in (f"{public}/closed:{public}/open", f"{public}/closed:/nowhere", f"{public}/open:{public}/closed"):
        for name in ("run", "execvp"):
            ended = subprocess.run(
                [public / name, "cmd"],
                env={"PATH": path},
                stdout=-1,
                stderr=-3,
                user=65534,
                group=65534,
                timeout=DEADLINE,
                check=False,
            )
            found.append((ended.returncode, ended.stdout.partition(b"|")[0]))
    assert found[::2] == found[1::2] == [(0, b"open\n"[:4]), (126, b""), (0, b"open")]


def test_a_script_without_an_interpreter_line_gets_its_path_and_arguments(start: Starter, places: Path) -> None:
    _, out, _ = start.result("cmd", "a b", "c", env={"PATH": f"{places}/no-line"})
    assert out == f"no-line|{places}/no-line/cmd|2|a b|c\n"


@pytest.mark.parametrize("later", ["good", "no-line"])
def test_a_missing_interpreter_does_not_end_the_search(binary: str, places: Path, later: str) -> None:
    reference, ours = both(binary, places, "cmd", f"{places}/no-interpreter:{places}/{later}")
    assert ours == reference
    assert ours[0] == 0


@pytest.mark.parametrize(
    "duplicate", [["PATH=/nowhere", "PATH=/bin"], ["PATH=/bin", "PATH=/nowhere"], ["XPATH=/bin", "PATHX=/bin"]]
)
def test_of_two_PATHs_the_first_counts(start: Starter, binary: str, places: Path, duplicate: list[str]) -> None:
    program = (
        "import os, sys; from probe import execute; w = [os.fsencode(a) for a in sys.argv[1:]]; execute(w[2:], w[:2])"
    )
    codes = [
        subprocess.run(
            [sys.executable, "-c", program, *duplicate, starter, "echo"],
            cwd=SOURCE.parent,
            stdout=-3,
            stderr=-3,
            timeout=DEADLINE,
            check=False,
        ).returncode
        for starter in (str(places / "execvp"), binary)
    ]
    assert codes[0] == codes[1]


def test_the_name_that_the_command_is_given_is_the_word_itself(start: Starter, tmp_path: Path) -> None:
    compile_c("#include <stdio.h>\nint main(int c, char **v) { (void)c; puts(v[0]); return 0; }", tmp_path / "cmd")
    assert start.result("cmd", env={"PATH": f"{tmp_path}"})[1] == "cmd\n"
    assert start.result("./cmd", cwd=tmp_path)[1] == "./cmd\n"
    assert os.fspath(tmp_path) in start.result(str(tmp_path / "cmd"))[1]
