/* The output of the clients: what is queued for each of them, and how it is sent. There are two
 * implementations, and a program is linked with one of them: output_own.c is what such a broker
 * writes for itself, output_sendq.c uses sendq.
 *
 * A function that returns int returns a negative errno if it fails. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

struct limits {
    size_t high; /* a client with so many bytes queued is not read from */
    size_t max;  /* a client never has more bytes queued */
};

/* What the outputs of all clients share. */
struct outputs;
/* The output of one client. */
struct output;
/* The end of a message, which is the same for all clients that get it. */
struct payload;

struct outputs* outputs_new(const struct limits* limits);
void outputs_free(struct outputs* outputs);

/* The next client that has something to flush and is not known to be blocked. NULL: no other has.
 */
struct client* outputs_next(struct outputs* outputs);

struct output* output_new(struct outputs* outputs, struct client* client);
void output_free(struct output* output);

/* Copies the bytes. */
struct payload* payload_new(struct outputs* outputs, const char* data, size_t len);
void payload_unref(struct payload* payload);

/* Copies the bytes. -ENOBUFS: over max. -ENOMEM. */
int output_append(struct output* output, const char* data, size_t len);
/* The same for a copy of the header and a reference to the payload. */
int output_append_message(struct output* output, const char* header, size_t len,
                          struct payload* payload);

enum { OUTPUT_SENT = 0, OUTPUT_BLOCKED = 1 };
/* Sends what is queued. OUTPUT_BLOCKED: call again when fd is writable. Failure ends the
 * connection. */
int output_flush(struct output* output, int fd);

size_t output_queued(const struct output* output);
/* As much as high is queued, or was, and there has not been less than half of it since. */
bool output_is_high(const struct output* output);
/* For how long the client has taken nothing of what is queued. */
uint64_t output_stalled_ns(const struct output* output);
