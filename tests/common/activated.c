/* A static program that takes its listening socket as systemd would pass it: Go's are like that. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *of(const char *name) {
    const char *value = getenv(name);
    return value ? value : "0";
}

int main(void) {
    if (atoi(of("LISTEN_PID")) != getpid() || atoi(of("LISTEN_FDS")) != 1)
        return 2;
    for (;;) {
        char request[4096], answer[512];
        int client = accept(3, NULL, NULL);
        if (client < 0)
            continue;
        if (read(client, request, sizeof request) > 0) {
            int length = snprintf(answer, sizeof answer,
                "HTTP/1.1 200 OK\r\nX-Worker: slot=%s id=%s pid=%d gen=%s\r\nContent-Length: 6\r\n\r\nhello\n",
                of("RR_SLOT"), of("RR_WORKER_ID"), (int)getpid(), of("RR_GENERATION"));
            if (write(client, answer, length) != length)
                return 1;
        }
        close(client);
    }
}
