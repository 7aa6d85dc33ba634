#include <sendq/sendq.h>
#include <string.h>

static char received[6];

static int64_t receive(void* arg, const void* data, size_t len) {
    (void)arg;
    memcpy(received, data, len < sizeof received ? len : sizeof received);
    return (int64_t)len;
}

int main(void) {
    static const char hello[] = "hello";
    sendq_t* q;
    if (sendq_version() != SENDQ_VERSION || sendq_new(NULL, NULL, &q) != 0) {
        return 1;
    }
    if (sendq_append(q, hello, sizeof hello) != SENDQ_WAKE ||
        sendq_flush_with(q, receive, NULL, 0) != 0) {
        return 2;
    }
    sendq_free(q);
    return memcmp(received, hello, sizeof hello) == 0 ? 0 : 3;
}
