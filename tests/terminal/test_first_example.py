"""The first example of the README at a real shell: it ends by Ctrl-C, and shows what the README says."""

import re
from pathlib import Path

from harness import wait_until
from terminal_session import INTERRUPT, session

README = Path(__file__).resolve().parents[2] / "README.md"

SHELL = ["unshare", "--net", "bash", "--norc", "--noprofile", "-i"]
"""A shell with a network of its own, in which the example's port is free."""


COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""What a terminal does not show as such."""


def services(shown: str) -> set[str]:
    """The services of which a line is in this."""
    return set(re.findall(r"^(\w+) *\| .*\n", shown, re.MULTILINE))


def said_by_run(shown: str) -> list[str]:
    """What `run` says in this, without pids. Which of two services ends first is open."""
    lines = (line.removeprefix("^C") for line in shown.splitlines())
    return sorted(re.sub(r"(?<=pid )(is )?\d+", r"\1N", line) for line in lines if "run: [" in line[:6])


def test_it_ends_by_interrupt_and_shows_what_the_readme_says(binary: str) -> None:
    example = README.read_text().partition("```console\n$ ")[2].partition("\n```")[0]
    command, _, says = example.partition("\n")
    assert len(services(says)) == 2 and "^C" in says
    with session(*SHELL) as bash:
        bash.expect("<1> ")
        bash.line(command.replace("dist/run", binary, 1))
        bash.expect("\r\n")
        shown = [""]

        def both_have_written() -> bool:
            shown.append(COLOURS.sub("", bash.expect("\n")))
            return services("".join(shown)) == services(says)

        wait_until(both_have_written, "a line of each service")
        bash.type(INTERRUPT)
        shown.append(bash.expect("exiting with code 0\r\n"))
        bash.expect("> ")
    assert said_by_run("".join(shown)) == said_by_run(says)
