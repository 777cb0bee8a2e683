"""The environment of a service, as entries. Source: contract, "The file" and "Users"; environ(7)."""

from collections.abc import Iterable, Mapping

from run.services.users import User
from run.services.words import decoded


def variables(entries: Iterable[bytes]) -> dict[str, str]:
    """The variables in these entries, by name: the first of a name, as getenv(3) finds it."""
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(decoded(name), decoded(value))
    return found


def for_service(
    given: list[bytes], user: User | None, added: Mapping[bytes, bytes], unset: Iterable[bytes]
) -> list[bytes]:
    """What `run` was given, with the user's HOME, USER and LOGNAME, and what the file adds, replaces and takes away.

    An entry stays where it was when its value is replaced, and stays to the byte when it is not.
    """
    changes = dict(added)
    if user is not None:
        changes = {b"HOME": user.home, b"USER": user.name, b"LOGNAME": user.name} | changes
    unset = set(unset)
    if not changes and not unset:
        return given
    entries = []
    left = dict(changes)
    for entry in given:
        name, equals, _ = entry.partition(b"=")
        if not equals or (name not in changes and name not in unset):
            entries.append(entry)
        elif name in left and name not in unset:
            entries.append(name + b"=" + left.pop(name))
    return entries + [name + b"=" + value for name, value in left.items() if name not in unset]
