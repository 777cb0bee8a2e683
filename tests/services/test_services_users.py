"""Contract, "Users", for services: who each is, what is refused before the start, what follows from another user."""

import grp
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import DEADLINE, WITHOUT_PROC, Started, Starter
from identity import OTHER, WHO, as_user, etc, expected, identified, in_user_namespace, without
from known_users import ALONE, ALPINE_KNOWN, EMPTY_PART, KNOWN, UNKNOWN
from serving import FOREVER, PID_1, Journal, Keys, Server, events

from run.services.users import User

NOBODY = "65534:65534"
UNSHARED = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")


def said(started: Started, name: str) -> str:
    """What a service has written, without its name."""
    return "".join(re.findall(rf"^{re.escape(name)} +\| (.*\n)", started.out(), re.MULTILINE))


def check(serve: Server, known: Sequence[tuple[str, User]], prefix: tuple[str, ...]) -> None:
    """Start a service for each of these users, all together, and see who they are."""
    services = {f"s{number}": {"command": WHO, "oneshot": True, "user": spec} for number, (spec, _) in enumerate(known)}
    started = serve(services, "-q", prefix=prefix, **OTHER)
    assert (started.wait(), started.log()) == (0, "")
    for number, (spec, user) in enumerate(known):
        assert identified(said(started, f"s{number}")) == expected(user), spec


def test_each_is_its_user(serve: Server, odd_etc: tuple[str, ...]) -> None:
    check(serve, KNOWN, odd_etc)


def test_as_pid_1_too(serve: Server, odd_etc: tuple[str, ...]) -> None:
    check(serve, KNOWN, (*odd_etc, *UNSHARED))


def test_with_the_users_of_alpine(serve: Server, alpine_etc: tuple[str, ...]) -> None:
    check(serve, ALPINE_KNOWN, alpine_etc)


def test_without_passwd_and_group(serve: Server, empty_etc: tuple[str, ...]) -> None:
    check(serve, ALONE, empty_etc)


def test_where_passwd_and_group_may_not_be_read(serve: Server, closed_etc: tuple[str, ...]) -> None:
    check(serve, ALONE, closed_etc)


def test_a_name_in_a_file_that_may_not_be_read_is_one_line_for_each_service(
    serve: Server, closed_etc: tuple[str, ...]
) -> None:
    users = {"a": "root", "b": "5:users", "c": "5:5"}
    services = {name: {"command": "echo up", "user": user} for name, user in users.items()}
    code, out, log = serve.result(services, prefix=closed_etc)
    assert (code, out) == (125, "")
    assert [line.rpartition("user: ")[2] for line in log.splitlines()] == [
        "/etc/passwd cannot be read: Permission denied",
        "/etc/group cannot be read: Permission denied",
    ]


def test_a_containers_root_may_look_at_run_as_ever(serve: Server, start: Starter) -> None:
    """/proc/1/fd/1 is where jobs of cron write to; a change of user would close it to who lacks CAP_SYS_PTRACE."""
    looks = "cat /proc/$PPID/environ >/dev/null && echo hello >/proc/$PPID/fd/1"
    services = {"other": {"command": FOREVER, "user": "1000:1000"}, "web": {"command": looks, "depends_on": ["other"]}}
    code, out, _ = serve.result(services, prefix=without("sys_ptrace"))
    assert (code, out) == (0, "hello\n")
    started = start("-u", "1000:1000", "sleep", "1000")
    started.wait_log("started")
    cat = (*without("sys_ptrace"), "cat", f"/proc/{started.pid}/environ")
    assert subprocess.run(cat, stdout=subprocess.DEVNULL, timeout=DEADLINE, check=False).returncode == 0


def test_with_the_systems_own_users(serve: Server) -> None:
    known = []
    for entry in pwd.getpwall():
        members = {group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem}
        groups = (entry.pw_gid, *members - {entry.pw_gid})
        user = User(entry.pw_uid, entry.pw_gid, groups, entry.pw_dir.encode() or b"/", entry.pw_name.encode())
        known += [(entry.pw_name, user), (f"{entry.pw_uid}:users", user._replace(gid=100, groups=(100,)))]
    check(serve, known, ())


# -- What is refused ---------------------------------------------------------------------------------------------------


def test_each_one_who_is_nobody_is_one_line_and_nothing_is_started(
    serve: Server, odd_etc: tuple[str, ...], journal: Journal
) -> None:
    specs = [*UNKNOWN, *EMPTY_PART]
    bad = {f"s{number}": {"command": journal.note("started"), "user": spec} for number, spec in enumerate(specs)}
    started = serve({"good": {"command": journal.note("started")}, **bad}, prefix=odd_etc)
    assert started.wait() == 125
    lines = started.log().splitlines()
    assert len(lines) == len(specs)
    for number, line in enumerate(lines):
        assert re.fullmatch(rf"run: \[error\] /\S+\.toml: s{number}: user: .* accepted.*", line)
    assert (started.out(), journal.lines()) == ("", [])


@PID_1
@pytest.mark.parametrize("missing", ["kill", "setuid", "setgid"])
def test_without_the_capability_for_another_user_nothing_is_started(
    serve: Server, journal: Journal, missing: str, pid_1: bool
) -> None:
    """Of CAP_KILL too: no stop would reach it."""
    services = {
        "root": {"command": journal.note("started")},
        "same": {"command": journal.note("started"), "user": "0:0"},
        "other": {"command": journal.note("started"), "user": NOBODY},
        "another": {"command": journal.note("started"), "user": "1000"},
    }
    started = serve(services, prefix=(*(UNSHARED if pid_1 else ()), *without(missing)))
    assert started.wait() == 125
    lines = started.log().splitlines()
    assert [line.partition(": user: ")[0] for line in lines] == ["run: [error] other", "run: [error] another"]
    assert all(f"CAP_{missing.upper()}" in line for line in lines)
    assert journal.lines() == []


def test_another_group_of_the_same_user_takes_CAP_SETGID_alone(serve: Server) -> None:
    services = {"web": {"command": "id -g", "user": "0:77"}}
    assert serve.result(services, "-q", prefix=without("kill", "setuid")) == (0, "web | 77\n", "")
    assert serve.result(services, "-q", prefix=without("setgid"))[0] == 125


def test_as_another_user_than_root_its_own_ids_are_accepted_and_no_others(
    copied: Starter, public: Path, journal: Journal
) -> None:
    """One image serves as root and with Kubernetes's runAsUser."""
    serve = Server(copied, public)
    services = {"web": {"command": WHO, "user": "1234:1235"}, "plain": {"command": WHO, "essential": False}}
    started = serve(services, "-q", **as_user(1234, 1235))
    assert (started.wait(), started.log()) == (0, "")
    assert identified(said(started, "web")) == User(1234, 1235, (), b"/", b"1234")
    for spec in ("1234", "1234:1236", "0", "1235:1235"):
        started = serve({"web": {"command": "echo started", "user": spec}}, **as_user(1234, 1235))
        assert (started.wait(), started.out()) == (125, "")
        assert re.fullmatch(r"run: \[error\] web: user: not permitted to become [^\n]+\n", started.log())


@pytest.mark.parametrize(("spec", "missing"), [("20000", "uid 20000"), ("1:20001", "gid 20001")])
def test_an_id_that_does_not_exist_in_the_user_namespace_is_one_line(
    spec: str, missing: str, serve: Server, start: Starter, journal: Journal
) -> None:
    services = {"web": {"command": journal.note("web"), "user": spec}, "fine": {"command": "true", "user": "7:7"}}
    line = f"{missing} does not exist in this user namespace: accepted are 0 to 10000 (/proc/self/{missing[:3]}_map)"
    mapped = in_user_namespace(10001)
    assert serve.result(services, prefix=mapped) == (125, "", f"run: [error] web: user: {line}\n")
    assert journal.lines() == []
    assert start.result("-u", spec, "true", prefix=mapped) == (125, "", f"run: [error] option '-u': {line}\n")
    assert start.result("-qu", "7:7", "id", "-u", prefix=mapped) == (0, "7\n", "")


def test_where_groups_cannot_be_set_nothing_is_started(serve: Server, start: Starter, journal: Journal) -> None:
    """Though all ids exist: as in a user namespace that its owner made without the help of root."""
    services = {
        "first": {"command": journal.note("first"), "oneshot": True},
        "web": {"command": "true", "user": "7:7", "depends_on": ["first"]},
    }
    line = "not permitted to set groups in this user namespace: /proc/self/setgroups is 'deny'"
    denied = in_user_namespace(10001, "deny")
    assert serve.result(services, prefix=denied) == (125, "", f"run: [error] web: user: {line}\n")
    assert journal.lines() == []
    assert start.result("-u", "7:7", "true", prefix=denied) == (125, "", f"run: [error] option '-u': {line}\n")
    assert start.result("-qu", "0:0", "id", "-u", prefix=denied) == (0, "0\n", "")


def test_for_the_ids_that_run_has_nothing_is_called(binary: str, serve: Server, tmp_path: Path) -> None:
    file = serve.file({"web": {"command": "true", "user": "root"}, "plain": {"command": "true"}})
    trace = tmp_path / "trace"
    calls = "setgroups,setresgid,setresuid,capset"
    words = ("-qq", "-f", "-e", "signal=none", "-o", str(trace), "-e", f"trace={calls}")
    assert Starter("strace", tmp_path).result(*words, binary, "-f", str(file))[0] == 0
    assert trace.read_text() == ""


@pytest.mark.parametrize("user", ["65534", "1:1"])
def test_where_the_kernel_refuses_all_the_same_it_is_one_line_and_125(
    serve: Server, journal: Journal, user: str
) -> None:
    """In a user namespace that has no such user, where `run` has all capabilities, and no /proc to look it up."""
    services = {
        "web": {"command": journal.note("started"), "user": user},
        "first": {"command": journal.note("started")},
    }
    started = serve(services, "-q", prefix=("unshare", "--user", "--map-root-user", *WITHOUT_PROC))
    assert (started.wait(), started.out()) == (125, "")
    assert re.fullmatch(r"run: \[error\] [^\n]+(Operation not permitted|Invalid argument)[^\n]*\n", started.log())
    assert "internal" not in started.log()


def test_an_unreadable_passwd_is_one_line_where_a_user_is_asked_for_and_none_where_not(
    serve: Server, tmp_path: Path
) -> None:
    prefix = etc(tmp_path / "etc", None, None)
    (tmp_path / "etc" / "passwd").mkdir()
    code, out, log = serve.result({"web": {"command": "echo up", "user": "app"}}, prefix=prefix)
    assert (code, out) == (125, "")
    assert "/etc/passwd cannot be read: it is not a regular file" in log.splitlines()[0]
    assert serve.result({"web": {"command": "echo up"}}, "-q", prefix=prefix) == (0, "web | up\n", "")


def test_nothing_but_the_two_files_is_read_and_not_even_those_without_need(
    binary: str, serve: Server, tmp_path: Path
) -> None:
    """Not what the C library would want: nsswitch.conf, shared objects, a socket of nscd."""
    trace = tmp_path / "trace"
    strace = Starter("strace", tmp_path)
    words = ("-qq", "-o", str(trace), "-e", "signal=none", "-e", "trace=?open,openat,connect")
    for user, files in (({"user": "nobody"}, ["/etc/passwd", "/etc/group"]), ({}, [])):
        file = serve.file({"web": {"command": ["/bin/true"], **user}})
        assert strace.result(*words, binary, "-f", str(file))[0] == 0
        opened = re.findall(r'"(/(?:etc|lib|usr|var|run)/[^"]*)"', trace.read_text())
        assert opened == files


# -- What follows ------------------------------------------------------------------------------------------------------


def test_HOME_USER_and_LOGNAME_are_those_of_environment_where_it_has_them(serve: Server) -> None:
    keys = {"command": "echo $HOME $USER $LOGNAME", "user": NOBODY}
    environments: dict[str, Keys] = {
        "a": {},
        "b": {"environment": {"HOME": "/own"}},
        "c": {"environment": {"USER": "me", "LOGNAME": "too"}},
        "d": {"unset_environment": ["HOME"]},
    }
    _, out, _ = serve.result({name: {**keys, **more, "oneshot": True} for name, more in environments.items()}, "-q")
    assert sorted(out.splitlines()) == [
        *("a | /nonexistent nobody nobody", "b | /own nobody nobody", "c | /nonexistent me too", "d | nobody nobody"),
    ]


def test_without_user_they_are_what_run_was_given(serve: Server) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/given", "USER": "giver"}
    out = serve.result({"web": {"command": 'echo "$HOME $USER $LOGNAME"'}}, "-q", env=environment)[1]
    assert out == "web | /given giver \n"


def test_the_directory_is_entered_after_the_switch(serve: Server, public: Path) -> None:
    """One that is only the user's own, where root has no right to it; and one that is not the user's."""
    own, roots = public / "own", public / "roots"
    own.mkdir(mode=0o700)
    os.chown(own, 65534, 65534)
    roots.mkdir(mode=0o700)
    services = {"web": {"command": "pwd", "user": NOBODY, "working_dir": str(own)}}
    prefix = without("dac_override", "dac_read_search")
    assert serve.result(services, "-q", prefix=prefix) == (0, f"web | {own}\n", "")
    code, out, log = serve.result({"web": {**services["web"], "working_dir": str(roots)}}, "-q")
    assert (code, out) == (126, "")
    assert log == f"run: [error] web: cannot enter the directory {roots}: Permission denied\n"


def test_the_command_is_looked_up_as_that_user(serve: Server, public: Path) -> None:
    (public / "tool").write_text("#!/bin/sh\necho started\n")
    (public / "tool").chmod(0o700)
    code, out, log = serve.result({"web": {"command": [str(public / "tool")], "user": NOBODY}}, "-q")
    assert (code, out) == (126, "")
    assert "Permission denied" in log


@PID_1
def test_what_another_user_has_is_signalled_stopped_and_killed(serve: Server, catcher: str, pid_1: bool) -> None:
    started = serve(
        {
            "a": {"command": [catcher, "a"], "user": NOBODY},
            "deaf": {"command": f"trap '' TERM; echo ready; {FOREVER}", "user": "1000", "stop_grace_period": 0.3},
        },
        "-t3600",
        pid_1=pid_1,
    )
    started.wait_out("a ready")
    started.wait_out("deaf | ready")
    started.send(signal.SIGHUP)
    started.wait_out("a got 1 ")
    started.send(signal.SIGTERM)
    assert started.wait() == 137
    assert "cannot send" not in started.log()
    assert events(started, "a")[-1] == "exited with code 0; stopped"


@pytest.mark.parametrize("stop_signal", ["TERM", "USR2"])
def test_the_parent_death_signal_is_the_stop_signal_whoever_it_is(serve: Server, stop_signal: str) -> None:
    """Though the kernel clears it when the user changes: prctl(2)."""
    program = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0); print(n.value)"
    keys = {"command": ["python3", "-I", "-S", "-c", program], "stop_signal": stop_signal, "oneshot": True}
    code, out, _ = serve.result({"a": {**keys, "user": NOBODY}, "b": keys, "c": {**keys, "user": "0:5"}}, "-q")
    assert code == 0
    number = signal.Signals[f"SIG{stop_signal}"].value
    assert sorted(out.splitlines()) == [f"a | {number}", f"b | {number}", f"c | {number}"]


def test_the_limit_of_a_users_processes_is_that_of_the_service(serve: Server) -> None:
    """RLIMIT_NPROC: a second process is one too many for this user, and not for root: execve(2), EAGAIN."""
    first = {"command": FOREVER, "user": "54399:54399"}
    second = {**first, "command": "echo up", "depends_on": ["first"]}
    services = {"first": first, "root": {"command": FOREVER}, "second": second}
    started = serve(services, prefix=("prlimit", "--nproc=0"))
    assert (started.wait(), started.out()) == (126, "")
    (line,) = [line for line in started.log().splitlines() if "[error]" in line]
    assert line.startswith("run: [error] second: ") and "Resource temporarily unavailable" in line
