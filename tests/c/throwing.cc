// A release, a logger or a clock that throws, against the contract: the process ends with a
// message, at the boundary. What must not happen is that it goes on, with the exception lost or
// with the queue half changed.
#include <sendq/sendq.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace {

char bytes[10000];

void Throw(void*, const void*, size_t, int) {
    throw std::runtime_error("from a release");
}

sendq_t* Queue() {
    sendq_config_t config{};
    config.size = sizeof config;
    config.copy_below = 100;
    sendq_t* q = nullptr;
    if (sendq_new(nullptr, &config, &q) != 0) {
        std::exit(3);
    }
    return q;
}

sendq_t* Borrowed() {
    sendq_t* q = Queue();
    sendq_append_ref(q, bytes, sizeof bytes, Throw, nullptr);
    return q;
}

void OfCopied() {
    sendq_append_ref(Queue(), bytes, 1, Throw, nullptr);
}

void OfNotify() {
    sendq_notify(Queue(), Throw, nullptr);
}

void OfConsume() {
    sendq_consume(Borrowed(), sizeof bytes);
}

void OfDiscard() {
    sendq_discard(Borrowed());
}

void OfFree() {
    sendq_free(Borrowed());
}

void OfFailure() {
    sendq_flush(Borrowed(), -1, 0);
}

void OfRollback() {
    sendq_t* q = Queue();
    sendq_cork(q);
    sendq_append_ref(q, bytes, sizeof bytes, Throw, nullptr);
    sendq_rollback(q);
}

void OfUnref() {
    sendq_buf_t* buf = nullptr;
    sendq_buf_wrap(nullptr, bytes, sizeof bytes, Throw, nullptr, &buf);
    sendq_buf_unref(buf);
}

void OfShared() {
    sendq_t* q = Queue();
    sendq_buf_t* buf = nullptr;
    sendq_buf_wrap(nullptr, bytes, sizeof bytes, Throw, nullptr, &buf);
    sendq_append_buf(q, buf, 0, sizeof bytes);
    sendq_buf_unref(buf);
    sendq_consume(q, sizeof bytes);
}

void ThrowLog(void*, int, sendq_t*, const char*) {
    throw std::runtime_error("from a logger");
}

void OfLogger() {
    sendq_set_logger(ThrowLog, nullptr, SENDQ_LOG_INFO);
    sendq_t* q = Queue();
    sendq_append(q, bytes, sizeof bytes);
    sendq_flush(q, -1, 0);
}

// A queue that is blocked: to free it is worth a word.
void OfLoggerInFree() {
    sendq_set_logger(ThrowLog, nullptr, SENDQ_LOG_INFO);
    int fds[2];
    sendq_t* q = Queue();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        _exit(3);
    }
    for (int i = 0; i < 1000; i++) {
        sendq_append_ref(q, bytes, sizeof bytes, nullptr, nullptr);
    }
    if (sendq_flush(q, fds[0], 0) != SENDQ_BLOCKED) {
        _exit(3);
    }
    sendq_free(q);
}

bool clock_throws = false;

uint64_t ThrowNow(void*) {
    if (clock_throws) {
        throw std::runtime_error("from a clock");
    }
    return 0;
}

// A queue with that clock, in which something waits; from here on the clock throws.
sendq_t* Timed(uint32_t flags) {
    sendq_pool_config_t pool_config{};
    pool_config.size = sizeof pool_config;
    pool_config.flags = flags;
    pool_config.now = ThrowNow;
    sendq_config_t config{};
    config.size = sizeof config;
    config.flags = flags;
    sendq_pool_t* pool = nullptr;
    sendq_t* q = nullptr;
    if (sendq_pool_new(&pool_config, &pool) != 0 || sendq_new(pool, &config, &q) != 0 ||
        sendq_append(q, bytes, 100) < 0) {
        _exit(3);
    }
    clock_throws = true;
    return q;
}

template <uint32_t flags>
void OfClockInFlush() {
    sendq_flush(Timed(flags), -1, 0);
}

template <uint32_t flags>
void OfClockInConsume() {
    sendq_consume(Timed(flags), 1);
}

template <uint32_t flags>
void OfClockInStalled() {
    static_cast<void>(sendq_stalled_ns(Timed(flags)));
}

template <uint32_t flags>
void OfClockInStats() {
    sendq_stats_t stats;
    sendq_stats(Timed(flags), &stats, sizeof stats);
}

template <uint32_t flags>
void OfClockInJson() {
    sendq_stats_json(Timed(flags), -1, nullptr, 0);
}

template <uint32_t flags>
void OfClockInSplice() {
    sendq_t* from = Timed(flags);
    clock_throws = false;
    sendq_splice(Timed(flags), from);
}

template <uint32_t flags>
void OfClockInClose() {
    sendq_close_within(Timed(flags), 1);
}

template <uint32_t flags>
void OfClockInFree() {
    sendq_free(Timed(flags));
}

// Runs one in a child; true if that was aborted and had said something.
bool Aborts(void (*run)()) {
    int said[2];
    if (pipe(said) != 0) {
        return false;
    }
    pid_t child = fork();
    if (child == 0) {
        rlimit none{};
        setrlimit(RLIMIT_CORE, &none);
        dup2(said[1], STDERR_FILENO);
        try {
            run();
        } catch (...) {
            _exit(1);  // out through the C boundary
        }
        _exit(2);  // swallowed
    }
    close(said[1]);
    char text[512];
    size_t len = 0;
    for (ssize_t got; (got = read(said[0], text, sizeof text)) > 0;) {
        len += static_cast<size_t>(got);
    }
    close(said[0]);
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGABRT && len > 0;
}

}  // namespace

int main() {
    struct {
        const char* name;
        void (*run)();
    } const cases[] = {
        {"copied", OfCopied},
        {"notify", OfNotify},
        {"consume", OfConsume},
        {"discard", OfDiscard},
        {"free", OfFree},
        {"failure", OfFailure},
        {"unref", OfUnref},
        {"shared", OfShared},
        {"rollback", OfRollback},
        {"logger", OfLogger},
        {"logger in free", OfLoggerInFree},
        {"clock in flush", OfClockInFlush<0>},
        {"clock in consume", OfClockInConsume<0>},
        {"clock in stalled_ns", OfClockInStalled<0>},
        {"clock in stats", OfClockInStats<0>},
        {"clock in stats_json", OfClockInJson<0>},
        {"clock in splice", OfClockInSplice<0>},
        {"clock in close_within", OfClockInClose<0>},
        {"clock in free", OfClockInFree<0>},
        {"clock in flush, thread-safe", OfClockInFlush<SENDQ_THREADSAFE>},
        {"clock in stalled_ns, thread-safe", OfClockInStalled<SENDQ_THREADSAFE>},
        {"clock in stats, thread-safe", OfClockInStats<SENDQ_THREADSAFE>},
        {"clock in splice, thread-safe", OfClockInSplice<SENDQ_THREADSAFE>},
        {"clock in free, thread-safe", OfClockInFree<SENDQ_THREADSAFE>},
    };
    int failures = 0;
    for (const auto& c : cases) {
        if (!Aborts(c.run)) {
            std::fprintf(stderr, "a callback that throws (%s): no clean abort\n", c.name);
            failures++;
        }
    }
    return failures;
}
