/*
 * The program's first steps: take over from the launcher, before main and before the interpreter.
 *
 * All libraries are loaded by now, and nothing else will ever be: so the private directory goes, and the memfds are
 * closed. The signals have been blocked since the launcher's first instruction, execve(2) keeps that. What the process
 * was given then becomes what _start.h says, as in the static build.
 */
#include "handover.h"

#include "_start.h"

#include <Python.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CANNOT_RUN = 125 }; /* contract, "Exit code" */

extern const struct _inittab run_extension_modules[];

sigset64 start_mask;
sigset64 start_ignored;
const char *start_environment, *start_environment_end;

/* Remove the private directory, and close the memfds. */
static void clean_up(const struct handover *handover)
{
    DIR *directory = fdopendir(handover->directory_fd);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        unlinkat(handover->directory_fd, entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(handover->directory);
    for (uint32_t i = 0; i < handover->file_count; i++) {
        if (handover->fds[i] >= 0)
            close(handover->fds[i]);
    }
}

__attribute__((constructor)) static void take_over(void)
{
    const char *number = getenv(HANDOVER_VARIABLE);
    int fd = number ? atoi(number) : -1;
    struct stat status;

    if (fstat(fd, &status) < 0)
        _exit(CANNOT_RUN); /* it was not started by the launcher */
    const struct handover *handover = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (handover == MAP_FAILED || handover->magic != HANDOVER_MAGIC)
        _exit(CANNOT_RUN);
    clean_up(handover);
    umask((mode_t)handover->umask);
    setrlimit(RLIMIT_FSIZE, &handover->file_size);
    setrlimit(RLIMIT_NOFILE, &handover->open_files);
    prctl(PR_SET_NAME, handover->name);

    start_mask = handover->mask;
    start_ignored = handover->ignored;
    start_environment = (const char *)(handover + 1);
    start_environment_end = (const char *)handover + status.st_size;
    if (PyImport_ExtendInittab((struct _inittab *)run_extension_modules) < 0)
        _exit(CANNOT_RUN);
}
