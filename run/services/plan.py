"""The plan: which services there are, in order of start, and all that is to be known about each, as plain values.

Made from a file, or from the command lines of `-m`, and from what `run` was given; nothing is started or read here.
Source: contract, "The file" and "Users".
"""

from typing import Any, NamedTuple

from run.services import order
from run.services.environment import for_service, variables
from run.services.file import File
from run.services.healthcheck import Healthcheck
from run.services.users import User, UserError, resolve
from run.services.values import Report
from run.services.words import WordsError, decoded, encoded, listed, nearest, shown, split, substitute
from run.signals import TERM

LONGEST_NAME = 64


class Service(NamedTuple):
    """A service as it is to be run. Times are seconds."""

    name: str
    command: list[bytes]
    environment: list[bytes]
    """All of it, as entries."""
    oneshot: bool = False
    essential: bool = True
    restart: str = "no"
    """`no`, `on-failure` or `always`."""
    restart_limit: int | None = None
    """Restarts in a row at most; None: any number."""
    restart_delay: float = 0.1
    restart_max_delay: float = 60.0
    depends_on: tuple[str, ...] = ()
    user: str | None = None
    """As it was written, with the variables' values; None: the one that `run` is."""
    identity: User | None = None
    """That user, resolved; None also where a variable in it is not set, which `-n` alone lets pass."""
    working_dir: bytes | None = None
    umask: int | None = None
    added_environment: tuple[bytes, ...] = ()
    """The entries that the file adds or replaces."""
    unset_environment: tuple[bytes, ...] = ()
    stop_signal: int = TERM
    stop_grace_period: float | None = None
    """None: what is left of the common one."""
    kill_mode: str = "group"
    """`group` or `mixed`."""
    daemon: bool = False
    healthcheck: Healthcheck | None = None
    on_unhealthy: str = "log"
    """`log` or `restart`."""
    output: str = "named"
    """`named`, `plain`, `inherit` or `null`."""


class Plan(NamedTuple):
    """What is to be started."""

    services: tuple[Service, ...]
    """In order of start: each behind those that it depends on, else as in the file."""
    grace: float | None
    """Seconds that all have together to stop; None: any time."""


class Given(NamedTuple):
    """What `run` was given and the image has: the environment's entries, and the bytes of /etc/passwd and group.

    None for one of these that `run` may not read.
    """

    environment: list[bytes]
    passwd: bytes | None = b""
    group: bytes | None = b""


class Made(NamedTuple):
    """A plan, or the reasons why there is none, each a line; and what a user should look at."""

    plan: Plan | None
    errors: list[str]
    warnings: list[str]


def from_file(file: File, selected: list[bytes], given: Given, grace: float | None, checking: bool) -> Made:
    """The plan of a file: of all services, or of those selected and what they depend on.

    grace is that of `-t`, which overrides the file's. With checking (`-n`) a variable that is not set is a warning.
    What is not selected is not looked at any more: its variables and users may be missing.
    """
    maker = _Maker(given, checking)
    graph = {name: service.get("depends_on", ()) for name, service in file.services.items()}
    wanted = set(graph)
    if selected:
        names = list(map(decoded, selected))
        for name in names:
            if name not in graph:
                accepted = f"{listed(graph)} are accepted" if graph else "the file has none"
                maker.errors.append(f"{file.name}: unknown service {shown(name)}: {accepted}{nearest(name, graph)}")
        wanted = order.needed(graph, [name for name in names if name in graph])
    services = {}
    for name, keys in file.services.items():
        if name in wanted:
            services[name] = maker.service(name, keys, f"{file.name}: {shown(name)[1:-1]}")
    in_order = (services.get(name) for step in order.steps(graph) for name in step)
    plan = Plan(tuple(service for service in in_order if service), file.grace if grace is None else grace)
    return Made(None if maker.errors else plan, maker.errors, maker.warnings)


def from_lines(lines: list[bytes], given: Given, stop_signal: int | None, grace: float | None, checking: bool) -> Made:
    """The plan of `-m`: each command line is a service. stop_signal and grace are those of `-s` and `-t`.

    Variables are substituted as in the file's `command`.
    """
    maker = _Maker(given, checking)
    services: dict[str, Service] = {}
    for number, line in enumerate(lines, 1):
        place = f"command line {number}, {shown(decoded(line))}"
        try:
            words = split(decoded(line))
        except WordsError as error:
            maker.errors.append(f"{place}: {error}")
            continue
        if not words or not words[0]:
            maker.errors.append(f"{place}: there is no command: a command and its words are accepted")
            continue
        name = unused_name(words[0], services)
        keys = {"command": words, "essential": stop_signal is not None, "stop_signal": stop_signal or TERM}
        if service := maker.service(name, keys, place):
            services[name] = service
    plan = Plan(tuple(services.values()), None if stop_signal is None else grace)
    return Made(None if maker.errors else plan, maker.errors, maker.warnings)


def unused_name(word: str, taken: dict[str, Any]) -> str:
    """The name of a service of `-m`: its first word's last part, with a number from the second one of a name on.

    What cannot stand in a name becomes `_`.
    """
    last = word.rstrip("/").rpartition("/")[2]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in last[:LONGEST_NAME]) or "_"
    number, unused = 1, name
    while unused in taken:
        number += 1
        end = f"-{number}"
        unused = name[: LONGEST_NAME - len(end)] + end
    return unused


class _Maker:
    """Makes services, with what `run` was given; collects errors and warnings."""

    def __init__(self, given: Given, checking: bool) -> None:
        self.given = given
        self.variables = variables(given.environment)
        self.checking = checking
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def service(self, name: str, keys: dict[str, Any], place: str) -> Service | None:
        """A service with these checked keys; None without a command, which is an error already."""
        report = Report(place, self.errors)
        fields = {key: value for key, value in keys.items() if key in AS_THEY_ARE}
        fields["restart"], fields["restart_limit"] = keys.get("restart", ("no", None))
        identity = None
        if "user" in keys:
            fields["user"], identity = self.user(keys["user"], report.at("user"))
        if "working_dir" in keys:
            directory, _ = self.substituted(keys["working_dir"], report.at("working_dir"))
            if not directory:
                report.at("working_dir").error("it is empty with the variables' values: a path is accepted")
            fields["working_dir"] = encoded(directory)
        added = {}
        for variable, value in keys.get("environment", {}).items():
            content, _ = self.substituted(value, report.at("environment").at(shown(variable)[1:-1]))
            added[encoded(variable)] = encoded(content)
        unset = tuple(map(encoded, keys.get("unset_environment", ())))
        words = [self.substituted(word, report.at("command"))[0] for word in keys.get("command", ())]
        if not words:
            return None
        if not words[0]:
            report.at("command").error("its first word is empty with the variables' values: a command is accepted")
        return Service(
            name=name,
            command=list(map(encoded, words)),
            environment=for_service(self.given.environment, identity, added, unset),
            identity=identity,
            added_environment=tuple(variable + b"=" + value for variable, value in added.items()),
            unset_environment=unset,
            **fields,
        )

    def user(self, spec: str, report: Report) -> tuple[str, User | None]:
        """A user with the variables' values, and who that is, where it is known."""
        spec, complete = self.substituted(spec, report)
        if complete:
            try:
                return spec, resolve(spec, self.given.passwd, self.given.group)
            except UserError as error:
                report.error(str(error))
        return spec, None

    def substituted(self, text: str, report: Report) -> tuple[str, bool]:
        """A text with the variables' values, and whether all of them are set."""
        missing: list[str] = []
        text = substitute(text, self.variables, missing)
        lines = self.warnings if self.checking else self.errors
        for name in dict.fromkeys(missing):
            accepted = f"a variable that is set, or a default, such as ${{{name}:-VALUE}}, is accepted"
            near = nearest(name, self.variables)
            Report(report.place, lines).error(f"${{{name}}} is not set: {accepted}{near}")
        return text, not missing


_MADE = {"command", "environment", "restart", "user", "working_dir", "unset_environment"}
AS_THEY_ARE = frozenset(Service._fields) - _MADE
"""The keys of a file whose checked values are a service's."""
