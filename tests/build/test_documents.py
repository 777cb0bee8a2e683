"""What the documents say of the house is so: the map, the line that decides, citations, links, targets of make."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CONTRACT = (ROOT / "spec" / "contract.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]

MAP = CONTRIBUTING.partition("<!-- The one place")[2].partition("<!-- End of that place. -->")[0]
"""The files of run/, how a signal travels, and how an exit does."""

NO_SOURCES = {".spec", ".map", ".toml"}
"""What follows `run` in the names of files that are no modules."""

CODE = re.compile(r"`([^`]+)`")


def sources() -> Iterator[tuple[Path, str]]:
    """The text files of the project, with their names below its folder, but for what was made and this one."""
    for folder in (".ci", "build", "docker", "run", "spec", "tests", "."):
        for path in (ROOT / folder).rglob("*") if folder != "." else ROOT.glob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path != Path(__file__).resolve():
                try:
                    yield path.relative_to(ROOT), path.read_text()
                except UnicodeDecodeError:
                    continue


def mapped() -> set[str]:
    """What the first column of the map's table names: in each row all are in the folder of the first."""
    rows = [CODE.findall(row) for row in re.findall(r"^\| (`.+?) \|", MAP, re.MULTILINE)]
    folders = [row[0].rpartition("/")[0] for row in rows]
    return {str(Path(folder, Path(name).name)) for folder, row in zip(folders, rows, strict=True) for name in row}


def test_the_map_has_every_file_of_run_and_none_that_is_not_there() -> None:
    """What is explained elsewhere is named there as `run/FILE`."""
    files = {
        str(path.relative_to(ROOT / "run"))
        for path in (ROOT / "run").rglob("*")
        if path.suffix in (".py", ".c", ".h") and path.name != "__init__.py"
    }
    elsewhere = {name for name in files if f"`run/{name}`" in CONTRIBUTING}
    assert mapped() | elsewhere == files


def test_what_a_signal_and_an_exit_travel_through_is_there() -> None:
    code = "\n".join(text for path, text in sources() if path.parts[0] == "run")
    travels = MAP.partition("**How a signal travels.**")[2]
    names = {word for name in CODE.findall(travels) if re.fullmatch(r"[A-Za-z_.]+", name) for word in name.split(".")}
    assert {"Policy", "signal_due", "_start", "find_recipients", "FORWARDED"} <= names
    known = {path.stem for path in (ROOT / "run").rglob("*")} | {"py", "c"}
    assert {name for name in names - known if not re.search(rf"\b(def|class) {name}\b|\b{name}(\(| =)", code)} == set()


def test_the_line_that_decides_whether_an_exit_shuts_down_is_where_it_is_said_to_be() -> None:
    said = re.search(r"whether an exit shuts down is in `(\w+)\.(\w+)` in `([\w/.]+)`:\s+`(.+?)`", MAP)
    assert said
    owner, function, file, line = said.groups()
    text = (ROOT / "run" / file).read_text()
    body = text.partition(f"class {owner}")[2].partition(f"def {function}(")[2].partition("\n    def ")[0]
    decides = r"\s+".join(re.escape(word).replace("…:", ".+:") for word in line.split())
    assert len(re.findall(decides, body)) == 1


def test_every_citation_of_the_contract_is_of_one_of_its_sections() -> None:
    sections = set(re.findall(r"^#+ (.+)$", CONTRACT, re.MULTILINE))
    cited = re.compile(r"[Cc]ontract((?:,? (?:and )?\"[A-Z][^\"]+\")+)")
    count = 0
    for path, text in sources():
        for citation in cited.findall(re.sub(r"\s*\n[\s#*/]*", " ", text)):
            titles = re.findall(r"\"([^\"]+)\"", citation)
            assert set(titles) <= sections, path
            count += len(titles)
    assert count > 100


def is_there(names: list[str]) -> bool:
    """Whether these names, each in the one before, lead from the package `run` to a module, or to something in one."""
    place = ROOT / "run"
    for i, name in enumerate(names):
        if (place / f"{name}.py").exists():
            rest, text = names[i + 1 :], (place / f"{name}.py").read_text()
            return all(re.search(rf"\b(def|class) {word}\b|\b{word}(:| =)", text) for word in rest)
        if (place / f"{name}.c").exists():
            return True
        place /= name
    return place.is_dir()


def test_every_module_that_a_comment_names_is_there() -> None:
    dotted = re.compile(r"(?<![\w./-])run((?:\.[A-Za-z_]\w*)+)")
    named = {name for path, text in sources() if path.parts[0] in ("run", "build") for name in dotted.findall(text)}
    assert ".one.policy" in named
    assert {name for name in named - NO_SOURCES if not is_there(name[1:].split("."))} == set()


def test_every_link_leads_somewhere() -> None:
    targets = {
        (path.parent / target) for path in DOCUMENTS for target in re.findall(r"\]\(([^):]+)\)", path.read_text())
    }
    assert ROOT / "spec" / "contract.md" in targets
    assert {path for path in targets if not path.exists()} == set()


def test_every_target_of_make_is_one() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    command = re.compile(r"(?:^ {4}|`)(?:[A-Z]+=\S+ )*make ([a-z]+)", re.MULTILINE)
    named = {name for path in DOCUMENTS for name in command.findall(path.read_text())}
    assert {"build", "test", "release", "demo"} <= named <= targets


def test_nothing_refers_to_what_is_not_in_the_repository() -> None:
    outside = re.compile(r"\.\./shared|\b(SPEC|STYLE|PACKAGING)\.md")
    assert [str(path) for path, text in sources() if outside.search(text)] == []


@pytest.mark.parametrize("name", ["make elsewhere", "machines"])
def test_where_it_was_tried_is_told_in_the_readme_as_in_the_results(name: str) -> None:
    tables = []
    for document in ("README.md", "tests/elsewhere/RESULTS.md"):
        written = (ROOT / document).read_text().partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
        tables.append(re.findall(r"^\|.+", written, re.MULTILINE))
    assert len(tables[0]) > 2
    assert tables[0] == tables[1]
