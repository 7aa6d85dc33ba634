// A release that throws, against the contract: the process ends with a message, at the boundary.
// What must not happen is that it goes on, with the exception lost or with the queue half changed.
#include <sendq/sendq.h>
#include <sys/resource.h>
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

sendq_t* Lent() {
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
    sendq_consume(Lent(), sizeof bytes);
}

void OfDiscard() {
    sendq_discard(Lent());
}

void OfFree() {
    sendq_free(Lent());
}

void OfFailure() {
    sendq_flush(Lent(), -1, 0);
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
        {"copied", OfCopied},   {"notify", OfNotify}, {"consume", OfConsume},
        {"discard", OfDiscard}, {"free", OfFree},     {"failure", OfFailure},
        {"unref", OfUnref},     {"shared", OfShared}, {"rollback", OfRollback},
    };
    int failures = 0;
    for (const auto& c : cases) {
        if (!Aborts(c.run)) {
            std::fprintf(stderr, "a release that throws (%s): no clean abort\n", c.name);
            failures++;
        }
    }
    return failures;
}
