/* Which pages of its memory a process has written to since it was forked (see pages.c). */
#ifndef RUN_PAGES_H
#define RUN_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Before the fork. */
void pages_prepare(void);

/* In the child: whether the kernel tells. */
bool pages_open(void);

/* Whether one of these was written. */
bool pages_are_written(const char *place, size_t size);

#endif
