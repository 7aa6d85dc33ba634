#define _GNU_SOURCE /* accept4 */
#include "broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

enum { MAX_EVENTS = 256, MAX_ACCEPTS = 64, BACKLOG = 1024, CHECK_MS = 100 };

static uint64_t clock_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void watch_listener(struct broker* broker, bool is_watched) {
    struct epoll_event event = {.events = is_watched ? EPOLLIN : 0, .data.ptr = &broker->listen_fd};
    epoll_ctl(broker->epoll_fd, EPOLL_CTL_MOD, broker->listen_fd, &event);
    broker->is_full = !is_watched;
}

static void accept_clients(struct broker* broker) {
    for (int i = 0; i < MAX_ACCEPTS; i++) {
        const int fd = accept4(broker->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                /* It stays readable: without this the loop would spin. */
                watch_listener(broker, false);
            }
            return;
        }
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (client_new(broker, fd) == NULL) {
            close(fd);
        }
    }
}

/* Who is stuck causes no event. */
static void check_clients(struct broker* broker) {
    struct client *client, *next;
    for (client = LIST_FIRST(&broker->clients); client != NULL; client = next) {
        next = LIST_NEXT(client, in_clients);
        if (client->state == CLIENT_LINGERING) {
            if (broker->now_ns >= client->linger_until) {
                client_drop(client);
            }
        } else if (output_stalled_ns(client->output) >= broker->options.stall_ns) {
            broker->dropped_stalled++;
            client_drop(client);
        }
    }
    if (broker->is_full) {
        watch_listener(broker, true);
    }
}

static void stop(struct broker* broker) {
    struct signalfd_siginfo info;
    if (read(broker->signal_fd, &info, sizeof info) < 0 || broker->stop_ns != UINT64_MAX) {
        return;
    }
    broker->stop_ns = broker->now_ns + broker->options.stall_ns;
    close(broker->listen_fd);
    broker->listen_fd = -1;
    broker->is_full = false;
    struct client *client, *next;
    for (client = LIST_FIRST(&broker->clients); client != NULL; client = next) {
        next = LIST_NEXT(client, in_clients);
        client_finish(client);
    }
}

static void handle(struct broker* broker, const struct epoll_event* event) {
    if (event->data.ptr == &broker->signal_fd) {
        stop(broker);
    } else if (event->data.ptr != &broker->listen_fd) {
        client_serve(event->data.ptr, event->events);
    } else if (broker->listen_fd >= 0) {
        accept_clients(broker);
    }
}

/* What the events of one turn have queued for a client is sent at once. */
static void flush_ready(struct broker* broker) {
    struct client* client;
    while ((client = outputs_next(broker->outputs)) != NULL) {
        if (client->state != CLIENT_DROPPED) {
            client_flush(client);
        }
    }
}

static int wait_ms(const struct broker* broker) {
    if (broker->flush_soon) {
        return 0;
    }
    return LIST_EMPTY(&broker->clients) && !broker->is_full ? -1 : CHECK_MS;
}

static void free_dropped(struct broker* broker) {
    while (!LIST_EMPTY(&broker->dropped)) {
        client_free(LIST_FIRST(&broker->dropped));
    }
}

bool broker_run(struct broker* broker) {
    while (broker->now_ns < broker->stop_ns &&
           !(broker->listen_fd < 0 && LIST_EMPTY(&broker->clients))) {
        struct epoll_event events[MAX_EVENTS];
        const int count = epoll_wait(broker->epoll_fd, events, MAX_EVENTS, wait_ms(broker));
        if (count < 0 && errno != EINTR) {
            return false;
        }
        broker->now_ns = clock_ns();
        broker->flush_soon = false;
        for (int i = 0; i < count; i++) {
            handle(broker, &events[i]);
        }
        flush_ready(broker);
        if (broker->now_ns >= broker->next_check_ns) {
            check_clients(broker);
            broker->next_check_ns = broker->now_ns + CHECK_MS * UINT64_C(1000000);
        }
        free_dropped(broker);
    }
    return true;
}

/* The broker's beginning and its end. */

static bool add(struct broker* broker, int* fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return epoll_ctl(broker->epoll_fd, EPOLL_CTL_ADD, *fd, &event) == 0;
}

static bool start_listening(struct broker* broker) {
    const int on = 1, sndbuf = broker->options.sndbuf;
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(broker->options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    broker->listen_fd = fd;
    /* Accepted sockets have the same SO_SNDBUF. */
    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           (sndbuf == 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf) == 0) &&
           bind(fd, (const struct sockaddr*)&address, sizeof address) == 0 &&
           listen(fd, BACKLOG) == 0 && add(broker, &broker->listen_fd);
}

static bool take_signals(struct broker* broker) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    broker->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    return broker->signal_fd >= 0 && add(broker, &broker->signal_fd);
}

struct broker* broker_new(const struct options* options) {
    struct broker* broker = calloc(1, sizeof *broker);
    if (broker == NULL) {
        return NULL;
    }
    broker->options = *options;
    broker->listen_fd = broker->signal_fd = -1;
    broker->now_ns = clock_ns();
    broker->stop_ns = UINT64_MAX;
    LIST_INIT(&broker->clients);
    LIST_INIT(&broker->dropped);
    broker->outputs = outputs_new(&options->limits);
    broker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (broker->outputs == NULL || broker->epoll_fd < 0 || !start_listening(broker) ||
        !take_signals(broker)) {
        broker_free(broker);
        return NULL;
    }
    return broker;
}

static void close_if_open(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

void broker_free(struct broker* broker) {
    const int error = errno;
    while (!LIST_EMPTY(&broker->clients)) {
        client_drop(LIST_FIRST(&broker->clients));
    }
    free_dropped(broker);
    if (broker->outputs != NULL) {
        outputs_free(broker->outputs);
    }
    close_if_open(broker->listen_fd);
    close_if_open(broker->signal_fd);
    close_if_open(broker->epoll_fd);
    free(broker);
    errno = error;
}

uint16_t broker_port(const struct broker* broker) {
    struct sockaddr_in address = {.sin_port = 0};
    socklen_t len = sizeof address;
    getsockname(broker->listen_fd, (struct sockaddr*)&address, &len);
    return ntohs(address.sin_port);
}
