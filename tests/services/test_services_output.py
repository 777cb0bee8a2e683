"""Contract, "Output": whole lines behind names, in order, byte for byte otherwise; plain, inherit and null."""

import os
import re
from pathlib import Path

import pytest
from harness import Started, open_gate
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serving import FOREVER, PYTHON, Journal, Keys, Server, environment_without
from terminal_session import session

KIB = 1024
NAMED, PLAIN = 16 * KIB, 1024 * KIB


def written(started: Started) -> bytes:
    """What was written to stdout, to the byte."""
    return started._out.read_bytes()


def cat(path: Path) -> list[str]:
    """The command that writes a file to stdout."""
    return ["cat", str(path)]


# -- Named -------------------------------------------------------------------------------------------------------------


def test_each_line_is_behind_its_services_name_padded_to_the_longest(serve: Server) -> None:
    services = {name: {"command": f"echo from {name}; echo; echo ' again'", "oneshot": True} for name in ("a", "web-2")}
    _, out, _ = serve.result(
        {**services, "of-a-long-name": {"command": "exit 0", "output": "null", "oneshot": True}}, "-q"
    )
    assert sorted(out.splitlines()) == sorted(
        ["a     | from a", "a     | ", "a     |  again", "web-2 | from web-2", "web-2 | ", "web-2 |  again"]
    )


def test_stdout_goes_to_stdout_and_stderr_to_stderr(serve: Server) -> None:
    _, out, log = serve.result({"web": {"command": "echo to out; echo to err >&2"}}, "-qq")
    assert (out, log) == ("web | to out\n", "web | to err\n")


def test_with_the_log_among_it_each_line_is_whole(serve: Server) -> None:
    started = serve({"web": {"command": "printf 'a\\nhalf' >&2; exit 3"}})
    assert started.wait() == 3
    lines = [re.sub(r"pid \d+", "pid N", line) for line in started.log().splitlines()]
    assert lines[2:5] == [
        *("web | a", "web | half", "run: [warn] web (pid N): exited with code 3; failed"),
    ]


def test_a_last_line_that_is_not_finished_is_shown_and_finished(serve: Server) -> None:
    scripts = {"a": "printf 'no newline'", "b": "printf 'x\\ny' >&2; printf z"}
    _, out, log = serve.result({name: {"command": script, "oneshot": True} for name, script in scripts.items()}, "-q")
    assert sorted(out.splitlines(keepends=True)) == ["a | no newline\n", "b | z\n"]
    assert log == "b | x\nb | y\n"


def test_what_a_line_is_written_in_is_no_matter(serve: Server, tmp_path: Path) -> None:
    """A line comes when it has come to its end, and not before, however many pieces it is written in."""
    gates = [tmp_path / name for name in ("first", "second")]
    for gate in gates:
        os.mkfifo(gate)
    first, second = gates
    script = f"printf 'o'; printf 'n'; read _ <{first}; printf 'e\\ntwo\\nthr'; read _ <{second}; echo ee; {FOREVER}"
    started = serve({"web": {"command": script}, "other": {"command": f"echo other; {FOREVER}"}})
    started.wait_out("other | other\n")
    open_gate(first)
    started.wait_out("web   | two\n")
    assert started.out() == "other | other\nweb   | one\nweb   | two\n"
    open_gate(second)
    started.wait_out("web   | three\n")


@pytest.mark.parametrize("size", [NAMED - 1, NAMED, NAMED + 1, 2 * NAMED, 2 * NAMED + 1, 5 * NAMED + 7, 1024 * KIB])
@pytest.mark.parametrize("end", [b"\n", b"", b"\nnext\n"])
def test_a_line_of_more_than_16_KiB_goes_on_behind_another_mark(
    serve: Server, tmp_path: Path, size: int, end: bytes
) -> None:
    content = bytes(33 + number % 90 for number in range(size))
    (tmp_path / "line").write_bytes(content + end)
    started = serve({"web": {"command": cat(tmp_path / "line")}}, "-q")
    assert started.wait() == 0
    pieces = [content[begin : begin + NAMED] for begin in range(0, size, NAMED)]
    expected = [b"web | " + pieces[0], *(b"web + " + piece for piece in pieces[1:])]
    if b"next" in end:
        expected.append(b"web | next")
    assert written(started).split(b"\n") == [*expected, b""]


def test_a_long_line_that_stays_unfinished_is_shown_as_it_comes(serve: Server, tmp_path: Path) -> None:
    """And what follows, at its end or in the next life, begins a line of its own."""
    script = f"head -c {NAMED + 10} /dev/zero | tr '\\0' x; exit 1"
    keys = {"command": script, "restart": "on-failure:1", "restart_delay": 0.01}
    _, out, _ = serve.result({"web": keys}, "-q")
    assert out.splitlines() == ["web | " + "x" * NAMED, "web + " + "x" * 10] * 2


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 20_000))
@example([b"\0\xff\r\x1b[31m\t\x7f\xc3", b"", b"\r"], 0)
@example([b"x"] * 20_000, 0)
def test_byte_for_byte_otherwise(serve: Server, tmp_path: Path, lines: list[bytes], longer: int) -> None:
    lines = [line.replace(b"\n", b"") for line in lines] + [b"y" * longer]
    (tmp_path / "content").write_bytes(b"\n".join(lines))
    started = serve({"web": {"command": cat(tmp_path / "content")}}, "-q")
    assert (started.wait(), started.log()) == (0, "")
    expected = [b"web | " + line[:NAMED] for line in (lines if longer else lines[:-1])]
    if longer > NAMED:
        expected.append(b"web + " + lines[-1][NAMED:])
    assert written(started).split(b"\n") == [*expected, b""]


def test_the_order_of_a_services_lines_is_kept_at_any_speed(serve: Server) -> None:
    """Of a hundred services together no line is lost, cut, or mixed with another."""
    names = [f"s{number:02}" for number in range(100)]
    script = 'i=0; while [ $((i += 1)) -le 300 ]; do echo "$0 $i"; [ $((i % 7)) = 0 ] && echo "$0 $i" >&2; done; exit 0'
    services = {name: {"command": ["sh", "-c", script.replace("$", "$$"), name], "oneshot": True} for name in names}
    started = serve(services, "-q")
    assert started.wait() == 0
    for text, step in ((started.out(), 1), (started.log(), 7)):
        lines = text.splitlines()
        assert len(lines) == 100 * (300 // step)
        for name in names:
            own = [line for line in lines if line.startswith(f"{name} | ")]
            assert own == [f"{name} | {name} {number}" for number in range(step, 301, step)]


# -- Plain -------------------------------------------------------------------------------------------------------------


def test_plain_is_the_same_without_the_name(serve: Server) -> None:
    services: dict[str, Keys] = {
        "json": {"command": """echo '{"a": 1}'; echo '  {'; printf '}'""", "output": "plain", "oneshot": True},
        "web": {"command": "echo named", "oneshot": True},
    }
    _, out, _ = serve.result(services, "-q")
    assert sorted(out.splitlines()) == sorted(['{"a": 1}', "  {", "}", "web | named"])


@pytest.mark.parametrize("size", [NAMED + 1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN + 5])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_plain_line_is_whole_up_to_1_MiB(serve: Server, tmp_path: Path, size: int, end: bytes) -> None:
    content = bytes(33 + number % 90 for number in range(size))
    (tmp_path / "line").write_bytes(content + end)
    started = serve({"web": {"command": cat(tmp_path / "line"), "output": "plain"}}, "-q")
    assert started.wait() == 0
    assert written(started).split(b"\n") == [*(content[b : b + PLAIN] for b in range(0, size, PLAIN)), b""]


def test_long_plain_lines_of_several_services_are_not_mixed(serve: Server) -> None:
    """Each writes its line in many pieces, and waits for the others in between."""
    program = (
        "import os, sys\n"
        "for _ in range(5):\n"
        "    for part in range(100): os.write(1, sys.argv[1].encode() * 5000)\n"
        "    os.write(1, b'\\n')\n"
    )
    services = {
        letter: {"command": [*PYTHON, program, letter], "output": "plain", "oneshot": True} for letter in "abcd"
    }
    _, out, _ = serve.result(services, "-q")
    assert sorted(out.splitlines()) == sorted(letter * 500_000 for letter in "abcd" for _ in range(5))


# -- Inherit and null --------------------------------------------------------------------------------------------------


def test_inherit_is_the_very_descriptor_that_run_has(serve: Server, tmp_path: Path) -> None:
    """The same open file, with its offset and its flags."""
    script = "stat -L -c %d:%i /proc/$$/fd/1 /proc/$$/fd/2; echo err >&2"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("ab") as err:
        out.write(b"before\n")
        out.flush()
        started = serve({"web": {"command": script, "output": "inherit"}}, "-q", stdout=out, stderr=err)
        assert started.wait() == 0
        inodes = [f"{os.fstat(f.fileno()).st_dev}:{os.fstat(f.fileno()).st_ino}" for f in (out, err)]
        assert os.lseek(out.fileno(), 0, os.SEEK_CUR) == out.seek(0, os.SEEK_END)
    assert (tmp_path / "out").read_text().splitlines() == ["before", *inodes]
    assert (tmp_path / "err").read_text() == "err\n"


def test_an_unfinished_line_of_inherit_is_left_as_it_is(serve: Server) -> None:
    assert serve.result({"web": {"command": "printf half", "output": "inherit"}}, "-q") == (0, "half", "")


def test_null_is_nothing(serve: Server) -> None:
    assert serve.result({"web": {"command": "echo out; echo err >&2; exit 3", "output": "null"}}, "-qq") == (3, "", "")


# -- Lives -------------------------------------------------------------------------------------------------------------


def test_at_the_end_of_a_life_come_its_words_then_the_log_and_then_the_next_life(serve: Server, tmp_path: Path) -> None:
    """Stdout and stderr are one file, so that there is one order."""
    script = "echo begin; printf half; printf err >&2; exit 1"
    keys = {"command": script, "restart": "on-failure:3", "restart_delay": 0.001}
    with (tmp_path / "both").open("ab") as both:
        assert serve({"web": keys}, stdout=both, stderr=both).wait() == 1
    lines = [re.sub(r" \(pid \d+\)|; .*", "", line) for line in (tmp_path / "both").read_text().splitlines()]
    life = [*("run: [info] web: started /bin/sh -c echo begin", "web | begin", "web | half", "web | err")]
    ends = [f"run: [{level}] web: exited with code 1" for level in ("info", "info", "info", "warn")]
    assert lines[1:-2] == [line for end in ends for line in [*life, end]]


def test_the_pipes_last_for_all_lives(serve: Server) -> None:
    keys = {
        "command": "readlink /proc/$$/fd/1 /proc/$$/fd/2; exit 1",
        "restart": "on-failure:5",
        "restart_delay": 0.001,
    }
    _, out, _ = serve.result({"web": keys}, "-q")
    assert len(out.splitlines()) == 12 and len(set(out.splitlines())) == 2


def test_a_grandchild_that_holds_the_pipe_holds_up_nothing(serve: Server, journal: Journal) -> None:
    """It is in a session of its own, and survives the crash; what it writes later is shown as the service's."""
    away = f"{journal.note('away')}; until grep -q go {journal.path}; do sleep 0.01; done; echo late; {FOREVER}"
    script = f"""
        if grep -q main {journal.path}; then echo second; {FOREVER}; fi
        setsid sh -c '{away}' &
        until grep -q away {journal.path}; do sleep 0.01; done
        {journal.note("main")}; printf unfinished; exit 1
    """
    started = serve({"web": {"command": script, "restart": "always", "restart_delay": 0.01}}, "-q")
    started.wait_out("web | second\n")
    with journal.path.open("a") as file:
        file.write("go\n")
    started.wait_out("web | late\n")
    assert started.out() == "web | unfinished\nweb | second\nweb | late\n"
    assert started.process.poll() is None


def test_what_was_written_just_before_the_shutdown_is_not_lost(serve: Server, journal: Journal) -> None:
    """Upon TERM each writes a thousand lines, and ends at once."""
    flood = "i=0; while [ $((i += 1)) -le 1000 ]; do echo last $i; done; exit 0"
    started = serve({name: {"command": journal.told(name, flood)} for name in "abc"}, "-q")
    for name in "abc":
        journal.wait(f"{name} ready")
    started.process.terminate()
    assert started.wait() == 0
    for name in "abc":
        own = [line for line in started.out().splitlines() if line.startswith(f"{name} |")]
        assert own == [f"{name} | last {number}" for number in range(1, 1001)]


# -- Colours -----------------------------------------------------------------------------------------------------------

COLOURED = re.compile(r"\x1b\[(\d+)m(\w) \|\x1b\[0m from \2\r")


def on_a_terminal(binary: str, serve: Server, **environment: str) -> str:
    """What a terminal shows of three services."""
    file = serve.file({name: {"command": f"echo from {name}", "oneshot": True} for name in "abc"})
    env = [f"{name}={value}" for name, value in environment_without("NO_COLOR", **environment).items()]
    with session("env", "-i", *env, binary, "-f", str(file)) as terminal:
        return terminal.expect("exiting with code 0")


def test_on_a_terminal_the_names_have_colours(binary: str, serve: Server) -> None:
    found = COLOURED.findall(on_a_terminal(binary, serve))
    assert sorted(name for _, name in found) == ["a", "b", "c"]
    assert len({colour for colour, _ in found}) == 3


def test_unless_NO_COLOR_is_set(binary: str, serve: Server) -> None:
    shown = on_a_terminal(binary, serve, NO_COLOR="1")
    assert "a | from a\r" in shown and "\x1b" not in shown


def test_elsewhere_there_are_none(serve: Server) -> None:
    assert "\x1b" not in serve.result({"web": {"command": "echo x"}}, "-q", env=environment_without("NO_COLOR"))[1]


def test_an_idle_service_says_nothing_and_its_lines_come_at_once(serve: Server) -> None:
    """Nothing is kept back for more to come."""
    started = serve({"web": {"command": f"echo one; {FOREVER}"}}, "-q")
    started.wait_out("web | one\n")
    started.process.terminate()
    assert started.wait() == 0


def test_a_life_that_makes_its_stdout_non_blocking_leaves_a_blocking_one_to_the_next(serve: Server) -> None:
    """The pipes last for all lives, and O_NONBLOCK is of the pipe's end, not of a process: open(2)."""
    life = "import os; print(os.get_blocking(1), flush=True); os.set_blocking(1, False); os._exit(3)"
    keys = {"command": ["python3", "-S", "-c", life], "restart": "on-failure:1", "restart_delay": 0.01}
    assert serve.result({"web": keys}, "-qq") == (3, "web | True\nweb | True\n", "")
