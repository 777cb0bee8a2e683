"""Starting the command: found as execvp(3) does, and given what `run` was given, to the byte.

Source: SPEC.md, "Starting the command".
"""

import errno
import posix

from run import _kernel
from run.log import Log, printable
from run.terminal import Terminal, make_foreground

CANNOT_RUN = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127

SHELL = b"/bin/sh"
DEFAULT_PATH = b"/bin:/usr/bin"

SEARCH_ON = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
"""The errors of execve(2) after which execvp(3) tries the next directory of PATH."""


class ExecuteError(Exception):
    """The command was not executed: an exit code, and a message for the user."""

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


def exists(path: bytes) -> bool:
    """Whether there is such a file."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def execute(words: list[bytes], environment: list[bytes]) -> None:
    """Become the command, in the child. Never returns; raises ExecuteError.

    A file that the kernel does not know how to execute (ENOEXEC) is a script without an interpreter line, which
    execvp(3) gives to /bin/sh.
    """
    name = printable(words[0]) or "''"
    refusal = None
    for path in candidates(words[0], environment):
        try:
            try:
                _kernel.execute(path, words, environment)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                _kernel.execute(SHELL, [SHELL, path, *words[1:]], environment)
        except OSError as error:
            # Both also stand for a file that is there, but not its interpreter or dynamic loader: execve(2)
            if error.errno in (errno.ENOENT, errno.ENOTDIR) and exists(path):
                refusal = f"{printable(path)}: found, but the interpreter or dynamic loader that it needs is missing"
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                found = "found, but " if exists(path) else ""
                refusal = f"{printable(path)}: {found}cannot be executed: {error.strerror}"
            if error.errno not in SEARCH_ON:
                break
    if refusal:
        raise ExecuteError(NOT_EXECUTABLE, refusal)
    raise ExecuteError(NOT_FOUND, f"{name}: not found" + ("" if b"/" in words[0] else " in PATH"))


def prepare(death_signal: int, terminal: Terminal) -> None:
    """Be what the command is to be: in a group of its own, with a parent-death signal. Raises ExecuteError."""
    try:
        posix.setpgid(0, 0)
    except OSError as error:
        raise ExecuteError(CANNOT_RUN, f"cannot make a process group: setpgid: {error.strerror}") from None
    if terminal.lent:
        make_foreground(posix.getpid())
    try:
        _kernel.set_parent_death_signal(death_signal)
    except OSError as error:
        raise ExecuteError(CANNOT_RUN, f"cannot set a parent-death signal: prctl: {error.strerror}") from None


def start(words: list[bytes], death_signal: int, terminal: Terminal, log: Log) -> int:
    """Fork, and become the command in the child; return its pid. Raises OSError when the fork is refused: fork(2)."""
    environment = _kernel.environment()
    parent = posix.getpid()
    pid = posix.fork()
    if pid == 0:
        code = CANNOT_RUN
        try:
            prepare(death_signal, terminal)
            if posix.getppid() == parent:  # else it died before it could be noticed
                execute(words, environment)
        except ExecuteError as error:
            log.error(str(error))
            code = error.code
        except BaseException as error:
            log.error(f"cannot start {printable(words[0])}: {error}")
        finally:
            posix._exit(code)
    try:
        posix.setpgid(pid, pid)
    except OSError:
        pass  # the child did it, and is the command already (EACCES), or gone (ESRCH)
    return pid
