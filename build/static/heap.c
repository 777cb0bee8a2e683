/*
 * The heap of the snapshot: where each block lies is planned.
 *
 * The mould does the same whenever it is run, so its allocations can be numbered, and what became of each of them in one
 * run holds for the next one. Blocks that were freed before the end get no place in the file: they come from memory beside
 * it. Of the others, those that a start writes to lie together, so that few pages of the file are copied in each process:
 * it is mostly reference counts that are written, all over the place. Then come those that it only reads, so that few more
 * pages are read from the disk, and then the rest.
 *
 * Two runs make the plan. A page that was written tells only that one of its blocks was; so in the second run each block that
 * may be one has pages of its own.
 */
#include "heap.h"

#include "main.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GRAIN = 16,           /* bytes: the alignment that malloc(3) promises */
    PAGE = 4096,
    LARGEST_REUSED = 4096, /* grains: a larger block is not used again once it is freed */
    MOST = 4 << 20,        /* allocations */
    ARENAS_SIZE = 64 << 20,
};

/* Where there is room beside the file, below the program: the same in each run, as freed memory may have been pointed to. */
#define BESIDE ((char *)0x10000000)
#define TO_SPREAD ((char *)0x18000000)
#define PROGRAM ((char *)0x30000000)
/* And above the program and wherever its brk(2) may be. */
#define ARENAS ((char *)0x80000000)

enum kind { FREED, KEPT, READ_BY_SERVICES, WRITTEN_BY_SERVICES, READ, WRITTEN, KINDS };

/* The linker's symbols. */
extern char snapshot_heap[], snapshot_heap_end[];

struct memory {
    char *begin;
    size_t size;
};

/* Known to each process that goes on from here. */
static struct memory planned, beside, arenas;
static bool is_open;

/* What the plan says of an allocation, and what became of it. */
struct plan {
    uint32_t kind : 3, grains : 29;
};

struct block {
    char *place; /* NULL once it is freed */
    uint32_t grains;
};

/* Before each block beside the file. */
struct head {
    struct head *next_free;
    uint32_t number;
};

/* Of no use later, so that it is not in the file. */
static struct book {
    uint32_t count;              /* of allocations so far */
    size_t plan_count;
    const struct plan *plan;
    struct memory left[KINDS];   /* what the blocks of this kind have not taken yet */
    bool spread;                 /* whether blocks that are read or written have pages of their own */
    struct head *free[LARGEST_REUSED];
    uint8_t *seen;               /* of each allocation the kind that it should be, shared with those who have seen that */
    struct block blocks[MOST];
} *book;

bool heap_is_open(void)
{
    return is_open;
}

static bool is_in(const struct memory *memory, const char *place)
{
    return place >= memory->begin && place < memory->begin + memory->size;
}

bool heap_has(const void *place)
{
    return is_in(&planned, place) || is_in(&beside, place);
}

static size_t whole_pages(size_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

/* Memory at this address; its pages are zeros. */
static struct memory map(char *begin, char *end)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    struct memory memory = {begin, (size_t)(end - begin)};

    if (mmap(begin, memory.size, PROT_READ | PROT_WRITE, flags, -1, 0) != begin)
        fail("not enough memory");
    return memory;
}

/* How many bytes are taken for a block that is planned. */
static size_t room_for(enum kind kind, uint32_t grains)
{
    return kind > KEPT && book->spread ? whole_pages(grains * GRAIN) : grains * GRAIN;
}

static char *take_of(struct memory *left, size_t size)
{
    char *place = left->begin;

    if (left->size < size)
        fail("the snapshot's heap is too small");
    left->begin += size;
    left->size -= size;
    return place;
}

static char *take_beside(uint32_t number, uint32_t grains)
{
    struct head *head = grains < LARGEST_REUSED ? book->free[grains] : NULL;

    if (head) {
        book->free[grains] = head->next_free;
        memset(head + 1, 0, grains * GRAIN);
    } else {
        head = (struct head *)take_of(&book->left[FREED], sizeof *head + grains * GRAIN);
    }
    head->number = number;
    return (char *)(head + 1);
}

void *heap_take(size_t size)
{
    uint32_t number = book->count++, grains = size ? (uint32_t)((size + GRAIN - 1) / GRAIN) : 1;
    enum kind kind = FREED;

    if (number >= MOST || size > beside.size)
        fail("the snapshot's heap is too small");
    if (book->plan)
        kind = number < book->plan_count ? book->plan[number].kind : KEPT;
    /* It may be larger than planned by a little: an address as a number, for one. */
    if (kind > KEPT && room_for(kind, grains) > book->left[kind].size)
        kind = KEPT;
    if (kind == KEPT && room_for(kind, grains) > book->left[kind].size)
        kind = FREED;
    char *place = kind == FREED ? take_beside(number, grains) : take_of(&book->left[kind], room_for(kind, grains));
    book->blocks[number] = (struct block){place, grains};
    return place;
}

static struct block *block_at(void *place)
{
    if (is_in(&beside, place))
        return &book->blocks[((struct head *)place - 1)->number];
    for (uint32_t i = 0; i < book->count; i++) { /* it was to be kept: that is rare */
        if (book->blocks[i].place == place)
            return &book->blocks[i];
    }
    fail("the snapshot's heap does not have what is to be freed");
}

void heap_give_back(void *place)
{
    struct block *block = block_at(place);

    if (is_in(&beside, place) && block->grains < LARGEST_REUSED) {
        struct head *head = (struct head *)place - 1;

        head->next_free = book->free[block->grains];
        book->free[block->grains] = head;
    }
    block->place = NULL;
}

size_t heap_size(void *place)
{
    const struct memory *memory = is_in(&beside, place) ? &beside : &planned;

    return is_open ? block_at(place)->grains * GRAIN : (size_t)(memory->begin + memory->size - (char *)place);
}

/* How many bytes all blocks of this kind take. */
static size_t size_of(enum kind kind)
{
    size_t size = 0;

    for (size_t i = 0; i < book->plan_count; i++) {
        if (book->plan[i].kind == kind)
            size += room_for(kind, book->plan[i].grains);
    }
    return size;
}

/* A plan is a file of what it says of each allocation, in order. */
static void read_plan(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        fail("cannot read the plan of the snapshot's heap");
    book->plan_count = (size_t)status.st_size / sizeof *book->plan;
    book->plan = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (book->plan == MAP_FAILED)
        fail("cannot read the plan of the snapshot's heap");
    close(fd);
}

void heap_open(const char *plan, bool for_image)
{
    book = calloc(1, sizeof *book);
    if (!book)
        fail("not enough memory");
    book->seen = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (book->seen == MAP_FAILED)
        fail("not enough memory");
    beside = map(BESIDE, TO_SPREAD);
    if (plan)
        read_plan(plan);
    planned = for_image ? (struct memory){snapshot_heap, (size_t)(snapshot_heap_end - snapshot_heap)}
                        : map(TO_SPREAD, PROGRAM);
    book->spread = !for_image;
    book->left[FREED] = beside;
    book->left[KEPT] = planned;
    for (enum kind kind = WRITTEN; kind > KEPT; kind--) {
        size_t size = size_of(kind);
        book->left[kind] = (struct memory){take_of(&book->left[KEPT], size), size};
    }
    is_open = true;
}

bool heap_close(void)
{
    bool as_planned = true;

    is_open = false;
    if (!book->spread) {
        for (uint32_t i = 0; i < book->count; i++)
            as_planned = as_planned && !is_in(&beside, book->blocks[i].place);
        beside = (struct memory){0};
    }
    return as_planned;
}

void heap_see(enum touch (*touch_of)(const char *place, size_t size), bool with_services)
{
    for (uint32_t i = 0; i < book->count; i++) {
        const struct block *block = &book->blocks[i];
        enum touch touch = block->place ? touch_of(block->place, block->grains * GRAIN) : UNTOUCHED;
        enum kind kind = with_services ? WRITTEN_BY_SERVICES : WRITTEN;

        if (touch != UNTOUCHED && touch != TOUCH_WRITTEN)
            kind--; /* it is read */
        if (touch != UNTOUCHED && kind > book->seen[i])
            book->seen[i] = (uint8_t)kind;
    }
}

size_t heap_plan(const char *path)
{
    FILE *file = fopen(path, "we");
    size_t all = 0;

    for (uint32_t i = 0; file && i < book->count; i++) {
        const struct block *block = &book->blocks[i];
        enum kind kind = i < book->plan_count ? book->plan[i].kind : FREED;

        if (book->spread)
            kind = !block->place ? FREED : book->seen[i] ? book->seen[i] : KEPT;
        else if (block->place && kind == FREED)
            kind = KEPT; /* and what has been kept before may be again: so there is an end to better plans */
        struct plan plan = {.kind = kind, .grains = block->grains & 0x1fffffff};
        all += kind == FREED ? 0 : block->grains * GRAIN;
        fwrite(&plan, sizeof plan, 1, file);
    }
    if (!file || ferror(file) || fclose(file) != 0)
        fail("cannot write the plan");
    return whole_pages(all + PAGE); /* as some may be larger next time */
}

void heap_watch(void)
{
    pages_watch(beside.begin, beside.size + planned.size);
    arenas = map(ARENAS, ARENAS + ARENAS_SIZE);
}

void *heap_arena(size_t size)
{
    return arenas.begin ? take_of(&arenas, size) : NULL;
}

void heap_forget(void)
{
    book = NULL;
}
