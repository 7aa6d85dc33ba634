/* A client: its connection, from accept(2) to close(2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "output.h"
#include "topics.h"

struct broker;

enum client_state {
    CLIENT_OPEN,
    CLIENT_FINISHING, /* nothing new comes in or is queued; what is queued is being sent */
    CLIENT_LINGERING, /* all is sent and said to be the end; the peer has not closed yet */
    CLIENT_DROPPED,   /* freed at the end of the turn */
};

struct client {
    LIST_ENTRY(client) in_clients;
    struct broker* broker;
    struct output* output;
    int fd;
    enum client_state state;
    uint32_t watched; /* the events that epoll watches */
    bool is_blocked;  /* waits until the socket is writable */
    bool has_ended;   /* the peer sends nothing more */
    uint64_t linger_until;
    /* Input that has not been run: the beginning of a command, or what a client above high sent. */
    char* input;
    size_t input_len, input_capacity;
    uint64_t delivered; /* messages */
    struct subscription_list subscriptions;
};

/* Takes over fd. NULL: fd is still the caller's. */
struct client* client_new(struct broker* broker, int fd);
void client_free(struct client* client);

/* Does what the events of epoll say. */
void client_serve(struct client* client, uint32_t events);
/* Sends what is queued. */
void client_flush(struct client* client);
/* Runs no further command of the client, sends what is queued, and ends the connection. */
void client_finish(struct client* client);
/* Ends the connection now. The client stays valid until the turn ends. */
void client_drop(struct client* client);
