// A connection as a bufferevent.
#pragma once

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

#include <memory>
#include <new>

#include "transport.h"

namespace mcbpd {

struct FreeBufferevent {
    void operator()(bufferevent* stream) const { bufferevent_free(stream); }
};
using BuffereventPtr = std::unique_ptr<bufferevent, FreeBufferevent>;

// The descriptor and the SSL stay the transport's, which also reads. Neither locks nor deferred
// callbacks: one thread has it all.
inline BuffereventPtr open_stream(event_base* base, const Transport& transport) {
    constexpr int kNoOptions = 0;
    SSL* tls = transport.tls();
    bufferevent* stream = tls != nullptr
                              ? bufferevent_openssl_socket_new(base, transport.fd(), tls,
                                                               BUFFEREVENT_SSL_OPEN, kNoOptions)
                              : bufferevent_socket_new(base, transport.fd(), kNoOptions);
    if (stream == nullptr) {
        throw std::bad_alloc();
    }
    return BuffereventPtr(stream);
}

}  // namespace mcbpd
