/* Preloaded (LD_PRELOAD) into a server: makes its system calls and allocations fail, or fall short,
 * at random, but so that the same seed does the same again.
 *
 * The program that drives the server maps the file that $FAULT_CONTROL names, and writes the seed
 * into it. Only connections that are accepted while there is a seed are harmed, and only until the
 * next one is set, by a new epoch. What happens to a call is a function of the seed, of the
 * connection, and of how many such calls the connection has made; for an allocation, of the library
 * that asks for it and of how many it has asked for on this thread. So a seed replays as far as the
 * server makes the same calls again: how much a read brings, and how much a socket takes, is the
 * kernel's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kinds of faults, as control.py names them. */
enum kind {
    SHORT,
    /* Errors of a call that sends. */
    AGAIN,
    INTR,
    NOBUFS,
    NOMEM,
    RESET,
    PIPE,
    /* Of epoll_ctl, for a connection. */
    CTL,
    /* Of mmap, when sendq calls it. */
    MAP,
    /* Of malloc, calloc and realloc, by who calls. */
    ALLOC_SENDQ,
    ALLOC_TLS,
    ALLOC_LIBEVENT,
    ALLOC_CXX, /* operator new */
    ALLOC_PROGRAM,
    KINDS,
};

enum { CONNECTIONS = 64, DESCRIPTORS = 65536 };

/* The layout is also in control.py. */
struct control {
    uint64_t seed;                /* 0: no faults */
    uint32_t epoch;               /* changes with the seed; written behind the rest */
    uint32_t spares_main;         /* the main thread's allocations do not fail */
    uint32_t rates[KINDS];        /* of 65536 calls */
    uint32_t accepted;            /* connections, in this epoch */
    uint32_t faults[CONNECTIONS]; /* a bit for each kind that has harmed it in this epoch */
    uint64_t counts[KINDS];       /* ever */
    uint64_t sends;               /* that took something */
    uint64_t turns;               /* returns of epoll_wait */
};

/* What a descriptor is, if it is a connection that was accepted in some epoch. */
struct connection {
    uint32_t epoch, number, sends, controls;
    uint32_t watched; /* the events of epoll */
    bool is_dead;     /* as the kernel's are after a reset */
};

static struct control* control;
static struct connection connections[DESCRIPTORS];

struct range {
    uintptr_t from, to;
    enum kind kind;
};
enum { RANGES = 64 };
static struct range ranges[RANGES];
static size_t range_count;

static struct {
    ssize_t (*send)(int, const void*, size_t, int);
    ssize_t (*sendmsg)(int, const struct msghdr*, int);
    ssize_t (*sendfile)(int, int, off_t*, size_t);
    ssize_t (*write)(int, const void*, size_t);
    ssize_t (*writev)(int, const struct iovec*, int);
    int (*accept4)(int, __SOCKADDR_ARG, socklen_t*, int);
    int (*close)(int);
    int (*epoll_ctl)(int, int, int, struct epoll_event*);
    int (*epoll_wait)(int, struct epoll_event*, int, int);
} real;

extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* memory, size_t size);

/* The beginning. */

static bool kind_of_library(const char* name, enum kind* kind) {
    static const struct {
        const char* part;
        enum kind kind;
    } libraries[] = {
        {"/libsendq.so", ALLOC_SENDQ}, {"/libssl.so", ALLOC_TLS},    {"/libcrypto.so", ALLOC_TLS},
        {"/libevent", ALLOC_LIBEVENT}, {"/libstdc++.so", ALLOC_CXX},
    };
    if (name[0] == '\0') {
        *kind = ALLOC_PROGRAM;
        return true;
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        if (strstr(name, libraries[i].part) != NULL) {
            *kind = libraries[i].kind;
            return true;
        }
    }
    return false;
}

/* Who calls is known by where the call returns to. */
static int add_ranges(struct dl_phdr_info* info, size_t size, void* arg) {
    (void)size;
    (void)arg;
    enum kind kind;
    if (!kind_of_library(info->dlpi_name, &kind)) {
        return 0;
    }
    for (size_t i = 0; i < info->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr)* part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            const uintptr_t from = info->dlpi_addr + part->p_vaddr;
            ranges[range_count++] = (struct range){from, from + part->p_memsz, kind};
        }
    }
    return 0;
}

/* ISO C converts no object pointer to one to a function: its bytes are copied. */
static void find(void* function, const char* name) {
    void* found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        abort();
    }
    memcpy(function, &found, sizeof found);
}

static void find_functions(void) {
    find(&real.send, "send");
    find(&real.sendmsg, "sendmsg");
    find(&real.sendfile, "sendfile");
    find(&real.write, "write");
    find(&real.writev, "writev");
    find(&real.accept4, "accept4");
    find(&real.close, "close");
    find(&real.epoll_ctl, "epoll_ctl");
    find(&real.epoll_wait, "epoll_wait");
}

__attribute__((constructor)) static void start(void) {
    find_functions();
    const char* path = getenv("FAULT_CONTROL");
    const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void* memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    real.close(fd);
    dl_iterate_phdr(add_ranges, NULL);
    if (memory != MAP_FAILED) {
        control = memory;
    }
}

/* Decisions. */

/* splitmix64: all bits of the result depend on all bits of the state. */
static uint64_t mix(uint64_t state) {
    state += UINT64_C(0x9e3779b97f4a7c15);
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

static uint64_t random_for(uint32_t who, uint32_t call) {
    return mix(control->seed ^ mix((uint64_t)who << 32 | call));
}

static uint32_t epoch_now(void) {
    return control != NULL ? __atomic_load_n(&control->epoch, __ATOMIC_ACQUIRE) : 0;
}

/* NULL: not to be harmed. */
static struct connection* to_harm(int fd) {
    const uint32_t epoch = epoch_now();
    if (epoch == 0 || control->seed == 0 || fd < 0 || fd >= DESCRIPTORS ||
        connections[fd].epoch != epoch) {
        return NULL;
    }
    return &connections[fd];
}

static void note(const struct connection* connection, enum kind kind) {
    __atomic_fetch_add(&control->counts[kind], 1, __ATOMIC_RELAXED);
    if (connection != NULL) {
        __atomic_fetch_or(&control->faults[connection->number], UINT32_C(1) << kind,
                          __ATOMIC_RELAXED);
    }
}

/* A length that a call which sends so much may use: less of it, or all. -1: it fails with errno. */
static ssize_t length_to_send(int fd, size_t len) {
    static const int errors[] = {
        [AGAIN] = EAGAIN, [INTR] = EINTR,       [NOBUFS] = ENOBUFS,
        [NOMEM] = ENOMEM, [RESET] = ECONNRESET, [PIPE] = EPIPE,
    };
    struct connection* connection = to_harm(fd);
    if (connection == NULL || len == 0) {
        return (ssize_t)len;
    }
    if (connection->is_dead) {
        errno = EPIPE;
        return -1;
    }
    const uint64_t random = random_for(connection->number, connection->sends++);
    uint32_t at = random & 0xffff;
    for (enum kind kind = SHORT; kind <= PIPE; kind++) {
        if (at >= control->rates[kind]) {
            at -= control->rates[kind];
        } else if (kind != SHORT) {
            note(connection, kind);
            connection->is_dead = kind == RESET || kind == PIPE;
            errno = errors[kind];
            return -1;
        } else if (len > 1) {
            note(connection, kind);
            /* Half of them end close to the beginning, within what a host calls a header. */
            const size_t most = random & 0x10000 && len > 64 ? 64 : len - 1;
            return (ssize_t)(1 + (random >> 17) % most);
        } else {
            break;
        }
    }
    return (ssize_t)len;
}

static ssize_t sent(int fd, ssize_t result) {
    if (result > 0 && to_harm(fd) != NULL) {
        __atomic_fetch_add(&control->sends, 1, __ATOMIC_RELAXED);
    }
    return result;
}

/* Calls that send. */

ssize_t send(int fd, const void* data, size_t size, int flags) {
    const ssize_t len = length_to_send(fd, size);
    return len < 0 ? -1 : sent(fd, real.send(fd, data, (size_t)len, flags));
}

ssize_t write(int fd, const void* data, size_t size) {
    const ssize_t len = length_to_send(fd, size);
    return len < 0 ? -1 : sent(fd, real.write(fd, data, (size_t)len));
}

ssize_t sendfile(int fd, int file, off_t* offset, size_t size) {
    const ssize_t len = length_to_send(fd, size);
    return len < 0 ? -1 : sent(fd, real.sendfile(fd, file, offset, (size_t)len));
}

/* Fills `cut` with the first len bytes, and returns how many iovecs these are. */
static int cut_iovecs(struct iovec* cut, const struct iovec* iovecs, int count, size_t len) {
    int used = 0;
    for (; used < count && len > 0; used++) {
        cut[used] = iovecs[used];
        if (cut[used].iov_len > len) {
            cut[used].iov_len = len;
        }
        len -= cut[used].iov_len;
    }
    return used;
}

static size_t length_of(const struct iovec* iovecs, int count) {
    size_t len = 0;
    for (int i = 0; i < count && i < IOV_MAX; i++) {
        len += iovecs[i].iov_len;
    }
    return len;
}

ssize_t writev(int fd, const struct iovec* iovecs, int count) {
    const size_t size = length_of(iovecs, count);
    const ssize_t len = length_to_send(fd, size);
    if (len < 0) {
        return -1;
    }
    struct iovec cut[IOV_MAX];
    if ((size_t)len < size) {
        count = cut_iovecs(cut, iovecs, count, (size_t)len);
        iovecs = cut;
    }
    return sent(fd, real.writev(fd, iovecs, count));
}

ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
    const size_t size = length_of(message->msg_iov, (int)message->msg_iovlen);
    const ssize_t len = length_to_send(fd, size);
    if (len < 0) {
        return -1;
    }
    struct iovec cut[IOV_MAX];
    struct msghdr shorter = *message;
    if ((size_t)len < size) {
        shorter.msg_iovlen =
            (size_t)cut_iovecs(cut, message->msg_iov, (int)message->msg_iovlen, (size_t)len);
        shorter.msg_iov = cut;
    }
    return sent(fd, real.sendmsg(fd, &shorter, flags));
}

/* Which descriptors are connections, and the event loop. */

int accept4(int listener, __SOCKADDR_ARG peer, socklen_t* peer_len, int flags) {
    const int fd = real.accept4(listener, peer, peer_len, flags);
    const uint32_t epoch = epoch_now();
    if (epoch != 0 && control->seed != 0 && fd >= 0 && fd < DESCRIPTORS) {
        const uint32_t number = __atomic_fetch_add(&control->accepted, 1, __ATOMIC_RELAXED);
        connections[fd] = (struct connection){.epoch = epoch, .number = number % CONNECTIONS};
    }
    return fd;
}

int close(int fd) {
    if (fd >= 0 && fd < DESCRIPTORS) {
        connections[fd].epoch = 0;
    }
    return real.close(fd);
}

/* Fails only where more is to be watched than before: what a server does when it cannot stop
 * watching is of no interest, because the kernel needs no memory for that. */
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event* event) {
    struct connection* connection = to_harm(fd);
    if (connection != NULL) {
        const uint32_t wanted = operation != EPOLL_CTL_DEL ? event->events : 0;
        const uint64_t random =
            random_for(CONNECTIONS + connection->number, connection->controls++);
        if ((wanted & ~connection->watched) != 0 && (random & 0xffff) < control->rates[CTL]) {
            note(connection, CTL);
            errno = ENOMEM;
            return -1;
        }
        connection->watched = wanted;
    }
    return real.epoll_ctl(epoll, operation, fd, event);
}

int epoll_wait(int epoll, struct epoll_event* events, int count, int timeout) {
    const int result = real.epoll_wait(epoll, events, count, timeout);
    if (control != NULL) {
        __atomic_fetch_add(&control->turns, 1, __ATOMIC_RELAXED);
    }
    return result;
}

/* Allocations. */

/* Initial-exec, because the general model of a preloaded library calls malloc. */
static __thread uint32_t allocations[KINDS] __attribute__((tls_model("initial-exec")));
static __thread uint32_t allocations_epoch __attribute__((tls_model("initial-exec")));

static bool is_spared(void) {
    return control->spares_main && (pid_t)syscall(SYS_gettid) == getpid();
}

static bool fails(enum kind kind) {
    if (control->rates[kind] == 0 || is_spared()) {
        return false;
    }
    if (allocations_epoch != epoch_now()) {
        allocations_epoch = epoch_now();
        memset(allocations, 0, sizeof allocations);
    }
    const uint64_t random = random_for(2 * CONNECTIONS + kind, allocations[kind]++);
    if ((random & 0xffff) >= control->rates[kind]) {
        return false;
    }
    note(NULL, kind);
    errno = ENOMEM;
    return true;
}

static bool has_seed(void) {
    return epoch_now() != 0 && control->seed != 0;
}

/* KINDS: none of those whose allocations fail. */
static enum kind kind_of_caller(const void* caller) {
    for (size_t i = 0; i < range_count; i++) {
        if ((uintptr_t)caller >= ranges[i].from && (uintptr_t)caller < ranges[i].to) {
            return ranges[i].kind;
        }
    }
    return KINDS;
}

static bool allocation_fails(const void* caller) {
    const enum kind kind = has_seed() ? kind_of_caller(caller) : KINDS;
    return kind != KINDS && fails(kind);
}

void* malloc(size_t size) {
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void* realloc(void* memory, size_t size) {
    return allocation_fails(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, size);
}

static void* map(void* at, size_t len, int protection, int flags, int fd, off_t offset,
                 const void* caller) {
    if (has_seed() && kind_of_caller(caller) == ALLOC_SENDQ && fails(MAP)) {
        return MAP_FAILED;
    }
    return (void*)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

void* mmap(void* at, size_t len, int protection, int flags, int fd, off_t offset) {
    return map(at, len, protection, flags, fd, offset, __builtin_return_address(0));
}

void* mmap64(void* at, size_t len, int protection, int flags, int fd, off_t offset) {
    return map(at, len, protection, flags, fd, offset, __builtin_return_address(0));
}
