/*
 * Which pages of its memory a process has written to since it was forked.
 *
 * As long as the parent lives and does not write, a page that the child alone has is one that it has written to: that is in
 * /proc/pid/pagemap, proc(5). Another kernel or an emulator may tell something else, so two pages are tried first.
 */
#include "pages.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

enum { PAGE = 4096, EXCLUSIVE = 56 }; /* bytes; a bit */

static volatile char trial[2 * PAGE] __attribute__((aligned(PAGE)));
static int pagemap;
static bool tells;

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

bool pages_open(void)
{
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    trial[0] = 2;
    tells = is_written(trial) && !is_written(trial + PAGE);
    return tells;
}

bool pages_are_written(const char *place, size_t size)
{
    if (!tells)
        return false;
    for (const char *at = place; at < place + size; at = (const char *)(((uintptr_t)at / PAGE + 1) * PAGE)) {
        if (is_written(at))
            return true;
    }
    return false;
}
