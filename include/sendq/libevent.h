/* sendq in a libevent host (2.1 or later), in C11 or C++17: a queue that flushes itself, with the
 * functions of a bufferevent's output half. Header-only: sendq itself does not link libevent.
 *
 *     sendq_bev_t *b;
 *     sendq_bev_new(base, fd, 0, NULL, NULL, &b);
 *     sendq_bev_setcb(b, on_drained, on_end, connection);
 *     sendq_bev_write(b, "hello\n", 6);                  is sent in this turn of the loop
 *
 * From bufferevents. The host still reads itself, by an event of its own or by its bufferevent. The
 * output half of the bufferevent is then not used: sendq_bev_attach_bufferevent replaces it, with
 * TLS or without, and calls its callbacks.
 *
 *     bufferevent_socket_new                       sendq_bev_new, sendq_bev_attach,
 *                                                  sendq_bev_attach_bufferevent
 *     bufferevent_setcb(bev, r, w, e, arg)         sendq_bev_setcb(b, w, e, arg)
 *     bufferevent_write, bufferevent_write_buffer  sendq_bev_write, sendq_bev_write_buffer
 *     bufferevent_get_output, and then
 *         evbuffer_add_printf                      sendq_bev_printf
 *         evbuffer_add_reference                   sendq_bev_write_reference
 *         evbuffer_get_length                      sendq_bev_get_length
 *         several of these, as one message         sendq_bev_send
 *         anything else                            sendq_bev_wake(b, a call of sendq.h)
 *     bufferevent_setwatermark, of EV_WRITE        sendq_bev_setwatermark
 *     bufferevent_enable, bufferevent_disable      sendq_bev_enable, sendq_bev_disable
 *     bufferevent_set_max_single_write             sendq_bev_set_max_single_write
 *     bufferevent_priority_set, bufferevent_getfd  sendq_bev_priority_set, sendq_bev_getfd
 *     bufferevent_trigger, bufferevent_base_set    sendq_bev_trigger, sendq_bev_base_set
 *     bufferevent_free                             sendq_bev_free: discards what is queued, too
 *     free in the write callback, once drained     sendq_bev_close, and free in the event callback
 *     bufferevent_set_timeouts(bev, r, w)          sendq_bev_set_timeout(b, w)
 *
 * When it flushes. The first byte that is queued activates an event. So the flush runs after the
 * other callbacks that are active in this turn of the loop, and whatever they write is sent by one
 * send(2). EV_WRITE is armed only while the socket is full. A connection that has more to send than
 * the budget of one flush, or whose write callback writes again, is flushed again in the next turn,
 * after the others. A rate (sendq_set_rate) and a deadline (sendq_bev_close) arm a timer. So, if
 * bytes are queued, some event is armed or active, unless writing is disabled or the bytes are
 * corked.
 *
 * Callbacks. writecb and eventcb run from the event loop only, never from inside a call of this
 * header, except for sendq_bev_trigger. They may call anything, including sendq_bev_free, and must
 * not throw. The same holds for release callbacks, except that they run inside calls, and that one
 * which runs inside its own sendq_bev_write_reference must not free b.
 *
 * Threads. All calls on b must come from the thread that runs the loop; while no thread runs it,
 * from any one thread. If the queue is SENDQ_THREADSAFE and the base was made after
 * evthread_use_pthreads(3), any thread may call sendq_bev_write, sendq_bev_write_reference,
 * sendq_bev_write_buffer, sendq_bev_printf, sendq_bev_wake, sendq_bev_close, sendq_bev_get_queue
 * and sendq_bev_get_length. The host has to make sure that b is not freed meanwhile.
 *
 * Without a copy. If the queue has SENDQ_ZEROCOPY, the host has an event of its own that reads the
 * socket, and calls sendq_reap in its callback: libevent runs it for the error event by which the
 * kernel acknowledges, and again and again until that is taken. sendq_bev_attach_bufferevent has no
 * such place: do not give it such a queue.
 *
 * Results are those of sendq.h: a negative errno, or hints. This header handles the hint
 * SENDQ_WAKE and never returns it. A NULL b gives -EINVAL. */
#ifndef SENDQ_LIBEVENT_H
#define SENDQ_LIBEVENT_H

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_struct.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/util.h>
#include <sendq/sendq.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#if !defined(__GNUC__)
#include <intrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SENDQ_BEV_PRINTF_ __attribute__((format(printf, 2, 3)))
#define SENDQ_BEV_EXCHANGE_(at, value) __atomic_exchange_n((at), (value), __ATOMIC_ACQ_REL)
#else
#define SENDQ_BEV_PRINTF_
#define SENDQ_BEV_EXCHANGE_(at, value) \
    ((uint64_t)_InterlockedExchange64((volatile __int64*)(at), (__int64)(value)))
#endif

/** The default of the most bytes that one flush sends. */
#define SENDQ_BEV_MAX_SINGLE_WRITE ((size_t)1 << 20)

/** The output half of a connection in an event loop. */
typedef struct sendq_bev_t sendq_bev_t;

/** As bufferevent_data_cb: see sendq_bev_setcb. */
typedef void (*sendq_bev_data_cb)(sendq_bev_t* b, void* arg);

/** As bufferevent_event_cb: see sendq_bev_setcb. */
typedef void (*sendq_bev_event_cb)(sendq_bev_t* b, short what, void* arg);

/** The fields are private. */
struct sendq_bev_t {
    sendq_t* q;              /* NULL: freed; the outermost call frees the rest */
    struct event turn;       /* flushes: active for this turn of the loop, or added as a timer */
    struct event socket;     /* added for the events in `armed`; activates `turn` */
    struct bufferevent* bev; /* whose output half this is; NULL: of no bufferevent */
    sendq_bev_data_cb writecb;
    sendq_bev_event_cb eventcb;
    void* arg;
    sendq_write_fn write; /* NULL: the socket takes the bytes */
    void* write_arg;
    uint64_t low;      /* writecb is due when at most this many bytes are queued */
    uint64_t reported; /* sendq_sent_bytes at the last check of writecb */
    uint64_t close_ns; /* atomic: what sendq_bev_close asks of the thread of the loop; 0: nothing */
    size_t max_single_write;
    sendq_fd_t fd;
    uint32_t timeout_ms;  /* for which the socket may take nothing; 0: no limit */
    unsigned short calls; /* calls in progress that may call back */
    short armed;          /* EV_WRITE, EV_READ, both or 0 */
    short error; /* ENOMEM: libevent could not add an event; ETIMEDOUT: timeout_ms passed */
    bool owns_fd : 1;
    bool owns_q : 1;
    bool enabled : 1;
    bool closing : 1;
    bool has_deadline : 1;
    bool triggered : 1; /* writecb is due in the next turn, whatever is queued */
    bool refused : 1;   /* by the last flush: OpenSSL may have sent a part of what is queued */
    bool late : 1;      /* timeout_ms has passed without a sent byte */
    bool ended : 1;     /* eventcb was called, if there is one */
};

enum {
    /* The clocks of both libraries are exact to milliseconds only. */
    SENDQ_BEV_NS_PER_MS_ = 1000 * 1000,
    /* The delay before a flush is tried again that could do nothing: another call was in
     * progress, memory was short, or the writer returned -EINTR. */
    SENDQ_BEV_PAUSE_MS_ = 1,
    SENDQ_BEV_LONGEST_WAIT_MS_ = 24 * 60 * 60 * 1000
};

static inline void sendq_bev_enter_(sendq_bev_t* b) {
    b->calls++;
}

static inline void sendq_bev_leave_(sendq_bev_t* b) {
    if (--b->calls == 0 && b->q == NULL) {
        event_debug_unassign(&b->turn);
        event_debug_unassign(&b->socket);
        free(b);
    }
}

/* May be called from any thread: the event is libevent's, and under its lock. It is activated as
 * EV_WRITE, because event_add removes an activation as EV_TIMEOUT. */
static inline void sendq_bev_activate_(const sendq_bev_t* b) {
    event_active((struct event*)(uintptr_t)&b->turn, EV_WRITE, 0);
}

static inline void sendq_bev_on_socket_(evutil_socket_t fd, short what, void* arg) {
    sendq_bev_t* b = (sendq_bev_t*)arg;
    (void)fd;
    b->late = (what & EV_TIMEOUT) != 0;
    /* Runs after the host's callbacks for the same socket: what they write is sent together with
     * what is queued, and with TLS the writer may wait for what they read. */
    sendq_bev_activate_(b);
}

static inline struct timeval sendq_bev_timeval_(uint64_t ms) {
    struct timeval time;
    time.tv_sec = (long)(ms / 1000);
    time.tv_usec = (long)(ms % 1000 * 1000);
    return time;
}

/* Rounded up, and at most what fits. */
static inline uint32_t sendq_bev_ms_(const struct timeval* time) {
    uint64_t s = (uint64_t)time->tv_sec;
    uint64_t ms = (s < UINT32_MAX ? s : UINT32_MAX) * 1000 + ((uint64_t)time->tv_usec + 999) / 1000;
    return (uint32_t)(ms < UINT32_MAX ? ms : UINT32_MAX);
}

static inline int sendq_bev_wait_for_(sendq_bev_t* b, short what) {
    if (b->armed == what) {
        return 0;
    }
    if (b->armed != 0) {
        event_del(&b->socket);
    }
    b->armed = what;
    b->late = false;
    if (what == 0) {
        return 0;
    }
    struct timeval timeout = sendq_bev_timeval_(b->timeout_ms);
    int priority = event_get_priority(&b->socket);
    event_assign(&b->socket, event_get_base(&b->turn), (evutil_socket_t)b->fd,
                 (short)(what | EV_PERSIST), sendq_bev_on_socket_, b);
    event_priority_set(&b->socket, priority);
    return event_add(&b->socket, b->timeout_ms != 0 ? &timeout : NULL);
}

/* A timer of 0 fires in the next turn, after the sockets. */
static inline int sendq_bev_wait_ms_(sendq_bev_t* b, uint64_t ms) {
    if (ms > SENDQ_BEV_LONGEST_WAIT_MS_) {
        ms = SENDQ_BEV_LONGEST_WAIT_MS_;
    }
    struct timeval wait = sendq_bev_timeval_(ms);
    return event_add(&b->turn, &wait);
}

/* Does not deactivate `turn`, which another thread may have activated. */
static inline void sendq_bev_disarm_(sendq_bev_t* b) {
    sendq_bev_wait_for_(b, 0);
    event_remove_timer(&b->turn);
}

/* Arms what the result `flushed` of a flush requires. */
static inline void sendq_bev_arm_(sendq_bev_t* b, int flushed, bool progressed) {
    if (SENDQ_FAILED(flushed)) {
        sendq_bev_disarm_(b);
        if (sendq_error(b->q) == 0 && sendq_bev_wait_ms_(b, SENDQ_BEV_PAUSE_MS_) != 0) {
            b->error = ENOMEM;
        }
        return;
    }
    if (progressed) {
        b->late = false;
    }
    short what = 0;
    if (flushed & SENDQ_BLOCKED) {
        what = EV_WRITE;
    } else if (flushed & SENDQ_WANT_READ) {
        what = EV_READ;
        /* While the bufferevent waits until the socket is writable, to read (its handshake sends),
         * it may then read what the writer waits for. */
        if (b->bev != NULL) {
            what = (short)(what | event_pending(&b->bev->ev_write, EV_WRITE, NULL));
        }
    }
    /* SENDQ_NEVER: only the socket can help, or nothing is queued. */
    uint64_t retry = sendq_retry_after_ns(b->q);
    if (retry == SENDQ_NEVER && flushed & SENDQ_MORE) {
        retry = 0;
    }
    int failed = sendq_bev_wait_for_(b, what);
    if (retry != SENDQ_NEVER) {
        uint64_t wait_ms = retry / SENDQ_BEV_NS_PER_MS_ + (retry % SENDQ_BEV_NS_PER_MS_ != 0);
        if (retry == 0 && !progressed) {
            wait_ms = SENDQ_BEV_PAUSE_MS_;
        }
        failed |= sendq_bev_wait_ms_(b, wait_ms);
    } else {
        event_remove_timer(&b->turn);
    }
    if (failed != 0) {
        b->error = ENOMEM;
    }
}

/* A plain bufferevent waits until its socket is writable, though it has nothing to write: it
 * connects, and has to be the first to learn how that ended. */
static inline bool sendq_bev_is_connecting_(const sendq_bev_t* b) {
    return b->bev != NULL && b->write == NULL &&
           event_pending(&b->bev->ev_write, EV_WRITE, NULL) != 0;
}

/* If the writer frees b, an attached queue and the flush in progress outlive it. */
static inline int64_t sendq_bev_write_by_(void* arg, const void* data, size_t len) {
    const sendq_bev_t* b = (const sendq_bev_t*)arg;
    return b->q != NULL && b->write != NULL ? b->write(b->write_arg, data, len) : -EAGAIN;
}

/* Does what the last sendq_bev_close has left to the thread of the loop. b may be freed when this
 * returns. */
static inline void sendq_bev_begin_close_(sendq_bev_t* b) {
    uint64_t timeout_ns = SENDQ_BEV_EXCHANGE_(&b->close_ns, 0);
    if (timeout_ns == 0) {
        return;
    }
    b->closing = true;
    b->enabled = true;
    if (timeout_ns == UINT64_MAX && !b->has_deadline) {
        return;
    }
    b->has_deadline = true;
    int result = sendq_close_within(b->q, timeout_ns);
    if (b->q != NULL && result == -ENOMEM) {
        b->error = ENOMEM;
    } else if (b->q != NULL && result == -EBUSY) { /* The writer has called. */
        SENDQ_BEV_EXCHANGE_(&b->close_ns, timeout_ns);
        sendq_bev_activate_(b);
    }
}

/* b may be freed when this returns. */
static inline int sendq_bev_flush_(sendq_bev_t* b) {
    sendq_bev_begin_close_(b);
    if (b->q == NULL || !b->enabled || b->ended) {
        return 0;
    }
    uint64_t sent = sendq_sent_bytes(b->q);
    int result = b->write != NULL || sendq_bev_is_connecting_(b)
                     ? sendq_flush_with(b->q, sendq_bev_write_by_, b, b->max_single_write)
                     : sendq_flush(b->q, b->fd, b->max_single_write);
    if (b->q != NULL) {
        b->refused = SENDQ_FAILED(result) || (result & (SENDQ_BLOCKED | SENDQ_WANT_READ)) != 0;
        sendq_bev_arm_(b, result, sendq_sent_bytes(b->q) != sent);
    }
    return result;
}

static inline int sendq_bev_error_(const sendq_bev_t* b) {
    return b->error != 0 ? b->error : -sendq_error(b->q);
}

static inline bool sendq_bev_has_drained_(const sendq_bev_t* b) {
    return b->closing && sendq_queued_bytes(b->q) == 0;
}

/* writecb is due. */
static inline bool sendq_bev_has_progressed_(const sendq_bev_t* b) {
    return sendq_sent_bytes(b->q) != b->reported && sendq_queued_bytes(b->q) <= b->low;
}

static inline void sendq_bev_end_(sendq_bev_t* b, int what, int error) {
    b->ended = true;
    sendq_bev_disarm_(b);
    sendq_close(b->q);
    sendq_discard(b->q);
    if (b->q == NULL) {
        return;
    }
    what |= BEV_EVENT_WRITING;
    if (b->eventcb != NULL) {
        EVUTIL_SET_SOCKET_ERROR(error);
        b->eventcb(b, (short)what, b->arg);
    } else if (b->bev != NULL) {
        if (what & BEV_EVENT_ERROR) { /* As libevent does: there is no reading without the TLS. */
            bufferevent_disable(b->bev, b->write != NULL ? EV_READ | EV_WRITE : EV_WRITE);
        }
        EVUTIL_SET_SOCKET_ERROR(error);
        bufferevent_trigger_event(b->bev, (short)what, 0);
    }
}

static inline void sendq_bev_call_write_(sendq_bev_t* b) {
    if (b->writecb != NULL) {
        b->writecb(b, b->arg);
    } else if (b->bev != NULL) {
        bufferevent_trigger(b->bev, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS);
    }
}

static inline void sendq_bev_report_(sendq_bev_t* b) {
    if (sendq_bev_error_(b) == 0) {
        bool is_due = sendq_bev_has_progressed_(b) || b->triggered;
        b->reported = sendq_sent_bytes(b->q);
        b->triggered = false;
        if (is_due && !b->closing) {
            sendq_bev_call_write_(b);
        }
    }
    if (b->q == NULL || b->ended) {
        return;
    }
    int error = sendq_bev_error_(b);
    if (error != 0) {
        bool is_late = b->error == ETIMEDOUT || (error == ETIMEDOUT && b->has_deadline);
        sendq_bev_end_(b, is_late ? BEV_EVENT_TIMEOUT : BEV_EVENT_ERROR, error);
    } else if (sendq_bev_has_drained_(b)) {
        sendq_bev_end_(b, BEV_EVENT_EOF, 0);
    }
}

/* A callback is due that must not be called here. */
static inline void sendq_bev_schedule_report_(const sendq_bev_t* b) {
    if (b->q != NULL &&
        (sendq_bev_error_(b) != 0 || sendq_bev_has_progressed_(b) || sendq_bev_has_drained_(b))) {
        sendq_bev_activate_(b);
    }
}

static inline void sendq_bev_on_turn_(evutil_socket_t fd, short what, void* arg) {
    (void)fd;
    (void)what;
    sendq_bev_t* b = (sendq_bev_t*)arg;
    sendq_bev_enter_(b);
    if (!b->ended) {
        sendq_bev_flush_(b);
        if (b->q != NULL) {
            if (b->late && b->error == 0) {
                b->error = ETIMEDOUT;
            }
            sendq_bev_report_(b);
        }
    }
    /* What a callback or another thread has written meanwhile would be flushed in this turn of
     * the loop, and so on, as long as the peer is fast enough. Other connections would get no
     * turn. */
    if (b->q != NULL && event_pending(&b->turn, EV_WRITE, NULL) != 0) {
        event_del(&b->turn);
        if (sendq_bev_wait_ms_(b, 0) != 0) {
            sendq_bev_activate_(b);
        }
    }
    sendq_bev_leave_(b);
}

static inline int sendq_bev_make_(struct event_base* base, sendq_fd_t fd, int options, sendq_t* q,
                                  sendq_bev_t** out) {
    if (out == NULL) {
        return -EINVAL;
    }
    *out = NULL;
    if (base == NULL || q == NULL || (evutil_socket_t)fd < 0 ||
        (options & ~BEV_OPT_CLOSE_ON_FREE) != 0) {
        return -EINVAL;
    }
    sendq_bev_t* b = (sendq_bev_t*)calloc(1, sizeof *b);
    if (b == NULL) {
        return -ENOMEM;
    }
    b->q = q;
    event_assign(&b->turn, base, -1, 0, sendq_bev_on_turn_, b);
    event_assign(&b->socket, base, (evutil_socket_t)fd, EV_WRITE, sendq_bev_on_socket_, b);
    b->max_single_write = SENDQ_BEV_MAX_SINGLE_WRITE;
    b->fd = fd;
    b->owns_fd = (options & BEV_OPT_CLOSE_ON_FREE) != 0;
    b->enabled = true;
    b->reported = sendq_sent_bytes(q);
    *out = b;
    return 0;
}

static inline void sendq_bev_start_(const sendq_bev_t* b) {
    if (sendq_queued_bytes(b->q) > 0 || sendq_error(b->q) != 0) {
        sendq_bev_activate_(b);
    }
}

/**
 * Attaches the queue q to the connected stream socket fd. The socket may be in any mode, but with
 * event_enable_debug_mode(3) libevent requires a non-blocking one. options is
 * BEV_OPT_CLOSE_ON_FREE, to make sendq_bev_free close fd, or 0. Give *out to sendq_bev_free before
 * base and q are freed and fd is closed. q and what is queued in it still belong to the caller. If
 * q is closed already, call sendq_bev_close as well. If q
 * is freed first, the next call must be that of sendq_bev_free.
 *
 * -EINVAL: base, q or out is NULL, fd is negative, or there are other options. -ENOMEM: out of
 * memory. On failure *out is NULL.
 */
static inline int sendq_bev_attach(struct event_base* base, sendq_fd_t fd, int options, sendq_t* q,
                                   sendq_bev_t** out) {
    int result = sendq_bev_make_(base, fd, options, q, out);
    if (!SENDQ_FAILED(result)) {
        sendq_bev_start_(*out);
    }
    return result;
}

/**
 * Attaches a new queue, made with pool and config as by sendq_new. sendq_bev_free frees it.
 *
 * Errors as for sendq_bev_attach and sendq_new. On failure fd still belongs to the caller.
 */
static inline int sendq_bev_new(struct event_base* base, sendq_fd_t fd, int options,
                                sendq_pool_t* pool, const sendq_config_t* config,
                                sendq_bev_t** out) {
    sendq_t* q = NULL;
    int result = sendq_new(pool, config, &q);
    if (!SENDQ_FAILED(result)) {
        result = sendq_bev_attach(base, fd, options, q, out);
    } else if (out != NULL) {
        *out = NULL;
    }
    if (SENDQ_FAILED(result)) {
        sendq_free(q);
        return result;
    }
    (*out)->owns_q = true;
    return result;
}

/* Whether libevent itself would write the bytes as they are. No function of libevent says what kind
 * a bufferevent is. */
static inline int sendq_bev_check_plain_(const struct bufferevent* bev, struct event_base* base) {
    struct bufferevent* plain = bufferevent_socket_new(base, -1, 0);
    if (plain == NULL) {
        return -ENOMEM;
    }
    bool is_plain = plain->be_ops == bev->be_ops;
    bufferevent_free(plain);
    return is_plain ? 0 : -ENOTSUP;
}

/* With the writer of a bufferevent that is not plain, or NULL. */
static inline int sendq_bev_attach_output_(struct bufferevent* bev, sendq_t* q,
                                           sendq_write_fn write, sendq_bev_t** out) {
    struct evbuffer* output = bufferevent_get_output(bev);
    if (evbuffer_get_length(output) > 0 || evbuffer_commit_space(output, NULL, 0) != 0) {
        return -EBUSY;
    }
    int result =
        sendq_bev_make_(bufferevent_get_base(bev), (sendq_fd_t)bufferevent_getfd(bev), 0, q, out);
    if (SENDQ_FAILED(result)) {
        return result;
    }
    sendq_bev_t* b = *out;
    bufferevent_incref(bev);
    evbuffer_freeze(output, 0);
    b->bev = bev;
    b->write = write;
    b->write_arg = b;
    size_t low = 0;
    bufferevent_getwatermark(bev, EV_WRITE, &low, NULL);
    b->low = low;
    b->timeout_ms = sendq_bev_ms_(&bev->timeout_write);
    /* Not before the bufferevent: see sendq_bev_on_socket_. */
    event_priority_set(&b->turn, bufferevent_get_priority(bev));
    event_priority_set(&b->socket, bufferevent_get_priority(bev));
    sendq_bev_start_(b);
    return 0;
}

/**
 * Attaches the queue q to the output half of bev, a bufferevent of bufferevent_socket_new(3), or,
 * if <sendq/openssl.h> is included as well, before or after this header, one of
 * bufferevent_openssl_socket_new(3). bev still reads, by its own callbacks, and what it reads, its
 * reading timeout and its watermarks are the host's. Attach at any time: also while bev connects,
 * or before its handshake. Then replace bufferevent_write(bev, ...) by sendq_bev_write(b, ...).
 *
 * Nothing can be appended to the output buffer of bev any more: bufferevent_write and all of its
 * kind return -1. EV_WRITE of bev may be enabled or disabled, and has no effect. A rate limit of
 * bev does not hold for writing; see sendq_set_rate.
 *
 * Callbacks: as long as sendq_bev_setcb sets none, the write and the event callback of bev
 * (bufferevent_setcb) are called where writecb and eventcb of sendq_bev_setcb would be, with the
 * same codes, which are libevent's own: BEV_EVENT_WRITING and BEV_EVENT_ERROR, BEV_EVENT_TIMEOUT,
 * and BEV_EVENT_EOF after sendq_bev_close only. The option BEV_OPT_DEFER_CALLBACKS of bev holds for
 * them. After BEV_EVENT_ERROR, bev with TLS does not read any more. The low watermark and the
 * timeout of bev for writing are taken over now; afterwards see sendq_bev_setwatermark and
 * sendq_bev_set_timeout.
 *
 * The end: give b to sendq_bev_free, and then bev to bufferevent_free. In the other order bev, and
 * with BEV_OPT_CLOSE_ON_FREE its socket, live on until sendq_bev_free. If the last flush left
 * nothing that was refused, bev can write again after sendq_bev_free.
 *
 * TLS. Both halves use the one SSL, on the one thread that runs the loop: bev calls SSL_read and
 * SSL_do_handshake(3), and b calls SSL_write. That is the order of calls that bev would make by
 * itself, because libevent, too, reads while a write is refused; what sendq/openssl.h says of that
 * holds for both. Whichever half goes first continues the handshake, a renegotiation or a
 * KeyUpdate; the other is scheduled after it. Both clear the error queue of OpenSSL before each
 * call. An error that b finds is in that queue (ERR_get_error(3)) during the event callback, unless
 * that is deferred, and not in bufferevent_get_openssl_error. A close_notify of the peer ends only
 * what bev reads. At the end of the output no close_notify is sent, as bufferevent_free sends none:
 * call SSL_shutdown(3) at BEV_EVENT_EOF. libevent's own BIO raises SIGPIPE: ignore it, or call
 * sendq_ssl_set_fd before bufferevent_openssl_socket_new. No other thread may use the SSL; so bev
 * may have BEV_OPT_THREADSAFE, but bufferevent_ssl_renegotiate is for the thread of the loop only.
 * The host must not write to the SSL, and must not give b a higher priority than bev. Link
 * libevent_openssl.
 *
 * -EINVAL: bev, q or out is NULL, or bev has no socket or no event_base yet. -EBUSY: bytes are in
 * the output buffer of bev, of which TLS may have sent a part: wait for the write callback; or bev
 * is attached already. -ENOTSUP: another kind of bufferevent: a filter, a pair, or TLS on top of
 * another bufferevent, whose output buffer would take everything at once, so that nothing would
 * ever be refused: use sendq_flush_with; or TLS without <sendq/openssl.h>. -ENOMEM: out of memory.
 * On failure *out is NULL and nothing has changed.
 */
static inline int sendq_bev_attach_bufferevent(struct bufferevent* bev, sendq_t* q,
                                               sendq_bev_t** out) {
    if (out == NULL) {
        return -EINVAL;
    }
    *out = NULL;
    if (bev == NULL || q == NULL || bufferevent_get_base(bev) == NULL) {
        return -EINVAL;
    }
    int result = sendq_bev_check_plain_(bev, bufferevent_get_base(bev));
    return SENDQ_FAILED(result) ? result : sendq_bev_attach_output_(bev, q, NULL, out);
}

/**
 * Frees b. Unless the queue belongs to the caller, what is queued is discarded and released before
 * this returns. With BEV_OPT_CLOSE_ON_FREE fd is closed. No callback of b is called any more. To
 * send what is queued first, use sendq_bev_close. NULL is ignored.
 */
static inline void sendq_bev_free(sendq_bev_t* b) {
    if (b == NULL || b->q == NULL) {
        return;
    }
    sendq_t* q = b->q;
    sendq_bev_enter_(b);
    b->q = NULL;
    if (b->owns_q) {
        sendq_free(q);
    }
    event_del(&b->turn); /* after what a release may have called */
    event_del(&b->socket);
    if (b->owns_fd) {
        evutil_closesocket((evutil_socket_t)b->fd);
    }
    if (b->bev != NULL) {
        if (!b->refused) {
            evbuffer_unfreeze(bufferevent_get_output(b->bev), 0);
        }
        bufferevent_decref(b->bev);
    }
    sendq_bev_leave_(b);
}

/**
 * Sets the callbacks, and their argument arg. NULL: no callback, or that of the attached
 * bufferevent.
 *
 * writecb: a flush has sent something, and no more bytes are queued than the low watermark of
 * sendq_bev_setwatermark (0 by default: all is sent). A producer that was paused may continue. It
 * is not called after sendq_bev_close.
 *
 * eventcb: the output has ended. It is called once. what is BEV_EVENT_WRITING and one of
 *   BEV_EVENT_ERROR     the connection failed: EVUTIL_SOCKET_ERROR() has the errno
 *   BEV_EVENT_EOF       after sendq_bev_close: all is sent
 *   BEV_EVENT_TIMEOUT   the time of sendq_bev_set_timeout or sendq_bev_close has passed
 * What was queued is discarded and released by then. The host has to free b. ENOMEM may also mean
 * that libevent could not add an event for the socket.
 */
static inline void sendq_bev_setcb(sendq_bev_t* b, sendq_bev_data_cb writecb,
                                   sendq_bev_event_cb eventcb, void* arg) {
    if (b != NULL) {
        b->writecb = writecb;
        b->eventcb = eventcb;
        b->arg = arg;
    }
}

/** The queue, for the other functions of sendq.h. It must not be flushed, closed or freed by
 * them. NULL if b is NULL. */
static inline sendq_t* sendq_bev_get_queue(const sendq_bev_t* b) {
    return b != NULL ? b->q : NULL;
}

/** The socket. -1 if b is NULL. */
static inline sendq_fd_t sendq_bev_getfd(const sendq_bev_t* b) {
    return b != NULL ? b->fd : (sendq_fd_t)-1;
}

/**
 * Takes the result of a function of sendq.h on the queue of b. Schedules a flush if it has the hint
 * SENDQ_WAKE, and returns it without that hint:
 *
 *     sendq_bev_wake(b, sendq_append_buf(sendq_bev_get_queue(b), payload, 0, len));
 */
static inline int sendq_bev_wake(const sendq_bev_t* b, int result) {
    if (b == NULL) {
        return -EINVAL;
    }
    if (SENDQ_FAILED(result) || (result & SENDQ_WAKE) == 0) {
        return result;
    }
    sendq_bev_activate_(b);
    return result & ~SENDQ_WAKE;
}

/**
 * Appends a copy of len bytes: sendq_append.
 *
 * Hint: SENDQ_HIGH: the queue is at or over the high watermark. Pause the producer until writecb.
 * Errors as for sendq_append; -EPIPE also after sendq_bev_close.
 */
static inline int sendq_bev_write(const sendq_bev_t* b, const void* data, size_t len) {
    return sendq_bev_wake(b, sendq_append(sendq_bev_get_queue(b), data, len));
}

/** Appends len bytes without copying them, until release is called, once: sendq_append_ref.
 * Appending no bytes succeeds, and release is called before this returns. Hint and errors as for
 * sendq_bev_write. */
static inline int sendq_bev_write_reference(const sendq_bev_t* b, const void* data, size_t len,
                                            sendq_release_fn release, void* arg) {
    return sendq_bev_wake(b, sendq_append_ref(sendq_bev_get_queue(b), data, len, release, arg));
}

/**
 * Appends a copy of all of buffer, and drains buffer: all or nothing. buffer must not be the output
 * of a bufferevent, which only the bufferevent may drain, and must not have parts of files.
 *
 * Hint and errors as for sendq_bev_write; -EINVAL also if buffer is NULL.
 */
static inline int sendq_bev_write_buffer(const sendq_bev_t* b, struct evbuffer* buffer) {
    enum { FEW = 16 };
    struct evbuffer_iovec few[FEW];
    struct evbuffer_iovec* pieces = few;
    if (b == NULL || buffer == NULL) {
        return -EINVAL;
    }
    evbuffer_lock(buffer);
    ev_ssize_t len = (ev_ssize_t)evbuffer_get_length(buffer);
    int count = evbuffer_peek(buffer, len, NULL, few, FEW);
    if (count > FEW) {
        pieces = (struct evbuffer_iovec*)calloc((size_t)count, sizeof *pieces);
        count = pieces != NULL ? evbuffer_peek(buffer, len, NULL, pieces, count) : -1;
    }
    int result = -ENOMEM;
    if (count >= 0) {
        /* Where struct iovec exists, evbuffer_iovec is defined as it; elsewhere it has the same
         * fields. */
        const void* iov = pieces;
        result = sendq_bev_wake(b, sendq_appendv(b->q, (const struct iovec*)iov, count));
    }
    if (!SENDQ_FAILED(result)) {
        evbuffer_drain(buffer, (size_t)len);
    }
    evbuffer_unlock(buffer);
    if (pieces != few) {
        free(pieces);
    }
    return result;
}

/** Appends what printf(3) would print, as by sendq_bev_write. -EINVAL also if printf(3) would
 * fail. */
SENDQ_BEV_PRINTF_
static inline int sendq_bev_printf(const sendq_bev_t* b, const char* format, ...) {
    char line[512];
    char* text = line;
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (len < 0) {
        return -EINVAL;
    }
    size_t size = (size_t)len + 1;
    if (size > sizeof line && (text = (char*)malloc(size)) == NULL) {
        return -ENOMEM;
    }
    va_start(arguments, format);
    vsnprintf(text, size, format, arguments);
    va_end(arguments);
    int result = sendq_bev_write(b, text, (size_t)len);
    if (text != line) {
        free(text);
    }
    return result;
}

/** Bytes queued. 0 if b is NULL. */
static inline uint64_t sendq_bev_get_length(const sendq_bev_t* b) {
    return sendq_queued_bytes(sendq_bev_get_queue(b));
}

/**
 * Sets the watermarks: writecb is called at low bytes or fewer, writes return SENDQ_HIGH from high
 * bytes on, and -ENOBUFS above max. Results as for sendq_set_watermarks. 0 in high and max means
 * the defaults of sendq_config_t, which also hold before this is called. (A bufferevent does
 * nothing at its high watermark.)
 */
static inline int sendq_bev_setwatermark(sendq_bev_t* b, uint64_t low, uint64_t high,
                                         uint64_t max) {
    int result = sendq_set_watermarks(sendq_bev_get_queue(b), low, high, max);
    if (b != NULL && !SENDQ_FAILED(result)) {
        b->low = low;
    }
    return result;
}

/**
 * Sets for how long the socket may take nothing, or, while the writer waits to read, may receive
 * nothing. Then eventcb is called with BEV_EVENT_TIMEOUT. Time counts only while something is
 * queued for the socket: not while writing is disabled or sendq_set_rate holds back. It starts anew
 * whenever the socket takes bytes; to end a client that takes a little now and then, see
 * sendq_set_min_rate. The timeout is rounded up to milliseconds, and at most some 49 days. NULL or
 * 0: no timeout, which is the default.
 *
 * -EINVAL: b is NULL, or timeout is invalid. -ENOMEM: libevent has no memory. Nothing has changed
 * then.
 */
static inline int sendq_bev_set_timeout(sendq_bev_t* b, const struct timeval* timeout) {
    const struct timeval none = {0, 0};
    timeout = timeout != NULL ? timeout : &none;
    if (b == NULL || timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_usec > 999999) {
        return -EINVAL;
    }
    uint32_t ms = sendq_bev_ms_(timeout);
    if (b->armed != 0) {
        struct timeval wait = sendq_bev_timeval_(ms);
        if ((ms != 0 ? event_add(&b->socket, &wait) : event_remove_timer(&b->socket)) != 0) {
            return -ENOMEM;
        }
    }
    b->timeout_ms = ms;
    return 0;
}

/** Sets the most bytes that one flush sends, so that other connections get their turn. 0:
 * SENDQ_BEV_MAX_SINGLE_WRITE. */
static inline int sendq_bev_set_max_single_write(sendq_bev_t* b, size_t size) {
    if (b == NULL) {
        return -EINVAL;
    }
    b->max_single_write = size != 0 ? size : SENDQ_BEV_MAX_SINGLE_WRITE;
    return 0;
}

/** Sets the priority of its callbacks in the loop: event_priority_set(3). -EINVAL: b is NULL, the
 * priority does not exist, or a flush is due in this turn. */
static inline int sendq_bev_priority_set(sendq_bev_t* b, int priority) {
    if (b == NULL || event_priority_set(&b->turn, priority) != 0 ||
        event_priority_set(&b->socket, priority) != 0) {
        return -EINVAL;
    }
    return 0;
}

/**
 * Moves b to another event_base, as bufferevent_base_set does. An attached bufferevent has to be
 * moved there first, so that one thread runs both: libevent does not move one with TLS.
 *
 * -EINVAL: base or b is NULL, or base is not that of the attached bufferevent. -EBUSY: a flush is
 * due, the socket or a timer is waited for, or a callback of b is running. Nothing has changed
 * then; try again when nothing is queued.
 */
static inline int sendq_bev_base_set(struct event_base* base, sendq_bev_t* b) {
    if (base == NULL || b == NULL || (b->bev != NULL && bufferevent_get_base(b->bev) != base)) {
        return -EINVAL;
    }
    const short any = EV_READ | EV_WRITE | EV_TIMEOUT;
    if (b->calls > 0 || event_pending(&b->turn, any, NULL) ||
        event_pending(&b->socket, any, NULL)) {
        return -EBUSY;
    }
    event_base_set(base, &b->turn);
    event_base_set(base, &b->socket);
    return 0;
}

/**
 * Calls writecb, as bufferevent_trigger does, if iotype has EV_WRITE and no more bytes are queued
 * than the low watermark; other events are ignored. After sendq_bev_close nothing is called.
 * options: BEV_TRIG_IGNORE_WATERMARKS calls writecb whatever is queued; BEV_TRIG_DEFER_CALLBACKS
 * calls it from the loop, once, and not before this returns. -EINVAL: b is NULL.
 */
static inline int sendq_bev_trigger(sendq_bev_t* b, short iotype, int options) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    bool is_low = (options & BEV_TRIG_IGNORE_WATERMARKS) || sendq_queued_bytes(b->q) <= b->low;
    if (!(iotype & EV_WRITE) || !is_low || b->ended || (sendq_state(b->q) & SENDQ_CLOSED)) {
        return 0;
    }
    if (options & BEV_TRIG_DEFER_CALLBACKS) {
        b->triggered = true;
        sendq_bev_activate_(b);
        return 0;
    }
    sendq_bev_enter_(b);
    sendq_bev_call_write_(b);
    sendq_bev_leave_(b);
    return 0;
}

/**
 * Sends through write, with arg, from now on, as sendq_flush_with does: for TLS. While write waits
 * to read, EV_READ is armed, and the flush is repeated after the host's own callback for the
 * socket. A host that reads at other times has to call sendq_bev_flush then. NULL: sends to the
 * socket again. A writer that returns -EINTR is called again every millisecond. If it has to wait
 * longer, disable writing.
 *
 * With sendq/openssl.h, write is sendq_ssl_write and arg is the SSL. To end the connection, call
 * sendq_bev_close, at BEV_EVENT_EOF sendq_bev_free, and then SSL_shutdown(3), which is repeated
 * when the socket is writable as long as it returns SSL_ERROR_WANT_WRITE.
 *
 * -EINVAL: b is NULL, or attached to a bufferevent, whose way of sending it is.
 */
static inline int sendq_bev_set_writer(sendq_bev_t* b, sendq_write_fn write, void* arg) {
    if (b == NULL || b->bev != NULL) {
        return -EINVAL;
    }
    b->write = write;
    b->write_arg = arg;
    return 0;
}

/** Enables writing, if events has EV_WRITE; other events are ignored. Writing is enabled at
 * first. */
static inline int sendq_bev_enable(sendq_bev_t* b, short events) {
    if (b == NULL) {
        return -EINVAL;
    }
    if (events & EV_WRITE) {
        b->enabled = true;
        sendq_bev_activate_(b);
    }
    return 0;
}

/** Disables writing until sendq_bev_enable, if events has EV_WRITE. -EPIPE: after
 * sendq_bev_close, or the end. */
static inline int sendq_bev_disable(sendq_bev_t* b, short events) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    if (sendq_state(b->q) & SENDQ_CLOSED) {
        return -EPIPE;
    }
    if (events & EV_WRITE) {
        b->enabled = false;
        sendq_bev_disarm_(b);
    }
    return 0;
}

/**
 * Flushes now, and returns the result of sendq_flush; 0 without a flush while writing is disabled,
 * and after the end. The host need not act on the hints, because this header does. writecb and
 * eventcb are called later, from the loop. This is for a host that does not want to wait for the
 * turn of the loop, and, after sendq_bev_close, for one that has discarded or rolled back what was
 * queued.
 */
static inline int sendq_bev_flush(sendq_bev_t* b) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    sendq_bev_enter_(b);
    int result = sendq_bev_flush_(b);
    sendq_bev_schedule_report_(b);
    sendq_bev_leave_(b);
    return result;
}

/* Appends and then flushes, for what sendq_send cannot send from where it is. */
static inline int sendq_bev_append_and_flush_(sendq_bev_t* b, const sendq_part_t* parts, int count,
                                              sendq_release_fn release, void* arg) {
    int taken = sendq_append_message(b->q, parts, count, release, arg);
    if (SENDQ_FAILED(taken) || b->q == NULL) {
        return SENDQ_FAILED(taken) ? taken : 0;
    }
    int hints = sendq_bev_flush_(b);
    if (b->q == NULL) {
        return 0;
    }
    if (SENDQ_FAILED(hints)) {
        hints = sendq_error(b->q) != 0 ? SENDQ_CLOSED : SENDQ_MORE;
    }
    return hints | (sendq_state(b->q) & SENDQ_HIGH);
}

/**
 * Sends a message now, and in order: sendq_send, or, with TLS or another writer,
 * sendq_append_message and a flush. What the socket refuses is sent as soon as it is writable, and
 * what is not sent at once because writing is disabled, when that is enabled. For one response at a
 * time; if the same turn of the loop writes more to b, sendq_bev_wake(b, sendq_append_message(...))
 * needs fewer system calls. writecb and eventcb are called later, from the loop.
 *
 * Hints as for sendq_send; the host need act on none but SENDQ_HIGH: pause the producer until
 * writecb. Errors as for sendq_send: the caller still owns its memory. release may free b.
 */
static inline int sendq_bev_send(sendq_bev_t* b, const sendq_part_t* parts, int count,
                                 sendq_release_fn release, void* arg) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    sendq_bev_enter_(b);
    int result;
    if (b->write != NULL || !b->enabled || b->ended || sendq_bev_is_connecting_(b)) {
        result = sendq_bev_append_and_flush_(b, parts, count, release, arg);
    } else {
        uint64_t sent = sendq_sent_bytes(b->q);
        result = sendq_send(b->q, b->fd, parts, count, release, arg, b->max_single_write);
        /* After a refused message what was armed before still holds. */
        if (b->q != NULL && !SENDQ_FAILED(result) && sendq_error(b->q) == 0) {
            b->refused = (result & SENDQ_BLOCKED) != 0;
            sendq_bev_arm_(b, result, sendq_sent_bytes(b->q) != sent);
        }
    }
    sendq_bev_schedule_report_(b);
    sendq_bev_leave_(b);
    return result;
}

/**
 * Ends the output: writes return -EPIPE from now on, and what is queued is flushed. Then eventcb is
 * called with BEV_EVENT_EOF, or with BEV_EVENT_TIMEOUT if that takes longer than timeout_ns
 * nanoseconds, counted from the next turn of the loop. 0: no limit. Disabled writing is enabled. A
 * later call may set another time. Any thread may call this; see "Threads" at the top. If there is
 * no memory for the time, eventcb is called with BEV_EVENT_ERROR and ENOMEM.
 *
 * -EINVAL: b is NULL.
 */
static inline int sendq_bev_close(sendq_bev_t* b, uint64_t timeout_ns) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    /* Without a deadline, which only the thread that flushes can set, this never fails, and
     * releases nothing. */
    int result = sendq_close(b->q);
    SENDQ_BEV_EXCHANGE_(&b->close_ns, timeout_ns != 0 ? timeout_ns : UINT64_MAX);
    sendq_bev_activate_(b);
    return result;
}

#ifdef __cplusplus
}  // extern "C"
#endif

#endif

/* TLS, once both headers are there: openssl.h includes this one again. */
#if defined(SENDQ_OPENSSL_H) && defined(EVENT__HAVE_OPENSSL) && !defined(SENDQ_LIBEVENT_OPENSSL_H_)
#define SENDQ_LIBEVENT_OPENSSL_H_

#include <event2/bufferevent_ssl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The writer of an attached bufferevent with TLS. */
static inline int64_t sendq_bev_ssl_write_(void* arg, const void* data, size_t len) {
    const sendq_bev_t* b = (const sendq_bev_t*)arg;
    SSL* ssl = bufferevent_openssl_get_ssl(b->bev);
    bool was_established = SSL_get_state(ssl) == TLS_ST_OK;
    int64_t result = sendq_ssl_write(ssl, data, len);
    if (!was_established && SSL_get_state(ssl) == TLS_ST_OK) {
        /* This has ended the handshake, which the bufferevent has to notice: it might wait for what
         * was read here. */
        event_active(&b->bev->ev_read, EV_READ, 0);
    }
    return result;
}

/* In place of the function of the same name: that cannot know TLS without the headers of OpenSSL.
 */
static inline int sendq_bev_attach_bufferevent_tls_(struct bufferevent* bev, sendq_t* q,
                                                    sendq_bev_t** out) {
    if (bev == NULL || q == NULL || out == NULL || bufferevent_openssl_get_ssl(bev) == NULL ||
        bufferevent_get_underlying(bev) != NULL) {
        return sendq_bev_attach_bufferevent(bev, q, out);
    }
    *out = NULL;
    return sendq_bev_attach_output_(bev, q, sendq_bev_ssl_write_, out);
}
#define sendq_bev_attach_bufferevent sendq_bev_attach_bufferevent_tls_

#ifdef __cplusplus
}  // extern "C"
#endif

#endif
