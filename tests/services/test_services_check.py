"""Contract, "The file": `-n` only checks, and prints the plan: what would be started, in which order, and how."""

import os
import re
from pathlib import Path

import pytest
from harness import Starter
from identity import as_user, without
from scratch import Scratch
from serving import Journal, Keys, Line, Server

EXAMPLE = """
stop_grace_period = 9              # seconds for all together: below the 10 that docker gives; then KILL

[services.migrate]
command = ["/app/migrate", "--to", "latest"]
oneshot = true
user = "nobody"

[services.redis]
command = "redis-server --save ''"
user = "games:games"

[services.web]
command = "/app/server --port ${PORT:-8080}"
depends_on = ["migrate", "redis"]
user = "54321:54321"
working_dir = "/app"
environment = { LOG_LEVEL = "info" }
restart = "on-failure:5"
stop_signal = "QUIT"
"""

PLAN = """\
3 services, in order of start; 9 s to stop, in reverse order

1. migrate
   command      /app/migrate --to latest
   start        at once
   user         nobody (uid 65534, gid 65534), home /nonexistent
   ready        when it has ended with 0 (oneshot)

2. redis
   command      redis-server --save ''
   start        at once
   user         games:games (uid 5, gid 60), home /usr/games

3. web
   command      /app/server --port 8080
   start        after migrate (success), redis
   user         54321:54321 (uid 54321, gid 54321), home /
   directory    /app
   environment  LOG_LEVEL=info
   restart      on-failure, after 0.1 s, doubled up to 60 s, at most 5 in a row
   stop         QUIT (3) to its process group
"""


@pytest.fixture
def example(tmp_path: Path) -> str:
    """The example of the contract, with users that Debian has."""
    path = tmp_path / "services.toml"
    path.write_text(EXAMPLE)
    return str(path)


@pytest.mark.parametrize("options", [["-nf"], ["-n", "-f"], ["-qqnf"]])
def test_the_plan_of_the_example(start: Starter, example: str, options: list[str]) -> None:
    assert start.result(*options, example) == (0, PLAN, "")


def test_nothing_is_started(serve: Server, start: Starter, journal: Journal) -> None:
    services = {"web": {"command": journal.note("up")}, "once": {"command": journal.note("up"), "oneshot": True}}
    assert serve.result(services, "-n")[0] == 0
    assert start.result("-nm", f"sh -c '{journal.note('up')}'")[0] == 0
    assert journal.lines() == []


def test_what_would_be_started_in_which_order(serve: Server) -> None:
    on = {"web": ["app", "cache"], "cache": [], "app": ["db"], "db": [], "last": []}
    services = {name: {"command": ["x"], "depends_on": others} for name, others in on.items()}
    assert re.findall(r"^\d\. (.*)$", serve.result(services, "-n")[1], re.M) == ["cache", "db", "last", "app", "web"]
    assert re.findall(r"^\d\. (.*)$", serve.result(services, "-n", names=["app"])[1], re.M) == ["db", "app"]


def test_the_plan_of_many_command_lines(start: Starter) -> None:
    words = ("nginx -g 'daemon off;'", "redis-server")
    assert start.result("-nm", *words) == (
        0,
        "2 services; no limit of time to stop\n\n"
        "1. nginx\n   command      nginx -g 'daemon off;'\n   start        at once\n"
        "   end          stops nothing else (not essential)\n\n"
        "2. redis-server\n   command      redis-server\n   start        at once\n"
        "   end          stops nothing else (not essential)\n",
        "",
    )
    code, out, _ = start.result("-n", "-ms", "QUIT", "-t2.5", words[1])
    assert (code, out) == (
        0,
        "1 service; 2.5 s to stop\n\n1. redis-server\n   command      redis-server\n   start        at once\n"
        "   stop         QUIT (3) to its process group\n",
    )


SHOWN: dict[str, tuple[Keys, str, str]] = {
    "quotes": ({"command": ["a b", "$$x", "it's", ""]}, "command", "'a b' '$x' 'it'\\''s' ''"),
    "control characters": ({"command": ["x", "a\nb"]}, "command", "x $'a\\x0ab'"),
    "umask": ({"umask": "27"}, "umask", "027"),
    "without": ({"unset_environment": ["A", "B"]}, "without", "A B"),
    "daemon": ({"daemon": True}, "ready", "when its first process has ended with 0 (daemon)"),
    "not essential": ({"essential": False}, "end", "stops nothing else (not essential)"),
    "restart": (
        {"restart": "always", "restart_delay": "1m", "restart_max_delay": 90},
        "restart",
        "always, after 60 s, doubled up to 90 s",
    ),
    "kill_mode": ({"kill_mode": "mixed"}, "stop", "TERM (15) to its main process"),
    "grace": ({"stop_grace_period": 0.5}, "stop", "TERM (15) to its process group, KILL after 0.5 s"),
    "output": ({"output": "null"}, "output", "null"),
    "test": (
        {"healthcheck": {"test": ["CMD", "ask", "-q"]}},
        "ready",
        "when ask -q succeeds, tried each 1 s, within 60 s",
    ),
    "http": (
        {"healthcheck": {"http": "http://[::1]/h"}},
        "ready",
        "when http [::1]:80/h succeeds, tried each 1 s, within 60 s",
    ),
    "notify": ({"healthcheck": {"notify": True}}, "ready", "when it says READY=1 (notify), within 60 s"),
}


@pytest.mark.parametrize(("keys", "label", "text"), SHOWN.values(), ids=SHOWN)
def test_how_each_key_is_shown(serve: Server, keys: Keys, label: str, text: str) -> None:
    code, out, log = serve.result({"web": {"command": ["x"], **keys}}, "-n")
    assert (code, log) == (0, "")
    assert f"   {label:12} {text}\n" in out


def test_a_variable_that_is_not_set_is_a_warning(serve: Server) -> None:
    """When an image is built the container's variables do not exist."""
    keys = {"command": Line("app ${NONE}"), "user": "${WHO}", "environment": {"A": "${NONE}"}}
    code, out, log = serve.result({"web": keys}, "-n")
    assert code == 0
    assert "command      app '${NONE}'\n" in out and "not known before its variables are set" in out
    lines = log.splitlines()
    assert len(lines) == 3 and all(re.match(r"run: \[warn\] .* is not set: ", line) for line in lines)
    assert serve.result({"web": keys}, "-nqq")[2] == ""


def test_an_unknown_user_is_an_error_all_the_same(serve: Server) -> None:
    code, out, log = serve.result({"web": {"command": ["x"], "user": "no-such-user"}}, "-n")
    assert (code, out) == (125, "")
    assert "unknown user 'no-such-user'" in log


def test_who_checks_need_not_be_able_to_start(
    serve: Server, example: str, start: Starter, copied: Starter, public: Path
) -> None:
    """Neither the capabilities nor the commands are looked at."""
    assert start.result("-nf", example, prefix=without("kill", "setuid", "setgid")) == (0, PLAN, "")
    (public / "services.toml").write_text(EXAMPLE)
    assert copied.result("-nf", str(public / "services.toml"), **as_user(1234, 1234)) == (0, PLAN, "")


def test_it_works_where_there_is_nothing_but_the_binary_and_the_file(scratch: Scratch) -> None:
    started = scratch({"web": {"command": ["/app"], "user": "1000"}}, "-n", user="1000:1000")
    assert (started.wait(), started.log()) == (0, "")
    assert "user         1000 (uid 1000, gid 0), home /\n" in started.out()


@pytest.mark.parametrize("kind", ["full", "closed", "gone"])
def test_a_plan_that_cannot_be_written_is_one_line_and_125(start: Starter, example: str, kind: str) -> None:
    reader, gone = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    if kind == "closed":
        code, _, log = start.result("-nf", example, preexec_fn=lambda: os.close(1))
    else:
        code, _, log = start.result("-nf", example, stdout=full if kind == "full" else gone)
    os.close(gone)
    os.close(full)
    assert code == 125
    assert re.fullmatch(r"run: \[error\] cannot write to standard output: [^\n]+\n", log)


def test_a_long_plan_is_written_whole(serve: Server) -> None:
    services = {f"s{number}": {"command": ["x" * 100] * 20} for number in range(400)}
    code, out, _ = serve.result(services, "-n")
    assert code == 0
    assert len(re.findall(r"^ *\d+\. s\d+$", out, re.MULTILINE)) == 400
