/*
 * run._kernel: the system calls that only many services need, and nothing that decides.
 */
#include "_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

const char kernel_signal_fd_doc[] = PyDoc_STR(
    "signal_fd(mask) -> descriptor\n\n"
    "Readable while a signal of mask is pending: signalfd(2). Raises OSError.");

PyObject *kernel_signal_fd(PyObject *module, PyObject *arg)
{
    (void)module;
    sigset64 mask = PyLong_AsUnsignedLongLong(arg);
    long fd;

    if (PyErr_Occurred())
        return NULL;
    fd = syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

const char kernel_make_pipe_doc[] = PyDoc_STR(
    "make_pipe(uid, gid, size) -> (read end, write end)\n\n"
    "A pipe that belongs to this user, who may open it anew: pipe(2), setfsuid(2), which takes no\n"
    "CAP_CHOWN. It holds size bytes, if that is permitted: F_SETPIPE_SZ of fcntl(2); 0: as it is. Reading does\n"
    "not block, writing does. Raises OSError.");

/* Make a pipe, reading from which does not block; 0, or errno. */
static int open_pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? errno : 0;
}

/* The kernel takes a process's own parent-death signal away when that becomes another user, also for files alone, and has it
   not dumpable, so that /proc/PID/fd of it is closed to a container's root: prctl(2). Set both again; if the parent has died
   meanwhile, send the signal. */
static void restore(int death_signal, int dumpable, pid_t parent)
{
    if (dumpable == 1)
        prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
    if (death_signal == 0)
        return;
    prctl(PR_SET_PDEATHSIG, (long)death_signal, 0L, 0L, 0L);
    if (getppid() != parent)
        kill(getpid(), death_signal);
}

/* The same for another user, by the effective ids, and with no signal handled in between: they are all blocked. */
static int open_pipe_by_euid(uid_t uid, gid_t gid, int ends[2])
{
    uid_t old_uid = geteuid();
    gid_t old_gid = getegid();
    int error = EPERM;

    if (syscall(SYS_setresgid, -1, gid, -1) == 0 && syscall(SYS_setresuid, -1, uid, -1) == 0)
        error = open_pipe(ends);
    if (syscall(SYS_setresuid, -1, old_uid, -1) < 0 || syscall(SYS_setresgid, -1, old_gid, -1) < 0)
        abort(); /* it was permitted a moment ago */
    return error;
}

/* The same for another user. */
static int open_pipe_of(uid_t uid, gid_t gid, int ends[2])
{
    int error = EPERM, old_uid, old_gid, death_signal = 0, dumpable = prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L);
    pid_t parent = getppid();

    prctl(PR_GET_PDEATHSIG, &death_signal);
    old_gid = (int)syscall(SYS_setfsgid, gid); /* it returns what was, and fails without a word: so it is asked */
    if (old_gid < 0 && errno == ENOSYS) { /* gVisor has none */
        error = open_pipe_by_euid(uid, gid, ends);
    } else {
        old_uid = setfsuid(uid);
        if (setfsgid((gid_t)-1) == (int)gid && setfsuid((uid_t)-1) == (int)uid)
            error = open_pipe(ends);
        setfsuid((uid_t)old_uid);
        setfsgid((gid_t)old_gid);
    }
    restore(death_signal, dumpable, parent);
    return error;
}

PyObject *kernel_make_pipe(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned int uid, gid;
    int ends[2], size, error;

    if (!PyArg_ParseTuple(args, "IIi:make_pipe", &uid, &gid, &size))
        return NULL;
    error = uid == geteuid() && gid == getegid() ? open_pipe(ends) : open_pipe_of(uid, gid, ends);
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (size > 0)
        fcntl(ends[0], F_SETPIPE_SZ, size);
    return Py_BuildValue("ii", ends[0], ends[1]);
}

const char kernel_capabilities_doc[] = PyDoc_STR(
    "capabilities() -> set\n\n"
    "The effective capabilities, as a number in which bit n stands for capability n: capget(2).\n"
    "Raises OSError.");

PyObject *kernel_capabilities(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromUnsignedLongLong(data[0].effective | (unsigned long long)data[1].effective << 32);
}

const char kernel_set_death_signal_doc[] = PyDoc_STR(
    "set_death_signal(signum)\n\n"
    "Get this signal when the parent dies: PR_SET_PDEATHSIG of prctl(2). Raises OSError.");

PyObject *kernel_set_death_signal(PyObject *module, PyObject *arg)
{
    (void)module;
    long signum = PyLong_AsLong(arg);

    if (PyErr_Occurred())
        return NULL;
    if (prctl(PR_SET_PDEATHSIG, signum, 0L, 0L, 0L) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

const char kernel_unread_doc[] = PyDoc_STR(
    "unread(fd) -> number of bytes\n\n"
    "What can be read from a pipe: FIONREAD of pipe(7). Raises OSError.");

PyObject *kernel_unread(PyObject *module, PyObject *arg)
{
    (void)module;
    long fd = PyLong_AsLong(arg);
    int count = 0;

    if (PyErr_Occurred())
        return NULL;
    return ioctl((int)fd, FIONREAD, &count) < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(count);
}

const char kernel_keep_freed_memory_doc[] = PyDoc_STR(
    "keep_freed_memory(size)\n\n"
    "Use freed memory of up to so many bytes again, rather than give it back to the kernel each time: mallopt(3). What is\n"
    "passed on is copied in pieces of some 100 kB.");

PyObject *kernel_keep_freed_memory(PyObject *module, PyObject *arg)
{
    (void)module;
    int size = (int)PyLong_AsLong(arg);

    if (PyErr_Occurred())
        return NULL;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, size);
    mallopt(M_TRIM_THRESHOLD, size);
    mallopt(M_TOP_PAD, size / 16);
#else
    (void)size;
#endif
    Py_RETURN_NONE;
}
