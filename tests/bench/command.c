/*
 * The commands that the benchmark has an init start. In C, so that they cost next to nothing beside the init.
 *
 *   bench-command wait          until standard input ends
 *   bench-command orphans N     make N orphans; end when the init has reaped them all
 *   bench-command echo          a byte to standard output for each USR1, until TERM
 *   bench-command services N    N processes more in this process group, a byte when they are there; until a signal
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000 };

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static void tell(void)
{
    if (write(STDOUT_FILENO, "+", 1) != 1)
        fail("write");
}

static void wait_for_end_of_input(void)
{
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

/* Whether this process is the only child that its parent has, zombies included. */
static int is_only_child(void)
{
    char path[64], text[64];
    int fd;
    ssize_t length;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)getppid(), (int)getppid());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length < 0)
        fail(path);
    text[length] = 0;
    return strtol(strchr(text, ' ') ? strchr(text, ' ') : "", NULL, 10) == 0;
}

static void make_child(void)
{
    pid_t child = vfork();

    if (child == 0)
        _exit(0);
    if (child < 0)
        fail("vfork");
}

/* Each batch has a parent of its own, which does not reap: when it ends, they are orphans. */
static void make_orphans(long count)
{
    const struct timespec moment = {.tv_nsec = 200 * 1000};

    for (; count > 0; count -= BATCH) {
        pid_t parent = fork();

        if (parent < 0)
            fail("fork");
        if (parent == 0) {
            for (long i = 0; i < count && i < BATCH; i++)
                make_child();
            _exit(0);
        }
        if (waitpid(parent, NULL, 0) < 0)
            fail("waitpid");
    }
    while (!is_only_child())
        nanosleep(&moment, NULL);
}

static void echo_signals(void)
{
    sigset_t set;
    int signum;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    tell();
    while (sigwait(&set, &signum) == 0 && signum == SIGUSR1)
        tell();
}

static void start_services(long count)
{
    for (; count > 0; count--) {
        pid_t service = fork();

        if (service < 0)
            fail("fork");
        if (service == 0)
            break;
    }
    if (count == 0)
        tell();
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

    if (strcmp(what, "wait") == 0)
        wait_for_end_of_input();
    else if (strcmp(what, "orphans") == 0)
        make_orphans(count);
    else if (strcmp(what, "echo") == 0)
        echo_signals();
    else if (strcmp(what, "services") == 0)
        start_services(count);
    else
        return 2;
    return 0;
}
