#include "commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"
#include "client.h"

enum {
    MAX_LINE = 512,
    MAX_PAYLOAD = 1 << 20,
    MAX_HEADER = sizeof "MSG  18446744073709551615 18446744073709551615\n" + MAX_LINE,
    MAX_REPLY = 256,
};

/* A client for which the broker cannot queue anything is of no use. */
static void check_append(struct client* client, int result) {
    if (result < 0) {
        client->broker->dropped_over_max += result == -ENOBUFS;
        client_drop(client);
    }
}

static void reply(struct client* client, const char* text) {
    check_append(client, output_append(client->output, text, strlen(text)));
}

/* For input whose end cannot be found. */
static size_t refuse_all(struct client* client, const char* text, size_t len) {
    reply(client, text);
    client_finish(client);
    return len;
}

/* Returns the length. But for the system call, snprintf would cost most of a delivery. */
static size_t format_number(char* out, uint64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    memcpy(out, digits + first, sizeof digits - first);
    return sizeof digits - first;
}

/* Returns how many clients get the payload, which has len bytes and a line end. */
static size_t deliver(struct topic* topic, struct payload* payload, size_t len) {
    char header[MAX_HEADER];
    const int fixed = snprintf(header, sizeof header, "MSG %s %zu ", topic->name, len);
    size_t count = 0;
    struct subscription* subscription;
    LIST_FOREACH(subscription, &topic->subscriptions, of_topic) {
        struct client* client = subscription->client;
        if (client->state != CLIENT_OPEN) {
            continue;
        }
        size_t header_len = (size_t)fixed;
        header_len += format_number(header + header_len, ++client->delivered);
        header[header_len++] = '\n';
        check_append(client, output_append_message(client->output, header, header_len, payload));
        count += client->state == CLIENT_OPEN;
    }
    return count;
}

static void publish(struct client* client, const char* name, const char* data, size_t len) {
    struct topic* topic = topics_find(&client->broker->topics, name);
    size_t count = 0;
    if (topic != NULL) {
        struct payload* payload = payload_new(client->broker->outputs, data, len + 1);
        if (payload == NULL) {
            reply(client, "-ERR out of memory\n");
            return;
        }
        count = deliver(topic, payload, len);
        payload_unref(payload);
    }
    if (client->state == CLIENT_OPEN) {
        char text[MAX_REPLY];
        snprintf(text, sizeof text, "+OK %zu\n", count);
        reply(client, text);
    }
}

static void subscribe(struct client* client, const char* name) {
    switch (topics_subscribe(&client->broker->topics, client, name)) {
        case 0:
            reply(client, "+OK\n");
            break;
        case -EMFILE:
            reply(client, "-ERR too many subscriptions\n");
            break;
        default:
            reply(client, "-ERR out of memory\n");
    }
}

static void report(struct client* client) {
    const struct broker* broker = client->broker;
    uint64_t queued = 0;
    struct client* other;
    LIST_FOREACH(other, &broker->clients, in_clients) {
        queued += output_queued(other->output);
    }
    char text[MAX_REPLY];
    snprintf(text, sizeof text,
             "+OK clients=%" PRIu64 " queued=%" PRIu64 " dropped_over_max=%" PRIu64
             " dropped_stalled=%" PRIu64 "\n",
             broker->client_count, queued, broker->dropped_over_max, broker->dropped_stalled);
    reply(client, text);
}

/* Less than half of max is queued when a command is run: its message and the reply still fit. */
static size_t max_payload(const struct client* client) {
    const size_t half = client->broker->options.limits.max / 2 - MAX_HEADER - MAX_REPLY;
    return half < MAX_PAYLOAD ? half : MAX_PAYLOAD;
}

/* False: text is not a number, or too large for any payload. */
static bool parse_length(const char* text, size_t* length) {
    const size_t digits = strspn(text, "0123456789");
    *length = strtoul(text, NULL, 10);
    return digits > 0 && digits < 10 && text[digits] == '\0';
}

/* PUB with a line of line_len bytes and what follows; words are those behind the verb. */
static size_t run_publish(struct client* client, char* const* words, const char* input,
                          size_t line_len, size_t len) {
    size_t length;
    if (!parse_length(words[1], &length) || length > max_payload(client)) {
        return refuse_all(client, "-ERR bad length\n", len);
    }
    if (len - line_len < length + 1) {
        return 0;
    }
    if (input[line_len + length] != '\n') {
        return refuse_all(client, "-ERR no line end after the payload\n", len);
    }
    publish(client, words[0], input + line_len, length);
    return line_len + length + 1;
}

static bool is_printable(const char* line) {
    for (; *line != '\0'; line++) {
        if (*line < ' ' || *line > '~') {
            return false;
        }
    }
    return true;
}

/* Returns how many words line has, of which it stores at most max. */
static int split(char* line, char** words, int max) {
    int count = 0;
    for (char* word = strtok_r(line, " ", &line); word != NULL; word = strtok_r(NULL, " ", &line)) {
        if (count < max) {
            words[count] = word;
        }
        count++;
    }
    return count;
}

size_t command_run(struct client* client, const char* input, size_t len) {
    const char* end = memchr(input, '\n', len < MAX_LINE ? len : MAX_LINE);
    if (end == NULL) {
        return len < MAX_LINE ? 0 : refuse_all(client, "-ERR line too long\n", len);
    }
    const size_t line_len = (size_t)(end - input) + 1;
    char line[MAX_LINE];
    memcpy(line, input, line_len - 1);
    line[line_len - 1] = '\0';
    if (strlen(line) != line_len - 1 || !is_printable(line)) {
        reply(client, "-ERR bad character\n");
        return line_len;
    }
    char* words[3];
    const int count = split(line, words, 3);
    if (count == 3 && strcmp(words[0], "PUB") == 0) {
        return run_publish(client, words + 1, input, line_len, len);
    }
    if (count == 2 && strcmp(words[0], "SUB") == 0) {
        subscribe(client, words[1]);
    } else if (count == 1 && strcmp(words[0], "STAT") == 0) {
        report(client);
    } else if (count == 1 && strcmp(words[0], "QUIT") == 0) {
        reply(client, "+OK\n");
        client_finish(client);
    } else {
        reply(client, "-ERR unknown command\n");
    }
    return line_len;
}
