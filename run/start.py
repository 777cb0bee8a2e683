"""Starting a program: found as execvp(3) does, and given what `run` was given, to the byte, but for what is said.

Source: contract, "Starting the command".
"""

import errno
import os

from run import _kernel
from run.text import printable, shown

CANNOT_RUN = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127

SHELL = b"/bin/sh"
DEFAULT_PATH = b"/bin:/usr/bin"

SEARCH_ON = bytes((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT))
"""The errors of execve(2) after which execvp(3) tries the next directory of PATH."""

STEPS = {
    "setsid": "make a session",
    "setpgid": "make a process group",
    "dup2": "open the standard streams",
    "setgroups": "set the supplementary groups",
    "setresgid": "become the group",
    "setresuid": "become the user",
    "prctl": "set a parent-death signal",
    "sigaction": "set a signal's disposition",
    "sigprocmask": "set the signal mask",
}
"""What a step of _kernel.spawn() is for."""


class StartError(Exception):
    """The command was not started: an exit code, and a message for the user."""

    def __init__(self, code: int, message: str) -> None:
        """Take both."""
        super().__init__(message)
        self.code = code


def candidates(name: bytes, environment: list[bytes]) -> list[bytes]:
    """The paths to try for a command of this name, in order: execvp(3). An empty part of PATH is the current folder."""
    if not name:
        return []
    if b"/" in name:
        return [name]
    path = next((entry[5:] for entry in environment if entry.startswith(b"PATH=")), DEFAULT_PATH)
    return [directory + b"/" + name if directory else name for directory in path.split(b":")]


def exists(path: bytes, directory: bytes | None) -> bool:
    """Whether there is such a file, seen from this directory."""
    try:
        os.stat(path if directory is None else os.path.join(directory, path))
    except OSError:
        return False
    return True


def refused(name: bytes, paths: list[bytes], errors: tuple[int, ...], directory: bytes | None) -> StartError:
    """Why none of these paths could be executed: the last reason that is more than "not found"."""
    refusal = None
    for path, error in zip(paths, errors, strict=True):
        # Both also stand for a file that is there, but not its interpreter or dynamic loader: execve(2)
        if error in (errno.ENOENT, errno.ENOTDIR):
            if exists(path, directory):
                refusal = f"{printable(path)}: found, but the interpreter or dynamic loader that it needs is missing"
        elif error:
            found = "found, but " if exists(path, directory) else ""
            refusal = f"{printable(path)}: {found}cannot be executed: {os.strerror(error)}"
    if refusal:
        return StartError(NOT_EXECUTABLE, refusal)
    return StartError(NOT_FOUND, f"{printable(name) or chr(39) * 2}: not found" + ("" if b"/" in name else " in PATH"))


def start(
    words: list[bytes],
    death_signal: int,
    *,
    environment: list[bytes] | None = None,
    session: bool = False,
    terminal: int = -1,
    files: tuple[int, ...] = (),
    low: tuple[int, ...] = (),
    directory: bytes | None = None,
    umask: int = -1,
    user: tuple[int, int, list[int]] | None = None,
) -> int:
    """Start a program in a process group of its own, or a session; return its pid once it is executed.

    environment is what `run` was given where there is none. The group becomes the foreground group of the terminal, a
    descriptor. files become 0, 1 and 2; -1 is a closed one. low is what descriptors.reserve_low() has made. user is
    uid, gid and supplementary groups. Raises StartError, and OSError when the fork is refused: fork(2).
    """
    if environment is None:
        environment = _kernel.environment()
    paths = candidates(words[0], environment)
    mask, ignored = _kernel.started_with()
    outcome = _kernel.spawn(
        paths,
        words,
        environment,
        shell=SHELL,
        search_on=SEARCH_ON,
        death_signal=death_signal,
        mask=mask,
        ignored=ignored,
        group=not session,
        session=session,
        terminal=terminal,
        files=files,
        low=low,
        directory=directory,
        umask=umask,
        user=user,
    )
    if isinstance(outcome, int):
        return outcome
    step, error, errors = outcome
    reason = os.strerror(error)
    if step == "fork":
        raise OSError(error, reason)
    if step == "execve":
        raise refused(words[0], paths, errors, directory)
    if step == "chdir":
        raise StartError(NOT_EXECUTABLE, f"cannot enter the directory {printable(directory or b'')}: {reason}")
    what = STEPS.get(step) or f"start {shown(words)}"
    raise StartError(CANNOT_RUN, f"cannot {what}: {step}: {reason}")
