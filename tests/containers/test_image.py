"""Images: what docker/Dockerfile makes, one with nothing but /bin/run, and one whose only libc is musl."""

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import BUILD_SECONDS, BUILDKIT, CLASSIC, Containers, Images, docker, unavailable, unique_name

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ("--file", str(ROOT / "docker" / "Dockerfile"), str(ROOT))

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


def test_the_image_holds_the_same_bytes_as_make_build_makes(
    exported: tarfile.TarFile, kit: str, images: Images
) -> None:
    # In a container of the image's builder, since this machine may have other versions of the compiler and of Python.
    builder = images.build(kit, "--target", "builder", *DOCKERFILE)
    build = "exec 2>&1; cp -r /src /elsewhere && cd /elsewhere && rm -rf .work dist && make build && sha256sum dist/run"
    made = docker("run", "--rm", "--network", "host", builder, "bash", "-ec", build, seconds=BUILD_SECONDS)
    assert made.splitlines()[-1].split()[0] == hashlib.sha256(program(exported)).hexdigest()


def test_both_builders_make_the_same_bytes(images: Images) -> None:
    made = set()
    for kit in CLASSIC, BUILDKIT:
        with tarfile.open(fileobj=io.BytesIO(export(images.build(kit, *DOCKERFILE)))) as archive:
            made.add(program(archive))
    assert len(made) == 1


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.staticx"])
def test_the_program_of_each_image_answers_stop_without_any_right(
    dockerfile: str, containers: Containers, images: Images, busybox: Path, tmp_path: Path
) -> None:
    made = images.build(CLASSIC, "--file", str(ROOT / "docker" / dockerfile), str(ROOT))
    with tarfile.open(fileobj=io.BytesIO(export(made))) as archive:
        (tmp_path / "run").write_bytes(program(archive))
    (tmp_path / "run").chmod(0o755)
    image = images.make({"bin/run": tmp_path / "run", "bin/busybox": busybox})
    options = ("--user", "1000:1000", "--read-only", "--cap-drop", "ALL")
    container = containers(image, "busybox", "sleep", "600", options=options)
    container.wait_log("started busybox")
    assert container.stop() == 128 + signal.SIGTERM


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
    assert container.logs().startswith("Usage:\n  run [-qsdtu] cmd [args...]\n")


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
