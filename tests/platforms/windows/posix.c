#include "posix.h"

#include <io.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#undef accept
#undef connect
#undef recv
#undef setsockopt
#undef socket

__attribute__((constructor)) static void start_winsock(void) {
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
}

static HANDLE handle_of(int fd) {
    return (HANDLE)(intptr_t)fd;
}

/* The result of a call of Winsock, with errno. */
static int result_of(int result) {
    switch (result == SOCKET_ERROR ? WSAGetLastError() : 0) {
        case 0:
            return result;
        case WSAEWOULDBLOCK:
            errno = EAGAIN;
            break;
        case WSAECONNRESET:
        case WSAECONNABORTED:
            errno = ECONNRESET;
            break;
        case WSAENOTSOCK:
            errno = ENOTSOCK;
            break;
        default:
            errno = EIO;
    }
    return -1;
}

static int set_nonblocking(int fd, u_long on) {
    return result_of(ioctlsocket((SOCKET)fd, FIONBIO, &on));
}

int posix_socket(int type, int protocol) {
    int fd = (int)socket(AF_INET, type, protocol);
    return set_nonblocking(fd, 1) == 0 ? fd : -1;
}

int posix_accept(int fd) {
    struct pollfd one = {.fd = (SOCKET)fd, .events = POLLIN};
    WSAPoll(&one, 1, 30000);
    int accepted = (int)accept((SOCKET)fd, NULL, NULL);
    return set_nonblocking(accepted, 0) == 0 ? accepted : -1;
}

int posix_connect(int fd, const struct sockaddr* address, int len) {
    set_nonblocking(fd, 0);
    int result = result_of(connect((SOCKET)fd, address, len));
    set_nonblocking(fd, 1);
    return result;
}

/* The other end of each socket that socketpair made, or 0. SOCKETs are multiples of 4. */
static _Atomic int other_ends[1 << 14];

static _Atomic int* other_end_of(int fd) {
    return &other_ends[(unsigned)fd / 4 % (1 << 14)];
}

int socketpair(int domain, int type, int protocol, int fds[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr* at = (struct sockaddr*)&address;
    int listener = posix_socket(SOCK_STREAM, 0);
    int len = sizeof address, on = 1, buffer = 1 << 16;
    (void)domain, (void)protocol;
    fds[0] = posix_socket(SOCK_STREAM, 0);
    /* As with AF_UNIX, it holds some 200 KiB, and what is short leaves at once. */
    setsockopt((SOCKET)listener, SOL_SOCKET, SO_RCVBUF, (char*)&buffer, sizeof buffer);
    setsockopt((SOCKET)fds[0], SOL_SOCKET, SO_SNDBUF, (char*)&buffer, sizeof buffer);
    setsockopt((SOCKET)fds[0], IPPROTO_TCP, TCP_NODELAY, (char*)&on, sizeof on);
    if (bind((SOCKET)listener, at, len) != 0 || listen((SOCKET)listener, 1) != 0 ||
        getsockname((SOCKET)listener, at, &len) != 0 || posix_connect(fds[0], at, len) != 0) {
        return result_of(SOCKET_ERROR);
    }
    fds[1] = posix_accept(listener);
    closesocket((SOCKET)listener);
    *other_end_of(fds[0]) = fds[1];
    *other_end_of(fds[1]) = fds[0];
    return type & SOCK_NONBLOCK ? set_nonblocking(fds[1], 1) : 0;
}

int poll(struct pollfd* fds, unsigned count, int timeout_ms) {
    return result_of(WSAPoll(fds, count, timeout_ms));
}

ssize_t posix_recv(int fd, void* out, size_t len, int flags) {
    struct pollfd one = {.fd = (SOCKET)fd, .events = POLLIN};
    if (flags & MSG_DONTWAIT && WSAPoll(&one, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return result_of(recv((SOCKET)fd, out, (int)len, flags & ~MSG_DONTWAIT));
}

int read(int fd, void* out, unsigned len) {
    return (int)posix_recv(fd, out, len, 0);
}

int ioctl(int fd, long request, int* out) {
    u_long value = 0;
    int result = result_of(ioctlsocket((SOCKET)fd, request, &value));
    *out = (int)value;
    return result;
}

int fcntl(int fd, int command, ...) {
    DWORD flags;
    return command == F_SETFL                            ? set_nonblocking(fd, 1)
           : GetHandleInformation(handle_of(fd), &flags) ? 0
                                                         : -1;
}

int close(int fd) {
    int other = atomic_exchange(other_end_of(fd), 0);
    if (other != 0) {
        *other_end_of(other) = 0;
        shutdown((SOCKET)other, SD_SEND);
    }
    if (closesocket((SOCKET)fd) == 0 || CloseHandle(handle_of(fd))) {
        return 0;
    }
    errno = EBADF;
    return -1;
}

int fileno(FILE* file) {
    return (int)_get_osfhandle(_fileno(file));
}

int dup(int fd) {
    HANDLE self = GetCurrentProcess(), other = INVALID_HANDLE_VALUE;
    DuplicateHandle(self, handle_of(fd), self, &other, 0, FALSE, DUPLICATE_SAME_ACCESS);
    return (int)(intptr_t)other;
}

int open(const char* path, int flags, ...) {
    bool is_null = strcmp(path, "/dev/null") == 0;
    DWORD access = flags & O_WRONLY ? GENERIC_WRITE : GENERIC_READ;
    HANDLE file = CreateFileA(is_null ? "NUL" : path, access, FILE_SHARE_READ | FILE_SHARE_WRITE,
                              NULL, OPEN_EXISTING, 0, NULL);
    return (int)(intptr_t)file;
}

int pipe(int fds[2]) {
    HANDLE ends[2] = {INVALID_HANDLE_VALUE, INVALID_HANDLE_VALUE};
    BOOL made = CreatePipe(&ends[0], &ends[1], NULL, 0);
    fds[0] = (int)(intptr_t)ends[0];
    fds[1] = (int)(intptr_t)ends[1];
    return made ? 0 : -1;
}

int ftruncate(int fd, off_t len) {
    LARGE_INTEGER end = {.QuadPart = len};
    return SetFilePointerEx(handle_of(fd), end, NULL, FILE_BEGIN) && SetEndOfFile(handle_of(fd))
               ? 0
               : -1;
}
