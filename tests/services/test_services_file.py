"""Contract, "The file": what its words mean to the services that are started, and each error before anything is."""

import os
import re
import signal
from pathlib import Path

import pytest
from harness import Starter
from hypothesis import example, given, settings
from hypothesis import strategies as st
from identity import as_user
from serving import Journal, Keys, Line, Server, events, wait_pid

ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")


def result(start: Starter, folder: Path, content: str | bytes, *options: str, **more: object) -> tuple[int, str, str]:
    """Start a file with this content: exit code, stdout, log."""
    path = folder / "services.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return start.result(*options, "-f", str(path), **more)


# -- What it means -----------------------------------------------------------------------------------------------------


def test_the_example_of_the_contract_runs(serve: Server, start: Starter, tmp_path: Path, binary: str) -> None:
    """With programs that say what they were given."""
    app = tmp_path / "app"
    app.mkdir()
    tmp_path.chmod(0o755)
    text = """
        stop_grace_period = 9

        [services.migrate]
        command = ["APP/migrate", "--to", "latest"]
        oneshot = true
        user = "nobody"

        [services.redis]
        command = "APP/redis-server --save ''"
        user = "games:games"

        [services.web]
        command = "APP/server --port ${PORT:-8080}"
        depends_on = ["migrate", "redis"]
        user = "1000:1000"
        working_dir = "APP"
        environment = { LOG_LEVEL = "info" }
        restart = "on-failure:5"
        stop_signal = "QUIT"
    """.replace("APP", str(app))
    script = '#!/bin/sh\necho "$(id -u) $# $* $LOG_LEVEL $(pwd)"\n'
    for name, more in (("migrate", ""), ("redis-server", "exec sleep 1000\n"), ("server", "exec sleep 1000\n")):
        (app / name).write_text(script + more)
        (app / name).chmod(0o755)
    for folder in app.parents:
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    path = tmp_path / "services.toml"
    path.write_text(text)
    started = start("-f", str(path), cwd="/")
    for name in ("redis", "web"):
        started.wait_out(f"{name} ")
    wait_pid(started, "web")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert sorted(started.out().splitlines()) == [
        "migrate | 65534 2 --to latest  /",
        "redis   | 5 2 --save   /",
        f"web     | 1000 2 --port 8080 info {app}",
    ]
    assert events(started, "web")[-1] == "killed by QUIT (3); stopped"


def test_a_command_is_words_or_a_string_that_is_split_without_patterns_and_operators(
    serve: Server, public: Path
) -> None:
    for name in ("a1", "a2"):
        (public / name).touch()
    services: dict[str, Keys] = {
        "words": {"command": ["printf", "<%s>\\n", "a b", "", "*", "'x'", "&&", "$$HOME", "#"]},
        "string": {"command": Line("""printf '<%s>\\n' 'a b' "" a* x\\ y '&&' "a'b" c#d # e \n f""")},
    }
    _, out, _ = serve.result({name: {**keys, "oneshot": True} for name, keys in services.items()}, "-q", cwd=public)
    said = {name: re.findall(rf"^{name} +\| <(.*)>$", out, re.MULTILINE) for name in services}
    assert said["words"] == ["a b", "", "*", "'x'", "&&", "$HOME", "#"]
    assert said["string"] == ["a b", "", "a*", "x y", "&&", "a'b", "c#d", "#", "e", "f"]


@pytest.mark.parametrize("operator", ["&&", "||", "|", ">", ">>", "<", ";", "&", "2>&1", "|&"])
def test_an_operator_of_a_shell_is_an_error_that_says_use_sh_c(start: Starter, tmp_path: Path, operator: str) -> None:
    code, out, log = result(start, tmp_path, f"[services.web]\ncommand = 'echo a {operator} b'\n")
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and "services.toml: web: command: '" in log and "use sh -c" in log
    quoted = f"[services.web]\ncommand = \"echo a '{operator}' b\"\n"
    assert result(start, tmp_path, quoted, "-q") == (0, f"web | a {operator} b\n", "")


def test_variables_stand_for_what_run_was_given_in_four_keys(serve: Server, public: Path) -> None:
    keys = {
        "command": Line("sh -c 'echo \"$$1|$$2|$$3|$$VALUE|$$(pwd)|$$(id -u)\"' sh ${A} ${NONE:-${B:-c}} $$A$X${X-y}"),
        "environment": {"VALUE": "${A}${EMPTY:-e}$$"},
        "working_dir": "${DIR}",
        "user": "${NOBODY}",
        "oneshot": True,
    }
    env = {"PATH": "/bin:/usr/bin", "A": "a b", "EMPTY": "", "DIR": str(public), "NOBODY": "65534:65534"}
    assert serve.result({"web": keys}, "-q", env=env) == (0, f"web | a b|c|$A$X${{X-y}}|a be$|{public}|65534\n", "")


@pytest.mark.parametrize("key", ["command", "environment", "working_dir", "user"])
def test_a_variable_that_is_not_set_is_an_error(serve: Server, key: str) -> None:
    keys = {"command": Line("echo up"), key: {"A": "${NONE}"} if key == "environment" else Line("${NONE}")}
    code, out, log = serve.result({"web": keys})
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and f".toml: web: {key}" in log and "${NONE} is not set" in log


def test_what_is_not_named_is_not_looked_at(serve: Server) -> None:
    services = {
        "web": {"command": "echo up"},
        "other": {"command": Line("echo ${NONE}"), "user": "no-such-user"},
    }
    assert serve.result(services, "-q", names=["web"]) == (0, "web | up\n", "")
    assert len(serve.result(services)[2].splitlines()) == 2


def test_times_are_numbers_or_strings_as_in_compose(serve: Server) -> None:
    for delay in (0.05, "50ms", "0.05s", "0m0.05s", "50000us"):
        keys = {"command": "exit 1", "restart": "on-failure:1", "restart_delay": delay}
        assert "next start in 0.05 s" in serve.result({"web": keys})[2]


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 64, "-", "."])
def test_names_of_services(serve: Server, name: str) -> None:
    assert serve.result({name: {"command": "echo up"}}, "-q") == (0, f"{name} | up\n", "")


# -- What is wrong -----------------------------------------------------------------------------------------------------

BAD = """
stop_grace_periode = 9
[services.web]
comand = "x"
depends_on = ["dbase", "cache"]
restart = "on-fail"
stop_signal = "SIGTREM"
output = "names"
[services.db]
command = "true"
user = "no-such-user"
umask = 27
oneshot = true
restart = "always"
[services.a]
command = "a"
depends_on = ["b"]
[services.b]
command = "b | c"
depends_on = ["a"]
[services."no name"]
command = []
"""

EXPECTED = [
    "unknown key 'stop_grace_periode': services, stop_grace_period are accepted; the nearest is 'stop_grace_period'",
    "web: unknown key 'comand': .* are accepted; the nearest is 'command'",
    "web: restart: 'on-fail' is wrong: .* are accepted.*; the nearest is 'on-failure'",
    "web: stop_signal: 'SIGTREM' is wrong: .* is accepted; the nearest is 'TERM'",
    "web: output: 'names' is wrong: .* are accepted; the nearest is 'named'",
    "web: there is no command: .* is accepted",
    "db: umask: 27 is wrong: a string of octal digits is accepted.*",
    "db: restart: 'always' is wrong beside oneshot = true: .* are accepted",
    "b: command: '\\|' is an operator of a shell: use sh -c.*",
    "no name: this cannot be a service's name: .* are accepted",
    "no name: command: there is no command: .* is accepted.*",
    "web: depends_on: unknown service 'dbase': web, db, a, b, no name are accepted.*",
    "web: depends_on: unknown service 'cache': .* are accepted.*",
    "a: depends_on: a circle, in which nothing can be the first: a -> b -> a; .*",
    "db: user: unknown user 'no-such-user': .* are accepted.*",
]


def test_each_error_is_one_line_with_the_file_the_service_the_key_what_is_accepted_and_the_nearest_word(
    start: Starter, tmp_path: Path
) -> None:
    for options in ((), ("-q",), ("-qq",), ("-n",)):
        code, out, log = result(start, tmp_path, BAD, *options)
        assert (code, out) == (125, "")
        lines = log.splitlines()
        patterns = [f"run: \\[error\\] {re.escape(str(tmp_path))}/services.toml: {text}" for text in EXPECTED]
        unmatched = [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in lines)]
        assert (unmatched, len(lines)) == ([], len(EXPECTED)), log


@pytest.mark.parametrize(
    ("content", "line"),
    [("[services.a]\ncommand = ", 2), ("[services.a]\n\ncommand = 'x'\ncommand = 'y'\n", 4), ("x", 1), ("\n\n[a\n", 3)],
)
def test_a_syntax_error_is_one_line_with_its_place(start: Starter, tmp_path: Path, content: str, line: int) -> None:
    code, out, log = result(start, tmp_path, content)
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and f"/services.toml: line {line}: this is no TOML" in log


def test_a_number_without_end_is_one_line(start: Starter, tmp_path: Path) -> None:
    """Python converts no longer ones; where it did, it took a module of its own for that."""
    code, out, log = result(start, tmp_path, f"[services.a]\ncommand = 'x'\nrestart_max_delay = {'1' * 60_000}\n")
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and "this is no TOML: Exceeds the limit (4300 digits)" in log


def test_a_file_without_a_service_is_an_error(start: Starter, tmp_path: Path) -> None:
    for content in ("", "stop_grace_period = 3\n", "[services]\n", "# nothing\n"):
        code, _, log = result(start, tmp_path, content)
        assert code == 125
        assert ONE_ERROR.fullmatch(log) and "there is no service" in log


@pytest.mark.parametrize(
    "kind",
    ["none", "directory", "fifo", "dangling", "loop", "random", "large", "zero", "mem", "socket", "long", "empty"],
)
def test_what_cannot_be_read_is_one_line_at_once(start: Starter, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("dangling", "loop"):
        path.symlink_to("file" if kind == "loop" else "none")
    elif kind in ("random", "large"):
        path.write_bytes(os.urandom(100_000) if kind == "random" else b"# comment\n" * 1_000_000)
    elif kind == "socket":
        os.mknod(path, 0o140600)
    name = {"zero": "/dev/zero", "mem": "/proc/self/mem", "long": "x" * 5000, "empty": ""}.get(kind, str(path))
    code, out, log = start.result("-f", name)
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and len(log) < 1000
    assert "internal" not in log and "Errno" not in log


def test_a_file_that_may_not_be_read_is_one_line(copied: Starter, public: Path) -> None:
    (public / "services.toml").write_text("[services.a]\ncommand = 'true'\n")
    (public / "services.toml").chmod(0o600)
    code, _, log = copied.result("-f", str(public / "services.toml"), **as_user(1234, 1234))
    assert code == 125
    assert ONE_ERROR.fullmatch(log) and "Permission denied" in log


@settings(max_examples=60)
@given(st.binary() | st.text().map(str.encode))
@example(b"\xef\xbb\xbf[services.a]\ncommand='true'\n")
@example(b"[services.a]\r\ncommand='true'\r\n")
@example(b"a = " + b"[" * 5000)
@example(b"a = " + b"9" * 5000)
def test_any_bytes_are_errors_of_one_line_each(start: Starter, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    code, out, log = start.result("-nf", str(path))
    assert code == (0 if out else 125)
    assert all(re.fullmatch(r"run: \[error\] .+", line) and line.isprintable() for line in log.splitlines())
    assert bool(log) != bool(out) and "internal" not in log


def test_a_wrong_file_starts_nothing(serve: Server, journal: Journal) -> None:
    services = {"good": {"command": journal.note("up")}, "bad": {"command": journal.note("up"), "restart": "nevr"}}
    code, _, log = serve.result(services)
    assert code == 125
    assert ONE_ERROR.fullmatch(log)
    assert journal.lines() == []
