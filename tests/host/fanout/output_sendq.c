/* The output of the clients with sendq: a queue for each, and one pool. */
#include <errno.h>
#include <sendq/sendq.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "output.h"

/* Payloads shorter than this are copied, which costs less than a reference and an iovec. */
enum { SHARE_BELOW = 1024 };

TAILQ_HEAD(output_list, output);

struct outputs {
    sendq_pool_t* pool;
    struct limits limits;
    struct output_list ready;
};

struct output {
    sendq_t* queue;
    struct outputs* outputs;
    TAILQ_ENTRY(output) in_ready;
    bool is_ready;
    bool is_blocked;
};

struct payload {
    sendq_buf_t* buffer;
    size_t len;
};

struct outputs* outputs_new(const struct limits* limits) {
    struct outputs* outputs = malloc(sizeof *outputs);
    if (outputs == NULL) {
        return NULL;
    }
    outputs->limits = *limits;
    TAILQ_INIT(&outputs->ready);
    const sendq_pool_config_t config = {
        .size = sizeof config,
        .flags = SENDQ_SOCKETS_NONBLOCKING | SENDQ_SIGPIPE_IGNORED,
    };
    if (SENDQ_FAILED(sendq_pool_new(&config, &outputs->pool))) {
        free(outputs);
        return NULL;
    }
    return outputs;
}

void outputs_free(struct outputs* outputs) {
    sendq_pool_free(outputs->pool);
    free(outputs);
}

static void set_ready(struct output* output, bool is_ready) {
    if (output->is_ready != is_ready) {
        output->is_ready = is_ready;
        if (is_ready) {
            TAILQ_INSERT_TAIL(&output->outputs->ready, output, in_ready);
        } else {
            TAILQ_REMOVE(&output->outputs->ready, output, in_ready);
        }
    }
}

struct client* outputs_next(struct outputs* outputs) {
    struct output* output = TAILQ_FIRST(&outputs->ready);
    if (output == NULL) {
        return NULL;
    }
    set_ready(output, false);
    return sendq_user(output->queue);
}

struct output* output_new(struct outputs* outputs, struct client* client) {
    struct output* output = calloc(1, sizeof *output);
    if (output == NULL) {
        return NULL;
    }
    output->outputs = outputs;
    const sendq_config_t config = {
        .size = sizeof config,
        .user = client,
        .high = outputs->limits.high,
        .max = outputs->limits.max,
        .share_below = SHARE_BELOW,
    };
    if (SENDQ_FAILED(sendq_new(outputs->pool, &config, &output->queue))) {
        free(output);
        return NULL;
    }
    return output;
}

void output_free(struct output* output) {
    set_ready(output, false);
    sendq_free(output->queue);
    free(output);
}

struct payload* payload_new(struct outputs* outputs, const char* data, size_t len) {
    struct payload* payload = malloc(sizeof *payload);
    if (payload == NULL) {
        return NULL;
    }
    payload->len = len;
    if (SENDQ_FAILED(sendq_buf_copy(outputs->pool, data, len, &payload->buffer))) {
        free(payload);
        return NULL;
    }
    return payload;
}

void payload_unref(struct payload* payload) {
    sendq_buf_unref(payload->buffer);
    free(payload);
}

/* After an append that returned this. */
static int appended(struct output* output, int result) {
    if (SENDQ_FAILED(result)) {
        return result;
    }
    if (!output->is_blocked) {
        set_ready(output, true);
    }
    return 0;
}

int output_append(struct output* output, const char* data, size_t len) {
    return appended(output, sendq_append(output->queue, data, len));
}

int output_append_message(struct output* output, const char* header, size_t len,
                          struct payload* payload) {
    const sendq_part_t parts[] = {
        sendq_part_copy(header, len),
        sendq_part_buf(payload->buffer, 0, payload->len),
    };
    return appended(output, sendq_append_message(output->queue, parts, 2, NULL, NULL));
}

int output_flush(struct output* output, int fd) {
    const int result = sendq_flush(output->queue, fd, 0);
    if (SENDQ_FAILED(result)) {
        return result;
    }
    output->is_blocked = result & SENDQ_BLOCKED;
    return output->is_blocked ? OUTPUT_BLOCKED : OUTPUT_SENT;
}

size_t output_queued(const struct output* output) {
    return sendq_queued_bytes(output->queue);
}

bool output_is_high(const struct output* output) {
    return sendq_state(output->queue) & SENDQ_HIGH;
}

uint64_t output_stalled_ns(const struct output* output) {
    return sendq_stalled_ns(output->queue);
}
