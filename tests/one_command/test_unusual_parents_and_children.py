"""Contract, "Starting the command", "When a process ends": parents and children that no ordinary shell makes."""

from pathlib import Path

import pytest
from harness import Starter, children, compile_c, wait_until

CLONER = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
/* EXIT-SIGNAL PROGRAM...: leave it a child that waits for end-of-file, and exits with 42 */
int main(int argc, char **argv)
{
    int ends[2];
    char byte;
    if (argc < 3 || pipe(ends) < 0)
        return 99;
    if (syscall(SYS_clone, atol(argv[1]), 0, 0, 0, 0) == 0) {
        close(ends[1]);
        while (read(ends[0], &byte, 1) > 0) {}
        _exit(42);
    }
    close(ends[0]);  /* the other end is the command's, too, and closed when it ends */
    execv(argv[2], argv + 2);
    return 98;
}
"""


@pytest.mark.parametrize("code", [0, 7])
def test_a_parent_outside_of_the_pid_namespace_is_no_dead_parent(start: Starter, code: int) -> None:
    """unshare(1) without --fork: the command is PID 1 of the new namespace, and its parent's pid is 0 to it."""
    result = start.result("-q", "sh", "-c", f"exit {code}", prefix=("unshare", "--pid"))
    assert result == (code, "", "")


@pytest.mark.parametrize("exit_signal", [0, 10, 17], ids=["none", "USR1", "CHLD"])
def test_a_child_is_waited_for_whatever_its_exit_signal(start: Starter, tmp_path: Path, exit_signal: int) -> None:
    cloner = str(compile_c(CLONER, tmp_path / "cloner"))
    code, _, log = start.result("sh", "-c", "sleep 0.2; exit 3", prefix=(cloner, str(exit_signal)))
    assert code == 42, log
    assert "exited with code 42\n" in log and "forwarding" not in log, log


@pytest.mark.parametrize("exit_signal", [0, 10, 17], ids=["none", "USR1", "CHLD"])
def test_no_zombie_is_left_whatever_its_exit_signal(start: Starter, tmp_path: Path, exit_signal: int) -> None:
    """It ends when the command closes its end of the pipe; the command lives on."""
    cloner = str(compile_c(CLONER, tmp_path / "cloner"))
    script = "exec 3>&- 4>&-; echo closed; read _; exit 3"
    started = start("-q", "sh", "-c", script, prefix=(cloner, str(exit_signal)), stdin=-1)
    started.wait_out("closed\n")
    wait_until(lambda: len(children(started.pid)) == 1, "it is reaped while the command lives")
    started.close_stdin()
    assert started.wait() == 42, started.log()
