// libevent's path: a bufferevent writes by itself, when the event loop finds the socket writable.
// Small values are copied to its evbuffer, large ones are sent from the item.
//
// To thaw the evbuffer and write it at once, as the other paths do, would save two epoll_ctl a
// batch. That is a write path of the host's own again, and libevent freezes the evbuffer to prevent
// it.
//
// Over TLS each chain of the evbuffer is one SSL_write(3), which libevent takes to write all or
// nothing: none is longer than a record here, so that it does, and so that slow progress shows. The
// host reads from the SSL by itself: the bufferevent is never enabled for that. What it writes in a
// turn has no limit but the socket's.
#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <utility>

#include "accounts.h"
#include "bufferevent_stream.h"
#include "fifo.h"

namespace mcbpd {
namespace {

// Values shorter than this are not worth a reference.
constexpr size_t kCopyBelow = 4096;
// What a drained connection keeps at most.
constexpr size_t kKeptItems = 4096;
constexpr ev_ssize_t kTlsChainBytes = 4096;
constexpr size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;

// libevent writes without MSG_NOSIGNAL. Not ignored before it must be: no other path may raise it.
void ignore_sigpipe() {
    [[maybe_unused]] static const auto before = std::signal(SIGPIPE, SIG_IGN);
}

class BuffereventOutput final : public AccountedOutput {
  public:
    BuffereventOutput(Accounts& accounts, OutputOwner& owner);
    ~BuffereventOutput() override;

    void copy(std::string_view bytes) override;
    void value(ItemPtr item) override;
    Flushed flush(Transport& transport) override;
    bool holds(const Bucket& bucket) const override;

  private:
    static void on_written(bufferevent* stream, void* self);
    static void on_event(bufferevent* stream, short what, void* self);
    static void on_sent(const void* value, size_t bytes, void* self);

    evbuffer* waiting() const { return bufferevent_get_output(stream_.get()); }
    void clear() override;
    void copy_admitted(std::string_view bytes);
    void refer(std::string_view bytes, ItemPtr item);
    bool reserve();
    void commit();
    bool taken(bool is_taken);

    SSL* const tls_;
    const BuffereventPtr stream_;
    Fifo<ItemPtr> items_;  // one for each reference in the evbuffer
    int error_ = 0;

    // The end of the evbuffer, filled here piece by piece and committed once: evbuffer_add would
    // run the bufferevent's callback for each piece, and behind a reference allocate twice its
    // size.
    evbuffer_iovec room_{};
    size_t room_used_ = 0;
};

BuffereventOutput::BuffereventOutput(Accounts& accounts, OutputOwner& owner)
    : AccountedOutput(accounts, owner),
      tls_(owner.transport().tls()),
      stream_(open_stream(owner.base(), owner.transport())) {
    if (tls_ == nullptr) {
        ignore_sigpipe();
    }
    // By default it writes 16 KiB each time that the socket is writable.
    bufferevent_set_max_single_write(stream_.get(), kFlushBudget);
    // Tells of each write, not only of the one that leaves nothing.
    bufferevent_setwatermark(stream_.get(), EV_WRITE, SIZE_MAX, 0);
    bufferevent_setcb(stream_.get(), nullptr, on_written, on_event, this);
}

// In a callback of its own, bufferevent_free does not free anything yet. The items must not wait.
BuffereventOutput::~BuffereventOutput() {
    BuffereventOutput::clear();
    if (tls_ != nullptr) {
        // The event loop frees it later, when the SSL may be gone.
        bufferevent_disable(stream_.get(), EV_WRITE);
    }
}

void BuffereventOutput::clear() {
    room_ = {};
    room_used_ = 0;
    evbuffer_unfreeze(waiting(), 1);
    evbuffer_drain(waiting(), evbuffer_get_length(waiting()));
}

void BuffereventOutput::copy(std::string_view bytes) {
    if (admit(bytes.size())) {
        copy_admitted(bytes);
    }
}

void BuffereventOutput::copy_admitted(std::string_view bytes) {
    while (!bytes.empty()) {
        if (room_used_ == room_.iov_len && !reserve()) {
            return;
        }
        char* to = static_cast<char*>(room_.iov_base) + room_used_;
        const size_t part = bytes.copy(to, room_.iov_len - room_used_);
        room_used_ += part;
        bytes.remove_prefix(part);
    }
}

void BuffereventOutput::value(ItemPtr item) {
    std::string_view bytes = item->value();
    if (!admit(bytes.size())) {
        return;
    }
    if (bytes.size() < kCopyBelow) {
        copy_admitted(bytes);
        return;
    }
    commit();
    for (; tls_ != nullptr && bytes.size() > kRecordBytes; bytes.remove_prefix(kRecordBytes)) {
        refer(bytes.substr(0, kRecordBytes), item);
    }
    refer(bytes, std::move(item));
}

void BuffereventOutput::refer(std::string_view bytes, ItemPtr item) {
    if (taken(evbuffer_add_reference(waiting(), bytes.data(), bytes.size(), on_sent, this) == 0)) {
        items_.push(std::move(item));
    }
}

Flushed BuffereventOutput::flush(Transport& /*transport*/) {
    commit();
    if (is_cut()) {
        return {Flushed::State::failed, ENOBUFS};
    }
    if (error_ != 0) {
        return {Flushed::State::failed, error_};
    }
    return {pending() > 0 ? Flushed::State::sending : Flushed::State::done};
}

bool BuffereventOutput::holds(const Bucket& bucket) const {
    return std::any_of(items_.begin(), items_.end(),
                       [&](const ItemPtr& item) { return item->bucket() == &bucket; });
}

void BuffereventOutput::on_written(bufferevent* /*stream*/, void* self) {
    auto* output = static_cast<BuffereventOutput*>(self);
    output->sent(output->pending() - evbuffer_get_length(output->waiting()));
    output->owner().output_progressed();
}

void BuffereventOutput::on_event(bufferevent* stream, short what, void* self) {
    const bool has_errno = (what & BEV_EVENT_ERROR) != 0;
    static_cast<BuffereventOutput*>(self)->error_ = has_errno ? EVUTIL_SOCKET_ERROR() : EPIPE;
    on_written(stream, self);
}

// References are given back in the order in which they were added.
void BuffereventOutput::on_sent(const void* /*value*/, size_t /*bytes*/, void* self) {
    Fifo<ItemPtr>& items = static_cast<BuffereventOutput*>(self)->items_;
    items.pop(1);
    if (items.empty()) {
        items.clear(kKeptItems);
    }
}

bool BuffereventOutput::reserve() {
    commit();
    // All that the last chain has left, or a chain of libevent's smallest size: larger ones, asked
    // for here, were no faster. Over TLS they are, and records are fewer.
    const ev_ssize_t least = tls_ != nullptr ? kTlsChainBytes : 1;
    return taken(evbuffer_reserve_space(waiting(), least, &room_, 1) == 1);
}

void BuffereventOutput::commit() {
    if (room_used_ > 0) {
        room_.iov_len = room_used_;
        taken(evbuffer_commit_space(waiting(), &room_, 1) == 0);
    }
    room_ = {};
    room_used_ = 0;
}

bool BuffereventOutput::taken(bool is_taken) {
    if (!is_taken) {
        error_ = ENOMEM;
    }
    return is_taken;
}

}  // namespace

std::unique_ptr<OutputPath> make_bufferevent_path(const Limits& limits) {
    return std::make_unique<AccountedPath<BuffereventOutput>>("bufferevent", limits);
}

}  // namespace mcbpd
