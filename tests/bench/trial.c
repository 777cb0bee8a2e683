/*
 * The services of the trials of many services: each shows by what it writes whether something works.
 *
 *   bench-trial says         "it works"; until a signal. As a program that is named `run` it does that, too
 *   bench-trial fails        a while, then exit code 7
 *   bench-trial dies         its last words, LINES lines with its pid, and it is killed
 *   bench-trial talks C      LINES lines of 99 times that letter, in blocks; until a signal
 *   bench-trial opens        "it works", by a /dev/stdout that it opens anew; until a signal
 *   bench-trial orphan       an orphan that ends; "it works" if it is reaped; until a signal
 *   bench-trial stops NAME   "NAME is ready"; at TERM "NAME begins", and after a while "NAME ends"
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

enum { LINES = 500, LINE = 100, CODE = 7 };

static const char works[] = "it works\n";

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static void say_to(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        fail("write");
}

static void sleep_ms(long ms)
{
    const struct timespec moment = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000 * 1000};

    nanosleep(&moment, NULL);
}

static void wait_for_signal(void)
{
    for (;;)
        pause();
}

static void say_last_words(void)
{
    char text[LINE];

    for (int i = 0; i < LINES; i++) {
        snprintf(text, sizeof text, "last word %d of %d\n", i, (int)getpid());
        say_to(STDOUT_FILENO, text);
    }
    kill(getpid(), SIGKILL);
}

/* As stdio writes into a pipe, in blocks, which end anywhere in a line; with pauses, so that others write in between. */
static void talk(char letter)
{
    for (int i = 0; i < LINES; i++) {
        for (int j = 0; j < LINE - 1; j++)
            putchar(letter);
        putchar('\n');
        if (i % 20 == 0)
            sleep_ms(5);
    }
    fflush(stdout);
}

static void open_stdout(void)
{
    int fd = open("/proc/self/fd/1", O_WRONLY | O_APPEND); /* what /dev/stdout is */

    if (fd < 0)
        fail("/dev/stdout");
    say_to(fd, works);
}

/* Whether a process is gone, zombies not being. */
static int is_reaped(pid_t pid)
{
    return kill(pid, 0) != 0;
}

static void leave_orphan(void)
{
    int ends[2];
    pid_t orphan, child;

    if (pipe(ends) != 0)
        fail("pipe");
    child = fork();
    if (child == 0) {
        orphan = fork();
        if (orphan == 0) {
            sleep_ms(300);
            _exit(0);
        }
        if (write(ends[1], &orphan, sizeof orphan) < 0)
            fail("write");
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) < 0 || read(ends[0], &orphan, sizeof orphan) != sizeof orphan)
        fail("fork");
    for (int i = 0; i < 80 && !is_reaped(orphan); i++)
        sleep_ms(100);
    say_to(STDOUT_FILENO, is_reaped(orphan) ? works : "there is a zombie\n");
}

static void stop_slowly(const char *name)
{
    sigset_t set;
    int signum;

    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("%s is ready\n", name);
    sigwait(&set, &signum);
    printf("%s begins\n", name);
    sleep_ms(500);
    printf("%s ends\n", name);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *what = strcmp(slash ? slash + 1 : argv[0], "run") == 0 ? "says" : argc > 1 ? argv[1] : "";

    if (strcmp(what, "stops") == 0 && argc == 3) {
        stop_slowly(argv[2]);
        return 0;
    }
    if (strcmp(what, "fails") == 0) {
        sleep_ms(500);
        return CODE;
    }
    if (strcmp(what, "says") == 0)
        say_to(STDOUT_FILENO, works);
    else if (strcmp(what, "dies") == 0)
        say_last_words();
    else if (strcmp(what, "talks") == 0 && argc == 3)
        talk(argv[2][0]);
    else if (strcmp(what, "opens") == 0)
        open_stdout();
    else if (strcmp(what, "orphan") == 0)
        leave_orphan();
    else
        return 2;
    wait_for_signal();
}
