/*
 * The snapshot: memory of the interpreter, initialized when the program is built, is part of the file.
 *
 * The linker gathers all variables of Python and of the program in one section (snapshot.ld), with a heap behind them
 * (heap.c). The program as it is linked initializes the interpreter, imports all modules, and writes that section to a file
 * (mould.c), which objcopy(1) then puts in the place of the section. The kernel maps it copy-on-write, at the addresses that it
 * was made for. What the C library keeps (its variables, its heap, the stack, thread-local storage) is not in it, and is
 * new in each process; so nothing in the section may point to any of that, which the build checks (prove.py).
 *
 * Wrapped by the linker (--wrap): malloc(3) and its kin, which serve from that heap while the snapshot is made; and
 * pthread_self(3) and the functions for keys, as their results are part of the interpreter's state.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "heap.h"
#include "main.h"
#include "nursery.h"
#include "snapshot.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* The linker's symbols. */
extern char snapshot_begin[], snapshot_end[], snapshot_zeros[], snapshot_zeros_end[];

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

enum { MAX_KEYS = 16 };

/* All these lie in the section, too. */
static bool taken;
static PyThreadState *main_thread;
static PyObjectArenaAllocator system_arenas;
static pthread_key_t keys[MAX_KEYS];
static const void *key_values[MAX_KEYS];
static int key_count;

void *__wrap_malloc(size_t size)
{
    return heap_is_open() ? heap_take(size) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!heap_is_open())
        return __real_calloc(count, size);
    return size && count > SIZE_MAX / 2 / size ? NULL : heap_take(count * size);
}

void __wrap_free(void *block)
{
    if (!heap_has(block))
        __real_free(block);
    else if (heap_is_open())
        heap_give_back(block);
}

/* A block of the heap is copied, and what is copied too much does not matter. */
void *__wrap_realloc(void *block, size_t size)
{
    if (!heap_has(block))
        return block || !heap_is_open() ? __real_realloc(block, size) : heap_take(size);

    size_t old = heap_size(block);
    void *copy = __wrap_malloc(size);
    if (copy) {
        memcpy(copy, block, size < old ? size : old);
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

    if (heap_is_open() && error == 0) {
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
    return heap_take(size);
}

static void *take_zeros_for_python(void *context, size_t count, size_t size)
{
    (void)context;
    return PyMem_RawCalloc(count, size);
}

static void *resize_for_python(void *context, void *block, size_t size)
{
    (void)context;
    return PyMem_RawRealloc(block, size);
}

static void give_back_for_python(void *context, void *block)
{
    (void)context;
    PyMem_RawFree(block);
}

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static PyMemAllocatorEx small_objects[2];

/* Python's stack of frames comes from here, too. */
static void *allocate_arena(void *context, size_t size)
{
    void *arena = heap_is_open() ? heap_take(size) : heap_arena(size);

    (void)context;
    return arena ? arena : system_arenas.alloc(system_arenas.ctx, size);
}

static void free_arena(void *context, void *arena, size_t size)
{
    (void)context;
    if (!heap_has(arena))
        system_arenas.free(system_arenas.ctx, arena, size);
    else if (heap_is_open())
        heap_give_back(arena);
}

bool snapshot_is_taken(void)
{
    return taken;
}

void snapshot_open(void)
{
    PyMemAllocatorEx ours = {NULL, take_for_python, take_zeros_for_python, resize_for_python, give_back_for_python};
    PyObjectArenaAllocator arenas = {NULL, allocate_arena, free_arena};

    PyObject_GetArenaAllocator(&system_arenas);
    PyObject_SetArenaAllocator(&arenas);
    for (int i = 0; i < 2; i++) {
        PyMem_GetAllocator(domains[i], &small_objects[i]);
        PyMem_SetAllocator(domains[i], &ours);
    }
}

void snapshot_close(void)
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
    taken = true;
}

void snapshot_write(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    for (const char *at = snapshot_zeros; at < snapshot_zeros_end; at++) {
        if (*at)
            fail("the snapshot needs more than what is in the file");
    }
    for (const char *next = snapshot_begin; next < snapshot_end;) {
        ssize_t written = write(fd, next, (size_t)(snapshot_end - next));
        if (written < 0)
            fail("cannot write the snapshot");
        next += written;
    }
    if (close(fd) < 0)
        fail("cannot write the snapshot");
}

void snapshot_continue(void)
{
    main_thread->native_thread_id = PyThread_get_thread_native_id();
    PyEval_RestoreThread(main_thread);
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
    snapshot_continue();
}
