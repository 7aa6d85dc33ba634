/* The system calls of a flush, which are defined here, in front of the C library's. Each is made,
 * and shown to the test that includes this. */
#ifndef SENDQ_TESTS_SYSTEM_CALLS_H
#define SENDQ_TESTS_SYSTEM_CALLS_H

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "check.h"

typedef enum { SEND, SENDMSG, SENDFILE, OTHER } call_kind;

/* A system call. */
typedef struct {
    call_kind kind;
    int flags;
    size_t iovecs;
    size_t bytes; /* offered */
    ssize_t taken;
} call;

static void on_system_call(call c);

ssize_t send(int fd, const void* data, size_t len, int flags) {
    ssize_t taken = syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
    on_system_call((call){SEND, flags, 1, len, taken});
    return taken;
}

ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
    size_t len = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        len += message->msg_iov[i].iov_len;
    }
    ssize_t taken = syscall(SYS_sendmsg, fd, message, flags);
    on_system_call((call){SENDMSG, flags, message->msg_iovlen, len, taken});
    return taken;
}

ssize_t sendfile(int out, int in, off_t* offset, size_t len) {
    ssize_t taken = syscall(SYS_sendfile, out, in, offset, len);
    on_system_call((call){SENDFILE, 0, 0, len, taken});
    return taken;
}

/* Those around one that sends. */

static long on_other(long result) {
    on_system_call((call){.kind = OTHER, .taken = result});
    return result;
}

/* What sendq sets is an option of TCP. The tests set those of the socket. */
int setsockopt(int fd, int level, int name, const void* value, socklen_t len) {
    long result = syscall(SYS_setsockopt, fd, level, name, value, len);
    return (int)(level == IPPROTO_TCP ? on_other(result) : result);
}

ssize_t pread(int fd, void* out, size_t len, off_t offset) {
    return on_other(syscall(SYS_pread64, fd, out, len, offset));
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return (int)on_other(syscall(SYS_fcntl, fd, command, argument));
}

enum { KERNEL_SIGSET = 8 };

int sigpending(sigset_t* out) {
    return (int)on_other(syscall(SYS_rt_sigpending, out, KERNEL_SIGSET));
}

int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) {
    return on_other(syscall(SYS_rt_sigprocmask, how, set, old, KERNEL_SIGSET)) == 0 ? 0 : errno;
}

int sigtimedwait(const sigset_t* set, siginfo_t* info, const struct timespec* timeout) {
    return (int)on_other(syscall(SYS_rt_sigtimedwait, set, info, timeout, KERNEL_SIGSET));
}

#endif
