/* A service of the tests that has a handler for every signal that can be caught, 32 and 33 among them.
 *
 * Usage: catcher NAME [-SIGNAL...]. Writes "NAME ready PID", then "NAME got SIGNAL from PID value VALUE" for each signal, in the
 * order of delivery. It exits upon TERM with code 0. Those given with a hyphen are left as they are.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *name;

static void caught(int signum, siginfo_t *info, void *context)
{
    char line[200];
    int sent = info->si_code <= 0;

    (void)context;
    if (write(1, line, (size_t)snprintf(line, sizeof line, "%s got %d from %d value %d\n", name, signum,
                                        sent ? (int)info->si_pid : -1,
                                        info->si_code == SI_QUEUE ? info->si_value.sival_int : -1)) < 0)
        _exit(9);
    if (signum == SIGTERM)
        _exit(0);
}

/* The kernel's own structure, since the C library's functions refuse 32 and 33: rt_sigaction(2). */
struct action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
#ifdef __x86_64__
    void (*restorer)(void);
#endif
    uint64_t mask;
};

#ifdef __x86_64__
void give_back(void);
__asm__("give_back: mov $15, %eax\n syscall\n");
#endif

int main(int argc, char **argv)
{
    uint64_t none = 0;

    name = argc > 1 ? argv[1] : "catcher";
    for (int signum = 1; signum <= 64; signum++) {
        struct action action = {.handler = caught, .flags = SA_SIGINFO | SA_RESTART, .mask = ~(uint64_t)0};
        int left = 0;

        for (int i = 2; i < argc; i++)
            left |= -atoi(argv[i]) == signum;
#ifdef __x86_64__
        action.restorer = give_back;
        action.flags |= 0x04000000; /* SA_RESTORER */
#endif
        if (!left)
            syscall(SYS_rt_sigaction, signum, &action, NULL, sizeof none);
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    printf("%s ready %d\n", name, (int)getpid());
    fflush(stdout);
    for (;;)
        pause();
}
