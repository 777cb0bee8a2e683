/*
 * A service of the soak test: what it does is counted in a file that it shares with the soak, so that the soak can tell
 * what `run` must have done.
 *
 *   soak-service COUNTS NUMBER KIND     a life: see enum kind
 *   soak-service COUNTS NUMBER probe    its healthcheck, which fails now and then
 *
 * It writes lines with numbers that go on from life to life. TERM is blocked but where it waits, and nothing is written
 * that does not fit, so that it knows to the byte what it has written whenever it ends. While the word `paused` is set
 * it does nothing; what it does otherwise is drawn anew in each life.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIGNALS = 65, CODES = 256, LONGEST = 1 << 16, WAIT_MS = 20, LETTERS = 26 };
enum kind { STEADY, CRASHING, FLOODING, HANGING, LEAVING, FLAPPING, KINDS };
static const char *const kinds[KINDS] = {"steady", "crashing", "flooding", "hanging", "leaving", "flapping"};
static const int deadly[] = {SIGKILL, SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGUSR2, SIGHUP};
enum { DEADLY = sizeof deadly / sizeof *deadly };

/* All of it are uint64_t, for the struct.unpack of the soak. */
struct slot {
    uint64_t error;          /* errno of what failed */
    uint64_t starts;
    uint64_t settled;        /* the life that does nothing, since all is paused */
    uint64_t probes;
    uint64_t lines[2];       /* the last line of stdout, of stderr, of which something was written */
    uint64_t lengths[2];     /* how much of it, without its newline */
    uint64_t ended[CODES];   /* lives by exit code, 128 + n for signal n */
    uint64_t orphans[CODES]; /* processes that `run` has to adopt */
    uint64_t got[SIGNALS];   /* signals that it has caught */
};
static struct shared {
    uint64_t paused;
    uint64_t all_crash; /* each time that this grows every service crashes that is not steady */
    struct slot slots[];
} volatile *shared;

static volatile struct slot *me;
static volatile sig_atomic_t told;
static int number;
static uint32_t random_state;
static uint64_t crashes_before;
static sigset_t waiting;

static void fail(void)
{
    me->error = (uint64_t)errno;
    _exit(99);
}

/* splitmix32 */
static uint32_t mixed(uint32_t z)
{
    z ^= z >> 16;
    z *= 0x21f0aaadu;
    z ^= z >> 15;
    z *= 0x735a2d97u;
    return z ^ (z >> 15);
}

static uint32_t draw(uint32_t below) { return mixed(random_state += 0x9e3779b9u) % below; }

static void caught(int signum)
{
    if (signum == SIGTERM)
        told = 1;
    else
        __atomic_add_fetch(&me->got[signum], 1, __ATOMIC_SEQ_CST);
}

static void end_by(int signum)
{
    sigset_t all;
    signal(signum, SIG_DFL);
    raise(signum);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    fail();
}

static void end(int code)
{
    me->settled = 0;
    me->ended[code]++;
    if (code > 128)
        end_by(code - 128);
    _exit(code);
}

static void crash(void)
{
    int how = draw(4);
    end(how == 0 ? 0 : how == 1 ? 1 + (int)draw(120) : 128 + deadly[draw(DEADLY)]);
}

/* Ends in one of the ways of an orderly stop. */
static void stop(enum kind kind)
{
    me->settled = 0;
    if (kind == HANGING) /* not counted: the grace may be over before this is reached */
        for (;;)
            pause();
    if (number % 3 == 0)
        end(0);
    if (number % 3 == 2)
        end(128 + SIGTERM);
    me->ended[128 + SIGTERM]++;
    _exit(128 + SIGTERM);
}

/* Waits, for something if there is, and for TERM. */
static int wait_for(int fd, short events, int milliseconds)
{
    struct pollfd what = {.fd = fd, .events = events};
    struct timespec most = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    int ready = ppoll(&what, fd >= 0, &most, &waiting);
    if (ready < 0 && errno != EINTR)
        fail();
    return ready > 0;
}

/* The same as length() of lines.py. */
static size_t length(int stream, uint64_t line)
{
    uint32_t hash = mixed((uint32_t)(line * 4 + stream * 2 + number * 7919));
    uint32_t rest = hash >> 8;
    return hash % 64 == 0 ? 16000 + rest % 24000 : hash % 16 == 1 ? 1000 + rest % 5000 : 50 + rest % 130;
}

/* Writes the next line, or as much of it as there is time for before a TERM. */
static void write_line(int stream)
{
    static char line[LONGEST];
    uint64_t next = me->lines[stream] + 1;
    size_t whole = length(stream, next), written = 0;
    int at = sprintf(line, "%02d %c %lu %lu ", number, "oe"[stream], next, me->lengths[stream]);
    for (size_t i = at; i < whole; i++)
        line[i] = 'a' + (next + i) % LETTERS;
    line[whole] = '\n';
    while (written < whole + 1 && !told)
        if (wait_for(1 + stream, POLLOUT, WAIT_MS)) {
            /* A pipe that can be written to takes a page, and PIPE_BUF bytes at once: pipe(7). */
            size_t part = whole + 1 - written < 4096 ? whole + 1 - written : 4096;
            ssize_t did = write(1 + stream, line + written, part);
            if (did != (ssize_t)part)
                fail();
            me->lines[stream] = next;
            written += part;
            me->lengths[stream] = written < whole ? written : whole;
        }
}

/* A process that `run` will adopt: it ends by itself, in a session of its own. */
static void leave_orphan(void)
{
    int how = draw(3), code = how == 0 ? 0 : how == 1 ? 1 + (int)draw(120) : 128 + deadly[draw(DEADLY)];
    int milliseconds = draw(20), between[2];
    char byte;
    if (pipe2(between, O_CLOEXEC))
        fail();
    me->orphans[code]++;
    pid_t pid = fork();
    if (pid < 0)
        fail();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            setsid();
            poll(NULL, 0, milliseconds);
            if (code > 128)
                end_by(code - 128);
            _exit(code);
        }
        _exit(0);
    }
    close(between[1]);
    if (waitpid(pid, NULL, 0) != pid || read(between[0], &byte, 1)) /* until both are gone */
        fail();
    close(between[0]);
}

/* A process of its own group, which KILL ends when it has crashed; or which ends so upon TERM. */
static void leave_worker(void)
{
    me->orphans[128 + SIGKILL]++;
    pid_t pid = fork();
    if (pid < 0)
        fail();
    if (pid == 0) {
        int signum;
        sigset_t term;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigwait(&term, &signum);
        end_by(SIGKILL);
    }
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGTERM))
        kill(pid, SIGTERM); /* it was sent to the group before this one was in it */
}

static int connected(const char *path, int type, int listens)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@')
        name.sun_path[0] = 0;
    if (fd < 0 || (listens ? bind(fd, (void *)&name, size) || listen(fd, 16) : connect(fd, (void *)&name, size)))
        fail();
    return fd;
}

/* Lives on until TERM: tells `run` what it does, or is there for its probes. */
static void live_steadily(const char *counts)
{
    char path[108], status[64];
    const char *notify = getenv("NOTIFY_SOCKET");
    snprintf(path, sizeof path, "%s.%d", counts, number);
    if (!notify)
        unlink(path);
    int fd = notify ? connected(notify, SOCK_DGRAM, 0) : connected(path, SOCK_STREAM, 1);
    if (notify && send(fd, "READY=1", 7, 0) != 7)
        fail();
    while (!told) {
        if (!notify && wait_for(fd, POLLIN, WAIT_MS))
            close(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
        if (notify)
            wait_for(-1, 0, WAIT_MS);
        if (shared->paused) {
            me->settled = me->starts;
            continue;
        }
        write_line(0);
        write_line(1);
        if (notify)
            send(fd, status, sprintf(status, "STATUS=line %lu", me->lines[0]), 0); /* who listens may be busy */
    }
}

static void live(enum kind kind)
{
    uint64_t left = kind == FLOODING ? 500 + draw(3000) : draw(60);
    while (!told) {
        if (shared->all_crash > crashes_before)
            crash();
        if (shared->paused) {
            me->settled = me->starts;
            wait_for(-1, 0, WAIT_MS);
            continue;
        }
        if (kind == FLAPPING || kind == HANGING)
            wait_for(-1, 0, WAIT_MS); /* until somebody stops it */
        else if (left-- == 0)
            break;
        else if (kind != FLOODING)
            wait_for(-1, 0, draw(WAIT_MS));
        if (told)
            break;
        write_line(0);
        if (kind != FLOODING && draw(4) == 0)
            write_line(1);
        if (kind == LEAVING && draw(8) == 0)
            leave_orphan();
    }
    if (told)
        return;
    if (kind == LEAVING) {
        leave_worker();
        end(1 + draw(120));
    }
    crash();
}

static void note_signals(enum kind kind)
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &waiting);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = caught}, NULL);
    if (kind == STEADY)
        for (int signum = SIGRTMIN; signum <= SIGRTMAX; signum++)
            sigaction(signum, &(struct sigaction){.sa_handler = caught, .sa_flags = SA_RESTART}, NULL);
}

int main(int count, char **words)
{
    int fd = count == 4 ? open(words[1], O_RDWR | O_CLOEXEC) : -1;
    number = count == 4 ? atoi(words[2]) : 0;
    shared = mmap(NULL, sizeof *shared + (number + 1) * sizeof *me, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        return 2;
    close(fd);
    me = &shared->slots[number];
    if (!strcmp(words[3], "probe"))
        return !shared->paused && mixed((uint32_t)__atomic_add_fetch(&me->probes, 1, __ATOMIC_SEQ_CST)) % 3 == 0;
    enum kind kind = STEADY;
    while (kind < KINDS && strcmp(words[3], kinds[kind]))
        kind++;
    prctl(PR_SET_DUMPABLE, 0); /* no core files */
    crashes_before = shared->all_crash;
    note_signals(kind);
    me->starts++;
    random_state = mixed((uint32_t)(me->starts * 131 + number));
    if (kind == STEADY)
        live_steadily(words[1]);
    else
        live(kind);
    stop(kind);
}
