/*
 * The program: CPython's core, linked statically, with every module that it will ever import built in or frozen.
 *
 * Only the core of the interpreter is initialized (PEP 587, "Multi-Phase Initialization"). The rest is what looks at
 * the file system, the environment, the locale and the standard streams: import paths, codecs, sys.stdout. `run` needs
 * none of it, so no file can be found in the wrong place, and none of it can fail or cost a millisecond.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANNOT_RUN = 125 }; /* contract, "Exit code" */

extern const struct _frozen run_frozen_modules[];

PyMODINIT_FUNC PyInit__kernel(void);

/* Say what went wrong, unless that would block, and end. */
static _Noreturn void fail(const char *what)
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
    enum { NEEDED = 4 * 1024 * 1024 }; /* bytes; it takes 3.3 MB */
    void *memory = mmap(NULL, NEEDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        fail("not enough memory");
    munmap(memory, NEEDED);
}

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
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

/* What an import makes stays: to look for garbage in it would be in vain. */
static PyObject *import_without_collections(const char *name)
{
    PyGC_Disable();
    PyObject *module = PyImport_ImportModule(name);
    PyGC_Enable();
    return module;
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

/* An attribute of sys, which a later phase would have made; takes the reference. 0, or -1 with an exception set. */
static int set_sys(const char *name, PyObject *value)
{
    int result = value ? PySys_SetObject(name, value) : -1;

    Py_XDECREF(value);
    return result;
}

/* The words of the command line, to the byte. NULL with an exception set. */
static PyObject *words_of(int argc, char **argv)
{
    PyObject *words = PyList_New(0);

    for (int i = 0; words && i < argc; i++) {
        PyObject *word = PyUnicode_DecodeUTF8(argv[i], (Py_ssize_t)strlen(argv[i]), "surrogateescape");

        if (!word || PyList_Append(words, word) < 0)
            Py_CLEAR(words);
        Py_XDECREF(word);
    }
    return words;
}

/* The message of the exception that is set. */
static const char *exception_text(void)
{
    PyObject *type, *value, *traceback;
    const char *text = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyObject *string = value ? PyObject_Str(value) : NULL;
    if (string)
        text = PyUnicode_AsUTF8(string);
    return text; /* the process ends: nothing is freed */
}

int main(int argc, char **argv)
{
    check_memory();
    PyImport_FrozenModules = run_frozen_modules;
    start_interpreter();

    if (set_sys("path", PyList_New(0)) == 0 && add_kernel_module() == 0) {
        PyObject *module = import_without_collections("run.__main__");

        give_memory_back(); /* and only then the words, which may be long: what they take is given back, too */
        if (module && set_sys("argv", words_of(argc, argv)) == 0)
            PyObject_CallMethod(module, "main", NULL); /* does not return */
    }
    fail(exception_text());
}
