// What all rows with a queue of sendq in place of the list have in common: its settings, its flush,
// and what the results mean to this host.
#pragma once

#include <sendq/openssl.h>

#include <sendq/sendq.hpp>

#include "output.h"

namespace mcbpd {

// Values shorter than this are not worth a borrow. sendq's default, said here because holds() must
// know it.
constexpr size_t kCopyBelow = 4096;

inline sendq::pool make_pool(const Limits& limits) {
    sendq::pool_config config;
    config.max_bytes = limits.budget;
    config.now = limits.now;
    return sendq::pool::create(config).or_throw();
}

inline sendq::queue make_queue(const sendq::pool& pool, const Limits& limits, void* user,
                               uint32_t flags = 0) {
    sendq::queue_config config;
    config.flags = flags | (limits.zerocopy > 0 ? SENDQ_ZEROCOPY : 0);
    config.zerocopy_from = limits.zerocopy;
    config.user = user;
    config.copy_below = kCopyBelow;
    config.low = limits.low;
    config.high = limits.high;
    config.max = limits.cap;
    config.max_messages = limits.messages;
    sendq::queue queue = sendq::queue::create(pool, config).or_throw();
    queue.set_min_rate(limits.min_rate, limits.min_rate_window).or_throw();
    return queue;
}

inline int flush_queue(sendq_t* queue, const Transport& transport) {
    SSL* tls = transport.tls();
    return tls != nullptr ? sendq_ssl_flush(queue, tls, kFlushBudget)
                          : sendq_flush(queue, transport.fd(), kFlushBudget);
}

inline int close_queue(sendq_t* queue, const Transport& transport) {
    SSL* tls = transport.tls();
    return tls != nullptr ? sendq_ssl_close(queue, tls) : 0;
}

inline Flushed flushed(int result) {
    if (result < 0) {
        return {Flushed::State::failed, -result};
    }
    if ((result & (SENDQ_BLOCKED | SENDQ_WANT_READ)) != 0) {
        return {Flushed::State::blocked};
    }
    if ((result & SENDQ_MORE) != 0) {
        return {Flushed::State::more};
    }
    return {};
}

}  // namespace mcbpd
