"""Words: split as a real shell splits them, and variables in them: contract, "The file"."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run.services.words import WordsError, nearest, shown, split, substitute

bare = st.sampled_from(["a", "é", "=", "]", "\r", " ", "  ", "\t"])
escaped = st.sampled_from(["\\" + character for character in " '\"\\$`\n#~*&|;<>a\t"])
in_single_quotes = st.text(alphabet='a "\\$`\n#*&|;<>\t\r').map(lambda text: f"'{text}'")
in_double_quotes = st.lists(st.sampled_from([*("a '#*&|;<>\n\t\r"), *("\\" + character for character in "$`\"\\\na'")]))
quoting = st.lists(bare | escaped | in_single_quotes | in_double_quotes.map(lambda parts: f'"{"".join(parts)}"'))
"""Command lines in which nothing is left that a shell would expand."""


def words_of_sh(line: str) -> list[str]:
    """The words that a real sh makes of a line, without globs."""
    script = "set -f; printf '%s\\0' " + line
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True, env={}, timeout=300)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=300)
@given(quoting.map("".join).filter(str.strip))
def test_words_are_split_as_a_shell_splits_them(line: str) -> None:
    assert split(f"first {line}") == words_of_sh(f"first {line}")


@settings(max_examples=60)
@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)))
def test_whatever_is_in_single_quotes_is_one_word(words: list[str]) -> None:
    assert split(" ".join("'" + word.replace("'", "'\\''") + "'" for word in words)) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("redis-server --save ''", ["redis-server", "--save", ""]),
        ('nginx -g "daemon off;"', ["nginx", "-g", "daemon off;"]),
        (r'echo "a\"b\\c\$d\`e\f"', ["echo", r'a"b\c$d`e\f']),
        ("one\\\ntwo", ["onetwo"]),
        ('"one\\\ntwo"', ["onetwo"]),
        ("a\\ b \\' \\\"", ["a b", "'", '"']),
        ("ls *.c ~ #x", ["ls", "*.c", "~", "#x"]),
        ("", []),
        (" \t\n", []),
    ],
)
def test_quotes_and_backslashes_mean_what_they_mean_to_a_shell_and_globs_stay(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("operator", ["&&", "||", "|", ">", "<", ";", "&", ">>", "2>&1", "a&b"])
def test_a_bare_operator_is_an_error_that_says_use_sh_c(operator: str) -> None:
    for line in (f"a {operator} b", f"a {operator}", operator, f"'x'{operator}", f'"x" {operator}'):
        with pytest.raises(WordsError, match="sh -c"):
            split(line)


@pytest.mark.parametrize("operator", ["&&", "||", "|", ">", "<", ";", "&"])
def test_a_quoted_operator_is_a_word(operator: str) -> None:
    escaped = "".join("\\" + character for character in operator)
    assert split(f"a '{operator}' \"{operator}\" {escaped} x'{operator}'y") == [
        *("a", operator, operator, operator, f"x{operator}y")
    ]


@pytest.mark.parametrize("line", ["'", '"', "a 'b", 'a "b', "a\\", '"a\\"', "'a' 'b"])
def test_what_is_not_closed_is_an_error(line: str) -> None:
    with pytest.raises(WordsError):
        split(line)


@given(st.text())
def test_any_text_is_words_or_an_error(line: str) -> None:
    try:
        assert all(isinstance(word, str) for word in split(line))
    except WordsError as error:
        assert str(error)


VARIABLES = {"PORT": "80", "EMPTY": "", "SPACES": "a b", "_x1": "x"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${PORT}", "80"),
        ("--port=${PORT}/${_x1}", "--port=80/x"),
        ("${EMPTY}", ""),
        ("${PORT:-8080}", "80"),
        ("${EMPTY:-8080}", "8080"),
        ("${NONE:-8080}", "8080"),
        ("${NONE:-}", ""),
        ("${NONE:-a b}", "a b"),
        ("${NONE:-${PORT}}", "80"),
        ("${NONE:-${EMPTY:-${PORT}x}y}", "80xy"),
        ("${PORT:-${NONE}}", "80"),
        ("$$", "$"),
        ("$${PORT}", "${PORT}"),
        ("$$$$", "$$"),
        ("$X", "$X"),
        ("${X-y}", "${X-y}"),
        ("${X:+y}", "${X:+y}"),
        ("${1}", "${1}"),
        ("${}", "${}"),
        ("${", "${"),
        ("$", "$"),
        ("$(date)", "$(date)"),
        ("${NONE:-open", "${NONE:-open"),
        ("${NONE:-${PORT}", "${NONE:-80"),
        ("a}b", "a}b"),
    ],
)
def test_variables_and_defaults_are_substituted_and_any_other_dollar_stays(text: str, result: str) -> None:
    missing: list[str] = []
    assert substitute(text, VARIABLES, missing) == result
    assert missing == []


def test_a_name_that_is_not_set_and_has_no_default_is_missing() -> None:
    missing: list[str] = []
    assert substitute("${A} ${B:-${C}} ${PORT:-${D}}", VARIABLES, missing) == "${A} ${C} 80"
    assert missing == ["A", "C"]


@given(st.text(alphabet="${}:-AB x"))
def test_substitution_ends_for_any_text_and_names_only_what_is_not_set(text: str) -> None:
    missing: list[str] = []
    substitute(text, {"A": "1"}, missing)
    assert "A" not in missing
    if "$" not in text:
        assert substitute(text, {}, []) == text


def test_defaults_may_be_nested_as_deep_as_a_file_is_long() -> None:
    missing: list[str] = []
    assert substitute("${A:-" * 100_000 + "x" + "}" * 100_000, {}, missing) == "x"


def test_the_nearest_word_is_found_in_any_case() -> None:
    assert nearest("depend_on", ["command", "depends_on"]) == "; the nearest is 'depends_on'"
    assert nearest("term", ["TERM", "INT"]) == "; the nearest is 'TERM'"
    assert nearest("xyz", ["command"]) == nearest("x" * 1_000_000, ["x" * 1_000_000]) == ""


def test_a_word_is_shown_without_control_characters_and_not_too_long() -> None:
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert len(shown("x" * 10_000)) < 200
