"""The bundle of LINK=staticx as the tests need it, and a command that needs no library."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Starter, compile_c

ROOT = Path(__file__).resolve().parents[2]
MARK = b"staticx_archive"
"""The name of a section that every bundle has."""

SHOW = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv, char **environment)
{
    for (char **word = argv + 1; argc > 1 && *word; word++) {
        if (strcmp(*word, "--") == 0) {
            *word = NULL;
            execve(word[1], word + 1, argv + 1);
            return 8;
        }
    }
    for (; *environment; environment++)
        puts(*environment);
    return 7;
}
"""
"""A command that needs no library: it prints its environment, and exits with 7; or is env(1): VARIABLE... -- CMD..."""


@pytest.fixture(scope="session")
def is_bundle(binary: str) -> bool:
    """Whether the binary is a bundle, which unpacks itself first (LINK=staticx)."""
    return MARK in Path(binary).read_bytes()


@pytest.fixture(scope="session")
def bundle(binary: str) -> Path:
    """The binary under test if it is a bundle, else the one that was built last."""
    for path in (Path(binary), ROOT / ".work" / "staticx" / "bundle"):
        if path.exists() and MARK in path.read_bytes():
            return path
    pytest.skip("there is no bundle to test: make build LINK=staticx")


@pytest.fixture
def launch(bundle: Path, tmp_path: Path) -> Iterator[Starter]:
    """Start the bundle."""
    folder = tmp_path / "started"
    folder.mkdir()
    starter = Starter(str(bundle), folder)
    yield starter
    starter.kill_all()


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that prints its environment."""
    return compile_c(SHOW, tmp_path_factory.mktemp("show") / "show", "-static")


@pytest.fixture
def public_bundle(bundle: Path, public: Path) -> str:
    """A copy that everybody may execute."""
    return str(shutil.copy(bundle, public / "run"))
