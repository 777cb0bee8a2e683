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
#include <sys/syscall.h>
#include <unistd.h>

sigset64 start_mask;
sigset64 start_ignored;

#ifdef RUN_ENTRY

/* Read by the entry code below; not static, so that the assembler sees the name. */
const sigset64 entry_blocked_signals = BLOCKED_SIGNALS;

/*
 * run_entry: rt_sigprocmask(SIG_BLOCK, &entry_blocked_signals, &start_mask, 8), then the C library's own entry point,
 * with the stack as the kernel made it. The kernel starts a program with all other registers free to use, but for
 * rdx (x86-64) and x0 (arm64): a function to register with atexit, which the kernel always sets to 0.
 */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl run_entry\n"
        ".type run_entry, @function\n"
        "run_entry:\n"
        "    mov $14, %eax\n"
        "    xor %edi, %edi\n"
        "    lea entry_blocked_signals(%rip), %rsi\n"
        "    lea start_mask(%rip), %rdx\n"
        "    mov $8, %r10d\n"
        "    syscall\n"
        "    xor %edx, %edx\n"
        "    jmp _start\n"
        ".size run_entry, . - run_entry\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl run_entry\n"
        ".type run_entry, %function\n"
        "run_entry:\n"
        "    mov x8, #135\n"
        "    mov x0, #0\n"
        "    adrp x1, entry_blocked_signals\n"
        "    add x1, x1, :lo12:entry_blocked_signals\n"
        "    adrp x2, start_mask\n"
        "    add x2, x2, :lo12:start_mask\n"
        "    mov x3, #8\n"
        "    svc #0\n"
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
#ifndef RUN_ENTRY
    block_signals();
#endif
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action;

        if (sigaction(signum, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            start_ignored |= SIGNAL_BIT(signum);
    }
}
