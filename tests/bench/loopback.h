/* A TCP connection over loopback, and the clock: what the benches of flushes share. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef TCP_NODELAY /* linux/tcp.h has it, too, and does not go together with this */
#include <netinet/tcp.h>
#endif

static void connect_pair(int* here, int* there) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    *here = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1, bytes = 1 << 20;
    setsockopt(*here, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(*here, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 ||
        getsockname(listener, (struct sockaddr*)&address, &len) != 0 || listen(listener, 1) != 0 ||
        connect(*here, (struct sockaddr*)&address, sizeof address) != 0 ||
        (*there = accept(listener, NULL, NULL)) < 0) {
        perror("loopback connection");
        exit(1);
    }
    close(listener);
}

static inline double clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double now(void) {
    return clock_ns(CLOCK_MONOTONIC);
}
