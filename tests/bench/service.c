/*
 * What the benchmark of many services starts, and what reads their output. In C, so that it costs next to nothing.
 *
 *   bench-service idle READY             its pid as a line into the FIFO READY; until a signal
 *   bench-service lines READY GATE N     the same; once the FIFO GATE is opened N lines of 100 bytes to standard
 *                                        output, 0 for lines without end; "done" into READY; until a signal
 *   bench-service count N                reads standard input until N of those lines have come
 *   bench-service slowly                 reads standard input, a page in every ten milliseconds
 *   bench-service start N WORD...        executes the words N times and waits; TERM ends them, and then itself
 *
 * READY stays open: when all who had it are gone, its reader finds its end.
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

/* stdio writes a pipe in blocks of 4096 bytes, whatever the lines: so do these services. */
enum { LINE = 100, BLOCK = 4096, CHUNK = 65536, MOST = 1000 };

static const char mark = '~'; /* one in each line, and in nothing that a supervisor says itself */

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static int be_ready(const char *path)
{
    char text[32];
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int length = snprintf(text, sizeof text, "%d\n", (int)getpid());

    if (fd < 0 || write(fd, text, length) != length)
        fail(path);
    return fd;
}

static void wait_for_signal(void)
{
    for (;;)
        pause();
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);

        if (written < 0)
            fail("write");
        data += written;
        size -= written;
    }
}

/* Blocks of a text that repeats itself after LINE blocks; the last one ends with the last line. */
static void write_lines(long count)
{
    static char text[LINE * BLOCK];
    long long left = (long long)count * LINE;
    size_t place = 0;

    memset(text, 'x', sizeof text);
    for (size_t end = LINE; end <= sizeof text; end += LINE) {
        text[end - 2] = mark;
        text[end - 1] = '\n';
    }
    while (count == 0 || left > 0) {
        size_t size = count != 0 && left < BLOCK ? left : BLOCK;

        write_all(STDOUT_FILENO, text + place, size);
        place = (place + BLOCK) % sizeof text;
        left -= size;
    }
}

static void be_a_writer(const char *ready, const char *gate, long count)
{
    int fd = be_ready(ready);

    if (open(gate, O_RDONLY | O_CLOEXEC) < 0)
        fail(gate);
    write_lines(count);
    write_all(fd, "done\n", 5);
    wait_for_signal();
}

static int count_lines(long count)
{
    static char data[CHUNK];
    ssize_t size;

    while (count > 0) {
        const char *at = data, *end;

        size = read(STDIN_FILENO, data, sizeof data);
        if (size <= 0)
            return 1;
        for (end = data + size; (at = memchr(at, mark, end - at)) != NULL; at++)
            count--;
    }
    return 0;
}

static void read_slowly(void)
{
    const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
    char page[BLOCK];

    while (read(STDIN_FILENO, page, sizeof page) > 0)
        nanosleep(&moment, NULL);
}

static pid_t execute(char **words, const sigset_t *blocked)
{
    pid_t child = vfork();

    if (child == 0) {
        sigprocmask(SIG_SETMASK, blocked, NULL);
        execv(words[0], words);
        _exit(127);
    }
    if (child < 0)
        fail("vfork");
    return child;
}

static void start(long count, char **words)
{
    static pid_t pids[MOST];
    sigset_t set, before;
    int signum;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);
    for (long i = 0; i < count && i < MOST; i++)
        pids[i] = execute(words, &before);
    sigwait(&set, &signum);
    for (long i = 0; i < count && i < MOST; i++)
        kill(pids[i], SIGTERM);
    while (wait(NULL) > 0)
        ;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "idle") == 0 && argc == 3) {
        be_ready(argv[2]);
        wait_for_signal();
    } else if (strcmp(what, "lines") == 0 && argc == 5)
        be_a_writer(argv[2], argv[3], strtol(argv[4], NULL, 10));
    else if (strcmp(what, "count") == 0 && argc == 3)
        return count_lines(strtol(argv[2], NULL, 10));
    else if (strcmp(what, "slowly") == 0)
        read_slowly();
    else if (strcmp(what, "start") == 0 && argc > 3)
        start(strtol(argv[2], NULL, 10), argv + 3);
    else
        return 2;
    return 0;
}
