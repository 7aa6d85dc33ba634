// What the server must answer, and whether it did.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "../protocol.h"

namespace mcload {

constexpr uint32_t kFlags = 0xdeadbeef;
constexpr size_t kFlagsBytes = 4;

// What every response must be: this head, but for the opaque, which counts the requests of a
// batch, and this value.
class Expected {
  public:
    // With `verify` every byte of a value is compared, else the ends of each run that came in.
    Expected(std::string value, uint64_t cas, bool verify)
        : value_(std::move(value)), verify_(verify) {
        head_.magic = mcbp::Magic::response;
        head_.opcode = mcbp::Opcode::get;
        head_.extras_bytes = kFlagsBytes;
        head_.body_bytes = static_cast<uint32_t>(kFlagsBytes + value_.size());
        head_.cas = cas;
    }

    static constexpr size_t kHeadBytes = mcbp::kHeaderBytes + kFlagsBytes;
    size_t value_bytes() const { return value_.size(); }

    bool matches_head(const char* head, uint32_t opaque) const {
        std::array<char, kHeadBytes> expected{};
        mcbp::Header header = head_;
        header.opaque = opaque;
        header.store(expected.data());
        mcbp::store32(expected.data() + mcbp::kHeaderBytes, kFlags);
        return std::memcmp(head, expected.data(), kHeadBytes) == 0;
    }

    bool matches_value(size_t offset, std::string_view run) const {
        const std::string_view expected = std::string_view(value_).substr(offset, run.size());
        if (verify_ || run.size() <= 2 * kSample) {
            return run == expected;
        }
        const size_t last = run.size() - kSample;
        return run.substr(0, kSample) == expected.substr(0, kSample) &&
               run.substr(last) == expected.substr(last);
    }

  private:
    static constexpr size_t kSample = 64;

    std::string value_;
    mcbp::Header head_;
    bool verify_;
};

// Checks one connection's responses as they come in.
class Checker {
  public:
    explicit Checker(const Expected& expected) : expected_(expected) {}

    void expect(size_t responses) {
        responses_ = responses;
        opaque_ = 0;
    }
    bool is_satisfied() const { return responses_ == 0; }

    void take(std::string_view bytes) {
        while (!bytes.empty()) {
            if (responses_ == 0) {
                throw std::runtime_error("bytes that were not asked for");
            }
            bytes.remove_prefix(head_used_ < Expected::kHeadBytes ? take_head(bytes)
                                                                  : take_value(bytes));
            finish_if_complete();
        }
    }

  private:
    size_t take_head(std::string_view bytes) {
        const size_t part = bytes.copy(head_.data() + head_used_, head_.size() - head_used_);
        head_used_ += part;
        if (head_used_ == head_.size() && !expected_.matches_head(head_.data(), opaque_)) {
            throw std::runtime_error("wrong head of response " + std::to_string(opaque_));
        }
        return part;
    }

    size_t take_value(std::string_view bytes) {
        const std::string_view run = bytes.substr(0, expected_.value_bytes() - value_used_);
        if (!expected_.matches_value(value_used_, run)) {
            throw std::runtime_error("wrong value after " + std::to_string(value_used_) + " bytes");
        }
        value_used_ += run.size();
        return run.size();
    }

    void finish_if_complete() {
        if (head_used_ == head_.size() && value_used_ == expected_.value_bytes()) {
            head_used_ = 0;
            value_used_ = 0;
            ++opaque_;
            --responses_;
        }
    }

    const Expected& expected_;
    size_t responses_ = 0;  // outstanding
    uint32_t opaque_ = 0;
    std::array<char, Expected::kHeadBytes> head_{};
    size_t head_used_ = 0;
    size_t value_used_ = 0;
};

}  // namespace mcload
