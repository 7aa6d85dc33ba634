/* What a host gets that sets nothing. */
#include "pieces.h"

static unsigned char bytes[1 << 20];

/* What is short is copied, and its owner released at once. */
static void borrows(void) {
    piece p;
    sendq_t* q = new_queue(NULL, NULL);
    CHECK_IS(piece_append(q, &p, bytes, 1), SENDQ_WAKE);
    CHECK_IS(p.times, 1);
    CHECK_IS(piece_append(q, &p, bytes + 1, 64 << 10), 0);
    CHECK_IS(p.times, 0);
    check_delivers(q, 0);
    CHECK_IS(p.times, 1);
    sendq_free(q);
    q = new_borrower(NULL, UINT64_MAX); /* nothing is long enough */
    CHECK_IS(piece_append(q, &p, bytes, sizeof bytes), SENDQ_WAKE | SENDQ_HIGH);
    CHECK_IS(p.times, 1);
    sendq_free(q);
}

/* 1 MiB of memory, and a half of it, whatever files are queued. */
static void watermarks(void) {
    FILE* file = file_of(bytes, 3);
    sendq_t* q = new_queue(NULL, NULL);
    for (uint64_t in_file = 0; in_file <= 3; in_file += 3) {
        CHECK_IS(sendq_append(q, bytes, (1 << 20) - 1), SENDQ_WAKE);
        CHECK_IS(sendq_append_file(q, fileno(file), 0, in_file, NULL, NULL), 0);
        CHECK_IS(sendq_append(q, bytes, 1), SENDQ_HIGH);
        CHECK_IS(sendq_consume(q, (1 << 19) - 1), 0);
        CHECK_IS(sendq_consume(q, 1), SENDQ_RESUME);
        CHECK_IS(sendq_discard(q), 0);
        CHECK_IS(sendq_set_watermarks(q, 0, 0, 0), 0);
    }
    sendq_free(q);
    CHECK_IS(fclose(file), 0);
}

int main(void) {
    stream_fill(bytes, 0, sizeof bytes);
    borrows();
    watermarks();
    return 0;
}
