"""Tools that look at a program or start it, and the section of the static build that holds the snapshot."""

import re
import shutil
import subprocess
from pathlib import Path

from engine import unavailable

SECTION = ".snapshot"


def tool(*words: str | Path, code: int | None = 0) -> str:
    """Run a tool, which must end with this code, if one is given: what it says."""
    if not shutil.which(words[0]):
        unavailable(f"there is no {words[0]}")
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert code in (None, result.returncode), result.stdout
    return result.stdout


def section_of(program: Path | str) -> tuple[int, int, int]:
    """Where the section of the snapshot is: address, offset in the file, size. (0, 0, 0) when there is none."""
    found = re.search(rf"{SECTION} +PROGBITS +(\w+) (\w+) (\w+)", tool("readelf", "-W", "-S", program))
    address, offset, size = (int(word, 16) for word in found.groups()) if found else (0, 0, 0)
    return address, offset, size


def loaded_size(program: Path | str) -> int:
    """The bytes of memory that the kernel maps for a program: with its variables, which are not all in the file."""
    segments = re.findall(r"LOAD +\w+ +\w+ \w+ \w+ 0x(\w+)", tool("readelf", "-W", "-l", program))
    return sum(int(length, 16) for length in segments)


def version(*words: str | Path, code: int = 0) -> str:
    """What these words and `-q itself -v` say: run starts itself, which shows its version."""
    return tool(*words, "-q", words[-1], "-v", code=code)
