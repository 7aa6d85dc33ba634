#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker.h"
#include "commands.h"

/* For how long the peer may take to close after all was sent. */
static const uint64_t linger_ns = UINT64_C(2000000000);

/* Input. */

static bool may_run(const struct client* client) {
    return client->state == CLIENT_OPEN && !output_is_high(client->output);
}

/* data may be a part of the client's own input. */
static void store_input(struct client* client, const char* data, size_t len) {
    if (len == 0) {
        /* A client without a half command costs no buffer. */
        free(client->input);
        client->input = NULL;
        client->input_capacity = 0;
    } else if (client->input != NULL) {
        memmove(client->input, data, len);
    } else if ((client->input = malloc(len)) != NULL) {
        memcpy(client->input, data, len);
        client->input_capacity = len;
    } else {
        len = 0;
        client_drop(client);
    }
    client->input_len = len;
}

static void run_input(struct client* client, const char* data, size_t len) {
    while (len > 0 && may_run(client)) {
        const size_t used = command_run(client, data, len);
        if (used == 0) {
            break;
        }
        data += used;
        len -= used;
    }
    store_input(client, data, client->state == CLIENT_OPEN ? len : 0);
}

/* Where the next READ_BYTES of input go: behind what is there. NULL: out of memory. */
static char* input_room(struct client* client) {
    if (client->input_len == 0) {
        return client->broker->scratch;
    }
    const size_t least = client->input_len + READ_BYTES;
    if (client->input_capacity < least) {
        char* input = realloc(client->input, 2 * least);
        if (input == NULL) {
            return NULL;
        }
        client->input = input;
        client->input_capacity = 2 * least;
    }
    return client->input + client->input_len;
}

static void read_input(struct client* client) {
    char* room = input_room(client);
    const ssize_t len = room != NULL ? read(client->fd, room, READ_BYTES) : -1;
    const bool has_failed = len < 0 && errno != EAGAIN && errno != EINTR;
    if (has_failed || (len == 0 && client->state == CLIENT_LINGERING)) {
        client_drop(client);
    } else if (len == 0) {
        client->has_ended = true;
        client_finish(client);
    } else if (len > 0 && client->state == CLIENT_OPEN) {
        run_input(client, room - client->input_len, client->input_len + (size_t)len);
    }
}

/* Output. */

static void watch(struct client* client) {
    uint32_t events = client->is_blocked ? EPOLLOUT : 0;
    if (may_run(client) || client->state == CLIENT_LINGERING) {
        events |= EPOLLIN;
    }
    if (events != client->watched && client->state != CLIENT_DROPPED) {
        struct epoll_event event = {.events = events, .data.ptr = client};
        client->watched = events;
        if (epoll_ctl(client->broker->epoll_fd, EPOLL_CTL_MOD, client->fd, &event) != 0) {
            client_drop(client);
        }
    }
}

/* All is sent. A close now could reset the connection, and lose what the peer has not read yet. */
static void linger(struct client* client) {
    if (client->has_ended || shutdown(client->fd, SHUT_WR) != 0) {
        client_drop(client);
    } else {
        client->state = CLIENT_LINGERING;
        client->linger_until = client->broker->now_ns + linger_ns;
    }
}

void client_flush(struct client* client) {
    const int result = output_flush(client->output, client->fd);
    if (result < 0) {
        client_drop(client);
        return;
    }
    client->is_blocked = result == OUTPUT_BLOCKED;
    if (client->state == CLIENT_FINISHING && !client->is_blocked) {
        linger(client);
    } else if (client->input != NULL && may_run(client)) {
        /* It was above high, and no event will say that there is input. */
        run_input(client, client->input, client->input_len);
        client->broker->flush_soon = true;
    }
    watch(client);
}

void client_serve(struct client* client, uint32_t events) {
    if (events & (EPOLLERR | EPOLLHUP)) {
        client_drop(client);
    }
    if (events & EPOLLOUT && client->state != CLIENT_DROPPED) {
        client_flush(client);
    }
    if (events & EPOLLIN && (may_run(client) || client->state == CLIENT_LINGERING)) {
        read_input(client);
    }
    watch(client);
}

/* The beginning and the end. */

struct client* client_new(struct broker* broker, int fd) {
    struct client* client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->broker = broker;
    client->fd = fd;
    client->watched = EPOLLIN;
    LIST_INIT(&client->subscriptions);
    struct epoll_event event = {.events = client->watched, .data.ptr = client};
    client->output = output_new(broker->outputs, client);
    if (client->output == NULL || epoll_ctl(broker->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        if (client->output != NULL) {
            output_free(client->output);
        }
        free(client);
        return NULL;
    }
    LIST_INSERT_HEAD(&broker->clients, client, in_clients);
    broker->client_count++;
    return client;
}

void client_finish(struct client* client) {
    if (client->state == CLIENT_OPEN) {
        client->state = CLIENT_FINISHING;
        topics_unsubscribe(client);
        if (output_queued(client->output) == 0) {
            linger(client);
        }
        watch(client);
    }
}

void client_drop(struct client* client) {
    if (client->state != CLIENT_DROPPED) {
        client->state = CLIENT_DROPPED;
        LIST_REMOVE(client, in_clients);
        LIST_INSERT_HEAD(&client->broker->dropped, client, in_clients);
    }
}

void client_free(struct client* client) {
    LIST_REMOVE(client, in_clients);
    client->broker->client_count--;
    topics_unsubscribe(client);
    output_free(client->output);
    close(client->fd);
    free(client->input);
    free(client);
}
