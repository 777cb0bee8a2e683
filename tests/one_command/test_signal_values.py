"""Contract, "Signals": the value that sigqueue(3) gives a signal arrives where one process gets it, and who sent it."""

import ctypes
import os
from pathlib import Path

import pytest
from harness import Starter, compile_c, status, wait_until

WAITER = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)  /* COUNT [GROUP]: write down so many signals with their values */
{
    sigset_t all;
    siginfo_t info;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    if (argc > 2 && setpgid(0, atoi(argv[2])) < 0)
        return 99;
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    for (int left = atoi(argv[1]); left > 0; left--) {
        int signum = sigwaitinfo(&all, &info);
        printf("got %d %d from %d\n", signum, info.si_value.sival_int, (int)info.si_pid);
        fflush(stdout);
    }
    return 7;
}
"""
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def waiter(tmp_path: Path) -> str:
    """A command that writes down the signals that it gets, with their values."""
    return str(compile_c(WAITER, tmp_path / "waiter"))


def queue(pid: int, signum: int, value: int) -> None:
    """Send a signal with a value: sigqueue(3)."""
    assert LIBC.sigqueue(pid, signum, ctypes.c_void_p(value)) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("own_group", [False, True], ids=["alone-in-its-group", "in-run-s-own-group"])
@pytest.mark.parametrize(("signum", "count"), [(10, 1), (36, 20)], ids=["USR1", "real-time"])
def test_a_queued_value_arrives(start: Starter, waiter: str, own_group: bool, signum: int, count: int) -> None:
    shared = ("sh", "-c", f"{waiter} {count} $PPID & exit 0")  # `run` leads its group
    started = start("-q", *(shared if own_group else (waiter, str(count))), start_new_session=True)
    started.wait_out("ready ")
    wait_until(lambda: started.out().endswith("\n"), "the whole line")
    pid = int(started.out().split()[1])
    wait_until(lambda: status(pid).get("PPid") == str(started.pid), "it is a child of run")
    for value in range(1, count + 1):
        queue(started.pid, signum, value)
    assert started.wait() == 7, started.log()
    assert started.out().splitlines()[1:] == [
        f"got {signum} {value} from {os.getpid()}" for value in range(1, count + 1)
    ]
