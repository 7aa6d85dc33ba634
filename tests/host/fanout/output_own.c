/* The output of the clients as such a broker has it of its own: a list of chunks for each client,
 * which either have bytes of their own or refer to a payload that clients share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "output.h"

enum {
    /* Payloads shorter than this are copied, which costs less than a chunk and an iovec of their
       own. */
    COPY_BELOW = 1024,
    MIN_CHUNK = 256,
    MAX_CHUNK = 16 << 10,
    MAX_IOVECS = 128,
};

TAILQ_HEAD(output_list, output);

struct outputs {
    struct limits limits;
    struct output_list ready;
};

struct payload {
    size_t references;
    size_t len;
    char data[];
};

/* Bytes of its own, and then perhaps a payload, behind which nothing is appended. */
struct chunk {
    struct chunk* next;
    struct payload* payload;
    size_t sent; /* of both */
    size_t len;  /* of the bytes of its own */
    size_t capacity;
    char data[];
};

struct output {
    struct client* client;
    struct outputs* outputs;
    struct chunk *first, *last; /* last only if there is a first */
    size_t queued;
    uint64_t progress_at; /* when bytes were sent last, while it is blocked */
    TAILQ_ENTRY(output) in_ready;
    bool is_ready;
    bool is_blocked;
    bool is_high;
};

struct outputs* outputs_new(const struct limits* limits) {
    struct outputs* outputs = malloc(sizeof *outputs);
    if (outputs != NULL) {
        outputs->limits = *limits;
        TAILQ_INIT(&outputs->ready);
    }
    return outputs;
}

void outputs_free(struct outputs* outputs) {
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
    return output->client;
}

struct output* output_new(struct outputs* outputs, struct client* client) {
    struct output* output = calloc(1, sizeof *output);
    if (output != NULL) {
        output->client = client;
        output->outputs = outputs;
    }
    return output;
}

static void remove_first_chunk(struct output* output) {
    struct chunk* chunk = output->first;
    output->first = chunk->next;
    if (chunk->payload != NULL) {
        payload_unref(chunk->payload);
    }
    free(chunk);
}

void output_free(struct output* output) {
    set_ready(output, false);
    while (output->first != NULL) {
        remove_first_chunk(output);
    }
    free(output);
}

struct payload* payload_new(struct outputs* outputs, const char* data, size_t len) {
    (void)outputs;
    struct payload* payload = malloc(sizeof *payload + len);
    if (payload != NULL) {
        payload->references = 1;
        payload->len = len;
        memcpy(payload->data, data, len);
    }
    return payload;
}

void payload_unref(struct payload* payload) {
    if (--payload->references == 0) {
        free(payload);
    }
}

static size_t chunk_size(const struct chunk* chunk) {
    return chunk->len + (chunk->payload != NULL ? chunk->payload->len : 0);
}

/* The last chunk if it has room for len bytes, or a new one. NULL: out of memory. */
static struct chunk* room_for(struct output* output, size_t len, size_t new_capacity) {
    struct chunk* chunk = output->last;
    if (output->first != NULL && chunk->payload == NULL && len <= chunk->capacity - chunk->len) {
        return chunk;
    }
    chunk = malloc(sizeof *chunk + new_capacity);
    if (chunk != NULL) {
        *chunk = (struct chunk){.capacity = new_capacity};
        *(output->first == NULL ? &output->first : &output->last->next) = chunk;
        output->last = chunk;
    }
    return chunk;
}

/* Chunks grow with what is queued, so that little of them is empty. */
static size_t next_capacity(const struct output* output, size_t len) {
    size_t capacity = output->queued < MIN_CHUNK ? MIN_CHUNK : output->queued;
    capacity = (capacity < MAX_CHUNK ? capacity : MAX_CHUNK) - sizeof(struct chunk);
    return capacity < len ? len : capacity;
}

static void copy(struct output* output, struct chunk* chunk, const char* data, size_t len) {
    memcpy(chunk->data + chunk->len, data, len);
    chunk->len += len;
    output->queued += len;
}

static bool has_room(const struct output* output, size_t len) {
    return len <= output->outputs->limits.max - output->queued;
}

/* After an append. */
static void update(struct output* output) {
    if (output->queued >= output->outputs->limits.high) {
        output->is_high = true;
    }
    if (!output->is_blocked) {
        set_ready(output, true);
    }
}

int output_append(struct output* output, const char* data, size_t len) {
    if (!has_room(output, len)) {
        return -ENOBUFS;
    }
    struct chunk* chunk = room_for(output, len, next_capacity(output, len));
    if (chunk == NULL) {
        return -ENOMEM;
    }
    copy(output, chunk, data, len);
    update(output);
    return 0;
}

int output_append_message(struct output* output, const char* header, size_t len,
                          struct payload* payload) {
    const size_t all = len + payload->len;
    const bool is_copied = payload->len < COPY_BELOW;
    if (!has_room(output, all)) {
        return -ENOBUFS;
    }
    struct chunk* chunk =
        is_copied ? room_for(output, all, next_capacity(output, all)) : room_for(output, len, len);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    copy(output, chunk, header, len);
    if (is_copied) {
        copy(output, chunk, payload->data, payload->len);
    } else {
        payload->references++;
        chunk->payload = payload;
        output->queued += payload->len;
    }
    update(output);
    return 0;
}

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static struct iovec rest_of(char* data, size_t len, size_t sent) {
    return (struct iovec){.iov_base = data + sent, .iov_len = len - sent};
}

/* Returns the number of iovecs, of which a chunk takes up to two. */
static size_t gather(struct output* output, struct iovec* iovecs, size_t* bytes) {
    size_t count = 0;
    *bytes = 0;
    for (struct chunk* chunk = output->first; chunk != NULL && count < MAX_IOVECS - 1;
         chunk = chunk->next) {
        const bool in_payload = chunk->sent >= chunk->len;
        if (!in_payload) {
            iovecs[count++] = rest_of(chunk->data, chunk->len, chunk->sent);
        }
        struct payload* payload = chunk->payload;
        if (payload != NULL) {
            const size_t sent = in_payload ? chunk->sent - chunk->len : 0;
            iovecs[count++] = rest_of(payload->data, payload->len, sent);
        }
        *bytes += chunk_size(chunk) - chunk->sent;
    }
    return count;
}

static void consume(struct output* output, size_t bytes) {
    output->queued -= bytes;
    while (bytes > 0) {
        struct chunk* chunk = output->first;
        const size_t left = chunk_size(chunk) - chunk->sent;
        if (bytes < left) {
            chunk->sent += bytes;
            break;
        }
        bytes -= left;
        remove_first_chunk(output);
    }
    if (output->queued <= output->outputs->limits.high / 2) {
        output->is_high = false;
    }
}

static bool is_full(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM;
}

int output_flush(struct output* output, int fd) {
    bool was_blocked = output->is_blocked;
    output->is_blocked = false;
    while (output->queued > 0 && !output->is_blocked) {
        struct iovec iovecs[MAX_IOVECS];
        size_t bytes;
        struct msghdr message = {.msg_iov = iovecs};
        message.msg_iovlen = gather(output, iovecs, &bytes);
        const ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            consume(output, (size_t)sent);
            /* What has taken a part is full, and need not be asked. */
            output->is_blocked = (size_t)sent < bytes;
            was_blocked = false;
        } else if (is_full(errno)) {
            output->is_blocked = true;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    if (output->is_blocked && !was_blocked) {
        output->progress_at = now_ns();
    }
    return output->is_blocked ? OUTPUT_BLOCKED : OUTPUT_SENT;
}

size_t output_queued(const struct output* output) {
    return output->queued;
}

bool output_is_high(const struct output* output) {
    return output->is_high;
}

uint64_t output_stalled_ns(const struct output* output) {
    return output->is_blocked ? now_ns() - output->progress_at : 0;
}
