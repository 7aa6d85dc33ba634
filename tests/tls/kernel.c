/* With SSL_set_fd and SSL_OP_ENABLE_KTLS: by the kernel where it has TLS, else the ordinary way. */
#include <fcntl.h>

#include "tls.h"

enum { STREAM = 1 << 20, HEAD = 24 };

static unsigned char stream[STREAM];

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    tls t = tls_connect(ends_tcp(), TLS1_3_VERSION);
    CHECK_IS(fcntl(t.e.queue, F_SETFL, O_NONBLOCK), 0);
    CHECK(SSL_set_fd(t.server, t.e.queue));
    SSL_set_options(t.server, SSL_OP_ENABLE_KTLS);
    BIO* own = SSL_get_wbio(t.server);
    CHECK_IS(sendq_ssl_sends_files(t.server), 0); /* before the handshake */
    for (int i = 0; !tls_handshake_step(&t); i++) {
        CHECK(i < 1000);
        tls_wait(&t, POLLIN);
    }
    CHECK_IS(sendq_ssl_sends_files(t.server), BIO_get_ktls_send(own));
    printf("the kernel %s\n", sendq_ssl_sends_files(t.server) ? "encrypts" : "has no TLS");

    FILE* file = file_of(stream, STREAM);
    piece p;
    CHECK(sendq_append(t.q, stream, HEAD) >= 0);
    CHECK(piece_append_file(t.q, &p, fileno(file), HEAD, STREAM - HEAD) >= 0);
    tls_drain(&t);
    CHECK_IS(t.received, STREAM);
    CHECK_IS(p.times, 1);
    CHECK(SSL_get_wbio(t.server) == own);
    fclose(file);
    tls_free(&t);
    tls_clean_up();
    return 0;
}
