/*
 * run._kernel: the system calls that CPython lacks, and nothing that decides.
 *
 * Signals go through the kernel's own set of 64, a plain integer in Python (bit n - 1 is signal n): the C library's
 * sigset functions leave signals 32 and 33 out, and `run` forwards every signal that can be caught.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_start.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "the kernel's timespec and signal set are used as on 64-bit machines");

extern char **environ;

PyDoc_STRVAR(started_with_doc, "started_with() -> (mask, ignored)\n\n"
                               "The signals that were blocked, and those that were ignored, when the process was executed.");

static PyObject *started_with(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return Py_BuildValue("KK", (unsigned long long)start_mask, (unsigned long long)start_ignored);
}

PyDoc_STRVAR(environment_doc, "environment() -> list of bytes\n\n"
                              "The environment that the process was given, entry by entry: environ(7).");

/* Append a string, as bytes, to a list; if that fails the list is cleared, with an exception set. */
static void append_string(PyObject **list, const char *string)
{
    PyObject *bytes = PyBytes_FromString(string);

    if (!bytes || PyList_Append(*list, bytes) < 0)
        Py_CLEAR(*list);
    Py_XDECREF(bytes);
}

static PyObject *environment(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *entries = PyList_New(0);
    const char *string = start_environment;

    if (string) {
        for (; entries && string < start_environment_end; string += strlen(string) + 1)
            append_string(&entries, string);
    } else {
        for (char **entry = environ; entries && entry && *entry; entry++)
            append_string(&entries, *entry);
    }
    return entries;
}

PyDoc_STRVAR(set_mask_doc, "set_mask(mask) -> old mask\n\n"
                           "Replace the set of blocked signals: rt_sigprocmask(2). Raises OSError.");

static PyObject *set_mask(PyObject *module, PyObject *arg)
{
    (void)module;
    sigset64 mask = PyLong_AsUnsignedLongLong(arg);
    sigset64 old = 0;

    if (PyErr_Occurred())
        return NULL;
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof mask) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromUnsignedLongLong(old);
}

PyDoc_STRVAR(set_ignored_doc, "set_ignored(signum, ignored)\n\n"
                              "Ignore a signal, or give it its default action: sigaction(2). Raises OSError.");

static PyObject *set_ignored(PyObject *module, PyObject *args)
{
    (void)module;
    int signum, ignored;
    struct sigaction action = {0};

    if (!PyArg_ParseTuple(args, "ip:set_ignored", &signum, &ignored))
        return NULL;
    action.sa_handler = ignored ? SIG_IGN : SIG_DFL;
    if (sigaction(signum, &action, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_signal_doc,
             "wait_signal(mask, timeout) -> (signal, sender's pid) or None\n\n"
             "Sleep until a signal of mask is pending, and take it: rt_sigtimedwait(2). The sender is -1 when the kernel\n"
             "sent it, as it does for a key typed at a terminal, and 0 for a process outside of the pid namespace. timeout\n"
             "is in seconds; None waits for ever. None is returned when the time is over, or when a stop and continue ended\n"
             "the sleep early. Raises OSError.");

static PyObject *wait_signal(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *timeout_arg;
    unsigned long long mask_arg;
    struct timespec timeout, *limit = NULL;
    siginfo_t info = {0};

    if (!PyArg_ParseTuple(args, "KO:wait_signal", &mask_arg, &timeout_arg))
        return NULL;
    if (timeout_arg != Py_None) {
        double seconds = PyFloat_AsDouble(timeout_arg);

        if (PyErr_Occurred())
            return NULL;
        if (!(seconds >= 0 && seconds < 1e9)) {
            PyErr_SetString(PyExc_ValueError, "timeout must be from 0 to 1e9 seconds");
            return NULL;
        }
        timeout.tv_sec = (time_t)seconds;
        timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
        limit = &timeout;
    }

    sigset64 mask = mask_arg;
    long signum;

    Py_BEGIN_ALLOW_THREADS
    signum = syscall(SYS_rt_sigtimedwait, &mask, &info, limit, sizeof mask);
    Py_END_ALLOW_THREADS
    if (signum < 0) {
        if (errno == EAGAIN || errno == EINTR)
            Py_RETURN_NONE;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    /* Only a code of 0 or less says that a process sent it, and that si_pid holds who: sigaction(2). */
    return Py_BuildValue("li", signum, info.si_code <= 0 ? (int)info.si_pid : -1);
}

PyDoc_STRVAR(monotonic_doc, "monotonic() -> seconds\n\n"
                            "CLOCK_MONOTONIC of clock_gettime(2). The module `time` has it too, but looks for the time\n"
                            "zone's file when it is imported.");

static PyObject *monotonic(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return PyFloat_FromDouble((double)now.tv_sec + (double)now.tv_nsec / 1e9);
}

PyDoc_STRVAR(set_child_subreaper_doc, "set_child_subreaper()\n\n"
                                      "Adopt the orphans among this process's descendants: PR_SET_CHILD_SUBREAPER of\n"
                                      "prctl(2). Raises OSError.");

static PyObject *set_child_subreaper(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_parent_death_signal_doc, "set_parent_death_signal(signum)\n\n"
                                          "Have the kernel send signum to this process when its parent dies:\n"
                                          "PR_SET_PDEATHSIG of prctl(2). Raises OSError.");

static PyObject *set_parent_death_signal(PyObject *module, PyObject *arg)
{
    (void)module;
    long signum = PyLong_AsLong(arg);

    if (PyErr_Occurred())
        return NULL;
    if (prctl(PR_SET_PDEATHSIG, signum, 0L, 0L, 0L) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_fds_doc, "close_fds(first, last)\n\n"
                            "Close every file descriptor from first to last: close_range(2). Raises OSError, among\n"
                            "others with ENOSYS before Linux 5.9.");

static PyObject *close_fds(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned int first, last;

    if (!PyArg_ParseTuple(args, "II:close_fds", &first, &last))
        return NULL;
    if (syscall(SYS_close_range, first, last, 0) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

/* A NULL-terminated array of the strings of a list of bytes, which it borrows; to be freed. NULL with an exception set. */
static char **string_array(PyObject *list)
{
    Py_ssize_t count = PyList_GET_SIZE(list);
    char **strings = PyMem_Calloc((size_t)count + 1, sizeof *strings);

    if (!strings)
        return (char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyBytes_AsStringAndSize(PyList_GET_ITEM(list, i), &strings[i], NULL) < 0) {
            PyMem_Free(strings);
            return NULL;
        }
    }
    return strings;
}

/* Give every signal the disposition that the process was started with: 0, or -1 with errno. Before the mask is changed, as a
   handler of the interpreter's must not run then. KILL, STOP and the C library's own signals cannot be set (EINVAL). */
static int restore_dispositions(void)
{
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action = {0};

        action.sa_handler = start_ignored & SIGNAL_BIT(signum) ? SIG_IGN : SIG_DFL;
        if (sigaction(signum, &action, NULL) < 0 && errno != EINVAL)
            return -1;
    }
    return 0;
}

PyDoc_STRVAR(execute_doc, "execute(path, arguments, environment)\n\n"
                          "Become another program, execve(2), with the signal dispositions and the signal mask that this\n"
                          "process was started with. path is bytes, the others are lists of bytes. Raises OSError; the\n"
                          "signals are blocked again then.");

static PyObject *execute(PyObject *module, PyObject *args)
{
    (void)module;
    const char *path;
    PyObject *arguments, *environment_list;
    char **argv = NULL, **envp = NULL;

    if (!PyArg_ParseTuple(args, "yO!O!:execute", &path, &PyList_Type, &arguments, &PyList_Type, &environment_list))
        return NULL;
    argv = string_array(arguments);
    envp = argv ? string_array(environment_list) : NULL;
    if (argv && envp) {
        sigset64 blocked = 0;
        int saved;

        if (restore_dispositions() == 0 &&
            syscall(SYS_rt_sigprocmask, SIG_SETMASK, &start_mask, &blocked, sizeof blocked) == 0)
            execve(path, argv, envp);
        saved = errno;
        if (blocked)
            syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, sizeof blocked);
        errno = saved;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    PyMem_Free(argv);
    PyMem_Free(envp);
    return NULL;
}

static PyMethodDef methods[] = {
    {"started_with", started_with, METH_NOARGS, started_with_doc},
    {"environment", environment, METH_NOARGS, environment_doc},
    {"set_mask", set_mask, METH_O, set_mask_doc},
    {"set_ignored", set_ignored, METH_VARARGS, set_ignored_doc},
    {"wait_signal", wait_signal, METH_VARARGS, wait_signal_doc},
    {"monotonic", monotonic, METH_NOARGS, monotonic_doc},
    {"set_child_subreaper", set_child_subreaper, METH_NOARGS, set_child_subreaper_doc},
    {"set_parent_death_signal", set_parent_death_signal, METH_O, set_parent_death_signal_doc},
    {"close_fds", close_fds, METH_VARARGS, close_fds_doc},
    {"execute", execute, METH_VARARGS, execute_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "run._kernel",
    .m_doc = "The system calls that CPython lacks; signal sets are integers in which bit n - 1 stands for signal n.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__kernel(void);

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModule_Create(&definition);
}
