/* The signal state that the process was started with (see _start.c). */
#ifndef RUN_START_H
#define RUN_START_H

#include <signal.h>
#include <stdint.h>

/* The kernel's signal set on every architecture with 64 signals: bit n - 1 stands for signal n. */
typedef uint64_t sigset64;

#define SIGNAL_BIT(n) (UINT64_C(1) << ((n) - 1))

/*
 * Everything but the synchronous faults: one that is raised while it is blocked kills the process all the same, and one that
 * somebody sends should too.
 */
#define FAULT_SIGNALS                                                                                                  \
    (SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGABRT) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) |         \
     SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGSYS))
#define BLOCKED_SIGNALS (~FAULT_SIGNALS)

extern sigset64 start_mask;    /* blocked when the process was executed */
extern sigset64 start_ignored; /* ignored when the process was executed */

/*
 * The environment that the process was given: strings one after the other, each with its NUL, up to the end. NULL where
 * only the C library's environ(7) is known.
 */
extern const char *start_environment, *start_environment_end;

/*
 * A variable for glibc, which would keep what is freed, of each size a few pieces: as a rare size comes late, the process
 * would still grow after hours of full load.
 */
#define ALLOCATOR_SETTING "GLIBC_TUNABLES=glibc.malloc.tcache_count=0"

/* getenv(3) for that environment. */
const char *start_getenv(const char *name);

#endif
