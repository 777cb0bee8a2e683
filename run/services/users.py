"""Users: who `USER` of a Dockerfile means, from the bytes of /etc/passwd and /etc/group.

Source: contract, "Users"; passwd(5), group(5). Read by ourselves: the C library's way loads shared objects.
"""

import errno
import os
from collections.abc import Iterator
from stat import S_ISCHR, S_ISREG
from typing import NamedTuple

from run.services.words import decoded, encoded, nearest, shown

PASSWD = b"/etc/passwd"
GROUP = b"/etc/group"
LARGEST_FILE = 1 << 24
NULL = os.makedev(1, 3)
UNREADABLE = "{} cannot be read: " + os.strerror(errno.EACCES)

MAX_ID = (1 << 31) - 1

CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7  # capabilities(7)


class UserError(Exception):
    """A user that there is none of: what is wrong, and what is accepted."""


class User(NamedTuple):
    """A user, resolved."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """The supplementary groups, the primary one first."""
    home: bytes
    name: bytes
    """What USER and LOGNAME are: the number, where there is no entry."""


class _Entry(NamedTuple):
    """A line of passwd."""

    name: bytes
    uid: int
    gid: int
    home: bytes


def read_database(path: bytes) -> bytes | None:
    """What /etc/passwd or /etc/group holds: nothing if it is missing, None if `run` may not read it. Raises UserError.

    podman makes both in an image that has none, for root alone, whoever is to run in it.
    """
    name = decoded(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        if error.errno in (errno.EACCES, errno.EPERM):
            return None
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if S_ISCHR(status.st_mode) and status.st_rdev == NULL:
            return b""  # as engines mask a file
        if not S_ISREG(status.st_mode):
            raise UserError(f"{name} cannot be read: it is not a regular file")
        content = bytearray()
        while part := os.read(fd, 1 << 16):
            content += part
            if len(content) > LARGEST_FILE:
                raise UserError(f"{name} is too large: {LARGEST_FILE >> 20} MiB are accepted")
        return bytes(content)
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def resolve(spec: str, passwd: bytes | None, group: bytes | None) -> User:
    """Who `name`, `uid`, `name:group`, `uid:gid` or a mixture of them is. Raises UserError.

    What cannot be read, None, is as if it were missing for numbers, and an error for a name.
    """
    user, colon, group_spec = spec.partition(":")
    if not user or (colon and not group_spec):
        raise UserError(f"{shown(spec)} has an empty part: USER or USER:GROUP is accepted, each a name or a number")
    uid = _number(user, "user")
    entry = _find(user, uid, passwd or b"")
    if entry is None:
        if uid is None:
            if passwd is None:
                raise UserError(UNREADABLE.format(decoded(PASSWD)))
            names = (decoded(known.name) for known in _entries(passwd))
            accepted = "those of /etc/passwd and numbers are accepted"
            raise UserError(f"unknown user {shown(user)}: {accepted}{nearest(user, names)}")
        entry = _Entry(b"", uid, 0, b"")
    if colon:
        gid = _find_group(group_spec, group)
        groups = [gid]
    else:
        if uid is None and group is None:
            raise UserError(UNREADABLE.format(decoded(GROUP)))
        gid = entry.gid
        groups = [gid, *(known for _, known, members in _groups(group or b"") if entry.name and entry.name in members)]
    return User(entry.uid, gid, tuple(dict.fromkeys(groups)), entry.home or b"/", entry.name or b"%d" % entry.uid)


def _number(word: str, what: str) -> int | None:
    """The id that a word is, or None for a name. Raises UserError for a number out of range."""
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return None
    # int() refuses thousands of digits
    if digits is not word or len(digits.lstrip("0")) > len(str(MAX_ID)) or int(digits) > MAX_ID:
        raise UserError(f"{what} {shown(word)} is out of range: 0 to {MAX_ID} are accepted")
    return int(digits)


def _id(field: bytes) -> int | None:
    """The id in a field of the files, or None if there is none, or one out of range."""
    return int(field) if field.isdigit() and len(field) <= len(str(MAX_ID)) and int(field) <= MAX_ID else None


def _lines(database: bytes) -> Iterator[list[bytes]]:
    """The fields of each line that may be an entry."""
    for line in database.split(b"\n"):
        fields = line.strip().split(b":")
        if fields[0] and not fields[0].startswith(b"#"):
            yield fields


def _entries(passwd: bytes) -> Iterator[_Entry]:
    """The entries of passwd; a broken line is none."""
    for fields in _lines(passwd):
        if len(fields) < 4:
            continue
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None:
            yield _Entry(fields[0], uid, gid, fields[5] if len(fields) > 5 else b"")


def _groups(group: bytes) -> Iterator[tuple[bytes, int, list[bytes]]]:
    """Name, number and members of each group; a broken line is none."""
    for fields in _lines(group):
        if len(fields) >= 3 and (gid := _id(fields[2])) is not None:
            yield fields[0], gid, fields[3].split(b",") if len(fields) > 3 else []


def _find(user: str, uid: int | None, passwd: bytes) -> _Entry | None:
    """The first entry of this user: by the number if there is one, else by name."""
    name = encoded(user)
    for entry in _entries(passwd):
        if entry.name == name if uid is None else entry.uid == uid:
            return entry
    return None


def _find_group(word: str, group: bytes | None) -> int:
    """The number of a group: itself, or the first of that name. Raises UserError."""
    gid = _number(word, "group")
    if gid is not None:
        return gid
    if group is None:
        raise UserError(UNREADABLE.format(decoded(GROUP)))
    name = encoded(word)
    for known, number, _ in _groups(group):
        if known == name:
            return number
    names = (decoded(known) for known, _, _ in _groups(group))
    raise UserError(f"unknown group {shown(word)}: those of /etc/group and numbers are accepted{nearest(word, names)}")


def is_other(user: User, uid: int, gid: int) -> bool:
    """Whether something must be called to become this user from these ids."""
    return (user.uid, user.gid) != (uid, gid)


def refusal(user: User, uid: int, gid: int, capabilities: int) -> str | None:
    """Why these ids with these effective capabilities (bits, as CapEff of proc(5)) cannot start and stop this user.

    Source: setgroups(2), setresuid(2), kill(2).
    """
    if not is_other(user, uid, gid):
        return None
    needed = [("CAP_SETGID", CAP_SETGID)]
    if user.uid != uid:
        needed += [("CAP_SETUID", CAP_SETUID), ("CAP_KILL", CAP_KILL)]
    lacking = [name for name, bit in needed if not capabilities >> bit & 1]
    if not lacking:
        return None
    return f"not permitted to become uid {user.uid}, gid {user.gid}, and to stop it: {', '.join(lacking)} needed"


def unmapped(user: User, uid_map: bytes, gid_map: bytes) -> str | None:
    """Which id of this user does not exist in this user namespace, as far as /proc tells.

    Source: user_namespaces(7). The system calls tell no more than EINVAL, or, for files, nothing.
    """
    for name, ids, text in (("uid", (user.uid,), uid_map), ("gid", (user.gid, *user.groups), gid_map)):
        ranges = [(int(first), int(count)) for first, _, count in map(bytes.split, text.splitlines())]
        for number in ids if ranges else ():
            if not any(first <= number < first + count for first, count in ranges):
                accepted = ", ".join(f"{first} to {first + count - 1}" for first, count in ranges)
                reason = f"{name} {number} does not exist in this user namespace"
                return f"{reason}: accepted are {accepted} (/proc/self/{name}_map)"
    return None


def groups_denied(setgroups: bytes) -> str | None:
    """Why nobody can get supplementary groups in this user namespace, as /proc/self/setgroups tells.

    Source: user_namespaces(7).
    """
    if setgroups.strip() != b"deny":
        return None
    return "not permitted to set groups in this user namespace: /proc/self/setgroups is 'deny'"


def switch(user: User) -> tuple[int, int, list[int]] | None:
    """What it takes to become this user: uid, gid and groups; None for the one that `run` is."""
    return (user.uid, user.gid, list(user.groups)) if is_other(user, os.getuid(), os.getgid()) else None
