/*
 * What a process does to the pages of its memory after it was forked.
 *
 * All access is taken away, and given back page by page when it is missed (SIGSEGV). Which of those were written, the kernel
 * knows: as long as the parent lives and does not write, a page that the child alone has is one that it has written to. That is
 * in /proc/pid/pagemap, proc(5). Another kernel or an emulator may tell something else, so two pages are tried first.
 */
#include "pages.h"

#include "main.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, EXCLUSIVE = 56 }; /* bytes; a bit */

static volatile char trial[2 * PAGE] __attribute__((aligned(PAGE)));
static int pagemap;
static bool tells;

static char *watched;
static size_t watched_size;
static bool *touched; /* by number of page */

static bool is_written(volatile const char *place)
{
    uint64_t entry = 0;
    off_t at = (off_t)((uintptr_t)place / PAGE * sizeof entry);

    (void)*place; /* now it is there, whatever the kernel has done with it */
    return pread(pagemap, &entry, sizeof entry, at) == sizeof entry && entry >> EXCLUSIVE & 1;
}

void pages_prepare(void)
{
    trial[0] = trial[PAGE] = 1;
}

static void on_touch(int signum, siginfo_t *info, void *context)
{
    size_t page = ((size_t)info->si_addr - (size_t)watched) / PAGE;

    (void)signum, (void)context;
    if (page >= watched_size / PAGE || touched[page] ||
        mprotect(watched + page * PAGE, PAGE, PROT_READ | PROT_WRITE) < 0)
        fail("a page that is watched cannot be used");
    touched[page] = true;
}

void pages_watch(char *begin, size_t size)
{
    struct sigaction action = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO};

    watched = begin;
    watched_size = size;
    touched = calloc(size / PAGE, sizeof *touched);
    if (!touched || sigaction(SIGSEGV, &action, NULL) < 0 || mprotect(begin, size, PROT_NONE) < 0)
        fail("pages cannot be watched");
}

bool pages_tell(void)
{
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    trial[0] = 2;
    tells = is_written(trial) && !is_written(trial + PAGE);
    return tells;
}

enum touch pages_touched(const char *place, size_t size)
{
    enum touch most = UNTOUCHED;

    for (const char *at = place; at < place + size; at = (const char *)(((uintptr_t)at / PAGE + 1) * PAGE)) {
        if (!touched[(at - watched) / PAGE])
            continue;
        if (tells && is_written(at))
            return TOUCH_WRITTEN;
        most = TOUCH_READ;
    }
    return most;
}
