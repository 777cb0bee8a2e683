"""Images: what docker/Dockerfile makes, one with nothing but /bin/run, and one whose only libc is musl."""

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import BUILDKIT, CLASSIC, Containers, Images, docker, unavailable, unique_name

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ("--file", str(ROOT / "docker" / "Dockerfile"), str(ROOT))
SOURCES = ("build", "run", "spec", "pyproject.toml")

INPUTS = re.compile(
    r"binutils|(cpp|gcc)-\d+|lib(c6|gcc-\d+|expat1|python3\.\d+)-dev|libpython3\.\d+-(minimal|stdlib)|zlib1g-dev"
)
"""The packages that the bytes of a statically linked dist/run come from, or are made by."""

MUSL_PROGRAM = """
#include <stdio.h>
int main(int argc, char **argv) { printf("musl: %s\\n", argv[argc - 1]); return 9; }
"""


@pytest.fixture(scope="module")
def built(kit: str, images: Images) -> str:
    """The image that docker/Dockerfile makes."""
    return images.build(kit, *DOCKERFILE)


@pytest.fixture(scope="module")
def exported(built: str) -> Iterator[tarfile.TarFile]:
    """All files of a container of it."""
    with tarfile.open(fileobj=io.BytesIO(export(built))) as archive:
        yield archive


def export(image: str) -> bytes:
    """An archive of all files that a container of this image has."""
    name = unique_name()
    docker("create", "--name", name, image)
    try:
        return subprocess.run(["docker", "export", name], stdout=subprocess.PIPE, check=True).stdout
    finally:
        docker("rm", "--force", name)


def program(archive: tarfile.TarFile) -> bytes:
    """The bytes of /bin/run in an archive of all files."""
    member = archive.extractfile("bin/run")
    assert member is not None
    return member.read()


def versions(text: str) -> dict[str, str]:
    """From what dpkg-query -W prints: the versions of the packages that count."""
    pairs = (line.partition("\t")[::2] for line in text.splitlines())
    return {name: version for name, version in ((n.partition(":")[0], v) for n, v in pairs) if INPUTS.fullmatch(name)}


def explain_difference(kit: str, images: Images, ours: Path) -> str:
    """Why the image's bytes may well differ from ours; '' if there is no excuse."""
    if b".staticx.archive" in ours.read_bytes():
        return f"{ours} is not linked statically, as the image's is"
    files = [file for source in SOURCES for file in [ROOT / source, *(ROOT / source).rglob("*")] if file.is_file()]
    newest = max((file for file in files if file.suffix != ".pyc"), key=lambda file: file.stat().st_mtime)
    if newest.stat().st_mtime > ours.stat().st_mtime:
        return f"{ours} is older than {newest}: type 'make build'"
    if shutil.which("dpkg-query") is None:
        return "this is no Debian, so another compiler and another Python made dist/run"
    here = versions(subprocess.run(["dpkg-query", "-W"], capture_output=True, text=True, check=True).stdout)
    builder = images.build(kit, "--target", "builder", *DOCKERFILE)
    there = versions(docker("run", "--rm", "--network", "none", builder, "dpkg-query", "-W"))
    differ = [
        f"{name} ({here.get(name)}, in the image {there[name]})" for name in there if here.get(name) != there[name]
    ]
    return "dist/run has other inputs: " + ", ".join(differ) if differ else ""


def test_the_image_holds_the_same_bytes_as_make_build_makes(
    kit: str, exported: tarfile.TarFile, images: Images
) -> None:
    ours = ROOT / "dist" / "run"
    if not ours.exists():
        unavailable(f"{ours} is not there: type 'make build'")
    if program(exported) != ours.read_bytes():
        excuse = explain_difference(kit, images, ours)
        if excuse:
            unavailable(excuse)
        pytest.fail("the same inputs gave other bytes")


def test_both_builders_make_the_same_bytes(images: Images) -> None:
    made = set()
    for kit in CLASSIC, BUILDKIT:
        with tarfile.open(fileobj=io.BytesIO(export(images.build(kit, *DOCKERFILE)))) as archive:
            made.add(program(archive))
    assert len(made) == 1


def test_the_image_holds_nothing_else(exported: tarfile.TarFile) -> None:
    # The engine itself adds empty files and folders, to mount its own over them.
    assert [member.name for member in exported if member.isfile() and member.size] == ["bin/run"]
    assert exported.getmember("bin/run").mode & 0o7777 == 0o755


def test_the_image_runs_as_any_user_without_anything_else(built: str, containers: Containers) -> None:
    container = containers(built, "-v", options=("--user", "1000:1000", "--read-only", "--cap-drop", "ALL"))
    assert container.exit_code() == 0
    assert re.fullmatch(r"run \d+\.\d+\S*\n", container.logs())


def test_alone_in_an_image_it_shows_its_version(containers: Containers, bare_image: str) -> None:
    container = containers(bare_image, "-v")
    assert container.exit_code() == 0
    assert re.fullmatch(r"run \d+\.\d+\S*\n", container.logs())


def test_alone_in_an_image_it_shows_its_help(containers: Containers, bare_image: str) -> None:
    container = containers(bare_image, "-h")
    assert container.exit_code() == 0
    assert container.logs().startswith("Usage:\n  run [-qsdt] cmd [args...]\n")


def test_alone_in_an_image_it_finds_no_other_command(containers: Containers, bare_image: str) -> None:
    container = containers(bare_image, "-q", "sh", "-c", "exit 0")
    assert container.exit_code() == 127
    assert re.fullmatch(r"run: \[error\] sh: not found.*\n", container.logs())


def test_alone_in_an_image_it_runs_itself(containers: Containers, bare_image: str) -> None:
    container = containers(bare_image, "-q", "run", "-q", "run", "-v")
    assert container.exit_code() == 0
    assert container.logs().startswith("run ")


def test_alone_in_an_image_it_wants_a_command(containers: Containers, bare_image: str) -> None:
    container = containers(bare_image)
    assert container.exit_code() == 125
    assert re.fullmatch(r"run: \[error\] .*try 'run -h'\n", container.logs())


@pytest.fixture(scope="module")
def musl_image(images: Images, binary: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image whose only libc is musl, with a program that is dynamically linked to it."""
    if shutil.which("musl-gcc") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in ("update",), ("install", "-y", "--no-install-recommends", "musl-tools"):
            subprocess.run(["apt-get", "-qq", *words], capture_output=True, check=False)
    loaders = list(Path("/lib").glob("ld-musl-*.so.1"))
    if shutil.which("musl-gcc") is None or not loaders:
        unavailable("there is no musl-gcc (Debian's package musl-tools)")
    program = tmp_path_factory.mktemp("musl") / "program"
    compiler = ["musl-gcc", "-x", "c", "-", "-o", str(program)]
    subprocess.run(compiler, input=MUSL_PROGRAM.encode(), check=True)
    assert loaders[0].name.encode() in program.read_bytes(), "the program is dynamically linked"
    return images.make({"bin/run": Path(binary), f"lib/{loaders[0].name}": loaders[0], "bin/program": program})


def test_beside_musl_it_runs_a_program_that_is_linked_to_it(containers: Containers, musl_image: str) -> None:
    container = containers(musl_image, "-q", "program", "word")
    assert container.exit_code() == 9
    assert container.logs() == "musl: word\n"
