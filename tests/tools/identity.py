"""What the tests of users share: /etc of one's own, and what a process says about who it is."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import Starter
from known_users import ALPINE_GROUP, ALPINE_PASSWD, GROUP, PASSWD

from run.services.users import User

WHO = 'grep -E "^(Uid|Gid|Groups):" /proc/self/status; echo "HOME=$HOME USER=$USER LOGNAME=$LOGNAME"'
"""A script that says who it is."""

OTHER: dict[str, Any] = {"group": 54321, "extra_groups": [54322]}
"""Options of Popen that give root a group that nobody has: so whoever is asked for is another one."""


def identified(text: str) -> User:
    """Who has said this by WHO: the real, effective, saved and file system's ids are the same."""
    ids = [set(map(int, re.findall(r"\d+", line))) for line in re.findall(r"^[UG]id:.*$", text, re.MULTILINE)]
    assert [len(group) for group in ids] == [1, 1], text
    groups = re.findall(r"^Groups:(.*)$", text, re.MULTILINE)[0].split()
    home, name, logname = re.findall(r"^HOME=(.*) USER=(.*) LOGNAME=(.*)$", text, re.MULTILINE)[0]
    assert name == logname
    return User(ids[0].pop(), ids[1].pop(), tuple(map(int, groups)), home.encode(), name.encode())


def expected(user: User) -> User:
    """The same user, with the groups in the order of the kernel."""
    return user._replace(groups=tuple(sorted(user.groups)))


def etc(folder: Path, passwd: bytes | None, group: bytes | None) -> tuple[str, ...]:
    """The words that start a program where /etc has these two files, or none of them, and nothing else."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for name, content in (("passwd", passwd), ("group", group)):
        if content is not None:
            (folder / name).write_bytes(content)
    return ("unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc; exec "$@"', str(folder))


@pytest.fixture
def odd_etc(tmp_path: Path) -> tuple[str, ...]:
    """Where /etc has the oddities of known_users.py."""
    return etc(tmp_path / "etc", PASSWD, GROUP)


@pytest.fixture
def alpine_etc(tmp_path: Path) -> tuple[str, ...]:
    """Where /etc has Alpine's users."""
    return etc(tmp_path / "etc", ALPINE_PASSWD, ALPINE_GROUP)


@pytest.fixture
def empty_etc(tmp_path: Path) -> tuple[str, ...]:
    """Where /etc is empty."""
    return etc(tmp_path / "etc", None, None)


@pytest.fixture
def closed_etc(tmp_path: Path) -> tuple[str, ...]:
    """Where both files are there, and `run` may not read them. podman makes such ones, where an image has none."""
    words = etc(tmp_path / "etc", PASSWD, GROUP)
    for name in ("passwd", "group"):
        (tmp_path / "etc" / name).chmod(0o600)
        os.chown(tmp_path / "etc" / name, 54321, 54321)
    return (*words, *without("dac_override", "dac_read_search"))


@pytest.fixture
def copied(binary: str, public: Path) -> Starter:
    """Starts a copy of the binary that any user may execute, in a folder that any user may enter."""
    shutil.copy(binary, public / "run")
    (public / "logs").mkdir()
    return Starter(str(public / "run"), public / "logs")


def without(*capabilities: str) -> tuple[str, ...]:
    """The words that start a program as root that lacks these capabilities, such as "kill"."""
    dropped = ",".join(f"-{name}" for name in capabilities)
    return ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")


def as_user(uid: int, gid: int) -> dict[str, Any]:
    """Options of Popen for another user, in a folder that exists for everybody."""
    return {"user": uid, "group": gid, "extra_groups": [], "cwd": "/", "env": {"PATH": os.environ["PATH"]}}


ENTER = """
import ctypes, os, sys
parent, count, groups = os.getpid(), int(sys.argv[1]), sys.argv[2]
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)
    for name, text in ("setgroups", groups), ("uid_map", f"0 0 {count}"), ("gid_map", f"0 0 {count}"):
        with open(f"/proc/{parent}/{name}", "w") as file:
            file.write(text)
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.close(write)
assert os.wait()[1] == 0
os.execvp(sys.argv[3], sys.argv[3:])
"""


def in_user_namespace(count: int, groups: str = "allow") -> tuple[str, ...]:
    """The words that start a program in a user namespace that has the first ids, so many; CLONE_NEWUSER takes them.

    With "deny" nobody may set groups there: /proc/PID/setgroups of user_namespaces(7).
    """
    return (sys.executable, "-c", ENTER, str(count), groups)
