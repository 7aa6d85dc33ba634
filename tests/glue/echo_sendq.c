/* A server of lines: echo_bufferevent.c with bufferevents, echo_sendq.c with their output moved to
 * sendq. Compare them.
 *
 *     blob        1 MiB, from memory that is not copied
 *     quit        all that was asked for, and then the end
 *     any other   itself
 *
 * It prints its port, and ends at SIGTERM. */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <sendq/libevent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HIGH = 1 << 20, LOW = HIGH / 4, BLOB = 1 << 20 };

typedef struct {
    struct bufferevent* bev;
    sendq_t* q;
    sendq_bev_t* out;
} client;

static char blob[BLOB];
static unsigned borrowed; /* times that a client's output has the blob */

static void drop(client* c) {
    sendq_bev_free(c->out);
    sendq_free(c->q);
    bufferevent_free(c->bev);
    free(c);
}

static void on_blob_sent(void* arg, const void* data, size_t len, int reason) {
    (void)arg, (void)data, (void)len, (void)reason;
    borrowed--;
}

static uint64_t waiting(const client* c) {
    return sendq_bev_get_length(c->out);
}

static void send_line(client* c, const char* line) {
    sendq_bev_write(c->out, line, strlen(line));
    sendq_bev_write(c->out, "\n", 1);
}

static void send_blob(client* c) {
    if (sendq_bev_write_reference(c->out, blob, BLOB, on_blob_sent, NULL) >= 0) {
        borrowed++;
    }
}

static void leave(client* c) {
    bufferevent_disable(c->bev, EV_READ);
    sendq_bev_close(c->out, 0);
}

/* Stops when enough waits, until on_sent. */
static void serve(client* c) {
    struct evbuffer* input = bufferevent_get_input(c->bev);
    char* line = NULL;
    bool quits = false;
    while (!quits && waiting(c) < HIGH &&
           (line = evbuffer_readln(input, NULL, EVBUFFER_EOL_LF)) != NULL) {
        quits = strcmp(line, "quit") == 0;
        if (strcmp(line, "blob") == 0) {
            send_blob(c);
        } else if (!quits) {
            send_line(c, line);
        }
        free(line);
    }
    if (quits) {
        leave(c);
    } else if (waiting(c) >= HIGH) {
        bufferevent_disable(c->bev, EV_READ);
    }
}

static void on_readable(struct bufferevent* bev, void* arg) {
    (void)bev;
    serve(arg);
}

static void on_sent(struct bufferevent* bev, void* arg) {
    (void)bev;
    client* c = arg;
    bufferevent_enable(c->bev, EV_READ);
    serve(c);
}

static void on_end(struct bufferevent* bev, short what, void* arg) {
    (void)bev;
    client* c = arg;
    if (what & (BEV_EVENT_ERROR | BEV_EVENT_WRITING)) {
        drop(c);
    } else {
        leave(c);
    }
}

static void on_accept(struct evconnlistener* listener, evutil_socket_t fd, struct sockaddr* peer,
                      int len, void* arg) {
    (void)peer, (void)len, (void)arg;
    struct event_base* base = evconnlistener_get_base(listener);
    client* c = calloc(1, sizeof *c);
    if (c == NULL) {
        abort();
    }
    c->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (c->bev == NULL) {
        abort();
    }
    bufferevent_setwatermark(c->bev, EV_WRITE, LOW, 0);
    bufferevent_setcb(c->bev, on_readable, on_sent, on_end, c);
    if (sendq_new(NULL, NULL, &c->q) < 0 ||
        sendq_bev_attach_bufferevent(c->bev, c->q, &c->out) < 0) {
        abort();
    }
    bufferevent_enable(c->bev, EV_READ);
}

static void on_signal(evutil_socket_t number, short what, void* base) {
    (void)number, (void)what;
    event_base_loopexit(base, NULL);
}

int main(void) {
    memset(blob, 'b', sizeof blob);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct event_base* base = event_base_new();
    struct evconnlistener* listener =
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, -1,
                                (struct sockaddr*)&address, sizeof address);
    struct event* term = evsignal_new(base, SIGTERM, on_signal, base);
    if (listener == NULL || term == NULL || evsignal_add(term, NULL) != 0 ||
        getsockname(evconnlistener_get_fd(listener), (struct sockaddr*)&address, &len) != 0) {
        abort();
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    event_base_dispatch(base);
    event_free(term);
    evconnlistener_free(listener);
    event_base_free(base);
    return borrowed == 0 ? 0 : 1;
}
