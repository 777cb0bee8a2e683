"""Standard output: what a user has asked to see, the help or a plan."""

import os

from run.descriptors import STDOUT
from run.loop import RunError


def show(text: str) -> int:
    """Print to stdout; return the exit code. Raises RunError when it cannot be written."""
    rest = text.encode()
    try:
        while rest:
            rest = rest[os.write(STDOUT, rest) :]
    except OSError as error:
        raise RunError(f"cannot write to standard output: {error.strerror}") from None
    return 0
