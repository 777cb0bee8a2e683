/* The snapshot of the initialized interpreter (see snapshot.c). */
#ifndef RUN_SNAPSHOT_H
#define RUN_SNAPSHOT_H

#include <stdbool.h>

/* Whether this process began with a snapshot. */
bool snapshot_is_taken(void);

/* Before Python is initialized: from now on its memory comes from the heap. */
void snapshot_open(void);

/* After all is imported: from now on this is what a process begins with. */
void snapshot_close(void);

/* Write the section to a file. */
void snapshot_write(const char *path);

/* At the start of a process that began with a snapshot: make the C library, and Python, believe in each other again. */
void snapshot_resume(void);

/* The same where the C library is that of the process which has closed the snapshot. */
void snapshot_continue(void);

#endif
