"""Contract, "Command line": every spelling, and every wrong one."""

import os
import re
import signal
from pathlib import Path

import pytest
from harness import Starter

import run

HELP = """\
Usage:
  run [-qsdtu] cmd [args...]
  run [-qstn] -m cmd...
  run [-qtn] -f FILE [name...]
  run -c ACTION [name...]
  run [-hv]

Start `cmd`, then wait for it and all its descendants to complete.

Options:
  -q       Reduce logging level (may be given more than once).
  -s SIG   Send signal SIG to all remaining processes when one terminates;
           SIG can be any of: INT, TERM, KILL, QUIT, HUP, USR1, USR2.
  -d       Daemon mode: skip sending the above termination signal when `cmd`
           exits with code 0.
  -t N     Wait N seconds before sending KILL signal to all remaining processes.
  -u USER  Run cmd as USER, as in a Dockerfile: a name or a number, with :GROUP
           if wanted.
  -m       Many services: each cmd is a whole command line, split into words as
           a shell would; no shell is needed.
  -f FILE  Start the services that FILE (TOML) describes, or those named and
           what they depend on.
  -n       Only check, and print what would be started, in which order, and how.
  -c       Ask the `run` of this container: status, json, health, start, stop,
           restart, signal SIG.
  -h       Show this help and exit.
  -v       Show version and exit.
"""

SIGNALS = ("INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2")
NO_TERMINATION_SIGNAL = "no effect without -s"


def test_h_shows_the_help(start: Starter) -> None:
    assert start.result("-h") == (0, HELP, "")


def test_v_shows_the_version(start: Starter) -> None:
    assert start.result("-v") == (0, f"run {run.VERSION}\n", "")
    assert re.fullmatch(r"\d+\.\d+\.\d+", run.VERSION)


@pytest.mark.parametrize(
    "words", [["-qh"], ["-q", "-h"], ["-hq"], ["-s", "TERM", "-h"], ["-sTERM", "-dt5", "-h"], ["-hh"]]
)
def test_h_among_other_options(start: Starter, words: list[str]) -> None:
    assert start.result(*words) == (0, HELP, "")


@pytest.mark.parametrize("option", ["-h", "-v"])
def test_h_and_v_start_nothing(start: Starter, tmp_path: Path, option: str) -> None:
    marker = tmp_path / "started"
    code, out, log = start.result(option, "touch", str(marker))
    assert (code, log) == (0, "")
    assert out == (HELP if option == "-h" else f"run {run.VERSION}\n")
    assert not marker.exists()


@pytest.mark.parametrize("option", ["-h", "-v"])
def test_output_that_cannot_be_written_is_an_error(start: Starter, option: str) -> None:
    with open("/dev/full", "w") as full:
        code, _, log = start.result(option, stdout=full)
    assert code == 125
    assert re.fullmatch(r"run: \[error\] [^\n]*No space left on device\n", log)


@pytest.mark.parametrize("option", ["-h", "-v"])
def test_output_that_nobody_reads_or_that_is_closed_is_an_error(start: Starter, option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, _, log = start.result(option, stdout=writer)
    os.close(writer)
    assert code == 125
    assert re.fullmatch(r"run: \[error\] [^\n]*Broken pipe\n", log)
    code, _, log = start.result(option, preexec_fn=lambda: os.close(1))
    assert code == 125
    assert re.fullmatch(r"run: \[error\] [^\n]*Bad file descriptor\n", log)


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["", "--"])
def test_options_end_at_the_first_word_that_is_none_or_at_a_double_hyphen(start: Starter, separator: list[str]) -> None:
    after = ["-q", "-s", "NONSENSE", "-h", "--help", "--", "-t", "x", "-v"]
    code, out, _ = start.result("-q", *separator, "printf", r"%s\n", *after)
    assert (code, out.splitlines()) == (0, after)


@pytest.mark.parametrize("name", ["-x", "--", "-h", "-s", "--help", "-"])
def test_after_a_double_hyphen_even_an_option_is_the_command(start: Starter, tmp_path: Path, name: str) -> None:
    command = tmp_path / name
    command.write_text("#!/bin/sh\necho started\n")
    command.chmod(0o755)
    code, out, _ = start.result("--", name, env={"PATH": f"{tmp_path}:/bin"})
    assert (code, out) == (0, "started\n")


def test_a_single_hyphen_is_a_command(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "-").write_text("#!/bin/sh\necho started\n")
    (tmp_path / "-").chmod(0o755)
    code, out, _ = start.result("-", "x", env={"PATH": f"{tmp_path}:/bin"})
    assert (code, out) == (0, "started\n")


SPELLINGS = [
    ("-q", 1, None),
    ("-qq", 2, None),
    ("-q -q", 2, None),
    ("-qqq", 3, None),
    ("-qds TERM", 1, "TERM"),
    ("-dsSIGTERM", 0, "TERM"),
    ("-sTERM", 0, "TERM"),
    ("-s TERM", 0, "TERM"),
    ("-s INT -s HUP", 0, "HUP"),
    ("-s TERM -t10", 0, "TERM"),
    ("-s TERM -t 10", 0, "TERM"),
    ("-t10 -s TERM", 0, "TERM"),
    ("-t10 -sTERM -d -q", 1, "TERM"),
    ("-qdt10 -s TERM", 1, "TERM"),
    ("-ddsHUP", 0, "HUP"),
    *((f"-s {name}", 0, name) for name in SIGNALS),
    *((f"-s SIG{name}", 0, name) for name in SIGNALS),
    *((f"-s {name.lower()}", 0, name) for name in SIGNALS),
    ("-s sigterm", 0, "TERM"),
    ("-s SigUsr1", 0, "USR1"),
    ("-ssIgHuP", 0, "HUP"),
]


@pytest.mark.parametrize(("words", "quiet", "name"), SPELLINGS, ids=[spelling[0] for spelling in SPELLINGS])
def test_a_spelling(start: Starter, words: str, quiet: int, name: str | None) -> None:
    """What was understood shows in the log, and in the signal that ends the process that remains."""
    script = (
        "exec python3 -c 'import os, signal, time; signal.signal(2, 0); os.fork() or time.sleep(1000); os._exit(1)'"
    )
    started = start(*words.split(), "sh", "-c", script if name else "exit 1")
    expected = 128 + signal.Signals[f"SIG{name}"] if name else 1
    assert started.wait() == expected
    log = started.log()
    assert ("own pid" in log) == (quiet == 0)
    assert "[warn]" not in log and "[error]" not in log
    if name and quiet == 0:
        assert f"sending {name} (" in log


@pytest.mark.parametrize("seconds", ["1", "10", "0.5", "0.001", ".5", "007", "86400", "86400.0", "86399.999"])
def test_seconds_that_are_accepted(start: Starter, seconds: str) -> None:
    for words in (["-t", seconds], [f"-t{seconds}"]):
        code, _, log = start.result("-s", "TERM", *words, "true")
        assert code == 0, log
        assert "[warn]" not in log


@pytest.mark.parametrize(("option", "words"), [("-d", ["-d"]), ("-t", ["-t", "5"]), ("-t", ["-t0.5"]), ("-d", ["-dd"])])
def test_d_or_t_without_s_is_a_warning_and_ignored(start: Starter, option: str, words: list[str]) -> None:
    code, _, log = start.result(*words, "sh", "-c", "(sleep 0.3; exit 4) & exit 3")
    assert code == 4, "nothing was sent to the process that remained"
    warnings = [line for line in log.splitlines() if "[warn]" in line]
    assert len(warnings) == 1
    assert option in warnings[0] and "-s" in warnings[0] and "ignored" in warnings[0]


def test_d_and_t_without_s_are_warned_of_both_and_q_alone_does_not_hide_it(start: Starter) -> None:
    log = start.result("-q", "-d", "-t1", "true")[2]
    assert log.count("[warn]") == 2
    assert "'-d'" in log and "'-t'" in log
    assert start.result("-qqdt1", "true") == (0, "", "")


# Wrong command lines: the words, the offending word, and something of what would be accepted.
WRONG: list[tuple[list[str], str, str]] = [
    ([], "no command", "cmd"),
    (["--"], "no command", "cmd"),
    (["-q"], "no command", "cmd"),
    (["-s", "TERM"], "no command", "cmd"),
    (["-qd", "-t5", "--"], "no command", "cmd"),
    (["-x", "true"], "-x", "-q"),
    (["-qx", "true"], "-x", "-q"),
    (["-q", "-dz", "true"], "-z", "-t"),
    (["-1", "true"], "-1", "-q"),
    (["--help"], "--help", "-h"),
    (["--version"], "--version", "-v"),
    (["--quiet", "true"], "--quiet", "-q"),
    (["-q", "--nonsense=5", "true"], "--nonsense=5", "-q"),
    (["---", "true"], "---", "-q"),
    (["-s", "TERM", "-x", "true"], "-x", "-q"),
    (["-t", "5", "--no", "true"], "--no", "-q"),
    (["-s"], "-s", "TERM"),
    (["-q", "-ds"], "-s", "TERM"),
    (["-t"], "-t", "seconds"),
    (["-s", "INT", "-qt"], "-t", "seconds"),
    *((["-s", name, "true"], name, "INT, TERM, KILL, QUIT, HUP, USR1, USR2") for name in
      ("FOO", "STOP", "CHLD", "15", "SIG", "SIGSIGTERM", "TERM ", " TERM", "ALRM", "SEGV", "-15", "INT,")),
    (["-sFOO", "true"], "FOO", "TERM"),
    (["-qsd", "true"], "d", "TERM"),
    (["-s=TERM", "true"], "=TERM", "TERM"),
    (["-s", "", "true"], "''", "TERM"),
    (["-s", "--", "true"], "--", "TERM"),
    (["-s", "FOO", "-s", "TERM", "true"], "FOO", "TERM"),
    (["-s", "TERM", "-s", "FOO", "true"], "FOO", "TERM"),
    *((["-s", "TERM", "-t", seconds, "true"], seconds, "86400") for seconds in
      ("0", "0.0", "-1", "86400.001", "86401", "1e3", "inf", "nan", "0x10", "1_000", "5s", "+5", "1.2.3", ".", "1,5",
       "9" * 400, "\u0665")),
    (["-tx", "true"], "'x'", "86400"),
    (["-t", "", "-s", "TERM", "true"], "''", "86400"),
    (["-t", "x", "-t", "5", "-s", "TERM", "true"], "'x'", "86400"),
    (["-t", "x", "true"], "'x'", "86400"),
    (["-s", "\u017figterm", "true"], "\u017figterm", "TERM"),
    (["-s", "\u0131nt", "true"], "\u0131nt", "TERM"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "offender", "accepted"), WRONG, ids=lambda value: str(value)[:30])
def test_a_wrong_command_line(start: Starter, tmp_path: Path, words: list[str], offender: str, accepted: str) -> None:
    marker = tmp_path / "started"
    (tmp_path / "true").write_text(f"#!/bin/sh\n: >{marker}\n")
    (tmp_path / "true").chmod(0o755)
    code, out, log = start.result(*words, env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
    assert (code, out) == (125, "")
    assert re.fullmatch(r"run: \[error\] [^\n]*; try 'run -h'\n", log)
    assert offender in log
    assert accepted in log.replace(f"'{offender}'", "")
    assert not marker.exists(), "something was started"


@pytest.mark.parametrize("words", [["-x", "true"], ["-qqq", "-x"], ["-qq", "-s", "X", "true"]])
def test_errors_always_show(start: Starter, words: list[str]) -> None:
    code, _, log = start.result(*words)
    assert code == 125
    assert log.count("\n") == 1


@pytest.mark.parametrize("option", [b"-s", b"-t", b"-", b"--", b"-q"])
@pytest.mark.parametrize(
    "word", [b"A\nB", b"\x1b[31m", b"\xff\xfe", b"\r", b"\t", "\u2028".encode(), b"x" * 100_000, b"\xed\xa0\x80"]
)
def test_a_hostile_word_gives_one_clean_line(start: Starter, option: bytes, word: bytes) -> None:
    for words in ([option + word], [option, word]):
        started = start(*words, b"true", env={"PATH": "/nowhere"})
        code = started.wait()
        assert code in (125, 126, 127)
        log = started.log_bytes().decode()
        assert "internal" not in log
        assert log.endswith("\n")
        assert log[:-1].replace("\n", "").isprintable()
        if code == 125:
            assert log.count("\n") == 1
