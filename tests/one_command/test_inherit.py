"""Contract, "Starting the command": what the command inherits is what `run` was given, to the byte."""

import ctypes
import os
import resource
import subprocess
from pathlib import Path

import pytest
from harness import Starter
from hypothesis import given, settings
from hypothesis import strategies as st
from probe import Probe

some = settings(max_examples=25)

strings = st.binary(max_size=50).map(lambda value: value.replace(b"\0", b""))
entries = st.one_of(
    strings,
    st.tuples(st.sampled_from([b"A", b"LD_LIBRARY_PATH", b"PYTHONHOME", b"PATH", b"LC_ALL"]), strings).map(b"=".join),
)

FOR_THE_COMMAND = [
    b"PYTHONHOME=/nowhere",
    b"PYTHONPATH=/nowhere",
    b"PYTHONINSPECT=1",
    b"PYTHONVERBOSE=3",
    b"PYTHONMALLOC=debug",
    b"PYTHONUTF8=0",
    b"PYTHONIOENCODING=no-such-encoding",
    b"PYTHONWARNINGS=error",
    b"PYTHONFAULTHANDLER=1",
    b"PYTHONPROFILEIMPORTTIME=1",
    b"PYTHONDUMPREFS=1",
    b"PYTHONSAFEPATH=1",
    b"PYTHONBREAKPOINT=os.abort",
    b"LD_LIBRARY_PATH=/nowhere:/tmp",
    b"LD_BIND_NOW=1",
    b"LD_ORIGIN_PATH=/nowhere",
    b"LD_PROFILE_OUTPUT=/nowhere",
    b"LC_ALL=xx_XX.no-such-charset",
    b"LC_CTYPE=de_DE.ISO-8859-1",
    b"LANG=zz",
    b"LANGUAGE=zz",
    b"LOCPATH=/nowhere",
    b"NLSPATH=/nowhere",
    b"GCONV_PATH=/nowhere",
    b"TZ=:/nowhere/at-all",
    b"TZDIR=/nowhere",
    b"GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.perturb=255",
    b"MALLOC_ARENA_MAX=1",
    b"MALLOC_PERTURB_=7",
    b"_PYI_ARCHIVE_FILE=/nowhere",
    b"_PYI_PARENT_PROCESS_LEVEL=1",
    b"_PYI_APPLICATION_HOME_DIR=/nowhere",
    b"_MEIPASS2=/nowhere",
    b"TMPDIR=/nowhere",
    b"HOME=/nowhere",
    b"IFS=x",
    b"BASH_FUNC_x%%=() { :; }",
]


def test_everything_is_inherited(probe: Probe) -> None:
    assert probe.difference() == {}


def test_the_comparison_sees_a_change(probe: Probe) -> None:
    direct, through = probe.both()
    assert direct["environ"] and direct["cmdline"] and direct["limits"] and direct["cwd"] and direct["fd.0"]
    assert direct["death-signal"] != through["death-signal"]
    assert probe.run([b"/usr/bin/nice", *probe.words()])["niceness"] != direct["niceness"]


@some
@given(environment=st.lists(entries, max_size=12))
def test_the_environment_with_its_order_duplicates_and_any_bytes(probe: Probe, environment: list[bytes]) -> None:
    direct, through = probe.both(env=environment)
    assert direct["environ"] == b"".join(entry + b"\0" for entry in environment)
    assert through["environ"] == direct["environ"]


@pytest.mark.parametrize(
    "environment",
    [
        [],
        [b""],
        [b"", b"", b"=", b"=C:=x"],
        [b"no-equals-sign", b"A=1", b"no-equals-sign"],
        [b"PATH=/one", b"PATH=/two", b"A=2", b"A=1", b"A=2"],
        [b"\xff\xfe=\x80\xc0", b"\xe4=\xf6", b"N=\n\x1b[1m"],
        [b"BIG=" + b"x" * 100_000],
        [b"V%d=%d" % (i, i) for i in range(5000)],
        FOR_THE_COMMAND,
        [entry for entry in FOR_THE_COMMAND for _ in range(2)],
    ],
    ids=[
        "none",
        "empty-entry",
        "odd-entries",
        "no-equals",
        "duplicates",
        "not-utf-8",
        "big",
        "many",
        "known",
        "known-twice",
    ],
)
def test_the_environment(probe: Probe, environment: list[bytes]) -> None:
    assert probe.difference(env=environment) == {}


@pytest.mark.parametrize("variable", FOR_THE_COMMAND)
def test_a_variable_meant_for_the_command(probe: Probe, variable: bytes) -> None:
    direct, through = probe.both(env=[b"FIRST=1", variable, b"LAST=1"])
    assert direct["environ"].startswith(b"FIRST=1\0" + variable.partition(b":")[0])
    assert through["environ"] == direct["environ"]


def test_the_environment_when_the_kernel_asks_for_secure_execution(probe: Probe) -> None:
    """AT_SECURE of getauxval(3), here by a real user id that is not the effective one: libc drops LD_* then."""
    environment = [b"LD_LIBRARY_PATH=/nowhere", b"TMPDIR=/nowhere", b"MALLOC_ARENA_MAX=1", b"LOCPATH=/nowhere", b"A=1"]
    direct, through = probe.both(env=environment, setup=lambda: os.setresuid(65534, 0, 0))
    assert direct["environ"] == b"".join(entry + b"\0" for entry in environment)
    assert through["environ"] == direct["environ"]


@some
@given(arguments=st.lists(strings, max_size=12))
def test_arguments_of_any_bytes(probe: Probe, arguments: list[bytes]) -> None:
    direct, through = probe.both(*arguments)
    assert direct["cmdline"].endswith(b"".join(b"\0" + argument for argument in arguments) + b"\0")
    assert through["cmdline"] == direct["cmdline"]


@pytest.mark.parametrize(
    "word", [b"", b"-q", b"-s", b"--", b"-h", b"--help", b"-", b"\xff", b"CMD", b"ARGS", b"\n", b"=", b"[--]"]
)
def test_a_word_that_could_be_mistaken(probe: Probe, word: bytes) -> None:
    assert probe.difference(word, b"between", word, word) == {}


def test_thousands_of_arguments(probe: Probe) -> None:
    assert probe.difference(*[b"%d" % i for i in range(5000)]) == {}


@pytest.mark.parametrize("name", [b"plain", b"\xff\xfe", "ä\n".encode()])
def test_the_working_directory(probe: Probe, tmp_path: Path, name: bytes) -> None:
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    assert probe.difference(setup=lambda: os.chdir(folder)) == {}


def test_a_working_directory_that_was_removed(probe: Probe, tmp_path: Path) -> None:
    def setup() -> None:
        folder = tmp_path / "gone"
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()

    direct, through = probe.both(setup=setup)
    assert through["cwd"] == direct["cwd"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077, 0o111, 0o777])
def test_the_umask(probe: Probe, umask: int) -> None:
    direct, through = probe.both(setup=lambda: os.umask(umask))
    assert f"Umask:\t{umask:04o}".encode() in direct["status"]
    assert f"Umask:\t{umask:04o}".encode() in through["status"]


@pytest.mark.parametrize(
    "name", sorted(name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE")
)
def test_resource_limits(probe: Probe, name: str) -> None:
    which = getattr(resource, name)
    soft, hard = resource.getrlimit(which)
    low = {"RLIMIT_NOFILE": 40, "RLIMIT_CPU": 1000, "RLIMIT_NICE": 0, "RLIMIT_RTPRIO": 0}.get(name, 300_000_000)
    for limits in ((low, hard), (low, low)):
        if hard == resource.RLIM_INFINITY or low <= hard:
            assert probe.difference(setup=lambda limits=limits: resource.setrlimit(which, limits)) == {}  # type: ignore[misc]
    assert probe.difference(setup=lambda: resource.setrlimit(which, (soft, hard))) == {}


def test_a_soft_limit_of_the_stack_without_end(probe: Probe) -> None:
    limits = (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_STACK)[1])
    if limits[1] == resource.RLIM_INFINITY:
        assert probe.difference(setup=lambda: resource.setrlimit(resource.RLIMIT_STACK, limits)) == {}


def test_the_niceness(probe: Probe) -> None:
    direct, through = probe.both(setup=lambda: os.nice(7))
    assert direct["niceness"] == through["niceness"] != b"0"


def test_the_scheduling_policy_and_cpu_affinity(probe: Probe) -> None:
    def setup() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    assert probe.difference(setup=setup) == {}


def test_the_score_of_the_out_of_memory_killer(probe: Probe) -> None:
    def setup() -> None:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("321")

    direct, through = probe.both(setup=setup)
    assert direct["oom-score-adj"] == through["oom-score-adj"] == b"321\n"


def test_no_new_privileges_and_timer_slack(probe: Probe) -> None:
    def setup() -> None:
        libc = ctypes.CDLL(None)
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        libc.prctl(29, 123_456, 0, 0, 0)  # PR_SET_TIMERSLACK

    assert probe.difference(setup=setup) == {}


def test_user_groups_and_capabilities(probe: Probe) -> None:
    def setup() -> None:
        os.setgroups([1, 2, 3])
        os.setresgid(4, 5, 6)

    assert probe.difference(setup=setup) == {}


def test_the_session(probe: Probe) -> None:
    direct, through = probe.both()
    assert direct["session"] == through["session"]


def test_an_LD_PRELOAD_reaches_the_command_and_works_there_only(start: Starter, tmp_path: Path) -> None:
    library = tmp_path / "preloaded.so"
    source = (
        '#include <unistd.h>\n__attribute__((constructor)) static void here(void) { (void)!write(1, "loaded ", 7); }'
    )
    flags = ["-shared", "-fPIC", "-x", "c", "-"]
    subprocess.run(["gcc", *flags, "-o", str(library)], input=source.encode(), check=True)
    code, out, _ = start.result("printenv", "LD_PRELOAD", env={"LD_PRELOAD": str(library), "PATH": os.environ["PATH"]})
    assert (code, out) == (0, f"loaded {library}\n")
