"""Contract, "Bad days" and "Starting the command": system calls that fail before the command runs.

The command runs, or `run` says in one clear line why it does not, and nothing is left.
"""

import errno
import os
from pathlib import Path

import pytest
from faults import ALWAYS, FORK, ONCE, ORDINARY, Trace, Traced, errnos, every_errno

EXECVP_GOES_ON = ("EACCES", "ENOENT", "ENOTDIR", "ESTALE", "ENODEV", "ETIMEDOUT")
"""After these execvp(3) tries the next place of PATH: its manual page, and the source of the GNU C library."""


@every_errno("fork", ONCE, ALWAYS)
def test_a_fork_that_fails_is_one_line_and_125(trace: Trace, error: str, when: str) -> None:
    """`run` forks once, and does not try again."""
    traced = trace(FORK, error, when, *ORDINARY).finish()
    assert len(traced.failed) == 1
    traced.assert_refused(error)
    assert "fork" in traced.log


# -- execve ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """The same command in three folders, which are the PATH: a script, so that /bin/sh can run it too."""
    commands = [tmp_path / folder / "command" for folder in ("first", "second", "third")]
    for command in commands:
        command.parent.mkdir()
        command.write_text(f"#!/bin/sh\necho {command.parent.name}\n( (exit 9) & )\nexit 7\n")
        command.chmod(0o755)
    return commands


def executed(trace: Trace, error: str, when: str, places: list[Path], name: str) -> Traced:
    """Run the command by this name, where the execution of it fails."""
    environment = {"PATH": os.pathsep.join(str(place.parent) for place in places)}
    return trace("execve", error, when, "-q", name, children=True, paths=(*places,), env=environment).finish()


@every_errno("execve", ONCE)
def test_a_command_that_cannot_be_executed_is_126_or_a_script(
    trace: Trace, places: list[Path], error: str, when: str
) -> None:
    """It is there, so it is not 127, whatever execve(2) says."""
    traced = executed(trace, error, when, places, str(places[0]))
    assert len(traced.failed) == 1
    if error == "ENOEXEC":
        traced.assert_ran(9, "first\n")
    else:
        assert_not_executable(traced, error, places[0])


def assert_not_executable(traced: Traced, error: str, path: Path) -> None:
    """It is 126, and the line names the file and the reason: if something is not there, it is the interpreter."""
    reason = "interpreter" if error in ("ENOENT", "ENOTDIR") else os.strerror(getattr(errno, error))
    assert (traced.code, traced.out) == (126, "")
    assert traced.log.startswith(f"run: [error] {path}: found, but ") and reason in traced.log
    assert traced.log.count("\n") == 1 and "Errno" not in traced.log


@every_errno("execve", ONCE, ALWAYS, drawn=2)
def test_in_PATH_the_next_place_is_tried_after_the_errors_of_execvp(
    trace: Trace, places: list[Path], error: str, when: str
) -> None:
    traced = executed(trace, error, when, places, "command")
    failed = [place for place in places if any(f'"{place}"' in call for call in traced.failed)]
    for place in places:
        if place not in failed or error == "ENOEXEC":
            return traced.assert_ran(9, f"{place.parent.name}\n")
        if error not in EXECVP_GOES_ON:
            return assert_not_executable(traced, error, place)
    return assert_not_executable(traced, error, places[-1])


@pytest.mark.parametrize("error", [e for e in EXECVP_GOES_ON if e not in errnos("execve")])
def test_in_PATH_the_next_place_is_tried_after_errors_of_network_file_systems(
    trace: Trace, places: list[Path], error: str
) -> None:
    traced = executed(trace, error, ONCE, places, "command")
    assert len(traced.failed) == 1
    traced.assert_ran(9, "second\n")


@every_errno("execve", ALWAYS, but=("ENOEXEC",))
def test_a_script_for_a_shell_that_cannot_be_executed_is_126(
    trace: Trace, tmp_path: Path, error: str, when: str
) -> None:
    script = tmp_path / "script"
    script.write_text("echo started\n")
    script.chmod(0o755)
    traced = trace("execve", error, when, "-q", str(script), children=True, paths=("/bin/sh",)).finish()
    assert len(traced.failed) == 1
    assert (traced.code, traced.out, traced.log.count("\n")) == (126, "", 1)
    assert str(script) in traced.log


def test_a_file_that_not_even_the_shell_may_run_is_126(trace: Trace, places: list[Path]) -> None:
    traced = trace("execve", "ENOEXEC", ALWAYS, "-q", str(places[0]), children=True, paths=(places[0], "/bin/sh"))
    assert len(traced.finish().failed) == 2
    assert_not_executable(traced, "ENOEXEC", places[0])


# -- prctl and setpgid -------------------------------------------------------------------------------------------------


@every_errno("prctl", ONCE, ALWAYS, drawn=3)
def test_without_a_subreaper_it_is_one_line_and_125(trace: Trace, is_bundle: bool, error: str, when: str) -> None:
    """A bundle that unpacks itself makes other calls of prctl(2) before, without harm when they fail."""
    traced = trace("prctl", error, when, *ORDINARY).finish()
    if any("SUBREAPER" in call for call in traced.failed):
        traced.assert_refused(error)
        assert "subreaper" in traced.log
    else:
        assert is_bundle and when != ALWAYS
        traced.assert_ran()


@every_errno("setpgid", ONCE, ALWAYS)
def test_a_process_group_that_cannot_be_made_is_one_line_and_125(trace: Trace, error: str, when: str) -> None:
    traced = trace("setpgid", error, when, *ORDINARY, children=True).finish()
    assert len(traced.failed) == 1
    traced.assert_refused(error)
