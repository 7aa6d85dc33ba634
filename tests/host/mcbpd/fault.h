// A mistake of the kind that hand-rolled paths make, to be made once.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mcbpd {

// Which mistake, and when.
struct Plant {
    enum class Kind {
        none,
        flip,    // a bit is another one
        drop,    // a piece is left out
        repeat,  // a piece is sent twice
        swap,    // a piece changes places with the next one
        stale,   // what the socket refused is overwritten by what came after it
    };
    // In place of an offset: in the last piece of a message that has as many as one call takes.
    static constexpr uint64_t kFullMessage = UINT64_MAX;

    Kind kind = Kind::none;
    uint64_t offset = 0;  // in the stream; for a stale piece, not before

    // From "flip@1000" or "drop@full".
    static std::optional<Plant> parse(std::string_view text);
};

class Fault {
  public:
    using Send = std::function<ssize_t(const msghdr& message)>;

    explicit Fault(const Plant& plant) : plant_(plant) {}

    // Sends the message, as sendmsg(2) does, with the mistake if that is due. What is promised of
    // it cannot be spoiled any more, and is sent before all else.
    ssize_t commit(const msghdr& message, size_t promised, const Send& send);

  private:
    using Pieces = std::vector<std::string_view>;

    std::optional<size_t> due_piece(const Pieces& pieces, size_t total) const;
    void spoil(Pieces& pieces, size_t piece, size_t total);
    ssize_t send_right(const msghdr& message, size_t total, const Send& send);
    ssize_t send_spoiled(const Send& send);

    Plant plant_;
    uint64_t sent_ = 0;
    // Of the message that was refused last, if it was.
    size_t refused_ = 0;
    // What is sent in place of the pieces, and how much they were.
    std::string spoiled_;
    size_t replaced_ = 0;
};

}  // namespace mcbpd
