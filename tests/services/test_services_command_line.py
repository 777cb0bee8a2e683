"""Contract, "Command line" and "The file", last point: `-m`, `-f`, `-n`, and what they mean with each other option."""

import re
import signal
from pathlib import Path

import pytest
from harness import Starter, alive
from serving import PID_1, Journal, Server, events, log_lines, wait_pid

ONE_ERROR = re.compile(r"run: \[error\] [^\n]+\n")


def names(log: str) -> list[str]:
    """The services that were started, in the order of the log."""
    return re.findall(r"^run: \[info\] (\S+) \(pid \d+\): started ", log, re.MULTILINE)


# -- Many command lines ------------------------------------------------------------------------------------------------


def test_each_word_is_a_command_line_split_as_a_shell_would_and_no_shell_is_needed(start: Starter) -> None:
    lines = [r"""printf '%s\n' "a  b" 'c "d"' e\ f g""h '' *""", "\techo  two\n words  ", r'echo "\$HOME \\ \x"']
    code, out, _ = start.result("-qm", *lines)
    assert code == 0
    assert sorted(out.splitlines()) == sorted(
        [f"printf | {word}" for word in ("a  b", 'c "d"', "e f", "gh", "", "*")]
        + ["echo   | two words", r"echo-2 | $HOME \ \x"]
    )


def test_a_service_is_named_after_the_last_part_of_its_first_word(start: Starter) -> None:
    _, _, log = start.result("-m", "/bin/echo a", "echo b", "/none/such/echo c", "'/bin/sh' -c 'exit 0'")
    assert names(log) == ["echo", "echo-2", "sh"]
    assert "echo-3: /none/such/echo: not found" in log


def test_what_cannot_stand_in_a_name_becomes_an_underscore(start: Starter, tmp_path: Path) -> None:
    for name, shown in (("a b", "a_b"), ("\u00e9t\u00e9", "_t_"), ("x" * 70, "x" * 64), ("a=b", "a_b")):
        tool = tmp_path / name
        tool.write_text("#!/bin/sh\nexit 0\n")
        tool.chmod(0o755)
        assert names(start.result("-m", f'"{tool}"')[2]) == [shown]


def test_variables_are_put_in_once_the_words_are_split(start: Starter) -> None:
    env = {"PATH": "/bin:/usr/bin", "WORDS": "a 'b' && c", "EMPTY": ""}
    code, out, _ = start.result("-qm", "printf '%s\\n' ${WORDS} '${NONE:-x y}' ${EMPTY:-z} $$ $WORDS", env=env)
    assert code == 0
    assert out.splitlines() == [f"printf | {word}" for word in ("a 'b' && c", "x y", "z", "$", "$WORDS")]


@PID_1
def test_without_s_none_is_essential(start: Starter, pid_1: bool) -> None:
    started = start("-m", "sleep 1000", "sh -c 'exit 3'", "true", pid_1=pid_1)
    started.wait_log("exited with code 3; failed")
    started.wait_log("exited with code 0; ended")
    sleep = wait_pid(started, "sleep")
    assert alive(sleep) and "shutdown" not in started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 3


@pytest.mark.parametrize("end", ["exit 0", "exit 3"])
@pytest.mark.parametrize(
    "options",
    [
        ("-s", "TERM", "-m"),
        ("-ms", "TERM"),
        ("-msTERM",),
        ("-m", "-s", "term"),
        ("-qms", "SIGTERM"),
        ("-sTERM", "-m", "--"),
    ],
)
def test_with_s_each_is_essential(start: Starter, options: tuple[str, ...], end: str) -> None:
    code, _, log = start.result(*options, "sleep 1000", f"sh -c '{end}'", "sleep 2000")
    assert code == int(end[-1])
    if "-q" not in options[0]:
        assert log.count("killed by TERM (15); stopped") == 2


@PID_1
@pytest.mark.parametrize("name", ["INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2"])
def test_with_s_each_has_that_as_its_stop_signal(start: Starter, name: str, pid_1: bool) -> None:
    started = start("-ms", name, "sleep 1000", "sleep 2000", pid_1=pid_1)
    wait_pid(started, "sleep-2")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert started.log().count(f"killed by {name} (") == 2


def test_s_is_what_goes_to_what_belongs_to_no_service_too(start: Starter, journal: Journal) -> None:
    orphan = f'trap "{journal.note("told")}; exit" USR1; {journal.note("ready")}; while :; do sleep 0.05; done'
    main = f"(setsid sh -c '{orphan}' &); exec sleep 1000"
    file_of_line = "sh -c " + "'" + main.replace("'", "'\\''") + "'"
    started = start("-ms", "USR1", file_of_line)
    journal.wait("ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert journal.lines() == ["ready", "told"]


def test_with_s_t_is_the_grace(start: Starter) -> None:
    started = start("-m", "-sTERM", "-t0.3", """sh -c "trap '' TERM; echo ready; exec sleep 1000" """)
    started.wait_out("ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 137


@pytest.mark.parametrize("options", [(), ("-sTERM",)], ids=["without-s", "with-s"])
def test_without_t_the_grace_has_no_end(start: Starter, options: tuple[str, ...]) -> None:
    """A service that ends when it likes is waited for, longer than the 9 s of a file; INT twice kills."""
    script = """sh -c "trap 'sleep 9.5; exit 4' TERM; echo ready; while :; do sleep 0.05; done" """
    started = start("-m", *options, script)
    started.wait_out("ready")
    started.send(signal.SIGTERM)
    assert started.wait() == 4
    assert "KILL" not in started.log()


def test_t_without_s_is_a_warning_and_is_ignored(start: Starter) -> None:
    code, _, log = start.result("-m", "-t1", "true")
    assert code == 0
    assert log.splitlines()[0] == "run: [warn] option '-t' has no effect without -s, and is ignored"


def test_d_is_a_warning_and_is_ignored(start: Starter, serve: Server) -> None:
    assert start.result("-dm", "true")[2].splitlines()[0].startswith("run: [warn] option '-d' has no effect with -m")
    assert start.result("-dqqm", "true") == (0, "", "")
    file = str(serve.file({"web": {"command": "exit 0"}}))
    assert start.result("-df", file)[2].splitlines()[0].startswith("run: [warn] option '-d' has no effect with -f")


def test_s_with_a_file_is_a_warning_and_is_ignored(serve: Server) -> None:
    """The file says what each one's stop signal is; what belongs to none gets TERM."""
    started = serve({"web": {"command": "(setsid sleep 1000 &); echo up; exec sleep 1000"}}, "-sUSR1")
    started.wait_out("web | up")
    started.send(signal.SIGTERM)
    assert started.wait() == 0
    assert log_lines(started)[0].startswith("option '-s' has no effect with -f")
    assert events(started, "web")[-1] == "killed by TERM (15); stopped"
    assert re.search(r"sending TERM \(15\) to group \d+", started.log()) and "USR1" not in started.log()


# -- A file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["-f"], ["-q", "-f"], ["-t5", "-f"], ["-qf"], ["-qqt", "5", "-f"]])
def test_a_file_is_named_in_the_next_word_or_in_the_same(serve: Server, start: Starter, options: list[str]) -> None:
    file = str(serve.file({"web": {"command": "echo up"}}))
    assert start.result(*options, file)[:2] == (0, "web | up\n")
    *before, last = options
    assert start.result(*before, last + file)[:2] == (0, "web | up\n")
    assert start.result(*options, file, "--", "web")[:2] == (0, "web | up\n")


def test_of_several_files_the_last_one_counts(serve: Server, start: Starter) -> None:
    files = [str(serve.file({name: {"command": "echo up"}})) for name in ("a", "b")]
    assert start.result("-qf", files[0], "-f", files[1])[:2] == (0, "b | up\n")


def test_options_end_at_the_first_name(serve: Server, start: Starter) -> None:
    file = str(serve.file({"-q": {"command": "echo a"}, "web": {"command": "echo b"}}))
    code, _, log = start.result("-f", file, "web", "-q")
    assert (code, sorted(names(log))) == (0, ["-q", "web"])


def test_a_relative_path_is_meant_from_the_working_directory(serve: Server, start: Starter) -> None:
    file = serve.file({"web": {"command": "echo up"}})
    assert start.result("-qf", file.name, cwd=file.parent)[:2] == (0, "web | up\n")


def test_an_unknown_name_is_one_line_for_each_with_the_nearest(serve: Server, journal: Journal) -> None:
    services = {"redis": {"command": journal.note("up")}, "web": {"command": journal.note("up")}}
    code, _, log = serve.result(services, names=["web", "rediss", "nobody"])
    assert code == 125
    first, second = log.splitlines()
    assert re.fullmatch(
        r"run: \[error\] /\S+: unknown service 'rediss': redis, web are accepted; the nearest is 'redis'", first
    )
    assert "unknown service 'nobody'" in second
    assert journal.lines() == []


# -- What is wrong -----------------------------------------------------------------------------------------------------

WRONG = {
    "-m": "no command line was given",
    "-m --": "no command line was given",
    "-f": "option '-f' needs a value",
    "-u": "option '-u' needs a value",
    "-n": "'-n' is for many services",
    "-n true": "'-n' is for many services",
    "-nsTERM true": "'-n' is for many services",
    "-m -f x true": "'-m' and '-f' cannot be together",
    "-f x -m true": "'-m' and '-f' cannot be together",
    "-mf x true": "'-m' and '-f' cannot be together",
    "-c status -m true": "'-m' and '-c' cannot be together",
    "-c status -f x": "'-f' and '-c' cannot be together",
    "-u root -m true": "option '-u' is for one command",
    "-mu root true": "option '-u' is for one command",
    "-u root -f x": "option '-u' is for one command",
    "-u root -c status": "option '-u' is for one command",
    "-u root": "no command was given",
    "-ms TREM true": "unknown signal 'TREM'",
    "-ms true": "unknown signal 'true'",
    "-t0 -f x": "wrong number of seconds '0'",
    "-mt true": "wrong number of seconds 'true'",
    "-mx true": "unknown option '-x'",
    "--file x": "unknown option '--file'",
    "-nmz true": "unknown option '-z'",
}


@pytest.mark.parametrize("quiet", ["", "-qqq "])
@pytest.mark.parametrize(("words", "message"), WRONG.items())
def test_a_wrong_command_line_is_one_line_and_125(start: Starter, words: str, message: str, quiet: str) -> None:
    """However many -q there are."""
    code, out, log = start.result(*f"{quiet}{words}".split())
    assert (code, out) == (125, "")
    assert ONE_ERROR.fullmatch(log) and message in log and "accepted" in log


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "there is no command"),
        ("   ", "there is no command"),
        ("''", "there is no command"),
        ("true && true", "'&&' is an operator of a shell: use sh -c"),
        ("true | true", "'|' is an operator of a shell: use sh -c"),
        ("true >x", "'>' is an operator of a shell: use sh -c"),
        ("true; true", "';' is an operator of a shell: use sh -c"),
        ("true &", "'&' is an operator of a shell: use sh -c"),
        ("true 'x", "quote ' is not closed"),
        ("true \\", "backslash is the last character"),
        ("true ${NO_SUCH_VARIABLE}", "${NO_SUCH_VARIABLE} is not set"),
    ],
)
def test_each_wrong_command_line_of_m_is_one_line_and_nothing_is_started(
    start: Starter, journal: Journal, line: str, message: str
) -> None:
    good = f"sh -c '{journal.note('up')}'"
    code, _, log = start.result("-m", good, line, good, line)
    assert code == 125
    first, second = log.splitlines()
    assert first.startswith("run: [error] command line 2, '") and second.startswith("run: [error] command line 4, '")
    assert message in first and message in second
    assert journal.lines() == []


def test_h_and_v_come_before_what_is_missing(start: Starter) -> None:
    assert start.result("-mh")[0] == start.result("-nv")[0] == start.result("-h", "-f", "x")[0] == 0
    assert start.result("-mh")[1].startswith("Usage:")
