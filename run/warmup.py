"""What the static build runs once before it takes the snapshot, so that each start finds code that has run before.

CPython specializes code that has run a few times, and fills caches; both are then part of the file. Nothing here may
leave a state behind, or depend on where, when and by whom the program is built.
"""

from run.cli import Options, UsageError

ROUNDS = 20
"""How often each is done: more often than CPython waits before it specializes code."""

COMMAND_LINES = (
    ["cmd"],
    ["-q", "cmd", "word"],
    ["-qds", "TERM", "-t", "1", "--", "cmd"],
    ["-h"],
    ["-x"],
)


def warm_up() -> None:
    """Parse command lines, as often as it takes."""
    for _ in range(ROUNDS):
        for words in COMMAND_LINES:
            try:
                Options(words)
            except UsageError:
                pass
