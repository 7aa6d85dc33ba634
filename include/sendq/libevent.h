/* sendq in a libevent host (2.1 or later), in C11 or C++17: a queue that flushes itself, with the
 * verbs of a bufferevent's output half. Header-only: sendq itself does not link libevent.
 *
 *     sendq_bev_t *b;
 *     sendq_bev_new(base, fd, 0, NULL, NULL, &b);
 *     sendq_bev_setcb(b, on_drained, on_end, connection);
 *     sendq_bev_write(b, "hello\n", 6);                  leaves in this turn of the loop
 *
 * From bufferevents. Reading stays with the host: in an event of its own, or in the bufferevent
 * that it has, of which only the output is left unused.
 *
 *     bufferevent_socket_new                       sendq_bev_new, sendq_bev_attach
 *     bufferevent_setcb(bev, r, w, e, arg)         sendq_bev_setcb(b, w, e, arg)
 *     bufferevent_write, bufferevent_write_buffer  sendq_bev_write, sendq_bev_write_buffer
 *     bufferevent_get_output, and then
 *         evbuffer_add_printf                      sendq_bev_printf
 *         evbuffer_add_reference                   sendq_bev_write_reference
 *         evbuffer_get_length                      sendq_bev_get_length
 *         anything else                            sendq_bev_wake(b, a call of sendq.h)
 *     bufferevent_setwatermark, of EV_WRITE        sendq_bev_setwatermark
 *     bufferevent_enable, bufferevent_disable      sendq_bev_enable, sendq_bev_disable
 *     bufferevent_set_max_single_write             sendq_bev_set_max_single_write
 *     bufferevent_priority_set, bufferevent_getfd  sendq_bev_priority_set, sendq_bev_getfd
 *     bufferevent_free                             sendq_bev_free: discards what waits, as there
 *     free in the write callback, once drained     sendq_bev_close, and free in the event callback
 *     bufferevent_set_timeouts(bev, r, w)          sendq_bev_set_timeout(b, w)
 *
 * When it flushes. The first byte that waits activates an event, so that the flush comes after the
 * callbacks that are active in this turn of the loop: whatever they write leaves with one send(2),
 * and nothing is armed. EV_WRITE is armed only while the socket is full. A connection with more to
 * send than the budget of one flush, or whose write callback writes again, comes back in the next
 * turn, behind the others. A rate (sendq_set_rate) and a deadline (sendq_bev_close) arm a timer. So
 * if bytes wait, something is armed, unless writing is disabled, or they are corked.
 *
 * Callbacks come from the event loop only, never from inside a call, and may do anything,
 * sendq_bev_free included, but throw. So may the release of a reference, but for freeing b from
 * inside the very sendq_bev_write_reference that it was given to.
 *
 * Threads. All calls on b belong to the thread that runs the loop, or to any while none does; but
 * with a queue that is SENDQ_THREADSAFE and a base made after evthread_use_pthreads(3), any thread
 * may call sendq_bev_write, sendq_bev_write_reference, sendq_bev_write_buffer, sendq_bev_printf,
 * sendq_bev_wake, sendq_bev_get_queue and sendq_bev_get_length, as long as b lives: the host sees
 * to that.
 *
 * Results are those of sendq.h: negative is -errno; 0 or hints. The hint SENDQ_WAKE is seen to here
 * and never returned. NULL gives -EINVAL. */
#ifndef SENDQ_LIBEVENT_H
#define SENDQ_LIBEVENT_H

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <sendq/sendq.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SENDQ_BEV_PRINTF_ __attribute__((format(printf, 2, 3)))
#else
#define SENDQ_BEV_PRINTF_
#endif

/** What one flush sends at most, by default. */
#define SENDQ_BEV_MAX_SINGLE_WRITE ((size_t)1 << 20)

/** The output half of a connection in an event loop. */
typedef struct sendq_bev_t sendq_bev_t;

/** As bufferevent_data_cb: see sendq_bev_setcb. */
typedef void (*sendq_bev_data_cb)(sendq_bev_t* b, void* arg);

/** As bufferevent_event_cb: see sendq_bev_setcb. */
typedef void (*sendq_bev_event_cb)(sendq_bev_t* b, short what, void* arg);

/** Its fields are private. Both events lie behind it, in the same allocation: only libevent knows
 * their size. */
struct sendq_bev_t {
    sendq_t* q;         /* NULL: freed, and the outermost call frees the rest */
    struct event* turn; /* flushes: activated to do it in this turn of the loop, added for later */
    struct event* socket; /* waits for what `armed` says, and activates `turn` */
    sendq_bev_data_cb writecb;
    sendq_bev_event_cb eventcb;
    void* arg;
    sendq_write_fn write; /* NULL: the socket takes the bytes */
    void* write_arg;
    uint64_t low;  /* writecb comes when no more than this waits */
    uint64_t told; /* of sendq_sent_bytes, when writecb was last considered */
    size_t max_single_write;
    sendq_fd_t fd;
    unsigned calls;      /* that may call back, on the stack */
    uint32_t timeout_ms; /* that the socket may take nothing for; 0: as long as it likes */
    short armed;         /* EV_WRITE, EV_READ or 0 */
    short error;         /* an errno: libevent would not arm an event; ETIMEDOUT: it was late */
    bool owns_fd;
    bool owns_q;
    bool enabled;
    bool closing;
    bool has_deadline;
    bool late;  /* armed for timeout_ms, and nothing has left since */
    bool ended; /* eventcb was told how */
};

enum {
    /* The clocks of both libraries are not exact to more than milliseconds. */
    SENDQ_BEV_NS_PER_MS_ = 1000 * 1000,
    /* Before a flush is tried again that could do nothing: another call was in the way, memory was
     * short, or a writer says that it was interrupted. */
    SENDQ_BEV_PAUSE_MS_ = 1,
    SENDQ_BEV_LONGEST_WAIT_MS_ = 24 * 60 * 60 * 1000
};

static inline void sendq_bev_enter_(sendq_bev_t* b) {
    b->calls++;
}

static inline void sendq_bev_leave_(sendq_bev_t* b) {
    if (--b->calls == 0 && b->q == NULL) {
        event_debug_unassign(b->turn);
        event_debug_unassign(b->socket);
        free(b);
    }
}

/* From any thread. As EV_WRITE, since event_add takes an EV_TIMEOUT back that is due, and not this.
 */
static inline void sendq_bev_activate_(const sendq_bev_t* b) {
    event_active(b->turn, EV_WRITE, 0);
}

static inline void sendq_bev_on_socket_(evutil_socket_t fd, short what, void* arg) {
    sendq_bev_t* b = (sendq_bev_t*)arg;
    (void)fd;
    b->late = (what & EV_TIMEOUT) != 0;
    /* Behind the host's callbacks for the same socket: what they write leaves together with what
     * waits, and with TLS what they read is what the writer waits for. */
    sendq_bev_activate_(b);
}

static inline struct timeval sendq_bev_timeval_(uint64_t ms) {
    struct timeval time;
    time.tv_sec = (long)(ms / 1000);
    time.tv_usec = (long)(ms % 1000 * 1000);
    return time;
}

static inline int sendq_bev_wait_for_(sendq_bev_t* b, short what) {
    if (b->armed == what) {
        return 0;
    }
    if (b->armed != 0) {
        event_del(b->socket);
    }
    b->armed = what;
    b->late = false;
    if (what == 0) {
        return 0;
    }
    struct timeval timeout = sendq_bev_timeval_(b->timeout_ms);
    int priority = event_get_priority(b->socket);
    event_assign(b->socket, event_get_base(b->turn), (evutil_socket_t)b->fd,
                 (short)(what | EV_PERSIST), sendq_bev_on_socket_, b);
    event_priority_set(b->socket, priority);
    return event_add(b->socket, b->timeout_ms != 0 ? &timeout : NULL);
}

/* A timer of 0 fires in the next turn, after the sockets. */
static inline int sendq_bev_wait_ms_(sendq_bev_t* b, uint64_t ms) {
    if (ms > SENDQ_BEV_LONGEST_WAIT_MS_) {
        ms = SENDQ_BEV_LONGEST_WAIT_MS_;
    }
    struct timeval wait = sendq_bev_timeval_(ms);
    return event_add(b->turn, &wait);
}

/* Leaves `turn` active, if another thread has activated it. */
static inline void sendq_bev_disarm_(sendq_bev_t* b) {
    sendq_bev_wait_for_(b, 0);
    event_remove_timer(b->turn);
}

/* Sees that what `flushed` says is left to do gets done. */
static inline void sendq_bev_arm_(sendq_bev_t* b, int flushed, bool progressed) {
    if (flushed < 0) {
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
    }
    uint64_t retry = sendq_retry_after_ns(b->q);
    uint64_t wait_ms = retry / SENDQ_BEV_NS_PER_MS_ + (retry % SENDQ_BEV_NS_PER_MS_ != 0);
    if (retry == 0 && !progressed) {
        wait_ms = SENDQ_BEV_PAUSE_MS_;
    }
    int failed = sendq_bev_wait_for_(b, what);
    if (retry > 0 || flushed & SENDQ_MORE) {
        failed |= sendq_bev_wait_ms_(b, wait_ms);
    } else {
        event_remove_timer(b->turn);
    }
    if (failed != 0) {
        b->error = ENOMEM;
    }
}

/* An attached queue, and its flush, outlive a b that the writer has freed. */
static inline int64_t sendq_bev_write_by_(void* arg, const void* data, size_t len) {
    const sendq_bev_t* b = (const sendq_bev_t*)arg;
    return b->q != NULL && b->write != NULL ? b->write(b->write_arg, data, len) : -EAGAIN;
}

/* b may have been freed when this returns. */
static inline int sendq_bev_send_(sendq_bev_t* b) {
    if (!b->enabled || b->ended) {
        return 0;
    }
    uint64_t sent = sendq_sent_bytes(b->q);
    int result = b->write != NULL
                     ? sendq_flush_with(b->q, sendq_bev_write_by_, b, b->max_single_write)
                     : sendq_flush(b->q, b->fd, b->max_single_write);
    if (b->q != NULL) {
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
    return sendq_sent_bytes(b->q) != b->told && sendq_queued_bytes(b->q) <= b->low;
}

static inline void sendq_bev_end_(sendq_bev_t* b, int what, int error) {
    b->ended = true;
    sendq_bev_disarm_(b);
    sendq_close(b->q);
    sendq_discard(b->q);
    if (b->q != NULL && b->eventcb != NULL) {
        EVUTIL_SET_SOCKET_ERROR(error);
        b->eventcb(b, (short)(what | BEV_EVENT_WRITING), b->arg);
    }
}

static inline void sendq_bev_report_(sendq_bev_t* b) {
    if (sendq_bev_error_(b) == 0) {
        bool progressed = sendq_bev_has_progressed_(b);
        b->told = sendq_sent_bytes(b->q);
        if (progressed && !b->closing && b->writecb != NULL) {
            b->writecb(b, b->arg);
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

static inline void sendq_bev_on_turn_(evutil_socket_t fd, short what, void* arg) {
    (void)fd;
    (void)what;
    sendq_bev_t* b = (sendq_bev_t*)arg;
    sendq_bev_enter_(b);
    if (!b->ended) {
        sendq_bev_send_(b);
        if (b->q != NULL) {
            if (b->late && b->error == 0) {
                b->error = ETIMEDOUT;
            }
            sendq_bev_report_(b);
        }
    }
    /* What a callback, or another thread, has written meanwhile would be flushed in this very turn,
     * and so on, as long as the peer is fast enough: nobody else would get one. */
    if (b->q != NULL && event_pending(b->turn, EV_WRITE, NULL) != 0) {
        event_del(b->turn);
        if (sendq_bev_wait_ms_(b, 0) != 0) {
            sendq_bev_activate_(b);
        }
    }
    sendq_bev_leave_(b);
}

/**
 * Attaches the queue q to the connected stream socket fd, in whatever mode that is (but
 * event_enable_debug_mode(3) has libevent insist on a non-blocking one). options:
 * BEV_OPT_CLOSE_ON_FREE, so that sendq_bev_free closes fd, or 0. Give *out to sendq_bev_free before
 * base and q are freed and fd is closed: q stays the caller's, with what waits. One that is closed
 * already wants sendq_bev_close, too.
 *
 * -EINVAL: a NULL, fd is none, or another option. -ENOMEM. Then *out is NULL.
 */
static inline int sendq_bev_attach(struct event_base* base, sendq_fd_t fd, int options, sendq_t* q,
                                   sendq_bev_t** out) {
    if (out == NULL) {
        return -EINVAL;
    }
    *out = NULL;
    if (base == NULL || q == NULL || (evutil_socket_t)fd < 0 ||
        (options & ~BEV_OPT_CLOSE_ON_FREE) != 0) {
        return -EINVAL;
    }
    size_t event_size = event_get_struct_event_size();
    sendq_bev_t* b = (sendq_bev_t*)calloc(1, sizeof *b + 2 * event_size);
    if (b == NULL) {
        return -ENOMEM;
    }
    b->q = q;
    void* events = b + 1;
    b->turn = (struct event*)events;
    b->socket = (struct event*)(void*)((char*)events + event_size);
    event_assign(b->turn, base, -1, 0, sendq_bev_on_turn_, b);
    event_assign(b->socket, base, (evutil_socket_t)fd, EV_WRITE, sendq_bev_on_socket_, b);
    b->max_single_write = SENDQ_BEV_MAX_SINGLE_WRITE;
    b->fd = fd;
    b->owns_fd = (options & BEV_OPT_CLOSE_ON_FREE) != 0;
    b->enabled = true;
    *out = b;
    b->told = sendq_sent_bytes(q);
    if (sendq_queued_bytes(q) > 0 || sendq_error(q) != 0) {
        sendq_bev_activate_(b);
    }
    return 0;
}

/**
 * Attaches a new queue, made with pool and config as by sendq_new, which sendq_bev_free frees.
 *
 * As for sendq_bev_attach, and for sendq_new. On failure fd is still the caller's.
 */
static inline int sendq_bev_new(struct event_base* base, sendq_fd_t fd, int options,
                                sendq_pool_t* pool, const sendq_config_t* config,
                                sendq_bev_t** out) {
    sendq_t* q = NULL;
    int result = sendq_new(pool, config, &q);
    if (result >= 0) {
        result = sendq_bev_attach(base, fd, options, q, out);
    } else if (out != NULL) {
        *out = NULL;
    }
    if (result < 0) {
        sendq_free(q);
        return result;
    }
    (*out)->owns_q = true;
    return result;
}

/**
 * Ends it: what waits is discarded and released before this returns, unless the queue is the
 * caller's, and with BEV_OPT_CLOSE_ON_FREE fd is closed. No callback comes any more. To send what
 * waits first: sendq_bev_close. NULL: nothing.
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
    event_del(b->turn); /* after what a release may have called */
    event_del(b->socket);
    if (b->owns_fd) {
        evutil_closesocket((evutil_socket_t)b->fd);
    }
    sendq_bev_leave_(b);
}

/**
 * Sets who is called, each with arg; NULL: nobody.
 *
 * writecb: a flush has sent something, and no more than the low watermark of sendq_bev_setwatermark
 * waits now (0 by default: all has left). A producer that has paused goes
 * on. It does not come after sendq_bev_close.
 *
 * eventcb: the end of the output, once. what is BEV_EVENT_WRITING and one of
 *   BEV_EVENT_ERROR     the connection failed: EVUTIL_SOCKET_ERROR() has the errno
 *   BEV_EVENT_EOF       after sendq_bev_close: all has left
 *   BEV_EVENT_TIMEOUT   the time of sendq_bev_set_timeout or sendq_bev_close is over
 * What waited has been discarded and released. The host then frees b. The error ENOMEM may also
 * mean that libevent could not wait for the socket.
 */
static inline void sendq_bev_setcb(sendq_bev_t* b, sendq_bev_data_cb writecb,
                                   sendq_bev_event_cb eventcb, void* arg) {
    if (b != NULL) {
        b->writecb = writecb;
        b->eventcb = eventcb;
        b->arg = arg;
    }
}

/** The queue, for the other functions of sendq.h, but not to flush, close or free it. NULL for
 * NULL. */
static inline sendq_t* sendq_bev_get_queue(const sendq_bev_t* b) {
    return b != NULL ? b->q : NULL;
}

/** The socket. -1 for NULL. */
static inline sendq_fd_t sendq_bev_getfd(const sendq_bev_t* b) {
    return b != NULL ? b->fd : (sendq_fd_t)-1;
}

/**
 * Schedules a flush if result, which a function of sendq.h gave for the queue of b, has the hint
 * SENDQ_WAKE, and returns result without it:
 *
 *     sendq_bev_wake(b, sendq_append_buf(sendq_bev_get_queue(b), payload, 0, len));
 */
static inline int sendq_bev_wake(const sendq_bev_t* b, int result) {
    if (b == NULL) {
        return -EINVAL;
    }
    if (result <= 0 || (result & SENDQ_WAKE) == 0) {
        return result;
    }
    sendq_bev_activate_(b);
    return result & ~SENDQ_WAKE;
}

/**
 * Copies len bytes behind what waits: sendq_append.
 *
 * Hint: SENDQ_HIGH: as much waits as the high watermark or more. Pause the producer until writecb.
 * Errors as for sendq_append; -EPIPE also after sendq_bev_close.
 */
static inline int sendq_bev_write(const sendq_bev_t* b, const void* data, size_t len) {
    return sendq_bev_wake(b, sendq_append(sendq_bev_get_queue(b), data, len));
}

/** Borrows len bytes behind what waits, until release is called, once: sendq_append_ref. Hint as
 * above. */
static inline int sendq_bev_write_reference(const sendq_bev_t* b, const void* data, size_t len,
                                            sendq_release_fn release, void* arg) {
    return sendq_bev_wake(b, sendq_append_ref(sendq_bev_get_queue(b), data, len, release, arg));
}

/**
 * Moves all of buffer behind what waits, by copying it, or nothing. Not from the output of a
 * bufferevent, of which only that may take, and not the parts of files.
 *
 * Hint and errors as for sendq_bev_write; -EINVAL also for a NULL buffer.
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
        /* The same struct, where there is iovec; where there is not, libevent's has the same
         * fields. */
        const void* iov = pieces;
        result = sendq_bev_wake(b, sendq_appendv(b->q, (const struct iovec*)iov, count));
    }
    if (result >= 0) {
        evbuffer_drain(buffer, (size_t)len);
    }
    evbuffer_unlock(buffer);
    if (pieces != few) {
        free(pieces);
    }
    return result;
}

/** sendq_bev_write of what printf(3) would print. -EINVAL also for what it could not. */
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

/** Bytes that wait now. 0 for NULL. */
static inline uint64_t sendq_bev_get_length(const sendq_bev_t* b) {
    return sendq_queued_bytes(sendq_bev_get_queue(b));
}

/**
 * From now on writecb comes at low bytes or fewer, and writes say SENDQ_HIGH from high bytes on,
 * and give -ENOBUFS above max: sendq_set_watermarks, with the same results. 0 in high and max: the
 * defaults of sendq_config_t, which hold before. (A bufferevent does nothing at its high
 * watermark.)
 */
static inline int sendq_bev_setwatermark(sendq_bev_t* b, uint64_t low, uint64_t high,
                                         uint64_t max) {
    int result = sendq_set_watermarks(sendq_bev_get_queue(b), low, high, max);
    if (b != NULL && result >= 0) {
        b->low = low;
    }
    return result;
}

/**
 * The socket may take nothing for so long, or, with a writer that wants to read, nothing may come:
 * then eventcb hears BEV_EVENT_TIMEOUT. Time counts while something waits for the socket: not while
 * nothing does, writing is disabled, or sendq_set_rate holds back. Whenever the socket takes more,
 * it starts anew: to end who takes a little now and then, see sendq_set_min_rate. It counts in
 * milliseconds, rounded up, to some 49 days. NULL or 0: as long as it takes, as in the beginning.
 *
 * -EINVAL: b is NULL, or this is no time. -ENOMEM: of libevent. Nothing has changed then.
 */
static inline int sendq_bev_set_timeout(sendq_bev_t* b, const struct timeval* timeout) {
    const struct timeval none = {0, 0};
    timeout = timeout != NULL ? timeout : &none;
    if (b == NULL || timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_usec > 999999) {
        return -EINVAL;
    }
    uint64_t s = (uint64_t)timeout->tv_sec;
    uint64_t ms =
        (s < UINT32_MAX ? s : UINT32_MAX) * 1000 + ((uint64_t)timeout->tv_usec + 999) / 1000;
    ms = ms < UINT32_MAX ? ms : UINT32_MAX;
    if (b->armed != 0) {
        struct timeval wait = sendq_bev_timeval_(ms);
        if ((ms != 0 ? event_add(b->socket, &wait) : event_remove_timer(b->socket)) != 0) {
            return -ENOMEM;
        }
    }
    b->timeout_ms = (uint32_t)ms;
    return 0;
}

/** What one flush sends at most, so that others get their turn; 0: SENDQ_BEV_MAX_SINGLE_WRITE. */
static inline int sendq_bev_set_max_single_write(sendq_bev_t* b, size_t size) {
    if (b == NULL) {
        return -EINVAL;
    }
    b->max_single_write = size != 0 ? size : SENDQ_BEV_MAX_SINGLE_WRITE;
    return 0;
}

/** The priority of its callbacks in the loop: event_priority_set(3). -EINVAL: b is NULL, there is
 * no such priority, or a flush is due in this turn. */
static inline int sendq_bev_priority_set(sendq_bev_t* b, int priority) {
    if (b == NULL || event_priority_set(b->turn, priority) != 0 ||
        event_priority_set(b->socket, priority) != 0) {
        return -EINVAL;
    }
    return 0;
}

/**
 * Writes by means of write, with arg, from now on: sendq_flush_with, for TLS. While it wants to
 * read, EV_READ is armed, and what it waits for is tried after the host's own callback for the
 * socket; a host that reads at other times calls sendq_bev_flush then. NULL: by the socket again. A
 * writer that gives -EINTR is asked again every millisecond: for what takes longer, disable.
 *
 * With sendq/openssl.h that is sendq_ssl_write and the SSL. The end: sendq_bev_close, and at
 * BEV_EVENT_EOF sendq_bev_free, and then SSL_shutdown(3), again when the socket is writable as long
 * as that wants to write.
 */
static inline int sendq_bev_set_writer(sendq_bev_t* b, sendq_write_fn write, void* arg) {
    if (b == NULL) {
        return -EINVAL;
    }
    b->write = write;
    b->write_arg = arg;
    return 0;
}

/** Writing goes on, if events has EV_WRITE: the rest of events is not looked at. It does from the
 * beginning. */
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

/** Nothing is sent until sendq_bev_enable, if events has EV_WRITE. -EPIPE: after sendq_bev_close.
 */
static inline int sendq_bev_disable(sendq_bev_t* b, short events) {
    if (b == NULL) {
        return -EINVAL;
    }
    if (b->closing) {
        return -EPIPE;
    }
    if (events & EV_WRITE) {
        b->enabled = false;
        sendq_bev_disarm_(b);
    }
    return 0;
}

/**
 * Sends now what the socket takes, and returns what sendq_flush does; 0 without a flush while
 * writing is disabled, and after the end. What remains needs nothing of the host: its hints are
 * seen to. writecb and eventcb come later, from the loop. For a host that will not wait for the
 * turn of the loop, and, after sendq_bev_close, for one that has discarded or rolled back what
 * waited.
 */
static inline int sendq_bev_flush(sendq_bev_t* b) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    sendq_bev_enter_(b);
    int result = sendq_bev_send_(b);
    if (b->q != NULL &&
        (sendq_bev_error_(b) != 0 || sendq_bev_has_progressed_(b) || sendq_bev_has_drained_(b))) {
        sendq_bev_activate_(b);
    }
    sendq_bev_leave_(b);
    return result;
}

/**
 * No more writes (-EPIPE): what waits is flushed, and eventcb then hears BEV_EVENT_EOF; or
 * BEV_EVENT_TIMEOUT, if that takes longer than timeout_ns nanoseconds. 0: as long as it takes.
 * Writing that was disabled goes on. A later call may set another time.
 *
 * -EINVAL: b is NULL. -EBUSY, -ENOMEM: nothing happened: see sendq_close_within.
 */
static inline int sendq_bev_close(sendq_bev_t* b, uint64_t timeout_ns) {
    if (b == NULL || b->q == NULL) {
        return -EINVAL;
    }
    sendq_bev_enter_(b);
    if (timeout_ns == 0 && b->has_deadline) {
        timeout_ns = UINT64_MAX;
    }
    int result = timeout_ns != 0 ? sendq_close_within(b->q, timeout_ns) : sendq_close(b->q);
    if (b->q != NULL && result >= 0) {
        b->closing = true;
        b->has_deadline |= timeout_ns != 0;
        b->enabled = true;
        sendq_bev_activate_(b);
    }
    sendq_bev_leave_(b);
    return result;
}

#ifdef __cplusplus
}  // extern "C"
#endif

#endif
