/* ledger FILE: each line that comes is written to the file. "ok" is the answer once it is on the disk. */
#include "pair.h"

int main(int argc, char **argv) {
    char line[256];
    int file = open(argc > 1 ? argv[1] : "", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) err(1, "%s", argc > 1 ? argv[1] : "a file is to be given");
    for (int fd = listen_at(INADDR_LOOPBACK, LEDGER);;) {
        int client = next(fd);
        if (client < 0) continue;
        if (read_up_to(client, "\n", line, sizeof line - 1)) {
            ssize_t length = strlen(strcat(line, "\n"));
            printf("order %s", line);
            if (write(file, line, length) != length || fdatasync(file)) err(1, "%s", argv[1]);
            dprintf(client, "ok\n");
        }
        close(client);
    }
}
