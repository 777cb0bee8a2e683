"""Users: contract, "Users". The cases of gosu's tests and of Docker's user parser, written anew."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_users import (
    ALONE,
    ALPINE_GROUP,
    ALPINE_KNOWN,
    ALPINE_PASSWD,
    EMPTY_PART,
    GROUP,
    KNOWN,
    MOST,
    PASSWD,
    UNKNOWN,
)

from run.services import users
from run.services.users import User, UserError, is_other, read_database, refusal, resolve, unmapped


@pytest.mark.parametrize(("spec", "user"), KNOWN)
def test_who_a_user_is(spec: str, user: User) -> None:
    assert resolve(spec, PASSWD, GROUP) == user


@pytest.mark.parametrize(("spec", "user"), ALPINE_KNOWN)
def test_who_a_user_of_alpine_is(spec: str, user: User) -> None:
    assert resolve(spec, ALPINE_PASSWD, ALPINE_GROUP) == user


@pytest.mark.parametrize("spec", UNKNOWN)
def test_an_unknown_user_or_a_number_out_of_range_is_an_error_that_says_what_is_accepted(spec: str) -> None:
    with pytest.raises(UserError, match="accepted"):
        resolve(spec, PASSWD, GROUP)


@pytest.mark.parametrize("spec", ["", *EMPTY_PART])
def test_an_empty_part_is_an_error(spec: str) -> None:
    with pytest.raises(UserError, match="empty part"):
        resolve(spec, PASSWD, GROUP)


def test_the_nearest_user_and_group_are_named() -> None:
    with pytest.raises(UserError, match="nearest is 'games'"):
        resolve("gaems", PASSWD, GROUP)
    with pytest.raises(UserError, match="nearest is 'shared'"):
        resolve("root:sharde", PASSWD, GROUP)


def test_both_files_may_be_missing_for_numbers() -> None:
    for spec, user in ALONE:
        assert resolve(spec, b"", b"") == user
    with pytest.raises(UserError):
        resolve("root", b"", b"")


def test_what_may_not_be_read_is_as_if_it_were_missing_for_numbers_and_an_error_for_names() -> None:
    for spec, user in ALONE:
        assert resolve(spec, None, None) == user
    assert resolve("daemon:5", PASSWD, None) == resolve("daemon:5", PASSWD, GROUP)
    for spec, passwd, file in (("root", None, "passwd"), ("5:users", None, "group"), ("daemon", PASSWD, "group")):
        with pytest.raises(UserError, match=f"/etc/{file} cannot be read: Permission denied"):
            resolve(spec, passwd, None)


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
    assert read_database(b"/dev/null") == b"", "as engines mask a file"
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
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


ALL_IDS = b"         0          0 4294967295\n"
SOME_IDS = b"         0       1000          1\n         2     100000      65536\n"


def test_ids_that_do_not_exist_in_a_user_namespace_are_named_with_those_that_do() -> None:
    assert unmapped(USER, ALL_IDS, ALL_IDS) is None
    assert unmapped(USER, SOME_IDS, SOME_IDS) is None
    assert unmapped(USER._replace(uid=1), SOME_IDS, SOME_IDS) == (
        "uid 1 does not exist in this user namespace: accepted are 0 to 0, 2 to 65537 (/proc/self/uid_map)"
    )
    for other in (USER._replace(gid=1), USER._replace(groups=(6, 65538))):
        reason = unmapped(other, SOME_IDS, SOME_IDS)
        assert reason and reason.startswith(f"gid {1 if other.gid == 1 else 65538} does not exist")
    assert unmapped(USER, b"", b"") is None, "it is not known"
