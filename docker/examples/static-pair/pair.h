/* What both programs need: to listen, to connect, and to read up to the end of a line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LEDGER 7000
#define WEB 8080

static struct sockaddr_in address(in_addr_t host, int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host)};
}

/* A socket that listens. */
static int listen_at(in_addr_t host, int port) {
    struct sockaddr_in place = address(host, port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, sizeof place) || listen(fd, 128)) err(1, "port %d", port);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return fd;
}

/* The next connection. Nobody keeps the others waiting for longer than a second. */
static int next(int fd) {
    struct timeval second = {.tv_sec = 1};
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (client >= 0) setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    return client;
}

/* Read up to the end of the text, and cut that off. Whether it has come. */
static int read_up_to(int fd, const char *end, char *text, size_t size) {
    size_t length = 0;
    ssize_t got;
    while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0) {
        text[length += got] = 0;
        char *found = strstr(text, end);
        if (found) return *found = 0, 1;
    }
    return 0;
}
