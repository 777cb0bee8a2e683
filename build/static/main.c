/*
 * The program: CPython's core, linked statically, with every module that it will ever import built in or frozen.
 *
 * Only the core of the interpreter is initialized (PEP 587, "Multi-Phase Initialization"). The rest is what looks at
 * the file system, the environment, the locale and the standard streams: import paths, codecs, sys.stdout. `run` needs
 * none of it, so no file can be found in the wrong place, and none of it can fail or cost a millisecond.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "main.h"
#include "mould.h"
#include "snapshot.h"

#include "../../run/_start.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANNOT_RUN = 125 }; /* contract, "Exit code" */

PyMODINIT_FUNC PyInit__kernel(void);

/* Say what went wrong, unless that would block, and end. */
_Noreturn void fail(const char *what)
{
    struct pollfd stderr_ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[512];
    int length = snprintf(line, sizeof line, "run: [error] cannot start the interpreter: %s\n", what ? what : "unknown reason");

    if (length > 0 && (size_t)length < sizeof line && poll(&stderr_ready, 1, 0) == 1) {
        if (write(STDERR_FILENO, line, (size_t)length) < 0)
            _exit(CANNOT_RUN);
    }
    _exit(CANNOT_RUN);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        fail(status.err_msg);
}

/* CPython does not survive it when there is no memory for its core; so look first whether that much can be had. */
static void check_memory(void)
{
#ifdef RUN_SNAPSHOT
    enum { NEEDED = 512 * 1024 };
#else
    enum { NEEDED = 4 * 1024 * 1024 }; /* bytes; it takes 3.3 MB */
#endif
    void *memory = mmap(NULL, NEEDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail("not enough memory");
    munmap(memory, NEEDED);
}

/* The core of the interpreter, and all that will ever be imported within reach. */
static void start_interpreter(void)
{
    PyPreConfig preconfig;
    PyConfig config;

    /* Isolated: no PYTHON* variable, no locale. UTF-8 with surrogateescape keeps every byte of the command line. */
    PyPreConfig_InitIsolatedConfig(&preconfig);
    preconfig.utf8_mode = 1;
    preconfig.configure_locale = 0;
    check(Py_PreInitialize(&preconfig));

    PyConfig_InitIsolatedConfig(&config);
    config._init_main = 0; /* the core only */
    config.site_import = 0;
    config.install_signal_handlers = 0;
    config.use_frozen_modules = 1;
    config.use_hash_seed = 1; /* 0: the same in each process, as the snapshot is */
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/*
 * From now on little is needed, and never for long. With glibc's usual economy of time what is freed would stay, in
 * pieces, and the process would go on growing by a few kilobytes in every hour of full load: mallopt(3).
 */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    mallopt(M_MXFAST, 0);
    mallopt(M_TOP_PAD, 0);
    mallopt(M_TRIM_THRESHOLD, 4096);
    mallopt(M_MMAP_THRESHOLD, 16384);
#endif
}

/* Built-in modules cannot be in a package, so this one is put where an import finds it. 0, or -1 with an exception set. */
static int add_kernel_module(void)
{
    PyObject *module = PyInit__kernel();

    return module ? PyDict_SetItemString(PyImport_GetModuleDict(), "run._kernel", module) : -1;
}

/* sys.argv, which a later phase would have made. */
int set_arguments(int argc, char **argv)
{
    PyObject *arguments = PyList_New(0);

    for (int i = 0; arguments && i < argc; i++) {
        PyObject *word = PyUnicode_DecodeUTF8(argv[i], (Py_ssize_t)strlen(argv[i]), "surrogateescape");

        if (!word || PyList_Append(arguments, word) < 0)
            Py_CLEAR(arguments);
        Py_XDECREF(word);
    }
    if (!arguments || PySys_SetObject("argv", arguments) < 0)
        return -1;
    Py_DECREF(arguments);
    return 0;
}

/* An empty list in sys, which a later phase would have made. 0, or -1 with an exception set. */
static int set_empty(const char *name)
{
    PyObject *list = PyList_New(0);
    int outcome = list ? PySys_SetObject(name, list) : -1;

    Py_XDECREF(list);
    return outcome;
}

#if PY_VERSION_HEX >= 0x030C0000

/*
 * From Python 3.12 on a later phase sets how many digits a number in decimal may have (sys.set_int_max_str_digits). Without
 * that limit a long one would be converted by a module that is not there. 0, or -1 with an exception set.
 */
static int limit_digits(void)
{
    enum { PYTHONS_OWN = 4300 }; /* sys.int_info.default_max_str_digits */
    PyObject *set = PySys_GetObject("set_int_max_str_digits");
    PyObject *result = set ? PyObject_CallFunction(set, "i", PYTHONS_OWN) : NULL;

    Py_XDECREF(result);
    return result ? 0 : -1;
}

#else

static int limit_digits(void)
{
    return 0;
}

#endif

/* Of Python 3.13 on, where a linker finds it: what looks for codecs, and for the handlers of errors, in a later phase. */
__attribute__((weak)) PyStatus _PyCodec_InitRegistry(PyInterpreterState *interpreter);

int make_interpreter(void)
{
    start_interpreter();
    if (_PyCodec_InitRegistry)
        check(_PyCodec_InitRegistry(PyInterpreterState_Get()));
    PyGC_Disable(); /* what an import makes stays: to look for garbage in it would be in vain */
    if (set_empty("path") < 0 || set_empty("warnoptions") < 0) /* the latter for `warnings`, when it is imported */
        return -1;
    return limit_digits() < 0 ? -1 : add_kernel_module();
}

const char *exception_text(void)
{
    PyObject *type, *value, *traceback;
    const char *text = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyObject *string = value ? PyObject_Str(value) : NULL;
    if (string)
        text = PyUnicode_AsUTF8(string);
    return text; /* the process ends: nothing is freed */
}

static PyObject *entry;

int import_program(void)
{
    PyObject *module = PyImport_ImportModule("run.__main__");

    entry = module ? PyObject_GetAttrString(module, "main") : NULL;
    return entry ? 0 : -1;
}

#ifdef RUN_SNAPSHOT

/* The interpreter is there, and has imported the program. */
static void begin(int argc, char **argv)
{
    if (!snapshot_is_taken())
        be_the_mould(argc, argv);
    give_memory_back();
    check_memory();
    snapshot_resume();
}

#else

extern const struct _frozen run_frozen_modules[];

/*
 * docopt needs `re` to read a grammar, and cli.py has it read none. So an empty module will do for it: with `re` at the start of
 * each process LINK=staticx takes more private memory than its limit. Everybody else will find Python's own. 0, or -1 with an
 * exception set.
 */
static int import_docopt(void)
{
    if (!PyImport_AddModule("re") || !PyImport_ImportModule("docopt"))
        return -1;
    return PyDict_DelItemString(PyImport_GetModuleDict(), "re");
}

/* Make the interpreter, and import the program. */
static void begin(int argc, char **argv)
{
    (void)argc, (void)argv;
    check_memory();
    PyImport_FrozenModules = run_frozen_modules;
    if (make_interpreter() < 0 || import_docopt() < 0 || import_program() < 0)
        fail(exception_text());
    PyGC_Enable();
    give_memory_back();
}

#endif

/*
 * The interpreter's environment: the command's variables are none of its business, _start.c keeps them. With this value of TZ
 * the C library looks for no time zone, neither here nor where the program is built: tzset(3). An import of `time` asks.
 */
static char *environment[] = {"TZ=:", NULL};

int main(int argc, char **argv)
{
    if (start_environment)
        environ = environment;
    begin(argc, argv);

    if (set_arguments(argc, argv) == 0)
        PyObject_CallNoArgs(entry); /* does not return */
    fail(exception_text());
}
