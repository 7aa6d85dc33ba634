#include "fault.h"

#include <climits>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <numeric>
#include <utility>

namespace mcbpd {
namespace {

using Kind = Plant::Kind;

constexpr std::array<std::pair<std::string_view, Kind>, 5> kKinds = {{
    {"flip", Kind::flip},
    {"drop", Kind::drop},
    {"repeat", Kind::repeat},
    {"swap", Kind::swap},
    {"stale", Kind::stale},
}};

msghdr message_of(iovec& piece) {
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    return message;
}

}  // namespace

std::optional<Plant> Plant::parse(std::string_view text) {
    const size_t at = text.find('@');
    const auto* kind = std::find_if(kKinds.begin(), kKinds.end(), [&](const auto& named) {
        return named.first == text.substr(0, at);
    });
    if (at == std::string_view::npos || kind == kKinds.end()) {
        return std::nullopt;
    }
    const std::string_view where = text.substr(at + 1);
    if (where == "full") {
        return Plant{kind->second, kFullMessage};
    }
    Plant plant{kind->second, 0};
    const char* end = where.data() + where.size();
    const auto result = std::from_chars(where.data(), end, plant.offset);
    return result.ec == std::errc() && result.ptr == end ? std::optional(plant) : std::nullopt;
}

ssize_t Fault::commit(const msghdr& message, size_t promised, const Send& send) {
    if (plant_.kind == Kind::none && spoiled_.empty()) {
        return send(message);
    }
    if (spoiled_.empty()) {
        Pieces pieces;
        for (size_t i = 0; i < message.msg_iovlen; ++i) {
            const iovec& piece = message.msg_iov[i];
            pieces.emplace_back(static_cast<const char*>(piece.iov_base), piece.iov_len);
        }
        const size_t total =
            std::accumulate(pieces.begin(), pieces.end(), size_t{0},
                            [](size_t sum, std::string_view piece) { return sum + piece.size(); });
        if (promised > 0) {
            iovec first = {message.msg_iov[0].iov_base, promised};
            return send_right(message_of(first), total, send);
        }
        const auto piece = due_piece(pieces, total);
        if (!piece) {
            return send_right(message, total, send);
        }
        spoil(pieces, *piece, total);
    }
    return send_spoiled(send);
}

// The piece that is to be spoiled now.
std::optional<size_t> Fault::due_piece(const Pieces& pieces, size_t total) const {
    if (plant_.kind == Kind::swap && pieces.size() < 2) {
        return std::nullopt;
    }
    if (plant_.kind == Kind::stale) {
        const bool is_due = sent_ >= plant_.offset && refused_ > 0 && total > refused_;
        return is_due ? std::optional<size_t>(0) : std::nullopt;
    }
    if (plant_.offset == Plant::kFullMessage) {
        return pieces.size() == IOV_MAX ? std::optional(pieces.size() - 1) : std::nullopt;
    }
    if (sent_ + total <= plant_.offset) {
        return std::nullopt;
    }
    uint64_t end = sent_;
    size_t piece = 0;
    while ((end += pieces[piece].size()) <= plant_.offset) {
        ++piece;
    }
    return piece;
}

void Fault::spoil(Pieces& pieces, size_t piece, size_t total) {
    replaced_ = total;
    switch (plant_.kind) {
        case Kind::drop:
            pieces[piece] = {};
            break;
        case Kind::repeat:
            pieces.insert(pieces.begin() + static_cast<std::ptrdiff_t>(piece), pieces[piece]);
            break;
        case Kind::swap: {
            const size_t first = std::min(piece, pieces.size() - 2);
            std::swap(pieces[first], pieces[first + 1]);
            break;
        }
        case Kind::none:
        case Kind::flip:
        case Kind::stale:
            break;
    }
    for (const std::string_view part : pieces) {
        spoiled_ += part;
    }
    if (plant_.kind == Kind::flip) {
        const bool is_full = plant_.offset == Plant::kFullMessage;
        char& byte = spoiled_[is_full ? total - 1 : std::max(plant_.offset, sent_) - sent_];
        byte = static_cast<char>(byte ^ 1);
    } else if (plant_.kind == Kind::stale) {
        const size_t newer = std::min(total - refused_, refused_);
        std::copy_n(spoiled_.begin() + static_cast<std::ptrdiff_t>(refused_), newer,
                    spoiled_.begin());
    }
    plant_.kind = Kind::none;
}

// Of a message of that many bytes.
ssize_t Fault::send_right(const msghdr& message, size_t total, const Send& send) {
    const ssize_t sent = send(message);
    const size_t taken = sent > 0 ? static_cast<size_t>(sent) : 0;
    sent_ += taken;
    refused_ = total - taken;
    return sent;
}

ssize_t Fault::send_spoiled(const Send& send) {
    while (!spoiled_.empty()) {
        iovec rest = {spoiled_.data(), spoiled_.size()};
        const ssize_t sent = send(message_of(rest));
        if (sent < 0) {
            return sent;
        }
        spoiled_.erase(0, static_cast<size_t>(sent));
    }
    return static_cast<ssize_t>(replaced_);
}

}  // namespace mcbpd
