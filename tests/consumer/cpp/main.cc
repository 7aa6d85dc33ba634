#include <sys/socket.h>

#include <sendq/sendq.hpp>
#include <string>

int main() {
    const std::string hello = "hello";
    std::string received(hello.size(), '\0');
    int fds[2];
    auto q = sendq::queue::create();
    if (!q || sendq_version() != SENDQ_VERSION || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        return 1;
    }
    if (!q->append(hello).wake() || !q->flush(fds[0]) ||
        recv(fds[1], received.data(), received.size(), MSG_WAITALL) !=
            static_cast<ssize_t>(hello.size())) {
        return 2;
    }
    return received == hello ? 0 : 3;
}
