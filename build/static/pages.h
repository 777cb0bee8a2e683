/* What a process does to the pages of its memory after it was forked (see pages.c). */
#ifndef RUN_PAGES_H
#define RUN_PAGES_H

#include <stdbool.h>
#include <stddef.h>

enum touch { UNTOUCHED, TOUCH_READ, TOUCH_WRITTEN };

/* Before the fork. */
void pages_prepare(void);

/* In the child, from now on; what is mapped there and not yet watched is not seen. */
void pages_watch(char *begin, size_t size);

/* Whether it can be told which pages are written. */
bool pages_tell(void);

/* What was done to the pages of this block. */
enum touch pages_touched(const char *place, size_t size);

#endif
