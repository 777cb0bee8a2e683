"""The contract under full load: the soak of `make soak` for some seconds, and that it finds what it looks for."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from extension import ROOT, Extension
from harness import DEADLINE

SOAK = ROOT / "tests" / "soak" / "soak.py"
TIME_LIMIT = 3 * DEADLINE

FILLING = "2000"
"""Kilobytes: within seconds not every kind of load has come yet, as it has after a minute."""

DAMAGED = """#!{python} -S
import os, sys, types
sys.path.insert(0, {folder!r})
class Options:
    signal, daemon, grace = None, False, None
    words = [os.fsencode(word) for word in sys.argv[1:]]
sys.modules["run.cli"] = types.ModuleType("run.cli")
sys.modules["run.cli"].Options = Options
from run import children, log
from run.one.command import Command
reap, send, write, calls, kept = children.reap, children.Delivery.to, log.Log.write, [0], []
def every(n):
    calls[0] += 1
    return calls[0] % n == 0
{damage}
os._exit(Command(Options, log.Log(0)).run())
"""
"""A `run` without a command line of its own, and with a defect."""

DAMAGED_SERVICES = """#!{python} -S
import os, sys, types
if sys.argv[1] == "-c":
    os.execv({binary!r}, ["run", *sys.argv[1:]])
sys.path.insert(0, {folder!r})
class Options:
    mode, file, words, quiet, signal, grace, check = "-f", os.fsencode(sys.argv[2]), [], 0, None, None, False
sys.modules["run.cli"] = types.ModuleType("run.cli")
sys.modules["run.cli"].Options, sys.modules["run.cli"].MANY = Options, "-m"
from run.log import Log
from run.services import main
from run.services.output import Lines
take, calls = Lines.take, [0]
def lose(lines, data):
    calls[0] += 1
    return take(lines, data) if calls[0] % 99 else []
Lines.take = lose
os._exit(main.run_services(Options, Log(0)))
"""
"""The same with services: what they write is lost now and then."""

DEFECTS = {
    "memory is leaked": (
        "def leak(): kept.append(bytearray(1000)); return reap()\nchildren.reap = leak",
        "kB of private memory more",
    ),
    "small objects are leaked": (
        "def leak(): kept.extend(bytes(450) for _ in range(9)); return reap()\nchildren.reap = leak",
        "kB of living objects more",
    ),
    "descriptors are leaked": (
        "def leak(*words): every(999) and os.dup(2); return send(*words)\nchildren.Delivery.to = leak",
        "open descriptors",
    ),
    "a signal is lost": (
        "def lose(self, targets): return self if self.signum > 33 and every(99) else send(self, targets)\n"
        "children.Delivery.to = lose",
        r"was sent \d+ times, the command received \d+",
    ),
    "a signal is sent twice": (
        "def repeat(self, targets):\n"
        "    if self.signum > 33 and every(99): send(self, targets)\n"
        "    return send(self, targets)\n"
        "children.Delivery.to = repeat",
        "received other signals than were sent",
    ),
    "a line is lost": (
        "def lose(*words): every(999) or write(*words)\nlog.Log.write = lose",
        "the log counts other",
    ),
    "the log blocks": (
        "def block(self, level, text): os.write(2, f'run: [{level}] {text}\\n'.encode())\nlog.Log._say = block",
        r"not within [\d.]+ s: .*\(output read (slowly|not at all)\)",
    ),
}

NEVER = ("a signal is lost", "the log blocks")
"""Defects that show in what never comes."""


def soak(binary: str | Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Soak a binary, for as short a time as has everything in it."""
    argv = [sys.executable, str(SOAK), "--binary", str(binary), "--minutes", "0.1", "--warm-up", "1", "--phase", "1"]
    return subprocess.run(
        [*argv, "--slack", FILLING, *words], capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `run`, its extension included."""
    folder = tmp_path_factory.mktemp("package")
    Extension(folder, sanitized=False)
    shutil.copytree(ROOT / "run", folder / "run", ignore=shutil.ignore_patterns("*.c", "*.h"), dirs_exist_ok=True)
    return folder


def test_under_full_load_no_zombie_no_descriptor_more_no_signal_lost_and_all_counts_exact(binary: str) -> None:
    result = soak(binary, "--patience", str(DEADLINE), "--role", "pid-1", "--role", "subreaper")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_services_that_crash_and_flood_and_are_steered_lose_nothing_and_all_counts_are_exact(binary: str) -> None:
    result = soak(binary, "--patience", str(DEADLINE), "--role", "services")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_soak_finds_out_when(defect: str, package: Path, tmp_path: Path) -> None:
    damage, finding = DEFECTS[defect]
    damaged = tmp_path / "run"
    damaged.write_text(DAMAGED.format(python=sys.executable, folder=str(package), damage=damage))
    damaged.chmod(0o755)
    patience = "30" if defect in NEVER else str(DEADLINE)
    result = soak(damaged, "--patience", patience, "--role", "subreaper")
    assert result.returncode == 1
    assert re.search(finding, result.stderr), result.stderr + result.stdout


def test_the_soak_finds_out_when_a_line_of_a_service_is_lost(binary: str, package: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run"
    damaged.write_text(DAMAGED_SERVICES.format(python=sys.executable, folder=str(package), binary=binary))
    damaged.chmod(0o755)
    result = soak(damaged, "--patience", "30", "--role", "services")
    assert result.returncode == 1
    assert re.search(r"lines of std(out|err) are wrong|line \d+ of std(out|err)", result.stderr), (
        result.stderr + result.stdout
    )
