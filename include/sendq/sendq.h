/* sendq: the output half of a connection, for C and C++ servers.
 *
 * A queue holds the bytes that one connection has to send. A flush hands them to the socket, in order, with
 * as few system calls as possible.
 *
 *     sendq_t *q;
 *     sendq_new(NULL, NULL, &q);
 *     sendq_append(q, "hello\n", 6);
 *     int r = sendq_flush(q, fd, 0);
 *     if (SENDQ_FAILED(r))           the connection is over, with the error -r
 *     else if (r & SENDQ_BLOCKED)    flush again when fd is writable
 *     else if (r & SENDQ_MORE)       flush again soon
 *
 * Contents. Most hosts need ten calls:
 *
 *     sendq_pool_new, sendq_pool_free    memory and a byte budget; one pool for each event-loop thread
 *     sendq_new, sendq_free              a queue for each connection
 *     sendq_append                       bytes to copy
 *     sendq_append_message               a response: parts to copy, to borrow, to share, of files
 *     sendq_flush                        sends what is queued
 *     sendq_send                         sends a message: the two calls above in one
 *     sendq_pool_next                    the queues to flush at the end of a turn of the event loop
 *     sendq_stalled_ns                   for how long a client has been stuck
 *
 * The others, by theme and in the order of this file:
 *
 *     library     sendq_version, sendq_version_string, sendq_set_logger
 *     pools       sendq_pool_stats, sendq_pool_bytes, sendq_pool_heaviest, sendq_pool_stalled,
 *                 sendq_pool_retry_after_ns, sendq_pool_set_rate, sendq_schedule
 *     queues      sendq_close, sendq_close_within, sendq_discard, sendq_reset, sendq_fail, sendq_user
 *     appends     sendq_appendv, sendq_append_ref, sendq_append_buf, sendq_append_file, sendq_notify,
 *                 sendq_reserve, sendq_commit, sendq_cork, sendq_uncork, sendq_rollback, sendq_splice,
 *                 sendq_splice_n
 *     messages    sendq_part_copy and other parts, sendq_end_message, sendq_discard_unstarted,
 *                 sendq_queued_messages, sendq_sent_messages, sendq_hole, sendq_fill, sendq_peek_parts
 *     sharing     sendq_buf_copy, sendq_buf_wrap, sendq_buf_ref, sendq_buf_unref
 *     flushes     sendq_flush_with, sendq_peek, sendq_consume, sendq_reap, sendq_pool_reap
 *     state       sendq_queued_bytes, sendq_queued_memory, sendq_memory, sendq_room, sendq_sent_bytes,
 *                 sendq_state, sendq_error, sendq_retry_after_ns, sendq_set_watermarks, sendq_set_rate,
 *                 sendq_set_min_rate, sendq_stats, sendq_stats_json
 *     migration   sendq_sendmsg, sendq_verify
 *
 * Words. Bytes are queued from their append until they are sent or discarded. A piece is a contiguous range of
 * bytes that was appended. Borrowed memory has an owner in the host; a release callback tells the owner that
 * sendq does not need the memory any more. A message is what the host counts, such as a response: some pieces, with
 * one owner and one boundary behind them. A pool holds memory, in blocks, and a byte budget for many queues.
 *
 * Results. A function that returns int returns a negative errno if it fails. Otherwise it returns hints: bits
 * that say what the host has to do next. 0 means nothing. Each function lists its hints and errors. A NULL
 * handle gives -EINVAL, and freeing NULL does nothing. Any function may return -ENOTRECOVERABLE: a bug in
 * sendq was caught. Then this one queue cannot be used any more, but the process and all other queues can.
 *
 * All or nothing. An append that fails has taken nothing, and the caller still owns its memory. An append of
 * no bytes succeeds on an open queue, and its owner is released before the call returns.
 *
 * No function blocks, raises SIGPIPE, or lets a panic or an exception out.
 *
 * Callbacks. A release, write, wake or log callback runs on the thread whose call caused it, before that call
 * returns, with no lock held. It may call any function on any queue that its thread may use, sendq_free on
 * the same queue included. It must not throw: an exception ends the process.
 *
 * Threads. A queue or pool serves one thread at a time, unless it was made with SENDQ_THREADSAFE. Then any
 * thread may append and read the state, and one thread at a time may flush. No lock is held during a system
 * call or a callback. Different queues of one thread-safe pool are independent. After a fork, the child may
 * use the queues and pools that no other thread was using at that moment. In a debug build of sendq (cmake's
 * Debug, cargo's dev profile), a call on a queue or pool without SENDQ_THREADSAFE ends the process by abort(3) while
 * another thread is in a call on it, its system calls and callbacks included. The message on standard error, which
 * the logger gets, too, names the function and both threads. Queues of a pool without SENDQ_THREADSAFE are used by
 * one thread at a time all together.
 *
 * In an event loop, for each connection that has something to send:
 *
 *     int r = sendq_flush(q, fd, 1 << 20);
 *     if (SENDQ_FAILED(r)) {
 *         drop(c);                                      sendq_free, close
 *     } else {
 *         watch_for_writable(c, r & SENDQ_BLOCKED);
 *         uint64_t wait = sendq_retry_after_ns(q);
 *         if (wait == 0)
 *             call_again_next_turn(c);                  the budget of the call was spent
 *         else if (wait != SENDQ_NEVER)
 *             call_again_in(c, wait);                   a rate, or a deadline
 *     }
 *
 * With many connections, at the end of each turn of the loop, for all that have something to send:
 *
 *     sendq_t *q;
 *     while ((q = sendq_pool_next(pool)))
 *         on_flushed(q, sendq_flush(q, fd_of(sendq_user(q)), 1 << 20));      as above
 *     sleep_for(sendq_pool_retry_after_ns(pool));
 *
 * This time is about rates. A queue that was closed by sendq_close_within still needs a timer of its own
 * (sendq_retry_after_ns).
 *
 * A stuck connection causes no events. So a host also needs a timer that asks sendq_pool_stalled, or
 * sendq_stalled_ns of each connection, and drops those that have stalled for too long.
 *
 * The end of a connection. When a flush returns no hint, the kernel has all bytes, but it may not have sent
 * them yet. close(2) on a socket with unread input resets the connection, and the peer loses what it has not
 * received. So shut down for writing (shutdown(2)), read until the peer closes, and close then.
 *
 * Costs. Each function is O(1), or O(bytes) if it copies, unless it says otherwise. The state functions
 * (sendq_queued_bytes to sendq_error) are O(1), and make no system call except to read the clock.
 *
 * System calls, for hosts that filter them. Reading the default clock (clock_gettime(2)) is no system call if
 * the kernel provides a vDSO.
 *
 *     sendq_flush, sendq_send, sendq_sendmsg
 *                                  send or sendmsg; for a part of a file sendfile, or pread and send. Around
 *                                  sendfile: fcntl, unless the pool has SENDQ_SOCKETS_NONBLOCKING;
 *                                  rt_sigpending, rt_sigprocmask twice and rt_sigtimedwait, unless the pool
 *                                  has SENDQ_SIGPIPE_IGNORED. If the socket refuses more after a call with
 *                                  MSG_MORE: setsockopt (TCP_CORK)
 *                                  With SENDQ_ZEROCOPY: getsockopt up to three times, fcntl (F_DUPFD_CLOEXEC),
 *                                  setsockopt, recvmsg (MSG_ERRQUEUE) and close
 *     sendq_reap, sendq_pool_reap  getsockopt, recvmsg and close; connect
 *     sendq_free, sendq_reset      with SENDQ_ZEROCOPY: getsockopt, setsockopt, shutdown and close
 *     sendq_flush_with             those of the write callback; pread for files
 *     sendq_verify                 pread for files
 *     sendq_stats_json             with a descriptor: getsockopt twice, and ioctl (SIOCOUTQ)
 *     any function that can take memory (appends, sendq_new, ...)
 *                                  mmap and madvise when the pool needs more, and those of malloc
 *     any function that can return memory (flushes, sendq_consume, sendq_discard, sendq_free, ...)
 *                                  madvise and munmap when the pool has too much, and those of free
 *     all, on a thread-safe queue or pool
 *                                  futex and sched_yield when a lock is contended
 *
 * The host's clock, logger and release callbacks may make others.
 *
 * Windows. What differs there:
 *
 *   - A sendq_fd_t is a SOCKET. It has to be non-blocking (ioctlsocket, FIONBIO), because WSASend cannot be
 *     told not to wait. The host has called WSAStartup.
 *   - The sendq_fd_t of a file is a HANDLE that was opened for reading, without FILE_FLAG_OVERLAPPED; that of
 *     a descriptor is _get_osfhandle(fd). Files are read and sent, in steps of 16 KiB, and reading moves the
 *     file's position.
 *   - Errors are the numbers of <errno.h> there, such as -ECONNRESET for WSAECONNRESET. A closed socket gives
 *     -ENOTSOCK, and a connection that this side has lost -ECONNABORTED.
 *   - There is no sendq_sendmsg. SENDQ_SOCKETS_NONBLOCKING and SENDQ_SIGPIPE_IGNORED change nothing, there is
 *     no MSG_MORE, and sendq_stats_json reports nothing of the kernel.
 *   - Blocks come from the process heap, not from mappings.
 *
 * macOS and FreeBSD. What differs there:
 *
 *   - Files are read and sent, in steps of 16 KiB. There is no MSG_MORE, and sendq_stats_json reports nothing of
 *     the kernel.
 *   - On macOS the socket has to be non-blocking (O_NONBLOCK): the kernel would wait in spite of MSG_DONTWAIT, so
 *     a blocking one ends the connection with -EINVAL. A flush sets SO_NOSIGPIPE on it. This is fcntl and
 *     setsockopt before each send, unless the pool has SENDQ_SOCKETS_NONBLOCKING and SENDQ_SIGPIPE_IGNORED.
 *   - FreeBSD has no ENODATA: -ENOATTR takes its place.
 *
 * This file is generated (build.rs); edit src/capi instead. */


#ifndef SENDQ_SENDQ_H
#define SENDQ_SENDQ_H

#include <stddef.h>
#include <stdint.h>

#define SENDQ_VERSION_MAJOR 0
#define SENDQ_VERSION_MINOR 3
#define SENDQ_VERSION_PATCH 0
#define SENDQ_VERSION \
    (SENDQ_VERSION_MAJOR << 16 | SENDQ_VERSION_MINOR << 8 | SENDQ_VERSION_PATCH)

/* A socket or a file: on Windows a SOCKET or a HANDLE, elsewhere a descriptor. SENDQ_NO_FD is none. */
#if defined(_WIN32)
typedef uintptr_t sendq_fd_t;
#define SENDQ_NO_FD UINTPTR_MAX
/* Define SENDQ_HAVE_IOVEC before this header if another one has a struct iovec of these two members. */
#if !defined(SENDQ_HAVE_IOVEC)
struct iovec {
    void *iov_base;
    size_t iov_len;
};
#endif
#else
#include <sys/types.h>
#include <sys/uio.h>
typedef int sendq_fd_t;
#define SENDQ_NO_FD (-1)
struct msghdr;
#endif

/* True if a call that returns int or ssize_t has failed. Do not test if (r): hints are positive. */
#define SENDQ_FAILED(r) ((r) < 0)


/**
 * Any thread may use the queue or pool, at the price of a lock per call. Without this flag it serves one
 * thread at a time, and the host has to make sure of that.
 */
#define SENDQ_THREADSAFE 1

/**
 * A promise of the host: all sockets that queues of this pool are flushed to are non-blocking (O_NONBLOCK).
 * sendq then does not check this before each sendfile(2). If the promise is broken, a flush of a file may
 * block.
 */
#define SENDQ_SOCKETS_NONBLOCKING 2

/**
 * A promise of the host: the process ignores SIGPIPE (signal(7)). sendq then does not block this signal
 * around each sendfile(2). With both promises, a part of a file costs one system call; without them, up to
 * six.
 */
#define SENDQ_SIGPIPE_IGNORED 4

/**
 * Append, uncork, fill: bytes can be sent, and none could before. Make sure that a flush is scheduled.
 */
#define SENDQ_WAKE 1

/**
 * Append: the queue is at or over the high watermark. Pause the producer. State: the high watermark was
 * reached, and SENDQ_RESUME has not been returned since.
 */
#define SENDQ_HIGH 2

/**
 * Flush, state: bytes remain, and the sink takes no more. Wait until it is writable.
 */
#define SENDQ_BLOCKED 4

/**
 * Flush: bytes remain, and the budget of the call is spent. Flush again soon; no event will tell you to.
 * State: a flush would offer bytes now.
 */
#define SENDQ_MORE 8

/**
 * Flush, and other functions that list it: what is queued has dropped to the low watermark after having been
 * high. The producer may continue.
 */
#define SENDQ_RESUME 16

/**
 * Flush, state: bytes remain, and the write callback can continue once its connection is readable (TLS).
 */
#define SENDQ_WANT_READ 32

/**
 * State: what is appended is held back (sendq_cork).
 */
#define SENDQ_CORKED 128

/**
 * State: appends are refused, after sendq_close or the end of the connection.
 */
#define SENDQ_CLOSED 256

/**
 * A flag of a queue: it counts messages (sendq_append_message, sendq_end_message, sendq_queued_messages). A
 * boundary costs 8 to 16 bytes while its message is queued.
 */
#define SENDQ_MESSAGES 8

/**
 * The kind of a part: bytes to copy.
 */
#define SENDQ_PART_COPY 0

/**
 * The kind of a part: memory that stays unchanged until the message is released.
 */
#define SENDQ_PART_REF 1

/**
 * The kind of a part: bytes of a shared buffer.
 */
#define SENDQ_PART_BUF 2

/**
 * The kind of a part: bytes of a file that stays open until the message is released.
 */
#define SENDQ_PART_FILE 3

/**
 * The kind of a part: bytes of a file that sendq closes when it needs them no more.
 */
#define SENDQ_PART_OWNED_FILE 4

/**
 * The kind of a part: memory with an owner of its own, which is released with data and len.
 */
#define SENDQ_PART_OWN 5

/**
 * A sendq_write_fn returns this if it cannot continue before the connection is readable. OpenSSL calls this
 * SSL_ERROR_WANT_READ.
 */
#define SENDQ_WRITE_WANT_READ -4096

/**
 * A flag of a queue: large borrowed pieces, and parts of shared buffers, are sent without a copy (zerocopy_from).
 * sendq_flush and sendq_send do so by MSG_ZEROCOPY of Linux; nothing else does. The kernel reads the memory until the
 * peer has acknowledged the bytes (sendq_reap). Where a connection does not do it (another system, an older kernel, a
 * Unix socket, kTLS), and after 16 sends in a row that the kernel has copied after all, as it always does on loopback,
 * everything is copied as without the flag (zerocopy_off of sendq_stats_t).
 *
 * The rule: a piece that was sent without a copy is released when the kernel has said that it does not read it any
 * more, and never before, whatever ends the connection. What the kernel still reads when its queue is reset or freed
 * is an orphan of the pool, which holds the socket open, shuts it down for writing, and counts the memory against its
 * budget. sendq_pool_reap releases it when the kernel is done or the connection has ended, to which the kernel sees
 * within a minute if the peer takes nothing.
 *
 * So reset or free such a queue when nothing is unacknowledged, or close the connection right after. After a reset, and
 * with another queue, the same socket copies, because the kernel's numbers go on. As long as something is
 * unacknowledged, sendq has a descriptor of its own for the socket. A host that uses
 * epoll(7) itself has to remove its descriptor (EPOLL_CTL_DEL) before it closes it, because close(2) does so only with
 * the last descriptor. The acknowledgements come by the error queue of the socket: a host that uses SO_ZEROCOPY
 * itself, or takes timestamps from there (SO_TIMESTAMPING), should not set this flag. Pieces that are not sent so are
 * released before earlier ones that are.
 */
#define SENDQ_ZEROCOPY 16

/**
 * Flush, sendq_reap, sendq_pool_reap, state: all is sent, and the kernel still reads some memory of it
 * (SENDQ_ZEROCOPY). Call sendq_reap when the socket has an error event: EPOLLERR, which comes unasked. If that returns
 * 0 and the event stays, the connection has failed (SO_ERROR, socket(7)).
 */
#define SENDQ_UNACKED 64

/**
 * A result of sendq_retry_after_ns: no flush can do anything before the socket changes.
 */
#define SENDQ_NEVER UINT64_MAX

/**
 * A level of sendq_set_logger: a bug in sendq was caught.
 */
#define SENDQ_LOG_ERROR 1

/**
 * A level of sendq_set_logger: a connection failed, but not because its peer closed or reset it; or the host
 * discarded what was queued while the socket was full.
 */
#define SENDQ_LOG_WARN 2

/**
 * A level of sendq_set_logger: a peer has closed or reset its connection.
 */
#define SENDQ_LOG_INFO 3

/**
 * A shared buffer: one payload that many queues send. Any thread may use it, even if the queues are not
 * thread-safe.
 */
typedef struct sendq_buf_t sendq_buf_t;

/**
 * Memory and a byte budget that many queues share: one pool per event-loop thread, or one per process.
 */
typedef struct sendq_pool_t sendq_pool_t;

/**
 * The output of one connection: the queued bytes, in order.
 */
typedef struct sendq_t sendq_t;

/**
 * A monotonic clock: returns nanoseconds since any fixed time. Any call on the pool's queues may call it,
 * with no lock held. It must not call such functions itself, and must not throw. If it goes back, sendq's
 * time stands still until the clock has caught up.
 */
typedef uint64_t (*sendq_now_fn)(void *arg);

/**
 * Allocates a block of size bytes, aligned to at least 8 bytes as by malloc(3), or returns NULL if there is no
 * memory. What is not aligned so is given back at once, and counts as no memory. Called by appends and
 * flushes on the pool's queues, perhaps with a queue's lock held, so it must not call sendq, and must not
 * throw.
 */
typedef void *(*sendq_alloc_fn)(void *arg, size_t size);

/**
 * Frees a block that the sendq_alloc_fn beside it has allocated with the same size. A block that was spliced to a
 * queue of another pool is freed from there: later than its own pool, and on the threads of the other. It
 * must not call sendq, and must not throw.
 */
typedef void (*sendq_dealloc_fn)(void *arg, void *block, size_t size);

/**
 * A function that wakes the thread which calls sendq_pool_next (see wake in sendq_pool_config_t). It runs on
 * the thread whose call caused it, before that call returns, with no lock held. It may call any function that
 * its thread may call, an append to the same queue included. It must not throw.
 */
typedef void (*sendq_wake_fn)(void *arg);

/**
 * The configuration of a pool. Zero in any field except size means the default.
 */
typedef struct {
    /**
     * sizeof(sendq_pool_config_t). It tells sendq which version the caller was compiled against.
     */
    size_t size;
    /**
     * SENDQ_THREADSAFE, SENDQ_SOCKETS_NONBLOCKING and SENDQ_SIGPIPE_IGNORED, or 0.
     */
    uint32_t flags;
    /**
     * Must be 0.
     */
    uint32_t reserved;
    /**
     * The budget in bytes. It counts whole blocks, including free ones that are cached for the next append;
     * borrowed memory, until its owner is released; and shared buffers that were made with this pool. It
     * does not count files. An append that would exceed it returns -ENOBUFS. Two things may exceed it: what
     * each queue has reserved (sendq_config_t), and records of sendq_flush_with, by 16 KiB for each
     * connection. Memory beyond the budget is freed when it is returned. Default: no budget.
     */
    uint64_t max_bytes;
    /**
     * The size of the largest usual block in bytes, at least 256. The first block of a queue takes 256 bytes,
     * or as much as its last burst needed; each further one takes four times as many, up to chunk_bytes.
     * 48 bytes of a block are its header, and each borrowed or shared piece takes 48 bytes of it. A single
     * append that is larger takes several blocks of chunk_bytes. Sizes from 4096 on are rounded up to whole
     * pages. Memory of blocks returns to the system by whole pages. Only blocks of less than 4096 bytes other
     * than 256 and 1024 come from malloc, whose heap does not always shrink. Default: 4 KiB.
     */
    uint64_t chunk_bytes;
    /**
     * Free blocks are cached for the next append, up to this many bytes. Blocks above it are freed at once.
     * A load that stays below it causes no page faults. A pool that has held more than eight times
     * keep_bytes has seen a burst: it then caches only 1/32 of keep_bytes, until it holds less than four
     * times keep_bytes and needs new blocks. Default: 4 MiB. 1: no block is cached.
     */
    uint64_t keep_bytes;
    /**
     * The clock of this pool's queues, for tests and simulations. NULL: the system's coarse monotonic clock
     * (clock_gettime(2)), which is exact to some milliseconds.
     */
    sendq_now_fn now;
    /**
     * The argument of now.
     */
    void *now_arg;
    /**
     * The host's allocator. All blocks of the pool come from it, and nothing is mapped; free blocks are cached
     * all the same (keep_bytes). Handles, copied shared buffers and the few fields that a queue needs rarely
     * come from malloc. Both functions or none. Default: the system.
     */
    sendq_alloc_fn alloc;
    /**
     * Frees what alloc has allocated.
     */
    sendq_dealloc_fn dealloc;
    /**
     * The argument of alloc and dealloc. It must stay valid until all blocks are freed: those of the pool when
     * its last queue is, and those that were spliced to queues of other pools when these let go of them.
     */
    void *alloc_arg;
    /**
     * Called when a queue becomes ready (sendq_pool_next) while no other queue of the pool is: for a thread
     * that sleeps, and calls sendq_pool_next when it is woken. It is called by the thread that appends or
     * uncorks, or whose flush leaves bytes, with no lock held. sendq_pool_next calls it as well, if it ends a
     * turn while queues are ready for the next one and wake was not called since the turn began. Outside a turn
     * it is also called when a queue is held back by its rate for less time than sendq_pool_retry_after_ns
     * has returned. So a thread may sleep until it is woken, or until that time. wake must stay callable until
     * the pool and all its queues are freed. NULL: no call.
     */
    sendq_wake_fn wake;
    /**
     * The argument of wake.
     */
    void *wake_arg;
} sendq_pool_config_t;

/**
 * The statistics of a pool. Sizes are in bytes. blocked and waiting do not count the queues that
 * sendq_pool_heaviest leaves out because of their threads.
 */
typedef struct {
    /**
     * How many queues there are.
     */
    uint64_t queues;
    /**
     * How many of them have found their socket full, and wait for it.
     */
    uint64_t blocked;
    /**
     * Bytes queued in all of them.
     */
    uint64_t waiting;
    /**
     * The budget. 0: none.
     */
    uint64_t max;
    /**
     * Blocks that queues hold.
     */
    uint64_t used;
    /**
     * Blocks that are cached for the next append.
     */
    uint64_t free;
    /**
     * Borrowed memory, until its owners are released.
     */
    uint64_t pinned;
    /**
     * Shared buffers that were made with this pool and are not freed yet.
     */
    uint64_t shared;
    /**
     * The highest sum of used, free, pinned and shared.
     */
    uint64_t peak;
    /**
     * Connections of queues that are gone, of which the kernel still reads memory (SENDQ_ZEROCOPY).
     */
    uint64_t orphans;
    /**
     * Bytes in the pieces of these. They are among pinned or shared.
     */
    uint64_t orphan_bytes;
} sendq_pool_stats_t;

/**
 * The configuration of a queue. Zero in any field except size means the default.
 */
typedef struct {
    /**
     * sizeof(sendq_config_t). It tells sendq which version the caller was compiled against.
     */
    size_t size;
    /**
     * SENDQ_THREADSAFE, SENDQ_MESSAGES and SENDQ_ZEROCOPY, or 0. A thread-safe queue needs a thread-safe pool.
     */
    uint32_t flags;
    /**
     * Must be 0.
     */
    uint32_t reserved;
    /**
     * The host's pointer for sendq_user, such as its connection. sendq does not use it.
     */
    void *user;
    /**
     * The low watermark: SENDQ_RESUME is returned when no more than this many bytes are queued. Default:
     * half of high.
     */
    uint64_t low;
    /**
     * The high watermark: SENDQ_HIGH is returned when at least this many bytes are queued. Default: 1 MiB,
     * or max if that is less.
     */
    uint64_t high;
    /**
     * The cap: an append that would queue more than this many bytes returns -ENOBUFS. Bytes in files do not
     * count against low, high and max. Default: no cap.
     */
    uint64_t max;
    /**
     * Borrowed pieces shorter than this are copied instead, and their owners are released at once: a small
     * copy costs the kernel and the host less than a piece of its own. 1: no piece is copied. Default: 4096.
     * The time of append and flush over TCP when the piece is borrowed, as a part of that when it is copied:
     * one piece in a flush 1.05 up to 2 KiB, 1.04 at 3, 0.99 at 4, 0.97 at 8, 0.92 at 16 and 0.85 at 32 KiB;
     * 16 pieces in a flush 1.15 to 1.21 up to 256 bytes, 1.11 at 1 KiB, 1.01 at 2, 0.93 at 3 and 4, and 0.85
     * at 8 KiB.
     */
    uint64_t copy_below;
    /**
     * With SENDQ_MESSAGES, the most messages that may be queued: an append that would begin one more returns
     * -ENOBUFS. Default: any number.
     */
    uint64_t max_messages;
    /**
     * The same for parts of shared buffers: those shorter than this are copied, and no reference to the buffer
     * is kept for them. 1: no part is copied. Default: 2048, less than for borrowed pieces, because a copy for
     * each of many queues takes memory. Shared as a part of copied: one part in a flush 1.05 up to 2 KiB, 1.04
     * at 3, 0.99 at 4, 0.97 at 8 and 0.87 at 32 KiB; 16 parts in a flush 1.17 to 1.23 up to 256 bytes, 1.12 at
     * 1 KiB, 1.03 at 2, 0.96 at 3, 0.93 at 4 and 0.86 at 8 KiB.
     */
    uint64_t share_below;
    /**
     * Bytes of memory that the budget of the pool does not refuse to this queue, whatever others hold: an
     * append is admitted beyond the budget if the queue then holds no more than this (sendq_memory), blocks
     * with their headers and slack. So one client that never reads cannot make the appends of others fail.
     * 1: none. Default: 256, one small block.
     */
    uint64_t reserve;
    /**
     * With SENDQ_ZEROCOPY, borrowed pieces, and parts of shared buffers, of which at least this many bytes are to be
     * sent are sent without a copy. The kernel's text says that this pays for writes of more than about 10 KB
     * (Documentation/networking/msg_zerocopy.rst). It does not count that the memory comes back late, by a message
     * of its own. Default: 64 KiB.
     */
    uint64_t zerocopy_from;
} sendq_config_t;

/**
 * A release callback: sendq does not need the borrowed memory or the file any more. It is called exactly
 * once, on the thread whose call caused it, before that call returns, with no lock held. It may call any
 * function on the same queue, including sendq_free. If such a call completes further pieces, their owners
 * are released after the callback has returned, so that the stack does not grow. But an append that copies a
 * short piece releases its owner at once, in a callback, too, so a callback must not append short pieces to
 * itself without end. When two threads flush a thread-safe queue in turns, either of them may release what
 * the other has sent.
 *
 * arg, data and len are those of the append; data is NULL for a file or a notification. reason is 0 if the
 * bytes were sent or copied, -ECANCELED if the host has discarded them, or another -errno with which the
 * connection has failed. The callback must not throw: an exception ends the process.
 */
typedef void (*sendq_release_fn)(void *arg, const void *data, size_t len, int reason);

/**
 * A part of a message: a range of its bytes. Make it with sendq_part_copy, sendq_part_ref, sendq_part_buf,
 * sendq_part_file, sendq_part_owned_file or sendq_part_own. A part that is all zero is an empty one.
 */
typedef struct {
    /**
     * SENDQ_PART_COPY, SENDQ_PART_REF, SENDQ_PART_BUF, SENDQ_PART_FILE, SENDQ_PART_OWNED_FILE or
     * SENDQ_PART_OWN.
     */
    uint32_t kind;
    /**
     * The file.
     */
    sendq_fd_t fd;
    /**
     * The memory, or the sendq_buf_t.
     */
    const void *data;
    /**
     * The offset in the shared buffer or in the file.
     */
    uint64_t offset;
    /**
     * How many bytes.
     */
    uint64_t len;
    /**
     * The owner of a SENDQ_PART_OWN.
     */
    sendq_release_fn release;
    /**
     * The argument of release.
     */
    void *arg;
} sendq_part_t;

/**
 * A hole in a queue: space for bytes that are known later (sendq_hole).
 */
typedef struct {
    /**
     * 0: no hole.
     */
    uint64_t id;
} sendq_hole_t;

/**
 * A write callback: takes len bytes at data, for a host with its own way of writing, such as TLS. It returns
 * how many bytes it took, at least 1; -EAGAIN or 0 if it took none because it is not writable;
 * SENDQ_WRITE_WANT_READ if it took none and can continue when it is readable; or another -errno if the
 * connection has failed. -ENOBUFS and -ENOMEM mean the same as -EAGAIN. After -EINTR the flush returns
 * SENDQ_MORE. Any other negative number counts as -EIO. It runs with no lock held, and may call any function on the same
 * queue. Calls that discard or consume return -EBUSY while it runs. It must not throw: an exception ends the process.
 */
typedef int64_t (*sendq_write_fn)(void *arg, const void *data, size_t len);

/**
 * The statistics of one queue: bytes, counts, and nanoseconds. Totals are since the queue was made. At any
 * moment copied + borrowed + shared + file = sent + discarded + waiting.
 */
typedef struct {
    /**
     * Bytes appended by copying, in total. Spliced bytes count as what they were in the other queue.
     */
    uint64_t copied;
    /**
     * Bytes appended by sendq_append_ref without being copied, in total.
     */
    uint64_t borrowed;
    /**
     * Bytes appended by sendq_append_buf, in total.
     */
    uint64_t shared;
    /**
     * Bytes appended by sendq_append_file, in total.
     */
    uint64_t file;
    /**
     * Bytes sent, in total.
     */
    uint64_t sent;
    /**
     * Bytes discarded, rolled back, or lost with the connection, in total.
     */
    uint64_t discarded;
    /**
     * Bytes queued now.
     */
    uint64_t waiting;
    /**
     * Borrowed and shared memory that the queue refers to: whole pieces, until their owners are released.
     */
    uint64_t pinned;
    /**
     * Blocks of the pool that the queue holds, in bytes.
     */
    uint64_t allocated;
    /**
     * The most bytes that were queued at one time.
     */
    uint64_t peak_waiting;
    /**
     * Flushes that had something to send.
     */
    uint64_t flushes;
    /**
     * System calls of these flushes, including those that only prepare one that sends.
     */
    uint64_t system_calls;
    /**
     * System calls that took fewer bytes than they were given.
     */
    uint64_t short_writes;
    /**
     * How often the socket became full.
     */
    uint64_t blocked;
    /**
     * For how long it was full, in total.
     */
    uint64_t blocked_ns;
    /**
     * The time, by the pool's clock, when bytes were last sent and others stayed queued. Before that, the
     * time of the first flush or call of sendq_stalled_ns or sendq_stats that found queued bytes. 0: neither
     * has happened.
     */
    uint64_t last_progress_ns;
    /**
     * The result of sendq_stalled_ns.
     */
    uint64_t stalled_ns;
    /**
     * Bytes sent without a copy (SENDQ_ZEROCOPY), in total.
     */
    uint64_t zerocopy;
    /**
     * Sends without a copy that the kernel has acknowledged, in total.
     */
    uint64_t zerocopy_acked;
    /**
     * How many of these the kernel has copied after all.
     */
    uint64_t zerocopy_copied;
    /**
     * 1: the connection does not do it, or the kernel has copied too often, so that all is copied.
     */
    uint64_t zerocopy_off;
    /**
     * Bytes in pieces that are sent, and wait until the kernel does not read them any more.
     */
    uint64_t unacked;
} sendq_stats_t;

/**
 * A log callback. message is one line without a line end, NUL-terminated, and valid during the call. q is
 * the queue that the message is about, which is alive, or NULL. The callback runs on the thread whose call
 * caused it, with no lock held, before that call returns. It may call any function, including sendq_free(q);
 * what such a call logs is dropped. It must not throw: an exception ends the process.
 */
typedef void (*sendq_log_fn)(void *arg, int level, sendq_t *q, const char *message);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the library at run time: major << 16 | minor << 8 | patch. SENDQ_VERSION is the
 * version that the caller was compiled against. The two may differ within one major version (before 1.0: one
 * minor version).
 */
uint32_t sendq_version(void);

/**
 * Returns the version as text, such as "0.3.0". Static memory.
 */
const char *sendq_version_string(void);

/**
 * Makes a pool. If config is NULL, all fields have their defaults. On success *out is the new pool; give it
 * to sendq_pool_free.
 *
 * -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, a flag is unknown, chunk_bytes is
 * less than 256, max_bytes is less than one block, one of alloc and dealloc is NULL and the other is not, or a
 * number is larger than the address space.
 * -E2BIG: the config is of a newer version and sets fields that this version does not know, or size is over
 * 4 KiB.
 * -ENOMEM: out of memory. On failure *out is NULL.
 */
int sendq_pool_new(const sendq_pool_config_t *config,
                   sendq_pool_t **out);

/**
 * Releases the host's handle of the pool. Queues and shared buffers keep the pool alive: it is freed with the last of
 * them. If some of its queues have SENDQ_ZEROCOPY, free these first, and then call sendq_pool_reap until it returns 0;
 * otherwise call that afterwards, which frees the pool. NULL is ignored.
 */
void sendq_pool_free(sendq_pool_t *pool);

/**
 * Fills out with the statistics of a pool, up to out_size bytes.
 *
 * -EINVAL: pool or out is NULL.
 */
int sendq_pool_stats(const sendq_pool_t *pool, sendq_pool_stats_t *out, size_t out_size);

/**
 * Returns the next queue of the pool that is ready, for the end of a turn of the host's loop:
 *
 *     sendq_t *q;
 *     while ((q = sendq_pool_next(pool)))
 *         on_flushed(q, sendq_flush(q, fd_of(sendq_user(q)), 1 << 20));
 *
 * So the host keeps no list of what to flush. Queues come in the order in which they became ready, each once
 * a turn. NULL ends the turn; what becomes ready during a turn comes in the next one.
 *
 * A queue becomes ready when bytes become available (an append, sendq_uncork, sendq_splice), unless it is
 * BLOCKED; when a flush returns SENDQ_MORE; when its rate lets go again, never before; and by
 * sendq_schedule. It is ready no longer when it was returned; when nothing is available any more, because it
 * was flushed, consumed, discarded or spliced, or has failed; when a flush returns SENDQ_BLOCKED, after
 * which the host flushes it once the socket is writable; and when it is freed. So a queue that the host
 * ignores comes again only after such an event, and never twice in a turn.
 *
 * Sleep when this has returned NULL, until an event of a socket, until sendq_pool_retry_after_ns, or until wake
 * (see sendq_pool_config_t) is called. While the rate of sendq_pool_set_rate holds all queues back, this
 * returns NULL.
 *
 * One thread at a time calls this. In a thread-safe pool, other threads may append meanwhile. Queues that are
 * not thread-safe in a pool that is are never returned. The host has to make sure that no other thread frees
 * a queue that this has returned. The first call in a pool without wake looks at all queues; until then,
 * appends and flushes do not keep track of what is ready. O(1) after that, and at the beginning of a turn one
 * step for each queue that its rate holds back, if one of them may be ready.
 *
 * NULL also if pool is NULL: this needs a pool of your own, not the default pool. A host that consumes bytes itself
 * (sendq_consume) calls sendq_schedule when it wants a queue again.
 */
sendq_t *sendq_pool_next(sendq_pool_t *pool);

/**
 * Makes the queue ready, for the next turn of sendq_pool_next: for a host that did not flush it after
 * sendq_pool_next has returned it, or that learns that a BLOCKED one is writable. If nothing is available,
 * nothing changes. If its rate holds the queue back, it is ready when the rate lets go. If sendq_pool_next was
 * never called, nothing changes: its first call returns the queue.
 *
 * -EINVAL: q is NULL, or q is not thread-safe and its pool is, as the default pool is.
 * Another -errno: the connection has failed with it.
 */
int sendq_schedule(sendq_t *q);

/**
 * Returns in how many nanoseconds a queue of the pool is ready, for the timer of the loop that calls
 * sendq_pool_next. 0: a queue is ready now. SENDQ_NEVER: none is, and none is held back by a rate, or pool is
 * NULL. Any other value is the time until a rate, of a queue or of the pool, lets go. The deadlines of
 * sendq_close_within are not among them, unless a rate holds the queue back. The time is measured by the
 * pool's clock, which may be a step behind the clock of the timer. Reads the clock. O(1), or one step for each
 * queue that its rate holds back, if some have left since.
 */
uint64_t sendq_pool_retry_after_ns(const sendq_pool_t *pool);

/**
 * Limits the rate of all queues of the pool together to bytes_per_second; 0: no limit. burst, and what
 * counts, are as for sendq_set_rate. A queue with a rate of its own is limited by both. A flush that this rate
 * holds back returns SENDQ_MORE. sendq_retry_after_ns and sendq_state of each queue take it into account. Flushes
 * of several threads at the same moment may each use what the rate allows then.
 *
 * -EINVAL: pool is NULL.
 */
int sendq_pool_set_rate(sendq_pool_t *pool,
                        uint64_t bytes_per_second,
                        uint64_t burst);

/**
 * Returns how many bytes the pool holds now, all of which count against its budget: blocks, including those
 * that are cached; borrowed memory, until its owner is released; and shared buffers. These are used, free,
 * pinned and shared of sendq_pool_stats_t together. 0 if pool is NULL. O(1).
 */
uint64_t sendq_pool_bytes(const sendq_pool_t *pool);

/**
 * Finds the queues that hold most memory, by sendq_memory: blocks of the pool, borrowed memory, and shared
 * buffers, of which each queue counts the whole length of its parts. Fills out with at most n queues, the
 * heaviest first, and returns how many. Queues that hold nothing are left out. A host that is over its budget
 * can thus drop the few queues that cause it. Costs one short step for each queue of the pool, whatever it
 * holds.
 *
 * In a thread-safe pool, queues that are not thread-safe are left out, because only their own threads may
 * look at them. The host has to make sure that no other thread frees a queue that this has returned.
 * -EINVAL: pool is NULL, or out is NULL and n is not 0. -ENOMEM: out of memory.
 */
int sendq_pool_heaviest(const sendq_pool_t *pool,
                        sendq_t **out,
                        size_t n);

/**
 * Finds the queues that have stalled for more than older_than_ns nanoseconds, by sendq_stalled_ns: from a timer
 * of the host, because a connection that is stuck causes no events. Fills out with at most n queues, in no
 * particular order, and returns how many. The time of a queue that was empty counts from the first flush after
 * the append, or the first look at it, such as this one. Reads the clock once. Costs one short step for each
 * queue of the pool until n are found.
 *
 * In a thread-safe pool, queues that are not thread-safe are left out, as by sendq_pool_heaviest. The host has
 * to make sure that no other thread frees a queue that this has returned.
 * -EINVAL: pool is NULL, or out is NULL and n is not 0.
 */
int sendq_pool_stalled(const sendq_pool_t *pool,
                       uint64_t older_than_ns,
                       sendq_t **out,
                       size_t n);

/**
 * Makes a queue. If pool is NULL, the queue uses the process's default pool, which is thread-safe and has no
 * budget. If config is NULL, all fields have their defaults. On success *out is the new queue; give it to
 * sendq_free.
 *
 * -EINVAL: out is NULL, size is less than a size_t, reserved is not 0, a flag is unknown, low is above high,
 * high is above max, or the queue is thread-safe and the pool is not.
 * -E2BIG: the config is of a newer version and sets fields that this version does not know, or size is over
 * 4 KiB.
 * -ENOMEM: out of memory. On failure *out is NULL.
 */
int sendq_new(sendq_pool_t *pool,
              const sendq_config_t *config,
              sendq_t **out);

/**
 * Frees the queue. Queued bytes are discarded, all owners are released (-ECANCELED), and all memory returns
 * to the pool. No other thread may be using the queue. To send what is queued first, call sendq_close and
 * flush until nothing is queued. A callback may free its own queue. If that runs further callbacks of the
 * queue, these may call sendq_free, too: the second call does nothing. NULL is ignored.
 */
void sendq_free(sendq_t *q);

/**
 * Closes the queue: appends return -EPIPE from now on. What is queued is still flushed. When a flush returns
 * no hint, all of it is sent, except what is behind a cork or an open hole: sendq_uncork and sendq_fill work on a
 * closed queue. Closing a queue that is
 * closed or has failed succeeds.
 *
 * -EINVAL: q is NULL.
 */
int sendq_close(sendq_t *q);

/**
 * sendq_close with a deadline. Bytes that are not sent within timeout_ns nanoseconds are lost: the next
 * sendq_flush, sendq_consume or other call that sends or closes discards them, and fails the connection with
 * -ETIMEDOUT. sendq_retry_after_ns says when to make that call, even if the socket never becomes writable.
 * The field discarded of sendq_stats says how many bytes were lost. A timeout of 0 means now. A later call
 * sets another deadline. The call succeeds if nothing is queued, or if the queue has failed.
 *
 * -EINVAL: q is NULL. -ETIMEDOUT: bytes are queued, and timeout_ns is 0.
 * -EBUSY: another thread is flushing the queue. -ENOMEM: out of memory. After these two nothing has changed.
 */
int sendq_close_within(sendq_t *q,
                       uint64_t timeout_ns);

/**
 * Discards what is queued, and removes open holes. Owners are released with -ECANCELED before the call returns.
 * The queue can be used further. Reserved memory is not queued, and stays. Discarding from a queue that is closed or has
 * failed succeeds.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL. -EBUSY: another thread is flushing the queue.
 */
int sendq_discard(sendq_t *q);

/**
 * Makes the queue as new, with its config: what is queued is discarded and released with -ECANCELED before the
 * call returns, statistics are 0, settings made since (sendq_set_watermarks, sendq_set_rate, ...), a cork, a
 * reservation, a close and an error are gone. The user pointer stays. For hosts that use a connection's object
 * again. It may be called in a callback; a flush that ran the callback then ends as if the connection had failed.
 *
 * -EINVAL: q is NULL. -EBUSY: the queue is being flushed.
 */
int sendq_reset(sendq_t *q);

/**
 * Ends the connection with an error, as if a flush had found it: what is queued is discarded and released with
 * negative_errno before the call returns, and later appends and flushes return it. For hosts that learn of the
 * end in another way, such as a read. A queue that has failed keeps its first error: the call succeeds.
 *
 * -EINVAL: q is NULL, or negative_errno is not from -4095 to -1. -EBUSY: the queue is being flushed.
 */
int sendq_fail(sendq_t *q,
               int negative_errno);

/**
 * Returns the user pointer of the queue's config. NULL if q is NULL.
 */
void *sendq_user(const sendq_t *q);

/**
 * Appends a copy of len bytes: all of them, or none. The caller keeps its memory. Copied pieces that follow
 * each other are sent as one. Appending no bytes to an open queue succeeds; data may then be NULL.
 *
 * Hints: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: q is NULL, data is NULL, or len is larger than an object can be.
 * -EPIPE: the queue is closed. -ENOMEM: out of memory.
 * -ENOBUFS: over max, or over the pool's budget. Try again when bytes of this queue, or for the budget of
 * any queue of the pool, were sent.
 * -EBUSY: memory is reserved; call sendq_commit first.
 * Another -errno: the connection has failed with it (sendq_error).
 */
int sendq_append(sendq_t *q,
                 const void *data,
                 size_t len);

/**
 * Appends a copy of the iovcnt pieces of iov, in order, as one append: all or none. Empty pieces are
 * skipped. iovcnt may be above IOV_MAX.
 *
 * Hints and errors as for sendq_append. -EINVAL also if iovcnt is negative, if iov is NULL and iovcnt is not
 * 0, or if the pieces add up to more than an object can be.
 */
int sendq_appendv(sendq_t *q,
                  const struct iovec *iov,
                  int iovcnt);

/**
 * Appends len bytes without copying them. They must stay readable and unchanged until release is called with
 * arg, data and len. Fewer than copy_below bytes, or none, are copied, and release is called before this
 * returns. If release is NULL, the memory must stay valid for good, or the host has to learn in another way
 * when it is not needed any more (sendq_notify).
 *
 * Hints and errors as for sendq_append. On failure the caller still owns its memory, and release is never
 * called.
 */
int sendq_append_ref(sendq_t *q,
                     const void *data,
                     size_t len,
                     sendq_release_fn release,
                     void *arg);

/**
 * Appends len bytes of buf, from offset, without copying them. The queue holds a reference to buf until they
 * are sent or discarded. Fewer than share_below bytes are copied, and no reference is held. Appending no bytes
 * succeeds.
 *
 * Hints and errors as for sendq_append. -EINVAL also if buf is NULL, or if the range is not inside the
 * buffer.
 */
int sendq_append_buf(sendq_t *q,
                     sendq_buf_t *buf,
                     size_t offset,
                     size_t len);

/**
 * Appends len bytes of the file fd, from offset, without reading them now. They are sent by sendfile(2)
 * where possible. The file must stay open and keep those bytes until release is called with arg, NULL and
 * len. File bytes are not memory: they do not count against low, high, max and the pool's budget. Appending
 * no bytes succeeds, and release is called before this returns.
 *
 * Hints and errors as for sendq_append. On failure release is never called.
 * -EINVAL also if no file can have that offset and len. -EBADF: fd is negative.
 * -ENOBUFS: more than 64 files and notifications are queued and their descriptions alone take more memory
 * than max, or the pool has no memory left for the description.
 *
 * If the file is shorter than promised when its bytes are sent, the stream cannot be continued: the
 * connection fails with -ENODATA. If reading the file fails, the connection fails with the error of read(2).
 */
int sendq_append_file(sendq_t *q,
                      sendq_fd_t fd,
                      uint64_t offset,
                      uint64_t len,
                      sendq_release_fn release,
                      void *arg);

/**
 * Calls function with arg, NULL, 0 and a reason (see sendq_release_fn) when all bytes that are queued now
 * have been sent, or when they are discarded. If nothing is queued, it is called before this returns, unless
 * the queue is corked: then the notification is held back like other appends. A notification does not divide
 * what is sent into more pieces.
 *
 * Errors as for sendq_append. On failure function is never called.
 * -EINVAL also if function is NULL.
 * -ENOBUFS also if more than 64 files and notifications are queued and their descriptions alone take more
 * memory than max.
 */
int sendq_notify(sendq_t *q,
                 sendq_release_fn function,
                 void *arg);

/**
 * Moves all that is queued in from to the end of to. Nothing is copied, except up to 1 KiB, so that many
 * small messages share memory. from is empty afterwards, and can be used further; its bytes count as sent by
 * it. If its producer was paused, the producer may continue, although no SENDQ_RESUME says so. The queues
 * may have different pools: the memory then counts against the pool of to. Splicing from an empty queue
 * succeeds. Costs one step for each borrowed or shared piece in from.
 *
 * Hints, for to: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: a queue is NULL, both are the same, or only one of them is thread-safe.
 * -EPIPE, -ENOBUFS, -ENOMEM, -EBUSY: as for sendq_append to to.
 * -EBUSY also: from has memory reserved, is corked, has an open hole, is being flushed, or has owners that are
 * not released yet (in one of its callbacks).
 * Another -errno: one of the connections has failed with it. On failure nothing is moved.
 */
int sendq_splice(sendq_t *to,
                 sendq_t *from);

/**
 * sendq_splice of at most the first max_bytes bytes. A piece that is divided is released once, when both parts
 * are sent or discarded; the reason is 0 if both were sent. So is the owner of a message that is divided; the len
 * that it gets counts moved bytes as sent. A notification behind the division is called when what precedes it in
 * from is sent: it does not wait for what was moved.
 * What shares a block of memory with bytes that stay is
 * copied, at most one block. A max_bytes of 0 moves nothing. Costs one step for each borrowed or shared piece
 * that is moved.
 *
 * Hints and errors as for sendq_splice. -EBUSY also if not all of from would be moved after a write callback has
 * refused bytes, which it needs again (sendq_flush_with).
 */
int sendq_splice_n(sendq_t *to,
                   sendq_t *from,
                   uint64_t max_bytes);

/**
 * Corks the queue: what is appended from now on is held back. It counts as queued and against every limit,
 * but no flush sends it, until sendq_uncork makes it available or sendq_rollback discards it. The cork
 * belongs to the queue: in a thread-safe queue it holds back, and a rollback discards, what other threads
 * append as well.
 *
 * -EINVAL: q is NULL. -EALREADY: it is corked. -EPIPE: it is closed. -EBUSY: memory is reserved.
 * -ENOMEM: out of memory, at the first cork of a queue. Another -errno: the connection has failed with it.
 */
int sendq_cork(sendq_t *q);

/**
 * Ends the cork, and makes available what was held back.
 *
 * Hint: SENDQ_WAKE, if bytes were held back and no others are queued.
 * -EINVAL: q is NULL or not corked. -EBUSY: memory is reserved.
 * Another -errno: the connection has failed with it.
 */
int sendq_uncork(sendq_t *q);

/**
 * Ends the cork, and discards what was appended since sendq_cork, as if it had not been appended. Its owners
 * are released with -ECANCELED before the call returns (in a release callback: after that callback has
 * returned). The bytes count as discarded.
 *
 * Hint: SENDQ_RESUME.
 * Errors as for sendq_uncork.
 */
int sendq_rollback(sendq_t *q);

/**
 * Reserves len contiguous bytes at *out for the caller to write into. Only what sendq_commit then appends is
 * ever sent. Until the commit, other appends and reservations return -EBUSY; flushing continues. The memory
 * belongs to the queue, and stays valid until the commit or sendq_free.
 *
 * Errors as for sendq_append. -EINVAL also if out is NULL. On failure *out is NULL.
 */
int sendq_reserve(sendq_t *q,
                  size_t len,
                  void **out);

/**
 * Appends the first used bytes of the reserved memory, and ends the reservation. used may be 0: then nothing
 * is appended.
 *
 * Hints: SENDQ_WAKE, SENDQ_HIGH.
 * -EINVAL: q is NULL, nothing is reserved, or used is more than was reserved. The reservation stays.
 * -EPIPE, another -errno: the queue is closed, or has failed with it. The reservation has ended.
 */
int sendq_commit(sendq_t *q,
                 size_t used);

/**
 * Appends the count parts of a message, in order: all of them, or none. Parts of SENDQ_PART_REF and
 * SENDQ_PART_OWN that are shorter than copy_below are copied, longer ones are borrowed. Parts of a shared buffer
 * get a reference of their own. If the queue has SENDQ_MESSAGES, a boundary follows the last byte: what was
 * appended since the boundary before is one message. A boundary does not divide what is sent into more pieces.
 *
 * release is called once with arg, NULL, how many bytes of this message have been sent, and a reason, when the
 * last part that was not copied is not needed any more. If all parts were copied, it is called before this
 * returns (in a release callback: later). If it is NULL, the memory of SENDQ_PART_REF must stay valid for good.
 * len is no measure of success: it is 0 if all was copied, and may leave out the copied end of a message. A
 * message without bytes is none: on an open queue it succeeds, and release is called before this returns. It ends
 * a message that is open, as sendq_end_message does.
 *
 * Hints and errors as for sendq_append. On failure the caller still owns everything, descriptors of
 * SENDQ_PART_OWNED_FILE included, and release is never called.
 * -EINVAL also if count is negative, if parts is NULL and count is not 0, if a part has an unknown kind, a NULL
 * or a range that cannot be, or if the parts add up to more than can be counted. -EBADF: a file's fd is negative.
 * -ENOBUFS also if max_messages are queued. Costs O(count) besides the bytes that are copied.
 */
int sendq_append_message(sendq_t *q,
                         const sendq_part_t *parts,
                         int count,
                         sendq_release_fn release,
                         void *arg);

/**
 * Sends a message that is complete: sendq_append_message and sendq_flush in one. It first flushes what is
 * queued. If nothing is queued then, the parts go to the socket from where they are, and only what it refuses is
 * appended. release is called before this returns, unless the queue keeps parts that it borrows. So it allocates
 * nothing if the socket takes all. A message with parts of files, one of more than 256 pieces, a thread-safe queue,
 * one with SENDQ_ZEROCOPY, a cork, a rate, and a call from a release callback take the way of append and flush.
 *
 * max_bytes and the hints are those of sendq_flush; SENDQ_HIGH: what is queued is at or over the high
 * watermark; SENDQ_CLOSED: the message was taken, and then the connection failed (sendq_error), so that it was
 * released with that error.
 * Errors as for sendq_append_message and sendq_flush. A negative result means that the caller still owns its
 * memory, and release is never called; sendq_error says whether the connection is over. -ENOBUFS also if the
 * message is larger than max, even if the socket would take all of it. The pool's budget does not refuse the rest
 * of a message that has begun to leave.
 * -EBUSY is as for sendq_append.
 */
int sendq_send(sendq_t *q,
               sendq_fd_t fd,
               const sendq_part_t *parts,
               int count,
               sendq_release_fn release,
               void *arg,
               size_t max_bytes);

/**
 * Ends a message: what was appended since the last boundary is one. With nothing appended since, it does
 * nothing. So does it without SENDQ_MESSAGES.
 *
 * -EINVAL: q is NULL. -ENOMEM: out of memory, nothing has changed. Another -errno: the connection has failed
 * with it.
 */
int sendq_end_message(sendq_t *q);

/**
 * Discards the messages of which no byte was sent, corked ones and open holes included. The message that has
 * begun to leave stays, so that the peer can tell where the next one begins. Bytes that a write callback has
 * refused (sendq_flush_with) count as begun. Owners are released with -ECANCELED before the call returns.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL, or has no SENDQ_MESSAGES. -EBUSY: a flush is in progress, or memory is reserved.
 * -ENOMEM: out of memory; nothing is discarded. Costs one step for each piece that is discarded.
 */
int sendq_discard_unstarted(sendq_t *q);

/**
 * Returns how many messages are queued and not wholly sent. A message that has not ended counts once it has
 * bytes that are queued. 0 without SENDQ_MESSAGES, or if q is NULL.
 */
uint64_t sendq_queued_messages(const sendq_t *q);

/**
 * Returns how many messages were wholly sent, ever. 0 without SENDQ_MESSAGES, or if q is NULL.
 */
uint64_t sendq_sent_messages(const sendq_t *q);

/**
 * Makes a hole for at most max_len bytes, such as a length that is known when what follows is written. Appends
 * go on behind it. No flush sends what is behind it until it is filled. Several holes may be open. A hole counts
 * as no bytes until it is filled. When it is filled, what is queued may exceed max by max_len. *out is for
 * sendq_fill. A hole takes a block of memory, and divides what is sent in two pieces. A hole has to be filled, if
 * only with no bytes, or discarded: else nothing behind it ever leaves. It can be filled after sendq_close.
 *
 * Errors as for sendq_append. -EINVAL also if out is NULL or max_len is larger than an object can be. On failure
 * *out is no hole.
 */
int sendq_hole(sendq_t *q,
               size_t max_len,
               sendq_hole_t *out);

/**
 * Fills a hole of this queue with a copy of len bytes, which may be none. What is behind it may be sent then, up
 * to the next open hole. A hole that is filled already, or was discarded, is left as it is: the call succeeds.
 *
 * Hints: SENDQ_WAKE, if bytes became available and none were; SENDQ_HIGH.
 * -EINVAL: q is NULL, data is NULL and len is not 0, or len is more than the hole was made for; it stays open.
 * Another -errno: the connection has failed with it.
 */
int sendq_fill(sendq_t *q,
               sendq_hole_t hole,
               const void *data,
               size_t len);

/**
 * Fills parts with the oldest queued bytes, as sendq_peek does, with parts of files: SENDQ_PART_REF for memory,
 * of which what is contiguous is one part, SENDQ_PART_FILE for files. Returns how many were filled, at most count. For hosts that hand them to
 * SSL_sendfile(3), io_uring(7) or a file of their own, and then call sendq_consume. Costs O(count).
 *
 * -EINVAL: q is NULL, count is negative, or parts is NULL and count is not 0.
 */
int sendq_peek_parts(const sendq_t *q,
                     sendq_part_t *parts,
                     int count);

/**
 * Makes a shared buffer by copying len bytes. It counts against the budget of pool (NULL: the default pool)
 * once, however many queues send it, until it is freed, and it keeps the pool alive. On success *out is a
 * reference to it; give it to sendq_buf_unref when no more appends will follow. The queues hold their own
 * references. The calling thread must be one that may use the pool; afterwards any thread may use the
 * buffer.
 *
 * -EINVAL: out is NULL, data is NULL and len is not 0, or len is larger than an object can be.
 * -ENOBUFS: over the pool's budget. -ENOMEM: out of memory. On failure *out is NULL.
 */
int sendq_buf_copy(sendq_pool_t *pool,
                   const void *data,
                   size_t len,
                   sendq_buf_t **out);

/**
 * Makes a shared buffer without copying. The bytes must stay readable and unchanged until release is called,
 * once, with arg, data, len and reason 0, by the thread that gives up the last reference. If release is
 * NULL, the memory must stay valid for good.
 *
 * Errors as for sendq_buf_copy; release is then never called.
 */
int sendq_buf_wrap(sendq_pool_t *pool,
                   const void *data,
                   size_t len,
                   sendq_release_fn release,
                   void *arg,
                   sendq_buf_t **out);

/**
 * Takes another reference. Returns buf, or NULL if buf is NULL.
 */
sendq_buf_t *sendq_buf_ref(sendq_buf_t *buf);

/**
 * Gives up a reference. The last one frees the buffer. NULL is ignored.
 */
void sendq_buf_unref(sendq_buf_t *buf);

/**
 * Sends what is queued to the connected stream socket fd, oldest bytes first, until the socket takes no more
 * or max_bytes are sent (0: no limit). It never blocks and never raises SIGPIPE, whatever the socket's mode.
 * Bytes that other threads append meanwhile are left for the next call. All system calls of one flush except
 * the last carry MSG_MORE (send(2)), so that a header and the file behind it share a segment. sendfile(2)
 * has no such flag. If the socket takes no more after a call with MSG_MORE, the kernel is told to send what it
 * holds back (TCP_CORK off, tcp(7)).
 *
 * If nothing is queued, fd is not used.
 *
 * No hint, or only SENDQ_RESUME or SENDQ_UNACKED: all is sent, except what is behind a cork or an open hole.
 * Hints: SENDQ_UNACKED: the kernel still reads some of it (SENDQ_ZEROCOPY). SENDQ_BLOCKED: the socket is full; flush
 * again when it is writable. SENDQ_MORE: max_bytes are sent, or a rate holds back the rest; flush again soon
 * (sendq_retry_after_ns). SENDQ_RESUME: what is queued has dropped to the low watermark.
 * -EINVAL: q is NULL. -EBUSY: another thread is flushing the queue; nothing has changed.
 * Another -errno is the end of the connection: -EPIPE or -ECONNRESET (the peer is gone), -EBADF (fd is
 * closed), -ENOTSOCK (fd is no socket), -ENODATA (a file is shorter than promised), -ETIMEDOUT (the deadline
 * of sendq_close_within has passed), or an error of send(2). A socket that is not connected gives -EPIPE or
 * -ENOTCONN. Everything that was queued is discarded and released with that error before the call returns,
 * and later appends and flushes return the same error.
 */
int sendq_flush(sendq_t *q,
                sendq_fd_t fd,
                size_t max_bytes);

/**
 * Sends what is queued through the write callback, which is called with arg until all is sent, it takes no
 * more, or max_bytes are sent (0: no limit). Each call gets contiguous bytes, at most 16 KiB: the plaintext
 * of one TLS record. Small pieces are gathered into such records, larger pieces are passed from where they
 * are, and files are read.
 *
 * If write has taken nothing, the next call of this function first passes the same bytes at the same
 * address, even if they are more than max_bytes. SSL_write(3) requires this unless
 * SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER is set. So, after a refusal, do not discard what is queued if the
 * connection is to continue. A gathered record takes up to 16 KiB of the pool's memory until write has taken
 * it. The pool's budget does not refuse it.
 *
 * Hints: as for sendq_flush; SENDQ_WANT_READ in place of SENDQ_BLOCKED, if write returned
 * SENDQ_WRITE_WANT_READ.
 * -EINVAL: q or write is NULL. -EBUSY: another thread is flushing the queue, or write called this function.
 * -ENOMEM: out of memory, and nothing was sent. -ECANCELED: write has freed q.
 * Another -errno is the end of the connection, as for sendq_flush: the error that write returned, or -EIO if
 * it returned more than len.
 */
int sendq_flush_with(sendq_t *q,
                     sendq_write_fn write,
                     void *arg,
                     size_t max_bytes);

/**
 * Fills up to iovcnt entries of iov with the oldest queued bytes, and returns how many entries were filled.
 * A host with its own way of writing sends them and then calls sendq_consume. The memory stays where it is
 * until it is consumed, flushed or discarded, the queue is freed, or the connection fails. Appending does
 * not move it. So a thread-safe queue may be peeked only by the thread that also flushes it. The entries end
 * before a part of a file, which has no address; there are none if a file comes first, or if the connection
 * has failed. Costs O(iovcnt), and one step for each notification in between.
 *
 * -EINVAL: q is NULL, iovcnt is negative, or iov is NULL and iovcnt is not 0.
 */
int sendq_peek(const sendq_t *q,
               struct iovec *iov,
               int iovcnt);

/**
 * Consumes the first bytes bytes, which the host has sent itself. They count as sent.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL, or fewer bytes are queued; nothing is consumed. -EBUSY: another thread is flushing the
 * queue.
 * -ETIMEDOUT: the bytes are consumed, and the deadline of sendq_close_within has passed: the rest is
 * discarded.
 * Another -errno: the connection has failed with it.
 */
int sendq_consume(sendq_t *q,
                  size_t bytes);

/**
 * Takes the kernel's acknowledgements of what was sent to the socket fd without a copy (SENDQ_ZEROCOPY), and releases
 * the pieces that it does not read any more. Call it when fd has an error event, which stays until the
 * acknowledgements are taken. Each flush takes them as well. On a queue that has sent nothing so, it does nothing,
 * and does not use fd. Costs two system calls, and one for each acknowledgement.
 *
 * Hint: SENDQ_UNACKED: others are to come, also if bytes are queued.
 * -EINVAL: q is NULL, or fd is another socket than that which the queue was flushed to. -EBADF, -ENOTSOCK: fd is
 * closed, or is no socket; nothing was taken. Free or reset the queue then: the pool goes on.
 */
int sendq_reap(sendq_t *q,
               sendq_fd_t fd);

/**
 * Releases what queues of this pool that were reset or freed have left in the kernel's hands, as far as the kernel is
 * done with it (SENDQ_ZEROCOPY). Call it from a timer. Each flush of a queue of this pool that has the flag does it as
 * well. The callbacks run on the calling thread, with no lock held. Costs one system call for each connection that is
 * left, and one for each acknowledgement.
 *
 * A peer that takes next to nothing holds its memory for two minutes at most: the next call after that ends the
 * connection. To end it at once, connect(2) the socket to an address of AF_UNSPEC before sendq_free; close(2), also
 * with SO_LINGER, does not while the pool holds the socket. In a callback, while another call is at it, this does
 * nothing.
 *
 * Hint: SENDQ_UNACKED: others are left. A pool that is freed while it has orphans, or queues with SENDQ_ZEROCOPY,
 * stays until this returns 0: the handle is valid for this call alone, and has to be given to it until then.
 * -EINVAL: pool is NULL. What queues of the default pool have left is released by flushes alone, on their threads.
 */
int sendq_pool_reap(sendq_pool_t *pool);

/**
 * Returns how many bytes are queued. 0 if q is NULL. O(1).
 */
uint64_t sendq_queued_bytes(const sendq_t *q);

/**
 * Returns how many queued bytes are not in files: these count against high, max and the pool's budget. 0 if
 * q is NULL. O(1).
 */
uint64_t sendq_queued_memory(const sendq_t *q);

/**
 * Returns how many bytes of memory the queue holds: its blocks of the pool, whole, with what is reserved and
 * what is gathered for sendq_flush_with; borrowed memory, until its owner is released; and shared buffers, of
 * which each part counts whole. The queue itself is not counted. 0 if q is NULL. O(1).
 */
uint64_t sendq_memory(const sendq_t *q);

/**
 * Returns how many bytes may be appended by sendq_append before the high watermark is reached or the pool's
 * budget is spent. 0 while the producer is paused (SENDQ_HIGH, and no SENDQ_RESUME since), while memory is
 * reserved, after sendq_close or a failure, and if q is NULL. A proxy reads no more than this from its other
 * side. In a thread-safe pool other threads may take from the budget meanwhile. O(1).
 */
uint64_t sendq_room(const sendq_t *q);

/**
 * Returns how many bytes were sent in total, by flushes or sendq_consume. This number only increases. 0 if q
 * is NULL. O(1).
 */
uint64_t sendq_sent_bytes(const sendq_t *q);

/**
 * Returns for how many nanoseconds no byte was sent while bytes were queued, by the pool's clock. What the peer
 * acknowledges of bytes that were sent without a copy (SENDQ_ZEROCOPY) counts as if it were sent then. For the
 * first bytes of a queue that was empty, the time counts from the first flush after them, or the first call
 * of this function, because an append does not read the clock. 0 if nothing is queued, or only corked bytes,
 * or q is NULL.
 *
 * The time depends on what is sent, not on how much is queued, and it grows without a flush. So a host
 * checks it from a timer, and drops the connections that are stuck. With sendq_set_min_rate, a connection
 * that has been too slow for longer counts as stalled for that long. O(1); reads the clock.
 */
uint64_t sendq_stalled_ns(const sendq_t *q);

/**
 * Returns the current state as hints, for a host that has lost track of them: SENDQ_HIGH (the producer
 * should be paused), SENDQ_BLOCKED or SENDQ_WANT_READ (what the next flush waits for), SENDQ_MORE (a flush
 * would offer bytes now), SENDQ_CORKED, SENDQ_CLOSED (also after a failure: see sendq_error). 0: none of
 * these. O(1); may read the clock.
 *
 * -EINVAL: q is NULL.
 */
int sendq_state(const sendq_t *q);

/**
 * Returns 0, or the -errno that ended the connection. -ENOTRECOVERABLE: a bug in sendq was caught, and this
 * queue cannot be used any more. -EINVAL: q is NULL. O(1).
 */
int sendq_error(const sendq_t *q);

/**
 * Replaces the watermarks; 0 means the default (see sendq_config_t). What is queued stays, even if it is
 * above the new max.
 *
 * Hints: SENDQ_HIGH, if as much is queued as the new high or more. Otherwise SENDQ_RESUME, if what is queued
 * is at or below the new low after having been high.
 * -EINVAL: q is NULL, low is above high, or high is above max.
 * -ENOMEM: a low other than half of high needs memory. Nothing has changed.
 */
int sendq_set_watermarks(sendq_t *q,
                         uint64_t low,
                         uint64_t high,
                         uint64_t max);

/**
 * Limits the rate to bytes_per_second; 0: no limit. After a pause, up to burst bytes may be sent at once (a
 * token bucket); a burst of 0 means the bytes of one second. A new rate does not refill the bucket. A flush
 * that the rate holds back returns SENDQ_MORE; sendq_retry_after_ns says when to flush again. Bytes that the
 * host sends itself (sendq_consume) count against the rate, but are not held back.
 *
 * The resolution is that of the pool's clock. The default clock advances every few milliseconds
 * (clock_getres(2), CLOCK_MONOTONIC_COARSE). A burst that is smaller than the bytes of one such step limits
 * the rate further: no more than burst bytes are sent in each step.
 *
 * -EINVAL: q is NULL. -ENOMEM: out of memory, nothing has changed.
 */
int sendq_set_rate(sendq_t *q,
                   uint64_t bytes_per_second,
                   uint64_t burst);

/**
 * Sets a minimum rate; 0: none. A connection is too slow in a window of window_ns nanoseconds if bytes are
 * queued all the time and fewer than bytes_per_second are sent for each second of it. sendq_stalled_ns then
 * counts from the beginning of that window, until a window comes in which enough was sent. So a client that
 * takes one byte a minute is treated like one that takes nothing. For example, set 1000 bytes a second over
 * 10 s, and drop a client that is stalled for more than 30 s. The limit for sendq_stalled_ns should not be
 * below the window.
 *
 * Sent bytes are those that the socket has taken. A full socket becomes writable only when a good part of
 * its send buffer is free. With a buffer of megabytes, a slow reader therefore seems to stand still for a
 * long time. So choose the window to fit SO_SNDBUF (socket(7)), or set SO_SNDBUF. Do not set a minimum rate
 * above the rate of sendq_set_rate.
 *
 * -EINVAL: q is NULL, or window_ns is 0 and bytes_per_second is not. -ENOMEM: out of memory, nothing has
 * changed.
 */
int sendq_set_min_rate(sendq_t *q,
                       uint64_t bytes_per_second,
                       uint64_t window_ns);

/**
 * Returns in how many nanoseconds a flush does something although the socket has not changed, for the host's
 * timer. 0: now. SENDQ_NEVER: only the socket can help, nothing is queued, or q is NULL. Any other value is
 * the time until the rate (sendq_set_rate) allows enough bytes to be worth a call, or until the deadline of
 * sendq_close_within. It is measured by the pool's clock, which may be a step behind the clock of the timer.
 * O(1); reads the clock.
 */
uint64_t sendq_retry_after_ns(const sendq_t *q);

#if !defined(_WIN32)
/**
 * Replaces sendmsg(2): the same arguments and the same result, -1 with errno on failure. It first flushes
 * what is queued. If nothing is queued then, it sends directly from the caller's memory. Of what the socket
 * refuses, it appends a copy, but no more than up to the high watermark. So the result may be less than the
 * length of msg, as that of sendmsg(2) may, and a host that calls this in a loop never queues more than high
 * for a client that does not read. A thread-safe queue always copies, and then flushes.
 *
 * After a success bytes may be queued: see sendq_queued_bytes, and flush when fd is writable. A short result
 * does not always mean that the socket is full: a thread-safe queue copies no more than high at a time, and
 * one call offers the socket at most IOV_MAX pieces. So call again with the rest until the result is EAGAIN,
 * as with sendmsg(2), or see sendq_state for SENDQ_BLOCKED. A RESUME hint of the flush inside is not
 * returned. A message without bytes is a flush, also on a closed queue. The rate of sendq_set_rate holds
 * back what is sent.
 *
 * Errors, with nothing taken: EAGAIN: as much is queued as the high watermark or more, even after the flush, or
 * the pool's budget or max_messages refuse the copy.
 * EOPNOTSUPP: a destination, ancillary data, or a flag. Only MSG_DONTWAIT, MSG_NOSIGNAL and MSG_MORE are
 * accepted, and ignored. EINVAL: q or msg is NULL, or as for sendq_appendv. (sendmsg(2) has EFAULT for some
 * of these, and EMSGSIZE above IOV_MAX pieces; here there may be any number of pieces.) EPIPE, ENOMEM,
 * EBUSY: as for sendq_append. Other errors end the connection, as for sendq_flush.
 *
 * Not on Windows, which has no sendmsg(2).
 */
ssize_t sendq_sendmsg(sendq_t *q,
                      sendq_fd_t fd,
                      const struct msghdr *msg,
                      int flags);
#endif

/**
 * Shadow mode: checks the queue against the path that it will replace. The old path has sent the first bytes
 * bytes of iov, and the same data was appended to the queue. If these are the next bytes of the queue, they
 * are consumed, as by sendq_consume. If not, the call returns -EILSEQ and consumes nothing, and *mismatch_at
 * is the offset in the stream of the first byte that differs or that the queue does not have. The stream
 * begins at offset 0; sendq_sent_bytes is the offset of the first queued byte. mismatch_at may be NULL.
 * Parts of files are read and compared, too.
 *
 * Hint: SENDQ_RESUME.
 * -EINVAL: q is NULL, as for sendq_appendv, or iov has fewer than bytes bytes. -EBUSY: another thread is
 * flushing the queue.
 * Another -errno: the connection has failed with it, or a file could not be read: an error of pread(2), or
 * -ENODATA if it has become shorter.
 */
int sendq_verify(sendq_t *q,
                 const struct iovec *iov,
                 int iovcnt,
                 size_t bytes,
                 uint64_t *mismatch_at);

/**
 * Fills out with the statistics of a queue, up to out_size bytes. Costs one step for each borrowed or shared
 * piece that is queued, so do not call it for every append.
 *
 * -EINVAL: q or out is NULL.
 */
int sendq_stats(const sendq_t *q,
                sendq_stats_t *out,
                size_t out_size);

/**
 * Writes the statistics of a queue as one flat JSON object, such as {"error":0,"copied":124,...}: the fields
 * of sendq_stats_t by name, and error as sendq_error returns it. If fd is the queue's socket (SENDQ_NO_FD:
 * none), the object also has what the kernel reports: so_sndbuf (SO_SNDBUF), outq (SIOCOUTQ: bytes not sent or
 * not acknowledged), tcp_unacked and tcp_total_retrans (TCP_INFO, in segments), and acked, which is sent minus
 * outq: the bytes that the peer's kernel has acknowledged, if all sent bytes went to fd. See socket(7) and
 * tcp(7). Fields that fd does not support are left out.
 *
 * Like snprintf: writes at most size bytes including a NUL at the end, and returns the length of the whole
 * text without the NUL. So a result of size or more means that the text was cut off. If size is 0, nothing
 * is written and out may be NULL. 1024 bytes are enough.
 *
 * -EINVAL: q is NULL, or out is NULL and size is not 0.
 */
int sendq_stats_json(const sendq_t *q,
                     sendq_fd_t fd,
                     char *out,
                     size_t size);

/**
 * Sets the log callback of the process, which is called with arg for each message up to max_level
 * (SENDQ_LOG_ERROR to SENDQ_LOG_INFO). sendq logs how each connection ended, once, with statistics. It does
 * not log calls that succeed. A later call replaces the callback; NULL, or a max_level of 0, removes it. A
 * call of the old callback that is in progress on another thread may continue after this returns.
 *
 * -EINVAL: max_level is below 0 or above SENDQ_LOG_INFO. -EALREADY: the process has a logger of Rust's log
 * crate, which gets the records.
 */
int sendq_set_logger(sendq_log_fn function,
                     void *arg,
                     int max_level);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SENDQ_SENDQ_H */


#ifndef SENDQ_SENDQ_PARTS_H
#define SENDQ_SENDQ_PARTS_H

/* Parts of a message. */

static inline sendq_part_t sendq_part_of(uint32_t kind, sendq_fd_t fd, const void *data,
                                         uint64_t offset, uint64_t len, sendq_release_fn release,
                                         void *arg)
{
    sendq_part_t part;
    part.kind = kind;
    part.fd = fd;
    part.data = data;
    part.offset = offset;
    part.len = len;
    part.release = release;
    part.arg = arg;
    return part;
}

/* len bytes to copy. */
static inline sendq_part_t sendq_part_copy(const void *data, size_t len)
{
    return sendq_part_of(SENDQ_PART_COPY, SENDQ_NO_FD, data, 0, len, NULL, NULL);
}

/* len bytes that stay unchanged until the message is released. */
static inline sendq_part_t sendq_part_ref(const void *data, size_t len)
{
    return sendq_part_of(SENDQ_PART_REF, SENDQ_NO_FD, data, 0, len, NULL, NULL);
}

/* len bytes of a shared buffer, from offset. The queue takes a reference of its own. */
static inline sendq_part_t sendq_part_buf(sendq_buf_t *buf, size_t offset, size_t len)
{
    return sendq_part_of(SENDQ_PART_BUF, SENDQ_NO_FD, buf, offset, len, NULL, NULL);
}

/* len bytes of a file, from offset. It stays open and keeps them until the message is released. */
static inline sendq_part_t sendq_part_file(sendq_fd_t fd, uint64_t offset, uint64_t len)
{
    return sendq_part_of(SENDQ_PART_FILE, fd, NULL, offset, len, NULL, NULL);
}

/* The same; sendq closes fd when the bytes are sent or discarded. */
static inline sendq_part_t sendq_part_owned_file(sendq_fd_t fd, uint64_t offset, uint64_t len)
{
    return sendq_part_of(SENDQ_PART_OWNED_FILE, fd, NULL, offset, len, NULL, NULL);
}

/* len bytes with an owner of their own: release is called with arg, data and len when they are not needed any
 * more, besides the release of the message. */
static inline sendq_part_t sendq_part_own(const void *data, size_t len, sendq_release_fn release,
                                          void *arg)
{
    return sendq_part_of(SENDQ_PART_OWN, SENDQ_NO_FD, data, 0, len, release, arg);
}

#endif /* SENDQ_SENDQ_PARTS_H */
