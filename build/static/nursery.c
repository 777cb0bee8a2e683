/*
 * The nursery: where the first small objects of a process lie close together, one behind the other.
 *
 * Python's own allocator has a pool of pages for each size, in an arena that is mapped for it: that is thirty pages of
 * memory for what fits into four. A process that waits for one command needs no more than those four; what does not fit
 * goes to Python's allocator. A freed block is used again for the same size.
 */
#include "nursery.h"

#include <stdint.h>
#include <string.h>

enum {
    GRAIN = 16,          /* bytes: the alignment that malloc(3) promises */
    LARGEST = 512 / 16,  /* grains: as far as Python's own allocator calls an object small */
    SIZE = 64 << 10,
};

static char nursery[SIZE] __attribute__((aligned(GRAIN)));
static uint8_t grains_of[SIZE / GRAIN]; /* of the block that begins here */
static char *next = nursery;            /* what was never used begins here */
static void *freed[LARGEST + 1];        /* the first free block of this many grains, which points to the next one */

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static PyMemAllocatorEx pythons[2];

static bool is_ours(const void *block)
{
    return (const char *)block >= nursery && (const char *)block < nursery + SIZE;
}

static uint8_t *grains_at(void *block)
{
    return &grains_of[((char *)block - nursery) / GRAIN];
}

static size_t grains_for(size_t size)
{
    return size ? (size + GRAIN - 1) / GRAIN : 1;
}

/* NULL where it does not fit. */
static void *take(size_t size)
{
    size_t grains = grains_for(size);
    void *block;

    if (grains > LARGEST)
        return NULL;
    block = freed[grains];
    if (block) {
        freed[grains] = *(void **)block;
    } else if (grains * GRAIN <= (size_t)(nursery + SIZE - next)) {
        block = next;
        next += grains * GRAIN;
        *grains_at(block) = (uint8_t)grains;
    }
    return block;
}

static void give_back(void *block)
{
    void **first = &freed[*grains_at(block)];

    *(void **)block = *first;
    *first = block;
}

static void *allocate(void *context, size_t size)
{
    const PyMemAllocatorEx *python = context;
    void *block = take(size);

    return block ? block : python->malloc(python->ctx, size);
}

static void *allocate_zeros(void *context, size_t count, size_t size)
{
    const PyMemAllocatorEx *python = context;
    void *block = count && size > PY_SSIZE_T_MAX / count ? NULL : take(count * size);

    return block ? memset(block, 0, count * size) : python->calloc(python->ctx, count, size);
}

static void release(void *context, void *block)
{
    const PyMemAllocatorEx *python = context;

    if (is_ours(block))
        give_back(block);
    else
        python->free(python->ctx, block);
}

static void *resize(void *context, void *block, size_t size)
{
    const PyMemAllocatorEx *python = context;

    if (!block)
        return allocate(context, size);
    if (!is_ours(block))
        return python->realloc(python->ctx, block, size);

    size_t grains = *grains_at(block);
    if (grains_for(size) == grains)
        return block;
    void *copy = allocate(context, size);
    if (copy) {
        memcpy(copy, block, size < grains * GRAIN ? size : grains * GRAIN);
        give_back(block);
    }
    return copy;
}

void nursery_open(void)
{
    for (int i = 0; i < 2; i++) {
        PyMemAllocatorEx ours = {&pythons[i], allocate, allocate_zeros, resize, release};

        PyMem_GetAllocator(domains[i], &pythons[i]);
        PyMem_SetAllocator(domains[i], &ours);
    }
}
