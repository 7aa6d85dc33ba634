#include "tls.h"

#include <openssl/err.h>

#include <new>

#include "options.h"

namespace mcbpd {
namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& file) {
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    const std::string why = reason != nullptr ? reason : "it cannot be used";
    ERR_clear_error();
    throw BadOption(option + "=" + file + ": " + why);
}

}  // namespace

TlsContextPtr make_tls_context(const std::string& cert, const std::string& key) {
    if (cert.empty()) {
        return nullptr;
    }
    TlsContextPtr context(SSL_CTX_new(TLS_server_method()));
    if (!context) {
        throw std::bad_alloc();
    }
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    // What a list of pieces needs: each record counts when it has left, the list may move. And an
    // idle connection keeps no buffers.
    SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context.get(), cert.c_str()) != 1) {
        refuse("--tls-cert", cert);
    }
    // That of another certificate is refused, too.
    if (SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1) {
        refuse("--tls-key", key);
    }
    return context;
}

}  // namespace mcbpd
