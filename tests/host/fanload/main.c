/* fanload: what a broker costs under load. One client publishes to many that read everything, and
 * to some that read nothing. Prints the figures of the broker's process as JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_READ = 1 << 20, MAX_EVENTS = 256, PATIENCE_MS = 60000, SMALL_BUFFER = 4096 };

static struct {
    uint16_t port;
    int pid;
    size_t subscribers; /* that read everything */
    size_t silent;      /* that read nothing */
    size_t payload;     /* bytes */
    size_t messages;
    size_t warmup; /* messages before those that count */
    size_t depth;  /* messages that are published at once, when all have got those before */
    bool fill;     /* only fill the sockets of the silent ones until a message waits for each */
} options = {.depth = 1};

__attribute__((noreturn)) static void fail(const char* what) {
    fprintf(stderr, "fanload: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The broker's process. */

/* Nanoseconds on a CPU. */
static uint64_t cpu_ns(void) {
    char path[64];
    unsigned long long ns;
    snprintf(path, sizeof path, "/proc/%d/schedstat", options.pid);
    FILE* file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%llu", &ns) != 1) {
        fail(path);
    }
    fclose(file);
    return ns;
}

static uint64_t resident_bytes(void) {
    char path[64];
    unsigned long long pages;
    snprintf(path, sizeof path, "/proc/%d/statm", options.pid);
    FILE* file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%*u %llu", &pages) != 1) {
        fail(path);
    }
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Connections. */

static int connect_to_broker(int receive_buffer) {
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        (receive_buffer != 0 &&
         setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) != 0) ||
        connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) {
        fail("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void send_all(int fd, const char* data, size_t len) {
    while (len > 0) {
        const ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            fail("send");
        }
        data += sent;
        len -= (size_t)sent;
    }
}

/* Returns the reply, which the broker has sent alone. */
static char* read_reply(int fd) {
    static char reply[512];
    size_t len = 0;
    do {
        const ssize_t n = recv(fd, reply + len, sizeof reply - 1 - len, 0);
        if (n <= 0) {
            fail("the broker does not reply");
        }
        len += (size_t)n;
        reply[len] = '\0';
    } while (reply[len - 1] != '\n');
    if (reply[0] != '+') {
        errno = 0;
        fail(reply);
    }
    return reply;
}

static char* ask(int fd, const char* command) {
    send_all(fd, command, strlen(command));
    return read_reply(fd);
}

static int subscribe(const char* topic, int receive_buffer) {
    char command[64];
    const int fd = connect_to_broker(receive_buffer);
    snprintf(command, sizeof command, "SUB %s\n", topic);
    ask(fd, command);
    return fd;
}

static size_t queued(int control) {
    const char* field = strstr(ask(control, "STAT\n"), "queued=");
    if (field == NULL) {
        fail("STAT");
    }
    return strtoul(field + strlen("queued="), NULL, 10);
}

/* Messages, which all subscribers get. */

struct window {
    int epoll_fd;
    int publisher;
    size_t* received; /* bytes, of each subscriber */
    size_t published; /* messages */
    size_t expected;  /* bytes of them, for each subscriber */
    size_t waiting;   /* subscribers that have not got these bytes */
    size_t replies;   /* bytes that are still to come to the publisher */
};

/* May be called with data NULL. */
static size_t publication(char* data, size_t size) {
    const int head = snprintf(data, size, "PUB t %zu\n", options.payload);
    return (size_t)head + options.payload + 1;
}

static size_t delivery_bytes(size_t number) {
    const int head = snprintf(NULL, 0, "MSG t %zu %zu\n", options.payload, number);
    return (size_t)head + options.payload + 1;
}

/* recv with MSG_TRUNC discards what is there without a copy, so that the load costs little itself.
 */
static size_t discard(int fd) {
    const ssize_t n = recv(fd, NULL, MOST_READ, MSG_TRUNC | MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        fail("the broker has ended a connection");
    }
    return n > 0 ? (size_t)n : 0;
}

static void receive(struct window* window, const int* fds) {
    struct epoll_event events[MAX_EVENTS];
    const int count = epoll_wait(window->epoll_fd, events, MAX_EVENTS, PATIENCE_MS);
    if (count <= 0) {
        fail("messages are missing");
    }
    for (int i = 0; i < count; i++) {
        const size_t index = events[i].data.u64;
        if (index == options.subscribers) {
            window->replies -= discard(window->publisher);
            continue;
        }
        window->received[index] += discard(fds[index]);
        window->waiting -= window->received[index] == window->expected;
        if (window->received[index] > window->expected) {
            errno = 0;
            fail("too many bytes");
        }
    }
}

static void publish(struct window* window, const int* fds, const char* burst, size_t messages) {
    char reply[64];
    const size_t all = options.subscribers + options.silent;
    for (size_t i = 0; i < messages; i++) {
        window->expected += delivery_bytes(++window->published);
        window->replies += (size_t)snprintf(reply, sizeof reply, "+OK %zu\n", all);
    }
    window->waiting = options.subscribers;
    send_all(window->publisher, burst, messages * publication(NULL, 0));
    while (window->waiting > 0 || window->replies > 0) {
        receive(window, fds);
    }
}

static void publish_all(struct window* window, const int* fds, const char* burst, size_t messages) {
    while (messages > 0) {
        const size_t some = messages < options.depth ? messages : options.depth;
        publish(window, fds, burst, some);
        messages -= some;
    }
}

static void watch(int epoll_fd, int fd, size_t index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = index};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        fail("epoll_ctl");
    }
}

static void* allocate(size_t count, size_t size) {
    void* memory = calloc(count + 1, size);
    if (memory == NULL) {
        fail("memory");
    }
    return memory;
}

static char* make_burst(void) {
    const size_t size = publication(NULL, 0);
    char* burst = allocate(options.depth, size);
    for (size_t i = 0; i < options.depth; i++) {
        char* one = burst + i * size;
        memset(one, 'x', size);
        char head[64];
        publication(head, sizeof head);
        memcpy(one, head, size - options.payload - 1);
        one[size - 1] = '\n';
    }
    return burst;
}

static void run_load(void) {
    struct window window = {.epoll_fd = epoll_create1(0), .publisher = connect_to_broker(0)};
    int* fds = allocate(options.subscribers, sizeof *fds);
    window.received = allocate(options.subscribers, sizeof *window.received);
    for (size_t i = 0; i < options.subscribers; i++) {
        fds[i] = subscribe("t", 0);
        watch(window.epoll_fd, fds[i], i);
    }
    for (size_t i = 0; i < options.silent; i++) {
        subscribe("t", SMALL_BUFFER);
    }
    watch(window.epoll_fd, window.publisher, options.subscribers);
    char* burst = make_burst();
    publish_all(&window, fds, burst, options.warmup);
    const uint64_t before = cpu_ns();
    publish_all(&window, fds, burst, options.messages);
    const uint64_t ns = cpu_ns() - before;
    const double delivered = (double)options.messages * (double)options.subscribers;
    printf("{\"cpu_ns_per_delivery\": %.1f, \"delivered\": %.0f, \"resident\": %llu, ",
           options.messages == 0 ? 0 : (double)ns / delivered, delivered,
           (unsigned long long)resident_bytes());
    printf("\"queued\": %zu}\n", queued(connect_to_broker(0)));
    free(burst);
    free(fds);
    free(window.received);
}

/* Returns how much is queued once that does not change any more. */
static size_t settled(int control) {
    size_t before, now = queued(control);
    do {
        const struct timespec pause = {.tv_nsec = 50000000};
        nanosleep(&pause, NULL);
        before = now;
        now = queued(control);
    } while (now != before);
    return now;
}

/* Messages for all, one by one, until their sockets are full and one message waits for each. */
static void run_fill(void) {
    const int control = connect_to_broker(0);
    for (size_t i = 0; i < options.silent; i++) {
        subscribe("t", SMALL_BUFFER);
    }
    options.depth = 1;
    char* burst = make_burst();
    const uint64_t before = resident_bytes();
    size_t waiting;
    do {
        send_all(control, burst, publication(NULL, 0));
        read_reply(control);
        waiting = settled(control);
    } while (waiting < options.silent * options.payload);
    printf("{\"resident_before\": %llu, \"resident\": %llu, \"queued\": %zu}\n",
           (unsigned long long)before, (unsigned long long)resident_bytes(), waiting);
    free(burst);
}

static size_t number(const char* text) {
    char* end;
    const unsigned long long value = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0') {
        errno = EINVAL;
        fail(text);
    }
    return value;
}

static void parse_options(int argc, char** argv) {
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},
        {"pid", required_argument, NULL, 'i'},
        {"subscribers", required_argument, NULL, 's'},
        {"silent", required_argument, NULL, 'n'},
        {"payload", required_argument, NULL, 'b'},
        {"messages", required_argument, NULL, 'm'},
        {"warmup", required_argument, NULL, 'w'},
        {"depth", required_argument, NULL, 'd'},
        {"fill", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
            case 'p':
                options.port = (uint16_t)number(optarg);
                break;
            case 'i':
                options.pid = (int)number(optarg);
                break;
            case 's':
                options.subscribers = number(optarg);
                break;
            case 'n':
                options.silent = number(optarg);
                break;
            case 'b':
                options.payload = number(optarg);
                break;
            case 'm':
                options.messages = number(optarg);
                break;
            case 'w':
                options.warmup = number(optarg);
                break;
            case 'd':
                options.depth = number(optarg);
                break;
            case 'f':
                options.fill = true;
                break;
            default:
                exit(2);
        }
    }
}

int main(int argc, char** argv) {
    parse_options(argc, argv);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (options.fill) {
        run_fill();
    } else {
        run_load();
    }
    return 0;
}
