/* A process of the chaos tests of services: it does what it is told, and says what happens to it.
 *
 *     chaos_service SOCKET NAME SIGNAL HOW    the main process of a service; "daemon" behind it: a child of it in a session
 *                                             of its own, and once that has said "up" the first process exits with 0
 *     chaos_service probe PATH                a healthcheck: whether there is such a file
 *
 * It has a connection of its own to the abstract SOCKET, of whole messages: "up NAME KIND TIME" first, then "got SIGNAL
 * TIME" for each signal that it catches, and "done TIME" when it has done what it was told. TIME is of the steady clock, in
 * nanoseconds. The end of the connection is its own. Upon SIGNAL it exits with HOW, or goes on if that is -1, or has not
 * caught it if that is -2. USR1 it catches, CHLD it ignores. Orders are:
 *
 *     exit CODE, raise SIGNAL          says "done" before
 *     write STREAM TEXT                all of it
 *     fill STREAM COUNT LETTER         so many times
 *     last 1 CODE TEXT                 the same as write, and exit
 *     worker                           a child in its process group
 *     apart                            a child in a session of its own
 *     notify                           READY=1: sd_notify(3)
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 4096 };

static const char *place, *name;
static int say = -1, stop_signal, how;

static void tell(const char *line)
{
    if (write(say, line, strlen(line)) < 0)
        _exit(99);
}

static void tell_time(const char *what)
{
    char line[LONGEST];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(line, sizeof line, "%s %lld", what, now.tv_sec * 1000000000LL + now.tv_nsec);
    tell(line);
}

static int reach(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    size_t size = strlen(path);
    memcpy(address.sun_path + 1, path, size);
    if (connect(fd, (void *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size)))
        _exit(97);
    return fd;
}

static void begin(const char *kind)
{
    char line[LONGEST];
    int before = say, fd = reach(place, SOCK_SEQPACKET);
    sigset_t all, were;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &were);
    say = fd;
    if (before >= 0)
        close(before);
    snprintf(line, sizeof line, "up %s %s", name, kind);
    tell_time(line);
    sigprocmask(SIG_SETMASK, &were, NULL);
}

static void caught(int signum)
{
    char line[32];
    snprintf(line, sizeof line, "got %d", signum);
    tell_time(line);
    if (signum == stop_signal && how >= 0)
        _exit(how);
}

static void catch(int signum)
{
    struct sigaction action = {.sa_flags = SA_RESTART, .sa_handler = caught};
    sigfillset(&action.sa_mask);
    sigaction(signum, &action, NULL);
}

static void write_all(int stream, const char *text, size_t left)
{
    while (left > 0) {
        ssize_t did = write(stream, text, left);
        if (did < 0)
            _exit(96);
        text += did;
        left -= (size_t)did;
    }
}

static void fill(int stream, size_t count, char letter)
{
    char *text = malloc(count);
    memset(text, letter, count);
    write_all(stream, text, count);
    free(text);
}

/* A child says who it is before anything else is told to anybody. */
static void start_child(int apart)
{
    sigset_t all, were;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &were);
    if (fork() == 0) {
        if (apart) {
            setsid();
            signal(stop_signal, SIG_DFL);
            signal(SIGUSR1, SIG_DFL);
        }
        begin(apart ? "apart" : "worker");
    }
    sigprocmask(SIG_SETMASK, &were, NULL);
}

/* The first process of a daemon has a connection, too, on which it says nothing, until it ends. */
static void go_into_background(void)
{
    int ups[2], fd = reach(place, SOCK_SEQPACKET);
    char up;
    if (pipe(ups) < 0)
        _exit(94);
    if (fork() == 0) {
        close(fd);
        close(ups[0]);
        setsid();
        begin("main");
        if (write(ups[1], "", 1) != 1)
            _exit(93);
        close(ups[1]);
        return;
    }
    close(ups[1]);
    _exit(read(ups[0], &up, 1) != 1);
}

static void obey(const char *order)
{
    char verb[16] = "", letter = 0;
    int first = 0, second = 0, at = 0;
    sscanf(order, "%15s %d%n", verb, &first, &at);
    const char *rest = order + at + (order[at] == ' '); /* the text begins behind one blank */
    if (!strcmp(verb, "exit")) {
        tell_time("done");
        _exit(first);
    } else if (!strcmp(verb, "raise")) {
        tell_time("done");
        signal(first, SIG_DFL);
        raise(first);
    } else if (!strcmp(verb, "write")) {
        write_all(first, rest, strlen(rest));
    } else if (!strcmp(verb, "last")) {
        sscanf(rest, "%d%n", &second, &first);
        rest += first + 1;
        write_all(1, rest, strlen(rest));
        tell_time("done");
        _exit(second);
    } else if (!strcmp(verb, "fill")) {
        sscanf(rest, "%d %c", &second, &letter);
        fill(first, (size_t)second, letter);
    } else if (!strcmp(verb, "worker")) {
        start_child(0);
    } else if (!strcmp(verb, "apart")) {
        start_child(1);
    } else if (!strcmp(verb, "notify")) {
        int fd = reach(getenv("NOTIFY_SOCKET") + 1, SOCK_DGRAM);
        if (write(fd, "READY=1", 7) != 7)
            _exit(95);
        close(fd);
    }
    tell_time("done");
}

int main(int count, char **words)
{
    char order[LONGEST + 1];
    ssize_t size;
    if (count == 3)
        return access(words[2], F_OK) != 0;
    if (count < 5)
        return 2;
    place = words[1];
    name = words[2];
    stop_signal = atoi(words[3]);
    how = atoi(words[4]);
    prctl(PR_SET_DUMPABLE, 0); /* no core files */
    signal(SIGCHLD, SIG_IGN);
    if (how != -2)
        catch(stop_signal);
    catch(SIGUSR1);
    if (count > 5)
        go_into_background();
    else
        begin("main");
    while ((size = read(say, order, LONGEST)) > 0) {
        order[size] = 0;
        obey(order);
    }
    return 98;
}
