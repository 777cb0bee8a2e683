"""The listing that `-n` prints: what would be started, in which order, and how.

Only what differs from the defaults is said, but for the command and when it starts. Source: contract, "The file".
"""

import re
from collections.abc import Iterable

from run.services.healthcheck import Healthcheck
from run.services.plan import Plan, Service
from run.services.words import decoded, encoded
from run.signals import TERM, describe
from run.text import printable

WIDTH = 80
LABEL = 13
"""Columns of a label and the space behind it."""

PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def listing(plan: Plan) -> str:
    """The text for a plan: lines, each at most 80 columns wide where its words allow that."""
    count = len(plan.services)
    what = "1 service" if count == 1 else f"{count} services"
    grace = f"{plan.grace:g} s to stop" if plan.grace is not None else "no limit of time to stop"
    if any(service.depends_on for service in plan.services):
        what, grace = f"{what}, in order of start", f"{grace}, in reverse order"
    lines = [f"{what}; {grace}"]
    width = len(str(count))
    oneshots = {service.name for service in plan.services if service.oneshot}
    for number, service in enumerate(plan.services, 1):
        lines += ["", f"{number:>{width}}. {service.name}"]
        indent = " " * (width + 2)
        for label, items, joint in parts(service, oneshots):
            lines += wrapped(indent + f"{label:<{LABEL}}", items, joint)
    return "\n".join(lines) + "\n"


def wrapped(head: str, items: Iterable[str], joint: str) -> list[str]:
    """Lines of items behind a head, which begin in one column; joint ends a line that goes on."""
    lines: list[str] = []
    line = head
    empty = True
    for item in items:
        if not empty and len(line) + 1 + len(item) + len(joint) > WIDTH:
            lines.append(line + joint)
            line, empty = " " * len(head), True
        line += item if empty else " " + item
        empty = False
    return [*lines, line.rstrip()]


def parts(service: Service, oneshots: set[str]) -> list[tuple[str, list[str], str]]:
    """What is said about a service: labels, the items behind each, and what ends a line that goes on."""
    found = [("command", [quoted(word) for word in service.command], " \\"), ("start", start(service, oneshots), "")]
    for label, text in (
        ("user", user(service)),
        ("directory", quoted(service.working_dir) if service.working_dir is not None else ""),
        ("umask", f"{service.umask:03o}" if service.umask is not None else ""),
    ):
        if text:
            found.append((label, text.split(" ") if label == "user" else [text], ""))
    found.append(("environment", list(map(quoted_entry, service.added_environment)), ""))
    found.append(("without", list(map(quoted, service.unset_environment)), ""))
    for label, text in (
        ("ready", ready(service)),
        ("health", health(service)),
        ("end", end(service)),
        ("restart", restart(service)),
        ("stop", stop(service)),
        ("output", service.output if service.output != "named" else ""),
    ):
        found.append((label, text.split(" ") if text else [], ""))
    return [part for part in found if part[1]]


def quoted(word: bytes) -> str:
    """A word as a shell would need it: POSIX, "Quoting"; what cannot be shown, in dollar-single-quotes."""
    text = decoded(word)
    if PLAIN.fullmatch(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    """A character within dollar-single-quotes."""
    if character in "\\'":
        return "\\" + character
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in encoded(character))


def quoted_entry(entry: bytes) -> str:
    """An entry of the environment as a shell would need it before a command."""
    name, _, value = entry.partition(b"=")
    return f"{printable(name)}={quoted(value) if value else ''}"


def start(service: Service, oneshots: set[str]) -> list[str]:
    """When it is started."""
    if not service.depends_on:
        return ["at", "once"]
    names = [f"{name} (success)" if name in oneshots else name for name in service.depends_on]
    return ["after", *" ".join(f"{name}," for name in names).rstrip(",").split(" ")]


def user(service: Service) -> str:
    """Who it is run as."""
    if service.user is None:
        return ""
    shown = quoted(encoded(service.user))
    who = service.identity
    if who is None:
        return f"{shown}, not known before its variables are set"
    is_named = who.name in (b"%d" % who.uid, encoded(service.user.partition(":")[0]))
    name = "" if is_named else f"{quoted(who.name)}, "
    groups = f", groups {' '.join(map(str, who.groups))}" if who.groups != (who.gid,) else ""
    return f"{shown} ({name}uid {who.uid}, gid {who.gid}{groups}), home {quoted(who.home)}"


def ready(service: Service) -> str:
    """When it is ready, if that is not once it is executed."""
    if service.oneshot:
        return "when it has ended with 0 (oneshot)"
    if check := service.healthcheck:
        within = f"within {check.start_period:g} s"
        if check.way == "notify":
            return f"when it says READY=1 (notify), {within}"
        return f"when {asked(check)} succeeds, tried each {check.start_interval:g} s, {within}"
    return "when its first process has ended with 0 (daemon)" if service.daemon else ""


def asked(check: Healthcheck) -> str:
    """What a healthcheck asks."""
    if check.way == "test":
        return " ".join(map(quoted, check.test))
    if check.way == "unix":
        return f"unix {quoted(check.path)}"
    host = f"[{check.host}]" if ":" in check.host else check.host
    return f"{check.way} {host}:{check.port}" + (decoded(check.path) if check.way == "http" else "")


def health(service: Service) -> str:
    """When it is unhealthy, and what that means."""
    check = service.healthcheck
    if check is None:
        return ""
    then = "restarted" if service.on_unhealthy == "restart" else "logged"
    if check.way == "notify":
        return ""
    return (
        f"tried each {check.interval:g} s, for at most {check.timeout:g} s;"
        f" unhealthy after {check.retries} failures in a row, which is {then}"
    )


def end(service: Service) -> str:
    """What its end means, if not that all is stopped."""
    return "" if service.essential else "stops nothing else (not essential)"


def restart(service: Service) -> str:
    """When it is started again."""
    if service.restart == "no":
        return ""
    limit = f", at most {service.restart_limit} in a row" if service.restart_limit else ""
    return f"{service.restart}, after {service.restart_delay:g} s, doubled up to {service.restart_max_delay:g} s{limit}"


def stop(service: Service) -> str:
    """How it is stopped, if not by TERM to its group within the common grace."""
    if (service.stop_signal, service.kill_mode, service.stop_grace_period) == (TERM, "group", None):
        return ""
    whom = "its process group" if service.kill_mode == "group" else "its main process"
    if service.daemon:
        whom = "its process groups"
    grace = service.stop_grace_period
    return f"{describe(service.stop_signal)} to {whom}" + (f", KILL after {grace:g} s" if grace is not None else "")
