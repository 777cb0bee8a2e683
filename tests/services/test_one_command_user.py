"""Contract, "Users", for one command: `-u USER`; and "Starting the command": only what "Users" says is changed."""

import grp
import os
import pwd
import re
import signal
from pathlib import Path

import pytest
from harness import WITHOUT_PROC, Starter, wait_until, waiting_for
from identity import OTHER, WHO, as_user, etc, expected, identified, without
from known_users import ALONE, ALPINE_KNOWN, EMPTY_PART, KNOWN, UNKNOWN
from probe import Probe

from run.services.users import User

ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")


def who(start: Starter, spec: str, prefix: tuple[str, ...] = ()) -> User:
    """Who the command is that is started as this user."""
    code, out, log = start.result("-q", "-u", spec, "sh", "-c", WHO, prefix=prefix, **OTHER)
    assert (code, log) == (0, "")
    return identified(out)


@pytest.mark.parametrize(("spec", "user"), KNOWN)
def test_the_command_is_that_user(start: Starter, odd_etc: tuple[str, ...], spec: str, user: User) -> None:
    assert who(start, spec, odd_etc) == expected(user)


@pytest.mark.parametrize(("spec", "user"), ALPINE_KNOWN)
def test_with_the_users_of_alpine(start: Starter, alpine_etc: tuple[str, ...], spec: str, user: User) -> None:
    assert who(start, spec, alpine_etc) == expected(user)


@pytest.mark.parametrize(("spec", "user"), ALONE)
def test_without_passwd_and_group(start: Starter, empty_etc: tuple[str, ...], spec: str, user: User) -> None:
    assert who(start, spec, empty_etc) == expected(user)


@pytest.mark.parametrize(("spec", "user"), ALONE)
def test_where_passwd_and_group_may_not_be_read(
    start: Starter, closed_etc: tuple[str, ...], spec: str, user: User
) -> None:
    assert who(start, spec, closed_etc) == expected(user)


@pytest.mark.parametrize(
    ("spec", "file"), [("root", "passwd"), ("root:0", "passwd"), ("nobody:users", "passwd"), ("5:users", "group")]
)
def test_a_name_in_a_file_that_may_not_be_read_is_one_line(
    start: Starter, closed_etc: tuple[str, ...], spec: str, file: str
) -> None:
    said = f"run: [error] option '-u': /etc/{file} cannot be read: Permission denied\n"
    assert start.result("-u", spec, "echo", "started", prefix=closed_etc) == (125, "", said)


@pytest.mark.parametrize("entry", pwd.getpwall(), ids=lambda entry: entry.pw_name)
def test_with_the_systems_own_users(start: Starter, entry: pwd.struct_passwd) -> None:
    members = {group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem}
    groups = tuple(sorted({entry.pw_gid, *members}))
    user = User(entry.pw_uid, entry.pw_gid, groups, entry.pw_dir.encode() or b"/", entry.pw_name.encode())
    assert who(start, entry.pw_name) == user
    assert who(start, str(entry.pw_uid)) == user
    assert who(start, f"{entry.pw_name}:users") == user._replace(gid=100, groups=(100,))


@pytest.mark.parametrize("spec", [*UNKNOWN, *EMPTY_PART, ""], ids=lambda spec: ascii(spec[:24]))
def test_who_is_nobody_is_one_line_and_125(start: Starter, odd_etc: tuple[str, ...], spec: str) -> None:
    code, out, log = start.result("-u", spec, "echo", "started", prefix=odd_etc)
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and log.startswith("run: [error] option '-u': ") and "accepted" in log
    assert len(log) < 500


@pytest.mark.parametrize("spec", ["root", "0:root", "daemon"])
def test_a_name_where_the_file_is_missing_is_one_line_and_125(
    start: Starter, empty_etc: tuple[str, ...], spec: str
) -> None:
    code, out, log = start.result("-u", spec, "echo", "started", prefix=empty_etc)
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and "accepted" in log


def test_the_ids_that_run_has_already_take_no_call(binary: str, tmp_path: Path, copied: Starter) -> None:
    """Neither as root, nor as any other user; so it needs no capability, and takes no group away."""
    words = (
        "-qq",
        "-o",
        str(tmp_path / "trace"),
        "-f",
        "-e",
        "signal=none",
        "-e",
        "trace=setgroups,setresgid,setresuid",
    )
    code, out, log = Starter("strace", tmp_path).result(
        *words, binary, "-qu", "0:0", "sh", "-c", WHO, extra_groups=[77]
    )
    assert (code, log) == (0, "")
    assert (tmp_path / "trace").read_text() == ""
    assert identified(out).groups == (77,)
    code, out, log = copied.result("-qu", "1234:1235", "sh", "-c", WHO, **as_user(1234, 1235))
    assert (code, log) == (0, "")
    assert identified(out) == User(1234, 1235, (), b"/", b"1234")


def test_setgroups_setresgid_and_setresuid_are_called_in_that_order_and_then_the_parent_death_signal(
    binary: str, tmp_path: Path
) -> None:
    calls = "setgroups,setresgid,setresuid,prctl,execve"
    strace = Starter("strace", tmp_path)
    trace = tmp_path / "trace"
    code, _, _ = strace.result("-qq", "-o", str(trace), "-f", "-e", f"trace={calls}", binary, "-qu", "5:7", "true")
    assert code == 0
    switch = trace.read_text().partition("setgroups")[2].splitlines()
    names = ["setgroups", *(re.sub(r"^\d+ +(\w+)\(.*", r"\1", line) for line in switch[1:])]
    assert names[:5] == ["setgroups", "setresgid", "setresuid", "prctl", "execve"]
    assert switch[0].startswith("(1, [7])") and "(7, 7, 7)" in switch[1] and "(5, 5, 5)" in switch[2]
    assert "PR_SET_PDEATHSIG, SIGTERM" in switch[3]


@pytest.mark.parametrize("missing", ["kill", "setuid", "setgid"])
def test_what_is_not_permitted_is_one_line_and_125(start: Starter, missing: str) -> None:
    code, out, log = start.result("-u", "65534:65534", "echo", "started", prefix=without(missing))
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and f"CAP_{missing.upper()}" in log


@pytest.mark.parametrize("spec", ["0", "1234:1236", "1235:1235", "1234"])
def test_another_user_as_any_but_root_is_one_line_and_125(copied: Starter, spec: str) -> None:
    code, out, log = copied.result("-u", spec, "echo", "started", **as_user(1234, 1235))
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and "not permitted" in log


def test_in_a_user_namespace_that_has_no_such_user_it_is_one_line_and_125(start: Starter) -> None:
    """There are all capabilities, and the kernel refuses all the same: user_namespaces(7)."""
    code, out, log = start.result(
        "-u", "65534", "echo", "started", prefix=("unshare", "--user", "--map-root-user", *WITHOUT_PROC)
    )
    assert (code, out) == (125, "")
    errors = [line for line in log.splitlines() if "[error]" in line]
    assert len(errors) == 1 and re.search("cannot (set the supplementary groups|become the)", errors[0]), log


def test_a_signal_reaches_the_command_and_s_too(start: Starter) -> None:
    """Which takes CAP_KILL, once it is another user's."""
    started = start(
        "-s", "TERM", "-u", "65534:65534", "sh", "-c", 'setsid sleep 1000 & exec "$@"', "sh", *waiting_for("USR1", 7)
    )
    started.wait_out("ready")
    started.send(signal.SIGUSR1)
    assert started.wait() == 143
    assert "cannot send" not in started.log()


@pytest.fixture
def open_probe(public: Path, binary: str) -> Probe:
    """A probe that any user may execute, and that may write its report."""
    public.chmod(0o777)
    return Probe(public, binary)


def test_the_parent_death_signal_is_there(open_probe: Probe, binary: str) -> None:
    """Though the kernel clears it when the user changes: prctl(2)."""
    for options, number in (([], b"15"), ([b"-s", b"USR1"], b"10")):
        report = open_probe.run([os.fsencode(binary), b"-qq", *options, b"-u", b"65534", *open_probe.words()])
        assert report["death-signal"] == number
        (open_probe.path.parent / "report").unlink()


ENVIRONMENT = [
    *(b"PATH=/bin", b"HOME=/given", b"A=\xff\xfe", b"USER=given", b"no equals", b"A=2", b"LOGNAME=given", b"Z="),
]


def test_nothing_else_is_changed(open_probe: Probe, binary: str) -> None:
    """To the byte: beside the ids and the groups, HOME, USER and LOGNAME alone, at their place in the environment."""
    setpriv = b"/usr/bin/setpriv --reuid=65534 --regid=65533 --groups=65533".split()
    through_run = [os.fsencode(binary), b"-qqu", b"65534:65533"]
    direct, through = (
        open_probe.run([*words, *open_probe.words()], env=ENVIRONMENT) for words in (setpriv, through_run)
    )
    ids = [
        {line for line in report["status"].splitlines() if line.startswith((b"Uid", b"Gid", b"Groups", b"Cap", b"Sig"))}
        for report in (direct, through)
    ]
    assert ids[0] == ids[1] and len(ids[0]) > 10
    changed = {name for name in direct.keys() | through.keys() if direct.get(name) != through.get(name)}
    assert changed - {"status", "session"} == {"environ", "leads-its-group", "death-signal"}
    assert through["environ"].split(b"\0")[:-1] == [
        *(b"PATH=/bin", b"HOME=/nonexistent", b"A=\xff\xfe", b"USER=nobody", b"no equals", b"A=2", b"LOGNAME=nobody"),
        b"Z=",
    ]


def test_home_user_and_logname_are_added_where_there_are_none(start: Starter) -> None:
    code, out, log = start.result("-qu", "65534", "env", env={"PATH": "/bin:/usr/bin"})
    assert (code, log) == (0, "")
    assert sorted(out.splitlines()) == ["HOME=/nonexistent", "LOGNAME=nobody", "PATH=/bin:/usr/bin", "USER=nobody"]


def test_the_command_is_looked_up_as_that_user(start: Starter, public: Path) -> None:
    """What only root may execute is 126."""
    tool = public / "tool"
    tool.write_text("#!/bin/sh\necho started\n")
    tool.chmod(0o700)
    assert start.result("-q", str(tool))[:2] == (0, "started\n")
    code, out, log = start.result("-qu", "65534", str(tool))
    assert (code, out) == (126, "")
    assert ONE_ERROR.fullmatch(log) and "Permission denied" in log


@pytest.mark.parametrize("content", ["directory", "fifo", "large", "random", "dangling"])
def test_a_hostile_passwd_is_one_line_or_has_no_such_user(start: Starter, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "etc"
    prefix = etc(folder, None, None)
    passwd = folder / "passwd"
    if content == "directory":
        passwd.mkdir()
    elif content == "fifo":
        os.mkfifo(passwd)
    elif content == "dangling":
        passwd.symlink_to("/none/such")
    else:
        passwd.write_bytes(b"x:" * 10_000_000 if content == "large" else os.urandom(1_000_000))
    code, out, log = start.result("-u", "app", "echo", "started", prefix=prefix)
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log)


def test_u_with_daemons_and_s_is_as_ever(start: Starter) -> None:
    started = start("-ds", "TERM", "-u", "65534", "sh", "-c", "setsid sleep 1000 & exit 0")
    started.wait_log("exited with code 0")
    started.send(signal.SIGTERM)
    assert wait_until(started.process.poll, "run ends") == 143
