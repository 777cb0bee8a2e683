"""What `make release` makes: names, licences, checksums, manual pages; and the same bytes each time."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from run import VERSION

ROOT = Path(__file__).resolve().parents[2]
STATIC = f"run-{VERSION}-linux-{os.uname().machine}"
BUNDLE = f"{STATIC}-staticx"
BUNDLE_MARK = b"staticx_archive"
"""The name of a section that every bundle has."""


def release(target: Path) -> Path:
    """Make a release into a folder; return it."""
    subprocess.run([ROOT / "build" / "release.sh", target], check=True, stdin=subprocess.DEVNULL)
    return target


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release."""
    return release(tmp_path_factory.mktemp("release") / "first")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of each file in a folder, by its name."""
    return {path.name: (path.stat().st_mode, path.read_bytes()) for path in folder.iterdir()}


def parts(licences: Path) -> set[str]:
    """The names, without versions, of what a file of licences says is linked in: its first list."""
    return set(re.findall(r"^  ([\w.+-]+)", licences.read_text().partition("\n=")[0], re.MULTILINE))


def test_both_builds_are_there_by_version_and_architecture(released: Path) -> None:
    licences = {f"{name}.licences.txt" for name in (STATIC, BUNDLE)}
    assert set(contents(released)) == {STATIC, BUNDLE, "SHA256SUMS", "run.1", "run.toml.5"} | licences


@pytest.mark.parametrize(("name", "is_bundle"), [(STATIC, False), (BUNDLE, True)])
def test_each_build_is_what_its_name_says(released: Path, name: str, is_bundle: bool) -> None:
    binary = released / name
    assert (BUNDLE_MARK in binary.read_bytes()) == is_bundle
    assert subprocess.run([binary, "-v"], check=True, stdout=subprocess.PIPE, text=True).stdout == f"run {VERSION}\n"
    assert subprocess.run([binary, "-q", "sh", "-c", "exit 7"], check=False).returncode == 7


def test_the_checksums_are_those_of_all_other_files(released: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=released, check=True, stdout=subprocess.PIPE, text=True
    )
    assert {line.partition(": ")[0] for line in checked.stdout.splitlines()} == set(contents(released)) - {"SHA256SUMS"}


def test_the_same_bytes_each_time(released: Path, tmp_path: Path) -> None:
    again = contents(release(tmp_path / "second"))
    assert again.keys() == contents(released).keys()
    assert [name for name, content in contents(released).items() if again[name] != content] == []


def test_each_build_comes_with_the_licences_of_all_that_is_linked_in(released: Path) -> None:
    static = parts(released / f"{STATIC}.licences.txt")
    bundle = parts(released / f"{BUNDLE}.licences.txt")
    # The names of Debian's packages, but for the version of Python or the compiler in them.
    for expected in ("run", "docopt", r"libc6-dev", r"libgcc-\d+-dev", r"libpython3\.\d+-dev"):
        assert any(re.fullmatch(expected, part) for part in static), expected
    for expected in ("run", "docopt", "libc6", "libc6-dev", r"libpython3\.\d+|CPython", "libexpat1", "zlib1g"):
        assert any(re.fullmatch(expected, part) for part in bundle), expected
    assert not static & {"libexpat1", "zlib1g"}


@pytest.mark.parametrize("name", [STATIC, BUNDLE])
def test_the_texts_of_the_licences_are_there(released: Path, name: str) -> None:
    text = (released / f"{name}.licences.txt").read_text()
    assert (ROOT / "LICENSE").read_text().strip() in text
    for phrase in ("Vladimir Keleshev", "PYTHON SOFTWARE FOUNDATION LICENSE", "GNU LESSER GENERAL PUBLIC LICENSE"):
        assert phrase in text, phrase
    # No text may point to a file of this system that is not here: each of these follows as a whole.
    for common in set(re.findall(r"/usr/share/common-licenses/([\w.+-]*\w)", text)):
        assert f"\n{common}, which texts above refer to\n" in text


def test_a_file_that_nobody_says_the_licence_of_is_an_error(tmp_path: Path) -> None:
    """Such as a library that was compiled by hand."""
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "frozen.c").write_text("")
    library = tmp_path / "libodd.a"
    library.touch()
    (tmp_path / "run.map").write_text(f"{library}(odd.o)\n")
    script = ROOT / "build" / "licences.py"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", script, "static", tmp_path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"licences: no licence is known for {library}\n"


@pytest.mark.parametrize("page", ["run.1", "run.toml.5"])
def test_the_manual_page_has_no_fault(released: Path, page: str) -> None:
    checked = subprocess.run(["mandoc", "-T", "lint", released / page], check=False, stdout=subprocess.PIPE, text=True)
    assert checked.stdout == ""
    assert checked.returncode == 0
