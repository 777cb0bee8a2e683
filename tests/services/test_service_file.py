"""The file: contract, "The file" and "Ready and healthy": every key, every wrong value, every bad file."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from run.services import file as service_file
from run.services.file import CHECKS, FileError, load, parse
from run.services.healthcheck import Healthcheck
from run.services.values import signal_number


def checked(keys: str) -> dict[str, Any]:
    """The values of a service with these keys, which are all right."""
    found, errors = parse(f"[services.x]\ncommand = 'x'\n{keys}\n".encode(), "file")
    assert errors == []
    return found.services["x"]


def errors_of(content: str) -> list[str]:
    """The errors in a file, syntax errors included."""
    try:
        return parse(content.encode(), "file")[1]
    except FileError as error:
        return [f"file: {error}"]


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        ("oneshot", "true", True),
        ("essential", "false", False),
        ("restart", "'no'", ("no", None)),
        ("restart", "'on-failure'", ("on-failure", None)),
        ("restart", "'on-failure:5'", ("on-failure", 5)),
        ("restart", "'always:1'", ("always", 1)),
        ("restart_delay", "0.5", 0.5),
        ("restart_max_delay", "'1m30s'", 90.0),
        ("user", "'app:1'", "app:1"),
        ("working_dir", "'/app'", "/app"),
        ("umask", "'027'", 0o27),
        ("environment", "{ A = 'x', B = 3 }", {"A": "x", "B": "3"}),
        ("unset_environment", "['A', 'B', 'A']", ("A", "B")),
        ("stop_signal", "'QUIT'", 3),
        ("stop_signal", "'sigusr1'", 10),
        ("stop_signal", "'RTMIN+2'", 36),
        ("stop_signal", "9", 9),
        ("stop_grace_period", "'500ms'", 0.5),
        ("stop_grace_period", "'1h'", 3600.0),
        ("stop_grace_period", "'1.5s'", 1.5),
        ("kill_mode", "'mixed'", "mixed"),
        ("daemon", "true", True),
        ("on_unhealthy", "'restart'", "restart"),
        ("output", "'plain'", "plain"),
        ("output", "'null'", "null"),
        ("healthcheck", "{ test = ['CMD', 'a', 'b'] }", Healthcheck("test", (b"a", b"b"))),
        ("healthcheck", "{ test = ['CMD-SHELL', 'a || b'] }", Healthcheck("test", (b"/bin/sh", b"-c", b"a || b"))),
        ("healthcheck", "{ test = \"a 'b c'\" }", Healthcheck("test", (b"a", b"b c"))),
        ("healthcheck", "{ tcp = 80 }", Healthcheck("tcp", host="127.0.0.1", port=80)),
        ("healthcheck", "{ tcp = '[::1]:80' }", Healthcheck("tcp", host="::1", port=80)),
        ("healthcheck", "{ tcp = 'localhost:80' }", Healthcheck("tcp", host="127.0.0.1", port=80)),
        ("healthcheck", "{ unix = '/a' }", Healthcheck("unix", path=b"/a")),
        ("healthcheck", "{ http = 'http://10.0.0.1' }", Healthcheck("http", host="10.0.0.1", port=80, path=b"/")),
        ("healthcheck", "{ http = 'http://[::1]:1/a?b' }", Healthcheck("http", host="::1", port=1, path=b"/a?b")),
        ("healthcheck", "{ notify = true }", Healthcheck("notify")),
        (
            "healthcheck",
            "{ notify = true, interval = 1, timeout = '2s', retries = 4, start_period = 5, start_interval = 6 }",
            Healthcheck("notify", interval=1.0, timeout=2.0, retries=4, start_period=5.0, start_interval=6.0),
        ),
    ],
)
def test_a_value_means_what_the_contract_says(key: str, value: str, result: object) -> None:
    assert checked(f"{key} = {value}")[key] == result


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("command", "1 [] '' '  ' [1] ['a',1] [''] 'a&&b' \"a'\" {} ['a\\u0000']"),
        ("oneshot", "1 'true' []"),
        ("essential", "0 'no'"),
        ("restart", "false 'allways' 'no:3' 'on-failure:' 'always:0' 'always:-1' 'always:x' 'always:9999999' 1"),
        ("restart_delay", "0 -1 nan inf true '1' '' '1x' '1s2' 's' 86401 '25h' [] 1979-05-27 1" + "0" * 400),
        ("restart_max_delay", "0 'x' 0.01"),
        ("depends_on", "'redis' ['nobody'] [1] 3"),
        ("user", "1000 '' []"),
        ("working_dir", "'' 1 '" + "x" * 5000 + "'"),
        ("umask", "27 '9' '1000' '' '0o27' '-1'"),
        ("environment", "[] 'A=b' {A=1.5} {A=true} {A=[]} {''=1} {'A=b'=1} {A=1979-05-27}"),
        ("unset_environment", "'A' [''] ['A=b'] [1]"),
        ("stop_signal", "'' 'TREM' 0 65 32 'RTMIN+31' 'RTMAX-31' true 1.5 '33' 'RTMIN-1' 'SIGSIGTERM'"),
        ("stop_grace_period", "0 '0s' -1"),
        ("kill_mode", "'grup' 1"),
        ("daemon", "'true'"),
        ("on_unhealthy", "'stop' false"),
        ("output", "'name' true []"),
        ("unknown", "1"),
        ("healthcheck", "1 [] {} {notify=false} {tcp=0} {tcp=65536} {tcp='80'} {tcp='a.org:80'} {tcp='::1:80'}"),
        (
            "healthcheck",
            "{tcp=1,unix='/a'} {unix='a'} {unix='/" + "x" * 107 + "'} {tcp=1,retries=0} {tcp=1,interval=0}",
        ),
        ("healthcheck", "{http='https://127.0.0.1/'} {http='http://a.org/'} {http='http://127.0.0.1:0/'} {http=1}"),
        (
            "healthcheck",
            "{test=[]} {test=['CMD']} {test=['NONE']} {test=['CMD-SHELL']} {test='a||b'} {tcp='[1.2.3.4]:1'}",
        ),
        ("healthcheck", "{http='http://u@127.0.0.1/'} {notify=1} {tcp=1,time=3} {tcp='1.2.3:80'} {tcp=true} {tcp=[]}"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_file_the_service_the_key_and_what_is_accepted(
    key: str, values: str
) -> None:
    for value in values.replace("'  '", "'\\t'").split(" "):
        given_command = "" if key == "command" else "command = 'x'\n"
        content = f"[services.web]\n{given_command}{key} = {value.replace(chr(39) + chr(92), chr(34) + chr(92))}"
        if "\\" in value:
            content = f"[services.web]\n{given_command}{key} = {value.replace(chr(39), chr(34))}"
        errors = errors_of(content)
        assert len(errors) == 1, (value, errors)
        assert errors[0].startswith("file: web: ") and key in errors[0], errors
        assert "accepted" in errors[0] or "use sh -c" in errors[0] or "needed" in errors[0] or "has none" in errors[0]


def test_every_key_of_the_contract_is_known_and_no_other() -> None:
    assert list(CHECKS) == [
        *("command", "oneshot", "essential", "restart", "restart_delay", "restart_max_delay", "depends_on", "user"),
        *("working_dir", "umask", "environment", "unset_environment", "stop_signal", "stop_grace_period", "kill_mode"),
        *("daemon", "healthcheck", "on_unhealthy", "output"),
    ]


def test_each_error_has_its_line_and_names_the_nearest_word() -> None:
    errors = errors_of(
        """
        stop_grace_periot = 3
        [services.web]
        command = "web"
        depend_on = ["db"]
        depends_on = ["databse"]
        restart = "on-fail"
        stop_signal = "SIGTREM"
        healthcheck = { tcp = 1, intervall = 3 }
        [services.database]
        command = "db"
        output = "names"
        """
    )
    assert len(errors) == 7
    for near in ("stop_grace_period", "depends_on", "database", "on-failure", "TERM", "interval", "named"):
        assert sum(line.endswith(f"the nearest is '{near}'") for line in errors) == 1


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c"), tuple(f"s{number}" for number in range(3000))])
def test_a_circle_is_one_line_that_names_it(names: tuple[str, ...]) -> None:
    tables = [
        f"[services.{a}]\ncommand='x'\ndepends_on=['{b}']" for a, b in zip(names, (*names[1:], names[0]), strict=True)
    ]
    outside = f"[services.outside]\ncommand='x'\ndepends_on=['{names[0]}']"
    (error,) = errors_of("\n".join([outside, *tables]))
    assert " -> ".join([*names, names[0]]) in error


def test_two_circles_are_two_lines() -> None:
    errors = errors_of(
        "\n".join(f"[services.{a}]\ncommand='x'\ndepends_on=['{b}']" for a, b in ("ab", "ba", "cd", "dc"))
    )
    assert len(errors) == 2


@pytest.mark.parametrize(
    "keys",
    ["restart = 'always'", "restart = 'always:3'", "daemon = true", "healthcheck = { tcp = 1 }"],
)
def test_what_cannot_be_beside_oneshot_is_an_error(keys: str) -> None:
    (error,) = errors_of(f"[services.x]\ncommand='x'\noneshot=true\n{keys}")
    assert "oneshot" in error
    assert errors_of("[services.x]\ncommand='x'\noneshot=true\nrestart='on-failure'") == []


@pytest.mark.parametrize("name", ["web", "a-b_c.D9", "x" * 64])
def test_names_are_letters_digits_and_three_more(name: str) -> None:
    assert errors_of(f"[services.'{name}']\ncommand='x'") == []


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "a/b", "a\\n", "\uff11"])
def test_any_other_name_is_an_error(name: str) -> None:
    (error,) = errors_of(f'[services."{name}"]\ncommand="x"')
    assert "at most 64" in error or "1 to 64" in error


@pytest.mark.parametrize("content", ["", "stop_grace_period = 3", "[services]", "services = {}"])
def test_a_file_without_a_service_is_an_error(content: str) -> None:
    (error,) = errors_of(content)
    assert error.startswith("file: there is no service")


@pytest.mark.parametrize("content", ["services = 3", "services = []", "[[services]]", "[services]\nweb = 'x'"])
def test_services_are_tables(content: str) -> None:
    (error,) = errors_of(content)
    assert "a table" in error


def test_a_service_without_command_is_an_error() -> None:
    (error,) = errors_of("[services.web]\nuser = 'x'")
    assert error.startswith("file: web: there is no command")


def test_the_common_grace_is_a_time_and_9_seconds_by_default() -> None:
    assert parse(b"[services.x]\ncommand='x'", "file")[0].grace == 9.0
    assert parse(b"stop_grace_period='1m'\n[services.x]\ncommand='x'", "file")[0].grace == 60.0
    (error,) = errors_of("stop_grace_period=0\n[services.x]\ncommand='x'")
    assert error.startswith("file: stop_grace_period: 0 is wrong")


def test_the_delay_is_not_above_the_maximum() -> None:
    (error,) = errors_of("[services.x]\ncommand='x'\nrestart_delay=61")
    assert "restart_max_delay" in error


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a = 1\nb = ", 2),
        (b"a = 1\na = 2\n", 2),
        (b"a = 1\n\n= 3\nb = 1", 3),
        (b"\n\n\xff\n", 3),
        (b"a = 'x", 1),
        (b"[a]\nb = 1\n[a]\n", 3),
    ],
)
def test_a_syntax_error_has_its_line(content: bytes, line: int) -> None:
    with pytest.raises(FileError, match=f"^line {line}: "):
        parse(content, "file")


@pytest.mark.parametrize(
    "content", [b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000, b"a = 2020-13-45", b"\0", b"a=0x" + b"f" * 9999]
)
def test_odd_toml_is_one_line(content: bytes) -> None:
    try:
        _, errors = parse(content, "file")
    except FileError as error:
        errors = [str(error)]
    assert errors
    assert all("\n" not in line for line in errors)


tables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*CHECKS, "test", "tcp", "http", "unix", "interval", "A"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(content)}" for key, content in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    return {True: "true", False: "false", None: "1979-05-27"}.get(value, str(value))  # type: ignore[call-overload, no-any-return]


@given(st.dictionaries(st.sampled_from([*CHECKS, "x"]), tables))
def test_any_table_is_checked_without_an_exception(table: dict[str, object]) -> None:
    for line in errors_of(f"services.web = {toml(table)}"):
        assert line.startswith("file: ") and line.isprintable()


@given(st.binary())
@example(b"[services.a]\ncommand='x'\n")
def test_any_bytes_are_errors_or_services(content: bytes) -> None:
    try:
        found, errors = parse(content, "file")
    except FileError as error:
        assert str(error).isprintable()
    else:
        assert errors or found.services


def test_what_cannot_be_read_is_one_line_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * 10_000_000)
    (tmp_path / "random").write_bytes(os.urandom(10_000) + b"\xff")
    (tmp_path / "dangling").symlink_to("none")
    for name in ("fifo", "large", "random", "dangling", "none", ".", "large/x", "n" * 300, "\n"):
        path = bytes(tmp_path / name)
        found, errors = load(path)
        assert found is None
        assert len(errors) == 1
        assert errors[0].isprintable()
    assert load(b"/dev/zero")[0] is load(b"a\0b")[0] is None


def test_a_file_that_vanishes_or_fails_while_it_is_read_is_one_line() -> None:
    found, (error,) = load(b"/proc/self/mem")
    assert found is None
    assert "cannot be read" in error


def test_a_file_as_large_as_is_accepted_is_read(tmp_path: Path) -> None:
    start = b"[services.x]\ncommand='x'\n#"
    (tmp_path / "file").write_bytes(start.ljust(service_file.LARGEST, b"#"))
    found, errors = load(bytes(tmp_path / "file"))
    assert (found is not None, errors) == (True, [])


@pytest.mark.parametrize("member", list(signal.Signals))
def test_every_signal_is_known_with_and_without_sig_in_any_case(member: signal.Signals) -> None:
    for name in (member.name, member.name.lower(), member.name.removeprefix("SIG"), str(int(member))):
        assert signal_number(name) == member
    assert signal_number("RTMIN+1") == signal.SIGRTMIN + 1
    assert signal_number("SIGRTMAX-1") == signal.SIGRTMAX - 1
