"""The pipeline of LINK=static on a copy of the sources, to be changed by a test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".work" / "static"
PYTHON = WORK / "venv" / "bin" / "python"

REFREEZE = """
import marshal, re, struct, sys
from pathlib import Path
generated, source = map(Path, sys.argv[1:])
code = marshal.dumps(compile(source.read_bytes(), "run.py", "exec", dont_inherit=True, optimize=2))
data = ",".join(map(str, code))
table = generated / "frozen.c"
text = re.sub(r"(code_run\\[\\] = {)[^}]*", lambda found: found[1] + data, table.read_text())
table.write_text(re.sub(r"(code_run, .size = )\\d+", lambda found: found[1] + str(len(code)), text))
before, name, after = (generated / "modules").read_bytes().partition(b"\\0run\\0\\1")
after = after[4 + struct.unpack("<i", after[:4])[0] :]
(generated / "modules").write_bytes(before + name + struct.pack("<i", len(code)) + code + after)
"""
"""Puts another source of one module into the tables of frozen modules, which saves PyInstaller's analysis."""


UNSOUND = "build: the snapshot"


class Pipeline:
    """build/static/build.sh on a copy of the sources."""

    def __init__(self, folder: Path) -> None:
        """Make the copy."""
        self.folder = folder
        for name in "run", "spec", "build":
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._tools = folder / "tools"
        self._tools.mkdir()
        self.target = folder / "dist" / "run"

    def edit(self, name: str, old: str, new: str, count: int = 1) -> None:
        """Replace text of a source file; it has to be there."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == count, (name, old)
        path.write_text(text.replace(old, new))

    def append(self, text: str) -> None:
        """Add lines to the module that every other one of the package imports first."""
        with (self.folder / "run" / "__init__.py").open("a") as file:
            file.write(f"\n{text}")

    def tool(self, name: str, script: str, shell: str = "#!/bin/bash\n") -> Path:
        """Put a shell script of that name before all others in PATH."""
        path = self._tools / name
        path.write_text(f"{shell}{script}\n")
        path.chmod(0o755)
        return path

    def build(self, analyse: bool, python_version: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it. Without analyse the modules that the last real build has frozen are taken, to save time."""
        extensions = list((WORK / "venv").glob("lib/python3.*/site-packages/run/_kernel*.so"))
        shutil.copy(extensions[0], self.folder / "run")
        again = self.tool("refreeze.py", REFREEZE, "")
        frozen = f'"$RUN_WORK/generated" "{self.folder}/run/__init__.py"'
        copy = f'cp -r "{WORK}/generated" "$RUN_WORK" && exec "{PYTHON}" "{again}" {frozen}'
        generated = "" if analyse else f"-m\\ PyInstaller*) {copy} ;;"
        fake = f"*version_info*) echo {python_version}; exit ;;" if python_version else ""
        python = self.tool("python", f'case "$*" in {fake} {generated} esac\nexec "{PYTHON}" "$@"')
        environment = {
            **{name: value for name, value in os.environ.items() if name != "SNAPSHOT"},
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "SOURCE_DATE_EPOCH": "0",
            **variables,
        }
        script = self.folder / "build" / "static" / "build.sh"
        words = [str(script), str(python), str(self.folder / "work"), str(self.target)]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    def complaint(self, analyse: bool) -> str:
        """Build, which has to fail: what it says about the snapshot, in its only line that is about it."""
        result = self.build(analyse)
        assert result.returncode != 0, "the build has found nothing"
        assert not self.target.exists()
        lines = [line for line in result.stderr.splitlines() if line.startswith(f"{UNSOUND} ")]
        assert len(lines) == 1, result.stderr
        assert "Traceback" not in result.stderr
        return lines[0]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """The pipeline, where this machine can build with LINK=static."""
    if not (WORK / "generated" / "frozen.c").exists():
        pytest.skip("not built with LINK=static")
    return Pipeline(tmp_path)
