/*
 * run._kernel.spawn: fork and exec in one call, which is told everything and decides nothing.
 *
 * The child shares the memory of `run` until it is executed, and `run` sleeps meanwhile: vfork(2). So no page is copied,
 * nothing is allocated in the child, and which step failed can be left where the parent finds it.
 */
#include "_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(place, size)
#endif
#ifndef __WALL
#define __WALL 0x40000000
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
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
    int low[5], low_count;    /* 0, or 5: see take_low_files() */
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

/* Of which signals `run` is known to have the disposition that a child is to have, where these are to be ignored. */
static sigset64 right, right_where_ignored;

void forget_dispositions(void)
{
    right = 0;
}

/* Give a signal the disposition that it is to have, unless it has that: setting one makes the kernel forget a pending signal that
   is ignored, be it by default, sigaction(2). KILL, STOP and the C library's own cannot be set (EINVAL), nor were they ever. */
static int restore_dispositions(sigset64 ignored)
{
    if (ignored != right_where_ignored)
        right = 0;
    right_where_ignored = ignored;
    for (int signum = 1; signum < NSIG; signum++) {
        struct sigaction action;
        void (*wanted)(int) = ignored & SIGNAL_BIT(signum) ? SIG_IGN : SIG_DFL;

        if (right & SIGNAL_BIT(signum))
            continue;
        if (sigaction(signum, NULL, &action) < 0 || (action.sa_handler == wanted && !(action.sa_flags & SA_SIGINFO))) {
            right |= SIGNAL_BIT(signum);
            continue;
        }
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

/*
 * A process that has hundreds of descriptors would have them copied for each child (vfork(2)), only to be closed by execve(2).
 * This child has shared them so far, while its parent sleeps, and now takes a copy of those up to low[0] alone. What is to be
 * 0, 1 or 2 and lies above takes the place of one of low[2] to low[4], which the parent fills with low[1] again.
 */
static int take_low_files(struct start *start)
{
    for (int i = 0; i < start->file_count; i++) {
        if (start->files[i] > start->low[0]) {
            if (dup3(start->files[i], start->low[2 + i], O_CLOEXEC) < 0)
                return -1;
            start->files[i] = start->low[2 + i];
        }
    }
    return (int)syscall(SYS_close_range, start->low[0] + 1, ~0U, CLOSE_RANGE_UNSHARE);
}

static void give_low_files_back(const struct start *start)
{
    for (int i = 0; i < start->file_count; i++) {
        if (start->files[i] == start->low[2 + i])
            dup3(start->low[1], start->low[2 + i], O_CLOEXEC);
    }
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
    if (start->low_count)
        STEP("close_range", take_low_files(start));
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

static int child(void *start)
{
    become(start);
    ((struct start *)start)->error = errno;
    _exit(0);
}

/* vfork(2) where the child shares the descriptors, too. It has a stack of its own, since this function returns while it lives. */
static pid_t fork_with_files(struct start *start)
{
    char stack[32 << 10] __attribute__((aligned(16)));
    pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, start);

    ASAN_UNPOISON_MEMORY_REGION(stack, sizeof stack); /* what the child's functions had there, from which none returned */
    return pid;
}

/* Fork, and be the command in the child. The pid, or -1 when start->failed says why. A child that failed is reaped here. */
static __attribute__((noinline)) pid_t fork_and_become(struct start *start)
{
    pid_t pid;
    int dumpable = start->change_user ? prctl(PR_GET_DUMPABLE, 0L, 0L, 0L, 0L) : 0;

    start->parent = getpid();
    if (start->low_count) {
        pid = fork_with_files(start);
        give_low_files_back(start);
    } else {
        pid = vfork();
        if (pid == 0)
            child(start);
    }
    if (dumpable == 1) /* which the child's change of user has taken from the memory that it shared */
        prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
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

/* The same, and where that takes more than the kernel has, before Linux 5.9 or in a sandbox: with a copy of all descriptors. */
static pid_t fork_as_it_can(struct start *start)
{
    const struct start as_told = *start;
    pid_t pid = fork_and_become(start);

    if (pid < 0 && strcmp(start->failed, "close_range") == 0) {
        *start = as_told;
        start->low_count = 0;
        pid = fork_and_become(start);
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
             "      terminal=-1, files=(), low=(), directory=None, umask=-1, user=None) -> pid or (step, errno, errnos)\n\n"
             "Start a program: vfork(2), execve(2). paths, words and environment are lists of bytes. The paths are tried in\n"
             "turn, the next one after an error in search_on, a byte each; a file without an interpreter line (ENOEXEC) is given to\n"
             "shell. The child leads a session or a process group of its own, which becomes the foreground group of the open\n"
             "terminal; it gets death_signal when its parent dies. mask and ignored are sets of signals. files are descriptors\n"
             "that become 0, 1 and 2, or -1 to close it. low spares the child a copy of all descriptors: the last one of which it\n"
             "has one, and below that what fills the next three, which files take the place of in the child. user is (uid, gid,\n"
             "list of groups). Returned is the pid once the program is executed, else the step that failed, its errno, and the\n"
             "errno of each path that was tried. Raises MemoryError, TypeError and ValueError.");

PyObject *kernel_spawn(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"paths", "words", "environment", "shell", "search_on", "death_signal", "mask", "ignored",
                            "group", "session", "terminal", "files", "low", "directory", "umask", "user", NULL};
    (void)module;
    struct start start = {.terminal = -1, .mask_of_files = -1};
    PyObject *paths, *words, *environment, *files = NULL, *low = NULL, *directory = Py_None, *user = Py_None,
             *result = NULL;
    unsigned long long mask, ignored;
    char **slots = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O!yy#iKK|$ppiO!O!OiO:spawn", names, &PyList_Type, &paths, &PyList_Type,
                                     &words, &PyList_Type, &environment, &start.shell, &start.search_on,
                                     &start.search_on_count, &start.death_signal, &mask,
                                     &ignored, &start.group, &start.session, &start.terminal, &PyTuple_Type, &files,
                                     &PyTuple_Type, &low, &directory, &start.mask_of_files, &user))
        return NULL;
    start.mask = mask, start.ignored = ignored;
    start.file_count = files ? (int)PyTuple_GET_SIZE(files) : 0;
    if (start.file_count > 3 || (files && !PyArg_ParseTuple(files, "|iii:files", &start.files[0], &start.files[1], &start.files[2]))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "at most three files");
        return NULL;
    }
    start.low_count = low ? (int)PyTuple_GET_SIZE(low) : 0;
    if (start.low_count && !PyArg_ParseTuple(low, "iiiii:low", &start.low[0], &start.low[1], &start.low[2], &start.low[3], &start.low[4]))
        return NULL;
    if (directory != Py_None && PyBytes_AsStringAndSize(directory, &start.directory, NULL) < 0)
        return NULL;
    if (take_user(&start, user) == 0 && (start.paths = string_array(paths, 0)) && (slots = string_array(words, 1)) &&
        (start.variables = string_array(environment, 0)) &&
        (start.errors = PyMem_Calloc((size_t)PyList_GET_SIZE(paths) + 1, sizeof *start.errors))) {
        start.words = slots + 1;
        result = outcome(&start, fork_as_it_can(&start), PyList_GET_SIZE(paths));
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
