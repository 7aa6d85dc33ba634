#include "mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace mcbpd {
namespace {

int open_wake_fd() {
    const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    return fd;
}

}  // namespace

Mailbox::Mailbox(EventLoop& loop)
    : wake_fd_(open_wake_fd()), wake_(loop.add(wake_fd_, EV_READ | EV_PERSIST, on_wake, this)) {}

Mailbox::~Mailbox() {
    wake_.reset();
    close(wake_fd_);
}

void Mailbox::post(Message message) {
    {
        const std::lock_guard lock(mutex_);
        messages_.push_back(std::move(message));
    }
    eventfd_write(wake_fd_, 1);
}

void Mailbox::on_wake(evutil_socket_t /*fd*/, short /*what*/, void* self) {
    static_cast<Mailbox*>(self)->deliver();
}

void Mailbox::deliver() {
    eventfd_t count = 0;
    eventfd_read(wake_fd_, &count);
    std::vector<Message> messages;
    {
        const std::lock_guard lock(mutex_);
        messages.swap(messages_);
    }
    for (const Message& message : messages) {
        message();
    }
}

}  // namespace mcbpd
