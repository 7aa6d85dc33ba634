// The hand-rolled path: small pieces are copied to a buffer of the connection, values are sent from
// the item, and iovecs list both for sendmsg(2).
#include <sys/socket.h>
#include <sys/uio.h>
#include <climits>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include "fifo.h"
#include "ledger.h"

namespace mcbpd {
namespace {

constexpr size_t kFirstBufferBytes = 2048;
// What a drained connection keeps at most, to serve its next burst without malloc.
constexpr size_t kKeptBufferBytes = size_t{64} << 10;
constexpr size_t kKeptPieces = 4096;

char* at(const iovec& piece) {
    return static_cast<char*>(piece.iov_base);
}

class SendmsgOutput final : public LedgerOutput {
  public:
    using LedgerOutput::LedgerOutput;

    void copy(std::string_view bytes) override;
    void value(ItemPtr item) override;
    Flushed flush(int fd) override;
    bool holds(const Bucket& bucket) const override;

  private:
    bool is_copied(const iovec& piece) const;
    void relocate(size_t room);
    size_t list(msghdr& message);
    void advance(size_t bytes);
    void clear() override;

    Fifo<iovec> pieces_;
    Fifo<ItemPtr> items_;  // one for each piece that is not copied

    // The copied pieces that are unsent are one run of bytes: [buffer_sent_, buffer_end_).
    std::unique_ptr<char[]> buffer_;
    size_t buffer_sent_ = 0;
    size_t buffer_end_ = 0;
    size_t buffer_capacity_ = 0;
};

void SendmsgOutput::copy(std::string_view bytes) {
    if (!admit(bytes.size())) {
        return;
    }
    if (bytes.size() > buffer_capacity_ - buffer_end_) {
        relocate(bytes.size());
    }
    char* to = buffer_.get() + buffer_end_;
    bytes.copy(to, bytes.size());
    if (!pieces_.empty() && is_copied(pieces_.back())) {
        pieces_.back().iov_len += bytes.size();
    } else {
        pieces_.push({to, bytes.size()});
    }
    buffer_end_ += bytes.size();
}

void SendmsgOutput::value(ItemPtr item) {
    const std::string_view bytes = item->value();
    if (!admit(bytes.size())) {
        return;
    }
    pieces_.push({const_cast<char*>(bytes.data()), bytes.size()});
    items_.push(std::move(item));
}

Flushed SendmsgOutput::flush(int fd) {
    if (is_cut()) {
        return {Flushed::State::failed, ENOBUFS};
    }
    size_t spent = 0;
    while (pending() > 0) {
        if (spent >= kFlushBudget) {
            return {Flushed::State::more};
        }
        msghdr message{};
        const size_t offered = list(message);
        const ssize_t result = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (result < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return {Flushed::State::blocked};
            }
            return {Flushed::State::failed, errno};
        }
        const auto taken = static_cast<size_t>(result);
        advance(taken);
        if (taken < offered) {
            return {Flushed::State::blocked};
        }
        spent += taken;
    }
    return {};
}

bool SendmsgOutput::holds(const Bucket& bucket) const {
    return std::any_of(items_.begin(), items_.end(),
                       [&](const ItemPtr& item) { return item->bucket() == &bucket; });
}

bool SendmsgOutput::is_copied(const iovec& piece) const {
    const auto offset =
        reinterpret_cast<uintptr_t>(piece.iov_base) - reinterpret_cast<uintptr_t>(buffer_.get());
    return offset < buffer_end_;
}

// Makes room for that many bytes, and lets the iovecs follow what moves.
void SendmsgOutput::relocate(size_t room) {
    const size_t unsent = buffer_end_ - buffer_sent_;
    size_t capacity = std::max(buffer_capacity_, kFirstBufferBytes);
    while (capacity / 2 < unsent + room) {
        capacity *= 2;
    }
    std::unique_ptr<char[]> moved(new char[capacity]);
    const char* from = buffer_.get() + buffer_sent_;
    std::copy_n(from, unsent, moved.get());
    for (iovec& piece : pieces_) {
        if (is_copied(piece)) {
            piece.iov_base = moved.get() + (at(piece) - from);
        }
    }
    buffer_ = std::move(moved);
    buffer_sent_ = 0;
    buffer_end_ = unsent;
    buffer_capacity_ = capacity;
}

// Returns how many bytes the message offers to the socket.
size_t SendmsgOutput::list(msghdr& message) {
    message.msg_iov = pieces_.begin();
    message.msg_iovlen = std::min(pieces_.size(), size_t{IOV_MAX});
    if (message.msg_iovlen == pieces_.size()) {
        return pending();
    }
    return std::accumulate(pieces_.begin(), pieces_.begin() + IOV_MAX, size_t{0},
                           [](size_t sum, const iovec& piece) { return sum + piece.iov_len; });
}

void SendmsgOutput::advance(size_t bytes) {
    sent(bytes);
    if (pending() == 0) {
        clear();
        return;
    }
    size_t whole_pieces = 0;
    size_t whole_items = 0;
    for (iovec& piece : pieces_) {
        const size_t part = std::min(bytes, piece.iov_len);
        const bool whole = part == piece.iov_len;
        if (is_copied(piece)) {
            buffer_sent_ += part;
        } else if (whole) {
            ++whole_items;
        }
        bytes -= part;
        if (!whole) {
            piece = {at(piece) + part, piece.iov_len - part};
            break;
        }
        ++whole_pieces;
    }
    pieces_.pop(whole_pieces);
    items_.pop(whole_items);
}

void SendmsgOutput::clear() {
    pieces_.clear(kKeptPieces);
    items_.clear(kKeptPieces);
    buffer_sent_ = 0;
    buffer_end_ = 0;
    if (buffer_capacity_ > kKeptBufferBytes) {
        buffer_.reset();
        buffer_capacity_ = 0;
    }
}

class SendmsgPath final : public OutputPath {
  public:
    explicit SendmsgPath(const Limits& limits) : ledger_("sendmsg", limits) {}

    std::unique_ptr<Output> open(OutputOwner& owner) override {
        return std::make_unique<SendmsgOutput>(ledger_, owner);
    }

  private:
    Ledger ledger_;
};

}  // namespace

std::unique_ptr<OutputPath> make_sendmsg_path(const Limits& limits) {
    return std::make_unique<SendmsgPath>(limits);
}

}  // namespace mcbpd
