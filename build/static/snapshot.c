/*
 * The snapshot: memory of the interpreter, initialized when the program is built, is part of the file.
 *
 * The linker gathers all variables of Python and of the program in one section, with a heap behind them (snapshot.py).
 * The program as it is linked can do one thing only: initialize the interpreter, import all modules, and write that section
 * to a file, which objcopy(1) then puts in the place of the section. The kernel maps it copy-on-write, at the addresses that
 * it was made for. What the C library keeps (its variables, its heap, the stack, thread-local storage) is not in it, and
 * is new in each process; so nothing in the section may point to any of that, which the build checks.
 *
 * Wrapped by the linker (--wrap): malloc(3) and its kin, which serve from the section while it is made; and
 * pthread_self(3) and the functions for keys, as their results are part of the interpreter's state.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "nursery.h"
#include "snapshot.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The linker's symbols: the section, and the heap at its end. */
extern char snapshot_begin[], snapshot_heap[], snapshot_heap_end[], snapshot_end[];

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
int __real_pthread_key_create(pthread_key_t *key, void (*destructor)(void *));

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);
pthread_t __wrap_pthread_self(void);
int __wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *));

enum {
    GRAIN = 16,          /* bytes: the alignment that malloc(3) promises */
    LARGEST_REUSED = 4096, /* grains: a larger block is not used again once it is freed */
    MAX_KEYS = 16,
    PAGE = 4096,
};

/* All these lie in the section, too. */
static bool building, taken;
static PyThreadState *main_thread;
static PyObjectArenaAllocator system_arenas;
static pthread_key_t keys[MAX_KEYS];
static const void *key_values[MAX_KEYS];
static int key_count;

/* What is known of the heap while it is built; not in the section, as it is of no use later. Blocks by number of grain. */
static struct book {
    size_t next;                           /* the first grain that was never used */
    uint32_t *sizes;                       /* of the block that begins here, in grains */
    uint32_t *free_next;                   /* the next free block of the same size, plus one */
    uint32_t free_first[LARGEST_REUSED];   /* the first free block of this size, plus one */
} *book;

static bool is_inside(const void *block)
{
    return (const char *)block >= snapshot_begin && (const char *)block < snapshot_end;
}

/* A block of zeros in the section. */
static void *take(size_t size)
{
    size_t grains = size ? (size + GRAIN - 1) / GRAIN : 1, block = book->next;

    if (grains < LARGEST_REUSED && book->free_first[grains]) {
        block = book->free_first[grains] - 1;
        book->free_first[grains] = book->free_next[block];
    } else {
        if (grains > (size_t)(snapshot_heap_end - snapshot_heap) / GRAIN - block)
            fail("the snapshot's heap is too small");
        book->next += grains;
    }
    book->sizes[block] = (uint32_t)grains;
    return snapshot_heap + block * GRAIN;
}

/* What was in a freed block, an address on the stack perhaps, must not be in the file. */
static void give_back(void *memory)
{
    size_t block = (size_t)((char *)memory - snapshot_heap) / GRAIN, grains = book->sizes[block];

    memset(memory, 0, grains * GRAIN);
    if (grains < LARGEST_REUSED) {
        book->free_next[block] = book->free_first[grains];
        book->free_first[grains] = (uint32_t)block + 1;
    }
}

void *__wrap_malloc(size_t size)
{
    return building ? take(size) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!building)
        return __real_calloc(count, size);
    return size && count > SIZE_MAX / 2 / size ? NULL : take(count * size);
}

/* A block of the section is never freed in a process that began with it. */
void __wrap_free(void *block)
{
    if (!is_inside(block))
        __real_free(block);
    else if (building)
        give_back(block);
}

/* A block of the section is copied. Its size is not known any more; what is copied too much does not matter. */
void *__wrap_realloc(void *block, size_t size)
{
    if (!is_inside(block))
        return block || !building ? __real_realloc(block, size) : take(size);

    size_t rest = (size_t)(snapshot_end - (char *)block);
    if (building) {
        size_t old = book->sizes[(size_t)((char *)block - snapshot_heap) / GRAIN] * GRAIN;
        if (size <= old && size > old / 2)
            return block;
        rest = old;
    }
    void *copy = __wrap_malloc(size);
    if (copy) {
        memcpy(copy, block, size < rest ? size : rest);
        __wrap_free(block);
    }
    return copy;
}

/* Python knows its thread by this number, an address in each process's own memory. There is one thread only. */
pthread_t __wrap_pthread_self(void)
{
    return 1;
}

int __wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    int error = __real_pthread_key_create(key, destructor);

    if (building && error == 0) {
        if (key_count == MAX_KEYS || destructor)
            fail("the snapshot cannot keep this pthread key");
        keys[key_count++] = *key;
    }
    return error;
}

/*
 * Python's own allocator for small objects would leave gaps, and is of use only from the start of the process on. What it
 * has not allocated it passes on to free(3) and realloc(3), so that it can be put in its place again.
 */
static void *take_for_python(void *context, size_t size)
{
    (void)context;
    return take(size);
}

static void *take_zeros_for_python(void *context, size_t count, size_t size)
{
    (void)context;
    return __wrap_calloc(count, size);
}

static void *resize_for_python(void *context, void *block, size_t size)
{
    (void)context;
    return __wrap_realloc(block, size);
}

static void give_back_for_python(void *context, void *block)
{
    (void)context;
    __wrap_free(block);
}

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static PyMemAllocatorEx small_objects[2];

/* Python's stack of frames comes from here, too. */
static void *allocate_arena(void *context, size_t size)
{
    (void)context;
    return building ? take(size) : system_arenas.alloc(system_arenas.ctx, size);
}

static void free_arena(void *context, void *arena, size_t size)
{
    (void)context;
    if (is_inside(arena))
        __wrap_free(arena);
    else
        system_arenas.free(system_arenas.ctx, arena, size);
}

bool snapshot_is_taken(void)
{
    return taken;
}

void snapshot_begin_building(void)
{
    PyMemAllocatorEx ours = {NULL, take_for_python, take_zeros_for_python, resize_for_python, give_back_for_python};
    PyObjectArenaAllocator arenas = {NULL, allocate_arena, free_arena};
    size_t grains = (size_t)(snapshot_heap_end - snapshot_heap) / GRAIN;

    book = __real_calloc(1, sizeof *book);
    if (!book || !(book->sizes = __real_calloc(grains, sizeof(uint32_t))) ||
        !(book->free_next = __real_calloc(grains, sizeof(uint32_t))))
        fail("not enough memory");
    building = true;
    PyObject_GetArenaAllocator(&system_arenas);
    PyObject_SetArenaAllocator(&arenas);
    for (int i = 0; i < 2; i++) {
        PyMem_GetAllocator(domains[i], &small_objects[i]);
        PyMem_SetAllocator(domains[i], &ours);
    }
}

void snapshot_write(const char *path)
{
    PyThreadState *thread = PyThreadState_Get();

    for (int i = 0; i < 2; i++)
        PyMem_SetAllocator(domains[i], &small_objects[i]);
    nursery_open();
    for (int i = 0; i < key_count; i++)
        key_values[i] = pthread_getspecific(keys[i]);
    /* Frames of calls that have returned. */
    memset(thread->datastack_top, 0, (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top));
    thread->native_thread_id = 0;
    main_thread = PyEval_SaveThread();

    size_t used = (book->next * GRAIN + PAGE - 1) / PAGE * PAGE;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    building = false;
    taken = true;
    book = NULL;
    for (const char *next = snapshot_begin; next < snapshot_end;) {
        ssize_t written = write(fd, next, (size_t)(snapshot_end - next));
        if (written < 0)
            fail("cannot write the snapshot");
        next += written;
    }
    if (close(fd) < 0 || dprintf(STDOUT_FILENO, "%zu\n", used) < 0)
        fail("cannot write the snapshot");
    _exit(0);
}

void snapshot_resume(void)
{
    for (int i = 0; i < key_count; i++) {
        pthread_key_t key;
        do {
            if (__real_pthread_key_create(&key, NULL) != 0)
                fail("the C library has other pthread keys than when the program was built");
        } while (key < keys[i]);
        if (key != keys[i] || pthread_setspecific(key, key_values[i]) != 0)
            fail("the C library has other pthread keys than when the program was built");
    }
    main_thread->native_thread_id = PyThread_get_thread_native_id();
    PyEval_RestoreThread(main_thread);
}
