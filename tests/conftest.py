"""Which binary is tested, and what every test file needs to start it. See harness.py for the tools."""

import ctypes
import os
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from harness import Starter, signals
from hypothesis import HealthCheck, settings
from probe import Probe

TOOLS = "serving bundles engine extension faults pipeline identity scratch controlling answering faulty_sockets"
"""In this order: what uses another comes behind it."""
pytest_plugins = TOOLS.split()

ROOT = Path(__file__).resolve().parent.parent

# The machine may stand still for a while, and a fixture's folder may serve many examples.
settings.register_profile("run", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("run")

LONG = ("test_image", "test_examples", "test_soak", "test_containers", "test_services_chaos")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --binary: the same tests run against any binary."""
    parser.addoption("--binary", default=str(ROOT / "dist" / "run"), help="the `run` to test (default: dist/run)")


@pytest.fixture(scope="session")
def binary(request: pytest.FixtureRequest) -> str:
    """The path of the binary under test."""
    path = Path(request.config.getoption("--binary")).absolute()
    if not path.exists():
        pytest.exit(f"{path} is not there: type 'make build', or name another with --binary", 2)
    return str(path)


@pytest.fixture
def start(binary: str, tmp_path: Path) -> Iterator[Starter]:
    """Start the binary, as often as a test likes; whatever is left is killed at the end."""
    starter = Starter(binary, tmp_path)
    yield starter
    starter.kill_all()


@pytest.fixture(scope="session")
def probe(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """A program that writes down what it was given."""
    return Probe(tmp_path_factory.mktemp("probe"), binary)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        kill_all()  # what is left may write there while it is removed


def kill_all() -> None:
    """Kill whatever a test has left, also of a Starter that it has made itself."""
    while Starter.made:
        Starter.made.pop().kill_all()


@pytest.fixture(autouse=True)
def clean_up() -> Iterator[None]:
    """Leave nothing behind."""
    yield
    kill_all()


@pytest.fixture(autouse=True)
def static_only(request: pytest.FixtureRequest) -> None:
    """Skip what is marked as static only, for a reason, when the binary is a bundle that unpacks itself first."""
    marker = request.node.get_closest_marker("static_only")
    if marker and request.getfixturevalue("is_bundle"):
        pytest.skip(f"LINK=staticx: {marker.args[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a test that hung which processes there were, and what they waited for: nobody can look at it later."""
    report = yield
    if report.failed and "from pytest-timeout" in report.longreprtext:
        but_the_kernels = ("--deselect", "-p", "2", "--ppid", "2")
        columns = "pid,ppid,pgid,sid,stat,wchan:20,etimes,args"
        words = ("ps", *but_the_kernels, "--forest", "--width", "200", "-o", columns)
        listed = subprocess.run(words, capture_output=True, text=True, check=False)
        report.sections.append(("processes", listed.stdout))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first: each runs in one process, and none should be the last one to end."""
    items.sort(key=lambda item: not item.path.name.startswith(LONG))


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker static_only, and make no difference between ways to start the tests.

    Signals that were ignored get their default action: a shell ignores INT and QUIT for what it starts with &, and
    posix_spawn(3), as make uses it, leaves 32 and 33 ignored. The C library's functions refuse those: rt_sigaction(2).
    """
    config.addinivalue_line("markers", "static_only(reason): does not hold for a bundle that unpacks itself")
    number = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    default = (ctypes.c_long * 4)()
    for signum in signals(os.getpid(), "SigIgn") - {signal.SIGPIPE, signal.SIGXFSZ}:
        ctypes.CDLL(None).syscall(number, signum, default, None, 8)
