/*
 * The launcher: takes the place of staticx's bootloader, and reads the archive that staticx made.
 *
 * It becomes the program, execve(2), and never forks. The archive is a part of its memory, so its own file need not be
 * readable. Each file of the archive goes into a memfd, which can be executed wherever file systems are mounted noexec,
 * or full. The dynamic loader finds them by name, by symbolic links in a private directory. The program removes that
 * directory and closes the memfds first of all (takeover.c). LD_PRELOAD and its kin are meant for the command, and may
 * be for another C library: the bundle's own dynamic loader sees none of the environment, which travels in a memfd too.
 */
#define _GNU_SOURCE
#include "handover.h"
#include "_start.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CANNOT_RUN = 125, NEEDED = 4 * 1024 * 1024 }; /* contract, "Exit code"; bytes that the program takes at least */
enum { BLOCK = 512, NAME_SIZE = 100, SIZE_FIELD = 124, TYPE_FIELD = 156, TARGET_FIELD = 157 }; /* of tar(5) */
enum { NOEXEC_SEAL = 8, EXECUTABLE = 16 }; /* MFD_NOEXEC_SEAL and MFD_EXEC, since Linux 6.3 */
enum { RESTORER = 0x04000000 };            /* SA_RESTORER of sigaction(2), without which x86-64 calls no handler */
#define DAMAGED "its archive is damaged: "

/* The sections that bundle.py made, last in the file; their beginnings and ends are from the linker. */
extern const unsigned char __start_staticx_archive[], __stop_staticx_archive[];
extern const struct {
    uint64_t size, checksum; /* of the archive */
} __start_run_seal[];

struct file {
    char name[NAME_SIZE];
    char target[NAME_SIZE]; /* of a symbolic link, else "" */
    int fd;                 /* its memfd, -1 for a symbolic link */
    const unsigned char *content;
    uint64_t size;
};
static struct file files[MAX_FILES], program, loader; /* the latter two are links to one of the former */
static struct handover handover = {.magic = HANDOVER_MAGIC, .directory_fd = -1};
static char base[LONGEST_PATH]; /* the directory, as the kernel and the dynamic loader get to know it */

/* Remove the private directory; where there is none, this does nothing. */
static void remove_directory(void)
{
    for (uint32_t i = 0; i < handover.file_count; i++)
        unlinkat(handover.directory_fd, files[i].name, 0);
    close(handover.directory_fd);
    rmdir(handover.directory);
    handover.directory_fd = -1;
    handover.directory[0] = '\0';
}

/* Say why, unless that would block, and end. */
static _Noreturn void fail(const char *what, const char *detail)
{
    struct pollfd stderr_ready = {.fd = STDERR_FILENO, .events = POLLOUT};

    remove_directory();
    if (poll(&stderr_ready, 1, 0) == 1)
        dprintf(STDERR_FILENO, "run: [error] cannot start: %s%s\n", what, detail);
    _exit(CANNOT_RUN);
}

/* The handler of BUS, which comes when a part of the file is not there: mmap(2). */
static void cut_off(__attribute__((unused)) int signum)
{
    fail(DAMAGED, "it is cut off");
}

/* The standard descriptors are the command's, even when they were closed: move one of ours out of them. */
static int above_stderr(int fd)
{
    int high = fd < 0 || fd > STDERR_FILENO ? fd : fcntl(fd, F_DUPFD, STDERR_FILENO + 1);

    if (high != fd)
        close(fd);
    return high;
}

static int create_memfd(const char *name, unsigned int flag)
{
    int fd = memfd_create(name, flag);

    if (fd < 0) /* an older kernel; or vm.memfd_noexec=2, where it is good for copies only */
        fd = memfd_create(name, errno == EINVAL ? 0 : NOEXEC_SEAL);
    if ((fd = above_stderr(fd)) < 0)
        fail("cannot make a memfd: ", strerror(errno));
    return fd;
}

static void write_memfd(int fd, const void *content, size_t size)
{
    errno = EFBIG; /* what a short write is for */
    if (write(fd, content, size) != (ssize_t)size)
        fail("cannot write to a memfd: ", strerror(errno));
}

/* The same as checksum() in bundle.py. Four lanes are computed at once; as each step can be undone, no change is missed. */
static uint64_t checksum(const unsigned char *content, uint64_t size)
{
    uint64_t lanes[4] = {size};

    for (uint64_t i = 0; i < size / sizeof *lanes; i++) {
        uint64_t mixed;
        memcpy(&mixed, content + i * sizeof mixed, sizeof mixed);
        mixed ^= lanes[i % 4];
        lanes[i % 4] = (mixed << 29 | mixed >> 35) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3];
}

/* Take a name from a tar header: one that may be in a directory. */
static void take_name(char *to, const unsigned char *field)
{
    memcpy(to, field, NAME_SIZE);
    if (!memchr(to, '\0', NAME_SIZE) || !to[0] || strchr(to, '/') || !strcmp(to, ".") || !strcmp(to, ".."))
        fail(DAMAGED, "a file's name");
}

/* What a header of the archive says, and where the file's content is: tar(5), as Python's tarfile writes it. */
static struct file read_header(const unsigned char *header, uint64_t left)
{
    char type = (char)header[TYPE_FIELD], digits[13] = {0}, *end;
    struct file file = {.fd = -1, .content = header + BLOCK};

    memcpy(digits, header + SIZE_FIELD, sizeof digits - 1);
    file.size = strtoull(digits, &end, 8);
    if (digits[0] < '0' || digits[0] > '7' || *end || (type != '0' && type != '2'))
        fail(DAMAGED, "a header");
    if (file.size > left)
        fail(DAMAGED, "it is cut off");
    take_name(file.name, header);
    if (type == '2')
        take_name(file.target, header + TARGET_FIELD);
    return file;
}

/* Read the archive, and put its files into memfds. */
static void read_archive(const unsigned char *archive, uint64_t size)
{
    if (size > (uint64_t)(__stop_staticx_archive - archive) || size % BLOCK)
        fail(DAMAGED, "it is cut off");
    if (checksum(archive, size) != __start_run_seal->checksum)
        fail(DAMAGED, "wrong checksum");
    for (uint64_t at = 0; at < size; at += BLOCK) {
        if (archive[at] == '\0')
            continue; /* the end, and what fills up the last record */
        struct file file = read_header(archive + at, size - at - BLOCK);
        at += (file.size + BLOCK - 1) / BLOCK * BLOCK;
        if (!strcmp(file.name, ".staticx.prog"))
            program = file;
        else if (!strcmp(file.name, ".staticx.interp"))
            loader = file;
        else if (handover.file_count == MAX_FILES)
            fail(DAMAGED, "too many files");
        else
            files[handover.file_count++] = file;
    }
    if (!program.target[0] || !loader.target[0])
        fail(DAMAGED, "it names no program");
    for (struct file *file = files; file < files + handover.file_count; file++) {
        if (file->target[0])
            continue;
        file->fd = create_memfd(file->name, EXECUTABLE);
        write_memfd(file->fd, file->content, file->size);
    }
}

/* Write a path into the program, over a placeholder that was made long enough for any: build.sh. */
static void set_path(const struct file *file, const char *placeholder, const char *name)
{
    const unsigned char *found = memmem(file->content, file->size, placeholder, strlen(placeholder));
    char path[PLACEHOLDER];
    int length = snprintf(path, sizeof path, "%s%s", base, name);

    if (!found || file->size - (uint64_t)(found - file->content) < PLACEHOLDER || length >= PLACEHOLDER ||
        pwrite(file->fd, path, (size_t)length + 1, found - file->content) != length + 1)
        fail(DAMAGED, "its program");
}

/*
 * Put a file into the directory: as a link to its memfd or, where that cannot be reached or executed, as a copy. Then
 * see whether it can be executed: access(2) says no where the file system is mounted noexec, too.
 */
static bool place(const struct file *file, bool as_links)
{
    char link[64], loader_name[NAME_SIZE + 1];
    off_t start = 0;

    if (file->target[0])
        return symlinkat(file->target, handover.directory_fd, file->name) == 0;
    if (!strcmp(file->name, program.target)) {
        snprintf(loader_name, sizeof loader_name, "/%s", loader.target);
        set_path(file, LOADER_PLACEHOLDER, loader_name);
        set_path(file, LIBRARIES_PLACEHOLDER, "");
    }
    if (as_links) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
        if (symlinkat(link, handover.directory_fd, file->name) < 0) return false;
    } else {
        int fd = openat(handover.directory_fd, file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
        if (sendfile(fd, file->fd, &start, file->size) < 0 || close(fd) < 0 || start != lseek(file->fd, 0, SEEK_END))
            return false;
    }
    return faccessat(handover.directory_fd, file->name, X_OK, AT_EACCESS) == 0;
}

/* Put all files into a directory here, whose name nobody can foresee. If they cannot be executed, nothing is left. */
static bool place_all(const char *parent, bool as_links)
{
    uint64_t number = 0;
    struct stat status;

    if (!parent || parent[0] != '/' || getrandom(&number, sizeof number, 0) != sizeof number)
        return false;
    int length = snprintf(handover.directory, LONGEST_PATH, "%s/.run-%016llx", parent, (unsigned long long)number);
    if (length >= LONGEST_PATH || mkdir(handover.directory, 0700) < 0) {
        handover.directory[0] = '\0'; /* it is not ours to remove */
        return false;
    }
    handover.directory_fd = above_stderr(open(handover.directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (as_links) /* whoever might rename the directory changes nothing */
        snprintf(base, sizeof base, "/proc/self/fd/%d", handover.directory_fd);
    else
        memcpy(base, handover.directory, sizeof base);
    /* Nobody has put another directory there, and the dynamic loader takes the name as it is: ld.so(8). */
    bool done = fstat(handover.directory_fd, &status) == 0 && status.st_uid == geteuid() && !strpbrk(base, ":;$");
    for (uint32_t i = 0; done && i < handover.file_count; i++)
        done = place(&files[i], as_links);
    if (!done)
        remove_directory();
    return done;
}

/* Write down what takeover.c needs; return the descriptor. */
static int hand_over(char **environment)
{
    int fd = create_memfd("handover", NOEXEC_SEAL);

    handover.mask = start_mask;
    handover.ignored = start_ignored;
    for (uint32_t i = 0; i < handover.file_count; i++)
        handover.fds[i] = files[i].fd;
    write_memfd(fd, &handover, sizeof handover);
    for (; !start_environment && *environment; environment++)
        write_memfd(fd, *environment, strlen(*environment) + 1);
    write_memfd(fd, start_environment, (size_t)(start_environment_end - start_environment));
    return fd;
}

/* Have as much of a resource as may be had without a privilege; return what it was. */
static struct rlimit raise_limit(int resource)
{
    struct rlimit given;

    getrlimit(resource, &given);
    setrlimit(resource, &(struct rlimit){given.rlim_max, given.rlim_max});
    return given;
}

int main(__attribute__((unused)) int argc, char **argv, char **environment)
{
    const char *parents[] = {start_getenv("TMPDIR"), "/tmp", "/dev/shm", "/run", "/var/tmp", "/."};
    enum { PARENTS = sizeof parents / sizeof *parents };
    char path[2 * LONGEST_PATH], variable[64];
    struct { void (*handler)(int); long flags; void *restorer; sigset64 mask; } bus = {cut_off, RESTORER, NULL, 0};

    syscall(SYS_rt_sigaction, SIGBUS, &bus, NULL, sizeof bus.mask); /* musl's sigaction(3) would unblock 33 and 34 */
    /* These are the command's, and would be in the way of memfds: takeover.c gives them back. */
    handover.umask = umask(077);
    handover.file_size = raise_limit(RLIMIT_FSIZE);
    handover.open_files = raise_limit(RLIMIT_NOFILE);
    prctl(PR_GET_NAME, handover.name);
    /* What is in /proc is root's where the file may be executed only; and, as a user not one's own, after execve too. */
    prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L);
    if (mmap(NULL, NEEDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        fail("not enough memory", ""); /* the dynamic loader would say it in many words */
    read_archive(__start_staticx_archive, __start_run_seal->size);
    /* As links in one of them, else as copies. */
    for (int i = getauxval(AT_SECURE) ? PARENTS : 0; !place_all(parents[i % PARENTS], i < PARENTS); i++) {
        if (i == 2 * PARENTS - 1)
            fail("no directory to write to: looked for one in $TMPDIR, /tmp, /dev/shm, /run, /var/tmp and /",
                 "; give it one, such as with --tmpfs /tmp, or use the static build, which needs none");
    }
    snprintf(variable, sizeof variable, HANDOVER_VARIABLE "=%d", hand_over(environment));
    snprintf(path, sizeof path, "%s/%s", base, program.target);
    execve(path, argv, (char *[]){variable, ALLOCATOR_SETTING, NULL});
    fail("cannot execute the program of its archive: ", strerror(errno));
}
