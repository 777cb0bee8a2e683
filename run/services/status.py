"""Status: what there is to know about services, as plain values, and as a table for people.

Source: contract, "Control"; the names of the values are described in run.toml(5).
"""

from collections.abc import Mapping
from typing import Any

from run.services.health import HEALTHY, Health
from run.services.life import DONE, ENDED, FAILED, READY, RESTARTING, Life
from run.services.words import decoded
from run.signals import NAMES, RTMAX, RTMIN, describe

WIDTH = 80
HEAD = ("NAME", "STATE", "HEALTH", "PID", "SINCE", "RESTARTS", "EXIT")
NUMBERS = ("PID", "SINCE", "RESTARTS", "EXIT")
SHORTEST_NAME = 8

GREEN, YELLOW, RED = 32, 33, 31
COLOURS = {
    "ready": GREEN,
    "done": GREEN,
    "healthy": GREEN,
    "failed": RED,
    "unhealthy": RED,
    "waiting": YELLOW,
    "starting": YELLOW,
    "stopping": YELLOW,
    "restarting": YELLOW,
}
"""ECMA-48, "Select Graphic Rendition"."""


def state_of(life: Life) -> str:
    """What a service is, for people: stopped, if somebody has stopped it."""
    return "stopped" if life.by_hand and life.is_final else life.state


def values(life: Life, health: Health | None, status: str | None, now: float, clock: float) -> dict[str, Any]:
    """All that is known of a service. now is of the steady clock, clock the time of day, both in seconds."""
    service = life.service
    return {
        "name": service.name,
        "state": state_of(life),
        "wanted": life.wanted,
        "health": (health.state or None) if health else None,
        "health_reason": (health.reason or None) if health else None,
        "pid": life.pid if life.lives and life.has_main else None,
        "since": clock - (now - life.since),
        "seconds": now - life.since,
        "restarts": life.all_restarts,
        "restarts_in_a_row": life.restarts,
        "next_start_in": max(0.0, life.next_start - now) if life.state == RESTARTING else None,
        "exit_code": life.exit_code,
        "last_end": life.ended or None,
        "status": status,
        "command": [decoded(word) for word in service.command],
        "user": service.user,
        "depends_on": list(service.depends_on),
        "oneshot": service.oneshot,
        "essential": service.essential,
        "daemon": service.daemon,
        "restart": service.restart,
        "stop_signal": describe(service.stop_signal).partition(" ")[0],
    }


def ailment(life: Life, health: Health | None) -> str:
    """Why a service is not well, or nothing: it is to be ready and healthy, or a oneshot that has succeeded."""
    if life.state == DONE:
        return ""
    if life.state != READY:
        state = state_of(life)
        return f"{life.service.name} {'has' if state in (ENDED, FAILED) else 'is'} {state}"
    if health is None or health.state == HEALTHY:
        return ""
    return f"{life.service.name} is {health.state}" + (f": {health.reason}" if health.reason else "")


def duration(seconds: float) -> str:
    """A time for people: two units at most."""
    whole = int(seconds)
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}" + (f"{rest}{smaller}" if rest else "")
    return f"{whole}s"


def last_exit(code: int | None) -> str:
    """An exit code for people: by the signal's name, where it stands for one."""
    if code is None:
        return "-"
    signum = code - 128
    is_named = 0 < signum <= len(NAMES) or RTMIN <= signum <= RTMAX
    return describe(signum).partition(" ")[0] if is_named else str(code)


def table(services: list[Mapping[str, Any]], colours: bool) -> str:
    """Lines of at most 80 columns, one for each service, under a head; and what it tells of itself below."""
    rows = [HEAD] + [_row(service) for service in services]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(SHORTEST_NAME, min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(HEAD) - 1)))
    lines = [_line(row, widths, colours and number > 0) for number, row in enumerate(rows)]
    for number, service in enumerate(services, 1):
        if service["status"]:
            lines[number] += f"  {service['status']}"[:WIDTH] + "\n"
    return "".join(lines)


def _row(service: Mapping[str, Any]) -> tuple[str, ...]:
    pid = service["pid"]
    return (
        service["name"],
        service["state"],
        service["health"] or "-",
        "-" if pid is None else str(pid),
        duration(service["seconds"]),
        str(service["restarts"]),
        last_exit(service["exit_code"]),
    )


def _line(row: tuple[str, ...], widths: list[int], colours: bool) -> str:
    cells = []
    for title, text, width in zip(HEAD, row, widths, strict=True):
        shown = text if len(text) <= width else text[: width - 1] + "…"
        cell = shown.rjust(width) if title in NUMBERS else shown.ljust(width)
        if colours and text in COLOURS and title in ("STATE", "HEALTH"):
            cell = f"\x1b[{COLOURS[text]}m{cell}\x1b[0m"
        cells.append(cell)
    return "  ".join(cells).rstrip() + "\n"
