"""The manual page run.toml(5) says what run/services/file.py accepts, and nothing else; so does the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from run.services import file, healthcheck, life, status
from run.services.file import parse
from run.services.life import Life
from run.services.plan import Service

ROOT = Path(__file__).resolve().parents[2]

SECTIONS = {
    "KEYS OF THE FILE": list(file.TOP_KEYS),
    "KEYS OF A SERVICE": list(file.CHECKS),
    "KEYS OF A HEALTHCHECK": [*healthcheck.CHECKS, *healthcheck.TIMES],
}

ESCAPES = {
    r"\-": "-",
    r"\(aq": "'",
    r"\(ga": "`",
    r"\(ha": "^",
    r"\(ti": "~",
    r"\e": "\\",
    r"\&": "",
    r"\fB": "",
    r"\fR": "",
}
"""What the page has for what roff would not show."""

OTHERS = "".join(f"[services.{name}]\ncommand = 'x'\n" for name in ("migrate", "redis"))
"""Those that an example may depend on."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, made as the build makes it."""
    made = subprocess.run(
        [sys.executable, "-I", ROOT / "build" / "filepage.py"], check=True, stdout=subprocess.PIPE, timeout=300
    )
    path = tmp_path_factory.mktemp("manual") / "run.toml.5"
    path.write_bytes(made.stdout)
    return path


def shown(source: str) -> str:
    """What roff shows for a part of the source that has no requests."""
    return re.sub(r"\\(?:\(..|f.|.)", lambda escape: ESCAPES[escape[0]], source)


def section(page: Path, heading: str) -> str:
    """The source of a section."""
    return page.read_text().partition(f".SH {heading}\n")[2].partition("\n.SH ")[0] + "\n"


def entries(page: Path, heading: str) -> dict[str, str]:
    """The keys that a section is on, in order, and the source on each."""
    parts = re.split(r"^\.TP\n\\fB(\S+?)\\fR = ", section(page, heading), flags=re.MULTILINE)[1:]
    return {shown(key): source for key, source in zip(parts[::2], parts[1::2], strict=True)}


def examples(source: str) -> list[str]:
    """What is shown as it is."""
    return [shown(text) for text in re.findall(r"^\.EX\n(.*?)^\.EE$", source, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_that_is_accepted_stands_in_the_page_and_no_other(page: Path, heading: str) -> None:
    assert list(entries(page, heading)) == SECTIONS[heading]


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_example_of_each_key_is_accepted(page: Path, heading: str) -> None:
    for key, source in entries(page, heading).items():
        (example,) = examples(source)
        assert re.search(rf"\b{key}\b", example)
        # An example is a table, or lines of which each is one.
        for text in [example] if "\n[" in f"\n{example}" else example.splitlines():
            content = text
            if heading == "KEYS OF THE FILE":
                content += "" if key == "services" else f"\n{OTHERS}"
            elif not text.startswith("["):
                command = "" if key == "command" else "command = 'x'\n"
                content = f"[services.x]\n{command}{text}\n{OTHERS}"
            assert parse(content.encode(), "file")[1] == [], content


@pytest.mark.parametrize(
    ("key", "wrong"), [("restart", "'x'"), ("kill_mode", "'x'"), ("on_unhealthy", "'x'"), ("output", "'x'")]
)
def test_the_words_that_a_key_accepts_stand_with_it(page: Path, key: str, wrong: str) -> None:
    _, (error,) = parse(f"[services.x]\ncommand = 'x'\n{key} = {wrong}\n".encode(), "file")
    accepted = re.findall(
        r"[\w-]+", error.partition(" is wrong: ")[2].partition(" are accepted")[0].replace(" and ", ", ")
    )
    assert len(accepted) > 1
    values = shown(entries(page, "KEYS OF A SERVICE")[key].splitlines()[0])
    assert re.findall(r"'([\w-]+)'", values) == accepted


def test_every_state_of_a_service_is_there_and_no_other(page: Path) -> None:
    states = re.findall(r"^\.TP\n\.B (\w+)$", section(page, "THE LIFE OF A SERVICE"), re.MULTILINE)
    assert set(states) == {state for state, _ in life.TABLE} | set(life.LIVING) | set(life.FINAL)
    assert len(states) == len(set(states))


def test_every_name_that_json_has_is_there_and_no_other(page: Path) -> None:
    names = re.findall(r"^\.TP\n\.B (\w+)$", section(page, "STATUS"), re.MULTILINE)
    assert names == list(status.values(Life(Service("x", [], [])), None, None, 0.0, 0.0))


def test_the_whole_example_is_accepted_and_its_plan_shown(page: Path) -> None:
    content, plan = examples(section(page, "EXAMPLES"))
    found, errors = parse(content.encode(), "file")
    assert errors == []
    assert re.findall(r"^\d\. (\w+)$", plan, re.MULTILINE) == list(found.services)


def test_the_page_has_no_fault(page: Path) -> None:
    checked = subprocess.run(["mandoc", "-T", "lint", page], check=False, stdout=subprocess.PIPE, text=True)
    assert (checked.stdout, checked.returncode) == ("", 0)


def blocks(kind: str) -> list[str]:
    """The README's blocks of code of this kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language == kind]


def test_the_files_in_the_README_are_accepted(binary: str, tmp_path: Path) -> None:
    path = tmp_path / "services.toml"
    files = blocks("toml")
    assert files
    for content in files:
        path.write_text(content)
        done = subprocess.run([binary, "-nf", path], check=False, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, ""), content


def test_the_usage_in_the_README_is_the_help(binary: str) -> None:
    shown = subprocess.run([binary, "-h"], check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    assert shown in blocks("")
