/* The heap of the snapshot (see heap.c). */
#ifndef RUN_HEAP_H
#define RUN_HEAP_H

#include "pages.h"

#include <stdbool.h>
#include <stddef.h>

/* From now on all memory comes from the heap. The plan is a file that heap_plan() has written, or NULL. */
void heap_open(const char *plan, bool for_image);

/* From now on it comes from the C library, and what lies in the heap is never freed. For an image: whether all that is left
   lies where it was planned. */
bool heap_close(void);

/* In a process that goes on from here: take note of which blocks it has touched. */
void heap_see(enum touch (*touch_of)(const char *place, size_t size), bool with_services);

/* Make a plan of what became of each allocation, and of who touches it, as others have seen; or where the heap is that of an
   image, as the old plan has it. How many bytes the heap takes then. */
size_t heap_plan(const char *path);

/* Let pages.c watch all of it. */
void heap_watch(void);

/* Where it is watched: memory for small objects that are new, at the same addresses each time. CPython looks up its caches by the
   addresses of names, so what else is touched depends on them. Elsewhere NULL. */
void *heap_arena(size_t size);

/* Before the image is written: nothing of this is to be in it. */
void heap_forget(void);

/* A block of zeros; and the way back. While the heap is open. */
void *heap_take(size_t size);
void heap_give_back(void *block);
bool heap_is_open(void);
bool heap_has(const void *block);

/* The size of a block, whole grains; once the heap is closed it is not known any more, and this is how much there is at most. */
size_t heap_size(void *block);

#endif
