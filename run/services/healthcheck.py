"""Healthcheck: what is asked of a service, and how often. Source: contract, "Ready and healthy"."""

import re
from typing import NamedTuple

from run.services import values
from run.services.sockets import AF_INET, AF_INET6, inet_pton
from run.services.values import Report
from run.services.words import encoded, listed, nearest, shown

LOCALHOST = "127.0.0.1"
SHELL = "/bin/sh"

URL = re.compile(r"http://(\[[^\]/?#]*\]|[^\[\]/?#:@]*)(?::([0-9]{1,5}))?([/?][!-~]*)?")
ADDRESS = re.compile(r"(\[[^\]]*\]|[^\[\]:]*):([0-9]{1,5})")

LONGEST_UNIX = 107
"""Bytes of a path that fit in an address: unix(7)."""

WAYS = ("test", "tcp", "unix", "http", "notify")


class Healthcheck(NamedTuple):
    """How a service shows that it is ready and healthy: by one of the ways; times in seconds."""

    way: str
    """One of WAYS."""
    test: tuple[bytes, ...] = ()
    """The words of the command of `test`."""
    host: str = ""
    """The numeric address of `tcp` and `http`."""
    port: int = 0
    path: bytes = b""
    """The path of `unix`, or what is asked for with `http`, with the query."""
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 60.0
    start_interval: float = 1.0


def check(value: object, report: Report) -> Healthcheck | None:
    """The healthcheck that a table describes, or None where something is wrong with it."""
    if not isinstance(value, dict):
        report.wrong(value, "a table is accepted, such as { tcp = 5432 }")
        return None
    before = len(report.lines)
    ways = []
    given: dict[str, object] = {}
    for key, content in value.items():
        place = report.at(shown(key)[1:-1])
        if key in TIMES:
            given[key] = TIMES[key](content, place)
        elif key in CHECKS:
            if content is not False or key != "notify":
                ways.append(key)
            given |= CHECKS[key](content, place) or {}
        else:
            accepted = (*WAYS, *TIMES)
            report.error(f"unknown key {shown(key)}: {listed(accepted)} are accepted{nearest(key, accepted)}")
    if len(ways) != 1:
        found = f"{' and '.join(ways)} cannot be together" if ways else "there is nothing to ask"
        report.error(f"{found}: one of {listed(WAYS)} is accepted")
    return Healthcheck(ways[0], **given) if len(report.lines) == before else None  # type: ignore[arg-type]


def _test(value: object, report: Report) -> dict[str, object] | None:
    """A command, with Compose's first words."""
    if isinstance(value, list) and value and value[0] == "NONE":
        report.error("'NONE' is wrong: a service without healthcheck has none")
        return None
    if isinstance(value, list) and value and value[0] == "CMD-SHELL":
        if len(value) != 2 or not isinstance(value[1], str) or not value[1]:
            report.error("'CMD-SHELL' is wrong: one string is accepted behind it, for /bin/sh -c")
            return None
        value = [SHELL, "-c", value[1]]
    elif isinstance(value, list) and value and value[0] == "CMD":
        value = value[1:]
    words = values.words(value, report)
    return {"test": tuple(map(encoded, words))} if words else None


def _tcp(value: object, report: Report) -> dict[str, object] | None:
    """A port, or a host and a port."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16:
        return {"host": LOCALHOST, "port": value}
    if isinstance(value, str) and (match := ADDRESS.fullmatch(value)):
        return _endpoint(match[1], match[2], report)
    report.wrong(value, "a port from 1 to 65535, or a string such as '127.0.0.1:5432' or '[::1]:5432', is accepted")
    return None


def _unix(value: object, report: Report) -> dict[str, object] | None:
    """The path of a socket."""
    path = values.text(value, report, "a path that begins with / is accepted")
    if path is None:
        return None
    if not path.startswith("/") or len(encoded(path)) > LONGEST_UNIX:
        report.wrong(path, f"a path that begins with /, of at most {LONGEST_UNIX} bytes, is accepted")
        return None
    return {"path": encoded(path)}


def _http(value: object, report: Report) -> dict[str, object] | None:
    """An address to ask."""
    if isinstance(value, str) and (match := URL.fullmatch(value)):
        found = _endpoint(match[1], match[2] or "80", report)
        path = match[3] or "/"
        return found and found | {"path": encoded(path if path.startswith("/") else "/" + path)}
    report.wrong(value, "an address such as 'http://127.0.0.1:8080/health' is accepted (http alone, without a user)")
    return None


def _endpoint(host: str, port: str, report: Report) -> dict[str, object] | None:
    """A host, numeric or localhost, and a port."""
    numeric = _numeric(host)
    if numeric is None:
        accepted = "a numeric one, such as 127.0.0.1 or [::1], or localhost"
        report.error(f"host {shown(host)} is wrong: {accepted} is accepted")
    if not 0 < int(port) < 1 << 16:
        report.error(f"port {port} is wrong: 1 to 65535 are accepted")
        return None
    return {"host": numeric, "port": int(port)} if numeric else None


def _numeric(host: str) -> str | None:
    """The numeric form of a host; None if it is a name: nothing is ever looked up."""
    if host.lower() == "localhost":
        return LOCALHOST
    inner = host.removeprefix("[").removesuffix("]")
    try:
        inet_pton(AF_INET6 if inner != host else AF_INET, inner)
    except (OSError, ValueError):
        return None
    return inner


def _notify(value: object, report: Report) -> dict[str, object] | None:
    """Whether the service speaks sd_notify(3)."""
    values.boolean(value, report)
    return {}


CHECKS = {"test": _test, "tcp": _tcp, "unix": _unix, "http": _http, "notify": _notify}
TIMES = {
    "interval": values.seconds,
    "timeout": values.seconds,
    "retries": values.count,
    "start_period": values.seconds,
    "start_interval": values.seconds,
}
