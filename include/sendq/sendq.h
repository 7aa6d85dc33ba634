/* sendq: the output half of a connection, for C and C++ servers.
 *
 * A queue holds what one connection has to send; a flush hands it to the socket, in order, with as
 * few system calls as possible.
 *
 *     sendq_t *q;
 *     sendq_new(NULL, NULL, &q);
 *     sendq_append(q, "hello\n", 6);
 *     int r = sendq_flush(q, fd, 0);
 *     if (r < 0)                     the connection is over, with the error -r
 *     else if (r & SENDQ_BLOCKED)    flush again when fd is writable
 *     else if (r & SENDQ_MORE)       flush again soon
 *
 * Results. Functions that return int give a negative errno, or else hints: bits that say what is
 * left for the host to do. No bit set: nothing. Each function lists its own. A NULL handle gives
 * -EINVAL; freeing NULL does nothing. -ENOTRECOVERABLE, from any function, says that a bug in sendq
 * was caught: that one queue is out of use, the process is not.
 *
 * All or nothing. An append that fails has taken nothing.
 *
 * Never in the way. No function waits, raises SIGPIPE, or lets a panic or an exception out.
 *
 * Threads. A queue or pool serves one thread at a time, unless it was made with SENDQ_THREADSAFE:
 * then any thread may append and ask, while one at a time flushes. No lock is held during a system
 * call. Different queues of one thread-safe pool are independent. After a fork, the child may use what
 * no other thread was using at that moment.
 *
 * In an event loop, for each connection that has something to send:
 *
 *     int r = sendq_flush(q, fd, 1 << 20);
 *     watch_for_writable(c, r > 0 && (r & SENDQ_BLOCKED));
 *     if (r < 0) {
 *         drop(c);                                      sendq_free, close
 *     } else if (r & (SENDQ_BLOCKED | SENDQ_MORE)) {
 *         uint64_t wait = sendq_retry_after_ns(q);
 *         if (wait > 0)
 *             call_again_in(c, wait);                   a rate, or a deadline
 *         else if (r & SENDQ_MORE)
 *             call_again_next_turn(c);
 *     }
 *
 * and a timer, since nothing happens on a connection that is stuck, that drops those for which
 * sendq_stalled_ns is too much.
 *
 * This file is generated (build.rs); edit src/capi instead. */


#ifndef SENDQ_SENDQ_H
#define SENDQ_SENDQ_H

#include <stddef.h>
#include <stdint.h>

#define SENDQ_VERSION_MAJOR 0
#define SENDQ_VERSION_MINOR 1
#define SENDQ_VERSION_PATCH 0
#define SENDQ_VERSION \
    (SENDQ_VERSION_MAJOR << 16 | SENDQ_VERSION_MINOR << 8 | SENDQ_VERSION_PATCH)

/* A socket. */
#if defined(_WIN32)
typedef uintptr_t sendq_fd_t;
struct iovec {
    void *iov_base;
    size_t iov_len;
};
#else
#include <sys/types.h>
#include <sys/uio.h>
typedef int sendq_fd_t;
#endif
struct msghdr;


/**
 * Any thread may use it, at the price of a lock per call. Without it, a queue or pool serves one
 * thread at a time, whichever that is, and the host sees to that.
 */
#define SENDQ_THREADSAFE 1

/**
 * Append: the queue was empty. See that a flush gets scheduled.
 */
#define SENDQ_WAKE 1

/**
 * Append: at or over the high watermark. Pause the producer.
 */
#define SENDQ_HIGH 2

/**
 * Flush: bytes remain and the sink takes no more. Wait until it is writable.
 */
#define SENDQ_BLOCKED 4

/**
 * Flush: bytes remain and the budget of the call is spent. Call again soon: nobody will wake you.
 */
#define SENDQ_MORE 8

/**
 * Flush: fell to the low watermark after having been high. The producer may go on.
 */
#define SENDQ_RESUME 16

/**
 * Flush: bytes remain and the writer goes on once its connection is readable (TLS).
 */
#define SENDQ_WANT_READ 32

/**
 * What a sendq_write_fn returns when it cannot go on before the connection is readable: what OpenSSL calls
 * SSL_ERROR_WANT_READ.
 */
#define SENDQ_WRITE_WANT_READ -4096

/**
 * Levels of sendq_set_logger: a bug in sendq was caught.
 */
#define SENDQ_LOG_ERROR 1

/**
 * A connection was given up, or failed for other reasons than its peer's going.
 */
#define SENDQ_LOG_WARN 2

/**
 * A peer went away.
 */
#define SENDQ_LOG_INFO 3

/**
 * Nothing is logged at this level yet.
 */
#define SENDQ_LOG_DEBUG 4

/**
 * Nothing is logged at this level yet.
 */
#define SENDQ_LOG_TRACE 5

/**
 * One payload that many queues send. Any thread may use it, whatever the queues are.
 */
typedef struct sendq_buf_t sendq_buf_t;

/**
 * Memory and a byte budget that many queues share: one per event-loop thread, or one per process.
 */
typedef struct sendq_pool_t sendq_pool_t;

/**
 * One connection's output: what waits, in order.
 */
typedef struct sendq_t sendq_t;

/**
 * A monotonic clock: nanoseconds since whenever. It may be called by any call on the pool's queues,
 * with no lock held, so it must not call these itself. Should it jump back, time stands still until it
 * has caught up. It must not throw.
 */
typedef uint64_t (*sendq_now_fn)(void *arg);

/**
 * How a pool is made. Zero in any field but size means its default.
 */
typedef struct {
    /**
     * sizeof(sendq_pool_config_t): how sendq tells which version the caller was compiled against.
     */
    size_t size;
    /**
     * SENDQ_THREADSAFE, or 0.
     */
    uint32_t flags;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * The budget in bytes: whole chunks, also those that are kept; memory that queues borrow, until its
     * owners are told; shared buffers that were made with this pool. Over it, appends give -ENOBUFS.
     * Default: none.
     */
    uint64_t max_bytes;
    /**
     * Memory that one chunk takes, 256 at least, 48 bytes of it for its header; rounded up to whole
     * pages from 4096 on. Chunks below 4096 come from malloc, whose heap does not always shrink when
     * they are freed; others are mapped, and go back to the system. Default: 4 KiB.
     */
    uint64_t chunk_bytes;
    /**
     * Free chunks are kept for the next append up to this many bytes; what is above is freed at once.
     * A load that stays below it causes no page faults. A pool that has held eight times as much
     * keeps only a 32nd of it, until it holds less than four times as much and needs new chunks.
     * Default: 4 MiB. 1: none is kept.
     */
    uint64_t keep_bytes;
    /**
     * The clock of this pool's queues, for tests and simulations. NULL: the system's coarse monotonic
     * one (clock_gettime(2)), which is exact to some milliseconds.
     */
    sendq_now_fn now;
    /**
     * For now.
     */
    void *now_arg;
} sendq_pool_config_t;

/**
 * The figures of a pool, in bytes. Those of its queues are sums over those that sendq_pool_heaviest
 * looks at.
 */
typedef struct {
    /**
     * How many queues there are.
     */
    uint64_t queues;
    /**
     * How many of them found their socket full, and wait for it.
     */
    uint64_t blocked;
    /**
     * What waits in all of them.
     */
    uint64_t waiting;
    /**
     * The budget; 0: none.
     */
    uint64_t max;
    /**
     * Chunks that queues hold.
     */
    uint64_t used;
    /**
     * Chunks that are kept for the next append.
     */
    uint64_t free;
    /**
     * Borrowed memory, until its owners are told.
     */
    uint64_t pinned;
    /**
     * Shared payloads that were made with this pool and live.
     */
    uint64_t shared;
    /**
     * The most that used, free, pinned and shared ever were together.
     */
    uint64_t peak;
} sendq_pool_stats_t;

/**
 * How a queue is made. Zero in any field but size means its default.
 */
typedef struct {
    /**
     * sizeof(sendq_config_t): how sendq tells which version the caller was compiled against.
     */
    size_t size;
    /**
     * SENDQ_THREADSAFE, or 0. A thread-safe queue wants a thread-safe pool.
     */
    uint32_t flags;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * The host's connection, for sendq_user. sendq does not look at it.
     */
    void *user;
    /**
     * SENDQ_RESUME comes when no more than this many bytes wait. Default: a half of high.
     */
    uint64_t low;
    /**
     * SENDQ_HIGH comes when at least this many bytes wait. Default: 1 MiB, or max if that is less.
     */
    uint64_t high;
    /**
     * No more than this many bytes ever wait: over it, appends give -ENOBUFS. Default: no cap.
     */
    uint64_t max;
    /**
     * Borrowed pieces shorter than this are copied, and released at once: a piece of its own costs
     * the kernel and the host more than a small copy. 1: never. Default: 8192, where borrowing began
     * to win on TCP: with the value warm in the cache at 2 KiB (16 a flush) to 16 KiB (one a flush),
     * with a cold one above 8 KiB.
     */
    uint64_t copy_below;
} sendq_config_t;

/**
 * Tells the owner of borrowed memory, or of a file, that sendq needs it no more: exactly once, on the
 * thread whose call caused it, before that call returns, with no lock held. It may call anything on the
 * same queue, sendq_free included; who is to be told because of such a call is told after it has
 * returned, so that the stack does not grow. When two threads take turns in flushing a thread-safe
 * queue, either may tell what the other has sent. arg, data and len are those of the append (data is
 * NULL for a file or a notification). reason is 0: the bytes have left or were copied; -ECANCELED:
 * discarded by the host; another -errno: the connection has failed with it. It must not throw: an
 * exception ends the process.
 */
typedef void (*sendq_release_fn)(void *arg, const void *data, size_t len, int reason);

/**
 * Takes len bytes at data, for a host with its own way of writing: TLS, say. Returns how many it took, 1
 * or more; -EAGAIN (or 0): none, it is not writable; SENDQ_WRITE_WANT_READ: none, it goes on when it is
 * readable; another -errno: the connection has failed. It runs with no lock held, and may call anything
 * on the same queue; while it runs, sendq_discard and the like give -EBUSY. It must not throw: an
 * exception ends the process.
 */
typedef int64_t (*sendq_write_fn)(void *arg, const void *data, size_t len);

/**
 * The figures of one queue: bytes, counts, and nanoseconds. At any moment copied + borrowed + shared +
 * file = sent + discarded + waiting.
 */
typedef struct {
    /**
     * Bytes appended by copying, ever. What is spliced counts as what it is.
     */
    uint64_t copied;
    /**
     * Bytes appended by sendq_append_ref without being copied, ever.
     */
    uint64_t borrowed;
    /**
     * Bytes appended by sendq_append_buf, ever.
     */
    uint64_t shared;
    /**
     * Bytes appended by sendq_append_file, ever.
     */
    uint64_t file;
    /**
     * Bytes that left, ever.
     */
    uint64_t sent;
    /**
     * Bytes that were dropped: discarded, rolled back, lost with the connection.
     */
    uint64_t discarded;
    /**
     * Bytes that wait now.
     */
    uint64_t waiting;
    /**
     * Memory of others that the queue keeps them from, borrowed and shared: whole pieces, until their
     * owners have been told.
     */
    uint64_t pinned;
    /**
     * Memory of the pool that the queue holds.
     */
    uint64_t allocated;
    /**
     * The most bytes that ever waited.
     */
    uint64_t peak_waiting;
    /**
     * Flushes that had something to send.
     */
    uint64_t flushes;
    /**
     * System calls by which they sent.
     */
    uint64_t system_calls;
    /**
     * System calls that took less than they were given.
     */
    uint64_t short_writes;
    /**
     * How often the socket became full.
     */
    uint64_t blocked;
    /**
     * For how long it was, in all.
     */
    uint64_t blocked_ns;
    /**
     * The pool's clock when bytes last left and others stayed, or when the first of those that wait
     * came.
     */
    uint64_t last_progress_ns;
    /**
     * sendq_stalled_ns.
     */
    uint64_t stalled_ns;
    /**
     * Bytes that the peer's side has acknowledged: what left, without what is in the send buffer of
     * the socket of the last flush (SIOCOUTQ, tcp(7)). True as long as that is open, and all that left went
     * there: not after a splice. 0 where it cannot be told.
     */
    uint64_t acked;
} sendq_stats_t;

/**
 * Is told what sendq logs: one line without an end, NUL-terminated, and valid during the call. q is the
 * queue it is about, alive, or NULL. It runs on the thread whose call caused it, with no lock held,
 * before that call returns, and may call anything, sendq_free(q) included; what that logs in turn is
 * dropped. It must not throw: an exception ends the process.
 */
typedef void (*sendq_log_fn)(void *arg, int level, sendq_t *q, const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version that is linked at run time: major << 16 | minor << 8 | patch. SENDQ_VERSION is the
 * one compiled against; within one major version (before 1.0: one minor) they may differ.
 */
uint32_t sendq_version(void);

/**
 * The same as text, such as "0.1.0". Static memory.
 */
const char *sendq_version_string(void);

/**
 * Makes a pool. config may be NULL: all defaults. On success *out owns it; give it to
 * sendq_pool_free.
 *
 * -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, an unknown flag, a chunk size
 * below 256 bytes, a budget below one chunk, or a number that no memory can have.
 * -E2BIG: the config is of a newer version and asks for what this one does not know, or is over 4 KiB.
 * -ENOMEM. On failure *out is NULL.
 */
int sendq_pool_new(const sendq_pool_config_t *config,
                   sendq_pool_t **out);

/**
 * Gives the pool up. Its queues and shared buffers keep it alive: it goes with the last of them. NULL:
 * nothing.
 */
void sendq_pool_free(sendq_pool_t *pool);

/**
 * The figures of a pool, as much of them as out_size has room for.
 *
 * -EINVAL: pool or out is NULL.
 */
int sendq_pool_stats(const sendq_pool_t *pool, sendq_pool_stats_t *out, size_t out_size);

/**
 * Finds the queues that hold the most: chunks of the pool, and memory that they borrow or share. Fills
 * out with n of them at most, the heaviest first, and returns how many it filled in; queues that hold
 * nothing are left out. A shared buffer weighs in each queue its part among all who hold it. So a host
 * that is over its budget can drop the few that cause it. Looks at everything that waits: not for every
 * append.
 *
 * In a thread-safe pool, queues that are not thread-safe are left out: only their own threads may
 * look at them. And another thread may free what this has found: the host has to prevent that.
 * -EINVAL: pool is NULL, or out is and n is not 0. -ENOMEM.
 */
int sendq_pool_heaviest(const sendq_pool_t *pool,
                        sendq_t **out,
                        size_t n);

/**
 * Makes a queue. pool may be NULL: the process's own, thread-safe and without a budget. config may
 * be NULL: all defaults. On success *out owns the queue; give it to sendq_free.
 *
 * -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, an unknown flag, low above
 * high, high above max, or a thread-safe queue of a pool that is not.
 * -E2BIG: the config is of a newer version and asks for what this one does not know, or is over 4 KiB.
 * -ENOMEM. On failure *out is NULL.
 */
int sendq_new(sendq_pool_t *pool,
              const sendq_config_t *config,
              sendq_t **out);

/**
 * Ends the queue: what waits is discarded and released, all memory goes back to the pool. No other
 * thread may be using it. To send what waits first: sendq_close, and flush until nothing waits.
 * A callback of the queue may free it, and even again when it is told of that. NULL: nothing.
 */
void sendq_free(sendq_t *q);

/**
 * No more appends: they give -EPIPE. What waits is still flushed: when a flush gives no hint, all of it
 * has left, but for what is corked, which goes on waiting for sendq_uncork. A success also on a queue
 * that is closed or has failed.
 *
 * -EINVAL: q is NULL.
 */
int sendq_close(sendq_t *q);

/**
 * sendq_close, for the usual end of a connection: what has not left in timeout_ns nanoseconds is given
 * up. When that time is over, the next sendq_flush, sendq_consume or the like discards what
 * still waits, and fails the connection with -ETIMEDOUT: sendq_retry_after_ns says when to make that
 * call though the socket never becomes writable, and the discarded of sendq_stats how many bytes were
 * lost. A timeout of 0 is over at once. A later call sets another time, even after the first. A success
 * also on a queue where nothing waits, or that has failed.
 *
 * -EINVAL: q is NULL. -ETIMEDOUT: bytes wait, and the timeout is 0. -EBUSY: another thread is
 * flushing it; -ENOMEM: nothing happened.
 */
int sendq_close_within(sendq_t *q,
                       uint64_t timeout_ns);

/**
 * Drops what waits now. The queue can be used on. Reserved memory is not waiting: it stays. A success
 * also on a queue that is closed or has failed.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL. -EBUSY: another thread is flushing it.
 */
int sendq_discard(sendq_t *q);

/**
 * The user pointer of the queue's config. NULL for NULL.
 */
void *sendq_user(const sendq_t *q);

/**
 * Copies len bytes behind what waits: all of them, or none. The caller keeps its memory. Pieces
 * appended one after another leave as one. An empty append to a queue that is open is a success, and
 * data may then be NULL.
 *
 * Hints: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: q is NULL, data is NULL, or len is more than an object can have.
 * -EPIPE: the queue is closed. -ENOBUFS: over max, or over the pool's budget: try again when some of what
 * waits has left, here or, for the budget, in any queue of the pool. -ENOMEM. -EBUSY: memory is
 * reserved, sendq_commit comes first.
 * Another -errno: the connection has failed with it (sendq_error).
 */
int sendq_append(sendq_t *q,
                 const void *data,
                 size_t len);

/**
 * Copies the iovcnt pieces of iov behind what waits, in order, as one append: all or none. Empty
 * pieces are skipped. iovcnt has no upper limit.
 *
 * Hints and errors as for sendq_append; -EINVAL also for a negative iovcnt, a NULL iov that is not
 * empty, and pieces that add up to more than an object can have.
 */
int sendq_appendv(sendq_t *q, const struct iovec *iov, int iovcnt);

/**
 * Borrows len bytes behind what waits, without copying them. They must stay readable and unchanged
 * until release is called with arg, data and len. Fewer than copy_below bytes are copied instead, and
 * released before the call returns. A NULL release means that the memory is immortal, or that the
 * host knows by other means (sendq_notify).
 *
 * Hints and errors as for sendq_append; -EINVAL also for a len of 0. On failure the caller still owns
 * its memory, and release is never called.
 */
int sendq_append_ref(sendq_t *q,
                     const void *data,
                     size_t len,
                     sendq_release_fn release,
                     void *arg);

/**
 * Puts len bytes of the file fd, from offset on, behind what waits, without reading them now:
 * sendfile(2) sends them where it can. The file must stay open, and hold those bytes, until release
 * is called with arg, NULL and len.
 *
 * Hints and errors as for sendq_append; -EINVAL also for a len of 0, and an offset and len that no
 * file has; -EBADF: fd is negative. On failure release is never called. If the file turns out shorter
 * when its turn comes, what was promised of the stream cannot be kept: the connection fails with
 * -EIO; with the error of read(2) if that fails.
 */
int sendq_append_file(sendq_t *q,
                      int fd,
                      uint64_t offset,
                      uint64_t len,
                      sendq_release_fn release,
                      void *arg);

/**
 * Calls function with arg, NULL and 0 once all that waits now has left; at once if nothing waits, unless the
 * queue is corked: then the notification is held back with the rest.
 *
 * Errors as for sendq_append; -EINVAL also for a NULL function. -ENOBUFS also when more than 64 segments
 * wait which take more memory than max. On failure function is never called.
 */
int sendq_notify(sendq_t *q,
                 sendq_release_fn function,
                 void *arg);

/**
 * Moves all that waits in from behind what waits in to, without copying it (up to 1 KiB is copied,
 * so that many small messages share memory). from is empty then, and can be used on; its bytes count
 * as having left it. Who paused its producer lets that go on: no SENDQ_RESUME says so. The queues may
 * have different pools: the memory counts against to's from then on. Splicing from an empty queue is a
 * success.
 *
 * Hints of to: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: a queue is NULL, both are the same, or only one of them is thread-safe. -EPIPE, -ENOBUFS,
 * -EBUSY as for sendq_append to to. -EBUSY also: from has memory reserved, is corked, is being flushed,
 * or has owners yet to be told (in a callback of it).
 * Another -errno: either connection has failed with it. On failure nothing is moved.
 */
int sendq_splice(sendq_t *to,
                 sendq_t *from);

/**
 * What is appended from here on is held back: it waits and counts against every limit, but no flush
 * sees it, until sendq_uncork lets it go or sendq_rollback takes it back. It is the queue that is corked:
 * in a thread-safe one, what other threads append is held back, and taken back, as well.
 *
 * -EINVAL: q is NULL. -EALREADY: it is corked. -EPIPE: closed. -EBUSY: memory is reserved.
 * Another -errno: the connection has failed with it.
 */
int sendq_cork(sendq_t *q);

/**
 * Lets go what was held back, and ends the cork.
 *
 * Hint: SENDQ_WAKE, when nothing but that waits.
 * -EINVAL: q is NULL or not corked. -EBUSY: memory is reserved.
 * Another -errno: the connection has failed with it.
 */
int sendq_uncork(sendq_t *q);

/**
 * Takes back what was appended since sendq_cork, as if it had never been, and ends the cork. What was
 * borrowed of it is released with -ECANCELED before the call returns; the bytes count as discarded.
 *
 * Hint: SENDQ_RESUME. Errors as for sendq_uncork.
 */
int sendq_rollback(sendq_t *q);

/**
 * Lends len contiguous bytes to write a message into, at *out, until sendq_commit. Only what is
 * committed is ever sent. Until then other appends, and another reserve, give -EBUSY; flushing goes
 * on. The memory is the queue's: it stays valid until the commit or sendq_free.
 *
 * Errors as for sendq_append; -EINVAL also for a NULL out and a len of 0. On failure *out is NULL.
 */
int sendq_reserve(sendq_t *q, size_t len, void **out);

/**
 * The first used bytes of what was reserved wait from now on, and the reservation ends. used may be
 * 0: the reservation ends, and nothing was appended.
 *
 * Hints: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: q is NULL, nothing is reserved, or used is more than what is (the reservation stays).
 * -EPIPE, another -errno: the queue is closed, or has failed with it; a reservation ends.
 */
int sendq_commit(sendq_t *q, size_t used);

/**
 * Hands what waits to the connected stream socket fd, oldest first, until it takes no more or max_bytes
 * (0: no budget) are spent. Never waits and never raises SIGPIPE, whatever the socket's mode. What is
 * appended by other threads meanwhile is left for the next call.
 *
 * If nothing waits, fd is not looked at. For a host that filters system calls: it makes send(2) for one
 * piece, sendmsg(2) for several, and for a part of a file sendfile(2), or pread(2) and send(2).
 *
 * No hint but perhaps SENDQ_RESUME: all has left. SENDQ_BLOCKED: the socket is full, flush again when
 * it is writable. SENDQ_MORE: flush again soon. SENDQ_RESUME: what waits has fallen to low.
 * -EINVAL: q is NULL. -EBUSY: another thread is flushing it; nothing happened.
 * Another -errno is the end of the connection, such as -EPIPE or -ECONNRESET (the peer is gone),
 * -EBADF (fd is closed), -ENOTSOCK (fd is no socket): everything that waits has been
 * discarded when the call returns, and later appends and flushes give the same error. A socket that
 * is not connected gives -EPIPE or -ENOTCONN. See send(2).
 */
int sendq_flush(sendq_t *q,
                sendq_fd_t fd,
                size_t max_bytes);

/**
 * sendq_flush by means of write, which is called with arg until all that waited has left, it takes no
 * more, or max_bytes are spent (0: no budget). It is given contiguous bytes, at most 16 KiB at once: the
 * plaintext of one TLS record. Small pieces are gathered into such records, and their owners released
 * when they are copied; a larger piece comes from where it lies; files are read. When write has taken
 * nothing, the next call offers it the same bytes at the same address first, even above max_bytes: what
 * SSL_write(3) wants without SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER. So after that, what waits should not be
 * discarded if the connection is to go on.
 *
 * Hints: as for sendq_flush; SENDQ_WANT_READ in place of SENDQ_BLOCKED, when write asked for it.
 * -EINVAL: q or write is NULL. -EBUSY: another thread is flushing it, or write called this. -ENOMEM:
 * nothing happened. -ECANCELED: write has freed q. Another -errno is the end of the connection, with
 * what write returned (-EIO if it took more than it was given), as for sendq_flush.
 */
int sendq_flush_with(sendq_t *q,
                     sendq_write_fn write,
                     void *arg,
                     size_t max_bytes);

/**
 * Fills up to iovcnt entries of iov with what waits, oldest first, and returns how many were filled:
 * for a host with its own way of writing, which then calls sendq_consume. What was peeked stays
 * where it is until it is consumed, flushed, discarded, freed, or the connection fails; appending does
 * not move it. So a thread-safe queue is peeked by the thread that also flushes. A queue that has failed
 * has nothing to show. Part of a file
 * has no address: the pieces end before it, and at its turn there are none.
 *
 * -EINVAL: q is NULL, iovcnt is negative, or iov is NULL and iovcnt is not 0.
 */
int sendq_peek(const sendq_t *q,
               struct iovec *iov,
               int iovcnt);

/**
 * The host has sent the first bytes bytes that wait by its own means: they are gone, and count as
 * sent.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL, or fewer wait; nothing is consumed. -EBUSY: another thread is flushing it.
 * Another -errno: the connection has failed with it.
 */
int sendq_consume(sendq_t *q, size_t bytes);

/**
 * Bytes that wait now. 0 for NULL.
 */
uint64_t sendq_queued_bytes(const sendq_t *q);

/**
 * Bytes that have left, ever: flushed or consumed. Only grows. 0 for NULL.
 */
uint64_t sendq_sent_bytes(const sendq_t *q);

/**
 * Nanoseconds since the last byte left while bytes waited, by the pool's clock. 0 if none wait, or only
 * corked ones, and for NULL. It measures what leaves, not how much waits, and needs no flush to grow: a
 * host looks at it from a timer, and drops the connections that are stuck. With sendq_set_min_rate, a
 * connection that has been too slow for longer counts as stalled for that long.
 */
uint64_t sendq_stalled_ns(const sendq_t *q);

/**
 * No faster than bytes_per_second from now on; 0: as fast as the socket. Up to burst bytes may leave at
 * once after a pause; 0: what comes in a second. A new rate does not fill the bucket again. Flushes
 * that it holds back give SENDQ_MORE: sendq_retry_after_ns says when the next makes sense. What the
 * host sends by itself (sendq_consume) counts, but is not held back. The pool's clock sets the step:
 * the default one moves every few milliseconds (clock_getres(2), CLOCK_MONOTONIC_COARSE), and a burst
 * that is less than what comes meanwhile is all that leaves meanwhile.
 *
 * -EINVAL: q is NULL. -ENOMEM: nothing is changed.
 */
int sendq_set_rate(sendq_t *q,
                   uint64_t bytes_per_second,
                   uint64_t burst);

/**
 * Slower counts as stalled: when fewer than bytes_per_second times the window have left in window_ns
 * nanoseconds, while bytes waited all the time, sendq_stalled_ns counts from the beginning of that
 * window, until a window comes in which as much has left. So a client that takes a byte a minute is
 * judged like one that takes none: set, say, 1000 bytes a second over 10 s, and drop who is stalled for
 * more than 30 s. The limit should not be below the window. 0: no such floor.
 *
 * What leaves is what the socket takes, and a socket that was full is writable again only when a good
 * part of its send buffer is free: with a buffer of megabytes, a slow reader seems to stand still for
 * long. So choose the window by SO_SNDBUF (socket(7)), or set that; and set no floor above the rate of
 * sendq_set_rate.
 *
 * -EINVAL: q is NULL, or the window is 0 and bytes_per_second is not. -ENOMEM: nothing is changed.
 */
int sendq_set_min_rate(sendq_t *q,
                       uint64_t bytes_per_second,
                       uint64_t window_ns);

/**
 * In how many nanoseconds a flush does something although the socket does not become writable: when
 * the rate (sendq_set_rate) lets go of enough to be worth a call, or the time of sendq_close_within is
 * over, by the pool's clock, which may be a step behind the timer's. For the host's timer. 0 after
 * SENDQ_MORE: at once; 0 after SENDQ_BLOCKED: there is nothing to wait for but the socket. 0 for NULL.
 */
uint64_t sendq_retry_after_ns(const sendq_t *q);

/**
 * 0, or the -errno that ended the connection. -ENOTRECOVERABLE: a bug in sendq was caught here; the
 * queue is out of use, other queues are not. -EINVAL: q is NULL.
 */
int sendq_error(const sendq_t *q);

/**
 * Other watermarks from now on, with 0 for the defaults (see sendq_config_t). What waits stays,
 * also above a new max.
 *
 * Hints: SENDQ_HIGH, when as much waits as the new high or more; else SENDQ_RESUME, when what waits is at
 * or below the new low after having been high.
 * -EINVAL: q is NULL, low above high, or high above max. -ENOMEM: a low that is not a half of high has
 * no room. Then nothing is changed.
 */
int sendq_set_watermarks(sendq_t *q,
                         uint64_t low,
                         uint64_t high,
                         uint64_t max);

/**
 * Makes a payload that many queues can send, by copying len bytes. It counts against the budget of
 * pool, once, however many queues it waits in, until it is gone; NULL: the process's own pool. *out
 * holds it; give it to sendq_buf_unref when no more appends are to come: the queues keep it while they
 * need it. It keeps the pool alive. Made by a thread that may use the pool; after that any thread may
 * use it.
 *
 * -EINVAL: out or data is NULL, or len is 0 or more than an object can have. -ENOBUFS: over the pool's
 * budget. -ENOMEM. On failure *out is NULL.
 */
int sendq_buf_copy(sendq_pool_t *pool,
                   const void *data,
                   size_t len,
                   sendq_buf_t **out);

/**
 * The same without copying: the bytes must stay readable and unchanged until release is called, once,
 * with arg, data, len and reason 0, by whichever thread gives up the last hold. A NULL release means
 * that the memory is immortal.
 *
 * Errors as for sendq_buf_copy; then release is never called.
 */
int sendq_buf_wrap(sendq_pool_t *pool,
                   const void *data,
                   size_t len,
                   sendq_release_fn release,
                   void *arg,
                   sendq_buf_t **out);

/**
 * One hold more, for another owner of the handle. Returns buf. NULL for NULL.
 */
sendq_buf_t *sendq_buf_ref(sendq_buf_t *buf);

/**
 * Gives a hold up. NULL: nothing.
 */
void sendq_buf_unref(sendq_buf_t *buf);

/**
 * Puts len bytes of buf, from offset on, behind what waits, without copying them. The queue holds buf
 * until they have left or were dropped.
 *
 * Hints and errors as for sendq_append; -EINVAL also for a NULL buf, a len of 0, and a range that is
 * not inside the buffer.
 */
int sendq_append_buf(sendq_t *q,
                     sendq_buf_t *buf,
                     size_t offset,
                     size_t len);

/**
 * Stands in for sendmsg(2): the same arguments, the same result, -1 with errno. It takes all bytes of
 * msg or none. What waits is flushed first; if it falls to low by that, no hint says so. If nothing waits
 * then, it writes straight from the caller's memory, and copies only what the socket refused; otherwise it
 * copies everything. A thread-safe queue always copies, and then flushes. What is left waits: see
 * sendq_queued_bytes, and flush when fd is writable. With sendq_set_rate it sends no faster than that.
 *
 * Errors, with nothing taken: EAGAIN: as much waits as the high watermark or more, although a flush was
 * tried. EOPNOTSUPP: a destination, ancillary data, or a flag other than MSG_DONTWAIT, MSG_NOSIGNAL and
 * MSG_MORE, which change nothing. EINVAL: q or msg is NULL, or as for sendq_appendv (sendmsg(2) says
 * EFAULT, and EMSGSIZE above IOV_MAX pieces, of which any number may be here). EPIPE, ENOBUFS,
 * ENOMEM, EBUSY as for sendq_append; ENOBUFS also when msg is larger than max. Other errors end the
 * connection, as for sendq_flush.
 */
ssize_t sendq_sendmsg(sendq_t *q,
                      sendq_fd_t fd,
                      const struct msghdr *msg,
                      int flags);

/**
 * Shadow mode, for a path that is to be replaced: the old one sent the first bytes bytes of iov, and
 * the queue was told the same appends. Were they the next ones here? Yes: they are consumed, as by
 * sendq_consume. No: -EILSEQ, nothing is consumed, and *mismatch_at is the offset in the stream (of
 * which sendq_sent_bytes have left) of the first byte that differs, or that the queue does not have.
 * mismatch_at may be NULL. Parts of files are read and compared, too.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL, as for sendq_appendv, or iov has fewer bytes. -EBUSY: another thread is flushing
 * it. Another -errno: the connection has failed with it, or a file cannot be read: see pread(2); -EIO: it
 * has become shorter.
 */
int sendq_verify(sendq_t *q,
                 const struct iovec *iov,
                 int iovcnt,
                 size_t bytes,
                 uint64_t *mismatch_at);

/**
 * The figures of a queue, as much of them as out_size has room for. Looks at everything that waits: not
 * for every append.
 *
 * -EINVAL: q or out is NULL.
 */
int sendq_stats(const sendq_t *q,
                sendq_stats_t *out,
                size_t out_size);

/**
 * The figures of a queue as one flat JSON object, such as {"error":0,"copied":124,...}: the fields of
 * sendq_stats_t by name, and error as sendq_error has it. With its socket in fd (or -1), also what the
 * kernel tells: so_sndbuf (SO_SNDBUF), outq (SIOCOUTQ: not sent, or not acknowledged), tcp_unacked and
 * tcp_total_retrans (TCP_INFO, in segments); see socket(7) and tcp(7). What fd is not is left out.
 *
 * Like snprintf: writes at most size bytes, a NUL at the end included, and returns how long the whole
 * is without the NUL; so a result of size or more says that it was cut off. A size of 0 writes nothing,
 * and out may then be NULL. 1024 bytes are enough.
 *
 * -EINVAL: q is NULL, or out is and size is not 0.
 */
int sendq_stats_json(const sendq_t *q,
                     sendq_fd_t fd,
                     char *out,
                     size_t size);

/**
 * Has function told, with arg, what sendq logs up to max_level (SENDQ_LOG_ERROR to SENDQ_LOG_TRACE): how
 * connections ended, once each, with figures. Nothing is logged for what goes well. One function per
 * process: another takes its place, and NULL, or a max_level of 0, ends it. A call of the old one that
 * is under way on another thread may still go on when this returns.
 *
 * -EINVAL: max_level is below 0 or above SENDQ_LOG_TRACE. -EALREADY: the process has a logger of
 * Rust's log crate, to which the records go.
 */
int sendq_set_logger(sendq_log_fn function,
                     void *arg,
                     int max_level);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SENDQ_SENDQ_H */
