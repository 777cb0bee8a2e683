/*
 * The launcher: takes the place of staticx's bootloader, and reads the archive that staticx made.
 *
 * It becomes the program, execve(2), and never forks. Each file of the archive goes into a memfd, which can be executed
 * wherever file systems are mounted noexec, or full. The dynamic loader finds them by name, by symbolic links in a
 * private directory. The program removes that directory and closes the memfds first of all (takeover.c).
 * LD_PRELOAD and its kin are meant for the command, and may be for another C library: the bundle's own dynamic loader
 * sees none of the environment, which travels in a memfd too.
 */
#define _GNU_SOURCE
#include "handover.h"
#include "_start.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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
#include <unistd.h>

enum { CANNOT_RUN = 125, CHUNK = 128 * 1024 }; /* SPEC.md, "Exit code"; bytes that are read at a time */
enum { BLOCK = 512, NAME_SIZE = 100, SIZE_FIELD = 124, TYPE_FIELD = 156, TARGET_FIELD = 157 }; /* of tar(5) */
enum { NOEXEC_SEAL = 8, EXECUTABLE = 16 }; /* MFD_NOEXEC_SEAL and MFD_EXEC, since Linux 6.3 */
#define DAMAGED "its archive is damaged: "

struct file {
    char name[NAME_SIZE];
    char target[NAME_SIZE]; /* of a symbolic link, else "" */
    int fd;                 /* its memfd, -1 for a symbolic link */
};

static struct file files[MAX_FILES], program, loader; /* the latter two are links to one of the former */
static struct handover handover = {.magic = HANDOVER_MAGIC, .directory_fd = -1};
static char base[LONGEST_PATH]; /* the directory, as the kernel and the dynamic loader get to know it */
static uint64_t lanes[4];       /* the checksum so far */

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
    if (write(fd, content, size) != (ssize_t)size)
        fail("cannot write to a memfd: ", strerror(errno));
}

static bool read_at(int fd, uint64_t offset, void *to, size_t size)
{
    return offset <= INT64_MAX - size && pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

/* Find a section of an ELF file by its name: elf(5). */
static Elf64_Shdr section(int fd, const char *name)
{
    Elf64_Ehdr header;
    Elf64_Shdr names, entry;
    const size_t length = strlen(name) + 1;
    char found[32];

    if (!read_at(fd, 0, &header, sizeof header) ||
        !read_at(fd, header.e_shoff + header.e_shstrndx * sizeof names, &names, sizeof names))
        fail(DAMAGED, "its file has no list of sections");
    for (int i = 0; i < header.e_shnum && read_at(fd, header.e_shoff + i * sizeof entry, &entry, sizeof entry); i++) {
        if (read_at(fd, names.sh_offset + entry.sh_name, found, length) && !memcmp(found, name, length))
            return entry;
    }
    fail(DAMAGED, "a section is missing from its file");
}

/*
 * Read the next blocks of the archive, and go on with its checksum: the same as checksum() in bundle.py. In four lanes,
 * since the processor computes them at once; each step can be undone, so no change of a single word is missed.
 */
static const unsigned char *next_blocks(int fd, Elf64_Shdr *archive, size_t size)
{
    static uint64_t words[CHUNK / sizeof(uint64_t)];

    if (size > archive->sh_size || !read_at(fd, archive->sh_offset, words, size))
        fail(DAMAGED, "it is cut off");
    archive->sh_offset += size;
    archive->sh_size -= size;
    for (size_t i = 0; i < size / sizeof *words; i++) {
        uint64_t mixed = lanes[i % 4] ^ words[i];
        lanes[i % 4] = (mixed << 29 | mixed >> 35) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return (const unsigned char *)words;
}

/* Take a name from a tar header, such as may be in a directory: a single word, and not a special one. */
static void take_name(char *to, const unsigned char *field)
{
    memcpy(to, field, NAME_SIZE);
    if (!memchr(to, '\0', NAME_SIZE) || !to[0] || strchr(to, '/') || !strcmp(to, ".") || !strcmp(to, ".."))
        fail(DAMAGED, "a file's name");
}

/* Read the files of the archive into memfds: tar(5), as Python's tarfile writes it. */
static void read_archive(int fd, Elf64_Shdr archive)
{
    lanes[0] = archive.sh_size;
    while (archive.sh_size > 0) {
        const unsigned char *block = next_blocks(fd, &archive, BLOCK);
        char type = (char)block[TYPE_FIELD], digits[13] = {0}, *end;
        struct file file = {.fd = -1};

        if (block[0] == '\0')
            continue; /* the end, and what fills up the last record */
        memcpy(digits, block + SIZE_FIELD, sizeof digits - 1);
        uint64_t size = strtoull(digits, &end, 8);
        if (digits[0] < '0' || digits[0] > '7' || *end || (type != '0' && type != '2'))
            fail(DAMAGED, "a header");
        take_name(file.name, block);
        if (type == '2')
            take_name(file.target, block + TARGET_FIELD);
        else
            file.fd = create_memfd(file.name, EXECUTABLE);
        while (size > 0) {
            size_t part = size < CHUNK ? size : CHUNK;
            block = next_blocks(fd, &archive, (part + BLOCK - 1) / BLOCK * BLOCK);
            write_memfd(file.fd, block, part);
            size -= part;
        }
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
}

/* Write the path of the dynamic loader into the program: its PT_INTERP, which was made long enough for that. */
static void set_loader(int fd)
{
    char path[2 * LONGEST_PATH];
    size_t length = (size_t)snprintf(path, sizeof path, "%s/%s", base, loader.target) + 1;
    Elf64_Ehdr header = {0};
    Elf64_Phdr entry;

    read_at(fd, 0, &header, sizeof header);
    for (int i = 0; i < header.e_phnum && read_at(fd, header.e_phoff + i * sizeof entry, &entry, sizeof entry); i++) {
        if (entry.p_type == PT_INTERP && length < entry.p_filesz &&
            pwrite(fd, path, length, (off_t)entry.p_offset) == (ssize_t)length)
            return;
    }
    fail(DAMAGED, "its program");
}

/*
 * Put a file into the directory: as a link to its memfd or, where that cannot be reached or executed, as a copy. Then
 * see whether it can be executed: access(2) says no where the file system is mounted noexec, too.
 */
static bool place(const struct file *file, bool as_links)
{
    char link[64];
    off_t start = 0;

    if (file->target[0])
        return symlinkat(file->target, handover.directory_fd, file->name) == 0;
    if (!strcmp(file->name, program.target))
        set_loader(file->fd);
    if (as_links) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
        symlinkat(link, handover.directory_fd, file->name);
    } else {
        int fd = openat(handover.directory_fd, file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
        if (sendfile(fd, file->fd, &start, INT_MAX) < 0 || close(fd) < 0 || start != lseek(file->fd, 0, SEEK_END))
            return false;
    }
    return faccessat(handover.directory_fd, file->name, X_OK, 0) == 0;
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

int main(__attribute__((unused)) int argc, char **argv, char **environment)
{
    const char *parents[] = {start_getenv("TMPDIR"), "/tmp", "/dev/shm", "/run", "/var/tmp", "/."};
    enum { PARENTS = sizeof parents / sizeof *parents };
    char path[2 * LONGEST_PATH], library_path[2 * LONGEST_PATH], variable[64];
    uint64_t expected;
    int fd = above_stderr(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));

    if (fd < 0 && (fd = above_stderr(open((const char *)getauxval(AT_EXECFN), O_RDONLY | O_CLOEXEC))) < 0)
        fail("cannot read its own file: ", strerror(errno)); /* neither by /proc, nor by the name that was executed */
    /* These are the command's, and would be in the way of memfds: takeover.c gives them back. */
    handover.umask = umask(077);
    getrlimit(RLIMIT_FSIZE, &handover.file_size);
    getrlimit(RLIMIT_NOFILE, &handover.open_files);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){handover.file_size.rlim_max, handover.file_size.rlim_max});
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){handover.open_files.rlim_max, handover.open_files.rlim_max});
    prctl(PR_GET_NAME, handover.name);
    read_archive(fd, section(fd, ".staticx.archive"));
    if (!read_at(fd, section(fd, ".run.checksum").sh_offset, &expected, sizeof expected) ||
        expected != (lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3]))
        fail(DAMAGED, "wrong checksum");
    close(fd);
    for (int i = 0; !place_all(parents[i % PARENTS], i < PARENTS); i++) { /* as links in one of them, else as copies */
        if (i == 2 * PARENTS - 1)
            fail("no directory to write to: looked for one in $TMPDIR, /tmp, /dev/shm, /run, /var/tmp and /",
                 "; give it one, such as with --tmpfs /tmp, or use the static build, which needs none");
    }
    snprintf(variable, sizeof variable, HANDOVER_VARIABLE "=%d", hand_over(environment));
    snprintf(library_path, sizeof library_path, "LD_LIBRARY_PATH=%s", base);
    snprintf(path, sizeof path, "%s/%s", base, program.target);
    execve(path, argv, (char *[]){library_path, variable, NULL});
    fail("cannot execute the program of its archive: ", strerror(errno));
}
