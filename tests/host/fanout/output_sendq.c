/* The output of the clients with sendq: a queue for each, and one pool. */
#include <sendq/sendq.h>
#include <stdlib.h>

#include "output.h"

struct outputs {
    sendq_pool_t* pool;
    struct limits limits;
};

struct output {
    sendq_t* queue;
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

struct client* outputs_next(struct outputs* outputs) {
    return sendq_user(sendq_pool_next(outputs->pool));
}

struct output* output_new(struct outputs* outputs, struct client* client) {
    struct output* output = calloc(1, sizeof *output);
    if (output == NULL) {
        return NULL;
    }
    const sendq_config_t config = {
        .size = sizeof config,
        .user = client,
        .high = outputs->limits.high,
        .max = outputs->limits.max,
    };
    if (SENDQ_FAILED(sendq_new(outputs->pool, &config, &output->queue))) {
        free(output);
        return NULL;
    }
    return output;
}

void output_free(struct output* output) {
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

/* Hints are positive, and sendq itself knows what is ready and what is high. */
static int without_hints(int result) {
    return SENDQ_FAILED(result) ? result : 0;
}

int output_append(struct output* output, const char* data, size_t len) {
    return without_hints(sendq_append(output->queue, data, len));
}

int output_append_message(struct output* output, const char* header, size_t len,
                          struct payload* payload) {
    const sendq_part_t parts[] = {
        sendq_part_copy(header, len),
        sendq_part_buf(payload->buffer, 0, payload->len),
    };
    return without_hints(sendq_append_message(output->queue, parts, 2, NULL, NULL));
}

int output_flush(struct output* output, int fd) {
    const int result = sendq_flush(output->queue, fd, 0);
    if (SENDQ_FAILED(result)) {
        return result;
    }
    return result & SENDQ_BLOCKED ? OUTPUT_BLOCKED : OUTPUT_SENT;
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
