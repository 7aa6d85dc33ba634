/* Small pieces share records; large ones are sent from where they lie. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "tls.h"

enum { LARGE = 1 << 20, HEAD = 24 };

static unsigned char stream[2 * LARGE];

static unsigned pushes;

/* In place of libc's, which it calls. */
int setsockopt(int fd, int level, int name, const void* value, socklen_t len) {
    typedef int (*function)(int, int, int, const void*, socklen_t);
    function libc_setsockopt = NULL;
    *(void**)&libc_setsockopt = dlsym(RTLD_NEXT, "setsockopt");
    pushes += level == IPPROTO_TCP && name == TCP_CORK;
    return libc_setsockopt(fd, level, name, value, len);
}

/* 16 responses of 24 + 100 bytes: one record. */
static void small_ones(int version) {
    tls t = tls_establish(ends_tcp(), version);
    for (size_t at = 0; at < 16 * (HEAD + 100); at += HEAD + 100) {
        CHECK(sendq_append(t.q, stream + at, HEAD) >= 0);
        CHECK(sendq_append_ref(t.q, stream + at + HEAD, 100, NULL, NULL) >= 0);
    }
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), 0);
    tls_drain(&t);
    CHECK_IS(t.received, 16 * (HEAD + 100));
    CHECK_IS(t.records, 1);
    tls_free(&t);
}

/* A mebibyte behind a head: full records, and one that is not. */
static void large_ones(int version) {
    tls t = tls_establish(ends_tcp(), version);
    CHECK(sendq_append(t.q, stream, HEAD) >= 0);
    CHECK(sendq_append_ref(t.q, stream + HEAD, LARGE, NULL, NULL) >= 0);
    tls_drain(&t);
    CHECK_IS(t.received, HEAD + LARGE);
    CHECK_IS(t.records, LARGE / RECORD + 1);
    tls_free(&t);
}

/* A flush that sends everything ends with a record that nothing follows: nothing is held back. */
static void no_pushes(int version) {
    tls t = tls_establish(ends_tcp(), version);
    pushes = 0;
    CHECK(sendq_append(t.q, stream, HEAD) >= 0);
    CHECK(sendq_append_ref(t.q, stream + HEAD, RECORD, NULL, NULL) >= 0);
    CHECK_IS(sendq_ssl_flush(t.q, t.server, 0), 0);
    tls_drain(&t);
    CHECK_IS(t.records, 2);
    CHECK_IS(pushes, 0);
    tls_free(&t);
}

int main(void) {
    tls_prepare();
    stream_fill(stream, 0, sizeof stream);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        small_ones(version);
        large_ones(version);
        no_pushes(version);
    }
    tls_clean_up();
    return 0;
}
