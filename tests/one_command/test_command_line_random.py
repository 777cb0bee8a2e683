"""Contract, "Command line": random options in every spelling, and words that nobody would think of."""

import getopt
import os
import re
import signal

from harness import Starter
from hypothesis import given, settings
from hypothesis import strategies as st
from probe import Probe

SIGNALS = ("INT", "TERM", "KILL", "QUIT", "HUP", "USR1", "USR2")

many = settings(max_examples=60)

options = st.one_of(
    st.just(("q", None)),
    st.just(("d", None)),
    st.tuples(st.just("s"), st.tuples(st.sampled_from(["", "SIG", "sig"]), st.sampled_from(SIGNALS)).map("".join)),
    st.tuples(st.just("t"), st.sampled_from(["1", "0.5", "30", "86400"])),
)


def spelled(draw: st.DrawFn, chosen: list[tuple[str, str | None]]) -> list[str]:
    """The options as words: alone or clustered, their values attached or not."""
    words: list[str] = []
    cluster = ""
    for letter, value in chosen:
        cluster = (cluster or "-") + letter
        if value is not None:
            words += [cluster + value] if draw(st.booleans()) else [cluster, value]
            cluster = ""
        elif draw(st.booleans()):
            words.append(cluster)
            cluster = ""
    return words + [cluster] * bool(cluster)


@many
@given(data=st.data(), chosen=st.lists(options, max_size=6))
def test_any_combination_of_options(
    probe: Probe, start: Starter, data: st.DataObject, chosen: list[tuple[str, str | None]]
) -> None:
    words = data.draw(st.composite(lambda draw: spelled(draw, chosen))()) + data.draw(st.sampled_from([[], ["--"]]))
    values = dict(chosen)
    code, _, log = start.result(*words, *probe.words(b"-q", b"-s"))
    assert code == 0, log
    quiet = [letter for letter, _ in chosen].count("q")
    assert ("[info]" in log) == (quiet == 0)
    ignored = "s" not in values and quiet < 2
    assert log.count("[warn]") == (ignored and "d" in values) + (ignored and "t" in values)
    name = values.get("s")
    if name:
        assert probe.last()["death-signal"] == b"%d" % signal.Signals["SIG" + name.upper().removeprefix("SIG")]


tricky = st.sampled_from(
    [
        "-q",
        "-d",
        "-s",
        "-t",
        "-s",
        "-t",
        "--",
        "-",
        "",
        "TERM",
        "5",
        "-sINT",
        "-qd",
        "-t1",
        "-x",
        "--x",
        "-ss",
        "CMD",
        "[--]",
        "-dt",
    ]
)
words = st.one_of(tricky.map(os.fsencode), st.binary(max_size=8).map(lambda word: re.sub(rb"[\0/.]", b"", word)))


def is_right(line: list[bytes]) -> bool:
    """Whether getopt(3) takes these words, their values are right, and a command is there."""
    try:
        found, rest = getopt.getopt([word.decode("latin-1") for word in line], "qs:dt:hv")
    except getopt.GetoptError:
        return False
    right = {
        "-s": lambda value: re.fullmatch(f"(SIG)?({'|'.join(SIGNALS)})", value, re.I | re.A),
        "-t": lambda value: re.fullmatch(r"(?=.*[1-9])(\d{0,4}\.?\d+|\d{1,4}\.?)", value, re.A),
    }
    return bool(rest) and all(right[option](value) for option, value in found if option in right)


@settings(many, max_examples=250)
@given(line=st.lists(words, max_size=6).filter(lambda line: not any(b"h" in word or b"v" in word for word in line)))
def test_any_words_at_all_are_taken_as_getopt_takes_them_or_refused_in_one_line(
    start: Starter, line: list[bytes]
) -> None:
    code, out, log = start.result(*line, env={"PATH": "/nowhere"})
    assert out == ""
    assert "Traceback" not in log and "internal" not in log
    if is_right(line):
        assert code in (126, 127), log
    else:
        assert code == 125
        assert re.fullmatch(r"run: \[error\] [^\n]*; try 'run -h'\n", log)
