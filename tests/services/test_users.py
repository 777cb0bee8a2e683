"""Users: contract, "Users". The cases of gosu's tests and of Docker's user parser, written anew."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from run.services import users
from run.services.users import User, UserError, is_other, read_database, refusal, resolve

MOST = 2**31 - 1
MANY = b"many:x:1000:" + b",".join(b"user%d" % number for number in range(7500)) + b"\n"

PASSWD = b"""
root:x:0:0:root:/root:/bin/sh
# a comment
#hidden:x:77:77::/hidden:
daemon:x:1:2:daemon:/sbin:/sbin/nologin
games:x:5:60:games:/usr/games:/bin/sh
app:x:42:43::/srv/app:
111:x:222:333::/never
strange:x:111:112::/home/strange:::::
2147483647:x:0:0::/never
2147483648:x:0:0::/never
-42:x:12:13::/never
user7456:x:7456:100::/home/user7456
short:x:300:301
homeless:x:301:302:::
toolarge:x:2147483648:1::/never
root:x:9:9::/second
twin:x:42:9::/second
+::::::
no colons here
:x:66:66::/nameless:
a:b
last:x:500:501::/home/last"""

GROUP = (
    b"""
root:x:0:root
daemon:x:2:
app:x:43:
shared:x:1234:root,app,user7456
444:x:555:111
strange:x:444:
2147483648:x:1236:app
toolarge:x:2147483648:app
users:x:100:games
games:x:60:
broken
app:x:4343:
"""
    + MANY
)


@pytest.mark.parametrize(
    ("spec", "user"),
    [
        ("root", User(0, 0, (0, 1234), b"/root", b"root")),
        ("0", User(0, 0, (0, 1234), b"/root", b"root")),
        ("00", User(0, 0, (0, 1234), b"/root", b"root")),
        ("0:0", User(0, 0, (0,), b"/root", b"root")),
        ("0:root", User(0, 0, (0,), b"/root", b"root")),
        ("root:0", User(0, 0, (0,), b"/root", b"root")),
        ("root:root", User(0, 0, (0,), b"/root", b"root")),
        ("app", User(42, 43, (43, 1234, 1236), b"/srv/app", b"app")),
        ("42", User(42, 43, (43, 1234, 1236), b"/srv/app", b"app")),
        ("root:app", User(0, 43, (43,), b"/root", b"root")),
        ("app:1234", User(42, 1234, (1234,), b"/srv/app", b"app")),
        ("42:1234", User(42, 1234, (1234,), b"/srv/app", b"app")),
        ("0:1000", User(0, 1000, (1000,), b"/root", b"root")),
        ("root:1000", User(0, 1000, (1000,), b"/root", b"root")),
        ("1337", User(1337, 0, (0,), b"/", b"1337")),
        ("1337:1234", User(1337, 1234, (1234,), b"/", b"1337")),
        ("1337:root", User(1337, 0, (0,), b"/", b"1337")),
        ("1337:daemon", User(1337, 2, (2,), b"/", b"1337")),
        ("games", User(5, 60, (60, 100), b"/usr/games", b"games")),
        ("games:daemon", User(5, 2, (2,), b"/usr/games", b"games")),
        ("111", User(111, 112, (112,), b"/home/strange", b"strange")),
        ("111:444", User(111, 444, (444,), b"/home/strange", b"strange")),
        ("7456", User(7456, 100, (100, 1234, 1000), b"/home/user7456", b"user7456")),
        (f"7456:{MOST}", User(7456, MOST, (MOST,), b"/home/user7456", b"user7456")),
        (f"{MOST}:43", User(MOST, 43, (43,), b"/", b"2147483647")),
        (f"{MOST}", User(MOST, 0, (0,), b"/", b"2147483647")),
        ("short", User(300, 301, (301,), b"/", b"short")),
        ("homeless", User(301, 302, (302,), b"/", b"homeless")),
        ("last", User(500, 501, (501,), b"/home/last", b"last")),
        ("app:many", User(42, 1000, (1000,), b"/srv/app", b"app")),
    ],
)
def test_who_a_user_is(spec: str, user: User) -> None:
    assert resolve(spec, PASSWD, GROUP) == user


@pytest.mark.parametrize(
    "spec",
    [
        *("nobody", "nobody:nogroup", "root:nogroup", "nobody:app", "8888:nogroup", "nobody:8888"),
        *("-1:0", "0:-3", "-5:-2", "-42", "-43", "toolarge", "0:toolarge", "hidden", "#hidden", "+"),
        *("42:2147483648", "2147483648:43", "2147483648", "9223372036854775807", "9223372036854775808"),
        *("0:9223372036854775808", "9" * 5000, "0day", "0:0day", "root:root:root", "Root", "ro ot", "\uff11"),
    ],
)
def test_an_unknown_user_or_a_number_out_of_range_is_an_error_that_says_what_is_accepted(spec: str) -> None:
    with pytest.raises(UserError, match="accepted"):
        resolve(spec, PASSWD, GROUP)


@pytest.mark.parametrize("spec", ["", ":", "root:", ":root", ":0", "0:"])
def test_an_empty_part_is_an_error(spec: str) -> None:
    with pytest.raises(UserError, match="empty part"):
        resolve(spec, PASSWD, GROUP)


def test_the_nearest_user_and_group_are_named() -> None:
    with pytest.raises(UserError, match="nearest is 'games'"):
        resolve("gaems", PASSWD, GROUP)
    with pytest.raises(UserError, match="nearest is 'shared'"):
        resolve("root:sharde", PASSWD, GROUP)


def test_both_files_may_be_missing_for_numbers() -> None:
    assert resolve("1000", b"", b"") == User(1000, 0, (0,), b"/", b"1000")
    assert resolve("1000:1001", b"", b"") == User(1000, 1001, (1001,), b"/", b"1000")
    assert resolve("0:0", b"", b"") == User(0, 0, (0,), b"/", b"0")
    with pytest.raises(UserError):
        resolve("root", b"", b"")


def test_lines_that_are_too_long_or_end_with_a_carriage_return_are_survived() -> None:
    passwd = b"x" * 3_000_000 + b"\n" + b"long:x:1:2:" + b"y" * 1_000_000 + b":/long:\r\n" + b"end:x:3:4::/end\r\n"
    assert resolve("long", passwd, b"").home == b"/long"
    assert resolve("end", passwd, b"").home == b"/end"


def test_names_that_are_not_utf_8_are_names() -> None:
    assert resolve("caf\udce9", b"caf\xe9:x:8:9::/cafe:", b"").uid == 8


@given(st.binary(), st.binary(), st.text(alphabet="ab0:-9é\0", max_size=6))
def test_any_bytes_are_survived(passwd: bytes, group: bytes, spec: str) -> None:
    try:
        user = resolve(spec, b"a:x:1:2::/:\n" + passwd, group + b"\nb:x:3:a")
    except UserError as error:
        assert str(error)
    else:
        assert 0 <= user.uid <= MOST
        assert user.gid == user.groups[0]


def test_the_systems_own_users_are_found() -> None:
    passwd, group = read_database(users.PASSWD), read_database(users.GROUP)
    root = resolve("root", passwd, group)
    assert (root.uid, root.gid, root.home) == (0, 0, b"/root")
    assert set(root.groups) == set(os.getgrouplist("root", 0))


def test_a_missing_database_is_empty_and_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    assert read_database(bytes(tmp_path / "none")) == b""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(UserError, match="not a regular file"):
            read_database(bytes(path))


USER = User(5, 6, (6,), b"/", b"x")
ALL_CAPABILITIES = 1 << users.CAP_KILL | 1 << users.CAP_SETGID | 1 << users.CAP_SETUID


def test_the_ids_that_run_already_has_take_nothing() -> None:
    assert not is_other(USER, 5, 6)
    assert is_other(USER, 5, 7)
    assert refusal(USER, 5, 6, 0) is None


@pytest.mark.parametrize("missing", ["CAP_KILL", "CAP_SETGID", "CAP_SETUID"])
def test_another_user_takes_each_of_three_capabilities(missing: str) -> None:
    assert refusal(USER, 0, 0, ALL_CAPABILITIES) is None
    reason = refusal(USER, 0, 0, ALL_CAPABILITIES & ~(1 << getattr(users, missing)))
    assert reason is not None
    assert missing in reason


def test_another_group_of_the_same_user_takes_one() -> None:
    assert refusal(USER, 5, 0, 1 << users.CAP_SETGID) is None
    assert refusal(USER, 5, 0, 0) is not None
