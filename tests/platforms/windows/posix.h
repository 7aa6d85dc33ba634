/* The calls of POSIX that the tests make, for Windows, so that the tests are the same there. A
 * descriptor is what a sendq_fd_t is: a SOCKET, or the HANDLE of a file. The headers of POSIX
 * beside this one include it. */
#ifndef SENDQ_TESTS_POSIX_H
#define SENDQ_TESTS_POSIX_H

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <winsock2.h>
/* Not before winsock2.h. */
#include <errno.h>
#include <fcntl.h>
#include <sendq/sendq.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>
#include <ws2tcpip.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MSG_DONTWAIT 0x40
#define SOCK_NONBLOCK 0x800
#define SHUT_WR SD_SEND
#define O_NONBLOCK 0x800
enum { F_GETFD, F_SETFL };

/* A TCP connection over loopback. As with AF_UNIX, sending to an end that was closed fails. */
int socketpair(int domain, int type, int protocol, int fds[2]);
int poll(struct pollfd* fds, unsigned count, int timeout_ms);
/* Knows F_GETFD, and F_SETFL with O_NONBLOCK. */
int fcntl(int fd, int command, ...);
/* Knows FIONREAD. */
int ioctl(int fd, long request, int* out);
/* CTest has a time limit, too. */
#define alarm(seconds) ((void)(seconds))

/* close, dup, fileno, ftruncate, open, pipe and read are declared by the C runtime, and defined in
 * posix.c. */
int pipe(int fds[2]);

/* These have other types in Winsock. A socket never waits, because a queue may send there; one that
 * was accepted does. */
int posix_socket(int type, int protocol);
int posix_accept(int fd);
int posix_connect(int fd, const struct sockaddr* address, int len);
ssize_t posix_recv(int fd, void* out, size_t len, int flags);
#define accept(fd, address, len) posix_accept(fd)
#define connect(fd, address, len) posix_connect(fd, address, (int)(len))
#define recv(fd, out, len, flags) posix_recv(fd, out, len, flags)
#define socket(domain, type, protocol) posix_socket(type, protocol)
#define setsockopt(fd, level, name, value, len) \
    setsockopt((SOCKET)(fd), level, name, (const char*)(value), (int)(len))
#define getsockopt(fd, level, name, value, len) \
    getsockopt((SOCKET)(fd), level, name, (char*)(value), len)

#ifdef __cplusplus
}
#endif

#endif
