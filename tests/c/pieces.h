/* Borrowed pieces, and a record of each release: once, with what the piece was appended
 * with, in the order of the stream. */
#ifndef SENDQ_TESTS_PIECES_H
#define SENDQ_TESTS_PIECES_H

#include "check.h"

/* A piece that is borrowed by a queue; its address is the argument of its release. Without data: a
 * file or a notification. */
typedef struct {
    const void* data;
    size_t len;
    int times;      /* released: 0 or 1 */
    int reason;     /* with this */
    unsigned place; /* its number among all releases, from 1 */
} piece;

static unsigned releases; /* in total */

static inline void piece_release(void* arg, const void* data, size_t len, int reason) {
    piece* p = arg;
    CHECK(data == p->data);
    CHECK_IS(len, p->len);
    CHECK_IS(p->times++, 0);
    p->reason = reason;
    p->place = ++releases;
}

/* Appends len borrowed bytes to q; p is new. Returns the result of sendq. */
static inline int piece_append(sendq_t* q, piece* p, const void* data, size_t len) {
    *p = (piece){.data = data, .len = len};
    return sendq_append_ref(q, data, len, piece_release, p);
}

static inline int piece_append_file(sendq_t* q, piece* p, int fd, uint64_t offset, size_t len) {
    *p = (piece){.len = len};
    return sendq_append_file(q, fd, offset, len, piece_release, p);
}

static inline int piece_notify(sendq_t* q, piece* p) {
    *p = (piece){0};
    return sendq_notify(q, piece_release, p);
}

/* The first `released` of `count` pieces were, with this reason and in order; the others not. */
static inline void pieces_check(const piece* pieces, size_t count, size_t released, int reason) {
    for (size_t i = 0; i < count; i++) {
        CHECK_IS(pieces[i].times, i < released);
        if (i < released) {
            CHECK_IS(pieces[i].reason, reason);
            CHECK(i == 0 || pieces[i].place > pieces[i - 1].place);
        }
    }
}

/* A queue that borrows what is as long as `copy_below`, or all with 1. */
static inline sendq_t* new_borrower(sendq_pool_t* pool, uint64_t copy_below) {
    sendq_config_t config = {.size = sizeof config, .copy_below = copy_below};
    return new_queue(pool, &config);
}

/* The same, which shares all parts of shared buffers. */
static inline sendq_t* new_sharer(sendq_pool_t* pool, uint64_t copy_below) {
    sendq_config_t config = {.size = sizeof config, .copy_below = copy_below, .share_below = 1};
    return new_queue(pool, &config);
}

/* One that the budget may refuse everything. */
static inline sendq_t* new_unreserved(sendq_pool_t* pool, uint64_t copy_below) {
    sendq_config_t config = {
        .size = sizeof config, .copy_below = copy_below, .share_below = 1, .reserve = 1};
    return new_queue(pool, &config);
}

#endif
