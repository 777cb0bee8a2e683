"""Contract, "Surroundings": what a service is given: a session, three files, a signal, and all else as it was."""

import os
import re
import resource
import signal
from pathlib import Path

import pytest
from probe import Probe, Report, set_blocked
from scratch import Scratch
from serving import FOREVER, PID_1, Keys, Line, Server, environment_without, wait_pid
from terminal_session import session

NULL = f"{os.stat('/dev/null').st_dev:x}:{os.stat('/dev/null').st_ino:x} "

ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")

VOLATILE = ("status", "session", "leads-its-group", "death-signal", "fd.0")


@pytest.fixture
def both(probe: Probe, serve: Server, binary: str) -> "Both":
    """The probe, started directly and as a service."""
    return Both(probe, serve, binary)


class Both:
    """What the probe sees when it is started directly, and as a service that has the output of `run`."""

    def __init__(self, probe: Probe, serve: Server, binary: str) -> None:
        self.probe = probe
        self._serve = serve
        self._binary = binary

    def through(self, keys: Keys, setup: object = None, env: list[bytes] | None = None) -> Report:
        """What it sees as a service with these keys."""
        words = [os.fsdecode(word) for word in self.probe.words()]
        file = self._serve.file({"web": {"command": words, "output": "inherit", **keys}})
        start = [os.fsencode(self._binary), b"-qq", b"-f", os.fsencode(file)]
        return self.probe.run(start, setup or (lambda: None), env)  # type: ignore[arg-type]

    def changed(self, keys: Keys, setup: object = None, env: list[bytes] | None = None) -> set[str]:
        """The names of what is not the same, but for what the contract says that `run` changes."""
        direct = self.probe.run(self.probe.words(), setup or (lambda: None), env)  # type: ignore[arg-type]
        through = self.through(keys, setup, env)
        names = direct.keys() | through.keys()
        return {name for name in names if name not in VOLATILE and direct.get(name) != through.get(name)}


# -- A session and three files -----------------------------------------------------------------------------------------


@PID_1
def test_each_leads_a_session_and_a_process_group_of_its_own(serve: Server, pid_1: bool) -> None:
    names = ("a", "b", "c")
    started = serve({name: {"command": FOREVER} for name in names}, pid_1=pid_1)
    pids = [wait_pid(started, name) for name in names]
    assert [os.getsid(pid) for pid in pids] == [os.getpgid(pid) for pid in pids] == pids
    started.send(signal.SIGTERM)
    assert started.wait() == 0


def test_none_has_a_controlling_terminal(binary: str, serve: Server) -> None:
    """Though `run` has: its number is the seventh field of proc(5), stat."""
    script = "read _ _ _ _ _ _ tty _ </proc/self/stat; echo tty=$tty; exec 3</dev/tty && echo op1ned | tr 1 e"
    file = serve.file({"web": {"command": script, "oneshot": True}})
    with session(binary, "-f", str(file)) as terminal:
        shown = terminal.expect("exiting with code")
        assert "tty=0" in shown and "opened" not in shown


def test_stdin_is_dev_null_whatever_run_was_given(both: Both, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("not for services\n")

    def setup() -> None:
        os.dup2(os.open(given, os.O_RDONLY), 0)

    for output in ("inherit", "named", "plain", "null"):
        assert both.through({"output": output}, setup)["fd.0"].decode().startswith(NULL)


@pytest.mark.parametrize("output", ["named", "plain", "inherit", "null"])
def test_nothing_else_is_open(both: Both, output: str) -> None:
    """Neither of what `run` was given, nor of what it has for this service, for others and for itself."""

    def setup() -> None:
        for number in (3, 7, 200):
            os.dup2(1, number)

    report = both.through({"output": output}, setup)
    assert sorted(name for name in report if name.startswith("fd.")) == ["fd.0", "fd.1", "fd.2"]


def test_of_twenty_services_none_has_what_is_anothers(serve: Server) -> None:
    """Each has two pipes, and nobody else has them."""
    script = "for n in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$n; done; exit 0"
    daemon = {"command": f"sh -c '{script}' & exit 0", "daemon": True, "essential": False}
    services = {f"s{n:02}": {"command": script, "oneshot": True} for n in range(19)} | {"daemon": daemon}
    code, out, log = serve.result(services, "-q")
    assert (code, log) == (0, "")
    open_files = [re.findall(rf"^{name} +\| (.*)$", out, re.MULTILINE) for name in services]
    assert {tuple(re.sub(r"\d+", "N", file) for file in found) for found in open_files} == {
        ("/dev/null", "pipe:[N]", "pipe:[N]")
    }
    assert len({file for found in open_files for file in found}) == 41


@PID_1
def test_the_parent_death_signal_is_the_stop_signal(both: Both, pid_1: bool) -> None:
    for name, number in (("TERM", b"15"), ("QUIT", b"3"), ("RTMIN+1", b"35")):
        assert both.through({"stop_signal": name})["death-signal"] == number


@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_without_dev_null_stdin_is_the_read_end_of_a_closed_pipe(scratch: Scratch, user: str) -> None:
    script = "read x; echo end=$?; readlink /proc/self/fd/0; ls /dev"
    started = scratch({"web": {"command": script, "oneshot": True}}, "-q", mounts="proc", user=user)
    assert started.wait() == 0
    assert re.fullmatch(r"web \| end=1\nweb \| pipe:\[\d+\]\n", started.out())


MUCH = f"i=0; while [ $((i += 1)) -le 900 ]; do echo {'0123456789' * 41} || exit 9; done"
"""Writes more than a pipe of any size that `run` makes, in few lines: a life of 10 s begins the count of `:N` anew."""


@pytest.mark.parametrize("mounts", ["", "proc", "proc null"])
@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_output_that_is_null_takes_all_that_is_written_without_dev_null_too(
    scratch: Scratch, user: str, mounts: str
) -> None:
    """In each life, on both streams, and of a daemon."""
    keys = {"output": "null", "restart": "on-failure:2", "restart_delay": 0.001}
    writes = f"{MUCH}; {MUCH} >&2; printf half; exit 3"
    services = {
        "web": {**keys, "command": writes},
        "daemon": {**keys, "command": ["/bin/setsid", "/bin/sh", "-c", writes.replace("$", "$$")], "daemon": True},
    }
    for name, service in services.items():
        started = scratch({name: service}, mounts=mounts, user=user)
        assert (started.wait(), started.out()) == (3, ""), started.log()
        assert len(re.findall(rf"{name} \(pid \d+\): exited with code 3;", started.log())) == 3
        assert re.fullmatch(r"(run: \[(info|warn)\] [^\n]+\n)+", started.log())


@pytest.mark.parametrize("mounts", ["proc", "proc null"])
def test_output_that_is_null_can_be_opened_anew_by_the_services_user(scratch: Scratch, mounts: str) -> None:
    keys = {"command": f"{{ {MUCH}; }} >/proc/self/fd/1; exit 3", "output": "null", "user": "1000:1000"}
    started = scratch({"web": keys}, "-q", mounts=mounts)
    assert (started.wait(), started.out()) == (3, ""), started.log()


CLOSED = ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"]


@pytest.mark.parametrize("files", CLOSED)
@pytest.mark.parametrize("mounts", ["proc", "proc null"])
def test_with_files_closed_that_run_was_given_services_have_theirs(scratch: Scratch, files: str, mounts: str) -> None:
    """Also where there is no /dev/null to be in their place."""
    script = (
        "for n in 0 1 2; do readlink /proc/self/fd/$n || exit 1$n; done >/tmp/out; "
        "echo out || exit 4; echo err >&2 || exit 5; wc -l </tmp/out | grep -qw 3 || exit 6; exit 3"
    )
    keys = {"command": script.replace("grep -qw 3", "{ read n; [ $n = 3 ]; }")}
    started = scratch({"web": keys}, "-q", mounts=f"{mounts} tmp", files=files)
    assert started.wait() == 3, started.log()
    assert "out" in started.out() or "1>" in files
    assert "internal" not in started.log()
    assert ("web | err" in started.log()) == ("2>" not in files)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_inherit_gives_what_is_closed_closed(both: Both, closed: tuple[int, ...]) -> None:
    """But stdin, which is /dev/null."""

    def setup() -> None:
        for fd in closed:
            os.close(fd)

    report = both.through({"output": "inherit"}, setup)
    assert {int(name[3:]) for name in report if name.startswith("fd.")} == {0, 1, 2} - (set(closed) - {0})
    assert report["fd.0"].decode().startswith(NULL)


# -- All else ----------------------------------------------------------------------------------------------------------


def test_all_else_is_what_run_was_given_to_the_byte(both: Both, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def setup() -> None:
        os.chdir(folder)
        os.umask(0o137)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_CORE, (1234, 5678))
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        set_blocked({signal.SIGUSR2, 33, 40})
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    environment = [b"PATH=/bin", b"A=\xff\xfe", b"no equals", b"A=2", b"", b"=x", b"LD_PRELOAD=", b"PYTHONHOME=/x"]
    assert both.changed({}, setup, environment) == set()


def test_the_file_says_otherwise(both: Both, public: Path) -> None:
    (public / "dir").mkdir()
    environment = [b"PATH=/bin", b"KEEP=1", b"CHANGE=1", b"GONE=1", b"GONE=2", b"CHANGE=2"]
    keys = {
        "working_dir": str(public / "dir"),
        "umask": "027",
        "environment": {"CHANGE": "new", "NUMBER": 5, "REF": "${KEEP}-${NONE:-x}"},
        "unset_environment": ["GONE"],
    }
    assert both.changed(keys, None, environment) == {"cwd", "environ"}
    report = both.through(keys, None, environment)
    assert report["cwd"] == os.fsencode(public / "dir")
    assert re.search(rb"^Umask:\t0027$", report["status"], re.MULTILINE)
    assert report["environ"] == b"PATH=/bin\0KEEP=1\0CHANGE=new\0NUMBER=5\0REF=1-x\0"


def test_the_words_are_those_of_the_file_to_the_byte(both: Both) -> None:
    words = ["", " ", "a b", "\n", "$", "\u20ac", "'\"\\", "-x"]
    escaped = [word.replace("$", "$$") for word in words]
    first = [os.fsdecode(word) for word in both.probe.words()]
    report = both.through({"command": [*first, *escaped]})
    assert report["cmdline"].split(b"\0")[2:-1] == [word.encode() for word in words]


def test_the_command_is_looked_up_in_the_services_own_PATH_and_directory(serve: Server, public: Path) -> None:
    for name in ("tool", "sub/tool"):
        path = public / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {name}\n")
        path.chmod(0o755)
    services: dict[str, Keys] = {
        "a": {"command": ["tool"], "environment": {"PATH": str(public)}},
        "b": {"command": ["tool"], "environment": {"PATH": f"/none:{public}/sub:{public}"}},
        "c": {"command": ["./tool"], "working_dir": f"{public}/sub"},
        "d": {"command": ["sub/tool"], "working_dir": str(public)},
        "e": {"command": ["tool"], "working_dir": f"{public}/sub", "environment": {"PATH": ""}},
    }
    code, out, _ = serve.result({name: {**keys, "oneshot": True} for name, keys in services.items()}, "-q")
    assert code == 0
    assert sorted(out.splitlines()) == [
        *("a | tool", "b | sub/tool", "c | sub/tool", "d | sub/tool", "e | sub/tool"),
    ]


def test_without_PATH_it_is_looked_up_in_bin_and_usr_bin(serve: Server) -> None:
    keys = {"command": Line("echo found"), "unset_environment": ["PATH"]}
    assert serve.result({"web": keys}, "-q") == (0, "web | found\n", "")
    assert serve.result({"web": {"command": Line("echo found")}}, "-q", env={}) == (0, "web | found\n", "")


def test_a_script_without_an_interpreter_line_is_given_to_a_shell(serve: Server, public: Path) -> None:
    (public / "script").write_text("echo by sh: $0 $1\n")
    (public / "script").chmod(0o755)
    services = {"web": {"command": [str(public / "script"), "word"]}}
    assert serve.result(services, "-q") == (0, f"web | by sh: {public}/script word\n", "")


def test_variables_of_run_alone_are_no_secret(serve: Server) -> None:
    """NO_COLOR is a service's, too."""
    env = environment_without("NO_COLOR", NO_COLOR="1")
    assert serve.result({"web": {"command": "echo $NO_COLOR"}}, "-q", env=env)[1] == "web | 1\n"
