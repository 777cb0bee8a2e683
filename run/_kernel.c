/*
 * run._kernel: the system calls that CPython lacks, and nothing that decides.
 *
 * Signals go through the kernel's own set of 64, a plain integer in Python (bit n - 1 is signal n): the C library's
 * sigset functions leave signals 32 and 33 out, and `run` forwards every signal that can be caught.
 */
#include "_kernel.h"

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
    forget_dispositions();
    if (sigaction(signum, &action, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_signal_doc,
             "wait_signal(mask, timeout) -> (signal, code, pid, uid, value) or None\n\n"
             "Sleep until a signal of mask is pending, and take it: rt_sigtimedwait(2). The rest is siginfo_t of sigaction(2):\n"
             "only with a code of 0 or less a process has sent it, this pid, which is 0 outside of the pid namespace; value is\n"
             "that of sigqueue(3), a pointer as a number. timeout is in seconds; None waits for ever. None is returned when the\n"
             "time is over, or when a stop and continue ended the sleep early. Raises OSError.");

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
    return Py_BuildValue("liiIK", signum, info.si_code, (int)info.si_pid, (unsigned int)info.si_uid,
                         (unsigned long long)(uintptr_t)info.si_value.sival_ptr);
}

PyDoc_STRVAR(queue_signal_doc,
             "queue_signal(pid, signal, uid, sender, value)\n\n"
             "Send one process a signal with the value of sigqueue(3), in the name of its sender: rt_sigqueueinfo(2). Raises\n"
             "OSError.");

static PyObject *queue_signal(PyObject *module, PyObject *args)
{
    (void)module;
    int pid, signum, sender;
    unsigned int uid;
    unsigned long long value;
    siginfo_t info = {0};

    if (!PyArg_ParseTuple(args, "iiIiK:queue_signal", &pid, &signum, &uid, &sender, &value))
        return NULL;
    info.si_signo = signum;
    info.si_code = SI_QUEUE;
    info.si_pid = sender;
    info.si_uid = uid;
    info.si_value.sival_ptr = (void *)(uintptr_t)value;
    if (syscall(SYS_rt_sigqueueinfo, pid, signum, &info) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(monotonic_doc, "monotonic() -> seconds\n\n"
                            "CLOCK_MONOTONIC of clock_gettime(2). The module `time` has it too, but looks for the time\n"
                            "zone's file when it is imported.");

static PyObject *seconds_of(clockid_t clock)
{
    struct timespec now = {0};

    clock_gettime(clock, &now);
    return PyFloat_FromDouble((double)now.tv_sec + (double)now.tv_nsec / 1e9);
}

static PyObject *monotonic(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return seconds_of(CLOCK_MONOTONIC);
}

PyDoc_STRVAR(cpu_time_doc, "cpu_time() -> seconds\n\n"
                           "The processor time that this process has taken: CLOCK_PROCESS_CPUTIME_ID of clock_gettime(2).");

static PyObject *cpu_time(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
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

static void wake_up(int signum)
{
    (void)signum;
}

PyDoc_STRVAR(write_briefly_doc,
             "write_briefly(fd, line) -> number of bytes written\n\n"
             "Write what can be written within a few milliseconds: write(2), which blocks in the kernel until all is written,\n"
             "interrupted by a timer. For a file whose O_NONBLOCK is others' business, too. The timer's signal is TTIN, which\n"
             "`run` ignores and nobody waits for. Raises OSError.");

static PyObject *write_briefly(PyObject *module, PyObject *args)
{
    (void)module;
    enum { BRIEFLY = 2000000 }; /* ns; and again, in case that the first one comes before write(2) */
    struct sigaction handle = {.sa_handler = wake_up}, old_action;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTTIN};
    struct itimerspec once_and_again = {{0, BRIEFLY}, {0, BRIEFLY}};
    sigset64 wakes = SIGNAL_BIT(SIGTTIN), old_mask;
    timer_t timer;
    Py_buffer line;
    ssize_t written = -1;
    int fd, error;

    if (!PyArg_ParseTuple(args, "iy*:write_briefly", &fd, &line))
        return NULL;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
        sigaction(SIGTTIN, &handle, &old_action);
        syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &wakes, &old_mask, sizeof wakes);
        if (timer_settime(timer, 0, &once_and_again, NULL) == 0)
            written = write(fd, line.buf, (size_t)line.len);
        error = errno;
        timer_delete(timer);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old_mask, NULL, sizeof old_mask);
        sigaction(SIGTTIN, &old_action, NULL);
        errno = error;
    }
    PyBuffer_Release(&line);
    return written < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromSsize_t(written);
}

char **string_array(PyObject *list, size_t places)
{
    Py_ssize_t count = PyList_GET_SIZE(list);
    char **strings = PyMem_Calloc(places + (size_t)count + 1, sizeof *strings);

    if (!strings)
        return (char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyBytes_AsStringAndSize(PyList_GET_ITEM(list, i), &strings[places + (size_t)i], NULL) < 0) {
            PyMem_Free(strings);
            return NULL;
        }
    }
    return strings;
}

static PyMethodDef methods[] = {
    {"started_with", started_with, METH_NOARGS, started_with_doc},
    {"environment", environment, METH_NOARGS, environment_doc},
    {"set_mask", set_mask, METH_O, set_mask_doc},
    {"set_ignored", set_ignored, METH_VARARGS, set_ignored_doc},
    {"wait_signal", wait_signal, METH_VARARGS, wait_signal_doc},
    {"monotonic", monotonic, METH_NOARGS, monotonic_doc},
    {"cpu_time", cpu_time, METH_NOARGS, cpu_time_doc},
    {"set_child_subreaper", set_child_subreaper, METH_NOARGS, set_child_subreaper_doc},
    {"close_fds", close_fds, METH_VARARGS, close_fds_doc},
    {"signal_fd", kernel_signal_fd, METH_O, kernel_signal_fd_doc},
    {"make_pipe", kernel_make_pipe, METH_VARARGS, kernel_make_pipe_doc},
    {"capabilities", kernel_capabilities, METH_NOARGS, kernel_capabilities_doc},
    {"set_death_signal", kernel_set_death_signal, METH_O, kernel_set_death_signal_doc},
    {"unread", kernel_unread, METH_O, kernel_unread_doc},
    {"keep_freed_memory", kernel_keep_freed_memory, METH_O, kernel_keep_freed_memory_doc},
    {"queue_signal", queue_signal, METH_VARARGS, queue_signal_doc},
    {"write_briefly", write_briefly, METH_VARARGS, write_briefly_doc},
    {"spawn", (PyCFunction)(void (*)(void))kernel_spawn, METH_VARARGS | METH_KEYWORDS, kernel_spawn_doc},
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
    PyObject *module = PyModule_Create(&definition);

    /* What is blocked from the first instruction on, as a set. */
    if (module && PyModule_AddObject(module, "BLOCKED", PyLong_FromUnsignedLongLong(BLOCKED_SIGNALS)) < 0)
        Py_CLEAR(module);
    return module;
}
