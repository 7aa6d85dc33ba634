// The input half of a connection: cuts the byte stream into requests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "../protocol.h"
#include "transport.h"

namespace mcbpd {

// Where one read(2) puts its bytes: one per front-end thread, used by one connection at a time.
using Batch = std::array<char, size_t{64} << 10>;

struct Request {
    mcbp::Opcode opcode = mcbp::Opcode::noop;
    uint32_t opaque = 0;
    uint64_t cas = 0;
    std::string_view extras;
    std::string_view key;
    std::string_view value;
};

class Input {
  public:
    enum class Read { bytes, nothing, end, failed };
    enum class Cut {
        request,
        malformed,  // only opcode, opaque and cas are known; the stream goes on behind its body
        too_large,  // likewise
        need_more,
        bad_magic,  // the stream cannot go on
    };

    explicit Input(size_t max_value) : max_value_(max_value) {}

    Read read(Transport& transport, Batch& batch);
    // The header of what next() is to give, as soon as it is there, be it valid or not.
    std::optional<mcbp::Header> next_header();
    // What a request points to is valid until the next call.
    Cut next(Request& request);
    // To be called before the batch serves another connection: what is left of it is copied.
    void keep();
    // Whether next() has something to say about bytes that were kept.
    bool has_request() const;

  private:
    std::string_view held() const;
    Cut judge(const mcbp::Header& header) const;
    size_t wanted(std::string_view run) const;
    void skip();
    bool complete_held();
    Cut cut(std::string_view run, Request& request);
    void consume(size_t bytes);
    void release();

    size_t max_value_;
    // The stream is what is held, from held_used_ on, then what is fresh.
    std::vector<char> held_;
    size_t held_used_ = 0;
    std::string_view fresh_;
    uint64_t skip_ = 0;  // the rest of a refused request's body
};

}  // namespace mcbpd
