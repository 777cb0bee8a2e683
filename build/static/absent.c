/*
 * Functions of the C library that Python's modules refer to, and this program never calls. Here is the answer if it did: each
 * of them fails, which Python tells by an exception. So half a megabyte of code and tables has no place in the file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <math.h>
#include <netdb.h>
#include <stddef.h>
#include <unistd.h>

/*
 * The C library, linked statically, loads shared libraries for these: hosts and groups by name (nsswitch.conf(5)), and
 * modules. There are none beside this program.
 */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)node, (void)service, (void)hints, (void)found;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

int getnameinfo(const struct sockaddr *address, socklen_t length, char *host, socklen_t host_size, char *service,
                socklen_t service_size, int flags)
{
    (void)address, (void)length, (void)host, (void)host_size, (void)service, (void)service_size, (void)flags;
    return EAI_FAIL;
}

int gethostbyname_r(const char *name, struct hostent *host, char *buffer, size_t size, struct hostent **found, int *error)
{
    (void)name, (void)host, (void)buffer, (void)size;
    *found = NULL;
    *error = NO_RECOVERY;
    return ENOSYS;
}

int gethostbyaddr_r(const void *address, socklen_t length, int type, struct hostent *host, char *buffer, size_t size,
                    struct hostent **found, int *error)
{
    (void)length, (void)type;
    return gethostbyname_r(address, host, buffer, size, found, error);
}

struct servent *getservbyname(const char *name, const char *protocol)
{
    (void)name, (void)protocol;
    return NULL;
}

struct servent *getservbyport(int port, const char *protocol)
{
    (void)port, (void)protocol;
    return NULL;
}

struct protoent *getprotobyname(const char *name)
{
    (void)name;
    return NULL;
}

static int not_there(void)
{
    errno = ENOSYS;
    return -1;
}

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count)
{
    (void)user, (void)group, (void)groups, (void)count;
    return not_there();
}

int initgroups(const char *user, gid_t group)
{
    (void)user, (void)group;
    return not_there();
}

char *getlogin(void)
{
    not_there();
    return NULL;
}

void *dlopen(const char *file, int mode)
{
    (void)file, (void)mode;
    return NULL;
}

void *dlsym(void *restrict library, const char *restrict name)
{
    (void)library, (void)name;
    return NULL;
}

char *dlerror(void)
{
    return "no shared library can be loaded";
}

/* Trigonometry and its kin: not a number is what Python calls a domain error. */

#define ABSENT(function)      \
    double function(double x) \
    {                         \
        (void)x;              \
        return NAN;           \
    }

ABSENT(acos) ABSENT(acosh) ABSENT(asin) ABSENT(asinh) ABSENT(atan) ABSENT(atanh) ABSENT(cbrt) ABSENT(cos) ABSENT(cosh)
ABSENT(erf) ABSENT(erfc) ABSENT(expm1) ABSENT(log1p) ABSENT(sin) ABSENT(sinh) ABSENT(tan) ABSENT(tanh)

double atan2(double y, double x)
{
    (void)y, (void)x;
    return NAN;
}

void sincos(double x, double *sine, double *cosine)
{
    (void)x;
    *sine = *cosine = NAN;
}
