/* Hosts have empty values, with an address or without: an append of nothing succeeds, appends
 * nothing, and releases its owner at once. */
#include "simulated.h"

enum { WAYS = 9, MIN_WAY_WITH_OWNER = 6 };

static const char* const none = "";
static sendq_buf_t* buf; /* of a payload that has bytes */
static int file;

/* Appends nothing, in one of WAYS ways. From MIN_WAY_WITH_OWNER on, p is the owner. */
static int append_nothing(sendq_t* q, int way, piece* p) {
    struct iovec iov[2] = {{NULL, 0}, {(void*)(uintptr_t)none, 0}};
    *p = (piece){0};
    switch (way) {
        case 0:
            return sendq_append(q, NULL, 0);
        case 1:
            return sendq_append(q, none, 0);
        case 2:
            return sendq_appendv(q, iov, 2);
        case 3:
            return sendq_appendv(q, NULL, 0);
        case 4:
            return sendq_append_buf(q, buf, 0, 0);
        case 5:
            return sendq_append_ref(q, NULL, 0, NULL, NULL);
        case 6:
            return piece_append(q, p, NULL, 0);
        case 7:
            return piece_append(q, p, none, 0);
        default:
            return piece_append_file(q, p, file, 0, 0);
    }
}

static void reserved(void) {
    for (int waits = 0; waits < 2; waits++) {
        sendq_t* q = new_queue(NULL, NULL);
        void* memory = NULL;
        CHECK_IS(sendq_append(q, none, (size_t)waits), waits ? SENDQ_WAKE : 0);
        CHECK_IS(sendq_reserve(q, 0, &memory), 0);
        CHECK(memory != NULL);
        for (int way = 1; way < WAYS; way++) { /* until the commit, as behind any reservation */
            piece p;
            int result = append_nothing(q, way, &p);
            CHECK(result == 0 || result == -EBUSY);
            CHECK_IS(p.times, way >= MIN_WAY_WITH_OWNER && result == 0);
        }
        CHECK_IS(sendq_reserve(q, 0, &memory), -EBUSY);
        CHECK_IS(sendq_commit(q, 1), -EINVAL);
        CHECK_IS(sendq_commit(q, 0), 0);
        CHECK_IS(sendq_commit(q, 0), -EINVAL); /* once */
        CHECK_IS(sendq_queued_bytes(q), waits);
        CHECK_IS(sendq_discard(q), 0);
        CHECK_IS(figures(q).allocated, 0);
        check_usable(q);
        sendq_free(q);
    }
}

/* Payloads of nothing, and their owners. */
static void payloads(void) {
    sendq_t* q = new_queue(NULL, NULL);
    sendq_buf_t* empty = NULL;
    CHECK_IS(sendq_buf_copy(NULL, NULL, 0, &empty), 0);
    CHECK(empty != NULL);
    CHECK_IS(sendq_append_buf(q, empty, 0, 0), 0);
    CHECK_IS(sendq_append_buf(q, empty, 0, 1), -EINVAL);
    CHECK_IS(sendq_append_buf(q, empty, 1, 0), -EINVAL);
    sendq_buf_unref(empty);
    piece p = {0};
    CHECK_IS(sendq_buf_wrap(NULL, NULL, 0, piece_release, &p, &empty), 0);
    CHECK_IS(sendq_append_buf(q, empty, 0, 0), 0);
    sendq_buf_unref(empty); /* no queue holds it */
    CHECK_IS(p.times, 1);
    CHECK_IS(p.reason, 0);
    CHECK_IS(sendq_queued_bytes(q), 0);
    CHECK_IS(sendq_append_buf(q, buf, 10, 0), 0); /* at the end of one that has bytes */
    CHECK_IS(sendq_append_buf(q, buf, 11, 0), -EINVAL);
    CHECK_IS(sendq_append_buf(q, NULL, 0, 0), -EINVAL);
    sendq_free(q);
}

/* A cap that is reached, a budget that is spent: nothing more is nothing too much. */
static void without_room(void) {
    static unsigned char bytes[10];
    sendq_config_t config = {.size = sizeof config, .max = sizeof bytes};
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.max_bytes = 4096, .keep_bytes = 1});
    sendq_t* q = new_queue(pool, &config);
    sendq_t* other = new_queue(pool, NULL);
    CHECK_IS(sendq_append(q, bytes, sizeof bytes) & SENDQ_WAKE, SENDQ_WAKE);
    for (int way = 0; way < WAYS; way++) {
        piece p;
        CHECK(append_nothing(q, way, &p) >= 0);
        CHECK_IS(p.times, way >= MIN_WAY_WITH_OWNER);
        CHECK(append_nothing(other, way, &p) >= 0);
        CHECK_IS(p.times, way >= MIN_WAY_WITH_OWNER);
    }
    sendq_free(q);
    sendq_free(other);
    sendq_pool_free(pool);
}

int main(void) {
    FILE* stream = file_of("file", 4);
    file = fileno(stream);
    CHECK_IS(sendq_buf_copy(NULL, "0123456789", 10, &buf), 0);
    reserved();
    payloads();
    without_room();
    sendq_buf_unref(buf);
    CHECK_IS(fclose(stream), 0);
    return 0;
}
