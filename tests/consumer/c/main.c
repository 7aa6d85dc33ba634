#include <sendq/sendq.h>
#include <string.h>
#include <sys/socket.h>

int main(void) {
    static const char hello[] = "hello";
    char received[sizeof hello];
    int fds[2];
    sendq_t* q;
    if (sendq_version() != SENDQ_VERSION || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0 ||
        sendq_new(NULL, NULL, &q) != 0) {
        return 1;
    }
    if (sendq_append(q, hello, sizeof hello) != SENDQ_WAKE || sendq_flush(q, fds[0], 0) != 0 ||
        recv(fds[1], received, sizeof received, MSG_WAITALL) != sizeof hello) {
        return 2;
    }
    sendq_free(q);
    return memcmp(received, hello, sizeof hello) == 0 ? 0 : 3;
}
