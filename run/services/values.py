"""Values: what a value of the file may be, and the errors in it, one line each.

A check gets a value as tomllib gives it, and a report to write errors to; it returns what the value means, or None
where it is wrong. Source: contract, "The file".
"""

import re

from run.services.words import WordsError, encoded, listed, nearest, shown, split
from run.signals import NAMES, RTMAX, RTMIN

MAX_SECONDS = 86400
MAX_COUNT = 1_000_000
LARGEST_INTEGER = 1 << 64
POLICIES = ("no", "on-failure", "always")

UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(us|µs|ms|s|m|h)")

ALIASES = {"IOT": "ABRT", "CLD": "CHLD", "POLL": "IO"}
"""Other names of signal(7)."""


class Report:
    """Where errors go: lines, each behind the place that it is about."""

    def __init__(self, place: str, lines: list[str]) -> None:
        """Take a place, such as `services.toml: web`, and the list that the lines are added to."""
        self.place = place
        self.lines = lines

    def at(self, place: str) -> "Report":
        """The same for a place within this one."""
        return Report(f"{self.place}: {place}", self.lines)

    def error(self, message: str) -> None:
        """Add an error."""
        self.lines.append(f"{self.place}: {message}")

    def wrong(self, value: object, accepted: str) -> None:
        """Add the error that a value is wrong: say what is accepted."""
        self.error(f"{described(value)} is wrong: {accepted}")


def described(value: object) -> str:
    """A value as a message shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int | float):
        # Python shows no integer of thousands of digits
        return str(value) if abs(value) < LARGEST_INTEGER else "such a number"
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "a table"
    return "a date or a time"


def boolean(value: object, report: Report) -> bool | None:
    """True or false."""
    if isinstance(value, bool):
        return value
    report.wrong(value, "true or false is accepted")
    return None


def text(value: object, report: Report, accepted: str = "a string is accepted") -> str | None:
    """A string that is not empty, and has no NUL, which ends strings in every system call."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    if isinstance(value, str):
        accepted += ", without a NUL" if value else ", not an empty one"
    report.wrong(value, accepted)
    return None


def choice(value: object, report: Report, accepted: tuple[str, ...]) -> str | None:
    """One of some words."""
    if isinstance(value, str) and value in accepted:
        return value
    near = nearest(value, accepted) if isinstance(value, str) else ""
    report.wrong(value, f"{listed(accepted)} are accepted{near}")
    return None


def seconds(value: object, report: Report) -> float | None:
    """A time: a number of seconds, or a string as in Compose (`1m30s`, `500ms`)."""
    number: float | None = None
    if isinstance(value, str):
        parts = DURATION.findall(value)
        if parts and "".join(map("".join, parts)) == value:
            number = sum(float(amount) * UNITS[unit] for amount, unit in parts)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if number is not None and 0 < number <= MAX_SECONDS:
        return float(number)
    report.wrong(value, f"more than 0 and at most {MAX_SECONDS} seconds are accepted, as a number or such as '1m30s'")
    return None


def count(value: object, report: Report) -> int | None:
    """A whole number of times, at least one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT:
        return value
    report.wrong(value, f"a whole number from 1 to {MAX_COUNT} is accepted")
    return None


def restart(value: object, report: Report) -> tuple[str, int | None] | None:
    """When to restart, and how often in a row at most: None for any number of times."""
    if isinstance(value, str):
        policy, colon, limit = value.partition(":")
        if not colon and policy in POLICIES:
            return policy, None
        if policy in POLICIES[1:] and re.fullmatch("0*[1-9][0-9]{0,5}", limit):
            return policy, int(limit)
    near = nearest(value.partition(":")[0], POLICIES) if isinstance(value, str) else ""
    accepted = "no, on-failure and always are accepted, the last two also with :N, such as on-failure:5"
    report.wrong(value, accepted + near)
    return None


def signal(value: object, report: Report) -> int | None:
    """The number of any signal: a name with or without SIG, in any case, or a number."""
    number = signal_number(value) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(value, bool) and is_signal(number):
        return number
    near = nearest(value.upper().removeprefix("SIG"), NAMES) if isinstance(value, str) else ""
    report.wrong(value, f"a name such as TERM, SIGTERM or RTMIN+1, or a number is accepted{near}")
    return None


def is_signal(number: int) -> bool:
    """Whether a signal has this number: 32 and 33 are the C library's, and are not accepted."""
    return 0 < number <= RTMAX and number not in (32, 33)


def signal_number(word: str) -> int | None:
    """The number of the signal that a word names, or that it is, if there is one: signal(7)."""
    if not word.isascii():
        return None
    name = word.upper().removeprefix("SIG")
    name = ALIASES.get(name, name)
    if name in NAMES:
        return NAMES.index(name) + 1
    if re.fullmatch("[0-9]{1,2}", name):
        return int(name) if is_signal(int(name)) else None
    if real_time := re.fullmatch(r"(?:RTMIN(?:\+([0-9]{1,2}))?|RTMAX(?:-([0-9]{1,2}))?)", name):
        number = RTMIN + int(real_time[1] or 0) if name.startswith("RTMIN") else RTMAX - int(real_time[2] or 0)
        return number if RTMIN <= number <= RTMAX else None
    return None


def umask(value: object, report: Report) -> int | None:
    """A umask: a string of octal digits."""
    if isinstance(value, str) and re.fullmatch("0*[0-7]{1,3}", value):
        return int(value, 8)
    report.wrong(value, "a string of octal digits is accepted, at most '777', such as '027'")
    return None


def words(value: object, report: Report) -> list[str] | None:
    """A command: words, or a string that is split as a shell would; the first one is not empty."""
    if isinstance(value, str):
        try:
            value = split(value)
        except WordsError as error:
            report.error(str(error))
            return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        report.wrong(value, "an array of words, or one string, is accepted")
    elif not value or not value[0]:
        report.error("there is no command: an array of words, or one string, is accepted, not an empty one")
    elif any("\0" in word for word in value):
        report.error("a word has a NUL: words without one are accepted")
    else:
        return value
    return None


def names(value: object, report: Report) -> tuple[str, ...] | None:
    """Names of services, or of variables: an array of strings, each counted once."""
    if not isinstance(value, list):
        report.wrong(value, "an array of names is accepted, such as ['redis']")
        return None
    good = []
    for name in value:
        if isinstance(name, str):
            good.append(name)
        else:
            report.wrong(name, "a name is accepted, as a string")
    return tuple(dict.fromkeys(good))


def variable_names(value: object, report: Report) -> tuple[str, ...] | None:
    """Names of variables."""
    found = names(value, report)
    return found and tuple(name for name in found if variable_name(name, report))


def variable_name(name: str, report: Report) -> bool:
    """Whether this can be the name of a variable: environ(7)."""
    if name and "=" not in name and "\0" not in name:
        return True
    report.error(f"{shown(name)} cannot be a variable's name: one that is not empty, without '=' and NUL, is accepted")
    return False


def environment(value: object, report: Report) -> dict[str, str] | None:
    """Variables: a table of strings or integers."""
    if not isinstance(value, dict):
        report.wrong(value, "a table is accepted, such as { LOG_LEVEL = 'info' }")
        return None
    good = {}
    for name, content in value.items():
        place = report.at(shown(name)[1:-1])
        if not variable_name(name, report):
            continue
        if isinstance(content, str) and "\0" not in content:
            good[name] = content
        elif isinstance(content, int) and not isinstance(content, bool) and abs(content) < LARGEST_INTEGER:
            good[name] = str(content)
        elif isinstance(content, str):
            place.error("there is a NUL in the value: a string without one is accepted")
        else:
            place.wrong(content, "a string or an integer is accepted")
    return good


def path(value: object, report: Report) -> str | None:
    """A path of a file in the file system, at most as long as PATH_MAX."""
    found = text(value, report, "a path is accepted")
    if found is not None and len(encoded(found)) > 4095:
        report.error("the path is too long: 4095 bytes are accepted")
        return None
    return found
