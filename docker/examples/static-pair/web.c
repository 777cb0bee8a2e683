/* A web server: POST /orders/NAME goes to the ledger, and is answered with 201 once it is in there. GET / says that it is well. */
#include "pair.h"

/* Whether the ledger has written it down. */
static int is_written(const char *name) {
    char answer[16];
    struct sockaddr_in place = address(INADDR_LOOPBACK, LEDGER);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int is_there = fd >= 0 && !connect(fd, (struct sockaddr *)&place, sizeof place) && dprintf(fd, "%s\n", name) > 0 &&
                   read_up_to(fd, "\n", answer, sizeof answer) && !strcmp(answer, "ok");
    close(fd);
    return is_there;
}

int main(void) {
    char request[4096], name[200];
    for (int fd = listen_at(INADDR_ANY, WEB);;) {
        int client = next(fd);
        if (client < 0) continue;
        if (read_up_to(client, "\r\n\r\n", request, sizeof request)) {
            const char *status = "404 Not Found";
            if (sscanf(request, "POST /orders/%199[0-9A-Za-z-] ", name) == 1) {
                printf("order %s\n", name);
                status = is_written(name) ? "201 Created" : "503 Service Unavailable";
            } else if (!strncmp(request, "GET / ", 6)) {
                status = "200 OK";
            }
            dprintf(client, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
        }
        close(client);
    }
}
