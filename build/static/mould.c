/*
 * The mould: the program as it is linked, without a snapshot, can do one thing only, which is to make one.
 *
 *   mould plan MODULES NEW [OLD]     where each block of the heap is to lie, from what was seen with the old plan; the
 *                                    size of the heap goes to stdout
 *   mould image MODULES PLAN IMAGE   the section, initialized. If not all was as planned, since addresses act on what Python
 *                                    does, IMAGE is a better plan, and the exit code 3.
 *
 * MODULES is a file with all modules that are to be imported, frozen; freeze.py writes it. They are no part of the program,
 * as everything is imported here.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "heap.h"
#include "main.h"
#include "mould.h"
#include "snapshot.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * These take the place of Python's own tables, which hold more modules than are used, as data of the program: see frozen.c
 * and deepfreeze.c of CPython. The first one is set while the snapshot is made.
 */
static const struct _frozen none[1];
const struct _frozen *PyImport_FrozenModules = none, *_PyImport_FrozenBootstrap = none, *_PyImport_FrozenStdlib = none,
                     *_PyImport_FrozenTest = none;
static const char *const no_aliases[2];
const void *_PyImport_FrozenAliases = no_aliases;

enum { UNPLANNED = 3 }; /* an exit code */

/* Functions that live as the program does: with many services, and with one command, whose traces are to be the last. */
static PyObject *rehearsals[2];

int _Py_Deepfreeze_Init(void);
void _Py_Deepfreeze_Fini(void);

int _Py_Deepfreeze_Init(void)
{
    return 0;
}

void _Py_Deepfreeze_Fini(void)
{
}

/* The table that a file holds: of each module the name with its NUL, a byte that is 1 for a package, a size of four bytes,
   and as many bytes of code. */
static const struct _frozen *read_modules(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        fail("cannot read the modules");
    const char *next = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0), *end = next + status.st_size;
    struct _frozen *table = calloc((size_t)status.st_size / 8 + 1, sizeof *table), *module = table;
    if (next == MAP_FAILED || !table)
        fail("not enough memory");
    close(fd);
    for (; next < end; module++) {
        module->name = next;
        next += strlen(next) + 1;
        module->is_package = *next++;
        memcpy(&module->size, next, sizeof module->size);
        next += sizeof module->size;
        module->code = (const unsigned char *)next;
        next += module->size;
    }
    return table;
}

/* A function of a module. */
static PyObject *function(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *found = module ? PyObject_GetAttrString(module, name) : NULL;

    if (!found)
        fail(exception_text());
    Py_DECREF(module);
    return found;
}

/* Call it; it has to succeed. */
static void call(PyObject *function)
{
    PyObject *result = PyObject_CallNoArgs(function);

    if (!result)
        fail(exception_text());
    Py_DECREF(result);
}

/* Do what each start would do in the same way. */
static bool make(const char *modules, const char *plan, bool for_image)
{
    for (int signum = 1; signum < NSIG; signum++)
        PyOS_setsig(signum, SIG_DFL); /* `_signal` looks at them */
    PyImport_FrozenModules = read_modules(modules);
    heap_open(plan, for_image);
    snapshot_open();
    if (make_interpreter() < 0)
        fail(exception_text());
    for (const struct _frozen *module = PyImport_FrozenModules; module->name; module++) {
        PyObject *imported = PyImport_ImportModule(module->name);

        if (!imported)
            fail(exception_text());
        Py_DECREF(imported);
    }
    if (import_program() < 0)
        fail(exception_text());
    call(function("compiled", "restore"));
    if (PyDict_DelItemString(PyImport_GetModuleDict(), "compiled") < 0)
        fail(exception_text());
    rehearsals[0] = function("run.services.warmup", "rehearse");
    rehearsals[1] = function("run.warmup", "rehearse");
    call(function("run.services.warmup", "warm_up"));
    call(function("run.warmup", "warm_up"));
    call(function("gc", "collect")); /* PyGC_Collect() does nothing while it is disabled */
    call(function("gc", "freeze"));
    PyType_ClearCache(); /* it has held names that nobody needs any more, which ones depends on addresses; fill it again */
    call(rehearsals[0]);
    call(rehearsals[1]);
    PyGC_Enable();
    PyImport_FrozenModules = none;
    snapshot_close();
    return heap_close();
}

static void print_size(size_t size)
{
    if (dprintf(STDOUT_FILENO, "%zu\n", size) < 0)
        fail("cannot write to standard output");
}

/* Have a process that goes on from here as a start does, lives as that has it, and sees what it has touched. */
static void see(PyObject *rehearse, bool with_services)
{
    char word[] = "run", *words[] = {word, NULL}; /* the same wherever it is built: its size acts on what is touched */
    int status;
    pid_t pid;

    pages_prepare();
    pid = fork();

    if (pid == 0) {
        heap_watch();
        snapshot_continue();
        if (set_arguments(1, words) < 0)
            fail(exception_text());
        call(rehearse);
        if (!pages_tell() && !with_services)
            fputs("build: this kernel does not tell which pages are written: processes will write to more\n", stderr);
        heap_see(pages_touched, with_services);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        fail("no plan was made");
}

void be_the_mould(int argc, char **argv)
{
    const char *what = argc > 3 ? argv[1] : "";

    if (strcmp(what, "plan") == 0) {
        make(argv[2], argc > 4 ? argv[4] : NULL, false);
        see(rehearsals[0], true);
        see(rehearsals[1], false);
        print_size(heap_plan(argv[3]));
    } else if (strcmp(what, "image") == 0 && argc == 5) {
        if (!make(argv[2], argv[3], true)) {
            print_size(heap_plan(argv[4]));
            _exit(UNPLANNED);
        }
        heap_forget();
        snapshot_write(argv[4]);
    } else {
        fail("this program makes a snapshot: see mould.c");
    }
    _exit(0);
}
