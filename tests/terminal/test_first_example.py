"""The first example of the README at a real shell: it ends by Ctrl-C, and shows what the README says."""

import os
import re
from pathlib import Path

from harness import wait_until
from terminal_session import INTERRUPT, descendant, session

README = Path(__file__).resolve().parents[2] / "README.md"


def without_pids(text: str) -> list[str]:
    """The lines, each pid and group with a letter for its number, in the order in which they come."""
    letters: dict[str, str] = {}
    return [
        re.sub(
            r"(?<=pid |oup )\d+|(?<=pid is )\d+",
            lambda found: letters.setdefault(found[0], chr(65 + len(letters))),
            line,
        )
        for line in text.splitlines()
    ]


def test_it_ends_by_interrupt_and_shows_what_the_readme_says(binary: str) -> None:
    example = README.read_text().partition("```console\n$ ")[2].partition("\n```")[0]
    command, *shown, ask, code = example.splitlines()
    assert ask == "$ echo $?"
    with session() as bash:
        bash.line(command.replace("dist/run", binary, 1))
        bash.expect("\r\n")
        before = bash.expect(": started ")
        main = int(before.removesuffix(": started ").rpartition(" ")[2])
        descendant(main, "sleep")  # the helper, which ignores what is typed
        wait_until(lambda: Path(f"/proc/{main}/comm").read_text() == "sleep\n", "the main program sleeps")
        bash.wait_foreground(os.getpgid(main))
        bash.type(INTERRUPT)
        after = bash.expect("exiting with code 143\r\n")
        bash.expect("> ")
        bash.line("echo $?")
        bash.expect(f"echo $?\r\n{code}\r\n")
    assert without_pids(before + after) == without_pids("\n".join(shown))
