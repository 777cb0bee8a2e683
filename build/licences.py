"""Print the licences of all that is in a build, from what the linker and the archive say that they took in.

    licences.py LINK WORK

LINK is static or staticx, WORK the folder in which build/LINK/build.sh made it, with the link map. To be run by the
Python of the build's virtual environment, on Debian or its kin: the texts come from /usr/share/doc, and from what pip
has installed. A file of which nobody says under what licence it is ends this with an error.
"""

import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMON = re.compile(r"/usr/share/common-licenses/([\w.+-]*\w)")
"""How Debian's files refer to a licence that is the same for many packages."""

HEAD = """\
What is in this file of `run`, and under what licence. `run` itself comes first. The GNU C library is linked with it
under the GNU Lesser General Public License: with the sources of `run`, `make build` links it anew with another one.

"""
RULE = "=" * 79
OWN = {"run"}
"""The modules that are the project's own."""


def linked_files(link_map: str) -> set[Path]:
    """The files outside of the project of which the linker took anything, by its map: ld(1), --print-map.

    The members of libraries that were needed come first. Files that are no libraries are loaded as a whole.
    """
    members = link_map.partition("Discarded input sections")[0]
    archives = set(re.findall(r"^(/\S+\.a)\(", members, re.MULTILINE))
    objects = set(re.findall(r"^LOAD (/\S+\.o)$", link_map, re.MULTILINE))
    paths = {Path(name).resolve() for name in archives | objects}
    return {path for path in paths if ROOT not in path.parents}


def archived_files(archive: Path) -> set[Path]:
    """The libraries in the archive of a bundle, as the files of this system that they were copied from."""
    folders = [sysconfig.get_config_var(name) or "" for name in ("LIBDIR", "DESTSHARED")]
    found = set()
    with tempfile.NamedTemporaryFile() as copy:
        command = [
            "objcopy",
            "-O",
            "binary",
            "--only-section=staticx_archive",
            "--set-section-flags=staticx_archive=alloc",
        ]
        subprocess.run([*command, str(archive), copy.name], check=True)
        with tarfile.open(copy.name) as content:
            names = [member.name for member in content if member.isfile() and member.name != "run"]
    for name in names:
        asked = ["gcc", f"-print-file-name={name}"]
        system = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        path = next(
            (path for path in [*(Path(folder, name) for folder in folders), Path(system)] if path.exists()), None
        )
        if path is None:
            raise SystemExit(f"licences: where {name} in the archive comes from is not known")
        found.add(path.resolve())
    return found


def package_of(path: Path) -> str | None:
    """The Debian package that a file belongs to. It may know the file by its name from before /usr was merged."""
    for name in (str(path), str(path).removeprefix("/usr")):
        asked = subprocess.run(["dpkg", "-S", name], check=False, capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.partition(": ")[0].split(",")[0]
    return None


def package_licence(package: str) -> tuple[str, str]:
    """The name and version of a Debian package, and the text of its licences."""
    asked = ["dpkg-query", "--show", "--showformat=${Package} ${Version}", package]
    title = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout
    return title, Path("/usr/share/doc", package.partition(":")[0], "copyright").read_text()


def file_licence(path: Path) -> tuple[str, str]:
    """The title and text of the licence of a file that was linked in. Ends with an error when nobody knows it."""
    package = package_of(path)
    if package is not None:
        return package_licence(package)
    python = Path(sys.base_prefix).resolve()
    text = Path(sysconfig.get_path("stdlib"), "LICENSE.txt")
    if python in path.parents and text.exists():
        return f"CPython {sys.version.split()[0]}", text.read_text()
    raise SystemExit(f"licences: no licence is known for {path}")


def frozen_distributions(source: str) -> set[str]:
    """The distributions that frozen modules are from, by the C source of their table, but for our own and Python."""
    modules = {name.split(".")[0] for name in re.findall(r'\.name = "([\w.]+)"', source)}
    known = metadata.packages_distributions()
    foreign = modules - OWN - sys.stdlib_module_names
    for name in foreign - known.keys():
        raise SystemExit(f"licences: which distribution the module {name} is from is not known")
    return {distribution for name in foreign for distribution in known[name]}


def distribution_licence(name: str) -> tuple[str, str]:
    """The title and text of the licence of what pip has installed."""
    distribution = metadata.distribution(name)
    files = [file for file in distribution.files or [] if re.search(r"LICEN[CS]E|COPYING", file.name)]
    if not files:
        raise SystemExit(f"licences: {name} brings no licence")
    return f"{name} {distribution.version}", "\n".join(Path(str(file.locate())).read_text() for file in files)


def unique(licences: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The titles that each text belongs to: several packages of one source have the same text."""
    titles: dict[str, list[str]] = {}
    for title, text in sorted(licences):
        known = titles.setdefault(text.strip(), [])
        if title not in known:
            known.append(title)
    return titles


def main(link: str, work: Path) -> None:
    """Print all licences of the build in this folder."""
    maps = {"static": ("mould.map", "run.map"), "staticx": ("bundle.map",)}[link]
    link_map = next(work / name for name in maps if (work / name).exists())
    files = linked_files(link_map.read_text())
    if link == "staticx":
        files |= archived_files(work / "archive.o")
    modules = frozen_distributions((work / "generated" / "frozen.c").read_text())
    found = [*map(file_licence, files), *map(distribution_licence, modules)]
    parts = {(ROOT / "LICENSE").read_text().strip(): ["run"], **unique(found)}
    common = sorted({name for text in parts for name in COMMON.findall(text)})
    sys.stdout.write(HEAD + "".join(f"  {title}\n" for titles in parts.values() for title in titles))
    for text, titles in parts.items():
        print(f"\n{RULE}\n{', '.join(titles)}\n{RULE}\n\n{text}")
    for name in common:
        print(f"\n{RULE}\n{name}, which texts above refer to\n{RULE}\n")
        print(Path("/usr/share/common-licenses", name).read_text().strip("\n"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
