/*
 * The commands that the benchmark has an init start. In C, so that they cost next to nothing beside the init.
 *
 *   bench-command wait          a byte to standard output, then until standard input ends
 *   bench-command orphans N     the same, but with a byte of input N orphans are made; a byte when the init reaped all
 *   bench-command echo          a byte to standard output at the start and for each INT, until TERM
 *   bench-command service       a byte to standard output; until a signal
 *   bench-command services N    N processes more in this process group, a byte when they are there; until a signal
 *   bench-command signals       send PID 1 every signal that can be caught, and print the numbers of those that come back
 *   bench-command daemon        a daemon in a session of its own, which says so when TERM lets it end; until TERM
 *   bench-command full WORD...  execute the words with a full pipe, which nobody reads, as standard error
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, SIGNALS = 64, SILENCE = 2 };

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
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
    char byte;

    say("+");
    if (read(STDIN_FILENO, &byte, 1) != 1)
        fail("read");
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
    say("+");
    wait_for_end_of_input();
}

static void echo_signals(void)
{
    sigset_t set;
    int signum;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    say("+");
    while (sigwait(&set, &signum) == 0 && signum == SIGINT)
        say("+");
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
        say("+");
    for (;;)
        pause();
}

static void be_a_service(void)
{
    say("+");
    for (;;)
        pause();
}

/* All but those that cannot be caught, and those that are no message: CHLD, PIPE, the faults, the terminal's stops. */
static int is_message(int signum)
{
    static const int others[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGPIPE, SIGSEGV, SIGBUS, SIGFPE, SIGILL,
                                 SIGTRAP, SIGSYS,  SIGABRT, SIGTSTP, SIGTTIN, SIGTTOU};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (signum == others[i])
            return 0;
    return 1;
}

/* System calls, since the C library keeps 32 and 33 for itself. */
static void send_all_signals(void)
{
    const unsigned long every = ~0UL;
    const struct timespec silence = {.tv_sec = SILENCE};
    long signum;
    char text[32];

    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &every, NULL, sizeof every) != 0)
        fail("rt_sigprocmask");
    for (signum = 1; signum <= SIGNALS; signum++)
        if (is_message(signum) && syscall(SYS_kill, 1, signum) != 0)
            fail("kill");
    while ((signum = syscall(SYS_rt_sigtimedwait, &every, NULL, &silence, sizeof every)) > 0) {
        snprintf(text, sizeof text, "%ld\n", signum);
        say(text);
    }
    say("end\n");
}

/* A daemon as daemon(7) has it; it takes a while to end, so that it shows whether it is given the time. */
static void start_daemon(void)
{
    const struct timespec while_ = {.tv_nsec = 300 * 1000 * 1000};
    sigset_t set;
    int signum;
    pid_t child;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    child = fork();
    if (child == 0) {
        setsid();
        if (fork() != 0)
            _exit(0);
        sigwait(&set, &signum);
        nanosleep(&while_, NULL);
        say("the daemon ended by itself\n");
        _exit(0);
    }
    if (waitpid(child, NULL, 0) < 0)
        fail("waitpid");
    say("ready\n");
    sigwait(&set, &signum);
}

static void with_full_stderr(char **words)
{
    int ends[2];

    if (pipe(ends) != 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0)
        fail("pipe");
    while (write(ends[1], "x", 1) == 1)
        ;
    if (fcntl(ends[1], F_SETFL, 0) != 0 || dup2(ends[1], STDERR_FILENO) < 0)
        fail("dup2");
    close(ends[1]);
    execv(words[0], words);
    _exit(127);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

    if (strcmp(what, "wait") == 0) {
        say("+");
        wait_for_end_of_input();
    } else if (strcmp(what, "orphans") == 0)
        make_orphans(count);
    else if (strcmp(what, "echo") == 0)
        echo_signals();
    else if (strcmp(what, "service") == 0)
        be_a_service();
    else if (strcmp(what, "services") == 0)
        start_services(count);
    else if (strcmp(what, "signals") == 0)
        send_all_signals();
    else if (strcmp(what, "daemon") == 0)
        start_daemon();
    else if (strcmp(what, "full") == 0 && argc > 2)
        with_full_stderr(argv + 2);
    else
        return 2;
    return 0;
}
