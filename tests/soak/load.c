/*
 * The command of the soak test: what it does is counted, so that the soak can tell what `run` must have done.
 *
 *   soak-load REPORTS
 *
 * It is three processes. Two receive signals, all that can be caught, and answer each with a byte on standard output:
 * the command itself (the signal's number), and a daemon in a session of its own, a child of `run` (128 more). The
 * third makes processes. An order is a byte on standard input: `r` for a round of families of every kind, `b` for a
 * burst of orphans at once, each in a group of its own, `g` for orphans that gather and then all end. When `run` has
 * reaped all of them it writes what it has made so far to the descriptor REPORTS. At the end of its input it ends; the
 * receivers then end with the next TERM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ORDERS = STDIN_FILENO, ANSWERS = STDOUT_FILENO };
enum { DAEMON_MARK = 128, SIGNALS = 64, CODES = 100 };
enum { FAMILIES = 30, SIZE = 20, STOPPED = 8, BURST = 3000, GATHERED = 200 };
enum kind { AT_ONCE, LIVING, LEADING, KILLED, CHAINED, KINDS };

/* Faults and KILL: `run` forwards none of them, so who dies of one was made to. */
static const int deadly[] = {SIGKILL, SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
enum { DEADLY = sizeof deadly / sizeof *deadly };

static struct {
    uint64_t error;      /* errno of what failed, which ends the load */
    uint64_t complete;   /* whether this is the last report */
    uint64_t orders;     /* carried out */
    uint64_t forks;      /* processes of every kind */
    uint64_t stops;      /* orphans that have stopped, and been continued */
    uint64_t ended[256]; /* orphans, by exit code, 128 + n for signal n */
} made;

static int reports;
static pid_t run;
static volatile int *ending;

static void report(void)
{
    if (write(reports, &made, sizeof made) != sizeof made)
        _exit(1);
}

/* Not on standard error: that one may not be read. */
static void fail(void)
{
    made.error = (uint64_t)errno;
    report();
    _exit(1);
}

static pid_t fork_or_fail(void)
{
    pid_t pid = fork();

    if (pid < 0)
        fail();
    return pid;
}

static void await(pid_t pid)
{
    int status = 0;

    if (waitpid(pid, &status, 0) < 0)
        fail();
    if (status) {
        errno = ECHILD;
        fail();
    }
}

static void nap(long microseconds)
{
    const struct timespec moment = {.tv_nsec = microseconds * 1000};

    nanosleep(&moment, NULL);
}

static int code_of(enum kind kind, uint64_t number)
{
    return kind == KILLED ? 128 + deadly[number % DEADLY] : (int)(number % CODES);
}

static void end_with(int code)
{
    if (code > 128)
        kill(getpid(), code - 128);
    _exit(code);
}

/* The quickest way: this process sleeps until the child has ended. It may end as the leader of a group of its own. */
static void make_zombie(int code, int leading)
{
    pid_t pid = vfork();

    if (pid == 0) {
        if (leading)
            setpgid(0, 0);
        _exit(code);
    }
    if (pid < 0)
        fail();
}

static void live_and_end(enum kind kind, uint64_t number)
{
    if (kind == LEADING && (number % 2 ? setsid() : setpgid(0, 0)) < 0)
        fail();
    if (kind != KILLED)
        nap(1000);
    end_with(code_of(kind, number));
}

/* Each generation forks the next one and ends: all but the first become orphans of orphans. */
static void make_chain(uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (fork_or_fail()) {
            if (i == 0)
                return;
            _exit(code_of(CHAINED, first + i - 1));
        }
    }
    _exit(code_of(CHAINED, first + count - 1));
}

/* In the family's parent, which does not wait for its children. */
static void make_children(enum kind kind, uint64_t first, uint64_t count)
{
    if (kind == CHAINED) {
        make_chain(first, count);
        return;
    }
    for (uint64_t i = first; i < first + count; i++) {
        if (kind == AT_ONCE)
            make_zombie(code_of(kind, i), count == BURST);
        else if (fork_or_fail() == 0)
            live_and_end(kind, i);
    }
}

static void count_family(enum kind kind, uint64_t first, uint64_t count)
{
    made.forks += 1 + count;
    for (uint64_t i = first; i < first + count; i++)
        made.ended[code_of(kind, i)]++;
}

static void make_family(enum kind kind, uint64_t first, uint64_t count)
{
    pid_t parent = fork_or_fail();

    if (parent == 0) {
        make_children(kind, first, count);
        _exit(0);
    }
    await(parent);
    count_family(kind, first, count);
}

/* Orphans that stop themselves; they are continued, as one group, until they have all gone and closed the pipe. */
static void make_stopped(void)
{
    int ends[2];

    if (pipe(ends) < 0)
        fail();
    pid_t parent = fork_or_fail();
    if (parent == 0) {
        if (setpgid(0, 0) < 0)
            fail();
        for (uint64_t i = 0; i < STOPPED; i++) {
            if (fork_or_fail() == 0) {
                raise(SIGSTOP);
                _exit(code_of(LIVING, i));
            }
        }
        _exit(0);
    }
    close(ends[1]);
    await(parent);
    struct pollfd gone = {.fd = ends[0], .events = POLLIN};
    nap(500); /* so that `run` sees some of them stopped */
    do
        kill(-parent, SIGCONT);
    while (poll(&gone, 1, 1) == 0);
    close(ends[0]);
    made.stops += STOPPED;
    count_family(LIVING, 0, STOPPED);
}

/* Orphans that come one by one, each in a group of its own, and end together. `run` has any number of children meanwhile. */
static void make_gathering(void)
{
    int ends[2];
    char byte;

    if (pipe(ends) < 0)
        fail();
    for (uint64_t i = 0; i < GATHERED; i++) {
        pid_t parent = fork_or_fail();

        if (parent == 0) {
            if (fork_or_fail() == 0) {
                close(ends[1]);
                if (setpgid(0, 0) < 0 || read(ends[0], &byte, 1) < 0)
                    fail();
                _exit(code_of(LIVING, i));
            }
            _exit(0);
        }
        await(parent);
        nap(5000);
    }
    close(ends[0]);
    close(ends[1]);
    made.forks += GATHERED - 1;
    count_family(LIVING, 0, GATHERED);
}

/* Whether `run` has no child but the command and the daemon, be it alive or a zombie: proc(5). */
static int all_reaped(void)
{
    char path[64], text[256];
    int fd, children = 0;
    ssize_t length;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)run, (int)run);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (length = read(fd, text, sizeof text)) < 0)
        fail();
    close(fd);
    for (ssize_t i = 0; i < length; i++)
        children += text[i] == ' ';
    return children <= 2;
}

static void make_round(void)
{
    for (uint64_t i = 0; i < FAMILIES; i++) {
        make_family(i % KINDS, made.forks, SIZE);
        pid_t child = fork_or_fail(); /* none of the business of `run` */
        if (child == 0)
            _exit(0);
        await(child);
        made.forks++;
    }
    make_stopped();
}

/* Signals that `run` forwards to the groups in which orphans live must not end them, nor pile up in their queues. */
static void ignore_signals(uint64_t old_mask)
{
    const unsigned long ignore[4] = {(unsigned long)SIG_IGN};

    for (int signum = 1; signum <= SIGNALS; signum++) {
        int kept = signum == SIGCHLD || signum == SIGSTOP;

        for (int i = 0; i < DEADLY; i++)
            kept |= signum == deadly[i];
        if (!kept)
            syscall(SYS_rt_sigaction, signum, ignore, NULL, sizeof(uint64_t));
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old_mask, NULL, sizeof old_mask);
}

static void make_processes(void)
{
    char order;

    prctl(PR_SET_DUMPABLE, 0); /* no core files */
    while (read(ORDERS, &order, 1) == 1) {
        if (order == 'b')
            make_family(AT_ONCE, made.forks, BURST);
        else if (order == 'g')
            make_gathering();
        else
            make_round();
        while (!all_reaped())
            nap(200);
        made.orders++;
        report();
    }
    *ending = 1;
    made.complete = 1;
    report();
    _exit(0);
}

static void answer(int byte)
{
    unsigned char answer = (unsigned char)byte;

    if (write(ANSWERS, &answer, 1) != 1)
        _exit(1);
}

/* The system call itself, since the C library leaves signals 32 and 33 out. With nobody left who sends any, end. */
static void receive_signals(int mark)
{
    const uint64_t every = ~(1ull << (SIGCHLD - 1));
    const struct timespec long_silence = {.tv_sec = 400};

    close(reports);
    answer(mark);
    for (;;) {
        long signum = syscall(SYS_rt_sigtimedwait, &every, NULL, &long_silence, sizeof every);

        if (signum > 0)
            answer(mark | (int)signum);
        if (*ending && signum == SIGTERM)
            return;
        if (signum < 0 && errno == EAGAIN && (*ending || getppid() != run))
            return;
    }
}

static void start_daemon(void)
{
    pid_t parent = fork_or_fail();

    if (parent == 0) {
        if (fork_or_fail() == 0) {
            if (setsid() < 0)
                fail();
            receive_signals(DAEMON_MARK);
        }
        _exit(0);
    }
    await(parent);
}

int main(int argc, char **argv)
{
    const uint64_t all = ~0ull;
    uint64_t old_mask = 0;

    if (argc != 2)
        return 2;
    reports = atoi(argv[1]);
    run = getppid();
    ending = mmap(NULL, sizeof *ending, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ending == MAP_FAILED)
        fail();
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old_mask, sizeof all);
    start_daemon();
    pid_t maker = fork_or_fail();
    if (maker == 0) {
        ignore_signals(old_mask);
        make_processes();
    }
    close(ORDERS);
    receive_signals(0);
    await(maker);
    return 0;
}
