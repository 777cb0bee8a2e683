"""The file of `-f`: read, parsed as TOML, and every value in it checked; each error is a line.

Source: contract, "The file". tomllib knows the line of a syntax error only; other errors name the service and the key.
"""

import os
import re
from collections.abc import Callable
from stat import S_ISREG
from typing import Any, NamedTuple

from run.services import healthcheck, values
from run.services.order import circles
from run.services.values import Report
from run.services.words import decoded, listed, nearest, shown

LARGEST = 1 << 20
"""Bytes that a file may have."""

PART = 1 << 14
"""Bytes that are read at once."""

DEFAULT_GRACE = 9.0
"""Seconds for all services together: one below the 10 that docker gives."""

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

TOP_KEYS = ("services", "stop_grace_period")

CHECKS: dict[str, Callable[[object, Report], object]] = {
    "command": values.words,
    "oneshot": values.boolean,
    "essential": values.boolean,
    "restart": values.restart,
    "restart_delay": values.seconds,
    "restart_max_delay": values.seconds,
    "depends_on": values.names,
    "user": values.text,
    "working_dir": values.path,
    "umask": values.umask,
    "environment": values.environment,
    "unset_environment": values.variable_names,
    "stop_signal": values.signal,
    "stop_grace_period": values.seconds,
    "kill_mode": lambda value, report: values.choice(value, report, ("group", "mixed")),
    "daemon": values.boolean,
    "healthcheck": healthcheck.check,
    "on_unhealthy": lambda value, report: values.choice(value, report, ("log", "restart")),
    "output": lambda value, report: values.choice(value, report, ("named", "plain", "inherit", "null")),
}
"""The keys of a service, and what checks the value of each."""


class FileError(Exception):
    """A file that cannot be read, or is no TOML."""


class File(NamedTuple):
    """What a file says, checked."""

    name: str
    """As messages show it."""
    grace: float
    services: dict[str, dict[str, Any]]
    """Of each service: the keys that are given, with what their checks return."""


def load(path: bytes) -> tuple[File | None, list[str]]:
    """What the file at this path says, and the errors in it, each a line; None if it cannot be read at all."""
    name = shown(decoded(path))[1:-1]
    try:
        return parse(read(path), name)
    except FileError as error:
        return None, [f"{name}: {error}"]


def read(path: bytes) -> bytes:
    """The bytes of a file. Never waits, whatever it is; raises FileError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise FileError("cannot be read: there is a NUL in its name") from None
    try:
        if not S_ISREG(os.fstat(fd).st_mode):
            raise FileError("cannot be read: a regular file is accepted")
        content = bytearray()
        while part := os.read(fd, PART):
            content += part
            if len(content) > LARGEST:
                raise FileError(f"is too large: at most {LARGEST >> 20} MiB is accepted")
        return bytes(content)
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def parse(content: bytes, name: str) -> tuple[File, list[str]]:
    """What these bytes of a file of this name say, and the errors. Raises FileError if they are no TOML."""
    table = parse_toml(content)
    lines: list[str] = []
    report = Report(name, lines)
    for key in table:
        if key not in TOP_KEYS:
            report.error(f"unknown key {shown(key)}: {listed(TOP_KEYS)} are accepted{nearest(key, TOP_KEYS)}")
    grace: float | None = DEFAULT_GRACE
    if "stop_grace_period" in table:
        grace = values.seconds(table["stop_grace_period"], report.at("stop_grace_period"))
    services: dict[str, dict[str, Any]] = {}
    tables = table.get("services", {})
    if not isinstance(tables, dict):
        report.at("services").wrong(tables, "a table for each service is accepted: [services.NAME]")
    elif not tables:
        report.error("there is no service: [services.NAME] is accepted, at least one")
    else:
        services = {name: check_service(name, service, report) for name, service in tables.items()}
        check_dependencies(services, report)
    return File(name, grace or DEFAULT_GRACE, services), lines


def parse_toml(content: bytes) -> dict[str, Any]:
    """The tables of a TOML file. Raises FileError, with the line where there is one."""
    import tomllib  # noqa: PLC0415 - `-m` does without

    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise FileError(f"line {line}: {byte} is no UTF-8: TOML in UTF-8 is accepted") from None
    except RecursionError:
        raise FileError("arrays or tables are nested too deeply: a few levels are accepted") from None
    except ValueError as error:  # TOMLDecodeError is one; int() and dates raise others
        message, _, place = str(error).partition(" (at ")
        where = re.match("line ([0-9]+), column ([0-9]+)", place)
        last = content.count(b"\n", 0, len(content.rstrip(b"\n"))) + 1
        line = int(where[1]) if where else last if place else 0
        at = f"line {line}: " if line else ""
        raise FileError(f"{at}this is no TOML: {shown(message)[1:-1]}") from None


def check_service(name: str, table: object, report: Report) -> dict[str, Any]:
    """Check a service; return the keys that are right."""
    report = report.at(shown(name)[1:-1])
    if not NAME.fullmatch(name):
        report.error("this cannot be a service's name: 1 to 64 letters, digits, '_', '-' and '.' are accepted")
    if not isinstance(table, dict):
        report.wrong(table, f"a table is accepted: [services.{shown(name)[1:-1]}]")
        return {}
    checked: dict[str, Any] = {}
    for key, value in table.items():
        if check := CHECKS.get(key):
            found = check(value, report.at(key))
            if found is not None:
                checked[key] = found
        else:
            report.error(f"unknown key {shown(key)}: {', '.join(CHECKS)} are accepted{nearest(key, CHECKS)}")
    if "command" not in table:
        report.error("there is no command: command = [words] or command = 'words' is accepted")
    check_together(checked, report)
    return checked


def check_together(service: dict[str, Any], report: Report) -> None:
    """Check what depends on more than one key of a service."""
    if service.get("oneshot"):
        if service.get("restart", ("no", None))[0] == "always":
            report.at("restart").error("'always' is wrong beside oneshot = true: no and on-failure are accepted")
        for key in ("daemon", "healthcheck"):
            if service.get(key):
                report.at(key).error("it cannot be beside oneshot = true, which is ready when it has ended")
    delay, most = service.get("restart_delay", 0.1), service.get("restart_max_delay", 60.0)
    if delay > most:
        report.at("restart_delay").error(f"{delay:g} s is above restart_max_delay: at most its {most:g} s is accepted")


def check_dependencies(services: dict[str, dict[str, Any]], report: Report) -> None:
    """Check that whatever is depended on is there, and that no service depends on itself, however far round."""
    for name, service in services.items():
        for other in service.get("depends_on", ()):
            if other not in services:
                place = report.at(shown(name)[1:-1]).at("depends_on")
                near = nearest(other, services)
                place.error(f"unknown service {shown(other)}: {listed(services)} are accepted{near}")
    graph = {name: service.get("depends_on", ()) for name, service in services.items()}
    for circle in circles(graph):
        way = " -> ".join(shown(name)[1:-1] for name in (*circle, circle[0]))
        place = report.at(shown(circle[0])[1:-1]).at("depends_on")
        place.error(f"a circle, in which nothing can be the first: {way}; dependencies without a circle are accepted")
