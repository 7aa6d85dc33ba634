/* sendq_state and sendq_retry_after_ns: what holds now, and when a flush does something, in each
 * state that a queue can be in; and who asks the host's clock. */
#include "simulated.h"

static unsigned char bytes[1 << 20];

static int64_t answer; /* of the writer; 0: it takes all */

static int64_t take(void* arg, const void* data, size_t len) {
    (void)arg, (void)data;
    return answer != 0 ? answer : (int64_t)len;
}

static int flush(sendq_t* q, int64_t says) {
    answer = says;
    return sendq_flush_with(q, take, NULL, 0);
}

static void check_state(const sendq_t* q, int state, uint64_t retry_after) {
    CHECK_IS(sendq_state(q), state);
    CHECK_IS(sendq_retry_after_ns(q), retry_after);
}

/* From empty to the end, state by state. */
static void states(void) {
    sendq_t* q = new_simulated_queue();
    CHECK(sendq_set_watermarks(q, 10, 100, 0) >= 0);
    check_state(NULL, -EINVAL, SENDQ_NEVER);
    check_state(q, 0, SENDQ_NEVER);
    CHECK(sendq_append(q, bytes, 99) >= 0);
    check_state(q, SENDQ_MORE, 0);
    CHECK(sendq_append(q, bytes, 1) >= 0);
    check_state(q, SENDQ_MORE | SENDQ_HIGH, 0);
    CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
    check_state(q, SENDQ_BLOCKED | SENDQ_HIGH, SENDQ_NEVER);
    CHECK_IS(flush(q, SENDQ_WRITE_WANT_READ), SENDQ_WANT_READ);
    check_state(q, SENDQ_WANT_READ | SENDQ_HIGH, SENDQ_NEVER);
    CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
    check_state(q, SENDQ_BLOCKED | SENDQ_HIGH, SENDQ_NEVER);
    CHECK_IS(sendq_consume(q, 1), 0); /* it takes bytes: it is not full */
    check_state(q, SENDQ_MORE | SENDQ_HIGH, 0);
    CHECK_IS(sendq_consume(q, 89), SENDQ_RESUME);
    check_state(q, SENDQ_MORE, 0);
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 10), 0);
    check_state(q, SENDQ_MORE | SENDQ_CORKED, 0);
    CHECK_IS(flush(q, 0), 0);
    check_state(q, SENDQ_CORKED, SENDQ_NEVER); /* what is held back cannot leave */
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    check_state(q, SENDQ_MORE, 0);
    CHECK_IS(sendq_close(q), 0);
    check_state(q, SENDQ_MORE | SENDQ_CLOSED, 0);
    CHECK_IS(flush(q, 0), 0);
    check_state(q, SENDQ_CLOSED, SENDQ_NEVER);
    sendq_free(q);

    q = new_simulated_queue();
    CHECK(sendq_append(q, bytes, 99) >= 0);
    CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
    int failed = flush(q, -EPROTO);
    CHECK(SENDQ_FAILED(failed));
    CHECK_IS(failed, -EPROTO);
    check_state(q, SENDQ_CLOSED, SENDQ_NEVER);
    sendq_free(q);
    CHECK(!SENDQ_FAILED(0) && !SENDQ_FAILED(SENDQ_BLOCKED));
}

/* Dropped, rolled back, moved away: a queue that is empty has nothing to say. */
static void emptied(void) {
    for (int way = 0; way < 3; way++) {
        sendq_t* q = new_simulated_queue();
        sendq_t* to = new_simulated_queue();
        CHECK(sendq_set_watermarks(q, 10, 100, 0) >= 0);
        if (way == 1) {
            CHECK_IS(sendq_cork(q), 0);
        }
        CHECK(sendq_append(q, bytes, 100) & SENDQ_HIGH);
        if (way != 1) {
            CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
        }
        switch (way) {
            case 0:
                CHECK_IS(sendq_discard(q), SENDQ_RESUME);
                break;
            case 1:
                CHECK_IS(sendq_rollback(q), SENDQ_RESUME);
                break;
            default:
                CHECK_IS(sendq_splice(to, q), SENDQ_WAKE);
        }
        check_state(q, 0, SENDQ_NEVER);
        CHECK(sendq_append(q, bytes, 1) >= 0);
        check_state(q, SENDQ_MORE, 0);
        sendq_free(q);
        sendq_free(to);
    }
}

/* What a rate holds back is no MORE before its time. */
static void held_back_by_a_rate(void) {
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_set_rate(q, 1000, 100), 0);
    CHECK(sendq_append(q, bytes, 200) >= 0);
    check_state(q, SENDQ_MORE, 0);
    CHECK_IS(flush(q, 0), SENDQ_MORE);
    CHECK_IS(sendq_queued_bytes(q), 100);
    uint64_t wait = sendq_retry_after_ns(q);
    CHECK(wait > 0 && wait < SECOND);
    check_state(q, 0, wait);
    now_ns += wait;
    check_state(q, SENDQ_MORE, 0);
    CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
    check_state(q, SENDQ_BLOCKED, SENDQ_NEVER);
    CHECK_IS(sendq_close_within(q, SECOND), 0);
    check_state(q, SENDQ_BLOCKED | SENDQ_CLOSED, SECOND);
    now_ns += SECOND;
    CHECK_IS(sendq_retry_after_ns(q), 0);
    sendq_free(q);
}

/* A writer that was interrupted wants to be called again: whatever the flush before has said. */
static void interrupted(void) {
    static const int64_t refusals[] = {-EAGAIN, SENDQ_WRITE_WANT_READ};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        sendq_t* q = new_simulated_queue();
        CHECK(sendq_append(q, bytes, 100) >= 0);
        CHECK_IS(flush(q, -EINTR), SENDQ_MORE);
        check_state(q, SENDQ_MORE, 0);
        CHECK(flush(q, refusals[i]) & (SENDQ_BLOCKED | SENDQ_WANT_READ));
        CHECK_IS(flush(q, -EINTR), SENDQ_MORE);
        check_state(q, SENDQ_MORE, 0);
        sendq_free(q);
    }
}

static uint64_t asked; /* how often the clock was */

static uint64_t count_asked(void* arg) {
    (void)arg;
    asked++;
    return now_ns;
}

/* Appends, and the numbers that are known, ask no clock. */
static void unasked(uint32_t flags) {
    sendq_pool_t* pool = new_pool((sendq_pool_config_t){.flags = flags, .now = count_asked});
    sendq_config_t config = {.size = sizeof config, .flags = flags, .copy_below = 100};
    sendq_t* q = new_queue(pool, &config);
    FILE* stream = file_of(bytes, 1000);
    struct iovec iov[2] = {{bytes, 10}, {bytes, 20}};
    sendq_buf_t* buf = NULL;
    void* memory = NULL;
    piece pieces[4];
    CHECK_IS(sendq_buf_copy(pool, bytes, 1000, &buf), 0);
    asked = 0;
    for (int round = 0; round < 3; round++) {
        CHECK_IS(sendq_append(q, bytes, 10), round == 0 ? SENDQ_WAKE : 0);
        CHECK_IS(sendq_append(q, bytes, 10000), 0);
        CHECK_IS(sendq_appendv(q, iov, 2), 0);
        CHECK_IS(sendq_append_buf(q, buf, 0, 1000), 0);
        CHECK_IS(piece_append(q, &pieces[0], bytes, 10), 0);
        CHECK_IS(piece_append(q, &pieces[1], bytes, 1000), 0);
        CHECK_IS(piece_append_file(q, &pieces[2], fileno(stream), 0, 1000), 0);
        CHECK_IS(piece_notify(q, &pieces[3]), 0);
        CHECK_IS(sendq_reserve(q, 100, &memory), 0);
        memset(memory, 0, 100);
        CHECK_IS(sendq_commit(q, 100), 0);
        CHECK(sendq_queued_bytes(q) > 0 && sendq_queued_memory(q) > 0);
        CHECK_IS(sendq_sent_bytes(q) + (uint64_t)-sendq_error(q), 0);
        if (round < 2) { /* what lies on the stack here is released at the end */
            CHECK_IS(asked, 0);
            CHECK_IS(sendq_discard(q), 0);
            CHECK_IS(sendq_append(q, bytes, 1), SENDQ_WAKE);
            asked = 0;
        }
    }
    CHECK_IS(asked, 0);
    CHECK_IS(sendq_stalled_ns(q), 0);
    CHECK(asked > 0);
    sendq_free(q);
    sendq_buf_unref(buf);
    sendq_pool_free(pool);
    CHECK_IS(fclose(stream), 0);
}

/* The stall clock of bytes that have just come starts at the first look, whichever that is ... */
static void starts_at_the_first_look(void) {
    for (int by_stats = 0; by_stats < 2; by_stats++) {
        now_ns = 5ULL * SECOND;
        sendq_t* q = new_simulated_queue();
        CHECK_IS(figures(q).last_progress_ns, 0); /* nothing waits */
        CHECK(sendq_append(q, bytes, 100) >= 0);
        now_ns += 7ULL * SECOND;
        CHECK(sendq_append(q, bytes, 100) >= 0);
        CHECK_IS(by_stats ? figures(q).stalled_ns : sendq_stalled_ns(q), 0);
        now_ns += SECOND;
        CHECK_IS(figures(q).last_progress_ns, 12ULL * SECOND);
        CHECK_IS(sendq_stalled_ns(q), SECOND);
        sendq_free(q);
    }
}

/* ... or at the first flush that leaves some. */
static void starts_at_the_first_flush(void) {
    for (int takes = 0; takes < 2; takes++) {
        now_ns = 5ULL * SECOND;
        sendq_t* q = new_simulated_queue();
        CHECK(sendq_append(q, bytes, 100) >= 0);
        now_ns += 7ULL * SECOND;
        if (takes) {
            answer = 0;
            CHECK_IS(sendq_flush_with(q, take, NULL, 1), SENDQ_MORE);
        } else {
            CHECK_IS(flush(q, -EAGAIN), SENDQ_BLOCKED);
        }
        now_ns += 2ULL * SECOND;
        CHECK_IS(sendq_stalled_ns(q), 2ULL * SECOND);
        CHECK_IS(figures(q).last_progress_ns, 12ULL * SECOND);
        CHECK_IS(flush(q, 0), 0);
        CHECK(sendq_append(q, bytes, 100) >= 0); /* others: they start anew */
        now_ns += 3ULL * SECOND;
        CHECK_IS(sendq_stalled_ns(q), 0);
        sendq_free(q);
    }
}

/* What is corked is not seen by a look. */
static void corked_bytes_do_not_stall(void) {
    now_ns = 5ULL * SECOND;
    sendq_t* q = new_simulated_queue();
    CHECK_IS(sendq_cork(q), 0);
    CHECK_IS(sendq_append(q, bytes, 100), 0);
    now_ns += SECOND;
    CHECK_IS(figures(q).last_progress_ns, 0);
    CHECK_IS(sendq_stalled_ns(q), 0);
    CHECK_IS(sendq_uncork(q), SENDQ_WAKE);
    now_ns += SECOND;
    CHECK_IS(sendq_stalled_ns(q), 0);
    now_ns += SECOND;
    CHECK_IS(sendq_stalled_ns(q), SECOND);
    sendq_free(q);
}

int main(void) {
    states();
    emptied();
    held_back_by_a_rate();
    unasked(0);
    unasked(SENDQ_THREADSAFE);
    starts_at_the_first_look();
    starts_at_the_first_flush();
    corked_bytes_do_not_stall();
    interrupted();
    return 0;
}
