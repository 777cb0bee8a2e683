/* The snapshot of the initialized interpreter (see snapshot.c). */
#ifndef RUN_SNAPSHOT_H
#define RUN_SNAPSHOT_H

#include <stdbool.h>

/* Whether this process began with a snapshot. */
bool snapshot_is_taken(void);

/* Before Python is initialized: from now on all memory comes from the section. */
void snapshot_begin_building(void);

/* After all is imported: write the section to a file, and end the process. How much of the heap is used goes to stdout. */
_Noreturn void snapshot_write(const char *path);

/* At the start of a process that began with a snapshot: make the C library, and Python, believe in each other again. */
void snapshot_resume(void);

/* Say what went wrong, and end the process: main.c. */
_Noreturn void fail(const char *what);

#endif
