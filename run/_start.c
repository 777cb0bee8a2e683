/*
 * Block signals before anything else happens, and remember what the process was given.
 *
 * To PID 1 of a namespace the kernel drops a signal that is neither blocked nor handled (signal(7), kill(2)), so
 * whatever arrives while the interpreter starts would be lost. This file runs before main; in an ordinary extension
 * module, when it is loaded. With RUN_ENTRY defined the mask is set by the very first instructions of the program.
 */
#define _GNU_SOURCE
#include "_start.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

sigset64 start_mask;
sigset64 start_ignored;
const char *start_environment, *start_environment_end;

#ifdef RUN_ENTRY

/*
 * What run_entry calls before there is a C library: nothing here may need one. It returns where the stack is to begin.
 *
 * The kernel puts the environment on the stack as string after string, and below them pointers to them (execve(2)). The
 * C library would take some variables away in a program with more rights than its user, and change GLIBC_TUNABLES in place
 * (ld.so(8)); so it gets to see an environment of our own. The strings stay as they are.
 */
__attribute__((no_stack_protector)) long *capture_at_entry(long *stack);

static const char *last_entry; /* of the environment */
static char allocator[] = ALLOCATOR_SETTING;

/* rt_sigprocmask(2) itself: syscall(3) would set errno, where there is none yet. */
static inline void block_at_entry(const sigset64 *blocked, sigset64 *old)
{
#if defined(__x86_64__)
    register long size __asm__("r10") = sizeof *blocked;
    long number = SYS_rt_sigprocmask;

    __asm__ volatile("syscall" : "+a"(number) : "D"(SIG_BLOCK), "S"(blocked), "d"(old), "r"(size) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_rt_sigprocmask;
    register long how __asm__("x0") = SIG_BLOCK;
    register const sigset64 *new_mask __asm__("x1") = blocked;
    register sigset64 *old_mask __asm__("x2") = old;
    register long size __asm__("x3") = sizeof *blocked;

    __asm__ volatile("svc #0" : "+r"(how) : "r"(number), "r"(new_mask), "r"(old_mask), "r"(size) : "memory");
#endif
}

__attribute__((no_stack_protector)) long *capture_at_entry(long *stack)
{
    static const sigset64 blocked = BLOCKED_SIGNALS;
    long argc = stack[0], count = 0;
    char **environment = (char **)(stack + 1 + argc + 1);

    block_at_entry(&blocked, &start_mask);
    start_environment = *environment ? *environment : "";
    for (; environment[count]; count++)
        last_entry = environment[count];

    /* The number of arguments and their pointers move up to where the environment ends, but for one entry, or for two,
       as the stack stays aligned to 16 bytes. Volatile, or this would become a memmove(3). */
    long hidden = count ? (count - 1) & ~1L : 0;
    volatile long *moved = stack + hidden;

    if (hidden < count)
        environment[hidden] = allocator;
    if (hidden + 1 < count)
        environment[hidden + 1] = "";
    for (long i = argc + 1; i >= 0; i--)
        moved[i] = stack[i];
    return stack + hidden;
}

/*
 * run_entry: call capture_at_entry, then go to the C library's own entry point. The kernel starts a program with all other
 * registers free to use, but for rdx (x86-64) and x0 (arm64): a function to register with atexit(3), which the kernel
 * always sets to 0.
 */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl run_entry\n"
        ".type run_entry, @function\n"
        "run_entry:\n"
        "    mov %rsp, %rdi\n"
        "    call capture_at_entry\n"
        "    mov %rax, %rsp\n"
        "    xor %edx, %edx\n"
        "    jmp _start\n"
        ".size run_entry, . - run_entry\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl run_entry\n"
        ".type run_entry, %function\n"
        "run_entry:\n"
        "    mov x0, sp\n"
        "    bl capture_at_entry\n"
        "    mov sp, x0\n"
        "    mov x0, #0\n"
        "    b _start\n"
        ".size run_entry, . - run_entry\n");
#else
#error "no entry code for this architecture: build with LINK=staticx"
#endif

#else

static void block_signals(void)
{
    const sigset64 blocked = BLOCKED_SIGNALS;

    /* The system call itself: the C library's sigprocmask(3) leaves its internal signals 32 and 33 out. */
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &blocked, &start_mask, sizeof blocked);
}

#endif

__attribute__((constructor)) static void capture_start(void)
{
#ifdef RUN_ENTRY
    start_environment_end = last_entry ? last_entry + strlen(last_entry) + 1 : start_environment;
#else
    block_signals();
#endif
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action;

        if (sigaction(signum, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            start_ignored |= SIGNAL_BIT(signum);
    }
#ifndef RUN_ENTRY
    /* An interpreter that loads this file ignores these itself; what it was given cannot be known any more. */
    start_ignored &= ~(SIGNAL_BIT(SIGPIPE) | SIGNAL_BIT(SIGXFSZ));
#endif
}

const char *start_getenv(const char *name)
{
    size_t length = strlen(name);

    if (!start_environment)
        return getenv(name);
    for (const char *entry = start_environment; entry < start_environment_end; entry += strlen(entry) + 1) {
        if (strncmp(entry, name, length) == 0 && entry[length] == '=')
            return entry + length + 1;
    }
    return NULL;
}
