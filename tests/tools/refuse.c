/* refuse CALL ERRNO PROGRAM [ARGUMENTS...]: run a program to which one system call is always refused: seccomp(2). */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_vfork
#define FORK SYS_vfork
#else
#define FORK SYS_clone
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)

static const struct { const char *name; unsigned number; int argument; unsigned value; } calls[] = {
    {"subreaper", SYS_prctl, 0, PR_SET_CHILD_SUBREAPER}, {"pdeathsig", SYS_prctl, 0, PR_SET_PDEATHSIG},
    {"tcsetpgrp", SYS_ioctl, 1, TIOCSPGRP}, {"fork", FORK, -1, 0}, {"kill", SYS_kill, -1, 0},
    {"setpgid", SYS_setpgid, -1, 0}, {"wait4", SYS_wait4, -1, 0}, {"sigtimedwait", SYS_rt_sigtimedwait, -1, 0},
    {"close_range", SYS_close_range, -1, 0}, {"setfsgid", SYS_setfsgid, -1, 0},
    {"pwritev2", SYS_pwritev2, -1, 0},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 3 && i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(argv[1], calls[i].name))
            continue;
        int all = calls[i].argument < 0;
        struct sock_filter filter[] = {
            LOAD(nr), SKIP_UNLESS(calls[i].number, 3),
            LOAD(args[all ? 0 : calls[i].argument]), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].value, 0, !all),
            RETURN(SECCOMP_RET_ERRNO | (atoi(argv[2]) & SECCOMP_RET_DATA)), RETURN(SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
            return perror("seccomp"), 99;
        execvp(argv[3], argv + 3);
        return perror(argv[3]), 99;
    }
    return 98;
}
