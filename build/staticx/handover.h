/* What the launcher (launcher.c) hands over to the program that it becomes (takeover.c), in a file without a name. */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <stdint.h>
#include <sys/resource.h>

/* The environment variable that holds the number of that file's descriptor. */
#define HANDOVER_VARIABLE "_RUN_HANDOVER"
#define HANDOVER_MAGIC UINT64_C(0x3152454e55525f31)

enum { MAX_FILES = 64, LONGEST_PATH = 1024 };

/* What build.sh links the program with: the paths of the dynamic loader and of the libraries, to be overwritten. */
#define LOADER_PLACEHOLDER "/placeholder-of-the-dynamic-loader/////"
#define LIBRARIES_PLACEHOLDER "/placeholder-of-the-libraries/////"
enum { PLACEHOLDER = 1200 }; /* bytes in each */

/* The environment follows, entry after entry, each with its NUL. */
struct handover {
    uint64_t magic;
    uint64_t mask;    /* the signals that were blocked when the launcher was started */
    uint64_t ignored; /* those that were ignored */
    uint32_t umask;
    struct rlimit file_size, open_files;
    char name[16]; /* of the process: PR_SET_NAME of prctl(2) */
    int32_t directory_fd;
    char directory[LONGEST_PATH]; /* the private directory, to be removed with all that is in it */
    uint32_t file_count;
    int32_t fds[MAX_FILES]; /* of each file the memfd, or -1 */
};

#endif
