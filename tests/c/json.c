/* sendq_stats_json: an object by the grammar, with the figures of sendq_stats under their names;
 * into buffers of every size, and with every kind of descriptor. */
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "simulated.h"

enum { ENOUGH = 1024, FIELDS = 22 };

static unsigned char bytes[1 << 16];

/* One flat object of numbers, as RFC 8259 has it. */
typedef struct {
    const char* at;
    char name[64];
    long long value;
    int members;
} object;

static bool takes(object* o, const char* text) {
    size_t len = strlen(text);
    if (strncmp(o->at, text, len) != 0) {
        return false;
    }
    o->at += len;
    return true;
}

/* A member: its name and its value, an integer without leading zeros. */
static void member(object* o) {
    CHECK(takes(o, "\""));
    size_t len = strcspn(o->at, "\"");
    CHECK(len > 0 && len < sizeof o->name);
    memcpy(o->name, o->at, len);
    o->name[len] = 0;
    CHECK_IS(strspn(o->name, "abcdefghijklmnopqrstuvwxyz_"), len);
    o->at += len;
    CHECK(takes(o, "\":"));
    const char* digits = o->at + (*o->at == '-');
    size_t count = strspn(digits, "0123456789");
    CHECK(count > 0 && (count == 1 || *digits != '0'));
    o->value = *o->at == '-' ? strtoll(o->at, NULL, 10) : (long long)strtoull(o->at, NULL, 10);
    o->at = digits + count;
    o->members++;
}

/* Finds the member `wanted`, exactly once, in a text that is an object and nothing else. */
static bool find(const char* text, const char* wanted, long long* value, int* members) {
    object o = {.at = text};
    int found = 0;
    CHECK(takes(&o, "{"));
    do {
        member(&o);
        if (strcmp(o.name, wanted) == 0) {
            *value = o.value;
            found++;
        }
    } while (takes(&o, ","));
    CHECK(takes(&o, "}"));
    CHECK_IS(*o.at, 0);
    CHECK(found <= 1);
    *members = o.members;
    return found > 0;
}

static bool has(const char* text, const char* name) {
    long long value;
    int members;
    return find(text, name, &value, &members);
}

static long long get(const char* text, const char* name) {
    long long value = 0;
    int members;
    CHECK(find(text, name, &value, &members));
    return value;
}

static int members(const char* text) {
    long long value;
    int members = 0;
    find(text, "", &value, &members);
    return members;
}

static const struct {
    const char* name;
    size_t offset;
} fields[FIELDS] = {
    {"copied", offsetof(sendq_stats_t, copied)},
    {"borrowed", offsetof(sendq_stats_t, borrowed)},
    {"shared", offsetof(sendq_stats_t, shared)},
    {"file", offsetof(sendq_stats_t, file)},
    {"sent", offsetof(sendq_stats_t, sent)},
    {"discarded", offsetof(sendq_stats_t, discarded)},
    {"waiting", offsetof(sendq_stats_t, waiting)},
    {"pinned", offsetof(sendq_stats_t, pinned)},
    {"allocated", offsetof(sendq_stats_t, allocated)},
    {"peak_waiting", offsetof(sendq_stats_t, peak_waiting)},
    {"flushes", offsetof(sendq_stats_t, flushes)},
    {"system_calls", offsetof(sendq_stats_t, system_calls)},
    {"short_writes", offsetof(sendq_stats_t, short_writes)},
    {"blocked", offsetof(sendq_stats_t, blocked)},
    {"blocked_ns", offsetof(sendq_stats_t, blocked_ns)},
    {"last_progress_ns", offsetof(sendq_stats_t, last_progress_ns)},
    {"stalled_ns", offsetof(sendq_stats_t, stalled_ns)},
    {"zerocopy", offsetof(sendq_stats_t, zerocopy)},
    {"zerocopy_acked", offsetof(sendq_stats_t, zerocopy_acked)},
    {"zerocopy_copied", offsetof(sendq_stats_t, zerocopy_copied)},
    {"zerocopy_off", offsetof(sendq_stats_t, zerocopy_off)},
    {"unacked", offsetof(sendq_stats_t, unacked)},
};

/* The text says what sendq_stats says; returns it. */
static const char* check_says(const sendq_t* q, int fd, int error) {
    static char text[ENOUGH];
    int len = sendq_stats_json(q, fd, text, sizeof text);
    CHECK(len > 0 && len < (int)sizeof text);
    CHECK_IS(strlen(text), len);
    sendq_stats_t stats = figures(q);
    for (size_t i = 0; i < FIELDS; i++) {
        uint64_t value;
        memcpy(&value, (const char*)&stats + fields[i].offset, sizeof value);
        CHECK_IS(get(text, fields[i].name), value);
    }
    CHECK_IS(get(text, "error"), error);
    return text;
}

/* Every size, from none to more than enough: cut off, ended, and nothing written behind. */
static void sizes(const sendq_t* q, int fd) {
    char whole[ENOUGH];
    char out[ENOUGH + 64];
    int len = sendq_stats_json(q, fd, whole, sizeof whole);
    CHECK_IS(sendq_stats_json(q, fd, NULL, 0), len);
    for (size_t size = 0; size < (size_t)len + 10; size++) {
        memset(out, 'x', sizeof out);
        CHECK_IS(sendq_stats_json(q, fd, out, size), len);
        size_t fits = size == 0 ? 0 : size - 1 < (size_t)len ? size - 1 : (size_t)len;
        CHECK_IS(memcmp(out, whole, fits), 0);
        size_t written = size == 0 ? 0 : fits + 1;
        CHECK(size == 0 || out[fits] == 0);
        for (size_t i = written; i < sizeof out; i++) {
            CHECK_IS(out[i], 'x');
        }
    }
    /* As large as no object is. */
    CHECK_IS(sendq_stats_json(q, fd, out, SIZE_MAX), len);
    CHECK_IS(strcmp(out, whole), 0);
}

static void descriptors(const sendq_t* q, ends unix_ends, ends tcp_ends) {
    const char* text = check_says(q, -1, 0);
    CHECK_IS(members(text), 1 + FIELDS);
    CHECK(!has(text, "so_sndbuf") && !has(text, "outq") && !has(text, "tcp_unacked"));
    CHECK(!has(text, "acked"));

    text = check_says(q, unix_ends.queue, 0);
    CHECK_IS(members(text), 1 + FIELDS + 3);
    CHECK(get(text, "so_sndbuf") > 0 && get(text, "outq") >= 0);

    int so_sndbuf;
    int outq;
    socklen_t len = sizeof so_sndbuf;
    CHECK_IS(getsockopt(tcp_ends.queue, SOL_SOCKET, SO_SNDBUF, &so_sndbuf, &len), 0);
    CHECK_IS(ioctl(tcp_ends.queue, SIOCOUTQ, &outq), 0);
    text = check_says(q, tcp_ends.queue, 0);
    CHECK_IS(members(text), 1 + FIELDS + 5);
    CHECK_IS(get(text, "so_sndbuf"), so_sndbuf);
    CHECK_IS(get(text, "outq"), outq);
    CHECK_IS(get(text, "acked"), sendq_sent_bytes(q) - (uint64_t)outq);
    CHECK(get(text, "tcp_unacked") >= 0 && get(text, "tcp_total_retrans") >= 0);

    int pipes[2];
    CHECK_IS(pipe(pipes), 0);
    int none = open("/dev/null", O_WRONLY | O_CLOEXEC);
    FILE* stream = tmpfile();
    CHECK(none >= 0 && stream != NULL);
    CHECK_IS(members(check_says(q, pipes[0], 0)), 1 + FIELDS);
    CHECK_IS(members(check_says(q, pipes[1], 0)), 1 + FIELDS);
    CHECK_IS(members(check_says(q, none, 0)), 1 + FIELDS);
    CHECK_IS(members(check_says(q, fileno(stream), 0)), 1 + FIELDS);
    CHECK_IS(fclose(stream), 0);
    close(pipes[0]);
    close(pipes[1]);
    close(none);
    CHECK_IS(members(check_says(q, none, 0)), 1 + FIELDS); /* closed */
    CHECK_IS(members(check_says(q, INT32_MAX, 0)), 1 + FIELDS);
    CHECK_IS(members(check_says(q, INT32_MIN, 0)), 1 + FIELDS);
}

/* The longest that a value is: the figures past 32 bits, the clock at its end, an error. */
static void longest(void) {
    sendq_t* q = new_simulated_queue();
    ends e = ends_tcp();
    for (int i = 0; i < 4; i++) {
        CHECK(sendq_append_ref(q, bytes, 3ULL << 30, NULL, NULL) >= 0);
        CHECK(sendq_append_file(q, 0, 0, 1ULL << 60, NULL, NULL) >= 0);
    }
    now_ns = UINT64_MAX;
    const char* text = check_says(q, e.queue, 0);
    CHECK(strlen(text) <
          ENOUGH - 200); /* "1024 bytes are enough" for what was not made to be long */
    CHECK_IS(get(text, "stalled_ns"), figures(q).stalled_ns);
    CHECK_IS(sendq_close_within(q, 0), -ETIMEDOUT);
    check_says(q, e.queue, -ETIMEDOUT);
    sizes(q, e.queue);
    now_ns = 0;
    ends_close(e);
    sendq_free(q);
}

int main(void) {
    sendq_t* q = new_simulated_queue();
    ends u = ends_unix();
    ends t = ends_tcp();
    char out[16];
    check_says(q, -1, 0); /* nothing yet */
    CHECK_IS(sendq_stats_json(NULL, -1, out, sizeof out), -EINVAL);
    CHECK_IS(sendq_stats_json(q, -1, NULL, 1), -EINVAL);
    CHECK_IS(sendq_stats_json(NULL, -1, NULL, 0), -EINVAL);

    CHECK(sendq_append(q, bytes, 100) >= 0);
    CHECK(sendq_append_ref(q, bytes, sizeof bytes, NULL, NULL) >= 0);
    now_ns = SECOND;
    CHECK_IS(sendq_flush(q, t.queue, 1000), SENDQ_MORE);
    now_ns += SECOND;
    wait_for(t.peer, POLLIN);
    for (int i = 0; get(check_says(q, t.queue, 0), "acked") < 1000 && i < 10000; i++) {
        usleep(1000); /* the acknowledgement is on its way */
    }
    CHECK_IS(get(check_says(q, t.queue, 0), "acked"), 1000);
    descriptors(q, u, t);
    sizes(q, -1);
    sizes(q, u.queue);
    sizes(q, t.queue);
    longest();
    sendq_free(q);
    ends_close(u);
    ends_close(t);
    return 0;
}
