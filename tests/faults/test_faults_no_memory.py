"""Contract, "Bad days" and "Signals": `run` has thousands of children, and no memory to list them."""

import resource
import signal

import pytest
from harness import Starter, children, compile_c, state, status, wait_until

COUNT = 2000
CROWD = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)  /* COUNT: leave so many orphans; they exit with 0 upon TERM, this one with 7 */
{
    sigset_t term;
    int signum;
    if (argc < 2)
        return 99;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    if (fork() == 0) {
        for (int left = atoi(argv[1]); left > 0; left--) {
            pid_t pid = fork();
            if (pid < 0)
                _exit(98);
            if (pid == 0) {
                sigwait(&term, &signum);
                _exit(0);
            }
        }
        _exit(0);
    }
    wait(NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&term, &signum);
    return 7;
}
"""


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A command that leaves many orphans, all in its process group."""
    return str(compile_c(CROWD, tmp_path_factory.mktemp("crowd") / "crowd"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGURG], ids=["TERM", "URG-then-TERM"])
@pytest.mark.parametrize("pid_1", [False, True], ids=["subreaper", "pid-1"])
def test_a_signal_reaches_all_where_there_is_no_memory_to_list_them(
    start: Starter, crowd: str, pid_1: bool, signum: int
) -> None:
    """It is sent as without /proc; the exit code is that of the command, and the orphans' as well."""
    started = start("-q", crowd, str(COUNT), pid_1=pid_1)
    started.wait_out("ready\n")
    run = started.pid
    wait_until(lambda: len(children(run)) == COUNT + 1, "the orphans are children of run")
    wait_until(lambda: state(run) == "S", "run is idle")
    size = int(status(run)["VmSize"].split()[0]) * 1024
    resource.prlimit(run, resource.RLIMIT_AS, (size, size))
    if signum != signal.SIGTERM:
        started.send(signum)
        wait_until(lambda: started.log() or started.process.poll() is not None, "run says that something is wrong")
        assert started.process.poll() is None, started.log()
    started.send(signal.SIGTERM)
    assert started.wait() == 7, started.log()
    assert started.log() == NO_MEMORY


NO_MEMORY = "run: [error] cannot list the children: not enough memory; going on as well as possible\n"
