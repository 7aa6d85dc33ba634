#include "iovec_output.h"

#include <climits>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <numeric>
#include <utility>

namespace mcbpd {
namespace {

constexpr size_t kFirstBufferBytes = 2048;
// What a drained connection keeps at most, to serve its next burst without malloc.
constexpr size_t kKeptBufferBytes = size_t{64} << 10;
constexpr size_t kKeptPieces = 4096;

char* at(const iovec& piece) {
    return static_cast<char*>(piece.iov_base);
}

}  // namespace

Flushed IovecOutput::flush(Transport& transport) {
    if (is_cut()) {
        return {Flushed::State::failed, ENOBUFS};
    }
    const Flushed flushed = send_listed(transport);
    sent(pending() - listed_ - taken_unsent());
    return flushed;
}

Flushed IovecOutput::send_listed(Transport& transport) {
    size_t spent = 0;
    while (listed_ > 0) {
        if (spent >= kFlushBudget) {
            return {Flushed::State::more};
        }
        msghdr message{};
        const size_t offered = list(message);
        const ssize_t result = send(transport, message);
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

bool IovecOutput::holds(const Bucket& bucket) const {
    return std::any_of(items_.begin(), items_.end(),
                       [&](const ItemPtr& item) { return item->bucket() == &bucket; });
}

bool IovecOutput::add(std::string_view bytes) {
    if (!admit(bytes.size())) {
        return false;
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
    listed_ += bytes.size();
    return true;
}

bool IovecOutput::add(ItemPtr item) {
    const std::string_view bytes = item->value();
    if (!admit(bytes.size())) {
        return false;
    }
    pieces_.push({const_cast<char*>(bytes.data()), bytes.size()});
    items_.push(std::move(item));
    listed_ += bytes.size();
    return true;
}

bool IovecOutput::is_copied(const iovec& piece) const {
    const auto offset =
        reinterpret_cast<uintptr_t>(piece.iov_base) - reinterpret_cast<uintptr_t>(buffer_.get());
    return offset < buffer_end_;
}

// Makes room for that many bytes, and lets the iovecs follow what moves.
void IovecOutput::relocate(size_t room) {
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
size_t IovecOutput::list(msghdr& message) {
    message.msg_iov = pieces_.begin();
    message.msg_iovlen = std::min(pieces_.size(), size_t{IOV_MAX});
    if (message.msg_iovlen == pieces_.size()) {
        return listed_;
    }
    return std::accumulate(pieces_.begin(), pieces_.begin() + IOV_MAX, size_t{0},
                           [](size_t sum, const iovec& piece) { return sum + piece.iov_len; });
}

void IovecOutput::advance(size_t bytes) {
    listed_ -= bytes;
    if (listed_ == 0) {
        clear_list();
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

void IovecOutput::clear_list() {
    listed_ = 0;
    pieces_.clear(kKeptPieces);
    items_.clear(kKeptPieces);
    buffer_sent_ = 0;
    buffer_end_ = 0;
    if (buffer_capacity_ > kKeptBufferBytes) {
        buffer_.reset();
        buffer_capacity_ = 0;
    }
}

}  // namespace mcbpd
