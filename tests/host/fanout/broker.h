/* The broker: its event loop, and what all clients share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "output.h"
#include "topics.h"

enum { READ_BYTES = 64 << 10 };

struct options {
    uint16_t port; /* 0: any */
    int sndbuf;    /* SO_SNDBUF of the clients; 0: the system's default */
    struct limits limits;
    uint64_t stall_ns; /* who takes nothing for so long is dropped; all, that long after SIGTERM */
};

struct client;
LIST_HEAD(client_list, client);

struct broker {
    struct options options;
    int epoll_fd, listen_fd, signal_fd;
    struct outputs* outputs;
    struct topics topics;
    struct client_list clients, dropped;
    uint64_t now_ns, next_check_ns;
    uint64_t stop_ns; /* when those that are left are dropped; UINT64_MAX: it does not end */
    bool is_full;     /* no descriptor is free, so nobody is accepted */
    bool flush_soon;  /* there may be something to flush although no event says so */
    uint64_t client_count, dropped_over_max, dropped_stalled;
    char scratch[READ_BYTES];
};

/* NULL: errno says why. */
struct broker* broker_new(const struct options* options);
void broker_free(struct broker* broker);
uint16_t broker_port(const struct broker* broker);
/* Returns after SIGTERM or SIGINT. False: it failed, and errno says why. */
bool broker_run(struct broker* broker);
