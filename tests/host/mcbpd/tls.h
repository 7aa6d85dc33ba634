// OpenSSL's handles, owned.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace mcbpd {

struct FreeTlsContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using TlsContextPtr = std::unique_ptr<SSL_CTX, FreeTlsContext>;

struct FreeTls {
    void operator()(SSL* tls) const { SSL_free(tls); }
};
using TlsPtr = std::unique_ptr<SSL, FreeTls>;

// Of a server with that certificate, and what leads to its issuer, and that key: PEM files. Null
// without them; throws BadOption if they are of no use.
TlsContextPtr make_tls_context(const std::string& cert, const std::string& key);

}  // namespace mcbpd
