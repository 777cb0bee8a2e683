/*
 * run._kernel.spawn: fork and exec in one call, which is told everything and decides nothing.
 *
 * The child shares the memory of `run` until it is executed, and `run` sleeps meanwhile: vfork(2). So no page is copied,
 * nothing is allocated in the child, and which step failed can be left where the parent finds it.
 */
#include "_kernel.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __WALL
#define __WALL 0x40000000
#endif

/* All that the child needs, as plain values; and what it leaves for the parent. */
struct start {
    char **paths;     /* to be tried in this order, NULL at the end */
    char **words;     /* the arguments; there is room for one more before them */
    char **variables; /* the environment */
    char *shell;      /* for a script without an interpreter line */
    int session, group, terminal, death_signal, mask_of_files;
    sigset64 mask, ignored;
    int files[3], file_count; /* what becomes 0, 1 and 2 */
    char *directory;
    int change_user;
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    size_t group_count;
    pid_t parent;
    const char *search_on;              /* the errors of execve(2), a byte each, after which the next path is tried */
    Py_ssize_t search_on_count;
    const char *volatile failed;        /* the step that failed, NULL while none has */
    volatile int error;                 /* its errno */
    volatile int *errors;               /* of each path that was tried, 0 for the others */
};

/* Give a signal this disposition unless it has it: setting one makes the kernel forget a pending signal that is ignored, be
   it by default, sigaction(2). KILL, STOP and the C library's own signals cannot be set (EINVAL), nor were they ever. */
static int restore_dispositions(sigset64 ignored)
{
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action;
        void (*wanted)(int) = ignored & SIGNAL_BIT(signum) ? SIG_IGN : SIG_DFL;

        if (sigaction(signum, NULL, &action) < 0)
            continue;
        if (action.sa_handler == wanted && !(action.sa_flags & SA_SIGINFO))
            continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = wanted;
        if (sigaction(signum, &action, NULL) < 0 && errno != EINVAL)
            return -1;
    }
    return 0;
}

/* Make these descriptors 0, 1 and 2; -1 closes. Those among them that are in 0 to 2 themselves are in their place. */
static int place_files(const struct start *start)
{
    for (int i = 0; i < start->file_count; i++) {
        if (start->files[i] < 0)
            close(i);
        else if (dup2(start->files[i], i) < 0)
            return -1;
    }
    return 0;
}

/* Try each path as execvp(3) does; return only if none could be executed. */
static void execute_any(struct start *start)
{
    for (int i = 0; start->paths[i]; i++) {
        execve(start->paths[i], start->words, start->variables);
        if (errno == ENOEXEC) {
            char *first = start->words[0];

            start->words[-1] = start->shell;
            start->words[0] = start->paths[i];
            execve(start->shell, start->words - 1, start->variables);
            start->words[0] = first;
        }
        start->errors[i] = errno;
        if (!memchr(start->search_on, errno, (size_t)start->search_on_count))
            return;
    }
}

#define STEP(name, call)         \
    do {                         \
        if ((call) < 0) {        \
            start->failed = name; \
            return;              \
        }                        \
    } while (0)

/* Be what the command is to be, in the child; return only if that failed. The set*id functions of the C library would signal
   other threads, so these are the system calls. */
static void become(struct start *start)
{
    if (start->session)
        STEP("setsid", setsid());
    else if (start->group)
        STEP("setpgid", setpgid(0, 0));
    if (start->terminal >= 0)
        tcsetpgrp(start->terminal, getpid()); /* a terminal that was hung up is no reason not to start */
    STEP("dup2", place_files(start));
    if (start->mask_of_files >= 0)
        umask((mode_t)start->mask_of_files);
    if (start->change_user) {
        STEP("setgroups", syscall(SYS_setgroups, start->group_count, start->groups));
        STEP("setresgid", syscall(SYS_setresgid, start->gid, start->gid, start->gid));
        STEP("setresuid", syscall(SYS_setresuid, start->uid, start->uid, start->uid));
    }
    STEP("prctl", prctl(PR_SET_PDEATHSIG, (long)start->death_signal, 0L, 0L, 0L)); /* which a change of user clears */
    pid_t parent = getppid();
    if (parent != start->parent && parent != 0) { /* 0: it is outside of this pid namespace */
        errno = ESRCH;
        STEP("getppid", -1); /* it died before it could be noticed */
    }
    if (start->directory)
        STEP("chdir", chdir(start->directory));
    STEP("sigaction", restore_dispositions(start->ignored));
    STEP("sigprocmask", syscall(SYS_rt_sigprocmask, SIG_SETMASK, &start->mask, NULL, sizeof start->mask));
    execute_any(start);
    start->failed = "execve";
}

/* Fork, and be the command in the child. The pid, or -1 when start->failed says why. A child that failed is reaped here. */
static __attribute__((noinline)) pid_t fork_and_become(struct start *start)
{
    pid_t pid;

    start->parent = getpid();
    pid = vfork();
    if (pid == 0) {
        become(start);
        start->error = errno;
        _exit(0);
    }
    if (pid < 0) {
        start->failed = "fork";
        start->error = errno;
    } else if (start->failed) {
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
            ;
        pid = -1;
    }
    return pid;
}

/* The pid, or a tuple (step, errno, errnos of the paths). */
static PyObject *outcome(const struct start *start, pid_t pid, Py_ssize_t path_count)
{
    PyObject *errors;

    if (pid > 0)
        return PyLong_FromLong(pid);
    errors = PyTuple_New(path_count);
    for (Py_ssize_t i = 0; errors && i < path_count; i++) {
        PyObject *number = PyLong_FromLong(start->errors[i]);

        if (!number)
            Py_CLEAR(errors);
        else
            PyTuple_SET_ITEM(errors, i, number);
    }
    return errors ? Py_BuildValue("siN", start->failed, start->error, errors) : NULL;
}

/* Take the user: (uid, gid, list of groups), or None. The groups are to be freed. 0, or -1 with an exception set. */
static int take_user(struct start *start, PyObject *user)
{
    PyObject *groups;

    if (user == Py_None)
        return 0;
    if (!PyArg_ParseTuple(user, "IIO!:user", &start->uid, &start->gid, &PyList_Type, &groups))
        return -1;
    start->change_user = 1;
    start->group_count = (size_t)PyList_GET_SIZE(groups);
    start->groups = PyMem_Calloc(start->group_count + 1, sizeof *start->groups);
    if (!start->groups) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < start->group_count; i++) {
        unsigned long group = PyLong_AsUnsignedLong(PyList_GET_ITEM(groups, (Py_ssize_t)i));

        if (PyErr_Occurred())
            return -1;
        start->groups[i] = (gid_t)group;
    }
    return 0;
}

const char kernel_spawn_doc[] = PyDoc_STR(
             "spawn(paths, words, environment, shell, search_on, death_signal, mask, ignored, *, group=False, session=False,\n"
             "      terminal=-1, files=(), directory=None, umask=-1, user=None) -> pid or (step, errno, errnos)\n\n"
             "Start a program: vfork(2), execve(2). paths, words and environment are lists of bytes. The paths are tried in\n"
             "turn, the next one after an error in search_on, a byte each; a file without an interpreter line (ENOEXEC) is given to\n"
             "shell. The child leads a session or a process group of its own, which becomes the foreground group of the open\n"
             "terminal; it gets death_signal when its parent dies. mask and ignored are sets of signals. files are descriptors\n"
             "that become 0, 1 and 2, or -1 to close it. user is (uid, gid, list of groups). Returned is the pid once the program is\n"
             "executed, else the step that failed, its errno, and the errno of each path that was tried. Raises MemoryError and\n"
             "TypeError.");

PyObject *kernel_spawn(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"paths", "words", "environment", "shell", "search_on", "death_signal", "mask", "ignored",
                            "group", "session", "terminal", "files", "directory", "umask", "user", NULL};
    (void)module;
    struct start start = {.terminal = -1, .mask_of_files = -1};
    PyObject *paths, *words, *environment, *files = NULL, *directory = Py_None, *user = Py_None,
             *result = NULL;
    unsigned long long mask, ignored;
    char **slots = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O!yy#iKK|$ppiO!OiO:spawn", names, &PyList_Type, &paths, &PyList_Type,
                                     &words, &PyList_Type, &environment, &start.shell, &start.search_on,
                                     &start.search_on_count, &start.death_signal, &mask,
                                     &ignored, &start.group, &start.session, &start.terminal, &PyTuple_Type, &files,
                                     &directory, &start.mask_of_files, &user))
        return NULL;
    start.mask = mask, start.ignored = ignored;
    start.file_count = files ? (int)PyTuple_GET_SIZE(files) : 0;
    if (start.file_count > 3 || (files && !PyArg_ParseTuple(files, "|iii:files", &start.files[0], &start.files[1], &start.files[2]))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "at most three files");
        return NULL;
    }
    if (directory != Py_None && PyBytes_AsStringAndSize(directory, &start.directory, NULL) < 0)
        return NULL;
    if (take_user(&start, user) == 0 && (start.paths = string_array(paths, 0)) && (slots = string_array(words, 1)) &&
        (start.variables = string_array(environment, 0)) &&
        (start.errors = PyMem_Calloc((size_t)PyList_GET_SIZE(paths) + 1, sizeof *start.errors))) {
        start.words = slots + 1;
        result = outcome(&start, fork_and_become(&start), PyList_GET_SIZE(paths));
    } else if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    PyMem_Free(start.groups);
    PyMem_Free(start.paths);
    PyMem_Free(slots);
    PyMem_Free(start.variables);
    PyMem_Free((void *)start.errors);
    return result;
}
